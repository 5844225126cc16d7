//! The binary message of a data channel, written from the protocol's description alone: nothing is shared with the product,
//! so that the two must agree about every byte.

use sha2::{Digest, Sha256};

/// What HeaderLength says: all bytes before PayloadLength.
const HEADER: usize = 116;
/// Where the payload begins.
const PAYLOAD: usize = HEADER + 4;
/// The only SchemaVersion.
const SCHEMA: u32 = 1;

pub(crate) const INPUT: &str = "input_stream_data";
pub(crate) const OUTPUT: &str = "output_stream_data";
pub(crate) const ACKNOWLEDGE: &str = "acknowledge";
pub(crate) const START: &str = "start_publication";
pub(crate) const PAUSE: &str = "pause_publication";
pub(crate) const CLOSED: &str = "channel_closed";

/// PayloadType of stream messages.
pub(crate) mod payload {
    pub(crate) const NONE: u32 = 0;
    pub(crate) const DATA: u32 = 1;
    pub(crate) const SIZE: u32 = 3;
    pub(crate) const HANDSHAKE_REQUEST: u32 = 5;
    pub(crate) const HANDSHAKE_RESPONSE: u32 = 6;
    pub(crate) const HANDSHAKE_COMPLETE: u32 = 7;
    pub(crate) const FLAG: u32 = 10;
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) kind: String,
    /// Milliseconds since the epoch.
    pub(crate) created: u64,
    pub(crate) sequence: i64,
    pub(crate) flags: u64,
    /// The UUID in its usual order of bytes.
    pub(crate) id: [u8; 16],
    pub(crate) payload_type: u32,
    pub(crate) payload: Vec<u8>,
}

impl Message {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PAYLOAD + self.payload.len());
        out.extend((HEADER as u32).to_be_bytes());
        let mut kind = [b' '; 32];
        kind[..self.kind.len()].copy_from_slice(self.kind.as_bytes());
        out.extend(kind);
        out.extend(SCHEMA.to_be_bytes());
        out.extend(self.created.to_be_bytes());
        out.extend(self.sequence.to_be_bytes());
        out.extend(self.flags.to_be_bytes());
        out.extend(&self.id[8..]);
        out.extend(&self.id[..8]);
        out.extend(Sha256::digest(&self.payload));
        out.extend(self.payload_type.to_be_bytes());
        out.extend((self.payload.len() as u32).to_be_bytes());
        out.extend(&self.payload);
        out
    }

    /// Reads one as strictly as it can be read; the error says what is wrong.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Message, String> {
        if bytes.len() < PAYLOAD {
            return Err(format!("a message of {} bytes, at least {PAYLOAD} are a header", bytes.len()));
        }
        let length = u32_at(bytes, 0);
        if length != HEADER as u32 {
            return Err(format!("HeaderLength is {length}, not {HEADER}"));
        }
        let kind = &bytes[4..36];
        let name = kind.iter().position(|&byte| byte == b' ' || byte == 0).unwrap_or(kind.len());
        if kind[name..].iter().any(|&byte| byte != b' ') {
            return Err(format!(
                "MessageType {:?} is not padded with spaces",
                String::from_utf8_lossy(kind)
            ));
        }
        let kind = std::str::from_utf8(&kind[..name])
            .map_err(|_| "MessageType is not ASCII")?
            .to_owned();
        let schema = u32_at(bytes, 36);
        if schema != SCHEMA {
            return Err(format!("SchemaVersion is {schema}, not {SCHEMA}"));
        }
        let payload = &bytes[PAYLOAD..];
        let said = u32_at(bytes, HEADER) as usize;
        if said != payload.len() {
            return Err(format!("PayloadLength is {said}, the payload has {} bytes", payload.len()));
        }
        if Sha256::digest(payload)[..] != bytes[80..112] {
            return Err("PayloadDigest is not the payload's SHA-256".to_owned());
        }
        let mut id = [0; 16];
        id[..8].copy_from_slice(&bytes[72..80]);
        id[8..].copy_from_slice(&bytes[64..72]);
        Ok(Message {
            kind,
            created: u64_at(bytes, 40),
            sequence: u64_at(bytes, 48) as i64,
            flags: u64_at(bytes, 56),
            id,
            payload_type: u32_at(bytes, 112),
            payload: payload.to_vec(),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// A UUID in the form that acknowledgements carry.
pub(crate) fn uuid_text(id: &[u8; 16]) -> String {
    let hex = crate::chance::hex(id);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Whether these bytes are a random UUID (version 4), as they are not when its halves stand in the wrong order.
pub(crate) fn is_random_uuid(id: &[u8; 16]) -> bool {
    id[6] >> 4 == 4 && id[8] >> 6 == 2
}

/// Whether a text is such a UUID, in lower case with hyphens.
pub(crate) fn is_uuid_text(text: &str) -> bool {
    let bytes = text.as_bytes();
    let fits = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
    };
    bytes.len() == 36 && bytes.iter().enumerate().all(fits) && bytes[14] == b'4' && b"89ab".contains(&bytes[19])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            kind: INPUT.to_owned(),
            created: 0x0102_0304_0506_0708,
            sequence: 9,
            flags: 3,
            id: *b"ABCDEFGHIJKLMNOP",
            payload_type: payload::DATA,
            payload: b"abc".to_vec(),
        }
    }

    /// Each field at its place, by the protocol's table.
    #[test]
    fn layout() {
        let bytes = message().encode();
        assert_eq!(bytes[..4], [0, 0, 0, 116]);
        assert_eq!(&bytes[4..36], b"input_stream_data               ");
        assert_eq!(bytes[36..40], [0, 0, 0, 1]);
        assert_eq!(bytes[40..48], [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(bytes[48..56], [0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(bytes[56..64], [0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(&bytes[64..80], b"IJKLMNOPABCDEFGH");
        assert_eq!(crate::chance::hex(&bytes[80..84]), "ba7816bf");
        assert_eq!(bytes[112..120], [0, 0, 0, 1, 0, 0, 0, 3]);
        assert_eq!(&bytes[120..], b"abc");
        assert_eq!(Message::decode(&bytes), Ok(message()));
    }

    #[test]
    fn refusals() {
        let check = |change: fn(&mut Vec<u8>), expected: &str| {
            let mut bytes = message().encode();
            change(&mut bytes);
            let why = Message::decode(&bytes).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check(|bytes| bytes.truncate(119), "119 bytes");
        check(|bytes| bytes[3] = 120, "HeaderLength is 120");
        check(|bytes| bytes[30] = 0, "padded with spaces");
        check(|bytes| bytes[39] = 2, "SchemaVersion is 2");
        check(|bytes| bytes.push(1), "PayloadLength is 3");
        check(|bytes| bytes[80] ^= 1, "SHA-256");
        check(|bytes| bytes[121] ^= 1, "SHA-256");
    }

    #[test]
    fn uuids() {
        let id = [
            0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x41, 0xd1, 0x80, 0xb4, 0, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
        ];
        assert_eq!(uuid_text(&id), "6ba7b810-9dad-41d1-80b4-00c04fd430c8");
        assert!(is_uuid_text(&uuid_text(&id)) && is_random_uuid(&id));
        let swapped: Vec<u8> = [&id[8..], &id[..8]].concat();
        assert!(!is_random_uuid(&swapped.try_into().unwrap()));
        assert!(!is_uuid_text("6BA7B810-9DAD-41D1-80B4-00C04FD430C8"));
        assert!(!is_uuid_text("6ba7b810-9dad-11d1-80b4-00c04fd430c8"));
        assert!(!is_uuid_text("6ba7b8109dad41d180b400c04fd430c8"));
    }
}
