//! Which bytes pass, in whatever pieces they come.

use super::*;

/// Feeds a text in pieces of `size`, as a slow client would; answers what passed and the reason of a refusal.
fn run(text: &[u8], size: usize) -> (usize, Option<&'static str>) {
    let mut guard = Guard::new();
    let (mut held, mut passed) = (Vec::new(), 0);
    for piece in text.chunks(size) {
        held.extend_from_slice(piece);
        loop {
            match guard.check(&held) {
                Verdict::Pass(count) => {
                    passed += count;
                    held.drain(..count);
                }
                Verdict::Encode { head, from, to } => {
                    assert!(from < to && to < head);
                    passed += head;
                    held.drain(..head);
                }
                Verdict::More => break,
                Verdict::Refuse(refusal) => return (passed, Some(refusal.reason)),
            }
        }
    }
    (passed, None)
}

#[test]
fn framing() {
    let check = |text: &str, passed: usize, reason: Option<&str>| {
        for size in [1, 2, 3, 7, text.len()] {
            assert_eq!(run(text.as_bytes(), size), (passed, reason), "{text:?} in pieces of {size}");
        }
    };
    let whole = |text: &str| check(text, text.len(), None);
    let refused = |head: &str, reason| check(head, 0, Some(reason));

    whole("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    whole("GET / HTTP/1.0\r\n\r\n");
    whole("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost:\ta \r\n\r\n");
    whole("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    whole(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    whole("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\x00\x01\r\n\r\n");
    whole("GET / HTTP/1.1\r\nHost: a\r\nX: caf\u{e9}\r\n\r\n");

    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "two-lengths",
    );
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n",
        "two-lengths",
    );
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\n", "bad-length");
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", "bad-length");
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "bad-length",
    );
    refused("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", "bad-length");
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "length-and-encoding",
    );
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        "length-and-encoding",
    );
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "bad-encoding",
    );
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "bad-encoding",
    );
    refused(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "two-encodings",
    );
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "bad-encoding");
    refused("GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", "folded-header");
    refused("GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n", "bad-header");
    refused("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", "bad-header");
    refused("GET / HTTP/1.1\r\nHost: a\r\nAb\r\n\r\n", "bad-header");
    refused("GET / HTTP/1.1\r\nHost: a\r\nA: b\0c\r\n\r\n", "bad-header");
    refused("GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", "bare-line-end");
    refused("GET / HTTP/1.1\nHost: a\n\n", "bare-line-end");
    refused("GET / HTTP/1.1\r\nHost: a\r\nA: b\rc: d\r\n\r\n", "bare-line-end");
    refused("GET / HTTP/1.1\r\n\r\n", "no-host");
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two-hosts");
    refused("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line");
    refused("GET /\r\nHost: a\r\n\r\n", "bad-request-line");
    refused("GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line");
    refused("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "bad-request-line");
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", "bad-target");
    refused("GET a.html HTTP/1.1\r\nHost: a\r\n\r\n", "bad-target");
    refused("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "no-connect");
    refused("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "no-connect");
    refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad-host");
    refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad-host");
    refused("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad-host");
    refused("\x16\x03\x01\x02", "tls");
    refused("\0\r\n\r\n", "bad-request-line");
    whole("GET / HTTP/1.1\r\nHost:\r\n\r\n");
    whole("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n");
    whole("GET /<?\" HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    // What is not upgraded stays checked.
    let offer = "Host: a\r\nConnection: upgrade\r\nUpgrade";
    let behind = |head: &str| check(&format!("{head}\0"), head.len(), Some("bad-request-line"));
    behind(&format!("GET / HTTP/1.1\r\n{offer}: h2c\r\n\r\n"));
    behind(&format!("POST / HTTP/1.1\r\n{offer}: websocket\r\n\r\n"));
    behind(&format!(
        "GET / HTTP/1.1\r\nContent-Length: 3\r\n{offer}: websocket\r\n\r\nabc"
    ));
    whole("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    whole("GET HTTP://a/b HTTP/1.1\r\nHost: a\r\n\r\n");
    refused("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "bad-version");

    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunks = |body: &str, passed: usize, reason| check(&format!("{head}{body}"), head.len() + passed, Some(reason));
    chunks("x\r\n", 0, "bad-chunk");
    chunks("5\nhello\r\n", 0, "bad-chunk");
    chunks("5 \r\nhello\r\n", 0, "bad-chunk");
    chunks("-5\r\nhello\r\n", 0, "bad-chunk");
    chunks("0x5\r\nhello\r\n", 0, "bad-chunk");
    chunks("11111111111111111\r\n", 0, "bad-chunk");
    chunks("5;a=\rb\r\nhello\r\n", 0, "bad-chunk");
    chunks("5\r\nhelloX\r\n", 8, "bad-chunk");
    chunks("5\r\nhello\n", 8, "bad-chunk");
    chunks("0\r\nA: b\n\r\n", 3, "bad-trailer");
    chunks("0\r\n A: b\r\n\r\n", 3, "folded-header");
    chunks("0\r\nGET / HTTP/1.1\r\n\r\n", 3, "bad-header");
}

#[test]
fn sizes() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(MAX_HEAD));
    assert_eq!(run(head.as_bytes(), 1000), (0, Some("head-too-large")));
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS));
    assert_eq!(run(head.as_bytes(), 1000), (0, Some("head-too-large")));
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(MAX_HEADERS - 1));
    assert_eq!(run(head.as_bytes(), 1000), (head.len(), None));

    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = |body: String, passed: usize, reason: Option<&str>| {
        let text = format!("{head}{body}");
        assert_eq!(run(text.as_bytes(), 1000), (head.len() + passed, reason));
    };
    let trailers = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    let long = |length: usize| format!("0\r\nA: {}\r\n\r\n", "b".repeat(length - "A: \r\n\r\n".len()));
    let extended = |count: usize| format!("{}0\r\n\r\n", format!("1;{}\r\nx\r\n", "e".repeat(999)).repeat(count));
    body(trailers(MAX_TRAILER_COUNT), 5 + 6 * MAX_TRAILER_COUNT, None);
    body(
        trailers(MAX_TRAILER_COUNT + 1),
        3 + 6 * MAX_TRAILER_COUNT,
        Some("trailers-too-large"),
    );
    body(long(MAX_TRAILERS), 3 + MAX_TRAILERS, None);
    body(long(MAX_TRAILERS + 1), MAX_TRAILERS + 2, Some("trailers-too-large"));
    body(extended(16), 16 * 1006 + 5, None);
    body(extended(17), 16 * 1006, Some("bad-chunk"));
}
