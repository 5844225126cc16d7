//! The binary message: a header of 116 bytes, the payload's length, the payload. All integers are big-endian.
//!
//! ```text
//! offset length
//!      0      4 header length, 116: all that stands before the payload's length
//!      4     32 message type, ASCII, filled up with spaces
//!     36      4 schema version, 1
//!     40      8 created, milliseconds since 1970
//!     48      8 sequence number, signed
//!     56      8 flags: 1 SYN, 2 FIN
//!     64     16 message id, a UUID with its halves swapped
//!     80     32 SHA-256 of the payload
//!    112      4 payload type
//!    116      4 payload length
//!    120        payload
//! ```

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::id::Id;

/// What the first field says.
pub(crate) const HEADER: usize = 116;
/// Where the payload begins.
pub(crate) const OVERHEAD: usize = HEADER + 4;
/// Where the message type ends: more than that nobody promises of `start_publication` and `pause_publication`.
const TYPE_END: usize = 36;
/// The flags of an acknowledgement, SYN and FIN. Data has none.
const ACK_FLAGS: u64 = 3;
/// A block from which messages are cut, in bytes.
const BLOCK: usize = 64 * 1024;

/// Payload types of `input_stream_data` and `output_stream_data`.
pub(crate) mod payload {
    pub(crate) const OUTPUT: u32 = 1;
    pub(crate) const HANDSHAKE_REQUEST: u32 = 5;
    pub(crate) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(crate) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(crate) const FLAG: u32 = 10;
}

/// Payloads of type [`payload::FLAG`].
pub(crate) mod flag {
    pub(crate) const TERMINATE_SESSION: u32 = 2;
    pub(crate) const CONNECT_TO_PORT_ERROR: u32 = 3;
}

/// The message types that mean something to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `input_stream_data`, client to agent.
    Input,
    /// `output_stream_data`, agent to client.
    Output,
    /// `acknowledge`, both ways.
    Acknowledge,
    /// `start_publication`: the other side is attached.
    Start,
    /// `pause_publication`: the other side is not attached.
    Pause,
    /// `channel_closed`: the session is over.
    Closed,
    /// Anything else; ignored.
    Other,
}

impl Kind {
    const NAMES: [(&'static str, Kind); 6] = [
        ("input_stream_data", Kind::Input),
        ("output_stream_data", Kind::Output),
        ("acknowledge", Kind::Acknowledge),
        ("start_publication", Kind::Start),
        ("pause_publication", Kind::Pause),
        ("channel_closed", Kind::Closed),
    ];

    fn of(name: &[u8]) -> Kind {
        let filling = |byte: &u8| matches!(byte, b' ' | 0);
        let from = name.iter().position(|byte| !filling(byte)).unwrap_or(name.len());
        let to = name.iter().rposition(|byte| !filling(byte)).map_or(from, |last| last + 1);
        let known = Kind::NAMES.iter().find(|(known, _)| known.as_bytes() == &name[from..to]);
        known.map_or(Kind::Other, |(_, kind)| *kind)
    }

    fn name(self) -> &'static str {
        let known = Kind::NAMES.iter().find(|(_, kind)| *kind == self);
        known.map_or("", |(name, _)| name)
    }
}

/// A message as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: Kind,
    /// Milliseconds since 1970.
    pub created: u64,
    /// Counts the stream messages of one direction from 0; 0 in all others.
    pub sequence: i64,
    pub flags: u64,
    pub id: Id,
    /// What the payload is; see section "payload types" of AWS's agent: 1 data, 5 to 7 handshake, 10 flag.
    pub payload_type: u32,
    /// All that follows the header; the header's own length of it is not relied upon, as in AWS's programs.
    pub payload: Bytes,
}

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Less than a header, or a header that says it is longer than the message.
    Short { bytes: usize },
    /// A header that says it is shorter than its fields.
    Header { length: u32 },
    /// The payload is not the one of which the digest was made.
    Digest,
    /// An acknowledgement that does not say of what.
    Acknowledgement,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Short { bytes } => write!(f, "a message of {bytes} bytes is shorter than its header"),
            Malformed::Header { length } => write!(f, "a header of {length} bytes instead of {HEADER}"),
            Malformed::Digest => f.write_str("the payload does not have the digest that its header says"),
            Malformed::Acknowledgement => f.write_str("an acknowledgement without a sequence number"),
        }
    }
}

impl Message {
    /// Reads one websocket message. Of `start_publication` and `pause_publication` only the type is read: the service sends them
    /// without valid fields. Everything else is checked, the digest unless the payload's length is 0.
    pub fn parse(bytes: Bytes) -> Result<Message, Malformed> {
        let short = Malformed::Short { bytes: bytes.len() };
        let kind = Kind::of(bytes.get(4..TYPE_END).ok_or(short)?);
        if matches!(kind, Kind::Start | Kind::Pause) {
            return Ok(Message {
                kind,
                created: 0,
                sequence: 0,
                flags: 0,
                id: Id([0; 16]),
                payload_type: 0,
                payload: Bytes::new(),
            });
        }
        let length = u32::from_be_bytes(field(&bytes, 0).ok_or(short)?);
        if (length as usize) < HEADER {
            return Err(Malformed::Header { length });
        }
        let start = (length as usize)
            .checked_add(4)
            .filter(|start| *start <= bytes.len())
            .ok_or(short)?;
        let payload_length = u32::from_be_bytes(field(&bytes, length as usize).ok_or(short)?);
        let digest: [u8; 32] = field(&bytes, 80).ok_or(short)?;
        let message = Message {
            kind,
            created: u64::from_be_bytes(field(&bytes, 40).ok_or(short)?),
            sequence: i64::from_be_bytes(field(&bytes, 48).ok_or(short)?),
            flags: u64::from_be_bytes(field(&bytes, 56).ok_or(short)?),
            id: Id::from_wire(field(&bytes, 64).ok_or(short)?),
            payload_type: u32::from_be_bytes(field(&bytes, 112).ok_or(short)?),
            payload: bytes.slice(start..),
        };
        if payload_length != 0 && Sha256::digest(&message.payload)[..] != digest {
            return Err(Malformed::Digest);
        }
        Ok(message)
    }

    /// Of an acknowledgement: the sequence number that arrived.
    pub fn acknowledged(&self) -> Result<i64, Malformed> {
        #[derive(Deserialize)]
        struct Acknowledgement {
            #[serde(rename = "AcknowledgedMessageSequenceNumber")]
            sequence: i64,
        }
        let read: Result<Acknowledgement, _> = serde_json::from_slice(&self.payload);
        read.map(|it| it.sequence).map_err(|_| Malformed::Acknowledgement)
    }

    /// Of `channel_closed`: what a person is told, without the agent's frame around it; empty when the session simply ended.
    pub fn output(&self) -> String {
        #[derive(Deserialize)]
        struct Closed {
            #[serde(rename = "Output")]
            output: Option<String>,
        }
        let read: Result<Closed, _> = serde_json::from_slice(&self.payload);
        let output = read.ok().and_then(|closed| closed.output).unwrap_or_default();
        output.trim().trim_start_matches("----------ERROR-------").trim().to_owned()
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Writes messages into blocks of memory that they share.
#[derive(Debug)]
pub(crate) struct Writer {
    block: BytesMut,
    epoch_millis: u64,
}

impl Writer {
    pub(crate) fn new(epoch_millis: u64) -> Writer {
        Writer {
            block: BytesMut::new(),
            epoch_millis,
        }
    }

    /// A message of the client's stream.
    pub(crate) fn stream(&mut self, now: super::Moment, sequence: u64, id: Id, payload_type: u32, payload: &[u8]) -> Bytes {
        let head = Head {
            kind: Kind::Input,
            sequence,
            flags: 0,
            id,
            payload_type,
        };
        self.write(now, head, &[payload])
    }

    /// The acknowledgement of the agent's stream message `sequence`, which has the id `of`. The payload is what AWS's programs
    /// write, to the byte.
    pub(crate) fn acknowledgement(&mut self, now: super::Moment, sequence: u64, of: Id, id: Id) -> Bytes {
        let head = Head {
            kind: Kind::Acknowledge,
            sequence: 0,
            flags: ACK_FLAGS,
            id,
            payload_type: 0,
        };
        let mut digits = [0; 20];
        let payload: [&[u8]; 5] = [
            br#"{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":""#,
            &of.text(),
            br#"","AcknowledgedMessageSequenceNumber":"#,
            decimal(sequence, &mut digits),
            br#","IsSequentialMessage":true}"#,
        ];
        self.write(now, head, &payload)
    }

    fn write(&mut self, now: super::Moment, head: Head, payload: &[&[u8]]) -> Bytes {
        let length: usize = payload.iter().map(|part| part.len()).sum();
        let (whole, block) = (OVERHEAD + length, &mut self.block);
        if block.capacity() - block.len() < whole {
            block.reserve(whole.max(BLOCK));
        }
        let mut digest = Sha256::new();
        payload.iter().for_each(|part| digest.update(part));
        let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        block.put_u32(HEADER as u32);
        let name = head.kind.name().as_bytes();
        block.put_slice(name);
        block.put_bytes(b' ', 32 - name.len());
        block.put_u32(1);
        // Both real programs refuse 0.
        block.put_u64(self.epoch_millis.saturating_add(millis).max(1));
        block.put_u64(head.sequence);
        block.put_u64(head.flags);
        block.put_slice(&head.id.to_wire());
        block.put_slice(&digest.finalize());
        block.put_u32(head.payload_type);
        block.put_u32(length as u32);
        payload.iter().for_each(|part| block.put_slice(part));
        block.split().freeze()
    }
}

struct Head {
    kind: Kind,
    sequence: u64,
    flags: u64,
    id: Id,
    payload_type: u32,
}

/// The digits of a number, written from the buffer's end.
fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}
