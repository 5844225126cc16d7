//! As much up as down at the same time. Each end of a lane writes more than the socket between them holds, and neither may wait for the
//! other to read first.

use std::net::SocketAddr;
use std::thread;

use crate::support::{
    Remote, Service, Wire, Workshop, get, heavy,
    service::{After, ok},
};

/// Bytes of one transfer, each way.
const SIZE: usize = 64 << 20;
/// The bytes of one piece of a transfer.
const PIECE: usize = 1 << 16;

/// Clients that each have a body echoed, again and again.
const CLIENTS: usize = 64;
const ECHOES: usize = 12;
const ECHO: usize = 20_000;

/// Bytes each way of an upgraded connection.
const UPGRADED: usize = 8 << 20;

fn pattern(seed: usize) -> Vec<u8> {
    (0..PIECE).map(|at| (at * 31 + at / 251 + seed * 97) as u8).collect()
}

fn send(wire: &mut Wire, seed: usize, total: usize) -> bool {
    let piece = pattern(seed);
    (0..total / PIECE).all(|_| wire.try_send(&piece).is_ok())
}

fn is_right(wire: &mut Wire, seed: usize, total: usize) -> bool {
    let piece = pattern(seed);
    (0..total / PIECE).all(|_| wire.take(PIECE) == piece)
}

fn service() -> Service {
    Service::start(|head, wire| {
        if head.field("upgrade").is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: both/1\r\n\r\n");
            let mut twin = wire.twin();
            let sending = thread::spawn(move || send(&mut twin, 1, UPGRADED));
            let right = is_right(wire, 2, UPGRADED);
            let sent = sending.join().unwrap();
            wire.send(if right && sent { "right" } else { "wrong" });
            return After::Close;
        }
        match head.target() {
            "/down" => {
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n"));
                if !send(wire, 3, SIZE) {
                    return After::Close;
                }
            }
            "/up" => {
                let right = is_right(wire, 4, SIZE);
                wire.send(ok(if right { "right" } else { "wrong" }));
            }
            _ => {
                let Some((body, _)) = wire.body(head, false) else {
                    return After::Close;
                };
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                wire.send(body);
            }
        }
        After::Keep
    })
}

/// What reaches a session of a real `up`.
struct Way {
    edge: SocketAddr,
    tag: &'static str,
}

impl Way {
    fn wire(&self) -> Wire {
        Wire::to(self.edge)
    }

    fn head(&self, method: &str, target: &str, more: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: {}\r\n{more}\r\n",
            self.tag
        )
    }

    /// The lane still carries others.
    fn lives(&self) {
        assert_eq!(get(self.edge, self.tag, "/").status(), 200);
    }
}

/// Its local bastion: a unix socket.
fn local(ask: impl FnOnce(&Way)) {
    let service = service();
    let workshop = Workshop::new("alice", &format!("[service.api]\nport = {}\n", service.port));
    let _up = workshop.up(&["api"], &["--no-run"]);
    let _turn = heavy();
    let way = Way {
        edge: workshop.edge,
        tag: "alice:api",
    };
    ask(&way);
    way.lives();
}

/// A bastion on AWS through one session of Session Manager: a pipe of one packet, and behind it a websocket and an agent.
fn session_manager(ask: impl FnOnce(&Way)) {
    let service = service();
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    let workshop = remote.workshop("carol", "transport = \"ssm\"\nlanes = 1", &[("api", service.port)]);
    let up = remote.up(&workshop, &["api"]);
    let _turn = heavy();
    let way = Way {
        edge: remote.edge(),
        tag: "carol:api",
    };
    ask(&way);
    way.lives();
    assert!(!up.said().contains("lost"), "{}", up.said());
}

fn download_and_upload(way: &Way) {
    let (mut down, mut up) = (way.wire(), way.wire());
    thread::scope(|scope| {
        scope.spawn(|| {
            down.send(way.head("GET", "/down", ""));
            assert_eq!(down.head().expect("no head").status(), 200);
            assert!(is_right(&mut down, 3, SIZE), "the download differs");
        });
        scope.spawn(|| {
            up.send(way.head("PUT", "/up", &format!("Content-Length: {SIZE}\r\n")));
            assert!(send(&mut up, 4, SIZE), "the upload is not taken");
            assert_eq!(up.answer("PUT").text(), "right");
        });
    });
}

fn echoes(way: &Way) {
    thread::scope(|scope| {
        for number in 0..CLIENTS {
            let mut wire = way.wire();
            scope.spawn(move || {
                let body = &pattern(number)[..ECHO];
                for _ in 0..ECHOES {
                    wire.send(way.head("POST", "/echo", &format!("Content-Length: {ECHO}\r\n")));
                    wire.send(body);
                    assert!(wire.answer("POST").body == body, "another body came back");
                }
            });
        }
    });
}

fn upgraded(way: &Way) {
    let mut wire = way.wire();
    wire.send(way.head("GET", "/", "Connection: Upgrade\r\nUpgrade: both/1\r\n"));
    assert_eq!(wire.head().expect("no head").status(), 101);
    let mut twin = wire.twin();
    let sending = thread::spawn(move || send(&mut twin, 2, UPGRADED));
    assert!(is_right(&mut wire, 1, UPGRADED), "what came differs");
    assert!(sending.join().unwrap(), "what was sent is not taken");
    assert_eq!(wire.rest(), b"right");
}

#[test]
fn a_download_and_an_upload_at_once() {
    local(download_and_upload);
}

#[test]
fn many_bodies_echoed_at_once() {
    local(echoes);
}

#[test]
fn an_upgraded_connection_both_ways_at_once() {
    local(upgraded);
}

#[test]
fn all_of_it_through_session_manager() {
    session_manager(|way| {
        download_and_upload(way);
        echoes(way);
        upgraded(way);
    });
}
