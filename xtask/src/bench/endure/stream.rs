//! As much of HTTP/1.1 and WebSocket as client and service of the endurance load speak, over a blocking socket, and strict: a message that
//! is not complete is never taken for one that is.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes read at a time.
const PIECE: usize = 64 * 1024;

/// The longest head and line, in bytes.
const MAX_HEAD: usize = 32 * 1024;

/// The largest frame of a WebSocket, in bytes.
const MAX_FRAME: u64 = 1 << 20;

/// RFC 6455, section 1.3.
const WEBSOCKET: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

pub(super) const BINARY: u8 = 2;
pub(super) const CLOSE: u8 = 8;

/// A socket with what was read from it and not yet used.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) socket: TcpStream,
    buffer: Vec<u8>,
    start: usize,
}

/// A request's or an answer's.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) line: String,
    /// Names in lower case.
    fields: Vec<(String, String)>,
}

/// How a body ends.
#[derive(Debug)]
pub(super) enum Framing {
    /// After so many more bytes.
    Length(u64),
    /// In chunks; so much is left of the one that was begun.
    Chunked(u64),
    /// With the connection: a cut cannot be told from an end.
    Close,
    Over,
}

impl Head {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(its, _)| its == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// Of an answer.
    pub(super) fn status(&self) -> u16 {
        let status = self.line.split(' ').nth(1).and_then(|text| text.parse().ok());
        status.unwrap_or_default()
    }

    /// How the body behind it is framed; `unsaid` is what no word about it means.
    pub(super) fn framing(&self, unsaid: Framing) -> io::Result<Framing> {
        match (self.field("transfer-encoding"), self.field("content-length")) {
            (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked(0)),
            (None, Some(length)) => match length.parse() {
                Ok(length) => Ok(Framing::Length(length)),
                Err(_) => Err(wrong(format!("Content-Length: {length:?}"))),
            },
            (None, None) => Ok(unsaid),
            both => Err(wrong(format!("a body framed as {both:?}"))),
        }
    }
}

pub(super) fn wrong(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

impl Stream {
    pub(super) fn new(socket: TcpStream) -> io::Result<Stream> {
        socket.set_nodelay(true)?;
        Ok(Stream {
            socket,
            buffer: Vec::new(),
            start: 0,
        })
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// Whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + PIECE, 0);
        let read = loop {
            match self.socket.read(&mut self.buffer[length..]) {
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(length + *read.as_ref().unwrap_or(&0));
        Ok(read? > 0)
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Some bytes, at most so many.
    fn some(&mut self, most: usize) -> io::Result<Vec<u8>> {
        if self.unused().is_empty() && !self.fill()? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let count = self.unused().len().min(most);
        let bytes = self.unused()[..count].to_vec();
        self.start += count;
        Ok(bytes)
    }

    fn exact(&mut self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(count);
        while bytes.len() < count {
            bytes.extend(self.some(count - bytes.len())?);
        }
        Ok(bytes)
    }

    /// A line without its end; `None` at the end of the stream, when nothing came before.
    fn line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unused().windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unused()[..end]).into_owned();
                self.start += end + 2;
                return Ok(Some(line));
            }
            if self.unused().len() > MAX_HEAD {
                return Err(wrong("a line without an end".to_owned()));
            }
            if !self.fill()? {
                return match self.unused().is_empty() {
                    true => Ok(None),
                    false => Err(ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// The next head; `None` when the stream has ended before it.
    pub(super) fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(line) = self.line()? else { return Ok(None) };
        let mut fields = Vec::new();
        loop {
            let field = self.line()?.ok_or(ErrorKind::UnexpectedEof)?;
            if field.is_empty() {
                return Ok(Some(Head { line, fields }));
            }
            let (name, value) = field.split_once(':').ok_or_else(|| wrong(format!("a field {field:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    /// More of a body; `None` at its end.
    pub(super) fn body(&mut self, framing: &mut Framing, most: usize) -> io::Result<Option<Vec<u8>>> {
        match framing {
            Framing::Over | Framing::Length(0) => {
                *framing = Framing::Over;
                Ok(None)
            }
            Framing::Length(left) => {
                let bytes = self.some(most.min(usize::try_from(*left).unwrap_or(usize::MAX)))?;
                *left -= bytes.len() as u64;
                Ok(Some(bytes))
            }
            Framing::Close => {
                if self.unused().is_empty() && !self.fill()? {
                    *framing = Framing::Over;
                    return Ok(None);
                }
                self.some(most).map(Some)
            }
            Framing::Chunked(left) => {
                if *left == 0 {
                    let line = self.line()?.ok_or(ErrorKind::UnexpectedEof)?;
                    let size = line.split(';').next().unwrap_or_default();
                    *left = u64::from_str_radix(size, 16).map_err(|_| wrong(format!("a chunk of {line:?}")))?;
                    if *left == 0 {
                        while !self.line()?.ok_or(ErrorKind::UnexpectedEof)?.is_empty() {}
                        *framing = Framing::Over;
                        return Ok(None);
                    }
                }
                let bytes = self.some(most.min(usize::try_from(*left).unwrap_or(usize::MAX)))?;
                *left -= bytes.len() as u64;
                if *left == 0 && self.exact(2)? != b"\r\n" {
                    return Err(wrong("a chunk without an end".to_owned()));
                }
                Ok(Some(bytes))
            }
        }
    }

    /// The whole rest of a body that is small.
    pub(super) fn text(&mut self, framing: &mut Framing) -> io::Result<String> {
        let mut bytes = Vec::new();
        while let Some(more) = self.body(framing, PIECE)? {
            bytes.extend(more);
            if bytes.len() > MAX_HEAD {
                break;
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A whole frame of a WebSocket that is not fragmented: its kind and payload (RFC 6455, section 5.2).
    pub(super) fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.exact(2)?;
        let length = match head[1] & 0x7f {
            126 => self.exact(2)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            127 => self.exact(8)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        if head[0] & 0xf0 != 0x80 || length > MAX_FRAME {
            return Err(wrong(format!("a frame {head:?} of {length} bytes")));
        }
        let mask = if head[1] & 0x80 == 0 { Vec::new() } else { self.exact(4)? };
        let mut payload = self.exact(usize::try_from(length).unwrap_or(usize::MAX))?;
        if !mask.is_empty() {
            for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
        }
        Ok((head[0] & 0x0f, payload))
    }

    /// Sends one; a client's are masked.
    pub(super) fn send_frame(&mut self, kind: u8, payload: &[u8], mask: Option<[u8; 4]>) -> io::Result<()> {
        let masked = if mask.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![0x80 | kind];
        match payload.len() {
            short @ ..=125 => bytes.push(masked | short as u8),
            middle @ ..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((middle as u16).to_be_bytes());
            }
            long => {
                bytes.push(masked | 127);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        bytes.extend(mask.unwrap_or_default().iter().take(if mask.is_some() { 4 } else { 0 }));
        let from = bytes.len();
        bytes.extend_from_slice(payload);
        if let Some(mask) = mask {
            for (byte, mask) in bytes[from..].iter_mut().zip(mask.iter().cycle()) {
                *byte ^= mask;
            }
        }
        self.send(&bytes)
    }
}

/// What a service answers to `Sec-WebSocket-Key` (RFC 6455, section 4.2.2).
pub(super) fn accept(key: &str) -> String {
    let digest = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("{key}{WEBSOCKET}").as_bytes(),
    );
    base64(digest.as_ref())
}

/// RFC 4648, section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = (bits >> (18 - 6 * place) & 0x3f) as usize;
            text.push(if place <= three.len() {
                char::from(ALPHABET[digit])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn accepts() {
        // The example of RFC 6455, section 1.3.
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    fn said(bytes: &[u8]) -> Stream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.write_all(bytes).unwrap();
        Stream::new(listener.accept().unwrap().0).unwrap()
    }

    #[test]
    fn what_is_cut_is_never_complete() {
        let whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n";
        for cut in 1..=whole.len() {
            let mut stream = said(&whole[..cut]);
            let head = stream.head();
            let Ok(Some(head)) = head else {
                assert!(cut < 47, "a head cut at {cut}");
                continue;
            };
            let text = stream.text(&mut head.framing(Framing::Close).unwrap());
            assert_eq!(text.ok(), (cut == whole.len()).then(|| "helloyou".to_owned()), "cut at {cut}");
        }
        let mut stream = said(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc");
        let head = stream.head().unwrap().unwrap();
        assert!(stream.text(&mut head.framing(Framing::Close).unwrap()).is_err());
    }

    #[test]
    fn frames_there_and_back() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = Stream::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap()).unwrap();
        let mut server = Stream::new(listener.accept().unwrap().0).unwrap();
        for length in [0, 125, 126, 65_535, 65_536] {
            let payload = wire_bytes(length);
            let sent = payload.clone();
            let sending = std::thread::spawn(move || {
                client.send_frame(BINARY, &sent, Some([1, 2, 3, 4])).unwrap();
                client
            });
            assert_eq!(server.frame().unwrap(), (BINARY, payload));
            client = sending.join().unwrap();
        }
    }

    fn wire_bytes(length: usize) -> Vec<u8> {
        crate::bench::wire::pattern(length)
    }
}
