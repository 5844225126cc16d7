//! The page of metrics as Prometheus reads it, after requests that ended in every way.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_linger;
use serde_json::Value;

use crate::support::{
    Bastion, LIMIT, Process, Service, Wire, fetch, get, need_module, peer,
    service::{After, ok},
    until,
};

#[test]
fn every_end_of_a_request_is_counted_once() {
    /// How long the last piece of `/slow` is behind its head: above one bound of the histogram, and this is known.
    const SLOW: Duration = Duration::from_millis(300);
    let Some(python) = need_module("prometheus_client") else {
        return;
    };
    let (gone, go) = mpsc::channel::<()>();
    let go = Mutex::new(go);
    let service = Service::start(move |head, wire| {
        match head.target() {
            "/silent" | "/stream" => {
                if head.target() == "/stream" {
                    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
                }
                go.lock().unwrap().recv_timeout(LIMIT).unwrap();
                return After::Close;
            }
            "/cut" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
                go.lock().unwrap().recv_timeout(LIMIT).unwrap();
                return After::Close;
            }
            "/slow" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
                let begun = Instant::now();
                until("some time to pass", || (begun.elapsed() > SLOW).then_some(()));
                wire.send("b");
            }
            "/upgrade" => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
                wire.rest();
                return After::Close;
            }
            _ => wire.send(ok("yes")),
        }
        After::Keep
    });
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let samples = || -> Value {
        let page = bastion.admin("GET", "/metrics");
        assert_eq!(
            page.head.field("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
        let file = bastion.path("page");
        std::fs::write(&file, &page.body).unwrap();
        let read = Process::run("metrics.py", Command::new(&python).arg(peer("metrics.py")).arg(file));
        assert!(read.status.success(), "{read:?}\n{}", page.text());
        serde_json::from_str(&read.out).unwrap()
    };
    samples();

    for _ in 0..3 {
        assert_eq!(get(bastion.http, "alice:api", "/").text(), "yes");
    }
    assert_eq!(get(bastion.http, "alice:api", "/slow").text(), "ab");
    assert_eq!(fetch(bastion.http, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").status(), 404);
    let mut wire = Wire::to(bastion.http);
    wire.send("GET /upgrade HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
    assert_eq!(wire.head().map(|head| head.status()), Some(101));
    let mut cut = Wire::to(bastion.http);
    cut.send("GET /cut HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n");
    let head = cut.head().unwrap();
    assert_eq!(head.status(), 200);
    gone.send(()).unwrap();
    assert_eq!(cut.body(&head, false), None);
    // Two clients leave with a reset: one before the answer, one in its middle.
    for (path, bytes) in [("/silent", 0), ("/stream", 20)] {
        let count = service.heads().len();
        let mut stream = TcpStream::connect(bastion.http).unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n").as_bytes())
            .unwrap();
        stream.read_exact(&mut vec![0; bytes]).unwrap();
        until("the request to arrive", || (service.heads().len() > count).then_some(()));
        set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        gone.send(()).unwrap();
    }
    drop(wire);

    let name = |name: &str| format!("ephemwork_{name}");
    until("nothing to be in flight", || {
        (samples()[name("requests_in_flight")] == 0.0).then_some(())
    });
    let samples = samples();
    let found = |key: &str| samples[name(key)].as_f64().unwrap_or_else(|| panic!("{key} in {samples}"));
    assert_eq!(found("requests_total,status=2xx,tag=alice:api"), 6.0, "{samples}");
    assert_eq!(found("requests_total,status=1xx,tag=alice:api"), 1.0, "{samples}");
    assert_eq!(found("requests_total,status=4xx,tag="), 1.0, "{samples}");
    assert_eq!(found("requests_left_total"), 2.0, "{samples}");
    assert_eq!(found("answers_cut_total,reason=broke-off"), 1.0, "{samples}");
    // Whole answers, and nothing else: the upgrade counts with its head.
    assert_eq!(found("request_duration_seconds_count"), 6.0, "{samples}");
    assert!(found("request_duration_seconds_sum") >= SLOW.as_secs_f64(), "{samples}");
    assert!(found("request_duration_seconds_bucket,le=0.25") <= 5.0, "{samples}");
}
