//! Heads of answers at the tunnel's limit: passed on whole or refused in words that are true, and nobody else's request is touched.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread;

use crate::support::{
    Bastion, Service, Wire, Workshop,
    frames::{ACK, DATA, END_STREAM, Frames, HEADERS, SETTINGS, frame, head},
    get,
    service::{After, ok},
};

/// The largest head on the tunnel, in bytes as HTTP/2 counts them.
const LIMIT: usize = 192 * 1024;

/// What a head with the one field `x: ...` has besides that value: its status, and the field's name.
const BESIDES: usize = (32 + 7 + 3) + (32 + 1);

/// So large a value that a path asks for: `/196608`.
fn value(path: &str) -> String {
    "v".repeat(path[1..].parse().unwrap())
}

fn is_refused(bastion: SocketAddr, path: &str) {
    let answer = get(bastion, "alice:api", path);
    let told = (answer.status(), answer.served_by().to_owned());
    assert_eq!(
        told,
        (502, "edge; reason=service-malformed".to_owned()),
        "{path}: {}",
        answer.text()
    );
    // The parser of HTTP/1 has words of its own for what is larger than its buffer.
    let text = answer.text();
    assert!(
        text.contains("192 KiB") || text.contains("head is too large"),
        "{path}: {text}"
    );
}

fn is_passed_on(bastion: SocketAddr, path: &str) {
    let answer = get(bastion, "alice:api", path);
    assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
    assert_eq!(answer.head.field("x"), Some(value(path).as_str()), "{path}");
}

/// What was larger than the tunnel's limit, and smaller than what the parser can hold, was told as a connection to the laptop that broke.
#[test]
fn a_head_larger_than_the_tunnel_takes_is_not_a_lost_lane() {
    let service = Service::start(|head, wire| {
        let answer = match head.target() {
            // Then the parser reads in its largest pieces.
            "/large" => ok(&"x".repeat(4 << 20)),
            path => format!("HTTP/1.1 200 OK\r\nx: {}\r\nContent-Length: 0\r\n\r\n", value(path)).into_bytes(),
        };
        // Nobody reads all of a head that is too large.
        wire.try_send(&answer).map_or(After::Close, |()| After::Keep)
    });
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    // Content-Length, too, is a field.
    let room = LIMIT - BESIDES - (32 + 14 + 1);
    let ask = |length: usize, check: fn(SocketAddr, &str)| {
        assert_eq!(get(bastion.http, "alice:api", "/large").body.len(), 4 << 20);
        check(bastion.http, &format!("/{length}"));
    };
    for length in [64 << 10, 128 << 10, room - 1024] {
        ask(length, is_passed_on);
    }
    for length in [room, LIMIT, 200 << 10, 220 << 10, 240 << 10, 300 << 10, 400 << 10] {
        ask(length, is_refused);
    }
    is_passed_on(bastion.http, "/1");
}

/// A service that speaks HTTP/2 on one connection. It tells of the first request, and answers it behind all others, once `go` says so.
fn h2c(listener: &TcpListener, asked: &mpsc::Sender<()>, go: &mpsc::Receiver<()>) {
    // Whoever looks whether it is healthy says nothing.
    let mut frames = loop {
        let mut frames = Frames(Wire::of(listener.accept().unwrap().0));
        if frames.0.take(24) == b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
            break frames;
        }
    };
    frames.send(&frame(SETTINGS, 0, 0, b""));
    while let Some((kind, flags, stream, _)) = frames.next() {
        match kind {
            SETTINGS if flags & ACK == 0 => assert!(frames.send(&frame(SETTINGS, ACK, 0, b""))),
            HEADERS if stream == 1 => asked.send(()).unwrap(),
            HEADERS => {
                let number = stream as usize / 2;
                let value = "v".repeat(LENGTHS[number - 1]);
                assert!(frames.send(&head(stream, END_STREAM, &[(":status", "200"), ("x", &value)])));
                if number == LENGTHS.len() {
                    go.recv().unwrap();
                    frames.send(&head(1, 0, &[(":status", "200")]));
                    frames.send(&frame(DATA, END_STREAM, 1, b"waited"));
                }
            }
            _ => {}
        }
    }
}

/// How large the fields of its answers are, in this order.
const LENGTHS: [usize; 7] = [
    15 << 10,
    17 << 10,
    100 << 10,
    LIMIT - BESIDES - 1,
    LIMIT - BESIDES,
    LIMIT,
    200 << 10,
];

/// More than 16 KiB were refused as a service that closed, and 64 KiB ended the connection, with every other request on it.
#[test]
fn large_heads_of_http2_leave_the_other_requests_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ((asked, ask), (go, wait)) = (mpsc::channel(), mpsc::channel());
    let service = thread::spawn(move || h2c(&listener, &asked, &wait));
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {port}\nprotocol = \"h2c\"\n"));
    let up = workshop.up(&["api"], &["--no-run"]);
    thread::scope(|scope| {
        let edge = workshop.edge;
        let waiting = scope.spawn(move || {
            let mut wire = Wire::to(edge);
            wire.send("POST /wait HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: 0\r\n\r\n");
            wire.answer("POST")
        });
        ask.recv().unwrap();
        for length in LENGTHS {
            let check = if length < LIMIT - BESIDES { is_passed_on } else { is_refused };
            check(edge, &format!("/{length}"));
        }
        go.send(()).unwrap();
        assert_eq!(waiting.join().unwrap().text(), "waited");
    });
    drop(up);
    service.join().unwrap();
}
