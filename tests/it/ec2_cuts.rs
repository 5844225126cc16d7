//! An `up` over Session Manager while websockets, agents and sessions end under it: no request notices what can be mended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::peers_alone::{serve, talk};
use crate::support::{
    Process, Remote, Service, Wire, Workshop, get, heavy, need_module,
    service::{After, ok},
    until,
};

/// How long each test keeps up its load.
const LOAD: Duration = Duration::from_secs(8);

/// The body of `/N`: N bytes that differ from place to place.
fn body(length: usize) -> String {
    (0..length.div_ceil(8)).map(|at| format!("{at:07};")).collect::<String>()[..length].to_owned()
}

/// Answers `/N` with [`body`] of N, and gives a body back.
fn service() -> Service {
    Service::replying(|head, sent| match head.target().trim_start_matches('/').parse() {
        Ok(length) => ok(&body(length)),
        Err(_) => ok(&String::from_utf8_lossy(sent)),
    })
}

struct Running {
    remote: Remote,
    up: Process,
    #[allow(dead_code, reason = "kept for its end")]
    workshop: Workshop,
    #[allow(dead_code, reason = "kept for its end")]
    service: Service,
}

#[track_caller]
fn running(settings: &[&str]) -> Option<Running> {
    let remote = Remote::start(settings)?;
    let service = service();
    let workshop = remote.workshop("carol", "transport = \"ssm\"\nlanes = 1", &[("api", service.port)]);
    let up = remote.up(&workshop, &["api"]);
    Some(Running {
        remote,
        up,
        workshop,
        service,
    })
}

impl Running {
    /// Several clients at once for a while, each response compared byte for byte; how many there were.
    #[track_caller]
    fn load(&self, time: Duration) -> usize {
        let (done, wrong) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (edge, begun) = (self.remote.edge(), Instant::now());
        let expected = [Arc::new(body(100)), Arc::new(body(150_000))];
        std::thread::scope(|scope| {
            for client in 0..4 {
                let (done, wrong, expected) = (&done, &wrong, expected[client % 2].clone());
                scope.spawn(move || {
                    while begun.elapsed() < time && !wrong.load(Ordering::SeqCst) {
                        let answer = get(edge, "carol:api", &format!("/{}", expected.len()));
                        if answer.status() != 200 || answer.text() != *expected {
                            wrong.store(true, Ordering::SeqCst);
                            panic!("{} bytes of {}: {}", answer.body.len(), expected.len(), answer.status());
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        done.load(Ordering::SeqCst)
    }

    /// How many websockets the client opened for the only session.
    #[track_caller]
    fn websockets(&self) -> u64 {
        let sessions = self.remote.ssm.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:#?}");
        sessions[0]["websockets"].as_u64().unwrap()
    }
}

#[test]
fn websockets_cut_again_and_again_under_load() {
    let _turn = heavy();
    let Some(running) = running(&["paced=false", "latency_ms=2"]) else {
        return;
    };
    running.remote.ssm.fault(json!({"cut_client_every_ms": 1200}));
    let done = running.load(LOAD);
    assert!(done > 20, "only {done} responses");
    assert!(running.websockets() > 4, "{}", running.websockets());
    assert!(!running.up.said().contains("lost"), "{}", running.up.said());
}

#[test]
fn the_agents_side_cut_again_and_again_under_load() {
    let _turn = heavy();
    let Some(running) = running(&["paced=false", "agent_back_ms=50"]) else {
        return;
    };
    running.remote.ssm.fault(json!({"cut_agent_every_ms": 1500}));
    let done = running.load(LOAD);
    assert!(done > 10, "only {done} responses");
    assert!(!running.up.said().contains("lost"), "{}", running.up.said());
}

#[test]
fn the_hourly_bye_is_not_the_end() {
    let Some(running) = running(&["paced=false"]) else { return };
    for round in 1..4 {
        running.remote.ssm.fault(json!({"bye": true}));
        let answer = get(running.remote.edge(), "carol:api", "/40000");
        assert_eq!(answer.text(), body(40_000));
        until("the session to be resumed", || {
            (running.websockets() == round + 1).then_some(())
        });
    }
    assert!(!running.up.said().contains("lost"), "{}", running.up.said());
}

#[test]
fn a_session_that_cannot_be_resumed_is_replaced() {
    let Some(mut running) = running(&["paced=false"]) else {
        return;
    };
    let first = running.remote.ssm.open_sessions()[0]["id"].clone();
    running.remote.ssm.fault(json!({"session": first, "refuse_resume": true}));
    running.remote.ssm.fault(json!({"session": first, "cut_client": true}));
    running.up.wait_for("connected again");
    assert_eq!(get(running.remote.edge(), "carol:api", "/5000").text(), body(5000));
    until("the first session to be over", || {
        let open = running.remote.ssm.open_sessions();
        (open.len() == 1 && open[0]["id"] != first).then_some(())
    });
}

#[test]
fn an_agent_that_dies_is_found_and_replaced_within_15_s() {
    let Some(mut running) = running(&["paced=false"]) else {
        return;
    };
    let begun = Instant::now();
    running.remote.ssm.fault(json!({"kill_agent": true}));
    running.up.wait_for(" lost: ");
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    running.up.wait_for("connected again");
    assert_eq!(get(running.remote.edge(), "carol:api", "/5000").text(), body(5000));
    assert!(running.up.ended().is_none());
}

#[test]
fn an_agent_restarted_under_load_costs_only_what_was_on_its_way() {
    const CLIENTS: usize = 4;
    const RESTARTS: usize = 2;
    let _turn = heavy();
    let Some(mut running) = running(&["paced=false"]) else {
        return;
    };
    let (stop, done, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let (edge, expected) = (running.remote.edge(), body(20_000));
    let ask = || {
        while !stop.load(Ordering::SeqCst) {
            let mut wire = Wire::to(edge);
            wire.send("GET /20000 HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: carol:api\r\n\r\n");
            // What the edge says in the service's place, or an answer that was on its way: it ends with its connection, before the first
            // byte of it or later, and nobody takes it for whole.
            let Some(head) = wire.head() else {
                failed.fetch_add(1, Ordering::SeqCst);
                continue;
            };
            match (head.status(), wire.body(&head, true)) {
                (200, Some((body, _))) if body == expected.as_bytes() => done.fetch_add(1, Ordering::SeqCst),
                (200, None) | (502..=504, Some(_)) => failed.fetch_add(1, Ordering::SeqCst),
                (status, body) => {
                    stop.store(true, Ordering::SeqCst);
                    panic!("{status}: {:?} bytes", body.map(|(body, _)| body.len()));
                }
            };
        }
    };
    let more = |count: usize| {
        let before = done.load(Ordering::SeqCst);
        until("more answers", || {
            (stop.load(Ordering::SeqCst) || done.load(Ordering::SeqCst) >= before + count).then_some(())
        });
    };
    std::thread::scope(|scope| {
        (0..CLIENTS).for_each(|_| drop(scope.spawn(ask)));
        for restart in 1..=RESTARTS {
            more(20);
            running.remote.ssm.fault(json!({"kill_agent": true}));
            until("a connection again", || {
                let again = running.up.said().matches("connected again").count() >= restart;
                (again || stop.load(Ordering::SeqCst)).then_some(())
            });
        }
        more(20);
        stop.store(true, Ordering::SeqCst);
    });
    let failed = failed.load(Ordering::SeqCst);
    eprintln!("{} answers, {failed} failed", done.load(Ordering::SeqCst));
    assert!(failed <= RESTARTS * CLIENTS, "{failed}");
    assert_eq!(running.remote.ssm.open_sessions().len(), 1);
    running.up.signal(rustix::process::Signal::INT);
    assert_eq!(running.up.wait().code(), Some(130), "{}", running.up.said());
    assert_eq!(running.remote.ssm.open_sessions().len(), 0);
}

#[test]
fn a_websocket_that_answers_nothing_is_replaced_within_15_s() {
    let Some(running) = running(&["paced=false"]) else { return };
    let begun = Instant::now();
    running.remote.ssm.fault(json!({"blackhole": true}));
    assert_eq!(get(running.remote.edge(), "carol:api", "/5000").text(), body(5000));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn a_session_ended_by_somebody_else_is_replaced() {
    let Some(mut running) = running(&["paced=false"]) else {
        return;
    };
    running.remote.ssm.fault(json!({"end": "terminated by the administrator"}));
    running.up.wait_for("connected again");
    let said = running.up.said();
    assert!(said.contains("terminated by the administrator"), "{said}");
    assert_eq!(get(running.remote.edge(), "carol:api", "/5000").text(), body(5000));
}

#[test]
fn a_gateway_that_takes_small_messages_only() {
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    remote.ssm.fault(json!({"close_above": 4096}));
    let service = service();
    let tunnel = "transport = \"ssm\"\npayload_bytes = 8192";
    let workshop = remote.workshop("carol", tunnel, &[("api", service.port)]);
    let up = remote.up(&workshop, &["api"]);
    assert_eq!(get(remote.edge(), "carol:api", "/300000").text(), body(300_000));
    assert!(!up.said().contains("lost"), "{}", up.said());
}

#[test]
fn a_websocket_of_the_services() {
    let Some(python) = need_module("websockets") else { return };
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    let (_server, at) = serve(&python, "echo.py");
    let workshop = remote.workshop("carol", "", &[("chat", at.port())]);
    let _up = remote.up(&workshop, &["chat"]);
    let url = format!("ws://{}/chat?room=1", remote.edge());
    talk(&python, "echo.py", &[&url, "carol:chat", "12", "1000000"], "talked 12");
}

/// Megabytes of one transfer; EPHEMWORK_TEST_BULK_MB=1024 makes it a gigabyte.
fn megabytes() -> usize {
    let given = std::env::var("EPHEMWORK_TEST_BULK_MB").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(64)
}

#[test]
fn bulk_each_way_with_cuts() {
    let _turn = heavy();
    let Some(remote) = Remote::start(&["paced=false"]) else {
        return;
    };
    const PIECE: usize = 1 << 16;
    let total = megabytes() << 20;
    let piece = body(PIECE);
    let sent = piece.clone();
    let service = Service::start(move |head, wire| {
        if head.method() == "GET" {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n"));
            for _ in 0..total / PIECE {
                if wire.try_send(sent.as_bytes()).is_err() {
                    return After::Close;
                }
            }
            return After::Keep;
        }
        let right = (0..total / PIECE).filter(|_| wire.take(PIECE) == sent.as_bytes()).count();
        wire.send(ok(&format!("{right} right")));
        After::Keep
    });
    let workshop = remote.workshop(
        "carol",
        "transport = \"ssm\"\npayload_bytes = 16384\nlanes = 1",
        &[("api", service.port)],
    );
    let up = remote.up(&workshop, &["api"]);
    remote.ssm.fault(json!({"cut_client_every_ms": 3000}));
    let mut wire = Wire::to(remote.edge());
    wire.send("GET / HTTP/1.1\r\nHost: staging\r\nX-Ephemwork: carol:api\r\n\r\n");
    let head = wire.head().unwrap();
    assert_eq!(head.status(), 200);
    let right = (0..total / PIECE).filter(|_| wire.take(PIECE) == piece.as_bytes()).count();
    assert_eq!(right, total / PIECE);
    wire.send(format!(
        "POST / HTTP/1.1\r\nHost: staging\r\nX-Ephemwork: carol:api\r\nContent-Length: {total}\r\n\r\n"
    ));
    for _ in 0..total / PIECE {
        wire.send(piece.as_bytes());
    }
    assert_eq!(wire.answer("POST").text(), format!("{} right", total / PIECE));
    assert!(!up.said().contains("lost"), "{}", up.said());
}
