//! What strangers send to wear the edge out or to confuse it: it answers with a reason or ends the connection, keeps its memory,
//! and the others do not notice.

use std::time::{Duration, Instant};

use crate::support::{
    Bastion, Service, Wire,
    frames::{self, ACK, CONTINUATION, DATA, END_STREAM, Frames, HEADERS, Outcome, PING, RST_STREAM, SETTINGS, frame},
    get, heavy,
    service::{After, ok},
    until,
};

/// How long a small request may take beside a flood: far more than it needs, far less than any time limit of the edge.
const PROMPT: Duration = Duration::from_secs(3);

/// How much the daemon may grow under a flood, in KiB.
const GROWTH: u64 = 32 * 1024;

const GOOD: [(&str, &str); 5] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/"),
    (":authority", "shop.test"),
    ("x-ephemwork", "alice:api"),
];

fn memory(bastion: &Bastion) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", bastion.process.pid())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A bastion with a laptop, before and after a flood.
fn unharmed(flood: impl FnOnce(&Bastion, &Service)) {
    let service = Service::replying(|head, body| ok(&format!("{} {}", head.target(), body.len())));
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let _turn = heavy();
    assert_eq!(get(bastion.http, "alice:api", "/before").text(), "/before 0");
    let lane = || bastion.session("alice:api").map(|session| session["lanes"][0]["id"].clone());
    let (before, first) = (memory(&bastion), lane());
    flood(&bastion, &service);
    let start = Instant::now();
    assert_eq!(get(bastion.http, "alice:api", "/after").text(), "/after 0");
    assert!(start.elapsed() < PROMPT, "it took {:?}", start.elapsed());
    until("nothing to be in flight", || {
        let page = bastion.admin("GET", "/metrics").text();
        let idle = page.lines().any(|line| line == "ephemwork_requests_in_flight 0");
        (idle && bastion.session("alice:api")?["in_flight"] == 0).then_some(())
    });
    let after = memory(&bastion);
    assert!(after < before + GROWTH, "{before} KiB grew to {after} KiB");
    assert_eq!(lane(), first, "the laptop's connection was lost");
}

#[test]
fn large_heads_of_http2_are_answered_in_our_words() {
    unharmed(|bastion, service| {
        // The request before this.
        service.completed(1);
        let mut frames = Frames::to(bastion.http);
        let ask = |frames: &mut Frames, stream: u32, length: usize| {
            let long = "l".repeat(length);
            let fields = [&GOOD[..], &[("x-long", &long)]].concat();
            frames.ask(stream, &fields)
        };
        assert_eq!(ask(&mut frames, 1, 60_000), Outcome::Text("/ 0".into()));
        for (stream, length) in [(3, 66_000), (5, 200_000)] {
            match ask(&mut frames, stream, length) {
                Outcome::Text(text) => assert!(text.contains("64 KiB"), "{length}: {text:?}"),
                other => panic!("{length}: {other:?}"),
            }
        }
        // Beyond this it is the library that answers, without a word, or ends the connection.
        ask(&mut frames, 7, 300_000);
        let mut frames = Frames::to(bastion.http);
        assert_eq!(frames.ask(1, &GOOD), Outcome::Text("/ 0".into()));
        service.completed(3);
    });
}

type Fields = &'static [(&'static str, &'static str)];

/// Name, the head, and a part of the answer; without one the library resets the stream.
#[rustfmt::skip] // A table: one head a line.
const HEADS: &[(&str, Fields, Option<&str>)] = &[
    ("connection", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("connection", "close")], None),
    ("transfer-encoding", &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("transfer-encoding", "chunked")], None),
    ("upgrade", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("upgrade", "websocket")], None),
    ("te", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("te", "gzip")], None),
    ("upper case", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("X-A", "b")], None),
    ("line end in a value", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("x-a", "b\r\nx-c: d")], None),
    ("line end in the path", &[(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1\r\nx: y"), (":authority", "a")], None),
    ("line end in the method", &[(":method", "GET / HTTP/1.1\r\n"), (":scheme", "http"), (":path", "/"), (":authority", "a")], None),
    ("a length with END_STREAM", &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a"), ("content-length", "5")], None),
    ("no path", &[(":method", "GET"), (":scheme", "http"), (":authority", "a")], None),
    ("no host", &[(":method", "GET"), (":scheme", "http"), (":path", "/")], Some("neither :authority nor a Host")),
    ("two hosts", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a"), ("host", "b")], Some("two Host")),
    ("a host that is none", &[(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "a b")], Some("not a host name")),
    ("CONNECT", &[(":method", "CONNECT"), (":authority", "a:1")], Some("CONNECT")),
];

#[test]
fn wrong_heads_of_http2_do_not_reach_the_service() {
    unharmed(|bastion, service| {
        // The request before this.
        service.completed(1);
        for (name, fields, expected) in HEADS {
            let mut frames = Frames::to(bastion.http);
            let fields = [*fields, &[("x-ephemwork", "alice:api")]].concat();
            match (frames.ask(1, &fields), expected) {
                (Outcome::Text(text), Some(expected)) => assert!(text.contains(expected), "{name}: {text:?}"),
                (Outcome::Reset(_) | Outcome::Gone, None) => {}
                (other, _) => panic!("{name}: {other:?}"),
            }
        }
        assert_eq!(service.complete(), 1);
    });
}

#[test]
fn heads_of_http2_become_heads_of_http1() {
    unharmed(|bastion, service| {
        let mut frames = Frames::to(bastion.http);
        let post = [
            &[(":method", "POST")],
            &GOOD[1..],
            &[
                ("cookie", "a=1"),
                ("cookie", "b=2"),
                ("content-length", "3"),
                ("content-length", "3"),
                ("te", "trailers"),
            ],
        ]
        .concat();
        frames.send(&frames::head(1, 0, &post));
        frames.send(&frame(DATA, END_STREAM, 1, b"abc"));
        assert_eq!(frames.outcome(1), Outcome::Text("/ 3".into()));
        let head = service.heads().last().unwrap().clone();
        assert_eq!(head.field("cookie"), Some("a=1; b=2"));
        assert_eq!(head.field("content-length"), Some("3"));
        assert_eq!(head.field("host"), Some("shop.test"));
    });
}

#[test]
fn endless_heads_end() {
    unharmed(|bastion, _| {
        // CONTINUATION without end, with fields and without.
        for payload in [frames::block(&[("x-a", &"b".repeat(1000))]), Vec::new()] {
            let mut frames = Frames::to(bastion.http);
            frames.send(&frame(HEADERS, END_STREAM, 1, &frames::block(&GOOD)));
            let more = frame(CONTINUATION, 0, 1, &payload);
            let begun = Instant::now();
            while frames.send(&more) {
                assert!(begun.elapsed() < PROMPT, "the edge goes on reading");
            }
        }
        let mut wire = Wire::to(bastion.http);
        wire.send("GET / HTTP/1.1\r\n");
        let begun = Instant::now();
        while wire.try_send(&b"X-A: b\r\n".repeat(1000)).is_ok() {
            assert!(begun.elapsed() < PROMPT, "the edge goes on reading");
        }
    });
}

#[test]
fn requests_that_are_given_up_at_once_harm_nobody_else() {
    unharmed(|bastion, _| {
        for _ in 0..5 {
            let mut frames = Frames::to(bastion.http);
            for request in 0..2000 {
                let stream = 2 * request + 1;
                let mut both = frames::head(stream, END_STREAM, &GOOD);
                both.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
                if !frames.send(&both) {
                    break;
                }
            }
        }
    });
}

/// Pages behind one load balancer that are closed with their requests open must not cost the other pages their connection.
#[test]
fn a_hundred_given_up_streams_leave_their_connection_alone() {
    unharmed(|bastion, _| {
        let mut frames = Frames::to(bastion.http);
        let mut all = Vec::new();
        for request in 0..100 {
            let stream = 2 * request + 1;
            all.extend(frames::head(stream, END_STREAM, &GOOD));
            all.extend(frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()));
        }
        assert!(frames.send(&all));
        assert_eq!(frames.ask(201, &GOOD), Outcome::Text("/ 0".into()));
    });
}

/// Uploads that a service answers before it has read them go on for a moment; what comes of them then ended the connection of all after
/// 1024 frames in its whole life.
#[test]
fn the_rest_of_uploads_that_were_answered_early_leaves_their_connection_alone() {
    const UPLOADS: u32 = 100;
    let service = Service::start(|head, wire| {
        let body = if head.method() == "POST" { "enough" } else { "well" };
        wire.try_send(&ok(body)).map_or(After::Close, |()| After::Keep)
    });
    let bastion = Bastion::local(&[]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let mut frames = Frames::to(bastion.http);
    let post = [&[(":method", "POST")], &GOOD[1..]].concat();
    for upload in 0..UPLOADS {
        assert!(frames.send(&frames::head(2 * upload + 1, 0, &post)));
        assert_eq!(frames.outcome(2 * upload + 1), Outcome::Text("enough".into()));
    }
    for round in 0..30 {
        let rest: Vec<u8> = (0..UPLOADS)
            .flat_map(|upload| frame(DATA, 0, 2 * upload + 1, b"rest"))
            .collect();
        assert!(frames.send(&rest));
        assert_eq!(
            frames.ask(2 * (UPLOADS + round) + 1, &GOOD),
            Outcome::Text("well".into()),
            "{round}"
        );
    }
}

/// They are not without end: each costs an answer, which waits when nobody reads it.
#[test]
fn frames_for_streams_that_are_over_are_bounded() {
    unharmed(|bastion, _| {
        let mut frames = Frames::to(bastion.http);
        let mut all = Vec::new();
        for request in 0..100 {
            all.extend(frames::head(2 * request + 1, END_STREAM, &GOOD));
            all.extend(frame(RST_STREAM, 0, 2 * request + 1, &8u32.to_be_bytes()));
        }
        assert!(frames.send(&all));
        let many = frame(DATA, 0, 1, b"x").repeat(2000);
        for _ in 0..100 {
            if !frames.0.try_send_within(&many, Duration::from_millis(500)) {
                break;
            }
        }
    });
}

#[test]
fn frames_without_meaning_are_bounded() {
    unharmed(|bastion, _| {
        let settings = [0, 3, 0, 0, 0, 100];
        for (kind, stream, payload) in [
            (PING, 0, &[7; 8][..]),
            (SETTINGS, 0, &settings[..]),
            (SETTINGS, 0, b""),
            (DATA, 1, b""),
        ] {
            let mut frames = Frames::to(bastion.http);
            let post = [&[(":method", "POST")], &GOOD[1..]].concat();
            frames.send(&frames::head(1, 0, &post));
            // The answers to these are not read.
            let many = frame(kind, 0, stream, payload).repeat(2000);
            let begun = Instant::now();
            for _ in 0..50 {
                if !frames.0.try_send_within(&many, Duration::from_millis(500)) {
                    break;
                }
            }
            let start = Instant::now();
            assert_eq!(get(bastion.http, "alice:api", "/beside").text(), "/beside 0");
            assert!(start.elapsed() < PROMPT, "{kind}: it took {:?}", start.elapsed());
            assert!(begun.elapsed() < 10 * PROMPT);
        }
        let mut frames = Frames::to(bastion.http);
        frames.send(&frame(SETTINGS, ACK, 0, b"").repeat(3));
        frames.outcome(1);
    });
}

#[test]
fn requests_whose_answers_nobody_reads_are_bounded() {
    unharmed(|bastion, service| {
        let mut wire = Wire::to(bastion.http);
        let request = "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\n\r\n".repeat(200);
        // The request before this.
        service.completed(1);
        for _ in 0..500 {
            if !wire.try_send_within(request.as_bytes(), Duration::from_millis(500)) {
                break;
            }
        }
        assert!(service.complete() > 1);
    });
}

/// What the edge learns of origins, for preflights, is bounded in bytes, too, and strangers' tags teach it nothing.
#[test]
fn long_origins_are_not_remembered() {
    unharmed(|bastion, _| {
        let long = "o".repeat(60_000);
        let mut wire = Wire::to(bastion.http);
        for number in 0..1000 {
            wire.send(format!(
                "GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nOrigin: http://{number}.{long}\r\n\r\n"
            ));
            assert_eq!(wire.answer("GET").text(), "/ 0");
        }
        wire.send(format!("GET / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: {long}\r\n\r\n"));
        let answer = wire.answer("GET");
        assert!(
            answer.status() == 400 && answer.body.len() < 1000,
            "{} bytes",
            answer.body.len()
        );
    });
}

#[test]
fn many_slow_clients_cost_little_and_delay_nobody() {
    unharmed(|bastion, _| {
        let begin = |text: &str| {
            let mut wire = Wire::to(bastion.http);
            wire.send(text);
            wire
        };
        let mut slow = Vec::new();
        for _ in 0..150 {
            slow.push(begin(""));
            slow.push(begin("G"));
            slow.push(begin("GET / HTTP/1.1\r\nHost: x\r\nX-A: "));
            slow.push(begin("PRI * HTTP/2.0\r\n"));
            slow.push(begin("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        }
        for _ in 0..40 {
            slow.push(begin(
                "POST / HTTP/1.1\r\nHost: x\r\nX-Ephemwork: alice:api\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n",
            ));
        }
        for round in 0..20 {
            for wire in slow.iter_mut().skip(round).step_by(5) {
                wire.try_send(b"x").ok();
            }
            let start = Instant::now();
            assert_eq!(get(bastion.http, "alice:api", "/beside").text(), "/beside 0");
            assert!(start.elapsed() < PROMPT, "it took {:?}", start.elapsed());
        }
    });
}
