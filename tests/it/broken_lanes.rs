//! Requests whose lane breaks before their answer begins: what can be sent again is, the rest is told at once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};

use crate::support::{
    Bastion, LIMIT, Service, Wire, Workshop, heavy,
    relay::Relay,
    service::{After, ok},
    until,
};

/// A service that tells of each request for `/first` and answers those from the second on; everything else it answers at once.
fn late() -> (Service, Receiver<()>) {
    let (asked, ask) = mpsc::channel();
    let asked = Mutex::new(asked);
    let count = AtomicUsize::new(0);
    let service = Service::start(move |head, wire| {
        if wire.body(head, false).is_none() {
            return After::Close;
        }
        if head.target() == "/first" {
            let first = count.fetch_add(1, Ordering::SeqCst) == 0;
            asked.lock().unwrap().send(()).unwrap();
            if first {
                wire.rest();
                return After::Close;
            }
        }
        wire.try_send(&ok("answered")).map_or(After::Close, |()| After::Keep)
    });
    (service, ask)
}

fn ask(bastion: &Bastion, method: &str, path: &str, body: &str) -> Wire {
    let mut wire = Wire::to(bastion.http);
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    wire.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n{length}\r\n{body}"
    ));
    wire
}

/// The laptop dies with a request in its service, and comes back.
#[test]
fn what_is_idempotent_and_has_no_body_is_sent_again() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let (service, asked) = late();
        let bastion = Bastion::local(&["--hold", "30"]);
        let mut up = bastion.up("alice", &[("api", service.port)]);
        let mut wire = ask(&bastion, method, "/first", "");
        asked.recv_timeout(LIMIT).unwrap();
        up.process.kill();
        let _back = bastion.up("alice", &[("api", service.port)]);
        let answer = wire.answer(method);
        assert_eq!(
            (answer.status(), answer.served_by()),
            (200, "alice:api"),
            "{method}: {answer:?}"
        );
        let seen = service.heads().iter().filter(|head| head.target() == "/first").count();
        assert_eq!(seen, 2, "{method}");
    }
}

/// The same over a stock client.
#[test]
fn over_openssh_too() {
    let (service, asked) = late();
    let bastion = Bastion::with(&["--hold", "30"]);
    let mut ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wire = ask(&bastion, "GET", "/first", "");
    asked.recv_timeout(LIMIT).unwrap();
    ssh.kill();
    let _back = bastion.laptop("alice", &[("api", service.port)]);
    let answer = wire.answer("GET");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "answered"), "{answer:?}");
}

#[test]
fn everything_else_is_told_at_once() {
    let cases = [
        ("POST", "body"),
        ("POST", ""),
        ("PUT", "body"),
        ("DELETE", ""),
        ("PATCH", "x"),
        ("GET", "body"),
    ];
    for (method, body) in cases {
        let (service, asked) = late();
        let bastion = Bastion::local(&["--hold", "30"]);
        let mut up = bastion.up("alice", &[("api", service.port)]);
        let mut wire = ask(&bastion, method, "/first", body);
        asked.recv_timeout(LIMIT).unwrap();
        up.process.kill();
        let begun = Instant::now();
        let answer = wire.answer(method);
        assert_eq!(
            (answer.status(), answer.served_by()),
            (502, "edge; reason=lane-lost"),
            "{method} {body:?}: {answer:?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(20), "{method}: {:?}", begun.elapsed());
        let _back = bastion.up("alice", &[("api", service.port)]);
        let seen = service.heads().iter().filter(|head| head.target() == "/first").count();
        assert_eq!(seen, 1, "{method} {body:?} was sent again");
    }
}

/// A laptop that does not come back within the hold.
#[test]
fn a_request_that_was_sent_waits_no_longer_than_others() {
    let (service, asked) = late();
    let bastion = Bastion::local(&["--hold", "1"]);
    let mut up = bastion.up("alice", &[("api", service.port)]);
    let mut wire = ask(&bastion, "GET", "/first", "");
    asked.recv_timeout(LIMIT).unwrap();
    up.process.kill();
    let answer = wire.answer("GET");
    assert_eq!(
        (answer.status(), answer.served_by()),
        (503, "edge; reason=reconnecting"),
        "{answer:?}"
    );
    assert!(answer.head.field("retry-after").is_some(), "{answer:?}");
}

/// A request that ends its laptop each time does not come back for ever.
#[test]
fn a_request_is_sent_three_times_at_most() {
    let (service, asked) = {
        let (asked, ask) = mpsc::channel();
        let asked = Mutex::new(asked);
        let service = Service::start(move |_, wire| {
            asked.lock().unwrap().send(()).unwrap();
            wire.rest();
            After::Close
        });
        (service, ask)
    };
    let bastion = Bastion::local(&["--hold", "60"]);
    let mut wire = None;
    for _ in 0..3 {
        let mut up = bastion.up("alice", &[("api", service.port)]);
        wire.get_or_insert_with(|| ask(&bastion, "GET", "/", ""));
        asked.recv_timeout(LIMIT).unwrap();
        up.process.kill();
    }
    let answer = wire.unwrap().answer("GET");
    assert_eq!(
        (answer.status(), answer.served_by()),
        (502, "edge; reason=lane-lost"),
        "{answer:?}"
    );
}

/// Lanes are cut again and again under requests that come all the time: none of those that can be sent again is lost, and none of
/// the others is answered twice or hangs.
#[test]
fn cut_lanes_cost_no_request_that_can_be_sent_again() {
    let _heavy = heavy();
    let service = Service::saying("yes");
    let bastion = Bastion::local(&["--hold", "30"]);
    let relay = Relay::before(&bastion);
    let workshop = Workshop::beside(&bastion, "alice", "");
    workshop.write("lanes = 1", &format!("[service.api]\nport = {}\n", service.port));
    let _up = workshop.up(&["api"], &["--no-run"]);
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let edge = bastion.http;
    let asking: Vec<_> = ["GET", "GET", "POST", "POST"]
        .into_iter()
        .map(|method| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let mut wire = Wire::to(edge);
                    let body = if method == "POST" {
                        "Content-Length: 4\r\n\r\nbody"
                    } else {
                        "\r\n"
                    };
                    wire.send(format!("{method} / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n{body}"));
                    let answer = wire.answer(method);
                    answers.fetch_add(1, Ordering::SeqCst);
                    seen.push((answer.status(), answer.served_by().to_owned()));
                }
                (method, seen)
            })
        })
        .collect();
    for _ in 0..8 {
        let lanes = relay.lanes();
        lanes.iter().for_each(|&lane| relay.cut(lane));
        // So that none is hit each time.
        let before = answers.load(Ordering::SeqCst);
        until("another lane to carry requests", || {
            let alive = relay.lanes().iter().any(|lane| !lanes.contains(lane));
            (alive && answers.load(Ordering::SeqCst) > before + 40).then_some(())
        });
    }
    stop.store(true, Ordering::SeqCst);
    for one in asking {
        let (method, seen) = one.join().unwrap();
        let wrong: Vec<_> = seen.iter().filter(|(status, _)| *status != 200).collect();
        let allowed = |(status, by): &&&(u16, String)| method == "POST" && *status == 502 && by == "edge; reason=lane-lost";
        assert!(wrong.iter().all(|one| allowed(&one)), "{method}: {wrong:?}");
    }
}
