//! Nothing is buffered and nobody waits for another: server-sent events, uploads in pieces, slow and stuck clients and services.

use std::{
    io::Write,
    net::TcpStream,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use crate::support::{
    Bastion, LIMIT, Service, Wire, fetch, get, heavy,
    service::{After, ok},
    until,
};

/// How long a small request may take beside stuck ones: far more than it needs, far less than any time limit of the edge.
const PROMPT: Duration = Duration::from_secs(3);

#[test]
fn each_event_arrives_before_the_next_is_made() {
    // The service sends an event only after the client has confirmed the one before on another request: a proxy that holds
    // back a single event stops the exchange for good.
    const EVENTS: usize = 20;
    let (confirm, confirmed) = mpsc::channel::<()>();
    let (confirm, confirmed) = (Mutex::new(confirm), Mutex::new(confirmed));
    let service = Service::start(move |head, wire| {
        if head.target() == "/confirm" {
            confirm.lock().unwrap().send(()).unwrap();
            wire.send(ok("thanks"));
            return After::Keep;
        }
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..EVENTS {
            let event = format!("data: {number}\n\n");
            wire.send(format!("{:x}\r\n{event}\r\n", event.len()));
            if confirmed.lock().unwrap().recv_timeout(LIMIT).is_err() {
                return After::Close;
            }
        }
        wire.send("0\r\n\r\n");
        After::Keep
    });
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut stream = Wire::to(bastion.http);
    stream.send("GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\nX-Ephemwork: alice:api\r\n\r\n");
    let head = stream.head().expect("no head");
    assert_eq!((head.status(), head.field("content-type")), (200, Some("text/event-stream")));
    let mut slowest = Duration::ZERO;
    for number in 0..EVENTS {
        let asked = Instant::now();
        let event = stream.chunk().expect("the stream is cut short");
        assert_eq!(String::from_utf8_lossy(&event), format!("data: {number}\n\n"));
        // The first one waited for the request; every later one was made when the confirmation came.
        if number > 0 {
            slowest = slowest.max(asked.elapsed());
        }
        assert_eq!(get(bastion.http, "alice:api", "/confirm").text(), "thanks");
    }
    assert_eq!(stream.chunk().as_deref(), Some(&b""[..]), "the stream does not end");
    assert!(slowest < Duration::from_millis(200), "an event took {slowest:?}");
}

#[test]
fn a_body_is_passed_on_piece_by_piece() {
    // The other direction: the client sends the next piece only when the service has said that the one before came.
    let service = Service::start(|_, wire| {
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while let Some(piece) = wire.chunk().filter(|piece| !piece.is_empty()) {
            wire.send(format!("{:x}\r\n", piece.len()));
            wire.send(piece);
            wire.send("\r\n");
        }
        wire.trailers();
        wire.send("0\r\n\r\n");
        After::Keep
    });
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send("POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(wire.head().expect("no head").status(), 200);
    for number in 0..30 {
        let piece = format!("piece {number}");
        wire.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        let mut back = Vec::new();
        while back.len() < piece.len() {
            back.extend(wire.chunk().expect("cut short"));
        }
        assert_eq!(String::from_utf8_lossy(&back), piece);
    }
    wire.send("0\r\n\r\n");
    assert_eq!(wire.chunk().as_deref(), Some(&b""[..]));
}

#[test]
fn two_hundred_slow_clients_at_once() {
    slow(200, |bastion, port| bastion.up("alice", &[("api", port)]));
}

#[test]
fn fifty_slow_clients_of_an_openssh_laptop() {
    // It carries 64 requests at once, and says so with 503 beyond.
    slow(50, |bastion, port| bastion.laptop("alice", &[("api", port)]));
}

fn slow<L>(clients: usize, laptop: impl FnOnce(&Bastion, u16) -> L) {
    const PIECES: usize = 8;
    let service = Service::replying(|head, body| ok(&format!("{} {}", head.target(), String::from_utf8_lossy(body))));
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, service.port);
    let _turn = heavy();
    let requests: Vec<Vec<u8>> = (0..clients)
        .map(|number| {
            let body = format!("body of {number:04} ").repeat(20);
            format!(
                "POST /{number} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        })
        .collect();
    let mut wires: Vec<Wire> = requests.iter().map(|_| Wire::to(bastion.http)).collect();
    for piece in 0..PIECES {
        for (wire, request) in wires.iter_mut().zip(&requests) {
            let (from, to) = (request.len() * piece / PIECES, request.len() * (piece + 1) / PIECES);
            wire.send(&request[from..to]);
        }
        let start = Instant::now();
        assert_eq!(get(bastion.http, "alice:api", "/quick").text(), "/quick ");
        assert!(
            start.elapsed() < PROMPT,
            "a quick request took {:?} beside slow ones",
            start.elapsed()
        );
    }
    for (number, wire) in wires.iter_mut().enumerate() {
        let answer = wire.answer("POST");
        let expected = format!("/{number} {}", format!("body of {number:04} ").repeat(20));
        assert_eq!((answer.status(), answer.text()), (200, expected));
    }
}

/// Writes until nothing more is taken for a while: everything between here and the other end is full.
fn stuff(mut stream: &TcpStream) -> usize {
    stream.set_write_timeout(Some(Duration::from_millis(700))).unwrap();
    let piece = [b'x'; 65536];
    let mut sent = 0;
    while let Ok(len) = stream.write(&piece) {
        sent += len;
        assert!(
            sent < 1 << 30,
            "a gigabyte went into a stuck stream: something buffers without limit"
        );
    }
    sent
}

#[test]
fn a_stuck_reader_and_a_stuck_writer_delay_nobody_of_up() {
    stuck(Others::Prompt, |bastion, port| bastion.up("alice", &[("api", port)]));
}

#[test]
fn what_is_stuck_behind_openssh_delays_only_its_own_laptop() {
    // A channel of SSH has no flow control of ours: one that nobody reads stops the others of its connection, until it ends.
    stuck(Others::Wait, |bastion, port| bastion.laptop("alice", &[("api", port)]));
}

/// What becomes of the other requests of the same laptop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Prompt,
    Wait,
}

fn stuck<L>(others: Others, laptop: impl FnOnce(&Bastion, u16) -> L) {
    // `/down` sends without end, and its client does not read; `/up` is sent to without end, and its service does not read.
    let (full, is_full) = mpsc::channel();
    let (full, done) = (Mutex::new(full), Arc::new(Mutex::new(false)));
    let release = Arc::clone(&done);
    let held = release.lock().unwrap();
    let service = Service::start(move |head, wire| match head.target() {
        "/down" => {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
            let piece = vec![b'y'; 1 << 20];
            let mut sent = 0;
            while wire.try_send_within(&piece, Duration::from_millis(700)) {
                sent += piece.len();
            }
            full.lock().unwrap().send(sent).unwrap();
            drop(done.lock());
            After::Close
        }
        "/up" => {
            drop(done.lock());
            After::Close
        }
        _ => {
            wire.send(ok("prompt"));
            After::Keep
        }
    });
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, service.port);
    let _turn = heavy();

    let mut down = Wire::to(bastion.http);
    down.send("GET /down HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(down.head().expect("no head").status(), 200);
    let up = TcpStream::connect(bastion.http).unwrap();
    (&up)
        .write_all(b"POST /up HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: 100000000000\r\n\r\n")
        .unwrap();
    stuff(&up);
    let sent = is_full.recv_timeout(LIMIT).expect("the stuck download never filled up");
    assert!(sent < 1 << 30, "{sent} bytes went into a stuck download");

    let rounds = if others == Others::Prompt { 50 } else { 0 };
    for round in 0..rounds {
        let start = Instant::now();
        assert_eq!(get(bastion.http, "alice:api", "/small").text(), "prompt", "round {round}");
        assert!(start.elapsed() < PROMPT, "round {round} took {:?}", start.elapsed());
    }
    // A second session on another connection is not touched either.
    let other = Service::saying("other");
    let _bob = bastion.laptop("bob", &[("web", other.port)]);
    assert_eq!(get(bastion.http, "bob:web", "/").text(), "other");
    // When the stuck ones go, what they held is given back, and the session still answers. (That the client of an upload has gone
    // is known only when what it sent before is read, so its service has to end, too.)
    drop((down, up, held));
    until("the session to answer again", || {
        (get(bastion.http, "alice:api", "/after").text() == "prompt").then_some(())
    });
    until("the stuck requests to be over", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
}

#[test]
fn a_client_that_goes_away_ends_the_request_at_the_service() {
    let (ended, end) = mpsc::channel();
    let ended = Mutex::new(ended);
    let service = Service::start(move |head, wire| {
        if head.target() != "/forever" {
            wire.send(ok("yes"));
            return After::Keep;
        }
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // The service learns of it when its connection ends.
        wire.rest();
        ended.lock().unwrap().send(()).unwrap();
        After::Close
    });
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let mut wire = Wire::to(bastion.http);
    wire.send("GET /forever HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(wire.head().expect("no head").status(), 200);
    assert_eq!(wire.chunk().as_deref(), Some(&b"hello"[..]));
    drop(wire);
    end.recv_timeout(LIMIT)
        .expect("the service is not told that its client has gone");
    assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
}

#[test]
fn a_thousand_given_up_requests_leave_nothing_behind() {
    let service = Service::replying(|_, _| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n".to_vec();
        bytes.extend(vec![b'a'; 200_000]);
        bytes
    });
    let bastion = Bastion::start();
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    for number in 0..1000 {
        let mut wire = Wire::to(bastion.http);
        wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
        // Some are given up before, some in the middle of the answer.
        if number % 2 == 0 {
            wire.some();
        }
    }
    let answer = fetch(bastion.http, "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!((answer.status(), answer.body.len()), (200, 200_000));
    until("no request to be in flight", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
}

/// A page that is closed with all its requests open must not cost the laptop its connection: h2's own limit for requests that are
/// given up before they are looked at is made for strangers.
#[test]
fn two_thousand_requests_given_up_in_bursts_leave_the_lane_alone() {
    let service = Service::saying("yes");
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let _turn = heavy();
    let lane = || bastion.session("alice:api").map(|session| session["lanes"][0]["id"].clone());
    let before = lane();
    assert!(before.is_some());
    for _ in 0..10 {
        let wires: Vec<Wire> = (0..200)
            .map(|_| {
                let mut wire = Wire::to(bastion.http);
                wire.send("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
                wire
            })
            .collect();
        drop(wires);
    }
    until("no request to be in flight", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
    let answer = fetch(bastion.http, "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    assert_eq!(answer.text(), "yes");
    assert_eq!(lane(), before, "the connection was made anew");
}
