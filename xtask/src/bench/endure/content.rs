//! What every body of the endurance load says: its tag and its nonce, in each KiB, so that a byte of another's answer is seen at once.

use std::sync::OnceLock;

use crate::bench::wire;

/// Each block of this many bytes names whose it is.
pub(super) const BLOCK: usize = 1024;

/// The bytes from which blocks are cut.
const PATTERN: usize = 64 * 1024;

/// How much of a wrong body is shown, in bytes: the names of a block.
const SHOWN: usize = 48;

/// One body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// Whose service made it.
    pub tag: String,
    /// Which request it belongs to; no two have the same.
    pub nonce: u64,
    /// In bytes.
    pub length: u64,
}

/// Compares a body with what it must be while it arrives.
#[derive(Debug)]
pub(super) struct Checker {
    content: Content,
    at: u64,
    block: Vec<u8>,
}

impl Content {
    pub(super) fn new(tag: &str, nonce: u64, length: u64) -> Content {
        Content {
            tag: tag.to_owned(),
            nonce,
            length,
        }
    }

    /// The block with this number, whole.
    fn block(&self, index: u64) -> Vec<u8> {
        static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
        let bytes = BYTES.get_or_init(|| wire::pattern(PATTERN));
        let mut block = format!("{} {:016x} {index:08} ", self.tag, self.nonce).into_bytes();
        let from = self.nonce.wrapping_add(index.wrapping_mul(131)) % (PATTERN - BLOCK) as u64;
        let missing = BLOCK.saturating_sub(block.len());
        block.extend_from_slice(&bytes[from as usize..from as usize + missing]);
        block
    }

    /// All of it, in pieces of so many blocks.
    pub(super) fn pieces(&self, blocks: u64) -> impl Iterator<Item = Vec<u8>> {
        let whole = self.length.div_ceil(BLOCK as u64);
        (0..whole).step_by(blocks.max(1) as usize).map(move |first| {
            let last = whole.min(first + blocks);
            let mut piece: Vec<u8> = (first..last).flat_map(|index| self.block(index)).collect();
            let left = self.length - first * BLOCK as u64;
            piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            piece
        })
    }

    /// For what is to arrive.
    pub(super) fn checker(self) -> Checker {
        Checker {
            content: self,
            at: 0,
            block: Vec::new(),
        }
    }
}

impl Checker {
    /// The next bytes.
    ///
    /// # Errors
    /// They are not the right ones.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let within = (self.at % BLOCK as u64) as usize;
            if within == 0 {
                self.block = self.content.block(self.at / BLOCK as u64);
            }
            let left = usize::try_from(self.content.length - self.at).unwrap_or(usize::MAX);
            let count = bytes.len().min(BLOCK - within).min(left);
            let (right, came) = (&self.block[within..within + count], &bytes[..count]);
            if count == 0 || right != came {
                let show = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]).into_owned();
                return Err(format!(
                    "at byte {} of {}: {:?} in place of {:?}",
                    self.at,
                    self.content.length,
                    show(bytes),
                    show(right)
                ));
            }
            self.at += count as u64;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// The body has ended here.
    ///
    /// # Errors
    /// It should not have.
    pub(super) fn end(&self) -> Result<(), String> {
        match self.at == self.content.length {
            true => Ok(()),
            false => Err(format!(
                "it looks complete after {} of {} bytes",
                self.at, self.content.length
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_and_wrong_bodies() {
        for length in [0, 1, 1023, 1024, 1025, 100_000] {
            let content = Content::new("u00:s0", 7, length);
            let bytes: Vec<u8> = content.pieces(3).flatten().collect();
            assert_eq!(bytes.len() as u64, length);
            let mut checker = content.clone().checker();
            for piece in bytes.chunks(777) {
                checker.take(piece).unwrap();
            }
            checker.end().unwrap();
            assert!(checker.take(b"x").is_err(), "more than there is");
            // Shorter ones have no room for the names.
            if length < 64 {
                continue;
            }
            content.clone().checker().take(&bytes[1..]).unwrap_err();
            let mut short = content.clone().checker();
            short.take(&bytes[..bytes.len() - 1]).unwrap();
            assert!(short.end().unwrap_err().contains("looks complete"));
            let others = [Content::new("u00:s1", 7, length), Content::new("u00:s0", 8, length)];
            for other in others.map(|other| other.pieces(64).flatten().collect::<Vec<u8>>()) {
                assert!(content.clone().checker().take(&other).is_err(), "of {length}");
            }
        }
    }
}
