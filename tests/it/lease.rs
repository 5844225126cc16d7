//! A session without a lane: requests are held, then told when to come again, and the lease ends.

use std::time::{Duration, Instant};

use crate::support::{Bastion, Service, Wire, get, until};

#[test]
fn a_held_request_is_answered_when_the_laptop_returns() {
    let bastion = Bastion::with(&["--lease", "60", "--hold", "30"]);
    let service = Service::saying("back");
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    ssh.kill();
    bastion.wait_state("alice:api", "leased");
    let mut held: Vec<Wire> = (0..10).map(|_| Wire::to(bastion.http)).collect();
    for wire in &mut held {
        wire.send("POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: 4\r\n\r\nbody");
    }
    until("the requests to be held", || {
        let metrics = bastion.admin("GET", "/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.contains("held") && !line.starts_with('#'))?
            .to_owned();
        line.ends_with(" 10").then_some(())
    });
    assert_eq!(service.complete(), 0);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    for wire in &mut held {
        let answer = wire.answer("POST");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "back"), "{answer:?}");
    }
    assert_eq!(service.complete(), 10);
}

#[test]
fn after_the_hold_503_says_when_to_come_again() {
    let bastion = Bastion::with(&["--lease", "60", "--hold", "1"]);
    let service = Service::saying("yes");
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    ssh.kill();
    bastion.wait_state("alice:api", "leased");
    let start = Instant::now();
    let answer = get(bastion.http, "alice:api", "/");
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "held for {:?} only",
        start.elapsed()
    );
    assert_eq!(answer.status(), 503, "{answer:?}");
    let seconds: u64 = answer.head.field("retry-after").expect("no Retry-After").parse().unwrap();
    assert!((1..=60).contains(&seconds), "{answer:?}");
    assert!(answer.served_by().starts_with("edge; reason="), "{answer:?}");
    assert!(answer.text().contains("alice:api"), "{answer:?}");
}

/// A bastion that takes another's place knows no tag, and that one's laptops are on their way.
#[test]
fn a_daemon_without_sessions_holds_what_nobody_has_claimed_yet() {
    let bastion = Bastion::with(&["--settle", "300", "--hold", "30"]);
    let service = Service::saying("there");
    let mut held: Vec<Wire> = (0..10).map(|_| Wire::to(bastion.http)).collect();
    for wire in &mut held {
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    }
    until("the requests to be held", || {
        let metrics = bastion.admin("GET", "/metrics").text();
        metrics.lines().any(|line| line == "ephemwork_held_requests 10").then_some(())
    });
    // Another's coming is no reason to give up.
    let _bob = bastion.laptop("bob", &[("api", service.port)]);
    let _alice = bastion.laptop("alice", &[("api", service.port)]);
    for wire in &mut held {
        let answer = wire.answer("GET");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "there"), "{answer:?}");
    }
}

/// While it settles the tag may still come; then it is unknown, and who waits is told so.
#[test]
fn what_nobody_claims_is_503_and_then_404() {
    let bastion = Bastion::with(&["--settle", "4", "--hold", "1"]);
    let answer = get(bastion.http, "alice:api", "/");
    assert_eq!(answer.status(), 503, "{answer:?}");
    let seconds: u64 = answer.head.field("retry-after").expect("no Retry-After").parse().unwrap();
    assert!((1..=4).contains(&seconds), "{answer:?}");
    let bastion = Bastion::with(&["--settle", "1", "--hold", "30"]);
    let begun = Instant::now();
    let answer = get(bastion.http, "alice:api", "/");
    assert_eq!((answer.status(), answer.served_by()), (404, "edge; reason=unknown-tag"));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 404);
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

/// Sessions that it knows are leased, so nobody comes who is not known.
#[test]
fn a_daemon_with_sessions_does_not_settle() {
    let mut bastion = Bastion::lasting(&["--settle", "300", "--hold", "30"]);
    let service = Service::saying("yes");
    drop(bastion.laptop("alice", &[("api", service.port)]));
    bastion.process.kill();
    bastion.restart();
    assert_eq!(get(bastion.http, "bob:api", "/").status(), 404);
}

#[test]
fn the_lease_ends_and_the_tag_is_unknown() {
    let bastion = Bastion::with(&["--lease", "1", "--hold", "10"]);
    let service = Service::saying("yes");
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    ssh.kill();
    bastion.wait_state("alice:api", "leased");
    // A request that is held when the lease ends is told so at once and not at the end of its hold.
    let start = Instant::now();
    let answer = get(bastion.http, "alice:api", "/");
    assert!(matches!(answer.status(), 404 | 503), "{answer:?}");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    until("the session to be forgotten", || {
        bastion.session("alice:api").is_none().then_some(())
    });
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 404);
}

#[test]
fn the_admin_may_release_a_tag() {
    let bastion = Bastion::start();
    let service = Service::saying("yes");
    let _ssh = bastion.laptop("alice", &[("api", service.port), ("web", service.port)]);
    let mut wire = Wire::to_file(&bastion.path("state/control.sock")).unwrap();
    let body = "{\"service\":\"alice:api\"}";
    wire.send(format!(
        "POST /v1/release HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let answer = wire.answer("POST");
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(get(bastion.http, "alice:api", "/").status(), 404);
    assert_eq!(get(bastion.http, "alice:web", "/").status(), 200);
}
