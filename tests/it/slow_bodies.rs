//! Request bodies that come a byte at a time to keep a place on a tunnel: refused, and nobody else.

use std::time::{Duration, Instant};

use crate::support::{
    Bastion, Service, Wire, get,
    service::{After, ok},
    until,
};

const HEAD: &str = "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n";

/// Sends `piece` again and again until an answer comes; how often.
fn drip(wire: &mut Wire, piece: &[u8], pause: Duration) -> usize {
    let begun = Instant::now();
    let mut sent = 0;
    until("an answer", || {
        if begun.elapsed() < pause * sent as u32 {
            return None;
        }
        sent += 1;
        wire.try_send_within(piece, pause);
        wire.has_more().then_some(sent)
    })
}

#[test]
fn a_body_that_drips_is_refused_and_the_place_is_free() {
    let service = Service::replying(|_, body| ok(&format!("{} bytes", body.len())));
    let bastion = Bastion::with(&["--slow-body", "2"]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for (framing, piece) in [
        ("Content-Length: 100000\r\n", &b"x"[..]),
        ("Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n"),
        ("Expect: 100-continue\r\nContent-Length: 100000\r\n", b"x"),
    ] {
        let mut wire = Wire::to(bastion.http);
        wire.send(format!("{HEAD}{framing}\r\n"));
        if framing.starts_with("Expect") {
            assert_eq!(wire.head().unwrap().status(), 100);
        }
        drip(&mut wire, piece, Duration::from_millis(100));
        let answer = wire.answer("POST");
        assert_eq!(
            (answer.status(), answer.served_by()),
            (408, "edge; reason=body-too-slow"),
            "{framing}"
        );
    }
    until("nothing to be in flight", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
    assert_eq!(service.complete(), 0);
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "0 bytes");
}

/// A slow line is no attack: what counts is progress, not time.
#[test]
fn a_slow_body_that_goes_on_arrives() {
    const SIZE: usize = 40 * 1024;
    let service = Service::replying(|_, body| ok(&format!("{} bytes", body.len())));
    let bastion = Bastion::with(&["--slow-body", "2"]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for (framing, head, tail) in [
        (format!("Content-Length: {SIZE}\r\n"), "", ""),
        ("Transfer-Encoding: chunked\r\n".to_owned(), "400\r\n", "\r\n"),
    ] {
        let mut wire = Wire::to(bastion.http);
        wire.send(format!("{HEAD}{framing}\r\n"));
        let piece = format!("{head}{}{tail}", "x".repeat(1024));
        let begun = Instant::now();
        let mut sent = 0;
        until("the body to be sent", || {
            if begun.elapsed() >= Duration::from_millis(100) * sent as u32 {
                wire.send(&piece);
                sent += 1;
            }
            (sent == SIZE / 1024).then_some(())
        });
        if !head.is_empty() {
            wire.send("0\r\n\r\n");
        }
        assert_eq!(wire.answer("POST").text(), format!("{SIZE} bytes"));
    }
}

/// A client that reads its answer may take its time with what it sends; so may a WebSocket's.
#[test]
fn an_answer_that_has_begun_and_an_upgrade_have_no_limit() {
    const LONG: Duration = Duration::from_secs(3);
    let service = Service::start(|head, wire| {
        if head.field("upgrade").is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: test\r\n\r\n");
            let sent = wire.take(1);
            wire.send(sent);
        } else {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
            let sent = wire.take(2);
            wire.send(sent);
        }
        After::Close
    });
    let bastion = Bastion::with(&["--slow-body", "1"]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for (what, status) in [
        ("Content-Length: 2\r\n", 200),
        ("Connection: upgrade\r\nUpgrade: test\r\n", 101),
    ] {
        let mut wire = Wire::to(bastion.http);
        let method = if status == 200 {
            HEAD.to_owned()
        } else {
            HEAD.replace("POST", "GET")
        };
        wire.send(format!("{method}{what}\r\n"));
        assert_eq!(wire.head().expect(what).status(), status);
        let begun = Instant::now();
        until("some time to pass", || (begun.elapsed() > LONG).then_some(()));
        wire.send("ab");
        assert!(wire.take(1).starts_with(b"a"), "{what}");
    }
}
