//! HTTP/1.1's small print through the whole tunnel, with both kinds of laptop: heads, bodies, interim answers, trailers.

use std::{any::Any, sync::mpsc};

use crate::support::{
    Bastion, Head, LIMIT, Service, Wire, fetch,
    service::{After, ok},
};

/// A bastion with one laptop of one kind that serves `alice:api`.
struct Bed {
    bastion: Bastion,
    _laptop: Box<dyn Any>,
    service: Service,
}

fn openssh(service: Service) -> Bed {
    let bastion = Bastion::start();
    let laptop = Box::new(bastion.laptop("alice", &[("api", service.port)]));
    Bed {
        bastion,
        _laptop: laptop,
        service,
    }
}

fn up(service: Service) -> Bed {
    let bastion = Bastion::local(&[]);
    let laptop = Box::new(bastion.up("alice", &[("api", service.port)]));
    Bed {
        bastion,
        _laptop: laptop,
        service,
    }
}

/// Each case with both kinds of laptop.
macro_rules! both {
    ($($case:ident)*) => {
        mod with_openssh {
            $(#[test] fn $case() { super::$case(super::openssh); })*
        }
        mod with_up {
            $(#[test] fn $case() { super::$case(super::up); })*
        }
    };
}

both! {
    the_head_arrives_as_the_load_balancer_wrote_it
    bodiless_answers_leave_the_connection_usable
    methods_are_passed_on_as_they_are
    interim_answers_do_not_take_the_place_of_the_answer
    expect_continue_asks_before_the_body_is_sent
    trailers_pass_both_ways
    an_answer_that_ends_with_its_connection_is_delivered_whole
    an_answer_that_is_cut_short_is_not_passed_off_as_whole
    a_length_beside_chunks_does_not_count
    a_service_that_does_not_speak_http_is_a_502
    pipelined_requests_are_answered_in_order
    a_request_before_a_wrong_one_is_answered
    connections_are_kept_and_closed_as_the_client_says
    a_service_may_close_its_idle_connections
    an_answer_may_come_before_the_body_is_read
}

fn request(method: &str, path: &str, fields: &str, body: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\n{fields}\r\n{body}")
}

fn the_head_arrives_as_the_load_balancer_wrote_it(with: fn(Service) -> Bed) {
    let bed = with(Service::saying("yes"));
    let fields = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nCookie: a=1\r\nCookie: b=2\r\n\
        X-Empty:\r\nX-Latin: caf\u{e9}\r\nConnection: keep-alive, X-Hop\r\nX-Hop: away\r\nKeep-Alive: timeout=5\r\nTE: trailers, deflate\r\n\
        Proxy-Connection: keep-alive\r\nUpgrade-Insecure-Requests: 1\r\n";
    let answer = fetch(
        bed.bastion.http,
        request("GET", "/a%20b/../c;d?e=f&g=%00#", fields, "").replace('#', ""),
    );
    assert_eq!(answer.status(), 200, "{answer:?}");
    let head = bed.service.only_head();
    assert_eq!(head.start, "GET /a%20b/../c;d?e=f&g=%00 HTTP/1.1");
    let kept = [
        ("host", "shop.test"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-port", "443"),
        ("x-ephemwork", "alice:api"),
        ("x-empty", ""),
        ("x-latin", "caf\u{e9}"),
        ("upgrade-insecure-requests", "1"),
    ];
    for (name, value) in kept {
        assert_eq!(head.field(name), Some(value), "{name} of {head:?}");
    }
    assert_eq!(head.all("cookie").join("; "), "a=1; b=2");
    for name in ["x-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(head.field(name), None, "{name} is for one hop only: {head:?}");
    }
}

fn bodiless_answers_leave_the_connection_usable(with: fn(Service) -> Bed) {
    let bed = with(Service::replying(|head, _| {
        let fields = match (head.method(), head.target()) {
            ("HEAD", _) => "200 OK\r\nContent-Length: 12345\r\nX-Kind: head",
            (_, "/204") => "204 No Content\r\nX-Kind: none",
            (_, "/304") => "304 Not Modified\r\nETag: \"x\"\r\nX-Kind: same",
            (_, "/wrong") => "204 No Content\r\nContent-Length: 5",
            (_, "/205") => "205 Reset Content\r\nContent-Length: 0",
            _ => "200 OK\r\nContent-Length: 0\r\nAllow: GET, OPTIONS",
        };
        format!("HTTP/1.1 {fields}\r\n\r\n").into_bytes()
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for (method, path, status, length) in [
        ("HEAD", "/", 200, Some("12345")),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, None),
        ("GET", "/205", 205, Some("0")),
        ("OPTIONS", "/", 200, Some("0")),
        ("DELETE", "/204", 204, None),
        ("GET", "/wrong", 204, None),
        ("HEAD", "/again", 200, Some("12345")),
    ] {
        wire.send(request(method, path, "", ""));
        let answer = wire.answer(method);
        assert_eq!(answer.status(), status, "{method} {path}: {answer:?}");
        assert_eq!(answer.head.field("content-length"), length, "{method} {path}: {answer:?}");
        assert_eq!(answer.head.field("transfer-encoding"), None, "{method} {path}: {answer:?}");
        assert_eq!(answer.body, b"", "{method} {path}");
        assert_eq!(answer.served_by(), "alice:api");
    }
    bed.service.completed(8);
}

fn methods_are_passed_on_as_they_are(with: fn(Service) -> Bed) {
    let bed = with(Service::saying("yes"));
    let methods = [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY", "M-SEARCH",
    ];
    let mut wire = Wire::to(bed.bastion.http);
    for method in methods {
        wire.send(request(method, "/", "Content-Length: 2\r\n", "ab"));
        assert_eq!(wire.answer(method).status(), 200, "{method}");
    }
    let seen: Vec<String> = bed.service.heads().iter().map(|head| head.method().to_owned()).collect();
    assert_eq!(seen, methods);
}

fn interim_answers_do_not_take_the_place_of_the_answer(with: fn(Service) -> Bed) {
    let bed = with(Service::replying(|_, _| {
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".to_vec();
        bytes.extend(b"HTTP/1.1 102 Processing\r\n\r\n");
        bytes.extend(ok("final"));
        bytes
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for _ in 0..2 {
        wire.send(request("GET", "/", "", ""));
        let answer = wire.answer("GET");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "final"));
        // A proxy need not pass hints on, but must not invent any (RFC 9110, section 15.2).
        let known = |head: &Head| matches!(head.status(), 102 | 103);
        assert!(answer.interim.iter().all(known), "{answer:?}");
    }
}

fn expect_continue_asks_before_the_body_is_sent(with: fn(Service) -> Bed) {
    let bed = with(Service::replying(|_, body| ok(&format!("{} bytes", body.len()))));
    let mut wire = Wire::to(bed.bastion.http);
    for round in 0..2 {
        wire.send(request("PUT", "/", "Expect: 100-continue\r\nContent-Length: 5\r\n", ""));
        let interim = wire.head().expect("the connection ended instead of 100");
        assert_eq!(interim.status(), 100, "{interim:?}");
        wire.send("hello");
        let answer = wire.answer("PUT");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "5 bytes"), "round {round}");
    }
    bed.service.completed(2);
    // For a request that goes nowhere the body is not asked for.
    let mut wire = Wire::to(bed.bastion.http);
    wire.send("PUT / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:none\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    let answer = wire.answer("PUT");
    assert_eq!((answer.status(), answer.interim.len()), (404, 0), "{answer:?}");
}

fn trailers_pass_both_ways(with: fn(Service) -> Bed) {
    let (seen, trailers) = mpsc::channel();
    let bed = with(Service::start(move |head, wire| {
        let Some((body, fields)) = wire.body(head, false) else {
            return After::Close;
        };
        seen.send((head.clone(), body, fields)).unwrap();
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Digest, X-Count\r\n\r\n");
        wire.send("5\r\nhello\r\n6\r\n world\r\n0\r\nDigest: abc=\r\nX-Count: 2\r\n\r\n");
        After::Keep
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for _ in 0..2 {
        wire.send(request(
            "POST",
            "/",
            "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\nTE: trailers\r\n",
            "",
        ));
        wire.send("3\r\nabc\r\n10;name=value\r\n0123456789abcdef\r\n0\r\nX-Sum: 19\r\n\r\n");
        let answer = wire.answer("POST");
        assert_eq!(answer.text(), "hello world");
        let found: Vec<(String, &str)> = answer
            .trailers
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
            .collect();
        assert_eq!(found, [("digest".to_owned(), "abc="), ("x-count".to_owned(), "2")]);
        let (head, body, fields) = trailers.recv_timeout(LIMIT).unwrap();
        assert_eq!(body, b"abc0123456789abcdef", "{head:?}");
        assert_eq!(fields.len(), 1, "{head:?}");
        assert_eq!(
            (fields[0].0.to_ascii_lowercase().as_str(), fields[0].1.as_str()),
            ("x-sum", "19")
        );
    }
}

fn an_answer_that_ends_with_its_connection_is_delivered_whole(with: fn(Service) -> Bed) {
    let bed = with(Service::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
        wire.send(vec![b'z'; 300_000]);
        After::Close
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for _ in 0..2 {
        wire.send(request("GET", "/", "", ""));
        let answer = wire.answer("GET");
        assert_eq!(answer.body.len(), 300_000);
        assert_eq!(answer.head.field("transfer-encoding"), Some("chunked"), "{:?}", answer.head);
    }
}

fn an_answer_that_is_cut_short_is_not_passed_off_as_whole(with: fn(Service) -> Bed) {
    for announced in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let bed = with(Service::start(move |_, wire| {
            wire.send(format!("HTTP/1.1 200 OK\r\n{announced}\r\n\r\n3e8\r\nshort"));
            After::Close
        }));
        let mut wire = Wire::to(bed.bastion.http);
        wire.send(request("GET", "/", "", ""));
        // A connection that ends without an answer is as honest as one that ends within it.
        let Some(head) = wire.head() else { continue };
        if head.status() == 200 {
            assert_eq!(wire.body(&head, false), None, "a cut answer looks whole ({announced})");
        } else {
            assert_eq!(head.status(), 502, "{head:?}");
            assert_eq!(
                head.field("x-ephemwork-served-by"),
                Some("edge; reason=service-closed"),
                "{head:?}"
            );
        }
    }
}

fn a_length_beside_chunks_does_not_count(with: fn(Service) -> Bed) {
    let bed = with(Service::replying(|_, _| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nseven b\r\n0\r\n\r\n".to_vec()
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for _ in 0..2 {
        wire.send(request("GET", "/", "", ""));
        let answer = wire.answer("GET");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "seven b"), "{answer:?}");
        assert_eq!(answer.head.field("content-length"), None, "{answer:?}");
    }
}

fn a_service_that_does_not_speak_http_is_a_502(with: fn(Service) -> Bed) {
    for nonsense in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", ""] {
        let bed = with(Service::start(move |_, wire| {
            wire.send(nonsense);
            After::Close
        }));
        let answer = fetch(bed.bastion.http, request("GET", "/", "", ""));
        assert_eq!(answer.status(), 502, "{nonsense:?}: {answer:?}");
        assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
    }
}

fn pipelined_requests_are_answered_in_order(with: fn(Service) -> Bed) {
    const COUNT: usize = 20;
    let bed = with(Service::replying(|head, body| {
        ok(&format!("{} {}", head.target(), String::from_utf8_lossy(body)))
    }));
    let mut wire = Wire::to(bed.bastion.http);
    let all: String = (0..COUNT)
        .map(|number| {
            if number % 3 == 0 {
                request("POST", &format!("/{number}"), "Content-Length: 4\r\n", "GET ")
            } else {
                request("GET", &format!("/{number}"), "", "")
            }
        })
        .collect();
    wire.send(all);
    for number in 0..COUNT {
        let body = if number % 3 == 0 { "GET " } else { "" };
        assert_eq!(wire.answer("GET").text(), format!("/{number} {body}"));
    }
    bed.service.completed(COUNT);
}

/// What a client sent before its mistake is answered, also when both came in one packet.
fn a_request_before_a_wrong_one_is_answered(with: fn(Service) -> Bed) {
    let bed = with(Service::saying("yes"));
    let mut wire = Wire::to(bed.bastion.http);
    let wrong = "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    wire.send(request("GET", "/", "", "") + wrong);
    assert_eq!(wire.answer("GET").text(), "yes");
    assert_eq!(wire.answer("GET").status(), 400);
    bed.service.completed(1);
}

fn connections_are_kept_and_closed_as_the_client_says(with: fn(Service) -> Bed) {
    let bed = with(Service::saying("yes"));
    let mut wire = Wire::to(bed.bastion.http);
    for _ in 0..50 {
        wire.send(request("GET", "/", "", ""));
        assert_eq!(wire.answer("GET").text(), "yes");
    }
    wire.send(request("GET", "/", "Connection: close\r\n", ""));
    let last = wire.answer("GET");
    assert_eq!(last.head.field("connection"), Some("close"), "{last:?}");
    assert_eq!(wire.rest(), b"");
    bed.service.completed(51);
    assert!(
        bed.service.connections() <= 5,
        "{} connections to the service",
        bed.service.connections()
    );

    let mut old = Wire::to(bed.bastion.http);
    old.send("GET / HTTP/1.0\r\nX-Ephemwork: alice:api\r\n\r\n");
    let answer = old.answer("GET");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "yes"));
    assert_eq!(answer.head.field("transfer-encoding"), None, "{answer:?}");
    assert_eq!(old.rest(), b"");
}

fn a_service_may_close_its_idle_connections(with: fn(Service) -> Bed) {
    // The pooled connection dies between two requests; the next one must not pay for it.
    let bed = with(Service::start(|_, wire| {
        wire.send(ok("once"));
        After::Close
    }));
    let mut wire = Wire::to(bed.bastion.http);
    for number in 0..20 {
        wire.send(request("GET", &format!("/{number}"), "", ""));
        let answer = wire.answer("GET");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "once"), "request {number}");
    }
    assert_eq!(bed.service.heads().len(), 20);
}

fn an_answer_may_come_before_the_body_is_read(with: fn(Service) -> Bed) {
    let bed = with(Service::start(|_, wire| {
        wire.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        After::Close
    }));
    let mut wire = Wire::to(bed.bastion.http);
    wire.send(request("POST", "/", "Content-Length: 100000000\r\n", "the first bytes"));
    let answer = wire.answer("POST");
    assert_eq!((answer.status(), answer.text().as_str()), (413, "big"));
}

#[test]
fn a_slow_head_ends_with_408() {
    let bastion = Bastion::start();
    let mut slow: Vec<Wire> = (0..5).map(|_| Wire::to(bastion.http)).collect();
    for wire in &mut slow {
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    }
    for wire in &mut slow {
        let answer = wire.answer("GET");
        assert_eq!((answer.status(), answer.served_by()), (408, "edge; reason=head-too-slow"));
        assert!(wire.rest().is_empty());
    }
    // A timer that had rung was asked again, and the daemon was gone.
    let health = fetch(bastion.http, "GET /ephemwork-health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(health.status(), 200);
}
