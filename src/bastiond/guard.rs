//! What of a client's HTTP/1 bytes may reach the HTTP parser: a framing checker without I/O.
//!
//! Two parsers that disagree about where a message ends are how requests are smuggled. This one passes on only what can be
//! read in one way (RFC 9112, sections 2.2, 5, 6 and 7.1), and knows for each refusal the reason in a sentence.
//! It never waits for more than a head, and what it passes is not refused behind it.

pub(crate) mod http2;
mod target;

use http::StatusCode;

use target::Target;
pub(crate) use target::encoded;

/// The largest request head, in bytes. ALB allows 64 KB for all headers together.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// The most header lines of a request; hyper's parser takes no more.
pub(crate) const MAX_HEADERS: usize = 100;

/// The longest line that gives a chunk's size, with its extensions, in bytes.
const MAX_CHUNK_LINE: usize = 1024;

/// All chunk extensions of one body together, in bytes. hyper's own limit is one more.
const MAX_EXTENSIONS: usize = 16 * 1024 - 2;

/// The longest trailer section, in bytes. hyper's own limit is one more.
const MAX_TRAILERS: usize = 16 * 1024 - 2;

/// The most trailers; hyper takes no more.
const MAX_TRAILER_COUNT: usize = 100;

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// For `reason=` in the Served-By header.
    pub(crate) reason: &'static str,
    /// For a person.
    pub(crate) what: &'static str,
}

/// What to do with the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// So many of them are right; ask again with the rest.
    Pass(usize),
    /// A head of so many bytes is right, once what stands between `from` and `to` in it is [`encoded`]; ask again with the rest.
    Encode { head: usize, from: usize, to: usize },
    /// They are the beginning of something; ask again when there are more.
    More,
    /// Nothing of what follows may be read.
    Refuse(Refusal),
}

/// One client connection's framing.
#[derive(Debug)]
pub(crate) struct Guard {
    state: State,
    /// How much of the head at hand was looked at already for its end.
    searched: usize,
    /// How long the chunk extensions of the body at hand were so far, in bytes.
    extensions: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    /// A body with so many bytes to come.
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end behind a chunk's data.
    ChunkEnd,
    /// Behind the last chunk; so many bytes and fields of it were passed.
    Trailers(usize, usize),
    /// After a request for an upgrade: the edge ends the connection unless the upgrade happened.
    Opaque,
}

impl Guard {
    pub(crate) fn new() -> Guard {
        Guard {
            state: State::Head,
            searched: 0,
            extensions: 0,
        }
    }

    /// How many of the next bytes are a body's, so that they may be read past this checker; tell [`Guard::passed`] then.
    pub(crate) fn free(&self) -> u64 {
        match self.state {
            State::Body(rest) | State::ChunkData(rest) => rest,
            State::Opaque => u64::MAX,
            _ => 0,
        }
    }

    /// So many free bytes were read.
    pub(crate) fn passed(&mut self, count: u64) {
        match self.state {
            State::Body(rest) => {
                let rest = rest.saturating_sub(count);
                self.state = if rest == 0 { State::Head } else { State::Body(rest) };
            }
            State::ChunkData(rest) => {
                let rest = rest.saturating_sub(count);
                self.state = if rest == 0 { State::ChunkEnd } else { State::ChunkData(rest) };
            }
            _ => {}
        }
    }

    /// Whether it waits for the first or a further byte of a head.
    pub(crate) fn in_head(&self) -> bool {
        self.state == State::Head
    }

    /// Looks at the bytes that were read and not yet passed.
    pub(crate) fn check(&mut self, bytes: &[u8]) -> Verdict {
        if bytes.is_empty() {
            return Verdict::More;
        }
        match self.state {
            State::Head => self.head(bytes),
            State::Body(_) | State::ChunkData(_) => {
                let count = usize::try_from(self.free()).unwrap_or(usize::MAX).min(bytes.len());
                self.passed(count as u64);
                Verdict::Pass(count)
            }
            State::ChunkSize => self.chunk_size(bytes),
            State::ChunkEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkSize;
                    Verdict::Pass(2)
                }
                [b'\r'] => Verdict::More,
                _ => refuse(
                    "bad-chunk",
                    "a chunk of the body is longer than its size says, or does not end with CR LF",
                ),
            },
            State::Trailers(passed, count) => self.trailer(bytes, passed, count),
            State::Opaque => Verdict::Pass(bytes.len()),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Verdict {
        // A server should ignore empty lines before a request line (RFC 9112, section 2.2); they are not passed on as a head.
        if bytes[0] == b'\r' || bytes[0] == b'\n' {
            return match bytes {
                [b'\r', b'\n', ..] => Verdict::Pass(2),
                [b'\r'] => Verdict::More,
                _ => refuse("bare-line-end", "a line of the head ends with a bare CR or LF"),
            };
        }
        if bytes[0] == TLS_RECORD {
            return refuse("tls", "the client speaks TLS, and this port takes HTTP without it");
        }
        if !is_token_byte(bytes[0]) {
            return Verdict::Refuse(WRONG_LINE);
        }
        let from = self.searched.saturating_sub(3).min(bytes.len());
        let Some(end) = memchr::memmem::find(&bytes[from..], b"\r\n\r\n") else {
            self.searched = bytes.len();
            if bytes.len() > MAX_HEAD {
                return Verdict::Refuse(TOO_LARGE);
            }
            // A head that will never end with CR LF CR LF is refused now, not when time runs out.
            return match bare_line_end(bytes, false) {
                true => refuse("bare-line-end", "a line of the head ends with a bare CR or LF"),
                false => Verdict::More,
            };
        };
        self.searched = 0;
        let end = from + end + 4;
        if end > MAX_HEAD {
            return Verdict::Refuse(TOO_LARGE);
        }
        let framed = match frame(&bytes[..end]) {
            Ok(framed) => framed,
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        self.state = framed.state;
        self.extensions = 0;
        match framed.encode {
            None => Verdict::Pass(end),
            Some((from, to)) => Verdict::Encode { head: end, from, to },
        }
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> Verdict {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            // One more for the CR of a line that is as long as it may be.
            if bytes.len() > MAX_CHUNK_LINE + 1 {
                return refuse("bad-chunk", "the line that gives a chunk's size is too long");
            }
            return Verdict::More;
        };
        let line = &bytes[..end];
        let Some(line) = line.strip_suffix(b"\r") else {
            return refuse("bad-chunk", "the line that gives a chunk's size ends with a bare LF");
        };
        if line.len() > MAX_CHUNK_LINE {
            return refuse("bad-chunk", "the line that gives a chunk's size is too long");
        }
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extension) = line.split_at(digits);
        let size = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let Some(size) = size.filter(|_| digits.len() <= 16) else {
            return refuse("bad-chunk", "a chunk's size is not a hexadecimal number");
        };
        let extended = matches!(extension, [] | [b';', ..]) && extension.iter().all(|&byte| is_field_byte(byte));
        if !extended {
            return refuse("bad-chunk", "what follows a chunk's size is not a chunk extension");
        }
        self.extensions += extension.len();
        if self.extensions > MAX_EXTENSIONS {
            return refuse(
                "bad-chunk",
                "the chunk extensions of the body are longer than 16 KiB together",
            );
        }
        self.state = if size == 0 {
            State::Trailers(0, 0)
        } else {
            State::ChunkData(size)
        };
        Verdict::Pass(end + 1)
    }

    fn trailer(&mut self, bytes: &[u8], passed: usize, count: usize) -> Verdict {
        let end = memchr::memchr(b'\n', bytes);
        if passed + end.map_or(bytes.len(), |end| end + 1) > MAX_TRAILERS {
            return Verdict::Refuse(TRAILERS_TOO_LARGE);
        }
        let Some(end) = end else { return Verdict::More };
        let Some(line) = bytes[..end].strip_suffix(b"\r") else {
            return refuse("bad-trailer", "a trailer ends with a bare LF");
        };
        if line.is_empty() {
            self.state = State::Head;
            return Verdict::Pass(end + 1);
        }
        if count == MAX_TRAILER_COUNT {
            return Verdict::Refuse(TRAILERS_TOO_LARGE);
        }
        if let Err(refusal) = field(line) {
            return Verdict::Refuse(refusal);
        }
        self.state = State::Trailers(passed + end + 1, count + 1);
        Verdict::Pass(end + 1)
    }
}

/// The first byte of a TLS connection (RFC 8446, section 5.1: a handshake record).
const TLS_RECORD: u8 = 0x16;

const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "head-too-large",
    what: "the head of the request is larger than 64 KiB, or has more than 100 lines",
};

const TRAILERS_TOO_LARGE: Refusal = Refusal {
    status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    reason: "trailers-too-large",
    what: "the trailers of the request are larger than 16 KiB, or more than 100",
};

const WRONG_LINE: Refusal = bad("bad-request-line", "the request line is not \"METHOD target HTTP/1.1\"");

const fn bad(reason: &'static str, what: &'static str) -> Refusal {
    Refusal {
        status: StatusCode::BAD_REQUEST,
        reason,
        what,
    }
}

const fn refuse(reason: &'static str, what: &'static str) -> Verdict {
    Verdict::Refuse(bad(reason, what))
}

/// What a complete head says.
struct Framed {
    /// What follows it.
    state: State,
    /// Where its target stands, if that is to be encoded.
    encode: Option<(usize, usize)>,
}

/// Reads a complete head, which ends with CR LF CR LF.
fn frame(head: &[u8]) -> Result<Framed, Refusal> {
    if bare_line_end(head, true) {
        return Err(bad("bare-line-end", "a line of the head ends with a bare CR or LF"));
    }
    let mut lines = head[..head.len() - 4]
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line = request_line(lines.next().unwrap_or_default())?;
    let newer = line.newer;
    let mut length = None;
    let (mut chunked, mut hosts, mut upgrade, mut count) = (false, 0, false, 0);
    for line in lines {
        count += 1;
        if count > MAX_HEADERS {
            return Err(TOO_LARGE);
        }
        let (name, value) = field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                if !value.iter().all(|&byte| is_host_byte(byte)) {
                    return Err(bad(
                        "bad-host",
                        "the request's Host is not a host name with or without a port",
                    ));
                }
            }
            // Curl and Java offer HTTP/2 so, which nobody here takes up.
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                upgrade |= !value.get(..3).is_some_and(|h2c| h2c.eq_ignore_ascii_case(b"h2c"))
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if length.is_some() {
                    return Err(bad("two-lengths", "the request has two Content-Length headers"));
                }
                length = Some(content_length(value)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked {
                    return Err(bad("two-encodings", "the request has two Transfer-Encoding headers"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("bad-encoding", "the request's Transfer-Encoding is not just \"chunked\""));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if hosts > 1 {
        return Err(bad("two-hosts", "the request has two Host headers"));
    }
    if hosts == 0 && newer {
        return Err(bad("no-host", "the request is HTTP/1.1 and has no Host header"));
    }
    let state = match (chunked, length) {
        (true, Some(_)) => {
            return Err(bad(
                "length-and-encoding",
                "the request has both Content-Length and Transfer-Encoding",
            ));
        }
        (true, None) if !newer => return Err(bad("bad-encoding", "the request is HTTP/1.0 and has a Transfer-Encoding")),
        (true, None) => State::ChunkSize,
        // Only a GET without a body is upgraded; see `route::upgrade`.
        (false, None | Some(0)) if upgrade && line.get => State::Opaque,
        (false, None | Some(0)) => State::Head,
        (false, Some(length)) => State::Body(length),
    };
    Ok(Framed {
        state,
        encode: line.encode,
    })
}

/// What a request line says.
struct Line {
    /// HTTP/1.1, not 1.0.
    newer: bool,
    get: bool,
    encode: Option<(usize, usize)>,
}

/// Checks `METHOD target HTTP/1.x` with single spaces.
fn request_line(line: &[u8]) -> Result<Line, Refusal> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(WRONG_LINE);
    };
    if method.is_empty() || target.is_empty() || !method.iter().all(|&byte| is_token_byte(byte)) {
        return Err(WRONG_LINE);
    }
    if method == b"CONNECT" {
        return Err(bad("no-connect", "CONNECT is for another kind of proxy"));
    }
    let encode = match target::check(target, method == b"OPTIONS")? {
        Target::AsItIs => None,
        Target::Encoded => Some((method.len() + 1, method.len() + 1 + target.len())),
    };
    let newer = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        [b'H', b'T', b'T', b'P', b'/', ..] => {
            return Err(Refusal {
                status: StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                reason: "bad-version",
                what: "the request's version is not HTTP/1.0, HTTP/1.1 or HTTP/2 with prior knowledge",
            });
        }
        _ => return Err(WRONG_LINE),
    };
    Ok(Line {
        newer,
        get: method == b"GET",
        encode,
    })
}

/// Checks one header or trailer line, and answers its name and its value without white space around it.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(bad("folded-header", "a header is folded over two lines"));
    }
    let Some(colon) = memchr::memchr(b':', line) else {
        return Err(bad("bad-header", "a line of the head has no colon"));
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if name.is_empty() || !name.iter().all(|&byte| is_token_byte(byte)) {
        return Err(bad(
            "bad-header",
            "a header's name is empty, or has a character that is not allowed in it",
        ));
    }
    if !value.iter().all(|&byte| is_field_byte(byte)) {
        return Err(bad("bad-header", "a header's value has a control character"));
    }
    Ok((name, value.trim_ascii()))
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    const WRONG: Refusal = bad("bad-length", "the request's Content-Length is not a decimal number");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(WRONG);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(WRONG)
}

/// Whether a CR or LF stands alone; in a part of a head (not `whole`) a CR at its end may still get its LF.
fn bare_line_end(bytes: &[u8], whole: bool) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', bytes).any(|at| match bytes[at] {
        b'\r' => match bytes.get(at + 1) {
            Some(&next) => next != b'\n',
            None => whole,
        },
        _ => at == 0 || bytes[at - 1] != b'\r',
    })
}

/// RFC 9110, section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// RFC 3986, section 3.2: what a host and a port are made of.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:[]%".contains(&byte)
}

/// RFC 9110, section 5.5: visible characters, space, tab and what is not ASCII.
fn is_field_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests;
