//! One client that wants all of the edge: more requests, connections, tags and heads than it may have. It is told so, and nobody else
//! notices.

use std::{
    net::{SocketAddr, TcpStream},
    sync::{Condvar, Mutex},
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::support::{
    Answer, Bastion, LIMIT, Service, Wire, fetch,
    frames::{DATA, Frames, Outcome, head},
    get, heavy,
    service::{After, ok},
    until,
};

/// Documentation addresses (RFC 5737), as a load balancer would append them.
const ATTACKER: &str = "203.0.113.9";
const COLLEAGUE: &str = "198.51.100.7";

fn request(from: &str, tag: &str, path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Ephemwork: {tag}\r\nX-Forwarded-For: {from}\r\n{more}\r\n")
}

fn ask(bastion: &Bastion, from: &str, tag: &str) -> Answer {
    fetch(bastion.http, request(from, tag, "/", ""))
}

/// A number of the metrics' page.
fn count(bastion: &Bastion, name: &str) -> u64 {
    let page = bastion.admin("GET", "/metrics").text();
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("ephemwork_{name} ")));
    line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
}

fn refused(bastion: &Bastion, reason: &str) -> u64 {
    count(bastion, &format!("refused_total{{reason=\"{reason}\"}}"))
}

/// The same refusal as text and as JSON.
#[track_caller]
fn check(answer: &Answer, status: u16, reason: &str, part: &str) {
    assert_eq!(
        (answer.status(), answer.served_by()),
        (status, format!("edge; reason={reason}").as_str()),
        "{answer:?}"
    );
    assert!(answer.text().contains(part), "{answer:?}");
    let wait: u32 = answer.head.field("retry-after").expect("no Retry-After").parse().unwrap();
    assert!((1..=60).contains(&wait), "{answer:?}");
}

/// Keeps requests until it is opened.
struct Gate(Mutex<bool>, Condvar);

impl Gate {
    const fn closed() -> Gate {
        Gate(Mutex::new(false), Condvar::new())
    }

    fn open(&self) {
        *self.0.lock().unwrap() = true;
        self.1.notify_all();
    }

    fn pass(&self) {
        let shut = self.0.lock().unwrap();
        drop(self.1.wait_timeout_while(shut, LIMIT, |open| !*open).unwrap());
    }
}

#[test]
fn one_address_has_so_many_requests_in_flight() {
    static GATE: Gate = Gate::closed();
    let service = Service::start(|head, wire| {
        match head.target() {
            "/slow" => GATE.pass(),
            "/socket" => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
                wire.rest();
                return After::Close;
            }
            _ => {}
        }
        wire.send(ok("yes"));
        After::Keep
    });
    let bastion = Bastion::with(&["--client-requests", "3"]);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    // Two that wait for their answer, and one that is a WebSocket.
    let mut slow: Vec<Wire> = (0..2)
        .map(|_| {
            let mut wire = Wire::to(bastion.http);
            wire.send(request(ATTACKER, "alice:api", "/slow", ""));
            wire
        })
        .collect();
    let mut socket = Wire::to(bastion.http);
    socket.send(request(
        ATTACKER,
        "alice:api",
        "/socket",
        "Connection: upgrade\r\nUpgrade: a\r\n",
    ));
    assert_eq!(socket.head().unwrap().status(), 101);
    until("the slow ones to arrive", || (service.heads().len() == 3).then_some(()));
    let answer = ask(&bastion, ATTACKER, "alice:api");
    check(&answer, 429, "client-busy", ATTACKER);
    // What the client itself says of where it comes from counts for nothing.
    let said = format!("{COLLEAGUE}, {ATTACKER}");
    check(&ask(&bastion, &said, "alice:api"), 429, "client-busy", ATTACKER);
    let answer = fetch(
        bastion.http,
        request(ATTACKER, "alice:api", "/", "Accept: application/json\r\n"),
    );
    check(&answer, 429, "client-busy", "{\"error\":{\"code\":\"client-busy\"");
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "x"),
        ("x-ephemwork", "alice:api"),
        ("x-forwarded-for", ATTACKER),
    ];
    match Frames::to(bastion.http).ask(1, &fields) {
        Outcome::Text(text) => assert!(text.contains("as many requests in flight"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&bastion, "client-busy"), 4);
    assert_eq!(ask(&bastion, COLLEAGUE, "alice:api").text(), "yes");
    let health = fetch(
        bastion.http,
        format!("GET /ephemwork-health HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {ATTACKER}\r\n\r\n"),
    );
    assert_eq!(health.status(), 200);
    // Each end gives its place back: an answer's, and a WebSocket's.
    GATE.open();
    for wire in &mut slow {
        assert_eq!(wire.answer("GET").text(), "yes");
    }
    drop(socket);
    for _ in 0..3 {
        until("the places to be free", || {
            let mut wire = Wire::to(bastion.http);
            wire.send(request(
                ATTACKER,
                "alice:api",
                "/socket",
                "Connection: upgrade\r\nUpgrade: a\r\n",
            ));
            let open = wire.head().unwrap().status() == 101;
            if open {
                slow.push(wire);
            }
            open.then_some(())
        });
    }
    check(&ask(&bastion, ATTACKER, "alice:api"), 429, "client-busy", ATTACKER);
}

/// The WebSocket of an `ephemwork up` is counted, too, over HTTP/1.1 and over HTTP/2, and a client that leaves gives its place back.
#[test]
fn a_websocket_through_the_tunnel_is_counted_until_it_ends() {
    let service = Service::start(|head, wire| {
        if head.field("upgrade").is_some() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
            wire.rest();
            return After::Close;
        }
        wire.send(ok("yes"));
        After::Keep
    });
    let bastion = Bastion::local(&["--client-requests", "1", "--trusted-hops", "1"]);
    let _up = bastion.up("alice", &[("api", service.port)]);
    let connect = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "x"),
        ("x-ephemwork", "alice:api"),
        ("x-forwarded-for", ATTACKER),
    ];
    let over_http1 = || {
        let mut wire = Wire::to(bastion.http);
        wire.send(request(
            ATTACKER,
            "alice:api",
            "/",
            "Connection: upgrade\r\nUpgrade: websocket\r\n",
        ));
        (wire.head()?.status() == 101).then_some(wire)
    };
    let over_http2 = || {
        let mut frames = Frames::to(bastion.http);
        frames.send(&head(1, 0, &connect));
        loop {
            let (kind, _, _, payload) = frames.next()?;
            if kind == DATA {
                return (payload == b"hello").then_some(frames.0);
            }
        }
    };
    let open: [&dyn Fn() -> Option<Wire>; 2] = [&over_http1, &over_http2];
    for open in open {
        // The place of the one before is free a moment after it is gone.
        let _socket = until("a WebSocket", open);
        check(&ask(&bastion, ATTACKER, "alice:api"), 429, "client-busy", ATTACKER);
        assert_eq!(ask(&bastion, COLLEAGUE, "alice:api").text(), "yes");
    }
    until("the last place to be free", || {
        (ask(&bastion, ATTACKER, "alice:api").status() == 200).then_some(())
    });
}

#[test]
fn who_tries_out_tags_is_slowed_down_and_learns_nothing() {
    const TRIES: usize = 60;
    let service = Service::saying("yes");
    let bastion = Bastion::start();
    let _alice = bastion.laptop("alice", &[("api", service.port), ("web", service.port)]);
    // A page that polls for a laptop that has gone, and a tag in use, cost nothing.
    for _ in 0..2 * TRIES {
        assert_eq!(ask(&bastion, ATTACKER, "alice:api").text(), "yes");
        assert_eq!(ask(&bastion, COLLEAGUE, "alice:gone").status(), 404);
    }
    let begun = Instant::now();
    let tries = (0..20 * TRIES).map(|number| ask(&bastion, ATTACKER, &format!("user{number}:api")));
    let found: Vec<u16> = tries.map(|answer| answer.status()).collect();
    let let_through = found.iter().filter(|&&status| status == 404).count();
    let most = TRIES + begun.elapsed().as_secs() as usize + 1;
    assert!((TRIES..=most).contains(&let_through), "{let_through} of {}", found.len());
    assert!(found.iter().all(|status| [404, 429].contains(status)), "{found:?}");
    // Now it is told the same of what exists and of what does not, and goes on with what it used before.
    let words = |tag: &str| {
        let answer = until("a refusal", || {
            Some(ask(&bastion, ATTACKER, tag)).filter(|answer| answer.status() == 429)
        });
        check(&answer, 429, "too-many-tags", ATTACKER);
        (answer.head.start.clone(), answer.head.fields.len(), answer.body)
    };
    assert_eq!(words("nobody:nothing"), words("alice:nothing"));
    assert_eq!(words("nobody:nothing"), words("alice:web"));
    assert_eq!(ask(&bastion, ATTACKER, "alice:api").text(), "yes");
    assert_eq!(ask(&bastion, COLLEAGUE, "alice:web").text(), "yes");
    assert!(refused(&bastion, "too-many-tags") >= 3);
    let answer = fetch(
        bastion.http,
        request(ATTACKER, "nobody:other", "/", "Accept: application/json\r\n"),
    );
    check(&answer, 429, "too-many-tags", "\"code\":\"too-many-tags\"");
}

/// Whose tag it is that nobody has is nobody's business: a user with a session, one who may log in, and one who does not exist.
#[test]
fn an_unknown_tag_is_the_same_whoever_it_names() {
    let service = Service::saying("yes");
    let bastion = Bastion::start();
    let _alice = bastion.laptop("alice", &[("api", service.port)]);
    let words = |tag: &str| {
        let answer = ask(&bastion, COLLEAGUE, tag);
        let fields: Vec<String> = answer
            .head
            .fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let whole = format!("{}\n{}\n{}", answer.head.start, fields.join("\n"), answer.text());
        let whole = whole.replace(tag, "TAG").replace(tag.split(':').nth(1).unwrap(), "SERVICE");
        whole
            .lines()
            .filter(|line| !line.starts_with("content-length"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let expected = words("alice:other");
    assert!(expected.contains("unknown-tag"), "{expected}");
    for tag in ["bob:other", "carol:other", "alicf:other"] {
        assert_eq!(words(tag), expected, "{tag}");
    }
    if std::env::var("EPHEMWORK_TEST_MEASURE").is_ok() {
        times(&bastion);
    }
}

/// For people: how long the answers take. Each round asks in turn, on one connection, so that what the machine does else is in both.
fn times(bastion: &Bastion) {
    const ROUNDS: usize = 20_000;
    let mut wire = Wire::to(bastion.http);
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (kind, tag) in ["alice:other", "carol:other"].into_iter().enumerate() {
            let begun = Instant::now();
            wire.send(request(COLLEAGUE, tag, "/", ""));
            assert_eq!(wire.answer("GET").status(), 404);
            took[kind].push(begun.elapsed().as_nanos() as f64 / 1000.0);
        }
    }
    for (name, took) in ["user exists", "user does not"].into_iter().zip(&mut took) {
        took.sort_by(f64::total_cmp);
        let mean = took.iter().sum::<f64>() / took.len() as f64;
        let [p10, p50, p90] = [10, 50, 90].map(|percent| took[took.len() * percent / 100]);
        println!("{name}: mean {mean:.2} us, p10 {p10:.2}, p50 {p50:.2}, p90 {p90:.2}");
    }
}

/// A connection from another address of this machine.
fn from(address: [u8; 4], to: SocketAddr) -> Wire {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::from((address, 0))).unwrap();
    connect(&socket, &to).unwrap();
    Wire::of(TcpStream::from(socket))
}

/// Where nothing stands before the edge an address has so many connections, however many it opens.
#[test]
fn a_flood_of_connections_from_one_address() {
    const MOST: usize = 50;
    // 100,000 by hand: they are opened one after the other, and the edge ends those that are too many.
    let flood: usize = std::env::var("EPHEMWORK_TEST_CONNECTIONS").map_or(2_000, |text| text.parse().unwrap());
    let bastion = Bastion::with(&["--trusted-hops", "0", "--client-requests", &MOST.to_string()]);
    let service = Service::saying("yes");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    let mut kept: Vec<Wire> = (0..MOST).map(|_| Wire::to(bastion.http)).collect();
    for wire in &mut kept {
        wire.send(request("", "alice:api", "/", ""));
        assert_eq!(wire.answer("GET").status(), 200);
    }
    let open = || count(&bastion, "http_connections");
    let mut worst = Duration::ZERO;
    for number in 0..flood {
        let mut wire = Wire::to(bastion.http);
        if number % 100 == 0 {
            wire.send(request(COLLEAGUE, "alice:api", "/", "Accept: application/json\r\n"));
            check(
                &wire.answer("GET"),
                429,
                "too-many-connections",
                "127.0.0.1 has as many connections",
            );
            assert_eq!(wire.rest(), b"");
            let begun = Instant::now();
            let mut other = from([127, 0, 0, 2], bastion.http);
            other.send(request("", "alice:api", "/", ""));
            assert_eq!(other.answer("GET").text(), "yes");
            worst = worst.max(begun.elapsed());
        }
    }
    println!("beside the flood of {flood} the slowest answer took {worst:?}");
    assert!(worst < Duration::from_secs(3), "{worst:?}");
    until("only those that may be to be open", || {
        (open() as usize == MOST).then_some(())
    });
    assert!(refused(&bastion, "too-many-connections") as usize >= flood);
    // A place that is given back can be had.
    kept.pop();
    until("the place to be free", || {
        let mut wire = Wire::to(bastion.http);
        wire.send(request("", "alice:api", "/", ""));
        (wire.answer("GET").status() == 200).then_some(())
    });
}

/// The edge leaves descriptors for SSH: with every connection that it takes open, a laptop still comes in.
#[test]
fn a_full_edge_says_so_and_laptops_still_connect() {
    const FILES: u32 = 240;
    let bastion = Bastion::with_files(FILES, &[]);
    let service = Service::saying("yes");
    let mut kept: Vec<Wire> = (0..FILES / 2).map(|_| Wire::to(bastion.http)).collect();
    until("them to be open", || {
        (count(&bastion, "http_connections") == u64::from(FILES / 2)).then_some(())
    });
    let answer = ask(&bastion, COLLEAGUE, "alice:api");
    check(&answer, 503, "too-many-connections", "120 connections open");
    assert_eq!(get(bastion.http, "alice:api", "/ephemwork-health").status(), 200);
    assert!(refused(&bastion, "too-many-connections") >= 2);
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let wire = kept.last_mut().unwrap();
    wire.send(request(COLLEAGUE, "alice:api", "/", ""));
    assert_eq!(wire.answer("GET").text(), "yes");
    drop(kept);
    until("there to be room", || {
        (ask(&bastion, COLLEAGUE, "alice:api").status() == 200).then_some(())
    });
}

/// Heads that come slowly and are large: together they have a limit, whoever sends them.
#[test]
fn heads_have_a_limit_together() {
    const HEADS: usize = 1_200;
    const EACH: usize = 60 * 1024;
    /// What they may take, in KiB, with what else comes and goes.
    const GROWTH: u64 = 160 * 1024;
    let bastion = Bastion::start();
    let service = Service::saying("yes");
    let _ssh = bastion.laptop("alice", &[("api", service.port)]);
    let _turn = heavy();
    let memory = || {
        let text = std::fs::read_to_string(format!("/proc/{}/status", bastion.process.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let before = memory();
    let begin = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Bomb: {}", "b".repeat(EACH));
    let mut bombs: Vec<Wire> = Vec::new();
    for _ in 0..HEADS {
        let mut wire = Wire::to(bastion.http);
        wire.try_send(begin.as_bytes()).ok();
        bombs.push(wire);
    }
    until("the limit to be reached", || {
        (refused(&bastion, "heads-too-many") > 0).then_some(())
    });
    let grown = memory().saturating_sub(before);
    assert!(grown < GROWTH, "{grown} KiB for {HEADS} heads of {EACH} bytes");
    let last = bombs.last_mut().unwrap();
    let answer = last.answer("GET");
    assert_eq!(answer.served_by(), "edge; reason=heads-too-many", "{answer:?}");
    // Those who send what everybody sends are served meanwhile.
    drop(bombs);
    assert_eq!(ask(&bastion, COLLEAGUE, "alice:api").text(), "yes");
    let large = format!("X-Large: {}\r\n", "l".repeat(EACH));
    until("there to be room for a large head", || {
        let answer = fetch(bastion.http, request(COLLEAGUE, "alice:api", "/", &large));
        (answer.status() == 200).then_some(())
    });
}
