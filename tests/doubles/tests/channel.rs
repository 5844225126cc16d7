//! What the double does for a client that keeps to the rules, also when it is told to make trouble.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{CALLER, Channel, Double, Frame, INSTANCE, LIMIT, echo, handshake_response, serve, until};

/// Everything that comes as data, in order, until there are `length` bytes.
#[track_caller]
fn collect(channel: &mut Channel, next: &mut i64, length: usize) -> Vec<u8> {
    let mut data = Vec::new();
    let start = Instant::now();
    loop {
        while let Some(payload) = channel.received.remove(next) {
            data.extend(payload);
            *next += 1;
        }
        if data.len() >= length {
            return data;
        }
        assert!(start.elapsed() < LIMIT, "{} of {length} bytes came", data.len());
        channel.next(Duration::from_millis(200));
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 255) as u8).collect()
}

fn opened(double: &Double) -> (Channel, String) {
    let session = double.start_session();
    let mut channel = Channel::open(double, &session);
    channel.shake();
    (channel, session["SessionId"].as_str().unwrap().to_owned())
}

#[test]
fn a_session_from_its_start_to_its_end() {
    let double = Double::start(echo(), &[]);
    let session = double.start_session();
    let id = session["SessionId"].as_str().unwrap();
    assert!(id.starts_with("alice-") && id.len() == 6 + 17, "{id}");
    let mut channel = Channel::open(&double, &session);
    let notice = channel.next(LIMIT).unwrap();
    assert_eq!((notice.kind.as_str(), notice.created), ("start_publication", 0));
    channel.shake();
    channel.deliver(&Frame::data(1, b"hello"));
    assert_eq!(collect(&mut channel, &mut 2, 5), b"hello");
    let seen = double.session(id);
    assert_eq!(
        (&seen["open"], &seen["client"], &seen["agent"], &seen["owner"]),
        (&json!(true), &json!(true), &json!(true), &json!(CALLER))
    );
    assert_eq!(
        seen["up"]["bytes"].as_u64().unwrap(),
        5 + handshake_response().payload.len() as u64
    );
    let listed = double.control("DescribeSessions", json!({"State": "Active"}));
    assert_eq!(
        (&listed["Sessions"][0]["SessionId"], &listed["Sessions"][0]["Status"]),
        (&json!(id), &json!("Connected"))
    );

    double.control("TerminateSession", json!({"SessionId": id}));
    assert_eq!(channel.closed(), "");
    assert_eq!(
        double.control("DescribeSessions", json!({"State": "Active"})),
        json!({"Sessions": []})
    );
    assert_eq!(
        double.control("DescribeSessions", json!({"State": "History"}))["Sessions"][0]["Status"],
        "Terminated"
    );
    assert_eq!(
        double.control("ResumeSession", json!({"SessionId": id})),
        json!({"SessionId": id})
    );
    double.demand_no_violations();
}

#[test]
fn refusals_of_calls() {
    let double = Double::start(echo(), &[]);
    let check = |operation: &str, body: Value, code: &str| {
        let (status, answer) = double.say(&format!("/control/{operation}"), &body);
        assert_eq!((status, answer["code"].as_str()), (400, Some(code)), "{operation} {body}");
    };
    let document = "AWS-StartSSHSession";
    check(
        "StartSession",
        json!({"Target": "i-1", "DocumentName": document}),
        "TargetNotConnected",
    );
    check("StartSession", json!({"Target": INSTANCE}), "InvalidDocument");
    let wrong = json!({"Target": INSTANCE, "DocumentName": document, "Parameters": {"portNumber": ["23"]}});
    check("StartSession", wrong, "InvalidParameters");
    let wrong = json!({"Target": INSTANCE, "DocumentName": document, "Parameters": {"host": ["a"]}});
    check("StartSession", wrong, "InvalidParameters");
    check("ResumeSession", json!({"SessionId": "alice-0"}), "DoesNotExistException");
    check("FlySession", json!({}), "UnknownOperationException");
    double.admin("instance", json!({"instance": INSTANCE, "connected": false}));
    check(
        "StartSession",
        json!({"Target": INSTANCE, "DocumentName": document}),
        "TargetNotConnected",
    );
    double.admin("instance", json!({"instance": INSTANCE, "connected": true}));
    double.start_session();
}

#[test]
fn the_pace_of_the_real_agent() {
    let count = 400;
    let port = serve(move |mut stream| {
        // The client that goes away early fails the test by itself.
        stream.write_all(&pattern(count * 1024)).ok();
        stream.read_exact(&mut [0]).ok();
    });
    let double = Double::start(port, &[]);
    let (mut channel, _) = opened(&double);
    let start = Instant::now();
    assert_eq!(collect(&mut channel, &mut 2, count * 1024), pattern(count * 1024));
    let took = start.elapsed();
    eprintln!("{count} messages took {took:?}");
    assert!(took >= Duration::from_millis(count as u64), "{count} messages took {took:?}");
    double.demand_no_violations();
}

#[test]
fn latency_both_ways() {
    let double = Double::start(echo(), &["latency_ms=50"]);
    let (mut channel, _) = opened(&double);
    channel.deliver(&Frame::data(1, b"a"));
    collect(&mut channel, &mut 2, 1);
    let start = Instant::now();
    channel.send(&Frame::data(2, b"b"));
    assert_eq!(collect(&mut channel, &mut 3, 1), b"b");
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    double.demand_no_violations();
}

/// The agent resends what is not acknowledged, only the oldest, and a duplicate that is acknowledged again ends it.
#[test]
fn duplicates_and_retransmissions() {
    let double = Double::start(echo(), &[]);
    let (mut channel, id) = opened(&double);
    channel.deliver(&Frame::data(1, b"x"));
    collect(&mut channel, &mut 2, 1);
    channel.acks = false;
    let sent = Frame::data(2, b"y");
    channel.send(&sent);
    let first = channel.wait("the echo", |frame| frame.sequence == 3 && frame.payload_type == 1);
    let start = Instant::now();
    let again = channel.wait("the same once more", |frame| frame.sequence == 3 && frame.payload_type == 1);
    assert_eq!(first.bytes(), again.bytes());
    assert!(start.elapsed() >= Duration::from_millis(50));
    channel.send(&again.ack());
    channel.acks = true;
    // A message that came is acknowledged each time it comes, and echoed once.
    for _ in 0..3 {
        channel.deliver(&sent);
    }
    // More when an acknowledgement was late.
    until("three retransmissions", || {
        (double.session(&id)["up"]["retransmissions"].as_u64() >= Some(3)).then_some(())
    });
    assert!(double.session(&id)["down"]["retransmissions"].as_u64().unwrap() >= 1);
    channel.send(&Frame::data(3, b"z"));
    assert_eq!(collect(&mut channel, &mut 4, 1), b"z");
    double.demand_no_violations();
}

/// Cuts of either side lose what is on its way and nothing else.
#[test]
fn a_stream_goes_on_after_cuts() {
    let double = Double::start(echo(), &["agent_back_ms=20"]);
    let (mut channel, id) = opened(&double);
    let mut next = 2;
    for (round, fault) in ["cut_client", "cut_agent", "bye", "cut_client"].iter().enumerate() {
        let number = round as i64 + 1;
        let text = format!("round {round}");
        channel.deliver(&Frame::data(number, text.as_bytes()));
        assert_eq!(collect(&mut channel, &mut next, text.len()), text.as_bytes());
        double.admin("fault", json!({"session": id, *fault: true}));
        if *fault == "cut_agent" {
            channel.wait("pause_publication", |frame| frame.kind == "pause_publication");
            channel.wait("start_publication", |frame| frame.kind == "start_publication");
            continue;
        }
        let start = Instant::now();
        while channel.next(Duration::from_secs(5)).is_some() {
            assert!(start.elapsed() < LIMIT, "{fault} does not end the websocket");
        }
        let resumed = double.control("ResumeSession", json!({"SessionId": id}));
        let received = std::mem::take(&mut channel.received);
        channel = Channel::open(&double, &resumed);
        channel.received = received;
    }
    channel.deliver(&Frame::data(5, b"still there"));
    assert_eq!(collect(&mut channel, &mut next, 11), b"still there");
    assert_eq!(double.session(&id)["websockets"], 4);
    double.demand_no_violations();
}

/// Lost, doubled, reordered and damaged messages in both directions: a client that resends gets the stream whole.
#[test]
fn odds_strike_messages() {
    let double = Double::start(echo(), &[]);
    let (mut channel, id) = opened(&double);
    channel.deliver(&Frame::data(1, b"0"));
    let mut next = 2;
    collect(&mut channel, &mut next, 1);
    let odds = json!({"drop": 0.1, "duplicate": 0.1, "reorder": 0.1, "corrupt": 0.1});
    double.admin("fault", json!({"up": odds, "down": odds}));
    let mut sent = Vec::new();
    for number in 2..60 {
        let text = format!("{number};");
        channel.deliver(&Frame::data(number, text.as_bytes()));
        sent.extend(text.bytes());
    }
    double.admin("fault", json!({"up": {}, "down": {}}));
    assert_eq!(collect(&mut channel, &mut next, sent.len()), sent);
    let session = double.session(&id);
    assert!(session["up"]["retransmissions"].as_u64().unwrap() > 0, "{session}");
    double.demand_no_violations();
}

#[test]
fn an_agent_that_cannot_dial_is_silent_and_then_reported() {
    let closed: SocketAddr = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let double = Double::start(closed, &["crash_after_ms=300"]);
    let (mut channel, _) = opened(&double);
    channel.send(&Frame::data(1, b"hello"));
    let mut acked = 0;
    let closed = channel.wait("channel_closed", |frame| {
        let about: Value = serde_json::from_slice(&frame.payload).unwrap_or_default();
        acked += i32::from(frame.kind == "acknowledge" && about["AcknowledgedMessageSequenceNumber"] == 1);
        frame.kind == "channel_closed"
    });
    assert_eq!(acked, 0, "a worker that is gone acknowledged data");
    assert!(String::from_utf8_lossy(&closed.payload).contains("document process failed unexpectedly"));
    double.demand_no_violations();
}

/// Data in the moment of dialling is not acknowledged, and the retransmission succeeds.
#[test]
fn a_slow_dial() {
    let double = Double::start(echo(), &["dial_ms=400"]);
    let (mut channel, id) = opened(&double);
    channel.deliver(&Frame::data(1, b"hello"));
    assert_eq!(collect(&mut channel, &mut 2, 5), b"hello");
    assert!(double.session(&id)["up"]["retransmissions"].as_u64().unwrap() >= 1);
    double.demand_no_violations();
}

#[test]
fn the_end_of_the_port_closes_the_channel() {
    let double = Double::start(serve(|mut stream: TcpStream| stream.write_all(b"bye").unwrap()), &[]);
    let (mut channel, id) = opened(&double);
    assert_eq!(collect(&mut channel, &mut 2, 3), b"bye");
    assert_eq!(channel.closed(), "");
    assert_eq!(double.session(&id)["over"], "the port was closed");
    double.demand_no_violations();
}

#[test]
fn the_flag_ends_a_session() {
    let double = Double::start(echo(), &[]);
    let (mut channel, id) = opened(&double);
    channel.deliver(&Frame::of("input_stream_data", 1, 10, &[0, 0, 0, 2]));
    assert_eq!(channel.closed(), "");
    assert_eq!(double.session(&id)["open"], false);
    double.demand_no_violations();
}

#[test]
fn faults_of_the_gateway() {
    let double = Double::start(echo(), &[]);
    // A resume that is refused.
    let (channel, id) = opened(&double);
    drop(channel);
    double.admin("fault", json!({"refuse_resume": true}));
    assert_eq!(
        double.control("ResumeSession", json!({"SessionId": id})),
        json!({"SessionId": id})
    );
    double.admin("fault", json!({"refuse_resume": false}));

    // A close with 1009, above a size only.
    double.admin("fault", json!({"close_above": 2000}));
    let (mut channel, _) = opened(&double);
    channel.deliver(&Frame::data(1, &[7; 1024]));
    channel.send(&Frame::data(2, &[7; 2048]));
    let code = until("the close", || match channel.ws.read() {
        Ok(tungstenite::Message::Close(frame)) => Some(u16::from(frame.unwrap().code)),
        _ => None,
    });
    assert_eq!(code, 1009);
    double.admin("fault", json!({"close_above": 0}));

    // A dead agent, and a blackhole: silence.
    for fault in ["kill_agent", "blackhole"] {
        let (mut channel, id) = opened(&double);
        channel.deliver(&Frame::data(1, b"a"));
        collect(&mut channel, &mut 2, 1);
        double.admin("fault", json!({"session": id, fault: true}));
        channel.send(&Frame::data(2, b"b"));
        let silence = std::iter::from_fn(|| channel.next(Duration::from_millis(500)));
        let kinds: Vec<String> = silence.map(|frame| frame.kind).collect();
        assert_eq!(kinds, Vec::<String>::new(), "{fault}");
    }

    // An upgrade that is refused.
    double.admin("upgrade", json!({"status": 403}));
    let session = double.start_session();
    let refused = tungstenite::client(session["StreamUrl"].as_str().unwrap(), double.secure());
    assert!(refused.unwrap_err().to_string().contains("403"));
    double.admin("upgrade", json!({"status": null}));
    Channel::open(&double, &session).shake();
    double.demand_no_violations();
}

/// CONNECT to the double's own websockets through its proxy, in each of its moods.
#[test]
fn a_proxy_of_an_office() {
    let double = Double::start(echo(), &[]);
    let connect = || {
        let mut stream = TcpStream::connect(double.proxy).unwrap();
        let target = double.secure;
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        (String::from_utf8(head).unwrap(), stream)
    };
    let session = double.start_session();
    let url = session["StreamUrl"].as_str().unwrap();
    for (mode, expected) in [("allow", ""), ("strip", "400 Bad Request")] {
        double.admin("proxy", json!({"mode": mode}));
        let (head, stream) = connect();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let opened = tungstenite::client(url, double.over(stream)).map(drop);
        let why = opened.map_or_else(|why| why.to_string(), |()| String::new());
        assert!(
            why.contains(expected) && why.is_empty() == expected.is_empty(),
            "{mode}: {why}"
        );
    }
    double.admin("proxy", json!({"mode": "refuse"}));
    assert!(connect().0.starts_with("HTTP/1.1 403 "));
}
