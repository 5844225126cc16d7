//! Each rule that the double holds a client to, broken once: it is noticed, it is said, and it ends the session.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::Message;
use tungstenite::client::IntoClientRequest as _;

use crate::support::{Channel, Double, Frame, echo, handshake_response, opening, serve};

/// A fresh double, on which `act` breaks a rule: exactly one violation says `expected`.
#[track_caller]
fn check(expected: &str, act: impl FnOnce(&Double)) {
    check_with(echo(), expected, act);
}

/// The same with another port of the instance.
#[track_caller]
fn check_with(port: SocketAddr, expected: &str, act: impl FnOnce(&Double)) {
    let double = Double::start(port, &["ack_limit_ms=1000"]);
    act(&double);
    let found = crate::support::until("the violation", || {
        let found = double.violations();
        (!found.is_empty()).then_some(found)
    });
    assert!(
        found.len() == 1 && found[0].contains(expected),
        "expected {expected:?}: {found:?}"
    );
    let forgiven = double.admin("forgive", json!({}));
    assert_eq!(forgiven, json!(found));
    double.demand_no_violations();
}

/// The same within a session whose handshake is complete; the session ends with the violation.
#[track_caller]
fn in_session(expected: &str, act: impl FnOnce(&mut Channel)) {
    check(expected, |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        channel.deliver(&Frame::data(1, b"one"));
        act(&mut channel);
        let output = channel.closed();
        assert!(
            output.starts_with("\n----------ERROR-------\n") && output.contains(expected),
            "{output}"
        );
        assert_eq!(double.session(session["SessionId"].as_str().unwrap())["open"], false);
    });
}

/// A message with one thing changed on the wire.
#[track_caller]
fn on_the_wire(expected: &str, change: impl FnOnce(&mut Vec<u8>)) {
    in_session(expected, |channel| {
        let mut bytes = Frame::data(2, b"two").bytes();
        change(&mut bytes);
        channel.raw(bytes);
    });
}

#[track_caller]
fn changed(expected: &str, change: impl FnOnce(&mut Frame)) {
    in_session(expected, |channel| {
        let mut frame = Frame::data(2, b"two");
        change(&mut frame);
        channel.send(&frame);
    });
}

#[test]
fn the_header() {
    on_the_wire("at least 120", |bytes| bytes.truncate(100));
    on_the_wire("HeaderLength", |bytes| bytes[3] = 120);
    on_the_wire("padded with spaces", |bytes| bytes[35] = 0);
    on_the_wire("SchemaVersion", |bytes| bytes[39] = 2);
    on_the_wire("SHA-256", |bytes| bytes[80] ^= 1);
    on_the_wire("PayloadLength", |bytes| bytes[119] ^= 1);
    on_the_wire("halves", |bytes| bytes[64..80].rotate_left(8));
    changed("CreatedDate is 0", |frame| frame.created = 0);
    changed("CreatedDate", |frame| frame.created /= 1000);
    changed("a client sends no \"output_stream_data\"", |frame| {
        frame.kind = "output_stream_data".to_owned()
    });
}

#[test]
fn the_stream() {
    changed("flags 1", |frame| frame.flags = 1);
    changed("comes where 2", |frame| frame.sequence = 3);
    changed("sequence number -1", |frame| frame.sequence = -1);
    changed("carries nothing", |frame| frame.payload.clear());
    changed("which no client sends", |frame| frame.payload_type = 2);
    changed("none that a client sends", |frame| {
        frame.payload_type = 10;
        frame.payload = vec![0, 0, 0, 3];
    });
    changed("the first, and only it", |frame| frame.payload_type = 6);
    in_session("not the same when it is sent again", |channel| {
        channel.send(&Frame::data(1, b"other"))
    });
}

#[test]
fn the_handshake() {
    let after_request = |expected: &str, frame: Frame| {
        check(expected, |double| {
            let session = double.start_session();
            let mut channel = Channel::open(double, &session);
            channel.wait("HandshakeRequest", |frame| frame.payload_type == 5);
            channel.send(&frame);
            channel.closed();
        });
    };
    after_request("the first, and only it", Frame::data(0, b"early"));
    let response = |change: fn(&mut Value)| {
        let mut frame = handshake_response();
        let mut content: Value = serde_json::from_slice(&frame.payload).unwrap();
        change(&mut content);
        frame.payload = content.to_string().into_bytes();
        frame
    };
    after_request(
        "not four numbers",
        response(|content| content["ClientVersion"] = json!("1.2.3")),
    );
    after_request(
        "not four numbers",
        response(|content| content["ClientVersion"] = json!("1.2.03.4")),
    );
    after_request(
        "one action",
        response(|content| content["ProcessedClientActions"] = json!([])),
    );
    after_request(
        "status 1",
        response(|content| content["ProcessedClientActions"][0]["ActionStatus"] = json!(3)),
    );
    after_request("Errors is", response(|content| content["Errors"] = json!("")));

    check("before HandshakeComplete", |double| {
        // The agent's answer takes a while, which an impatient client does not wait for.
        double.admin("settings", json!({"latency_ms": 200}));
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.wait("HandshakeRequest", |frame| frame.payload_type == 5);
        channel.send(&handshake_response());
        channel.send(&Frame::data(1, b"early"));
        channel.closed();
    });
    check("before it was asked for", |double| {
        double.admin("settings", json!({"latency_ms": 500}));
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.send(&handshake_response());
        channel.closed();
    });
}

#[test]
fn acknowledgements() {
    let acking = |expected: &str, change: fn(&mut Frame)| {
        in_session(expected, |channel| {
            channel.acks = false;
            channel.send(&Frame::data(2, b"two"));
            let frame = channel.wait("an echo", |frame| frame.payload_type == 1);
            let mut ack = frame.ack();
            change(&mut ack);
            channel.send(&ack);
        });
    };
    fn content(ack: &mut Frame, change: fn(&mut Value)) {
        let mut content: Value = serde_json::from_slice(&ack.payload).unwrap();
        change(&mut content);
        ack.payload = content.to_string().into_bytes();
    }
    acking("an acknowledgement has flags 0", |ack| ack.flags = 0);
    acking("other than 0", |ack| ack.sequence = 1);
    acking("other than 0", |ack| ack.payload_type = 1);
    acking("not JSON", |ack| ack.payload = b"{".to_vec());
    acking("four members", |ack| content(ack, |content| content["More"] = json!(1)));
    acking("none", |ack| {
        content(ack, |content| content["IsSequentialMessage"] = json!(false))
    });
    acking("none", |ack| {
        content(ack, |content| content["AcknowledgedMessageType"] = json!("input_stream_data"))
    });
    acking("its id is", |ack| {
        content(ack, |content| {
            let id = content["AcknowledgedMessageId"].as_str().unwrap().to_owned();
            let swapped = format!("{}{}", &id[19..], &id[..18]);
            content["AcknowledgedMessageId"] = json!(swapped);
        });
    });
    acking("never arrived", |ack| {
        content(ack, |content| content["AcknowledgedMessageSequenceNumber"] = json!(99))
    });
}

/// After a reconnect messages may come before those that the old connection lost, which have to follow.
#[test]
fn a_gap_after_a_reconnect() {
    let again = |double: &Double, session: &Value| {
        double.admin("fault", json!({"cut_client": true}));
        let resumed = double.control("ResumeSession", json!({"SessionId": session["SessionId"]}));
        Channel::open(double, &resumed)
    };
    let double = Double::start(echo(), &["ack_limit_ms=300"]);
    let session = double.start_session();
    let mut channel = Channel::open(&double, &session);
    channel.shake();
    channel.deliver(&Frame::data(1, b"1"));
    let mut channel = again(&double, &session);
    for number in [4, 2, 3, 5] {
        channel.deliver(&Frame::data(number, b"n"));
    }
    let state = double.session(session["SessionId"].as_str().unwrap());
    assert_eq!((&state["up"]["messages"], &state["open"]), (&json!(6), &json!(true)));
    double.demand_no_violations();

    check("has been missing for 2s", |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        channel.deliver(&Frame::data(1, b"1"));
        let mut channel = again(double, &session);
        channel.deliver(&Frame::data(3, b"3"));
        channel.closed();
    });
}

/// A client has to hold back what the agent does not acknowledge.
#[test]
fn no_window() {
    check("more than 10000 messages", |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        channel.deliver(&Frame::data(1, b"1"));
        double.admin("fault", json!({"kill_agent": true}));
        (2..=10_002).for_each(|number| channel.send(&Frame::data(number, b"n")));
        channel.closed();
    });
}

/// One that is never acknowledged, although what the client read later is, or its pongs say that it reads.
#[test]
fn a_missing_acknowledgement() {
    in_session("is not acknowledged", |channel| {
        channel.acks = false;
        channel.send(&Frame::data(2, b"two"));
    });
    // A duplicate has to be acknowledged too: the agent sends one, because the first acknowledgement was lost behind the gateway.
    let signal = Arc::new(Barrier::new(2));
    let awaited = Arc::clone(&signal);
    let port = serve(move |mut stream| {
        awaited.wait();
        stream.write_all(b"late").unwrap();
        // Until the session is over.
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    check_with(port, "is not acknowledged", |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        // Its acknowledgement says that all before it has passed the gateway.
        channel.deliver(&Frame::data(1, b"one"));
        double.admin("fault", json!({"up": {"drop": 1.0}}));
        signal.wait();
        let is_data = |frame: &Frame| frame.kind == "output_stream_data" && frame.payload == b"late";
        let first = channel.wait("data", is_data);
        channel.acks = false;
        let again = channel.wait("a duplicate", is_data);
        assert_eq!(first.sequence, again.sequence);
        channel.closed();
    });
}

/// A damaged message must not be acknowledged.
#[test]
fn a_damaged_message() {
    in_session_with_damage("never arrived whole");
}

#[track_caller]
fn in_session_with_damage(expected: &str) {
    check(expected, |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        channel.deliver(&Frame::data(1, b"one"));
        double.admin("fault", json!({"down": {"corrupt": 1.0}}));
        channel.send(&Frame::data(2, b"two"));
        // The damaged echo, read by hand.
        channel
            .ws
            .get_ref()
            .sock
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        loop {
            let Ok(Message::Binary(bytes)) = channel.ws.read() else {
                continue;
            };
            let (frame, whole) = Frame::read(&bytes);
            if frame.kind == "output_stream_data" && !whole {
                channel.send(&frame.ack());
                break;
            }
        }
        channel.closed();
    });
}

#[test]
fn the_opening() {
    let with = |expected: &str, change: fn(&mut Value)| {
        check(expected, |double| {
            let session = double.start_session();
            let mut text = opening(&session["TokenValue"]);
            change(&mut text);
            Channel::upgrade(double, &session).text(&text.to_string());
        });
    };
    with("MessageSchemaVersion", |text| text["MessageSchemaVersion"] = json!(1));
    with("MessageSchemaVersion", |text| text["MessageSchemaVersion"] = json!("2.0"));
    with("RequestId", |text| text["RequestId"] = json!("request"));
    with("ClientId", |text| {
        text["ClientId"] = json!("66666666-7777-1888-9999-aaaaaaaaaaaa")
    });
    with("ClientVersion", |text| text["ClientVersion"] = json!("1.2"));
    with("a member \"Token\"", |text| text["Token"] = json!(""));
    with("never gave", |text| text["TokenValue"] = json!("another"));
    check("not JSON", |double| {
        Channel::upgrade(double, &double.start_session()).text("{")
    });
    check("no text", |double| {
        Channel::upgrade(double, &double.start_session()).send(&handshake_response())
    });
    check("for the second time", |double| {
        let session = double.start_session();
        let mut channel = Channel::open(double, &session);
        channel.shake();
        Channel::open(double, &session).next(Duration::from_secs(5));
    });
    check("another ClientId", |double| {
        let session = double.start_session();
        Channel::open(double, &session).shake();
        let resumed = double.control("ResumeSession", json!({"SessionId": session["SessionId"]}));
        let mut text = opening(&resumed["TokenValue"]);
        text["ClientId"] = json!("66666666-7777-4888-9999-bbbbbbbbbbbb");
        Channel::upgrade(double, &resumed).text(&text.to_string());
    });
    in_session("a text message behind", |channel| channel.text("more"));
}

#[test]
fn the_upgrade() {
    let with = |expected: &str, change: fn(&mut String, &mut tungstenite::http::HeaderMap)| {
        check(expected, |double| {
            let session = double.start_session();
            let mut url = session["StreamUrl"].as_str().unwrap().to_owned();
            let mut headers = tungstenite::http::HeaderMap::new();
            change(&mut url, &mut headers);
            let mut request = url.into_client_request().unwrap();
            request.headers_mut().extend(headers);
            tungstenite::client(request, double.secure()).unwrap_err();
        });
    };
    with("query is", |url, _| *url = url.replace("publish_subscribe", "subscribe"));
    with("never was", |url, _| *url = url.replace("/alice-", "/bob-"));
    with("Host is", |_, headers| {
        drop(headers.insert("host", "ssmmessages".parse().unwrap()))
    });
    with("offers sec-websocket-extensions", |_, headers| {
        headers.insert("sec-websocket-extensions", "permessage-deflate".parse().unwrap());
    });
}
