//! What people send through a tunnel is theirs: no log, however talkative, no error and no page of the bastion or the laptop shows
//! credentials, cookies or the query of a presigned URL; and nobody's token or key.

use rustix::process::Signal;

use crate::support::{
    Bastion, CANARY, Process, Service, Wire, Workshop, fetch,
    frames::Frames,
    lasting_address,
    service::{After, ok},
};

/// Headers that carry the canary.
fn fields() -> String {
    format!(
        "Authorization: Bearer {CANARY}-bearer\r\nCookie: session={CANARY}-cookie\r\nX-Amz-Security-Token: {CANARY}-token\r\n\
         Proxy-Authorization: Basic {CANARY}-proxy\r\n"
    )
}

/// A presigned URL, as browsers get them from services.
fn target(path: &str) -> String {
    format!("{path}?X-Amz-Signature={CANARY}-signature&X-Amz-Credential={CANARY}-credential")
}

#[test]
fn no_level_tells_what_people_send() {
    let service = Service::start(|head, wire| {
        match head.target().split('?').next().unwrap_or_default() {
            "/garbage" => {
                wire.send(format!("{CANARY}-garbage is no HTTP\r\n\r\n"));
                return After::Close;
            }
            "/silent" => return After::Close,
            "/cut" => {
                wire.send(format!(
                    "HTTP/1.1 200 OK\r\nSet-Cookie: a={CANARY}-set\r\nContent-Length: 100\r\n\r\nshort"
                ));
                return After::Close;
            }
            "/upgrade" => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
                wire.rest();
                return After::Close;
            }
            _ => {}
        }
        let mut answer = ok("yes");
        let at = answer.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        answer.splice(at..at, format!("Set-Cookie: session={CANARY}-set\r\n").into_bytes());
        wire.send(answer);
        After::Keep
    });
    let bastion = Bastion::local_with_environment(&[("EPHEMWORK_LOG", "trace")]);
    let closed = lasting_address().port();
    let services = format!("[service.api]\nport = {}\n[service.shut]\nport = {closed}\n", service.port);
    let workshop = Workshop::beside(&bastion, "alice", &services);
    let shut = std::net::TcpListener::bind(("127.0.0.1", closed)).unwrap();
    let mut command = workshop.command(&["up", "api", "shut", "--no-run"]);
    let mut up = Process::start("ephemwork up", command.env("EPHEMWORK_LOG", "trace"));
    up.wait_for("X-Ephemwork: alice:shut");
    drop(shut);
    let _ssh = bastion.laptop("bob", &[("api", service.port)]);

    let request = |tag: &str, path: &str, more: &str| {
        format!(
            "GET {} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: {tag}\r\n{}{more}\r\n",
            target(path),
            fields()
        )
    };
    for tag in ["alice:api", "bob:api", "alice:shut", "alice:gone", "no tag at all"] {
        for path in ["/", "/garbage", "/silent"] {
            fetch(bastion.http, request(tag, path, ""));
        }
        fetch(bastion.http, request(tag, "/", "Accept: application/json\r\n"));
        for (path, more) in [("/cut", ""), ("/upgrade", "Connection: upgrade\r\nUpgrade: a\r\n")] {
            let mut wire = Wire::to(bastion.http);
            wire.send(request(tag, path, more));
            wire.head();
        }
    }
    // Heads and bodies that are refused, with what is wrong behind the secrets and before them.
    for wrong in [
        "Bad Name: x\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "X-A: b\nX-C: d\r\n",
        "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        fetch(bastion.http, request("alice:api", "/", wrong));
        let head = format!("GET {} HTTP/1.1\r\n{wrong}{}\r\n", target("/"), fields());
        fetch(bastion.http, head);
    }
    fetch(
        bastion.http,
        format!("GET http://user:{CANARY}-password@x/ HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    let authorization = format!("Bearer {CANARY}-h2");
    let path = target("/");
    for tag in ["alice:api", "alice:gone", "bad"] {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", path.as_str()),
            (":authority", "x"),
            ("x-ephemwork", tag),
            ("authorization", &authorization),
            ("cookie", &authorization),
        ];
        Frames::to(bastion.http).ask(1, &fields);
    }
    assert!(service.heads().iter().any(|head| head.field("authorization").is_some()));

    let pages = ["/metrics", "/v1/sessions?all=true", "/v1/users"].map(|path| bastion.admin("GET", path).text());
    let status = workshop.run(&["status", "--all", "--json"]);
    let text = workshop.run(&["status", "--all"]);
    up.signal(Signal::TERM);
    up.wait();
    let mut bastion = bastion;
    bastion.process.signal(Signal::TERM);
    bastion.process.wait();
    let logs = [("the daemon's log", bastion.process.said()), ("up's log", up.said())];
    for (name, said) in &logs {
        assert!(said.contains("TRACE"), "{name} is not talkative: {said}");
    }
    let rest = [
        ("a page", pages.concat()),
        ("status", status.out + &status.err + &text.out + &text.err),
    ];
    for (name, said) in logs.iter().chain(&rest) {
        for secret in [CANARY, "PRIVATE KEY", "\"token\":\""] {
            let line = said.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} stands in {name}: {}", line.unwrap_or_default());
        }
    }
}
