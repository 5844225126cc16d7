//! What the edge answers itself: no tag, a bad tag, an unknown tag, health; as text and as JSON.

use crate::support::{Answer, Bastion, Service, fetch, get};

#[track_caller]
fn check(answer: &Answer, status: u16, reason: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.served_by(), format!("edge; reason={reason}"), "{answer:?}");
    let text = answer.text();
    assert!(text.trim().len() > 10, "a sentence for a person is missing: {answer:?}");
}

#[test]
fn the_edge_says_why_it_does_not_pass_a_request_on() {
    let bastion = Bastion::start();
    let ask = |fields: &str| {
        fetch(
            bastion.http,
            format!("GET /a?b=c HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"),
        )
    };

    check(&ask(""), 404, "no-tag");
    let unknown = ask("X-Ephemwork: alice:api\r\n");
    check(&unknown, 404, "unknown-tag");
    assert!(unknown.text().contains("alice:api"), "{unknown:?}");

    for bad in [
        "api",
        ":",
        "alice:",
        ":api",
        "Alice:api",
        "alice:a/b",
        "alice:api:x",
        "alice:ap i",
        "",
    ] {
        check(&ask(&format!("X-Ephemwork: {bad}\r\n")), 400, "bad-tag");
    }
    check(&ask("X-Ephemwork: alice:api\r\nX-Ephemwork: bob:api\r\n"), 400, "bad-tag");
    check(&ask("X-Ephemwork: alice:api\r\nx-ephemwork: bob:api\r\n"), 400, "bad-tag");
    // The same value twice means one thing only.
    check(
        &ask("X-Ephemwork: alice:api\r\nX-EPHEMWORK: alice:api\r\n"),
        404,
        "unknown-tag",
    );
}

#[test]
fn every_own_answer_is_json_for_those_who_accept_it() {
    let bastion = Bastion::start();
    let ask = |accept: &str, tag: &str| {
        fetch(
            bastion.http,
            format!("GET / HTTP/1.1\r\nHost: shop.test\r\nAccept: {accept}\r\n{tag}\r\n"),
        )
    };
    let json = |answer: &Answer| -> serde_json::Value {
        assert_eq!(answer.head.field("content-type"), Some("application/json"), "{answer:?}");
        serde_json::from_slice(&answer.body).unwrap_or_else(|why| panic!("{why}: {answer:?}"))
    };
    for (tag, status) in [
        ("", 404),
        ("X-Ephemwork: alice:api\r\n", 404),
        ("X-Ephemwork: nonsense\r\n", 400),
    ] {
        let answer = ask("application/json", tag);
        assert_eq!(answer.status(), status, "{answer:?}");
        let object = json(&answer);
        assert!(
            object["error"]["what"].as_str().is_some_and(|what| what.len() > 10),
            "{object}"
        );
        assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
    }
    json(&ask("text/html;q=0.5, application/json;q=0.9", ""));
    for text in ["text/plain", "*/*", "text/html"] {
        let answer = ask(text, "");
        let kind = answer.head.field("content-type").unwrap_or_default();
        assert!(kind.starts_with("text/plain"), "{answer:?}");
    }
}

#[test]
fn health_answers_at_any_time_and_is_never_passed_on() {
    let bastion = Bastion::start();
    let service = Service::saying("mine");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let plain = fetch(bastion.http, "GET /ephemwork-health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!((plain.status(), plain.text().trim()), (200, "ok"), "{plain:?}");
    let tagged = get(bastion.http, "alice:api", "/ephemwork-health");
    assert_eq!((tagged.status(), tagged.text().trim()), (200, "ok"), "{tagged:?}");
    // A load balancer may check with HTTP/1.0 and without Host.
    let old = fetch(bastion.http, "GET /ephemwork-health HTTP/1.0\r\n\r\n");
    assert_eq!(old.status(), 200, "{old:?}");
    assert_eq!(service.complete(), 0);
}

#[test]
fn a_service_that_refuses_is_a_502_that_says_so() {
    let bastion = Bastion::start();
    let service = Service::saying("mine");
    let port = service.port;
    let _ssh = bastion.laptop("alice", &[("api", port)]);
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 200);
    drop(service);
    let answer = get(bastion.http, "alice:api", "/");
    assert_eq!(answer.status(), 502, "{answer:?}");
    assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
    assert!(answer.text().contains("alice:api"), "{answer:?}");
}

#[test]
fn the_answer_names_the_tag_that_served_it() {
    let bastion = Bastion::start();
    let service =
        Service::replying(|_, _| b"HTTP/1.1 500 Oops\r\nX-Ephemwork-Served-By: forged\r\nContent-Length: 4\r\n\r\noops".to_vec());
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let answer = get(bastion.http, "alice:api", "/");
    assert_eq!((answer.status(), answer.text().as_str()), (500, "oops"));
    assert_eq!(answer.served_by(), "alice:api");
}
