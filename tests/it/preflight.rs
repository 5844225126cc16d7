//! CORS preflights in a browser's shape: they carry the tag's header name and not its value.

use crate::support::{Answer, Bastion, Service, fetch, get, service::ok};

/// What Chrome sends before `fetch(url, {method: "PUT", headers: {"content-type": "application/json", "x-ephemwork": ...}})`.
fn preflight(bastion: &Bastion, host: &str, origin: &str) -> Answer {
    fetch(
        bastion.http,
        format!(
            "OPTIONS /orders/1 HTTP/1.1\r\nHost: {host}\r\nConnection: keep-alive\r\nAccept: */*\r\n\
             Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: content-type,x-ephemwork\r\nOrigin: {origin}\r\n\
             User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n\
             Sec-Fetch-Mode: cors\r\nSec-Fetch-Site: same-site\r\nSec-Fetch-Dest: empty\r\nReferer: {origin}/\r\n\
             Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\n\r\n"
        ),
    )
}

/// A service with CORS rules of its own, recognisable by the max-age.
fn service(age: u32) -> Service {
    Service::replying(move |head, _| {
        if head.method() != "OPTIONS" {
            return ok("yes");
        }
        format!(
            "HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://own.test\r\nAccess-Control-Max-Age: {age}\r\n\r\n"
        )
        .into_bytes()
    })
}

#[test]
fn with_one_possible_session_the_preflight_goes_there() {
    let bastion = Bastion::with(&["--cors-origin", "https://shop.test"]);
    let mine = service(11);
    let _ssh = bastion.laptop("alice", &[("api", mine.port)]);
    let answer = preflight(&bastion, "api.test", "https://shop.test");
    assert_eq!((answer.status(), answer.served_by()), (204, "alice:api"), "{answer:?}");
    assert_eq!(answer.head.field("access-control-max-age"), Some("11"));
    assert_eq!(mine.only_head().start, "OPTIONS /orders/1 HTTP/1.1");
}

#[test]
fn with_two_possible_sessions_the_edge_answers_by_its_list() {
    let bastion = Bastion::with(&["--cors-origin", "https://shop.test", "--cors-origin", "https://admin.test"]);
    let (mine, other) = (service(11), service(22));
    let _alice = bastion.laptop("alice", &[("api", mine.port)]);
    let _bob = bastion.laptop("bob", &[("api", other.port)]);

    for origin in ["https://shop.test", "https://admin.test"] {
        let answer = preflight(&bastion, "api.test", origin);
        assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
        assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
        let field = |name: &str| answer.head.field(name).unwrap_or_default().to_ascii_lowercase();
        assert_eq!(field("access-control-allow-origin"), origin);
        assert!(field("access-control-allow-methods").contains("put"), "{answer:?}");
        let headers = field("access-control-allow-headers");
        assert!(
            headers.contains("content-type") && headers.contains("x-ephemwork"),
            "{answer:?}"
        );
        let age: u32 = field("access-control-max-age").parse().unwrap();
        assert!(age <= 600, "a long max-age would outlive the session: {answer:?}");
        assert!(
            field("vary").contains("origin"),
            "a cache may not give it to another origin: {answer:?}"
        );
    }
    for origin in ["https://evil.test", "http://shop.test", "https://shop.test.evil.test", "null"] {
        let answer = preflight(&bastion, "api.test", origin);
        assert_eq!(answer.status(), 403, "{origin}: {answer:?}");
        assert_eq!(answer.head.field("access-control-allow-origin"), None, "{answer:?}");
        assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
    }
    assert_eq!((mine.complete(), other.complete()), (0, 0));
}

#[test]
fn recent_tagged_requests_of_the_same_page_decide_between_two() {
    let bastion = Bastion::with(&["--cors-origin", "https://shop.test"]);
    let (mine, other) = (service(11), service(22));
    let _alice = bastion.laptop("alice", &[("api", mine.port)]);
    let _bob = bastion.laptop("bob", &[("api", other.port)]);
    let tagged = |tag: &str, host: &str, origin: &str| {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nX-Ephemwork: {tag}\r\n\r\n");
        assert_eq!(fetch(bastion.http, head).served_by(), tag);
    };
    tagged("bob:api", "api.test", "https://shop.test");
    let answer = preflight(&bastion, "api.test", "https://shop.test");
    assert_eq!(answer.served_by(), "bob:api", "{answer:?}");
    assert_eq!(answer.head.field("access-control-max-age"), Some("22"));
    // Another host or another origin is another page.
    assert!(
        preflight(&bastion, "other.test", "https://shop.test")
            .served_by()
            .starts_with("edge;")
    );
    assert_eq!(preflight(&bastion, "api.test", "https://evil.test").status(), 403);
    // Two sessions from one page: again nobody can know.
    tagged("alice:api", "api.test", "https://shop.test");
    let both = preflight(&bastion, "api.test", "https://shop.test");
    assert!(both.served_by().starts_with("edge;"), "{both:?}");
}

#[test]
fn what_is_no_preflight_of_ours_is_not_taken_for_one() {
    let bastion = Bastion::start();
    let mine = service(11);
    let _ssh = bastion.laptop("alice", &[("api", mine.port)]);
    // No x-ephemwork among the asked headers: the page's request will be for staging.
    let foreign = fetch(
        bastion.http,
        "OPTIONS / HTTP/1.1\r\nHost: api.test\r\nOrigin: https://shop.test\r\nAccess-Control-Request-Method: PUT\r\n\
         Access-Control-Request-Headers: content-type,x-ephemwork-not\r\n\r\n",
    );
    assert_eq!(
        (foreign.status(), foreign.served_by()),
        (404, "edge; reason=no-tag"),
        "{foreign:?}"
    );
    let plain = fetch(
        bastion.http,
        "OPTIONS / HTTP/1.1\r\nHost: api.test\r\nX-Ephemwork: alice:api\r\n\r\n",
    );
    assert_eq!(plain.served_by(), "alice:api");
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
}
