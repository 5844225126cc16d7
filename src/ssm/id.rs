//! UUIDs: as text, as the wire has them, and made from a seed.

use std::fmt;

use sha2::{Digest, Sha256};

/// A UUID, its bytes in the order of the text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Id(pub(crate) [u8; 16]);

impl Id {
    /// From the message header, where the second half comes first.
    pub(crate) fn from_wire(wire: [u8; 16]) -> Id {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&wire[8..]);
        bytes[8..].copy_from_slice(&wire[..8]);
        Id(bytes)
    }

    /// For the message header; [`Id::from_wire`] of the result is this one again.
    pub(crate) fn to_wire(self) -> [u8; 16] {
        Id::from_wire(self.0).0
    }

    /// The text: 36 characters, lower case.
    pub(crate) fn text(self) -> [u8; 36] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at] = DIGITS[usize::from(byte >> 4)];
            text[at + 1] = DIGITS[usize::from(byte & 15)];
            at += 2;
        }
        text
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

/// Makes ids of version 4 (RFC 9562) from a seed: unguessable when the seed is.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: [u8; 32],
    made: u64,
}

impl Ids {
    pub(crate) fn new(seed: [u8; 32]) -> Ids {
        Ids { seed, made: 0 }
    }

    pub(crate) fn next(&mut self) -> Id {
        let mut hash = Sha256::new();
        hash.update(self.seed);
        hash.update(self.made.to_be_bytes());
        self.made += 1;
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Id(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_wire() {
        let id = Id(*b"\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
        assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(
            id.to_wire(),
            *b"\x88\x99\xaa\xbb\xcc\xdd\xee\xff\x00\x11\x22\x33\x44\x55\x66\x77"
        );
        assert_eq!(Id::from_wire(id.to_wire()), id);
    }

    #[test]
    fn made_ones_differ_and_are_of_version_4() {
        let (mut ids, mut others) = (Ids::new([1; 32]), Ids::new([2; 32]));
        let made: Vec<Id> = (0..100).flat_map(|_| [ids.next(), others.next()]).collect();
        for (index, id) in made.iter().enumerate() {
            let text = id.to_string();
            assert_eq!(&text[14..15], "4", "{text}");
            assert!("89ab".contains(&text[19..20]), "{text}");
            assert!(!made[..index].contains(id), "{text}");
        }
    }
}
