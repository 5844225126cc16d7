//! A client's connection with the guard in front of the parser.
//!
//! A head is handed on only when it is complete and right. In place of a wrong one the parser gets a request that says so, and
//! whoever answers it finds the reason in [`Shared`]; behind it nothing is read any more. Bytes of bodies go straight through.
//! That a client sends no more is told only when its last request is answered: until then it may be waiting for that.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http::StatusCode;

use super::door::Heads;
use super::own::Format;
use super::shared::{Part, Shared};
use crate::bastiond::guard::{self, Guard, Refusal, Verdict};
use crate::rt::{self, AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, TcpStream};

/// How long a head may take from its first byte to its last. ALB sends a head in one piece.
const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// How long a connection may be idle between requests. Longer than ALB's own limit (60 s, up to 4000 s if it was changed),
/// so that ALB closes first and never sends a request into a connection that is being closed.
const IDLE_LIMIT: Duration = Duration::from_secs(4200);

/// How long an answer may make no progress to a client that sends no more. It looks the same whether the client only closed its half
/// (as some health checkers do) or is gone; the next byte of the answer tells.
const HALF_CLOSED_LIMIT: Duration = Duration::from_secs(20);

/// How long a client may go on sending after its last answer. Bytes that nobody read make the system reset a connection that is
/// closed, and the client may lose the answer (RFC 9112, section 9.6).
const LINGER: Duration = Duration::from_secs(2);

/// What is read at once while a head is awaited, in bytes.
const PIECE: usize = 8 * 1024;

/// What is read of a body at once, in bytes. The parser takes a buffer twice as large when one of 32 KiB was filled, so it is less; a body that its
/// laptop does not take holds two of them. Larger ones moved no more bytes a second.
const READ: usize = 30 * 1024;

/// How a connection with HTTP/2 and prior knowledge begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the parser is given instead of a refused head.
const STAND_IN: &[u8] = b"GET /ephemwork-refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// And when it began with HEAD, so that the answer has no body.
const HEAD_STAND_IN: &[u8] = b"HEAD /ephemwork-refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

const TOO_SLOW: Refusal = Refusal {
    status: StatusCode::REQUEST_TIMEOUT,
    reason: "head-too-slow",
    what: "the head of the request was not complete within 15 s",
};

/// What of a body must come in the time that `slow_body` gives, in bytes. A link that is slower than a modem's still does; who sends a
/// byte at a time to keep a place on a tunnel does not.
const BODY_PROGRESS: u64 = 1024;

const BODY_TOO_SLOW: Refusal = Refusal {
    status: StatusCode::REQUEST_TIMEOUT,
    reason: "body-too-slow",
    what: "the body of the request came at less than 1 KiB in the time that the bastion gives it (--slow-body)",
};

const CUT_SHORT: Refusal = Refusal {
    status: StatusCode::BAD_REQUEST,
    reason: "body-cut-short",
    what: "the client ended its side of the connection before the body of the request was complete",
};

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spoken {
    Http1,
    Http2,
}

/// See the module.
pub(crate) struct Intake {
    stream: TcpStream,
    /// Read and not yet handed on.
    held: BytesMut,
    /// So many of `held` from its start may be handed on.
    passed: usize,
    /// `None` for HTTP/2, where frames say where a message ends.
    guard: Option<Guard>,
    shared: Shared,
    /// What of `held` is not complete, among that of all.
    heads: Heads,
    state: State,
    /// Rings at `timer_at`; none once it has rung, because it must not be asked again.
    timer: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
    timer_at: Instant,
    deadline: Instant,
    /// How long [`BODY_PROGRESS`] may take; `None` waits for ever.
    slow_body: Option<Duration>,
    /// Of which request's body bytes are waited for, since when, and how many came since.
    waiting: Option<(usize, Instant, u64)>,
    /// Some of an answer was written and the parser has not said that this is all.
    unflushed: bool,
    /// The client does not take what it is sent.
    blocked: bool,
    /// Set when the connection is being closed: whether the client sent what nobody read.
    unread: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// So much of a stand-in is still to be handed on.
    StandIn(&'static [u8]),
    /// The body at hand is wrong; whoever reads it is to be told.
    Broken,
    /// Nothing more is handed on, and the parser, which would close at an end of the stream, writes its last answer.
    Refused,
    /// The client sends no more, and waits for an answer or is gone.
    HalfClosed,
    /// The client sends no more, or is not listened to.
    Ended,
}

/// A connection and what is spoken on it; `None` without a word.
type Begun = io::Result<Option<(Intake, Spoken)>>;

impl Intake {
    /// Reads until it is known what the client speaks; `None` when it said nothing before it left or its time was up.
    pub(crate) async fn begin(mut stream: TcpStream, slow_body: Option<Duration>, shared: Shared) -> Begun {
        let mut held = BytesMut::with_capacity(PIECE);
        let spoken = rt::timeout(HEAD_LIMIT, async {
            loop {
                if stream.read_buf(&mut held).await? == 0 {
                    return Ok::<_, io::Error>(None);
                }
                let common = held.iter().zip(PREFACE).take_while(|(a, b)| a == b).count();
                if common == PREFACE.len() {
                    return Ok(Some(Spoken::Http2));
                }
                // "PRI" is no method of HTTP/1 (RFC 9113, section 11.2), but PUT and POST begin like it.
                if common < held.len() {
                    return Ok(Some(Spoken::Http1));
                }
            }
        });
        let spoken = match spoken.await {
            Some(result) => result?,
            None => None,
        };
        let Some(spoken) = spoken else { return Ok(None) };
        let now = Instant::now();
        let passed = if spoken == Spoken::Http2 { held.len() } else { 0 };
        let intake = Intake {
            stream,
            held,
            passed,
            guard: (spoken == Spoken::Http1).then(Guard::new),
            heads: shared.entered().heads(),
            shared,
            state: State::Open,
            timer: Some(Box::pin(rt::sleep(HEAD_LIMIT))),
            timer_at: now + HEAD_LIMIT,
            deadline: now + HEAD_LIMIT,
            slow_body,
            waiting: None,
            unflushed: false,
            blocked: false,
            unread: None,
        };
        Ok(Some((intake, spoken)))
    }

    /// Lets the guard look at what is held.
    fn check(&mut self) -> Result<(), Refusal> {
        let Some(guard) = &mut self.guard else {
            self.passed = self.held.len();
            return Ok(());
        };
        loop {
            match guard.check(&self.held[self.passed..]) {
                Verdict::Pass(count) => self.passed += count,
                Verdict::Encode { head, from, to } => {
                    let rest = self.held.split_off(self.passed + to);
                    let target = guard::encoded(&self.held[self.passed + from..]);
                    self.held.truncate(self.passed + from);
                    self.held.extend_from_slice(&target);
                    self.passed = self.held.len() + head - to;
                    self.held.extend_from_slice(&rest);
                }
                Verdict::More => return self.heads.hold(self.held.len() - self.passed),
                Verdict::Refuse(refusal) => return Err(refusal),
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        let in_head = self.guard.as_ref().is_none_or(Guard::in_head);
        let wrong = &self.held[self.passed..];
        let (part, state) = if !in_head {
            (Part::Body, State::Broken)
        } else if wrong.starts_with(b"HEAD ") {
            (Part::Head, State::StandIn(HEAD_STAND_IN))
        } else {
            (Part::Head, State::StandIn(STAND_IN))
        };
        self.shared.refuse(refusal, part, Format::of_wrong(wrong));
        self.held.truncate(self.passed);
        self.state = state;
    }

    /// The client sends no more. A body that is cut short is told as such.
    fn end(&mut self) {
        let whole = self
            .guard
            .as_ref()
            .is_none_or(|guard| guard.in_head() || guard.free() == u64::MAX);
        if !whole {
            self.shared.refuse(CUT_SHORT, Part::Body, Format::Text);
        }
        if whole && self.guard.is_some() && (self.shared.is_open() || self.unflushed) {
            self.state = State::HalfClosed;
            self.deadline = Instant::now() + HALF_CLOSED_LIMIT;
        } else {
            self.state = State::Ended;
        }
    }

    /// Waits until the last request is answered, or its client must be taken for gone.
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.wake_at_the_end(cx);
        if !self.shared.is_open() && !self.unflushed {
            return Poll::Ready(());
        }
        loop {
            ready!(self.poll_deadline(cx));
            if !self.blocked {
                tracing::debug!(
                    "a client that sends no more got nothing for {} s",
                    HALF_CLOSED_LIMIT.as_secs()
                );
                return Poll::Ready(());
            }
            // It is there: what it was sent before waits for it, and was not answered with a reset.
            self.deadline = Instant::now() + HALF_CLOSED_LIMIT;
        }
    }

    /// Hands on what may be; answers whether there was any.
    fn hand_on(&mut self, out: &mut ReadBuf<'_>) -> bool {
        let count = self.passed.min(out.remaining());
        if count == 0 {
            return false;
        }
        out.put_slice(&self.held[..count]);
        self.held.advance(count);
        self.passed -= count;
        true
    }

    /// Whether the time for the head, or between two of them, is up.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // A timer that rings too early is set again; it is not touched for each request.
            let deadline = self.deadline;
            let timer = match &mut self.timer {
                Some(timer) if self.timer_at <= deadline => timer,
                timer => {
                    self.timer_at = deadline;
                    timer.insert(Box::pin(rt::sleep_until(deadline)))
                }
            };
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
        }
    }

    fn progressed(&mut self, count: usize) {
        if let Some((_, _, came)) = &mut self.waiting {
            *came += count as u64;
            if *came >= BODY_PROGRESS {
                self.waiting = None;
            }
        }
    }

    /// Waits for more of a body: refuses it when too little comes. An answer that has begun may depend on what its client sends in its own
    /// time, and so does an upgraded connection.
    fn poll_slow_body(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let in_body = self
            .guard
            .as_ref()
            .is_some_and(|guard| !guard.in_head() && guard.free() != u64::MAX);
        let Some(limit) = self.slow_body.filter(|_| in_body && !self.shared.is_answered()) else {
            return Poll::Pending;
        };
        let number = self.shared.number();
        let same = self.waiting.filter(|(of, _, _)| *of == number);
        let waiting = same.unwrap_or_else(|| (number, Instant::now(), 0));
        self.waiting = Some(waiting);
        self.deadline = waiting.1 + limit;
        ready!(self.poll_deadline(cx));
        self.refuse(BODY_TOO_SLOW);
        Poll::Ready(())
    }

    /// Notes whether the client takes what it is sent.
    fn wrote(&mut self, polled: &Poll<io::Result<usize>>) {
        self.unflushed = true;
        self.blocked = polled.is_pending();
        if self.state == State::HalfClosed && polled.is_ready() {
            self.deadline = Instant::now() + HALF_CLOSED_LIMIT;
        }
    }

    /// Reads what a client still sends into a connection that is being closed, for a while.
    fn poll_linger(&mut self, cx: &mut Context<'_>, mut unread: bool) -> Poll<()> {
        let mut piece = [0; PIECE];
        loop {
            let mut piece = ReadBuf::new(&mut piece);
            match Pin::new(&mut self.stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() && Instant::now() < self.deadline => unread = true,
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if unread => {
                    self.unread = Some(unread);
                    return self.poll_deadline(cx);
                }
                Poll::Pending => return Poll::Ready(()),
            }
        }
    }

    /// Reads more into `held`, and checks it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let began = !self.held.is_empty();
        self.held.reserve(PIECE);
        // Made anew for each poll: it holds nothing, and loses no byte when dropped.
        let polled = pin!(self.stream.read_buf(&mut self.held)).poll(cx);
        match polled {
            Poll::Ready(result) => {
                let count = result?;
                if count == 0 {
                    self.end();
                    return Poll::Ready(Ok(()));
                }
                self.progressed(count);
                if !began {
                    self.deadline = Instant::now() + HEAD_LIMIT;
                }
                if let Err(refusal) = self.check() {
                    self.refuse(refusal);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                if !self.guard.as_ref().is_some_and(Guard::in_head) {
                    return self.poll_slow_body(cx).map(Ok);
                }
                if !began {
                    self.deadline = Instant::now() + IDLE_LIMIT;
                    // An idle connection keeps no buffer.
                    self.held = BytesMut::new();
                }
                ready!(self.poll_deadline(cx));
                if began {
                    self.refuse(TOO_SLOW);
                    return Poll::Ready(Ok(()));
                }
                self.state = State::Ended;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncRead for Intake {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.passed == 0 && !this.held.is_empty() && this.state == State::Open {
            // What came with the first bytes of the connection.
            if let Err(refusal) = this.check() {
                this.refuse(refusal);
            }
        }
        loop {
            if this.hand_on(out) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Ended => return Poll::Ready(Ok(())),
                State::HalfClosed => {
                    ready!(this.poll_half_closed(cx));
                    this.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Refused => return Poll::Pending,
                State::Broken => {
                    this.state = State::Refused;
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the body is not framed right",
                    )));
                }
                State::StandIn([]) => {
                    this.state = State::Refused;
                    return Poll::Pending;
                }
                State::StandIn(rest) => {
                    let (now, rest) = rest.split_at(out.remaining().min(rest.len()));
                    out.put_slice(now);
                    this.state = State::StandIn(rest);
                    return Poll::Ready(Ok(()));
                }
                State::Open => {}
            }
            let free = this.guard.as_ref().map_or(u64::MAX, Guard::free);
            if free > 0 && this.held.is_empty() {
                // A body's bytes need no look.
                let limit = usize::try_from(free).unwrap_or(usize::MAX).min(READ);
                let (polled, count) = if limit >= out.remaining() {
                    let before = out.filled().len();
                    let polled = Pin::new(&mut this.stream).poll_read(cx, out);
                    (polled, out.filled().len() - before)
                } else {
                    let mut part = ReadBuf::new(out.initialize_unfilled_to(limit));
                    let polled = Pin::new(&mut this.stream).poll_read(cx, &mut part);
                    let count = part.filled().len();
                    out.advance(count);
                    (polled, count)
                };
                let Poll::Ready(result) = polled else {
                    ready!(this.poll_slow_body(cx));
                    continue;
                };
                result?;
                if count == 0 {
                    this.end();
                    continue;
                }
                if let Some(guard) = &mut this.guard {
                    guard.passed(count as u64);
                }
                this.progressed(count);
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_more(cx))?;
        }
    }
}

impl AsyncWrite for Intake {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        self.wrote(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.unflushed && !self.shared.is_open() {
            self.unflushed = false;
            if self.state == State::HalfClosed {
                self.shared.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let unread = match this.unread {
            Some(unread) => unread,
            None => {
                ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
                // After an upgrade only this direction ends, and HTTP/2 says goodbye in its own way.
                let Some(guard) = this.guard.as_ref().filter(|guard| guard.free() != u64::MAX) else {
                    return Poll::Ready(Ok(()));
                };
                this.deadline = Instant::now() + LINGER;
                this.state != State::Open || !guard.in_head() || !this.held.is_empty()
            }
        };
        this.poll_linger(cx, unread).map(Ok)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        self.wrote(&polled);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
