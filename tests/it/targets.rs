//! Request targets as browsers and command-line clients really send them, and those that nobody can read.

use crate::support::{Bastion, Service, Wire, fetch, service::ok};

/// Target as sent, and as it must arrive.
#[rustfmt::skip] // A table: one target a line.
const TAKEN: &[(&[u8], &str)] = &[
    // The URL standard leaves these as they are in a path or a query, so browsers send them.
    (b"/a|b^[c]\\{d}?e=|^`{f}[g]\\'", "/a|b^[c]\\{d}?e=|^`{f}[g]\\'"),
    (b"/json?filter={\"a\":1}", "/json?filter={%22a%22:1}"),
    // What `curl` and scripts send as it was typed.
    ("/caf\u{e9}?q=\u{e9}\u{20ac}".as_bytes(), "/caf\u{e9}?q=\u{e9}\u{20ac}"),
    (b"/latin/\xe9?q=\xe9\xff", "/latin/%E9?q=%E9%FF"),
    (b"/a<b>`c?d=<e>", "/a%3Cb%3E%60c?d=%3Ce%3E"),
    (b"/a\"b", "/a\"b"),
    (b"/a#fragment", "/a"),
    (b"/a#\xff<", "/a"),
    (b"/100%/%zz", "/100%/%zz"),
    (b"//a//b", "//a//b"),
    (b"http://shop.test/<?\"", "/%3C?%22"),
    (b"http://shop.test", "/"),
];

#[test]
fn odd_targets_pass() {
    let service = Service::replying(|head, _| ok(head.target()));
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    for (sent, arrives) in TAKEN {
        wire.send(
            [
                b"GET ",
                *sent,
                b" HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: alice:api\r\n\r\n",
            ]
            .concat(),
        );
        let answer = wire.answer("GET");
        let shown = String::from_utf8_lossy(sent);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (200, *arrives),
            "{shown}: {answer:?}"
        );
    }
    // Several in one packet, and one that comes in pieces.
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Ephemwork: alice:api\r\n\r\n");
    wire.send([head("/<1>"), head("/2"), head("/<3>?\"")].concat());
    for expected in ["/%3C1%3E", "/2", "/%3C3%3E?%22"] {
        assert_eq!(wire.answer("GET").text(), expected);
    }
    let body = "POST /<4> HTTP/1.1\r\nHost: a\r\nX-Ephemwork: alice:api\r\nContent-Length: 3\r\n\r\n<5>";
    for byte in body.bytes() {
        wire.send([byte]);
    }
    assert_eq!(wire.answer("POST").text(), "/%3C4%3E");
}

/// The HTTP library's own answer to these is a 400 without a word, of which nobody knows whose it is.
#[test]
fn what_is_no_target_is_refused_with_a_reason() {
    let bastion = Bastion::start();
    for (target, status, reason) in [
        ("http://[::1/a", 400, "bad-target"),
        ("http:///a", 400, "bad-target"),
        ("http://h|h/", 400, "bad-target"),
        ("http://h\u{e9}/", 400, "bad-target"),
        ("ftp://h/", 400, "bad-target"),
        ("/a\u{7f}", 400, "bad-request-line"),
        (&format!("/{}", "<".repeat(22_000)), 414, "target-too-long"),
    ] {
        let answer = fetch(bastion.http, format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\n\r\n"));
        assert_eq!(
            (answer.status(), answer.served_by()),
            (status, format!("edge; reason={reason}").as_str()),
            "{:.40}",
            target
        );
    }
}
