//! Single rules of the channel.

use std::time::Duration;

use bytes::Bytes;

use super::agent::{Frame, PORT};
use super::settings;
use crate::ssm::{Channel, Event, Input, Refusal, Settings, Transmit, Violation};

const MS: Duration = Duration::from_millis(1);

/// The agent's side by hand: one websocket, no latency.
struct Bench {
    now: Duration,
    channel: Channel,
    next: i64,
}

impl Bench {
    fn new(settings: Settings) -> Bench {
        let mut channel = Channel::new(settings);
        channel.connected(Duration::ZERO, "t");
        assert!(matches!(channel.poll_transmit(Duration::ZERO), Some(Transmit::Text(_))));
        Bench {
            now: Duration::ZERO,
            channel,
            next: 0,
        }
    }

    /// After HandshakeComplete, everything acknowledged.
    fn ready(settings: Settings) -> Bench {
        let mut bench = Bench::new(settings);
        bench.request(PORT);
        assert_eq!(bench.transmits(), ["ack 0", "6"]);
        bench.ack(0);
        bench.output(7, b"{}");
        assert_eq!(bench.transmits(), ["ack 1"]);
        assert!(matches!(bench.channel.poll_event(), Some(Event::Ready { .. })));
        bench
    }

    fn request(&mut self, actions: &str) {
        let request = format!(r#"{{"AgentVersion":"3.3.1142.0","RequestedClientActions":{actions}}}"#);
        self.output(5, request.as_bytes());
    }

    fn output(&mut self, payload_type: u32, payload: &[u8]) {
        self.output_as(self.next, payload_type, payload);
        self.next += 1;
    }

    fn output_as(&mut self, sequence: i64, payload_type: u32, payload: &[u8]) {
        self.arrives("output_stream_data", sequence, payload_type, payload);
    }

    fn ack(&mut self, sequence: i64) {
        let payload = format!(r#"{{"AcknowledgedMessageSequenceNumber":{sequence}}}"#);
        self.arrives("acknowledge", 0, 0, payload.as_bytes());
    }

    fn arrives(&mut self, kind: &str, sequence: i64, payload_type: u32, payload: &[u8]) {
        let frame = Frame {
            kind: kind.into(),
            sequence,
            flags: 0,
            id: "00000000-0000-4000-8000-000000000001".into(),
            payload_type,
            payload: payload.to_vec(),
        };
        self.raw(frame.write());
    }

    fn raw(&mut self, bytes: Vec<u8>) {
        self.channel.handle_input(self.now, Input::Binary(bytes.into()));
    }

    /// Lets time pass as a driver does, up to this moment.
    fn until(&mut self, at: Duration) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(due) = self.channel.poll_timeout().filter(|due| *due <= at) {
            self.now = self.now.max(due);
            self.channel.handle_timeout(self.now);
            all.extend(self.transmits());
        }
        self.now = at;
        all
    }

    /// What goes out: `ack N`, a payload type, or for data its number, a colon and the text.
    fn transmits(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(transmit) = self.channel.poll_transmit(self.now) {
            all.push(match transmit {
                Transmit::Text(_) => "open".to_owned(),
                Transmit::Binary(bytes) => shown(&bytes),
            });
        }
        all
    }

    fn received(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(data) = self.channel.recv(7) {
            all.extend(data);
        }
        all
    }

    fn event(&mut self) -> Option<Event> {
        self.channel.poll_event()
    }
}

fn shown(bytes: &Bytes) -> String {
    let frame = Frame::read(bytes);
    let text = String::from_utf8_lossy(&frame.payload).into_owned();
    match (frame.kind.as_str(), frame.payload_type) {
        ("acknowledge", _) => {
            let number = text.split("SequenceNumber\":").nth(1).and_then(|rest| rest.split(',').next());
            format!("ack {}", number.unwrap_or("?"))
        }
        (_, 1) if text.len() > 20 => format!("{}:{} bytes", frame.sequence, text.len()),
        (_, 1) => format!("{}:{text}", frame.sequence),
        (_, other) => other.to_string(),
    }
}

#[test]
fn nothing_goes_out_before_the_handshake_is_complete() {
    let mut bench = Bench::new(settings(1024));
    assert_eq!(bench.channel.send(b"early"), 5);
    assert!(bench.until(100 * MS).is_empty());
    bench.request(PORT);
    assert_eq!(bench.transmits(), ["ack 0", "6"]);
    bench.ack(0);
    assert!(bench.until(2000 * MS).is_empty());
    bench.output(7, br#"{"CustomerMessage":"hi"}"#);
    let ready = Event::Ready {
        agent_version: "3.3.1142.0".into(),
        customer_message: "hi".into(),
    };
    assert_eq!(bench.event(), Some(ready));
    assert_eq!(bench.transmits(), ["ack 1", "1:early"]);
}

#[test]
fn no_byte_is_altered_and_acks_come_first() {
    let mut bench = Bench::ready(settings(1024));
    bench.channel.send(b"\n");
    bench.output(1, b"\r");
    bench.output(1, b"\n");
    assert_eq!(bench.transmits(), ["ack 2", "ack 3", "1:\n"]);
    assert_eq!(bench.received(), b"\r\n");
    // Every duplicate is acknowledged again, and read once.
    for sequence in [3, 2, 2, 0] {
        bench.output_as(sequence, 1, b"again");
    }
    assert_eq!(bench.transmits(), ["ack 3", "ack 2", "ack 2", "ack 0"]);
    assert!(bench.received().is_empty() && !bench.channel.readable());
    assert_eq!(bench.channel.counters().duplicates, 4);
}

#[test]
fn out_of_order_is_acknowledged_and_kept_within_bounds() {
    let mut settings = settings(1024);
    settings.ahead_messages = 3;
    settings.ahead_bytes = 2 * 121 + 1;
    let mut bench = Bench::ready(settings);
    bench.output_as(6, 1, b"no room");
    bench.output_as(5, 1, b"d");
    bench.output_as(3, 1, b"b");
    bench.output_as(5, 1, b"d");
    bench.output_as(4, 1, b"more bytes than there is room for");
    bench.output_as(-1, 1, b"nonsense");
    bench.output_as(i64::MAX, 1, b"far");
    assert_eq!(bench.transmits(), ["ack 5", "ack 3", "ack 5"]);
    assert!(bench.received().is_empty());
    bench.output_as(2, 1, b"a");
    assert_eq!(bench.received(), b"ab");
    bench.output_as(4, 1, b"c");
    assert_eq!(bench.received(), b"cd");
    let counters = bench.channel.counters();
    assert_eq!((counters.dropped, counters.damaged, counters.duplicates), (3, 1, 1));
}

#[test]
fn a_reader_that_stalls_stops_the_websocket_and_bounds_memory() {
    let mut settings = settings(1024);
    settings.inbox_bytes = 1000;
    let mut bench = Bench::ready(settings);
    bench.channel.send(b"x");
    assert_eq!(bench.transmits(), ["1:x"]);
    let mut count = 0;
    while bench.channel.wants_input() {
        bench.output(1, &[b'a'; 100]);
        count += 100;
    }
    assert!((400..=600).contains(&count), "{count}");
    // What arrives all the same is taken up to twice the bound.
    for _ in 0..100 {
        bench.output(1, &[b'a'; 100]);
    }
    assert!(bench.channel.counters().bytes_received < 1200);
    // While nothing is read, no acknowledgement can come: nothing is sent again and no websocket is given up.
    bench.transmits();
    assert!(bench.until(20_000 * MS).is_empty());
    assert_eq!(bench.event(), None);
    assert!(!bench.received().is_empty() && bench.channel.wants_input());
    let until = bench.now + 99 * MS;
    assert!(bench.until(until).is_empty(), "an acknowledgement has time to be read first");
    let until = bench.now + 500 * MS;
    assert!(!bench.until(until).is_empty());
}

#[test]
fn a_writer_that_stalls_bounds_acknowledgements() {
    let mut settings = settings(1024);
    settings.pending_acks = 10;
    let mut bench = Bench::ready(settings);
    for _ in 0..10 {
        assert!(bench.channel.wants_input());
        bench.output_as(0, 5, b"");
    }
    assert!(!bench.channel.wants_input());
    for _ in 0..100 {
        bench.output_as(0, 5, b"");
    }
    assert_eq!(bench.transmits().len(), 20);
    assert!(bench.channel.wants_input());
}

#[test]
fn the_window_is_bounded_and_pushes_back() {
    let mut settings = settings(200);
    settings.window_messages = 3;
    settings.staged_bytes = 300;
    let mut bench = Bench::ready(settings);
    assert_eq!(bench.channel.send(&[b'a'; 1000]), 300);
    assert_eq!((bench.channel.send(b"b"), bench.channel.capacity()), (0, 0));
    assert_eq!(bench.transmits(), ["1:200 bytes", "2:100 bytes"]);
    assert_eq!(bench.channel.send(&[b'a'; 1000]), 300);
    assert_eq!(bench.transmits(), ["3:200 bytes"]);
    assert_eq!(bench.channel.in_flight(), (3, 500));
    // One in the middle is of no use to a window that is three numbers wide.
    bench.ack(2);
    assert!(bench.transmits().is_empty());
    bench.ack(1);
    assert_eq!(bench.transmits(), ["4:100 bytes"]);
    assert_eq!(bench.channel.capacity(), 300);
    // Nonsense changes nothing.
    for sequence in [-1, 0, 1, 2, 5, i64::MAX] {
        bench.ack(sequence);
    }
    assert_eq!(bench.channel.in_flight(), (2, 300));
    assert_eq!(bench.channel.counters().acks_repeated, 6);
}

#[test]
fn the_first_data_is_sent_again_early_and_then_ever_more_seldom() {
    let mut bench = Bench::ready(settings(1024));
    bench.channel.send(b"SSH-2.0\r\n");
    assert_eq!(bench.transmits().len(), 1);
    assert_eq!(bench.until(29 * MS).len(), 0);
    assert_eq!(bench.until(30 * MS), ["1:SSH-2.0\r\n"]);
    assert_eq!(bench.until(90 * MS).len(), 1);
    assert_eq!(bench.until(2000 * MS).len(), 4);
    assert_eq!(bench.event(), None);
    assert_eq!(bench.until(8000 * MS).len(), 6);
    assert!(matches!(bench.event(), Some(Event::Reconnect(_))));
    bench.until(10_000 * MS);
    assert_eq!((bench.event(), bench.event()), (Some(Event::FirstAckMissing), None));
    bench.until(60_000 * MS);
    assert_eq!(bench.event(), None, "both are told once");
}

#[test]
fn what_was_overtaken_is_sent_again_before_its_timeout() {
    let mut bench = Bench::ready(settings(1024));
    bench.output(1, b"x");
    for text in ["one", "two"] {
        bench.channel.send(text.as_bytes());
        bench.transmits();
        bench.now += MS;
    }
    // The timeout is 100 ms; the second one has arrived after 1 ms.
    bench.ack(2);
    let until = bench.now + 20 * MS;
    assert_eq!(bench.until(until), ["1:one"]);
}

#[test]
fn a_handshake_that_does_not_come() {
    let mut bench = Bench::new(settings(1024));
    bench.until(19_999 * MS);
    assert_eq!(bench.event(), None);
    bench.until(60_000 * MS);
    assert_eq!((bench.event(), bench.event()), (Some(Event::HandshakeMissing), None));
}

#[test]
fn while_the_agent_is_away_there_are_only_probes() {
    let mut bench = Bench::ready(settings(1024));
    bench.channel.send(b"one");
    assert_eq!(bench.transmits(), ["1:one"]);
    bench.raw(Frame::bare("pause_publication"));
    bench.raw(Frame::bare("pause_publication"));
    bench.channel.send(b"two");
    assert!(bench.until(4999 * MS).is_empty());
    assert_eq!(bench.until(5000 * MS), ["1:one"]);
    assert!(bench.until(9999 * MS).is_empty());
    bench.raw(Frame::bare("start_publication"));
    assert_eq!(bench.transmits(), ["1:one", "2:two"]);
    assert_eq!(
        (bench.event(), bench.event(), bench.event()),
        (Some(Event::Paused), Some(Event::Resumed), None)
    );
    // Any word of the agent ends a pause as well.
    bench.raw(Frame::bare("pause_publication"));
    bench.ack(1);
    assert_eq!(bench.transmits(), ["2:two"]);
}

#[test]
fn another_websocket_goes_on_with_the_stream() {
    let mut bench = Bench::ready(settings(1024));
    for text in ["one", "two", "three"] {
        bench.channel.send(text.as_bytes());
        bench.transmits();
    }
    bench.ack(2);
    bench.output(1, b"x");
    bench.channel.disconnected();
    bench.channel.send(b"four");
    assert!(bench.until(60_000 * MS).is_empty(), "without a websocket nothing is due");
    assert_eq!(bench.channel.poll_timeout(), None);
    bench.channel.connected(bench.now, "t");
    assert_eq!(bench.transmits(), ["open", "ack 2", "1:one", "3:three", "4:four"]);
    assert_eq!(bench.event(), None);
}

#[test]
fn the_end() {
    let mut bench = Bench::ready(settings(1024));
    bench.channel.send(b"last");
    bench.channel.finish();
    assert_eq!((bench.channel.send(b"more"), bench.channel.capacity()), (0, 0));
    assert_eq!(bench.transmits(), ["1:last", "10"]);
    assert!(!bench.channel.drained());
    bench.ack(1);
    bench.ack(2);
    assert!(bench.channel.drained());
    bench.output(1, b"bye");
    bench.raw(Frame::closed(r"\n----------ERROR-------\nfailed"));
    let closed = Event::Closed { output: "failed".into() };
    assert_eq!(bench.event(), Some(closed));
    assert_eq!(bench.received(), b"bye");
    assert!(bench.channel.is_over() && bench.transmits().is_empty() && bench.channel.poll_timeout().is_none());
    bench.raw(Frame::closed("again"));
    bench.output(1, b"late");
    assert!(bench.event().is_none() && bench.received().is_empty());
}

#[test]
fn an_old_agent_is_not_told_of_the_end() {
    let mut bench = Bench::new(settings(1024));
    let request = format!(r#"{{"AgentVersion":"2.3.722.0","RequestedClientActions":{PORT}}}"#);
    bench.output(5, request.as_bytes());
    bench.output(7, b"");
    bench.transmits();
    bench.ack(0);
    bench.channel.finish();
    assert!(bench.transmits().is_empty() && bench.channel.drained());
}

#[test]
fn sessions_that_are_something_else() {
    let mut bench = Bench::new(settings(1024));
    bench.output(1, b"$ ");
    assert_eq!(bench.event(), Some(Event::Violated(Violation::NoHandshake)));
    let mut bench = Bench::new(settings(1024));
    bench.output(5, b"what");
    assert_eq!(bench.event(), Some(Event::Violated(Violation::Handshake)));
    let mut bench = Bench::new(settings(1024));
    bench.request(r#"[{"ActionType":"KMSEncryption"}]"#);
    assert_eq!(bench.event(), Some(Event::Refused(Refusal::Encryption)));
    assert_eq!(bench.transmits(), ["ack 0", "6"], "the agent is told why");
    bench.channel.send(b"x");
    bench.output(7, b"");
    assert_eq!(bench.transmits(), ["ack 1"]);
}

#[test]
fn damage_is_not_acknowledged_and_does_not_last_for_ever() {
    let mut bench = Bench::ready(settings(1024));
    for _ in 0..999 {
        bench.raw(vec![1, 2, 3]);
    }
    bench.output(1, b"fine");
    for _ in 0..999 {
        bench.arrives("acknowledge", 0, 0, b"{}");
    }
    assert_eq!(bench.event(), None);
    assert_eq!(bench.transmits(), ["ack 2"]);
    bench.raw(Vec::new());
    assert_eq!(bench.event(), Some(Event::Violated(Violation::Damaged(1000))));
}

#[test]
fn a_gateway_that_refuses_large_messages() {
    let mut bench = Bench::ready(settings(4096));
    bench.channel.send(b"small");
    assert_eq!(bench.transmits(), ["1:small"]);
    bench.channel.send(&[b'a'; 4096 + 100]);
    assert_eq!(bench.transmits(), ["2:4096 bytes", "3:100 bytes"]);
    bench.channel.finish();
    assert_eq!(bench.transmits(), ["10"]);
    bench.channel.payload_refused();
    bench.channel.connected(bench.now, "t");
    let expected = [
        "open",
        "1:small",
        "2:1024 bytes",
        "3:1024 bytes",
        "4:1024 bytes",
        "5:1024 bytes",
        "6:100 bytes",
        "10",
    ];
    assert_eq!(bench.transmits(), expected);
    // After an acknowledgement that says otherwise nothing is cut anew, and in the end the session is given up.
    let mut bench = Bench::ready(settings(4096));
    bench.channel.send(&[b'a'; 8192]);
    assert_eq!(bench.transmits().len(), 2);
    bench.ack(1);
    for _ in 0..4 {
        bench.channel.payload_refused();
        bench.channel.connected(bench.now, "t");
        assert_eq!(bench.transmits(), ["open", "2:4096 bytes"]);
    }
    bench.channel.payload_refused();
    assert_eq!(bench.event(), Some(Event::Violated(Violation::TooLarge(4096))));
}
