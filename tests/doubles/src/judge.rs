//! What a client may send on a data channel, and what it must: every rule that AWS, its agent or a real client relies on.
//!
//! It decides and does nothing. It sees messages as they come from the websocket, before any fault strikes them, and is told
//! which ones have been written to the client, because nothing may be acknowledged, or follow from, what never arrived.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::wire::{self, Message, payload};

/// Flags of an acknowledgement: SYN and FIN.
const ACK_FLAGS: u64 = 3;
/// How many messages' digests are kept to compare retransmissions with.
const KEPT: i64 = 65_536;
/// How long after a reconnect messages may come with a gap before them: those in it were lost with the old connection.
const REJOINING: Duration = Duration::from_secs(5);
/// The most messages that a client may have unacknowledged: AWS's own forgets the oldest beyond it.
const MOST_OUTSTANDING: i64 = 10_000;
/// How far CreatedDate may be from this machine's clock.
const CLOCK: u64 = 24 * 3600 * 1000;

/// What a message of the client is, once nothing is wrong with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// A stream message for the first time.
    New,
    /// A stream message once more.
    Again,
    /// An acknowledgement of the agent's message with this number.
    Acknowledges(i64),
}

/// One delivery to the client that it has not acknowledged yet.
struct Delivery {
    ordinal: u64,
    kind: u32,
}

pub(crate) struct Judge {
    ack_limit: Duration,
    client_id: Option<String>,
    connections: u64,
    joined: Instant,
    /// The lowest sequence number that never came.
    next: i64,
    gaps: BTreeMap<i64, Instant>,
    digests: HashMap<i64, [u8; 32]>,
    /// Message ids of the agent's stream messages by their number, and whether one was delivered whole.
    sent: Vec<([u8; 16], bool)>,
    outstanding: HashMap<i64, Delivery>,
    deliveries: u64,
    /// When it became certain that the client has read everything up to this delivery.
    proofs: VecDeque<(Instant, u64)>,
    requested: bool,
    complete: bool,
    /// The lowest number of the client's that the agent has not acknowledged.
    acked: i64,
}

impl Judge {
    pub(crate) fn new(ack_limit: Duration, now: Instant) -> Judge {
        Judge {
            ack_limit,
            client_id: None,
            connections: 0,
            joined: now,
            next: 0,
            gaps: BTreeMap::new(),
            digests: HashMap::new(),
            sent: Vec::new(),
            outstanding: HashMap::new(),
            deliveries: 0,
            proofs: VecDeque::new(),
            requested: false,
            complete: false,
            acked: 0,
        }
    }

    /// Whether the client was given HandshakeComplete.
    pub(crate) fn complete(&self) -> bool {
        self.complete
    }

    pub(crate) fn ack_limit(&mut self, limit: Duration) {
        self.ack_limit = limit;
    }

    /// The first message on a websocket: gives the token.
    pub(crate) fn opening(&mut self, text: &str, now: Instant) -> Result<String, String> {
        let value: Value = serde_json::from_str(text).map_err(|why| format!("OpenDataChannelInput is not JSON: {why}"))?;
        let members = value.as_object().ok_or("OpenDataChannelInput is no object")?;
        let known = ["MessageSchemaVersion", "RequestId", "TokenValue", "ClientId", "ClientVersion"];
        if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(format!("OpenDataChannelInput has a member {name:?}"));
        }
        let member = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(other) => Err(format!("OpenDataChannelInput's {name} is {other}, not a text")),
        };
        let schema = member("MessageSchemaVersion")?;
        if schema != Some("1.0") {
            return Err(format!(
                "OpenDataChannelInput's MessageSchemaVersion is {schema:?}, not \"1.0\""
            ));
        }
        let request = member("RequestId")?.unwrap_or_default();
        if !wire::is_uuid_text(request) {
            return Err(format!("OpenDataChannelInput's RequestId is {request:?}, not a random UUID"));
        }
        if let Some(client) = member("ClientId")? {
            if !wire::is_uuid_text(client) {
                return Err(format!("OpenDataChannelInput's ClientId is {client:?}, not a random UUID"));
            }
            if self.client_id.get_or_insert_with(|| client.to_owned()) != client {
                return Err("OpenDataChannelInput has another ClientId than at the first connection".to_owned());
            }
        }
        if let Some(version) = member("ClientVersion")? {
            four_numbers(version).map_err(|why| format!("OpenDataChannelInput's ClientVersion {why}"))?;
        }
        let token = member("TokenValue")?.ok_or("OpenDataChannelInput has no TokenValue")?;
        self.connections += 1;
        self.joined = now;
        self.outstanding.clear();
        self.proofs.clear();
        self.gaps.values_mut().for_each(|since| *since = now);
        Ok(token.to_owned())
    }

    /// A binary message of the client's.
    pub(crate) fn message(&mut self, bytes: &[u8], wall_ms: u64, now: Instant) -> Result<(Message, Seen), String> {
        let message = Message::decode(bytes)?;
        if !wire::is_random_uuid(&message.id) {
            return Err(format!(
                "MessageId {} is no random UUID; are its halves in the wrong order?",
                wire::uuid_text(&message.id)
            ));
        }
        if message.created.abs_diff(wall_ms) > CLOCK {
            return Err(format!("CreatedDate is {}, not about now in milliseconds", message.created));
        }
        let seen = match message.kind.as_str() {
            wire::INPUT => self.stream(&message, bytes, now)?,
            wire::ACKNOWLEDGE => Seen::Acknowledges(self.acknowledge(&message, now)?),
            other => return Err(format!("a client sends no {other:?}")),
        };
        Ok((message, seen))
    }

    fn stream(&mut self, message: &Message, bytes: &[u8], now: Instant) -> Result<Seen, String> {
        let number = message.sequence;
        if message.flags != 0 {
            return Err(format!("stream message {number} has flags {}, not 0", message.flags));
        }
        if number < 0 {
            return Err(format!("sequence number {number}"));
        }
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        let gap = self.gaps.remove(&number).is_some();
        if number < self.next && !gap {
            return match self.digests.get(&number) {
                Some(first) if *first != digest => Err(format!("stream message {number} is not the same when it is sent again")),
                _ => Ok(Seen::Again),
            };
        }
        if number > self.next {
            if self.connections < 2 || now.duration_since(self.joined) > REJOINING {
                return Err(format!("stream message {number} comes where {} was to come", self.next));
            }
            if number - self.next > MOST_OUTSTANDING {
                return Err(format!("stream message {number} comes {} after the last", number - self.next));
            }
            self.gaps.extend((self.next..number).map(|missing| (missing, now)));
        }
        self.next = self.next.max(number + 1);
        self.content(message)?;
        if self.outstanding() > MOST_OUTSTANDING {
            return Err(format!(
                "more than {MOST_OUTSTANDING} messages without an acknowledgement are on the way"
            ));
        }
        self.digests.insert(number, digest);
        self.digests.remove(&(number - KEPT));
        Ok(Seen::New)
    }

    fn content(&self, message: &Message) -> Result<(), String> {
        let (number, kind, payload) = (message.sequence, message.payload_type, message.payload.as_slice());
        if number == 0 || kind == payload::HANDSHAKE_RESPONSE {
            if number != 0 || kind != payload::HANDSHAKE_RESPONSE {
                return Err(format!(
                    "stream message {number} has payload type {kind}: the first, and only it, answers the handshake"
                ));
            }
            if !self.requested {
                return Err("the handshake is answered before it was asked for".to_owned());
            }
            return response(payload);
        }
        if !self.complete {
            return Err(format!(
                "stream message {number} (payload type {kind}) is sent before HandshakeComplete came"
            ));
        }
        match kind {
            payload::DATA if payload.is_empty() => Err(format!("stream message {number} carries nothing")),
            payload::DATA | payload::SIZE => Ok(()),
            payload::FLAG if matches!(payload, [0, 0, 0, 1 | 2]) => Ok(()),
            payload::FLAG => Err(format!("flag {payload:?} is none that a client sends")),
            other => Err(format!(
                "stream message {number} has payload type {other}, which no client sends"
            )),
        }
    }

    fn acknowledge(&mut self, message: &Message, now: Instant) -> Result<i64, String> {
        if message.flags != ACK_FLAGS {
            return Err(format!("an acknowledgement has flags {}, not {ACK_FLAGS}", message.flags));
        }
        if message.sequence != 0 || message.payload_type != payload::NONE {
            return Err("an acknowledgement has sequence number or payload type other than 0".to_owned());
        }
        let value: Value =
            serde_json::from_slice(&message.payload).map_err(|why| format!("an acknowledgement is not JSON: {why}"))?;
        let members = value.as_object().filter(|members| members.len() == 4);
        let members = members.ok_or_else(|| format!("an acknowledgement of other than four members: {value}"))?;
        let about = members.get("AcknowledgedMessageType").and_then(Value::as_str);
        let id = members.get("AcknowledgedMessageId").and_then(Value::as_str);
        let number = members.get("AcknowledgedMessageSequenceNumber").and_then(Value::as_i64);
        let sequential = members.get("IsSequentialMessage").and_then(Value::as_bool);
        let (Some(wire::OUTPUT), Some(id), Some(number), Some(true)) = (about, id, number, sequential) else {
            return Err(format!("an acknowledgement that is none: {value}"));
        };
        let sent = usize::try_from(number).ok().and_then(|at| self.sent.get(at));
        let Some((expected, true)) = sent else {
            return Err(format!("message {number} is acknowledged, which never arrived whole"));
        };
        let expected = wire::uuid_text(expected);
        if id != expected {
            return Err(format!("message {number} is acknowledged as {id}; its id is {expected}"));
        }
        if let Some(delivery) = self.outstanding.remove(&number) {
            self.proof(delivery.ordinal, now);
        }
        Ok(number)
    }

    /// A websocket pong that answers a ping sent after this many deliveries: they all have been read.
    pub(crate) fn proof(&mut self, ordinal: u64, now: Instant) {
        if self.proofs.back().is_none_or(|(_, last)| *last < ordinal) {
            self.proofs.push_back((now, ordinal));
        }
    }

    /// How many of the client's messages the agent has not acknowledged.
    pub(crate) fn outstanding(&self) -> i64 {
        self.next - self.acked
    }

    /// How many deliveries there were.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// The agent has made a stream message; its number is that of calls before.
    pub(crate) fn made(&mut self, id: [u8; 16]) {
        self.sent.push((id, false));
    }

    /// The agent acknowledges everything of the client's below this number.
    pub(crate) fn acked(&mut self, below: i64) {
        self.acked = below;
    }

    /// A stream message is about to be written to the client, undamaged.
    pub(crate) fn delivered(&mut self, number: i64, kind: u32) {
        let Some(entry) = usize::try_from(number).ok().and_then(|at| self.sent.get_mut(at)) else {
            return;
        };
        entry.1 = true;
        self.requested |= kind == payload::HANDSHAKE_REQUEST;
        self.complete |= kind == payload::HANDSHAKE_COMPLETE;
        self.deliveries += 1;
        let ordinal = self.deliveries;
        // Of a message that comes again and again, the first time counts.
        self.outstanding.entry(number).or_insert(Delivery { ordinal, kind });
    }

    /// What the client should have done by now and has not; asked only while it is connected.
    pub(crate) fn overdue(&mut self, now: Instant) -> Result<(), String> {
        let mut read = 0;
        while let Some((at, ordinal)) = self.proofs.front()
            && now.duration_since(*at) > self.ack_limit
        {
            read = *ordinal;
            self.proofs.pop_front();
        }
        if read > 0 {
            let missing = self.outstanding.iter().find(|(_, delivery)| delivery.ordinal <= read);
            if let Some((number, delivery)) = missing {
                return Err(format!(
                    "message {number} (payload type {}) was read and is not acknowledged for {:?}",
                    delivery.kind, self.ack_limit
                ));
            }
        }
        // Twice the time of an acknowledgement: the client has to find out what was lost, and to send it again.
        let limit = 2 * self.ack_limit;
        match self.gaps.iter().find(|(_, since)| now.duration_since(**since) > limit) {
            Some((number, _)) => Err(format!("stream message {number} has been missing for {limit:?}")),
            None => Ok(()),
        }
    }
}

/// HandshakeResponse, as the agent reads it.
fn response(payload: &[u8]) -> Result<(), String> {
    let bad = |what: String| Err(format!("HandshakeResponse: {what}"));
    let Ok(value) = serde_json::from_slice::<Value>(payload) else {
        return bad("it is not JSON".to_owned());
    };
    if let Err(why) = four_numbers(value["ClientVersion"].as_str().unwrap_or_default()) {
        return bad(format!("ClientVersion {why}"));
    }
    let actions = value["ProcessedClientActions"].as_array().map(Vec::as_slice);
    let Some([action]) = actions else {
        return bad(format!("one action was asked for, ProcessedClientActions is {actions:?}"));
    };
    if action["ActionType"] != "SessionType" || action["ActionStatus"] != 1 {
        return bad(format!("SessionType is not answered with status 1 but {action}"));
    }
    match value.get("Errors") {
        Some(Value::Null | Value::Array(_)) => Ok(()),
        other => bad(format!("Errors is {other:?}")),
    }
}

fn four_numbers(version: &str) -> Result<(), String> {
    let parts: Vec<&str> = version.split('.').collect();
    let plain = |part: &&str| part.parse::<u32>().is_ok_and(|number| number.to_string() == **part);
    if parts.len() == 4 && parts.iter().all(plain) {
        Ok(())
    } else {
        Err(format!("{version:?} is not four numbers"))
    }
}
