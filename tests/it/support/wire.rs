//! HTTP/1.1 by hand, for both ends of a connection: what is sent and received here is exact to the byte.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::LIMIT;

/// A stream with what has been read from it and not yet been taken.
pub(crate) struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Names and values in order, names as they came.
pub(crate) type Fields = Vec<(String, String)>;

/// The head of a request or an answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The first line without its line end.
    pub(crate) start: String,
    pub(crate) fields: Fields,
}

/// A complete answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    /// The 1xx heads before it.
    pub(crate) interim: Vec<Head>,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    /// The fields behind a chunked body.
    pub(crate) trailers: Fields,
}

impl Head {
    /// The value of the only field of this name; case does not matter. Panics when there are two.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} stands twice: {self:?}");
        all.first().copied()
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let same = |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(same).map(|field| field.1.as_str()).collect()
    }

    /// An answer's status; 0 when the first line has none.
    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// A request's method.
    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// A request's target.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Who answered: the tag, or the edge with its reason.
    #[track_caller]
    pub(crate) fn served_by(&self) -> &str {
        self.head
            .field("x-ephemwork-served-by")
            .unwrap_or_else(|| panic!("no X-Ephemwork-Served-By: {self:?}"))
    }
}

impl Wire {
    /// Connects; every later read and write has [`LIMIT`].
    #[track_caller]
    pub(crate) fn to(at: SocketAddr) -> Wire {
        Wire::of(TcpStream::connect_timeout(&at, LIMIT).unwrap_or_else(|why| panic!("cannot connect to {at}: {why}")))
    }

    /// Connects to a socket file.
    pub(crate) fn to_file(path: &Path) -> std::io::Result<Wire> {
        Ok(Wire::of_file(UnixStream::connect(path)?))
    }

    /// Takes one end of a pair, or a connected socket file.
    pub(crate) fn of_file(stream: UnixStream) -> Wire {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Wire {
            stream: Stream::Unix(stream),
            buffer: Vec::new(),
        }
    }

    /// Takes an accepted or connected stream.
    pub(crate) fn of(stream: TcpStream) -> Wire {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        Wire {
            stream: Stream::Tcp(stream),
            buffer: Vec::new(),
        }
    }

    /// Sends everything; panics when the peer does not take it.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes.as_ref()).expect("the peer does not take what is sent");
    }

    /// Sends everything or says why not.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        }
    }

    /// Sends everything unless nothing is taken for `patience`.
    pub(crate) fn try_send_within(&mut self, bytes: &[u8], patience: Duration) -> bool {
        let Stream::Tcp(stream) = &self.stream else { return false };
        stream.set_write_timeout(Some(patience)).unwrap();
        self.try_send(bytes).is_ok()
    }

    /// The same stream once more, for a thread that only writes.
    pub(crate) fn twin(&self) -> Wire {
        let stream = match &self.stream {
            Stream::Tcp(stream) => Stream::Tcp(stream.try_clone().unwrap()),
            Stream::Unix(stream) => Stream::Unix(stream.try_clone().unwrap()),
        };
        Wire {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish_sending(&self) {
        let done = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
        // The other side may have closed it all already.
        let is_gone = |why: &std::io::Error| why.kind() == std::io::ErrorKind::NotConnected;
        assert!(done.as_ref().err().is_none_or(is_gone), "{done:?}");
    }

    /// One read into the buffer; false at the end of the stream (a reset counts as the end).
    #[track_caller]
    fn fill(&mut self) -> bool {
        let mut piece = [0; 65536];
        let read = loop {
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut piece),
                Stream::Unix(stream) => stream.read(&mut piece),
            };
            // A read with a time limit is not begun again by the system when the process was stopped meanwhile (signal(7)).
            if !matches!(&read, Err(why) if why.kind() == ErrorKind::Interrupted) {
                break read;
            }
        };
        match read {
            Ok(0) => false,
            Ok(len) => {
                self.buffer.extend_from_slice(&piece[..len]);
                true
            }
            Err(why) if matches!(why.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => false,
            Err(why) => panic!(
                "nothing more came ({why}); so far {:?}",
                String::from_utf8_lossy(&self.buffer)
            ),
        }
    }

    /// Whether something came or the stream ended, as far as can be seen without waiting.
    pub(crate) fn has_more(&mut self) -> bool {
        let Stream::Tcp(stream) = &self.stream else { return true };
        stream.set_nonblocking(true).unwrap();
        let mut one = [0];
        let peeked = stream.peek(&mut one);
        stream.set_nonblocking(false).unwrap();
        !self.buffer.is_empty() || !matches!(peeked, Err(why) if why.kind() == ErrorKind::WouldBlock)
    }

    /// The bytes up to and with the first `mark`; what there is when the stream ends before.
    #[track_caller]
    fn through(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, mark) {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Exactly `len` bytes, or fewer when the stream ends.
    #[track_caller]
    pub(crate) fn take(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len && self.fill() {}
        let len = len.min(self.buffer.len());
        self.buffer.drain(..len).collect()
    }

    /// Some bytes, whatever comes next; none at the end of the stream.
    #[track_caller]
    pub(crate) fn some(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.fill();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Everything up to the end of the stream.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.buffer)
    }

    /// The next head; none when the stream ends before it is complete.
    #[track_caller]
    pub(crate) fn head(&mut self) -> Option<Head> {
        let bytes = self.through(b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..bytes.len() - 4]).into_owned();
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let field = |line: &str| {
            let (name, value) = line
                .split_once(':')
                .unwrap_or_else(|| panic!("not a field: {line:?} in {text:?}"));
            (name.to_owned(), value.trim().to_owned())
        };
        Some(Head {
            start,
            fields: lines.map(field).collect(),
        })
    }

    /// The next piece of a chunked body; an empty one is the last. None when the stream ends or it is not chunked right.
    #[track_caller]
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = self.through(b"\r\n")?;
        let text = String::from_utf8_lossy(&line);
        let size = text.trim_end().split(';').next().unwrap_or_default();
        let len = usize::from_str_radix(size, 16).ok()?;
        if len == 0 {
            return Some(Vec::new());
        }
        let mut piece = self.take(len + 2);
        if piece.len() != len + 2 || !piece.ends_with(b"\r\n") {
            return None;
        }
        piece.truncate(len);
        Some(piece)
    }

    /// The fields behind the last chunk.
    #[track_caller]
    pub(crate) fn trailers(&mut self) -> Option<Fields> {
        let mut fields = Vec::new();
        loop {
            let line = self.through(b"\r\n")?;
            let text = String::from_utf8_lossy(&line[..line.len() - 2]).into_owned();
            if text.is_empty() {
                return Some(fields);
            }
            let (name, value) = text.split_once(':')?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The body that a head announces, with trailers; `to_end` says what no announcement means. None when it is cut short.
    #[track_caller]
    pub(crate) fn body(&mut self, head: &Head, to_end: bool) -> Option<(Vec<u8>, Fields)> {
        if let Some(coding) = head.field("transfer-encoding") {
            assert_eq!(coding.to_ascii_lowercase(), "chunked", "{head:?}");
            let mut whole = Vec::new();
            loop {
                let piece = self.chunk()?;
                if piece.is_empty() {
                    return Some((whole, self.trailers()?));
                }
                whole.extend_from_slice(&piece);
            }
        }
        if let Some(len) = head.field("content-length") {
            let len: usize = len.parse().unwrap_or_else(|_| panic!("{head:?}"));
            let body = self.take(len);
            return (body.len() == len).then_some((body, Vec::new()));
        }
        Some((if to_end { self.rest() } else { Vec::new() }, Vec::new()))
    }

    /// The next answer, complete. `method` decides whether it can have a body.
    #[track_caller]
    pub(crate) fn answer(&mut self, method: &str) -> Answer {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head().unwrap_or_else(|| {
                panic!(
                    "the connection ended without an answer; {:?}",
                    String::from_utf8_lossy(&self.buffer)
                )
            });
            if !(100..200).contains(&head.status()) || head.status() == 101 {
                break head;
            }
            interim.push(head);
        };
        let bodiless = method == "HEAD" || matches!(head.status(), 101 | 204 | 304);
        let (body, trailers) = if bodiless {
            (Vec::new(), Vec::new())
        } else {
            self.body(&head, true)
                .unwrap_or_else(|| panic!("the answer's body is cut short: {head:?}"))
        };
        Answer {
            interim,
            head,
            body,
            trailers,
        }
    }
}

/// Sends these bytes on a connection of their own and takes one answer.
#[track_caller]
pub(crate) fn fetch(at: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut wire = Wire::to(at);
    wire.send(request.as_ref());
    let method = request.as_ref().split(|&byte| byte == b' ').next().unwrap_or_default();
    wire.answer(&String::from_utf8_lossy(method))
}

/// GETs `path` for `tag` on a connection of its own.
#[track_caller]
pub(crate) fn get(at: SocketAddr, tag: &str, path: &str) -> Answer {
    fetch(
        at,
        format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\nX-Ephemwork: {tag}\r\n\r\n"),
    )
}
