//! What an agent's session worker remembers, and its timers. The threads that move its bytes are in worker.rs.

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wire::{self, Message, payload};
use crate::{chance, lane};

/// How many messages the agent keeps, unacknowledged or out of order.
pub(crate) const BUFFER: usize = 100_000;
/// How long it waits for HandshakeResponse.
pub(crate) const HANDSHAKE: Duration = Duration::from_secs(15);
/// How long it waits at the end until its buffer is acknowledged.
pub(crate) const FLUSH: Duration = Duration::from_secs(2);
/// How often it looks at its oldest unacknowledged message.
pub(crate) const LOOK: Duration = Duration::from_millis(100);

const FIRST_SRTT: Duration = Duration::from_millis(100);
const FIRST_RTO: Duration = Duration::from_millis(200);
const GRANULARITY: Duration = Duration::from_millis(10);
const MOST_RTO: Duration = Duration::from_secs(1);

/// Where a worker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The client has not come yet.
    Waiting,
    /// HandshakeRequest is sent, since then.
    Asked(Instant),
    /// HandshakeComplete is sent, and the port is being dialled.
    Dialling,
    /// The port is connected.
    Ready,
    /// Everything of the port's is sent; waits for acknowledgements since then.
    Finishing(Instant),
}

/// A message that the client has not acknowledged.
struct Unacked {
    bytes: Vec<u8>,
    kind: u32,
    sent: Instant,
}

/// A session worker.
pub(crate) struct Agent {
    /// False once it has crashed or its machine was restarted without it.
    pub(crate) alive: bool,
    /// Whether its websocket stands.
    pub(crate) attached: bool,
    /// When it comes back.
    pub(crate) back: Option<Instant>,
    pub(crate) phase: Phase,
    /// It does not read its port.
    pub(crate) paused: bool,
    /// When the gateway notices that it crashed.
    pub(crate) crash: Option<Instant>,
    /// The next number it expects of the client.
    pub(crate) expected: i64,
    pub(crate) buffered: BTreeMap<i64, Message>,
    pub(crate) port: Option<Arc<TcpStream>>,
    next: i64,
    unacked: BTreeMap<i64, Unacked>,
    looked: Instant,
    srtt: Duration,
    rttvar: Duration,
    rto: Duration,
}

/// A message of the agent's for the gateway.
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) number: i64,
    pub(crate) kind: u32,
    pub(crate) id: [u8; 16],
}

impl Agent {
    pub(crate) fn new(now: Instant) -> Agent {
        Agent {
            alive: true,
            attached: true,
            back: None,
            phase: Phase::Waiting,
            paused: false,
            crash: None,
            expected: 0,
            buffered: BTreeMap::new(),
            port: None,
            next: 0,
            unacked: BTreeMap::new(),
            looked: now,
            srtt: FIRST_SRTT,
            rttvar: Duration::ZERO,
            rto: FIRST_RTO,
        }
    }

    /// Makes its next stream message and keeps it.
    pub(crate) fn stream(&mut self, kind: u32, payload: &[u8], now: Instant) -> Outgoing {
        let message = Message {
            kind: wire::OUTPUT.to_owned(),
            created: chance::now_ms(),
            sequence: self.next,
            // The real one's first message carries SYN.
            flags: u64::from(self.next == 0),
            id: chance::uuid(),
            payload_type: kind,
            payload: payload.to_vec(),
        };
        let bytes = message.encode();
        if self.unacked.len() < BUFFER {
            let unacked = Unacked {
                bytes: bytes.clone(),
                kind,
                sent: now,
            };
            self.unacked.insert(self.next, unacked);
        }
        self.next += 1;
        Outgoing {
            bytes,
            number: message.sequence,
            kind,
            id: message.id,
        }
    }

    /// The client acknowledges a message.
    pub(crate) fn acknowledged(&mut self, number: i64, now: Instant) {
        let Some(entry) = self.unacked.remove(&number) else { return };
        let sample = now.duration_since(entry.sent);
        self.rttvar = self.rttvar * 3 / 4 + self.srtt.abs_diff(sample) / 4;
        self.srtt = self.srtt * 7 / 8 + sample / 8;
        self.rto = (self.srtt + GRANULARITY.max(self.rttvar * 4)).min(MOST_RTO);
    }

    /// Whether all it sent is acknowledged.
    pub(crate) fn flushed(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Every 100 ms the oldest unacknowledged message, if it has been out for longer than the RTO; only that one.
    pub(crate) fn resend(&mut self, now: Instant) -> Option<(Vec<u8>, i64, u32)> {
        if now.duration_since(self.looked) < LOOK {
            return None;
        }
        self.looked = now;
        let rto = self.rto;
        let (number, oldest) = self.unacked.iter_mut().next()?;
        if now.duration_since(oldest.sent) <= rto {
            return None;
        }
        oldest.sent = now;
        Some((oldest.bytes.clone(), *number, oldest.kind))
    }
}

/// The acknowledgement of a message of the client's.
pub(crate) fn acknowledgement(of: &Message) -> Vec<u8> {
    let content = json!({
        "AcknowledgedMessageType": of.kind,
        "AcknowledgedMessageId": wire::uuid_text(&of.id),
        "AcknowledgedMessageSequenceNumber": of.sequence,
        "IsSequentialMessage": true,
    });
    plain(wire::ACKNOWLEDGE, 3, &content)
}

/// HandshakeRequest of a port session.
pub(crate) fn handshake_request(document: &str, port: u16) -> Vec<u8> {
    let mut properties = json!({"portNumber": port.to_string()});
    if document == "AWS-StartPortForwardingSession" {
        properties["type"] = json!("LocalPortForwarding");
    }
    let request = json!({
        // Older than multiplexing, so that a port document means one connection too.
        "AgentVersion": if document == "AWS-StartSSHSession" { "3.3.3050.0" } else { "3.0.196.0" },
        "RequestedClientActions": [{
            "ActionType": "SessionType",
            "ActionParameters": {"SessionType": "Port", "Properties": properties},
        }],
    });
    request.to_string().into_bytes()
}

pub(crate) fn handshake_complete(since: Duration) -> Vec<u8> {
    let nanoseconds = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
    json!({"HandshakeTimeToComplete": nanoseconds, "CustomerMessage": ""})
        .to_string()
        .into_bytes()
}

/// channel_closed for a client.
pub(crate) fn closed(session: &str, target: &str, output: &str) -> Vec<u8> {
    let content = json!({
        "MessageType": wire::CLOSED,
        "MessageId": wire::uuid_text(&chance::uuid()),
        "DestinationId": target,
        "SessionId": session,
        "SchemaVersion": 1,
        "CreatedDate": chance::now_ms().to_string(),
        "Output": output,
    });
    plain(wire::CLOSED, 0, &content)
}

/// start_publication or pause_publication, whose header is not valid by the usual rules: no date, no digest, no id.
pub(crate) fn notice(kind: &str) -> Vec<u8> {
    let mut bytes = Message {
        kind: kind.to_owned(),
        created: 0,
        sequence: 0,
        flags: 3,
        id: [0; 16],
        payload_type: payload::NONE,
        payload: Vec::new(),
    }
    .encode();
    bytes[80..112].fill(0);
    bytes
}

fn plain(kind: &str, flags: u64, content: &Value) -> Vec<u8> {
    Message {
        kind: kind.to_owned(),
        created: chance::now_ms(),
        sequence: 0,
        flags,
        id: chance::uuid(),
        payload_type: payload::NONE,
        payload: content.to_string().into_bytes(),
    }
    .encode()
}

/// A message with a byte of its payload, or of its digest, changed.
pub(crate) fn corrupt(bytes: &mut [u8], dice: &mut chance::Dice) {
    const DIGEST: usize = 80;
    const PAYLOAD: usize = 120;
    let first = if bytes.len() > PAYLOAD { PAYLOAD } else { DIGEST };
    let at = first + dice.below((bytes.len() - first).min(lane::ROOM));
    bytes[at] ^= 0x20;
}
