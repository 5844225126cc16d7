//! What bodies cost the bastion that nobody takes: uploads to a service that never reads (one stopped in a debugger is enough), downloads
//! of clients that never read.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Bastion, LIMIT, Service, get, heavy,
    service::{After, ok},
    until,
};

/// Nothing more is taken when no stream took a byte for so long.
const STILL: Duration = Duration::from_secs(2);

/// The daemon's own memory, in KiB; what the system holds of its sockets is not in it.
fn memory(bastion: &Bastion) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", bastion.process.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn begin(bastion: &Bastion, head: &str) -> TcpStream {
    let mut stream = TcpStream::connect(bastion.http).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

/// Begins so many uploads and sends until none of them takes more.
fn uploads(bastion: &Bastion, count: usize) -> Vec<TcpStream> {
    let head = "POST /stuck HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nContent-Length: 100000000000\r\n\r\n";
    let mut streams: Vec<_> = (0..count).map(|_| begin(bastion, head)).collect();
    let piece = [b'x'; 16 * 1024];
    let (begun, mut last) = (Instant::now(), Instant::now());
    while last.elapsed() < STILL {
        assert!(begun.elapsed() < LIMIT, "they go on and on");
        for stream in &mut streams {
            stream.set_nonblocking(true).unwrap();
            match stream.write(&piece) {
                Ok(_) => last = Instant::now(),
                Err(why) if why.kind() == ErrorKind::WouldBlock => {}
                Err(why) => panic!("an upload ended: {why}"),
            }
        }
        thread::yield_now();
    }
    streams
}

/// A service that takes no upload on `/stuck` and sends without end on `/endless`, until it is told to stop.
struct Stuck {
    service: Service,
    /// Requests that it has.
    requests: Arc<AtomicUsize>,
    /// What it sent, in bytes.
    sent: Arc<AtomicU64>,
    /// It goes on while this is there.
    running: Option<mpsc::Sender<()>>,
}

fn service() -> Stuck {
    let (running, stop) = mpsc::channel::<()>();
    let stop = Mutex::new(stop);
    let (requests, sent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let (counted, bytes) = (Arc::clone(&requests), Arc::clone(&sent));
    let service = Service::start(move |head, wire| {
        let stopped = |patience| stop.lock().unwrap().recv_timeout(patience) == Err(RecvTimeoutError::Disconnected);
        match head.target() {
            "/stuck" => {
                counted.fetch_add(1, Relaxed);
                stop.lock().unwrap().recv().unwrap_or_default();
            }
            "/endless" => {
                counted.fetch_add(1, Relaxed);
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n");
                let piece = vec![b'y'; 16 * 1024];
                while !stopped(Duration::ZERO) && wire.try_send_within(&piece, LIMIT) {
                    bytes.fetch_add(piece.len() as u64, Relaxed);
                }
            }
            _ => {
                wire.send(ok("well"));
                return After::Keep;
            }
        }
        After::Close
    });
    Stuck {
        service,
        requests,
        sent,
        running: Some(running),
    }
}

/// Asserts that so many of them take at most `each` KiB of the daemon, and 8 MiB besides; and that it is free again behind them.
fn cost<L>(
    count: usize,
    each: u64,
    laptop: impl FnOnce(&Bastion, u16) -> L,
    begin: impl FnOnce(&Bastion, usize, &Stuck) -> Vec<TcpStream>,
) {
    let mut stuck = service();
    let bastion = Bastion::local(&[]);
    let _laptop = laptop(&bastion, stuck.service.port);
    let _turn = heavy();
    assert_eq!(get(bastion.http, "alice:api", "/before").text(), "well");
    let before = memory(&bastion);
    let streams = begin(&bastion, count, &stuck);
    until("all of them to be with the service", || {
        (stuck.requests.load(Relaxed) == count).then_some(())
    });
    let after = memory(&bastion);
    println!(
        "{count} stuck bodies: {before} KiB grew to {after} KiB, {} each",
        after.saturating_sub(before) / count as u64
    );
    let bound = before + count as u64 * each + 8 * 1024;
    assert!(
        after < bound,
        "{count} stuck bodies: {before} KiB grew to {after} KiB, at most {bound}"
    );
    stuck.running = None;
    drop(streams);
    until("the session to answer again", || {
        (get(bastion.http, "alice:api", "/after").text() == "well").then_some(())
    });
    until("the stuck requests to be over", || {
        (bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
}

/// Asks for so many endless answers and reads nothing, until the service gets rid of no more.
fn downloads(bastion: &Bastion, count: usize, stuck: &Stuck) -> Vec<TcpStream> {
    let head = "GET /endless HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n";
    let streams: Vec<_> = (0..count).map(|_| begin(bastion, head)).collect();
    let (begun, mut last, mut seen) = (Instant::now(), Instant::now(), 0);
    while last.elapsed() < STILL {
        assert!(begun.elapsed() < LIMIT, "they go on and on");
        let sent = stuck.sent.load(Relaxed);
        if sent != seen {
            (seen, last) = (sent, Instant::now());
        }
        thread::yield_now();
    }
    streams
}

#[test]
fn two_hundred_uploads_to_a_service_that_does_not_read() {
    let laptop = |bastion: &Bastion, port| bastion.up("alice", &[("api", port)]);
    cost(200, 400, laptop, |bastion, count, _| uploads(bastion, count));
}

#[test]
fn sixty_uploads_to_a_stock_openssh_client() {
    let laptop = |bastion: &Bastion, port| bastion.laptop("alice", &[("api", port)]);
    cost(60, 900, laptop, |bastion, count, _| uploads(bastion, count));
}

#[test]
fn two_hundred_downloads_of_clients_that_do_not_read() {
    let laptop = |bastion: &Bastion, port| bastion.up("alice", &[("api", port)]);
    cost(200, 450, laptop, downloads);
}
