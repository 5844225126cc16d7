//! Every answer of the edge itself, as text and as JSON: the same status, the same reason, the same sentences.

use std::{
    net::TcpListener,
    sync::{Mutex, mpsc},
};

use serde_json::Value;

use crate::support::{
    Answer, Bastion, LIMIT, Service, Wire,
    service::{After, ok},
    until,
};

/// Asks for text and for JSON, and compares. `bytes` has `~` where Accept goes.
#[track_caller]
fn check(bastion: &Bastion, bytes: &str, status: u16, reason: &str) {
    let ask = |accept: &str| {
        let mut wire = Wire::to(bastion.http);
        // The edge may answer before everything is sent.
        wire.try_send(bytes.replace('~', accept).as_bytes()).ok();
        if reason == "body-cut-short" {
            wire.finish_sending();
        }
        wire.answer("GET")
    };
    same(
        &ask("Accept: text/plain\r\n"),
        &ask("Accept: application/json\r\n"),
        status,
        reason,
    );
}

#[track_caller]
fn same(text: &Answer, json: &Answer, status: u16, reason: &str) {
    let by = format!("edge; reason={reason}");
    for answer in [text, json] {
        assert_eq!((answer.status(), answer.served_by()), (status, by.as_str()), "{answer:?}");
        assert_eq!(answer.head.field("cache-control"), Some("no-store"), "{answer:?}");
    }
    assert_eq!(
        text.head.field("retry-after").is_some(),
        json.head.field("retry-after").is_some()
    );
    assert_eq!(text.head.field("connection"), json.head.field("connection"));
    assert_eq!(text.head.field("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(json.head.field("content-type"), Some("application/json"));
    let object: Value = serde_json::from_slice(&json.body).unwrap_or_else(|why| panic!("{why}: {json:?}"));
    let error = &object["error"];
    let fields: Vec<&String> = error.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["code", "hint", "what", "why"]);
    assert_eq!(error["code"], reason);
    let said = text.text();
    let mut lines = said.lines();
    // Ports and times differ from one request to the next.
    let plain = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(
        lines.next().map(plain),
        error["what"].as_str().map(|what| plain(&format!("ephemwork: {what}")))
    );
    assert_eq!(lines.next().map(str::trim), error["hint"].as_str());
    assert_eq!(lines.next(), None, "{said:?}");
}

/// Status, reason, and the request.
#[rustfmt::skip] // A table: one request a line.
const REFUSED: &[(u16, &str, &str)] = &[
    (404, "no-tag", "GET / HTTP/1.1\r\nHost: x\r\n~\r\n"),
    (400, "bad-tag", "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: A\r\n~\r\n"),
    (404, "unknown-tag", "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: nobody:api\r\n~\r\n"),
    (403, "origin-not-allowed", "OPTIONS / HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.test\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-ephemwork\r\n~\r\n"),
    (400, "two-lengths", "POST / HTTP/1.1\r\nHost: x\r\n~Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
    (400, "bad-length", "POST / HTTP/1.1\r\nHost: x\r\n~Content-Length: a\r\n\r\na"),
    (400, "length-and-encoding", "POST / HTTP/1.1\r\nHost: x\r\n~Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na"),
    (400, "two-encodings", "POST / HTTP/1.1\r\nHost: x\r\n~Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\na"),
    (400, "bad-encoding", "POST / HTTP/1.1\r\nHost: x\r\n~Transfer-Encoding: gzip\r\n\r\na"),
    (400, "two-hosts", "GET / HTTP/1.1\r\nHost: x\r\n~Host: y\r\n\r\n"),
    (400, "no-host", "GET / HTTP/1.1\r\n~\r\n"),
    (400, "bad-host", "GET / HTTP/1.1\r\n~Host: x/y\r\n\r\n"),
    (400, "bad-header", "GET / HTTP/1.1\r\nHost: x\r\n~X Y: z\r\n\r\n"),
    (400, "folded-header", "GET / HTTP/1.1\r\nHost: x\r\n~X: y\r\n z\r\n\r\n"),
    (400, "bare-line-end", "GET / HTTP/1.1\r\nHost: x\r\n~X: y\nZ: z\r\n\r\n"),
    (400, "bad-request-line", "GET  / HTTP/1.1\r\nHost: x\r\n~\r\n"),
    (400, "bad-target", "GET a HTTP/1.1\r\nHost: x\r\n~\r\n"),
    (400, "no-connect", "CONNECT a:1 HTTP/1.1\r\nHost: x\r\n~\r\n"),
    (505, "bad-version", "GET / HTTP/1.2\r\nHost: x\r\n~\r\n"),
    (400, "bad-chunk", "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n~Transfer-Encoding: chunked\r\n\r\nx\r\n"),
    (400, "bad-trailer", "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n~Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\n\r\n"),
    (400, "body-cut-short", "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n~Content-Length: 9\r\n\r\nabc"),
];

#[test]
fn refusals() {
    let service = Service::replying(|_, _| ok("yes"));
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    // With a second session nobody knows whom a preflight means.
    let _bob = bastion.laptop("bob", &[("api", service.port)]);
    for (status, reason, bytes) in REFUSED {
        check(&bastion, bytes, *status, reason);
    }
    let many = "A: b\r\n".repeat(200);
    check(
        &bastion,
        &format!("GET / HTTP/1.1\r\nHost: x\r\n~{many}\r\n"),
        431,
        "head-too-large",
    );
    check(
        &bastion,
        &format!("GET /{} HTTP/1.1\r\nHost: x\r\n~\r\n", "<".repeat(22_000)),
        414,
        "target-too-long",
    );
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n~Transfer-Encoding: chunked\r\n\r\n0\r\n";
    check(&bastion, &format!("{chunked}{many}\r\n"), 431, "trailers-too-large");
    // Both at once, because it takes its time.
    let mut slow = ["text/plain", "application/json"].map(|accept| {
        let mut wire = Wire::to(bastion.http);
        wire.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nX: "));
        wire
    });
    let [text, json] = slow.each_mut().map(|wire| wire.answer("GET"));
    same(&text, &json, 408, "head-too-slow");
    // What speaks TLS says nothing about what it accepts.
    let mut tls = Wire::to(bastion.http);
    tls.send(b"\x16\x03\x01\x02\x00\x01");
    let answer = tls.answer("GET");
    assert_eq!((answer.status(), answer.served_by()), (400, "edge; reason=tls"));
}

#[test]
fn failures() {
    let (asked, ask) = mpsc::channel();
    let asked = Mutex::new(asked);
    let service = Service::start(move |head, wire| {
        match head.target() {
            "/nonsense" => wire.send("SSH-2.0-OpenSSH_9.2\r\n\r\n"),
            "/wait" => {
                asked.lock().unwrap().send(()).unwrap();
                wire.rest();
            }
            _ => {}
        }
        After::Close
    });
    let bastion = Bastion::local(&["--hold", "1"]);
    let mut up = bastion.up("alice", &[("api", service.port)]);
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let _bob = bastion.laptop("bob", &[("api", nobody)]);
    let request = |tag: &str, path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: {tag}\r\n~\r\n");
    check(&bastion, &request("bob:api", "/"), 502, "port-refused");
    check(&bastion, &request("alice:api", "/"), 502, "service-closed");
    check(&bastion, &request("alice:api", "/nonsense"), 502, "service-malformed");

    let mut waiting = ["text/plain", "application/json"].map(|accept| {
        let mut wire = Wire::to(bastion.http);
        // One that can be sent again would wait for the laptop.
        let post = request("alice:api", "/wait").replacen("GET", "POST", 1);
        wire.send(post.replace('~', &format!("Accept: {accept}\r\nContent-Length: 0\r\n")));
        ask.recv_timeout(LIMIT).unwrap();
        wire
    });
    up.process.kill();
    let [text, json] = waiting.each_mut().map(|wire| wire.answer("POST"));
    same(&text, &json, 502, "lane-lost");
    bastion.wait_state("alice:api", "leased");
    check(&bastion, &request("alice:api", "/"), 503, "reconnecting");
}

#[test]
fn more_than_may_wait() {
    let service = Service::saying("yes");
    let bastion = Bastion::local(&["--hold", "30"]);
    let mut up = bastion.up("alice", &[("api", service.port)]);
    up.process.kill();
    bastion.wait_state("alice:api", "leased");
    let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n~\r\n";
    let _held: Vec<Wire> = (0..512)
        .map(|_| {
            let mut wire = Wire::to(bastion.http);
            wire.send(request.replace('~', ""));
            wire
        })
        .collect();
    until("all of them to be held", || {
        let page = bastion.admin("GET", "/metrics").text();
        page.lines().any(|line| line == "ephemwork_held_requests 512").then_some(())
    });
    check(&bastion, request, 503, "too-many-requests");
}

#[test]
fn staging_and_health() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bastion = Bastion::with(&["--local", "--staging-url", &format!("http://{nobody}")]);
    check(&bastion, "GET / HTTP/1.1\r\nHost: x\r\n~\r\n", 502, "staging-failed");
    let mut wire = Wire::to(bastion.http);
    wire.send("GET /ephemwork-health HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\n\r\n");
    let health = wire.answer("GET");
    assert_eq!((health.status(), health.served_by()), (200, "edge; reason=health"));
    assert_eq!(serde_json::from_slice::<Value>(&health.body).unwrap()["health"], "ok");
}
