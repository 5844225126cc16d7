//! A client of the edge: one exchange of each kind, judged by its bytes.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::chance::Chance;
use super::content::{BLOCK, Content};
use super::echo;
use super::stream::{self, BINARY, CLOSE, Framing, Head, Stream};
use crate::bench::process::pause;

/// How long nothing at all may come or go before an exchange counts as hung. A MiB that went into buffers at once takes half a minute at the
/// slowest pace of a lane (32 kB/s), which a machine without a free core may come to, and it may share the lane with others.
const SILENCE: Duration = Duration::from_secs(90);

/// How long a connection to the edge may take.
const CONNECT: Duration = Duration::from_secs(10);

/// A small answer, in bytes.
const SMALL: u64 = 1024;

/// A large body, in bytes.
const LARGE: u64 = 1 << 20;

/// What a slow client moves at a time and how long it then rests: a MiB takes some five seconds.
const SLOW_PIECE: usize = 32 * 1024;
const SLOW_REST: Duration = Duration::from_millis(150);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Small,
    Large,
    Upload,
    WebSocket,
    Events,
    /// Leaves in the middle of an answer, or of its own body.
    Aborted,
    SlowReader,
    SlowWriter,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Small => "small (1 KiB)",
            Kind::Large => "1 MiB down",
            Kind::Upload => "up to 1 MiB up",
            Kind::WebSocket => "WebSocket",
            Kind::Events => "SSE",
            Kind::Aborted => "aborted",
            Kind::SlowReader => "slow reader, 1 MiB",
            Kind::SlowWriter => "slow writer, 1 MiB",
        }
    }
}

/// What became of an exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Every byte is right, or it was given up by the client with every byte right so far.
    Whole,
    /// The edge's own answer, with its reason.
    Own(u16, String),
    /// No connection.
    Refused,
    /// The connection ended before an answer began.
    Gone,
    /// An answer broke off, and said so.
    Cut,
    /// Nothing came any more.
    Hung,
    /// What must never be.
    Wrong(String),
}

/// A client with at most one connection, which it uses again.
pub(super) struct Client {
    edge: SocketAddr,
    /// As the load balancer before the edge names it.
    address: String,
    chance: Chance,
    kept: Option<Stream>,
    /// When the exchange before the last one began on the same connection, or when the connection was made.
    since: Instant,
    /// When its last exchange began. Of that one's answer the client may have read for seconds what the system kept for it, from a
    /// connection that had ended by then.
    used: Instant,
}

/// Why an exchange went no further.
enum Stop {
    Io(io::Error),
    Fate(Fate),
}

impl From<io::Error> for Stop {
    fn from(why: io::Error) -> Stop {
        Stop::Io(why)
    }
}

impl From<String> for Stop {
    fn from(why: String) -> Stop {
        Stop::Fate(Fate::Wrong(why))
    }
}

/// Whether the connection can be used again.
type Done = Result<bool, Stop>;

impl Client {
    pub(super) fn new(edge: SocketAddr, mut chance: Chance) -> Client {
        // A documentation network (RFC 2544).
        let [.., high, low] = chance.next().to_be_bytes();
        Client {
            edge,
            address: format!("198.18.{high}.{low}"),
            chance,
            kept: None,
            since: Instant::now(),
            used: Instant::now(),
        }
    }

    pub(super) fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    pub(super) fn is_connected(&self) -> bool {
        self.kept.is_some()
    }

    /// Gives up its connection.
    pub(super) fn leave(&mut self) {
        self.kept = None;
    }

    /// As of when a fault may have to do with what became of the last exchange: its connection may have ended long before.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// One exchange with the service of a tag.
    pub(super) fn exchange(&mut self, kind: Kind, tag: &str) -> Fate {
        let began = Instant::now();
        let fate = self.judge(kind, tag);
        self.used = began;
        fate
    }

    fn judge(&mut self, kind: Kind, tag: &str) -> Fate {
        let reusable = !matches!(kind, Kind::WebSocket);
        let kept = self.kept.take().filter(|_| reusable);
        self.since = if kept.is_some() { self.used } else { Instant::now() };
        let stream = match kept {
            Some(stream) => Ok(stream),
            None => self.connect(),
        };
        let Ok(mut stream) = stream else { return Fate::Refused };
        let mut begun = false;
        match self.speak(kind, tag, &mut stream, &mut begun) {
            Ok(again) => {
                self.kept = Some(stream).filter(|_| again);
                Fate::Whole
            }
            Err(Stop::Fate(fate)) => fate,
            Err(Stop::Io(why)) => match why.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Fate::Hung,
                ErrorKind::InvalidData => Fate::Wrong(why.to_string()),
                _ if begun => Fate::Cut,
                _ => Fate::Gone,
            },
        }
    }

    fn connect(&self) -> io::Result<Stream> {
        let socket = TcpStream::connect_timeout(&self.edge, CONNECT)?;
        socket.set_read_timeout(Some(SILENCE))?;
        socket.set_write_timeout(Some(SILENCE))?;
        Stream::new(socket)
    }

    fn request(&self, method: &str, tag: &str, path: &str, fields: &str) -> String {
        let address = &self.address;
        format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-For: {address}\r\nX-Ephemwork: {tag}\r\n{fields}\r\n")
    }

    /// `begun` is raised once the service's answer has begun.
    fn speak(&mut self, kind: Kind, tag: &str, stream: &mut Stream, begun: &mut bool) -> Done {
        let nonce = self.chance.next();
        match kind {
            Kind::Small => self.download(tag, nonce, SMALL, stream, begun, Pace::Quick),
            Kind::Large => self.download(tag, nonce, LARGE, stream, begun, Pace::Quick),
            Kind::SlowReader => self.download(tag, nonce, LARGE, stream, begun, Pace::Slow),
            Kind::Upload => {
                let length = self.chance.below(LARGE) + 1;
                self.upload(tag, nonce, length, stream, begun, Pace::Quick)
            }
            Kind::SlowWriter => self.upload(tag, nonce, LARGE, stream, begun, Pace::Slow),
            Kind::Aborted if self.chance.below(2) == 0 => {
                let leave = Pace::Leave(self.chance.below(LARGE));
                self.download(tag, nonce, LARGE, stream, begun, leave)
            }
            Kind::Aborted => {
                let leave = Pace::Leave(self.chance.below(LARGE));
                self.upload(tag, nonce, LARGE, stream, begun, leave)
            }
            Kind::Events => self.events(tag, nonce, stream, begun),
            Kind::WebSocket => self.talk(tag, nonce, stream, begun),
        }
    }

    fn download(&mut self, tag: &str, nonce: u64, length: u64, stream: &mut Stream, begun: &mut bool, pace: Pace) -> Done {
        let framing = if nonce & 1 == 0 { "length" } else { "chunked" };
        stream.send(
            self.request("GET", tag, &format!("/c/{nonce:016x}/{length}/{framing}"), "")
                .as_bytes(),
        )?;
        let mut framing = answered(stream, tag, 200, begun)?;
        let mut checker = Content::new(tag, nonce, length).checker();
        let most = if matches!(pace, Pace::Quick) { 1 << 20 } else { SLOW_PIECE };
        let (mut came, mut rested) = (0, 0);
        while let Some(bytes) = stream.body(&mut framing, most)? {
            checker.take(&bytes)?;
            came += bytes.len() as u64;
            match pace {
                Pace::Quick => {}
                Pace::Slow if came < rested + SLOW_PIECE as u64 => {}
                Pace::Slow => {
                    rested = came;
                    pause(SLOW_REST);
                }
                Pace::Leave(after) if came >= after => return Ok(false),
                Pace::Leave(_) => {}
            }
        }
        checker.end()?;
        Ok(true)
    }

    fn upload(&mut self, tag: &str, nonce: u64, length: u64, stream: &mut Stream, begun: &mut bool, pace: Pace) -> Done {
        let chunked = nonce & 1 == 1;
        let framing = match chunked {
            true => "Transfer-Encoding: chunked\r\n".to_owned(),
            false => format!("Content-Length: {length}\r\n"),
        };
        let content = Content::new(tag, nonce, length);
        let mut sending = || -> io::Result<bool> {
            stream.send(
                self.request("POST", tag, &format!("/u/{nonce:016x}/{length}"), &framing)
                    .as_bytes(),
            )?;
            let mut went = 0;
            for piece in content.pieces((SLOW_PIECE / BLOCK) as u64) {
                went += piece.len() as u64;
                let piece = match chunked {
                    true => [format!("{:x}\r\n", piece.len()).as_bytes(), &piece, b"\r\n"].concat(),
                    false => piece,
                };
                stream.send(&piece)?;
                match pace {
                    Pace::Quick => {}
                    Pace::Slow => pause(SLOW_REST),
                    Pace::Leave(after) if went >= after => return Ok(false),
                    Pace::Leave(_) => {}
                }
            }
            if chunked {
                stream.send(b"0\r\n\r\n")?;
            }
            Ok(true)
        };
        // Whoever answers early may close behind it; what it said counts.
        let sent = sending();
        if let Ok(false) = sent {
            return Ok(false);
        }
        let framing = answered(stream, tag, 200, begun);
        if let (Err(why), Err(Stop::Io(_))) = (sent, &framing) {
            return Err(why.into());
        }
        let mut framing = framing?;
        let mut checker = Content::new(tag, nonce, BLOCK as u64).checker();
        while let Some(bytes) = stream.body(&mut framing, BLOCK)? {
            checker.take(&bytes)?;
        }
        checker.end()?;
        Ok(true)
    }

    fn events(&mut self, tag: &str, nonce: u64, stream: &mut Stream, begun: &mut bool) -> Done {
        let (count, gap) = (10 + self.chance.below(30), 20 + self.chance.below(180));
        stream.send(
            self.request("GET", tag, &format!("/e/{nonce:016x}/{count}/{gap}"), "")
                .as_bytes(),
        )?;
        let mut framing = answered(stream, tag, 200, begun)?;
        let right: String = (0..count).map(|number| echo::event(tag, nonce, number)).collect();
        let mut came = 0;
        while let Some(bytes) = stream.body(&mut framing, 1 << 20)? {
            if right.as_bytes().get(came..came + bytes.len()) != Some(&bytes[..]) {
                return Err(format!("events: {:?} at byte {came}", String::from_utf8_lossy(&bytes)).into());
            }
            came += bytes.len();
        }
        match came == right.len() {
            true => Ok(true),
            false => Err(format!("the events look complete after {came} of {} bytes", right.len()).into()),
        }
    }

    fn talk(&mut self, tag: &str, nonce: u64, stream: &mut Stream, begun: &mut bool) -> Done {
        let key = stream::base64(&[nonce.to_be_bytes(), nonce.to_le_bytes()].concat());
        let fields =
            format!("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n");
        stream.send(self.request("GET", tag, &format!("/w/{nonce:016x}"), &fields).as_bytes())?;
        let head = head(stream, tag, 101, begun)?;
        if head.field("sec-websocket-accept") != Some(&stream::accept(&key)) {
            return Err(format!("the WebSocket accepts another key: {head:?}").into());
        }
        for number in 0..5 + self.chance.below(20) {
            let length = self.chance.below(70_000);
            let content = Content::new(tag, nonce.wrapping_add(number), length);
            let payload: Vec<u8> = content.pieces(u64::MAX).flatten().collect();
            stream.send_frame(BINARY, &payload, Some((nonce as u32).to_be_bytes()))?;
            let (kind, back) = stream.frame()?;
            if kind == CLOSE {
                // It says that it ends: the service or a hop did, in the middle.
                return Err(Stop::Fate(Fate::Cut));
            }
            let mut checker = content.checker();
            checker.take(&back)?;
            checker.end()?;
            pause(Duration::from_millis(20 + self.chance.below(300)));
        }
        stream.send_frame(CLOSE, &1000_u16.to_be_bytes(), Some([7; 4]))?;
        match stream.frame()? {
            (CLOSE, _) => Ok(false),
            other => Err(format!("{other:?} in place of a close").into()),
        }
    }
}

#[derive(Clone, Copy)]
enum Pace {
    Quick,
    Slow,
    /// Away after so many bytes.
    Leave(u64),
}

/// The body of an answer by the service of this tag.
fn answered(stream: &mut Stream, tag: &str, status: u16, begun: &mut bool) -> Result<Framing, Stop> {
    let head = head(stream, tag, status, begun)?;
    match head.framing(Framing::Close)? {
        Framing::Close => Err(format!("an answer whose end cannot be told from a cut: {head:?}").into()),
        framing => Ok(framing),
    }
}

/// The head of an answer by the service of this tag, with this status.
fn head(stream: &mut Stream, tag: &str, status: u16, begun: &mut bool) -> Result<Head, Stop> {
    let Some(head) = stream.head()? else {
        return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
    };
    let by = head.field("x-ephemwork-served-by").unwrap_or_default();
    if let Some(reason) = by.strip_prefix("edge; reason=") {
        // The sentence is for people, but it has to come.
        let mut framing = head.framing(Framing::Close)?;
        let text = stream.text(&mut framing)?;
        return Err(Stop::Fate(match text.starts_with("ephemwork: ") {
            true => Fate::Own(head.status(), reason.to_owned()),
            false => Fate::Wrong(format!("the edge's answer {head:?} says {text:?}")),
        }));
    }
    if by != tag || head.status() != status {
        let mut framing = head.framing(Framing::Close)?;
        let text = stream.text(&mut framing).unwrap_or_default();
        return Err(format!("an answer of {by:?} to a request for {tag}: {head:?} {text:?}").into());
    }
    *begun = true;
    Ok(head)
}
