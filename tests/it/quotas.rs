//! What one user may have: sessions, connections of a session, bytes a second, and time.

use std::time::{Duration, Instant};

use ephemwork::name::User;
use ephemwork::protocol::Claim;
use ephemwork::tunnel::{ClientKey, Link, Login, Requests, Transport};

use crate::support::cloud::claim;
use crate::support::{
    Bastion, Service, Wire, Workshop, get, library,
    service::{After, ok},
    until,
};

const MB: usize = 1_000_000;

#[test]
fn sessions_of_one_user() {
    let bastion = Bastion::local(&["--user-sessions", "2"]);
    let services = ["api", "web", "third"].map(|name| (name, Service::saying("yes")));
    let table = |(name, service): &(&str, Service)| format!("[service.{name}]\nport = {}\n", service.port);
    let tables: String = services.iter().map(table).collect();
    let workshop = Workshop::beside(&bastion, "alice", &tables);
    let _up = workshop.up(&["api", "web"], &["--no-run"]);
    let refused = workshop.run(&["up", "third", "--no-run"]);
    assert_eq!(refused.code(), 3, "{refused:?}");
    for part in [
        "alice holds 2 sessions already",
        "user_sessions",
        "ephemwork down SERVICE",
        "--user-sessions",
    ] {
        assert!(refused.err.contains(part), "{part:?} is missing in {refused:?}");
    }
    assert!(bastion.session("alice:third").is_none());
    // Another user has as many of their own.
    let port = services[0].1.port;
    let _bob = bastion.laptop("bob", &[("api", port), ("web", port)]);
    // One that is given back makes room.
    assert_eq!(workshop.run(&["down", "web"]).code(), 0);
    until("the release", || bastion.session("alice:web").is_none().then_some(()));
    let _third = workshop.up(&["third"], &["--no-run"]);
    let audit = bastion.admin("GET", "/v1/audit?user=alice").text();
    assert!(audit.contains("alice holds 2 sessions already"), "{audit}");
}

async fn connect(bastion: &Bastion) -> (Link, Requests) {
    let text = std::fs::read_to_string(bastion.path("alice")).unwrap();
    let known = std::fs::read_to_string(bastion.path("known_hosts")).unwrap();
    let login = Login {
        user: User::parse("alice").unwrap(),
        key: ClientKey::from_openssh(&text).unwrap(),
        host_key: known.split_once(' ').unwrap().1.trim().to_owned(),
    };
    Link::connect(&Transport::Tcp(bastion.ssh.to_string()), &login).await.unwrap()
}

#[test]
fn connections_of_one_session() {
    let bastion = Bastion::with(&["--session-lanes", "2"]);
    library::run(async {
        let (first, _one) = connect(&bastion).await;
        let token = Some(first.claim(&claim()).await.unwrap().token);
        let number = |lane: u32| Claim {
            lane,
            token: token.clone(),
            ..claim()
        };
        let (second, _two) = connect(&bastion).await;
        second.claim(&number(1)).await.unwrap();
        let (third, _three) = connect(&bastion).await;
        let error = third.claim(&number(2)).await.unwrap_err();
        assert_eq!(error.what, "alice:api has 2 connections already");
        assert!(error.why.unwrap().contains("session_lanes"));
        assert!(error.hint.unwrap().contains("--session-lanes"));
        // In another's place there is room.
        third.claim(&number(1)).await.unwrap();
        let ended = second.closed().await;
        assert!(ended.contains("over a new connection"), "{ended}");
        first.close().await;
        third.close().await;
    });
}

#[test]
fn a_session_ends_with_its_lifetime_and_may_be_claimed_anew() {
    let bastion = Bastion::local(&["--session-lifetime", "2"]);
    let service = Service::saying("yes");
    let workshop = Workshop::beside(&bastion, "alice", &format!("[service.api]\nport = {}\n", service.port));
    for _ in 0..2 {
        let up = workshop.up(&["api"], &["--no-run"]);
        let ended = up.finish();
        assert_eq!(ended.code(), 6, "{ended:?}");
        let said = ended.out + &ended.err;
        for part in [
            "the bastion ended",
            "2s old",
            "session_lifetime",
            "claim it anew: ephemwork up api",
        ] {
            assert!(said.contains(part), "{part:?} is missing in {said}");
        }
        assert!(bastion.session("alice:api").is_none());
    }
    let audit = bastion.admin("GET", "/v1/audit").text();
    assert_eq!(audit.matches("lifetime-over").count(), 2, "{audit}");
    // A stock client is told too.
    let mut ssh = bastion.laptop("bob", &[("api", service.port)]);
    ssh.wait();
    assert!(
        bastion.process.err().contains("bob:api was released: it is 2s old"),
        "{}",
        bastion.process.err()
    );
}

/// Half a megabyte a second: large bodies take their time in both directions, small ones go between.
#[test]
fn bytes_a_second_of_one_user() {
    const RATE: usize = MB / 2;
    let bastion = Bastion::local(&["--user-rate", "500000"]);
    let service = Service::start(|head, wire| {
        if head.target() == "/large" {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 4 * MB));
            wire.send(vec![b'x'; 4 * MB]);
        } else {
            if let Some(length) = head.field("content-length") {
                wire.take(length.parse().unwrap());
            }
            wire.send(ok("small"));
        }
        After::Keep
    });
    let _up = bastion.up("alice", &[("api", service.port)]);
    let start = Instant::now();
    let large = std::thread::spawn({
        let at = bastion.http;
        move || (get(at, "alice:api", "/large").body.len(), start.elapsed())
    });
    until("the large body to be under way", || {
        let session = bastion.session("alice:api").unwrap();
        (session["lanes"][0]["bytes_out"].as_u64()? > 100_000).then_some(())
    });
    for _ in 0..3 {
        assert_eq!(get(bastion.http, "alice:api", "/").text(), "small");
    }
    assert!(
        !large.is_finished(),
        "small requests waited for the large one, {:?}",
        start.elapsed()
    );
    let (length, took) = large.join().unwrap();
    assert_eq!(length, 4 * MB);
    let least = Duration::from_secs((4 * MB / RATE) as u64) * 9 / 10;
    assert!(took >= least, "4 MB in {took:?}");

    // And up.
    let start = Instant::now();
    let mut wire = Wire::to(bastion.http);
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: {MB}\r\n\r\n"
    ));
    wire.send(vec![b'y'; MB]);
    assert_eq!(wire.answer("POST").text(), "small");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(1500), "1 MB up in {took:?}");
}
