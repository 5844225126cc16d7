//! Clients that end their side of the connection and wait for the answer, and clients that are really gone.

use std::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use crate::support::{
    Bastion, LIMIT, Service, Wire, get,
    service::{After, ok},
    until,
};

/// `/slow...` answers when `gate` says so; `/stream` sends three pieces, each when `gate` says so; `/large` sends 8 MB.
fn service() -> (Service, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let service = Service::start(move |head, wire| {
        let Some((body, _)) = wire.body(head, false) else {
            return After::Close;
        };
        let wait = || gate.lock().unwrap().recv_timeout(LIMIT).unwrap();
        match head.target() {
            "/stream" => {
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in ["one", "two", "six"] {
                    wait();
                    wire.send(format!("3\r\n{piece}\r\n"));
                }
                wire.send("0\r\n\r\n");
            }
            "/large" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n");
                wire.send(vec![b'l'; 8_000_000]);
            }
            target => {
                if target.starts_with("/slow") {
                    wait();
                }
                wire.send(ok(&format!("{target} {}", body.len())));
            }
        }
        After::Keep
    });
    (service, open)
}

#[test]
fn through_openssh() {
    all(|bastion, port| bastion.laptop("alice", &[("api", port)]));
}

#[test]
fn through_up() {
    all(|bastion, port| bastion.up("alice", &[("api", port)]));
}

fn all<L>(laptop: impl FnOnce(&Bastion, u16) -> L) {
    let (service, open) = service();
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, service.port);
    let send = |requests: &str| {
        let mut wire = Wire::to(bastion.http);
        wire.send(requests);
        wire.finish_sending();
        wire
    };
    let head = |method: &str, target: &str, fields: &str| {
        format!("{method} {target} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n{fields}\r\n")
    };
    // The edge has seen the end of the client's side long before the service answers.
    let arrived = |count: usize| {
        until(&format!("request {count} to arrive"), || {
            (service.heads().len() == count).then_some(())
        })
    };

    for (number, request) in [
        head("GET", "/slow", ""),
        head("GET", "/slow", "Connection: close\r\n"),
        head("POST", "/slow", "Content-Length: 3\r\n") + "abc",
        head("POST", "/slow", "Transfer-Encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n",
        head("GET", "/slow", "").replace("HTTP/1.1", "HTTP/1.0"),
        head("GET", "/slow", "Upgrade: h2c\r\nConnection: upgrade\r\n"),
        head("GET", "/slow", "Upgrade: other\r\nConnection: upgrade\r\n"),
    ]
    .iter()
    .enumerate()
    {
        let mut wire = send(request);
        arrived(number + 1);
        open.send(()).unwrap();
        let answer = wire.answer("GET");
        let body = if request.contains("POST") { 3 } else { 0 };
        assert_eq!((answer.status(), answer.text()), (200, format!("/slow {body}")), "{request}");
        assert_eq!(wire.rest(), b"");
    }

    let mut wire = send(&head("GET", "/stream", ""));
    assert_eq!(wire.head().expect("no head").status(), 200);
    for piece in ["one", "two", "six"] {
        open.send(()).unwrap();
        assert_eq!(wire.chunk().as_deref(), Some(piece.as_bytes()));
    }
    assert_eq!(wire.chunk().as_deref(), Some(&b""[..]));

    // Nothing of a long answer is lost, although its end is still on the way when the edge has all of it.
    let mut wire = send(&head("GET", "/large", ""));
    let answer = wire.answer("GET");
    assert_eq!((answer.status(), answer.body.len()), (200, 8_000_000));

    // All of several requests.
    let mut wire = send(&[head("GET", "/1", ""), head("GET", "/2", ""), head("GET", "/large", "")].concat());
    assert_eq!(wire.answer("GET").text(), "/1 0");
    assert_eq!(wire.answer("GET").text(), "/2 0");
    assert_eq!(wire.answer("GET").body.len(), 8_000_000);
    assert_eq!(wire.rest(), b"");

    let mut wire = send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(wire.answer("GET").served_by(), "edge; reason=no-tag");
    assert_eq!(get(bastion.http, "alice:api", "/after").text(), "/after 0");
}

/// A body that ends too early was a 502 that blamed the connection to the laptop.
#[test]
fn a_body_that_is_cut_short_is_400() {
    let (service, _open) = service();
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    for rest in [
        "Content-Length: 30\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        let mut wire = Wire::to(bastion.http);
        wire.send(format!("POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n{rest}"));
        wire.finish_sending();
        let answer = wire.answer("POST");
        assert_eq!(
            (answer.status(), answer.served_by()),
            (400, "edge; reason=body-cut-short"),
            "{rest:?}"
        );
    }
    assert_eq!(service.complete(), 0);
}

/// The first byte of an answer tells that nobody is there any more, and the service is told.
#[test]
fn a_client_that_is_gone_is_noticed_when_the_answer_goes_on() {
    let (ended, end) = mpsc::channel();
    let ended = Mutex::new(ended);
    let (start, started) = mpsc::channel::<()>();
    let started = Mutex::new(started);
    let service = Service::start(move |_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        started.lock().unwrap().recv_timeout(LIMIT).unwrap();
        let begun = Instant::now();
        while wire.try_send(b"5\r\nhello\r\n").is_ok() {
            assert!(begun.elapsed() < LIMIT, "the service sends on for nobody");
        }
        ended.lock().unwrap().send(()).unwrap();
        After::Close
    });
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(wire.head().expect("no head").status(), 200);
    assert_eq!(wire.chunk().as_deref(), Some(&b"hello"[..]));
    drop(wire);
    start.send(()).unwrap();
    end.recv_timeout(LIMIT)
        .expect("the service is not told that its client has gone");
    until("no request to be in flight", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
}
