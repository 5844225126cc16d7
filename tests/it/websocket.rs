//! WebSocket and other upgrades through the edge.

use std::time::Duration;

use crate::{
    peers_alone::{serve, talk},
    support::{
        Bastion, Service, Wire, fetch,
        frames::{self, Frames, Outcome},
        need_module,
        service::{After, ok},
    },
};

#[test]
fn a_megabyte_echo_through_an_openssh_laptop() {
    let Some(python) = need_module("websockets") else { return };
    let (_server, at) = serve(&python, "echo.py");
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("chat", at.port())]);
    let url = format!("ws://{}/chat?room=1", bastion.http);
    talk(&python, "echo.py", &[&url, "alice:chat", "12", "1000000"], "talked 12");
}

#[test]
fn a_megabyte_echo_through_up() {
    let Some(python) = need_module("websockets") else { return };
    let (_server, at) = serve(&python, "echo.py");
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("chat", at.port())]);
    let url = format!("ws://{}/chat?room=1", bastion.http);
    talk(&python, "echo.py", &[&url, "alice:chat", "12", "1000000"], "talked 12");
}

/// Speaks line by line in a protocol of its own after 101; refuses what is not asked for rightly.
fn shouter() -> Service {
    Service::start(|head, wire| {
        if head.field("upgrade") != Some("shout/1") {
            wire.send(ok("not upgraded"));
            return After::Keep;
        }
        if head.target() == "/refuse" {
            wire.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\nX-Why: no\r\n\r\nno");
            return After::Keep;
        }
        // The first bytes of the new protocol travel with the head, as they may.
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\nX-Extra: kept\r\n\r\nready\n");
        loop {
            let bytes = wire.some();
            if bytes.is_empty() {
                return After::Close;
            }
            wire.send(bytes.to_ascii_uppercase());
            if bytes.ends_with(b"bye\n") {
                return After::Close;
            }
        }
    })
}

#[test]
fn any_upgrade_passes_and_ends_with_either_side_of_openssh() {
    passes(|bastion, port| bastion.laptop("alice", &[("api", port)]));
}

#[test]
fn any_upgrade_passes_and_ends_with_either_side_of_up() {
    passes(|bastion, port| bastion.up("alice", &[("api", port)]));
}

fn passes<L>(laptop: impl FnOnce(&Bastion, u16) -> L) {
    let service = shouter();
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, service.port);
    let ask = "GET /x HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\n";
    let mut wire = Wire::to(bastion.http);
    wire.send(ask);
    let head = wire.head().expect("no head");
    assert_eq!(head.status(), 101, "{head:?}");
    assert_eq!(head.field("upgrade"), Some("shout/1"));
    assert_eq!(
        head.field("connection").map(str::to_ascii_lowercase).as_deref(),
        Some("upgrade")
    );
    assert_eq!(head.field("x-extra"), Some("kept"));
    assert_eq!(head.field("x-ephemwork-served-by"), Some("alice:api"));
    assert_eq!(wire.take(6), b"ready\n");
    for word in ["hello\n", "again\n"] {
        wire.send(word);
        assert_eq!(wire.take(word.len()), word.to_ascii_uppercase().as_bytes());
    }
    wire.send("bye\n");
    assert_eq!(wire.rest(), b"BYE\n", "the service's end does not arrive");

    let mut wire = Wire::to(bastion.http);
    wire.send(format!("{ask}early\n"));
    assert_eq!(wire.head().expect("no head").status(), 101);
    assert_eq!(wire.take(12), b"ready\nEARLY\n", "bytes sent with the head are lost");
    wire.finish_sending();
    assert_eq!(wire.rest(), b"", "the client's end does not arrive at the service");
    let seen = service.heads();
    assert_eq!(seen[0].field("upgrade"), Some("shout/1"));
    assert_eq!(seen[0].field("x-ephemwork"), Some("alice:api"));
}

#[test]
fn a_refused_or_ignored_upgrade_is_an_ordinary_answer() {
    let service = shouter();
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let ask = |path: &str, protocol: &str| {
        fetch(
            bastion.http,
            format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nConnection: keep-alive, Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
            ),
        )
    };
    let refused = ask("/refuse", "shout/1");
    assert_eq!((refused.status(), refused.text().as_str()), (403, "no"));
    assert_eq!(refused.head.field("x-why"), Some("no"));
    let ignored = ask("/", "unknown/9");
    assert_eq!((ignored.status(), ignored.text().as_str()), (200, "not upgraded"));
    // An offer of HTTP/2 is one that a server may ignore, and curl --http2 makes it by default.
    let offer = fetch(
        bastion.http,
        "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!((offer.status(), offer.text().as_str()), (200, "not upgraded"));
}

#[test]
fn an_idle_socket_stays_open() {
    // Longer than the edge's time for a request head: that limit must not reach into what an upgrade became.
    const IDLE: Duration = Duration::from_secs(35);
    let service = shouter();
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nConnection: Upgrade\r\nUpgrade: shout/1\r\n\r\n");
    assert_eq!(wire.head().expect("no head").status(), 101);
    assert_eq!(wire.take(6), b"ready\n");
    // Time itself is what is tested here.
    std::thread::sleep(IDLE);
    wire.send("still\n");
    assert_eq!(wire.take(6), b"STILL\n");
}

/// RFC 8441: over HTTP/2 the client asks with CONNECT and sends no key, and the service, which speaks HTTP/1.1, sees an ordinary upgrade.
#[test]
fn a_websocket_over_http2_passes() {
    let service = Service::start(|head, wire| {
        let asked = head.method() == "GET" && head.field("upgrade") == Some("websocket");
        if !asked || head.field("sec-websocket-key").is_none_or(|key| key.len() != 24) {
            wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            return After::Keep;
        }
        wire.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n",
        );
        loop {
            let bytes = wire.some();
            if bytes.is_empty() {
                return After::Close;
            }
            wire.send(bytes.to_ascii_uppercase());
        }
    });
    let talk = |bastion: &Bastion, tag: Option<&str>| {
        let mut frames = Frames::to(bastion.http);
        let mut fields = vec![
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":path", "/chat"),
            (":authority", "shop.test"),
            ("sec-websocket-version", "13"),
        ];
        fields.extend(tag.map(|tag| ("x-ephemwork", tag)));
        assert!(frames.send(&frames::head(1, 0, &fields)));
        assert!(frames.send(&frames::frame(frames::DATA, 0, 1, b"hello")));
        assert!(frames.send(&frames::frame(frames::DATA, frames::END_STREAM, 1, b" again")));
        assert_eq!(frames.outcome(1), Outcome::Text("HELLO AGAIN".into()), "{tag:?}");
    };
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let _ssh = bastion.laptop("bob", &[("api", service.port)]);
    talk(&bastion, Some("alice:api"));
    talk(&bastion, Some("bob:api"));
    let url = format!("http://{}", service.address());
    talk(&Bastion::with(&["--local", "--staging-url", &url]), None);
}
