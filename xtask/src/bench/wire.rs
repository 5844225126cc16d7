//! As much of HTTP/1.1 as the load and its service speak to each other through any proxy: heads, and bodies by length or in
//! chunks. It trusts its peers.

/// The longest head that is waited for, in bytes; proxies add a few fields to what we send.
const MAX_HEAD: usize = 16 * 1024;

/// So many bytes to send, the same each time, that no compression makes fewer (xorshift64, Marsaglia 2003).
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What a request's or an answer's head says.
#[derive(Debug)]
pub(crate) struct Head {
    /// The first line: `GET /bytes/10 HTTP/1.1` or `HTTP/1.1 200 OK`.
    pub line: String,
    /// How its body is framed.
    pub body: Body,
    /// How long the head was, with the empty line at its end.
    pub length: usize,
}

/// What is still to come of a body.
#[derive(Debug)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked(Chunk),
}

/// Where in a chunked body one is (RFC 9112, section 7.1).
#[derive(Debug)]
pub(crate) enum Chunk {
    /// In the hexadecimal size, with its value so far.
    Size(u64),
    /// Behind the size, before the line's end, with the chunk's size.
    Extension(u64),
    /// In the data, with how much is left.
    Data(u64),
    /// Before the line's end behind the data.
    DataEnd,
    /// In the trailers, with the length of the line so far.
    Trailer(usize),
    /// Behind the end.
    End,
}

/// What [`Body::take`] made of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Bytes that belonged to the body, its framing included.
    pub bytes: usize,
    /// Bytes of content among them.
    pub content: u64,
}

/// The head at the start of `buffer`, when it is complete.
pub(crate) fn head(buffer: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if buffer.len() > MAX_HEAD {
            Err("a head without an end".to_owned())
        } else {
            Ok(None)
        };
    };
    let text = std::str::from_utf8(&buffer[..end]).map_err(|why| format!("a head that is not text: {why}"))?;
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap_or_default().to_owned();
    let mut body = Body::Length(0);
    for field in lines {
        let Some((name, value)) = field.split_once(':') else {
            continue;
        };
        if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .trim()
                .parse()
                .map_err(|why| format!("content-length {value:?}: {why}"))?;
            body = Body::Length(length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            body = Body::Chunked(Chunk::Size(0));
        }
    }
    Ok(Some(Head {
        line,
        body,
        length: end + 4,
    }))
}

impl Body {
    /// Whether nothing is to come.
    pub(crate) fn over(&self) -> bool {
        matches!(self, Body::Length(0) | Body::Chunked(Chunk::End))
    }

    /// Takes what belongs to the body from the front of `bytes`.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Taken {
        match self {
            Body::Length(left) => {
                let content = (*left).min(bytes.len() as u64);
                *left -= content;
                Taken {
                    bytes: content as usize,
                    content,
                }
            }
            Body::Chunked(chunk) => chunk.take(bytes),
        }
    }
}

impl Chunk {
    fn take(&mut self, bytes: &[u8]) -> Taken {
        let mut taken = Taken { bytes: 0, content: 0 };
        while taken.bytes < bytes.len() && !matches!(self, Chunk::End) {
            if let Chunk::Data(left) = self {
                let part = (*left).min((bytes.len() - taken.bytes) as u64);
                *left -= part;
                taken.bytes += part as usize;
                taken.content += part;
                if *left == 0 {
                    *self = Chunk::DataEnd;
                }
                continue;
            }
            self.step(bytes[taken.bytes]);
            taken.bytes += 1;
        }
        taken
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8) {
        *self = match (&*self, byte) {
            (Chunk::Size(size) | Chunk::Extension(size), b'\n') if *size == 0 => Chunk::Trailer(0),
            (Chunk::Size(size) | Chunk::Extension(size), b'\n') => Chunk::Data(*size),
            (Chunk::Size(size), _) => match char::from(byte).to_digit(16) {
                Some(digit) => Chunk::Size(size * 16 + u64::from(digit)),
                None => Chunk::Extension(*size),
            },
            (Chunk::Extension(size), _) => Chunk::Extension(*size),
            (Chunk::DataEnd, b'\n') => Chunk::Size(0),
            (Chunk::DataEnd, _) => Chunk::DataEnd,
            (Chunk::Trailer(0), b'\n') => Chunk::End,
            (Chunk::Trailer(_), b'\n') => Chunk::Trailer(0),
            (Chunk::Trailer(length), b'\r') => Chunk::Trailer(*length),
            (Chunk::Trailer(length), _) => Chunk::Trailer(length + 1),
            (Chunk::Data(left), _) => Chunk::Data(*left),
            (Chunk::End, _) => Chunk::End,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_in_any_pieces() {
        let whole = b"5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nT: v\r\n\r\nrest";
        for piece in 1..whole.len() {
            let mut body = Body::Chunked(Chunk::Size(0));
            let (mut at, mut content) = (0, 0);
            while !body.over() {
                let taken = body.take(&whole[at..whole.len().min(at + piece)]);
                at += taken.bytes;
                content += taken.content;
            }
            assert_eq!((at, content), (whole.len() - 4, 31), "pieces of {piece}");
        }
    }

    #[test]
    fn heads() {
        let check = |text: &str, length: Option<usize>, over: bool| {
            let head = head(text.as_bytes()).unwrap();
            assert_eq!(head.as_ref().map(|head| head.length), length, "{text:?}");
            assert_eq!(head.is_none_or(|head| head.body.over()), over, "{text:?}");
        };
        check("HTTP/1.1 200 OK\r\n", None, true);
        check("GET / HTTP/1.1\r\n\r\nmore", Some(18), true);
        check("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", Some(38), false);
        check("HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n", Some(46), false);
    }
}
