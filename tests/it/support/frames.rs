//! HTTP/2 by hand, frame by frame (RFC 9113, section 4.1), for what no library would send.

use std::net::SocketAddr;

use super::Wire;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// The largest payload of one frame that a peer must take.
const LARGEST: usize = 16_384;

/// A connection with HTTP/2 and prior knowledge.
pub(crate) struct Frames(pub(crate) Wire);

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// An answer with this body.
    Text(String),
    /// The stream was reset with this code.
    Reset(u32),
    /// The connection ended.
    Gone,
}

impl Frames {
    /// Connects and agrees to whatever the server's settings are.
    #[track_caller]
    pub(crate) fn to(at: SocketAddr) -> Frames {
        let mut frames = Frames(Wire::to(at));
        frames.0.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        frames.send(&frame(SETTINGS, 0, 0, b""));
        frames.send(&frame(SETTINGS, ACK, 0, b""));
        frames
    }

    /// Sends some frames; false when they are not taken.
    pub(crate) fn send(&mut self, frames: &[u8]) -> bool {
        self.0.try_send(frames).is_ok()
    }

    /// The next frame: type, flags, stream, payload.
    pub(crate) fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let head = self.0.take(9);
        let head: [u8; 9] = head.try_into().ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let payload = self.0.take(length);
        (payload.len() == length).then_some((head[3], head[4], stream, payload))
    }

    /// Reads until a stream has ended in one way or another.
    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let mut text = Vec::new();
        while let Some((kind, flags, of, payload)) = self.next() {
            if kind == GOAWAY {
                return Outcome::Gone;
            }
            if of != stream {
                continue;
            }
            match kind {
                RST_STREAM => return Outcome::Reset(u32::from_be_bytes(payload[..4].try_into().unwrap())),
                DATA => text.extend(payload),
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Outcome::Text(String::from_utf8_lossy(&text).into_owned());
            }
        }
        Outcome::Gone
    }

    /// A request without a body, and what became of it.
    #[track_caller]
    pub(crate) fn ask(&mut self, stream: u32, fields: &[(&str, &str)]) -> Outcome {
        assert!(self.send(&head(stream, END_STREAM, fields)), "the head is not taken");
        self.outcome(stream)
    }
}

/// One frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A whole head, in as many frames as it needs.
pub(crate) fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let block = block(fields);
    let mut pieces = block.chunks(LARGEST).peekable();
    let mut bytes = Vec::new();
    let mut kind = HEADERS;
    while let Some(piece) = pieces.next() {
        let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        let flags = if kind == HEADERS { flags | last } else { last };
        bytes.extend(frame(kind, flags, stream, piece));
        kind = CONTINUATION;
    }
    bytes
}

/// Fields as literals that are not indexed (RFC 7541, section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        string(&mut bytes, name);
        string(&mut bytes, value);
    }
    bytes
}

/// RFC 7541, sections 5.1 and 5.2, without Huffman's code.
fn string(bytes: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        bytes.push(rest as u8);
    } else {
        bytes.push(127);
        rest -= 127;
        while rest >= 128 {
            bytes.push((rest % 128) as u8 | 128);
            rest /= 128;
        }
        bytes.push(rest as u8);
    }
    bytes.extend(text.as_bytes());
}
