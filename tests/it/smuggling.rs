//! The shapes of request smuggling: each is refused with 400 and a reason, the connection ends, and no request of it reaches
//! the service. RFC 9112, sections 2.2, 3.2, 5.1, 5.2, 6.1, 6.3, 7.1 and 11.2.

use crate::support::{Bastion, Service, Wire, fetch, get, service::ok, until};

/// What a smuggler wants to have understood as a request of its own.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\n\r\n";

/// Where a shape is wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// In the head: not a byte may reach the service.
    Head,
    /// In the body: the head may have been passed on, but the service must never see a complete request.
    Body,
}
use Wrong::{Body, Head};

/// Name, where it is wrong, status, and the bytes; `~` stands for the usual fields of a good request.
#[rustfmt::skip] // A table: one shape a line.
pub(crate) const SHAPES: &[(&str, Wrong, u16, &str)] = &[
    // Lengths.
    ("two lengths", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"),
    ("two lengths, other order", Head, 400, "POST / HTTP/1.1\r\nContent-Length: 6\r\n~Content-Length: 5\r\n\r\nhello"),
    ("two equal lengths", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
    ("a list of lengths", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5, 6\r\n\r\nhello"),
    ("a list of equal lengths", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5, 5\r\n\r\nhello"),
    ("length with a sign", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: +5\r\n\r\nhello"),
    ("negative length", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: -5\r\n\r\nhello"),
    ("hexadecimal length", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 0x5\r\n\r\nhello"),
    ("length with a space inside", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5 5\r\n\r\nhello"),
    ("empty length", Head, 400, "POST / HTTP/1.1\r\n~Content-Length:\r\n\r\nhello"),
    ("a length beyond 64 bits", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 18446744073709551621\r\n\r\nhello"),
    // Length and chunking.
    ("CL then TE", Head, 400, "POST / HTTP/1.1\r\n~Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("TE then CL", Head, 400, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n~Content-Length: 5\r\n\r\n0\r\n\r\n"),
    ("CL then TE, odd case", Head, 400, "POST / HTTP/1.1\r\n~content-length: 5\r\ntransfer-ENCODING: Chunked\r\n\r\n0\r\n\r\n"),
    // Codings.
    ("TE twice", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("chunked, chunked", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("xchunked", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked is not last", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("identity", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: identity\r\n\r\n"),
    ("a vertical tab before chunked", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("quoted chunked", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"),
    ("empty coding", Head, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding:\r\n\r\n0\r\n\r\n"),
    ("HTTP/1.0 with TE", Head, 400, "POST / HTTP/1.0\r\n~Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    // Lines.
    ("folded line", Head, 400, "GET / HTTP/1.1\r\n~X-Long: a\r\n b\r\n\r\n"),
    ("folded line with a tab", Head, 400, "GET / HTTP/1.1\r\n~X-Long: a\r\n\tTransfer-Encoding: chunked\r\n\r\n"),
    ("first line folded", Head, 400, "GET / HTTP/1.1\r\n X: y\r\n~\r\n"),
    ("bare LF between fields", Head, 400, "GET / HTTP/1.1\r\n~X-A: b\nX-C: d\r\n\r\n"),
    ("bare LF after the request line", Head, 400, "GET / HTTP/1.1\n~\r\n"),
    ("bare LF at the end of the head", Head, 400, "GET / HTTP/1.1\r\n~X-A: b\r\n\n"),
    ("bare LF everywhere", Head, 400, "GET / HTTP/1.1\nHost: shop.test\nX-Ephemwork: alice:api\n\n"),
    ("bare CR in a value", Head, 400, "GET / HTTP/1.1\r\n~X-A: b\rX-C: d\r\n\r\n"),
    ("bare CR in a name", Head, 400, "GET / HTTP/1.1\r\n~X\r-A: b\r\n\r\n"),
    ("bare CR in the target", Head, 400, "GET /\r HTTP/1.1\r\n~\r\n"),
    ("NUL in a value", Head, 400, "GET / HTTP/1.1\r\n~X-A: b\0c\r\n\r\n"),
    ("NUL in a name", Head, 400, "GET / HTTP/1.1\r\n~X\0A: b\r\n\r\n"),
    ("NUL in the target", Head, 400, "GET /\0 HTTP/1.1\r\n~\r\n"),
    ("space before the colon", Head, 400, "GET / HTTP/1.1\r\n~Content-Length : 5\r\n\r\nhello"),
    ("tab before the colon", Head, 400, "GET / HTTP/1.1\r\n~Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n"),
    ("space before the name", Head, 400, "GET / HTTP/1.1\r\nHost: shop.test\r\n X-Ephemwork: alice:api\r\n\r\n"),
    ("no name", Head, 400, "GET / HTTP/1.1\r\n~: b\r\n\r\n"),
    ("no colon", Head, 400, "GET / HTTP/1.1\r\n~Nonsense\r\n\r\n"),
    // Request lines.
    ("a space in the target", Head, 400, "GET /a b HTTP/1.1\r\n~\r\n"),
    ("no version", Head, 400, "GET /\r\n~\r\n"),
    ("HTTP/1.2", Head, 505, "GET / HTTP/1.2\r\n~\r\n"),
    ("HTTP/2.0 in words", Head, 505, "GET / HTTP/2.0\r\n~\r\n"),
    ("no method", Head, 400, " / HTTP/1.1\r\n~\r\n"),
    ("a method that is no token", Head, 400, "GE(T / HTTP/1.1\r\n~\r\n"),
    ("asterisk without OPTIONS", Head, 400, "GET * HTTP/1.1\r\n~\r\n"),
    ("CONNECT", Head, 400, "CONNECT shop.test:443 HTTP/1.1\r\n~\r\n"),
    ("target without a slash", Head, 400, "GET index.html HTTP/1.1\r\n~\r\n"),
    ("two hosts", Head, 400, "GET / HTTP/1.1\r\n~Host: other.test\r\n\r\n"),
    ("a host that is none", Head, 400, "GET / HTTP/1.1\r\nHost: a/b\r\nX-Ephemwork: alice:api\r\n\r\n"),
    ("no host", Head, 400, "GET / HTTP/1.1\r\nX-Ephemwork: alice:api\r\n\r\n"),
    // Upgrades: what is not upgraded is checked to its end.
    ("an offer of h2c, then nonsense", Body, 400, "POST / HTTP/1.1\r\n~Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ("an upgrade with a body, then nonsense", Body, 400, "GET / HTTP/1.1\r\n~Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    ("an upgrade by POST, then nonsense", Body, 400, "POST / HTTP/1.1\r\n~Connection: upgrade\r\nUpgrade: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    // Chunks.
    ("chunk size is no number", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n"),
    ("chunk size with 0x", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n"),
    ("negative chunk size", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n"),
    ("chunk size with a sign", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n"),
    ("empty chunk size", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n"),
    ("chunk size beyond 64 bits", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("space before the chunk size", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n"),
    ("extension with bare LF", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n"),
    ("extension with bare CR", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("chunk size ended by bare LF", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"),
    ("no CRLF after a chunk", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n"),
    ("LF after a chunk", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n"),
    ("a chunk longer than its size", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"),
    ("last chunk ended by bare LF", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\n\r\n"),
    ("bare LF in a trailer", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\nX-C: d\r\n\r\n"),
    ("folded trailer", Body, 400, "POST / HTTP/1.1\r\n~Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n"),
];

/// Sends a shape followed by the hidden request and says what is wrong with the edge's way of refusing it.
fn faults(bastion: &Bastion, status: u16, bytes: &str) -> Option<String> {
    let mut wire = Wire::to(bastion.http);
    // The edge may close before everything is sent; what counts is what it answered.
    wire.try_send(format!("{bytes}{HIDDEN}").as_bytes()).ok();
    let Some(head) = wire.head() else {
        return Some("closed without an answer".to_owned());
    };
    if head.status() != status {
        return Some(format!("answered {:?}", head.start));
    }
    let body = wire.body(&head, true);
    let after = String::from_utf8_lossy(&wire.rest()).into_owned();
    let by = head.field("x-ephemwork-served-by").unwrap_or_default();
    if !by.starts_with("edge; reason=") {
        return Some(format!("no reason: {head:?}"));
    }
    if body.is_none_or(|(text, _)| text.len() < 10) {
        return Some("no sentence for a person".to_owned());
    }
    (!after.is_empty()).then(|| format!("went on after the refusal: {after:?}"))
}

#[test]
fn every_shape_is_refused_and_nothing_of_it_reaches_the_service() {
    let bastion = Bastion::start();
    let service = Service::saying("reached");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wrong = Vec::new();
    for (number, &(name, place, status, shape)) in SHAPES.iter().enumerate() {
        let (heads_before, complete_before) = (service.heads().len(), service.complete());
        let bytes = shape.replace('~', "Host: shop.test\r\nX-Ephemwork: alice:api\r\n");
        let mut fault = faults(&bastion, status, &bytes).unwrap_or_default();
        // The tunnel must be unharmed, and this the only complete request.
        let sentinel = format!("/sentinel-{number}");
        if get(bastion.http, "alice:api", &sentinel).status() != 200 {
            fault += " the tunnel is broken afterwards";
        }
        until("the sentinel to be counted", || {
            (service.complete() > complete_before).then_some(())
        });
        let heads: Vec<String> = service.heads()[heads_before..]
            .iter()
            .map(|head| head.target().to_owned())
            .collect();
        let reached = match place {
            Head => heads != [sentinel],
            Body => service.complete() != complete_before + 1 || heads.iter().any(|target| target == "/hidden"),
        };
        if reached {
            fault += &format!(" reached the service: {heads:?}");
        }
        if !fault.is_empty() {
            wrong.push(format!("{name}: {fault}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), SHAPES.len(), wrong.join("\n"));
}

#[test]
fn a_huge_head_is_431_and_a_large_one_passes() {
    let bastion = Bastion::start();
    let service = Service::saying("yes");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let ask = |fields: String| {
        let mut wire = Wire::to(bastion.http);
        let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n{fields}\r\n");
        // The edge may close before everything is sent.
        wire.try_send(head.as_bytes()).ok();
        let answer = wire.answer("GET");
        let ended = answer.status() != 200 && wire.rest().is_empty();
        (answer.status(), ended)
    };
    assert_eq!(ask(format!("Cookie: {}\r\n", "c".repeat(8_000))), (200, false));
    service.completed(1);
    assert_eq!(ask(format!("Cookie: {}\r\n", "c".repeat(1_000_000))), (431, true));
    let many: String = (0..5_000).map(|number| format!("X-{number}: y\r\n")).collect();
    assert_eq!(ask(many), (431, true));
    let long = fetch(
        bastion.http,
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(500_000)),
    );
    assert!(matches!(long.status(), 414 | 431), "{long:?}");
    assert_eq!(service.complete(), 1);
}

#[test]
fn good_relatives_of_the_shapes_pass() {
    let bastion = Bastion::start();
    let service = Service::replying(|head, body| ok(&format!("{} {}", head.target(), body.len())));
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for (line, rest, expected) in [
        (
            "POST / HTTP/1.1",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "/ 5",
        ),
        (
            "POST / HTTP/1.1",
            "Transfer-Encoding: Chunked\r\n\r\n0005;a=\"b\"\r\nhello\r\n0\r\n\r\n",
            "/ 5",
        ),
        ("POST / HTTP/1.1", "Content-Length: 005\r\n\r\nhello", "/ 5"),
        (
            "POST / HTTP/1.1",
            "Transfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n00\r\n\r\n",
            "/ 10",
        ),
        ("POST / HTTP/1.1", "Content-Length: 0\r\n\r\n", "/ 0"),
        ("POST / HTTP/1.1", "X-Tab:\ta\tb\t\r\nContent-Length: 1\r\n\r\nx", "/ 1"),
        // RFC 9112, section 3.2.2: a server must take it, and its authority counts.
        ("GET http://shop.test/abs?q HTTP/1.1", "\r\n", "/abs?q 0"),
        ("OPTIONS * HTTP/1.1", "\r\n", "* 0"),
    ] {
        let answer = fetch(
            bastion.http,
            format!("{line}\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\n{rest}"),
        );
        assert_eq!((answer.status(), answer.text().as_str()), (200, expected), "{line} {rest:?}");
    }
    let head = "GET http://other.test:81/ HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\n\r\n";
    assert_eq!(fetch(bastion.http, head).status(), 200);
    let heads = service.heads();
    assert_eq!(heads.last().and_then(|head| head.field("host")), Some("other.test:81"));
}

#[test]
fn a_wrong_chunk_that_comes_late_ends_the_request_at_the_service() {
    // The head was right and is with the service already when the wrong chunk comes.
    let bastion = Bastion::start();
    let service = Service::saying("reached");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send("POST /late HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    until("the head to reach the service", || (service.heads().len() == 1).then_some(()));
    wire.send(format!("5\nworld\r\n0\r\n\r\n{HIDDEN}"));
    let answer = wire.answer("POST");
    assert_eq!(answer.status(), 400, "{answer:?}");
    assert_eq!(answer.served_by(), "edge; reason=bad-chunk");
    assert_eq!(wire.rest(), b"");
    assert_eq!(get(bastion.http, "alice:api", "/sentinel").status(), 200);
    let targets: Vec<String> = service.heads().iter().map(|head| head.target().to_owned()).collect();
    assert_eq!(targets, ["/late", "/sentinel"]);
    until("the sentinel alone to be counted", || (service.complete() == 1).then_some(()));
}

/// After a request for an upgrade nothing is checked, so nothing may be read as a request unless the upgrade took place: also when
/// the edge answers it itself.
#[test]
fn what_follows_an_upgrade_that_did_not_happen_is_not_read() {
    let bastion = Bastion::start();
    let service = Service::saying("reached");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for (fields, by) in [
        ("X-Ephemwork: bob:api\r\n", "edge; reason=unknown-tag"),
        ("", "edge; reason=no-tag"),
        ("X-Ephemwork: alice:api\r\n", "alice:api"),
    ] {
        for path in ["/", "/ephemwork-health"] {
            let by = if path == "/" { by } else { "edge; reason=health" };
            let mut wire = Wire::to(bastion.http);
            wire.send(format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: a\r\n{fields}\r\n{HIDDEN}"
            ));
            let answer = wire.answer("GET");
            assert_eq!(answer.served_by(), by, "{answer:?}");
            assert_eq!(answer.head.field("connection"), Some("close"), "{answer:?}");
            assert_eq!(wire.rest(), b"");
        }
    }
    assert!(service.heads().iter().all(|head| head.target() == "/"));
}

/// Curl and Java offer HTTP/2 by an upgrade with each request, also with those that have a body.
#[test]
fn an_offer_of_http2_costs_neither_body_nor_connection() {
    let bastion = Bastion::local(&[]);
    let service = Service::replying(|head, body| ok(&format!("{} {}", head.method(), body.len())));
    let _up = bastion.up("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    let offer = "Host: x\r\nX-Ephemwork: alice:api\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    for _ in 0..2 {
        wire.send(format!("POST / HTTP/1.1\r\n{offer}Content-Length: 3\r\n\r\nabc"));
        assert_eq!(wire.answer("POST").text(), "POST 3");
    }
    wire.send(format!(
        "POST / HTTP/1.1\r\n{}Content-Length: 3\r\n\r\nabc",
        offer.replace("h2c", "websocket")
    ));
    assert_eq!(wire.answer("POST").text(), "POST 3");
}
