//! A byte stream to port 22 of an instance through Session Manager: `ssm::Channel` over websockets that come and go.
//!
//! One task a session moves bytes between SSH, the channel and the websocket of the moment. Whatever ends a websocket, the hourly
//! "Bye" included, is a reason to resume the session; nobody above notices. Whoever started the session ends it at AWS.
//!
//! How long a session without a websocket is kept: SSH asks for a sign of life every 3 s and gives up after 9 s, and a new session
//! is quicker than a person. So resuming for minutes would help nobody; [`DEAD`] is the same limit for an SSH that is stuck writing.

mod over;
mod resume;

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use smol::channel::{Receiver, Sender};

pub(crate) use over::Over;
use resume::resume;

use super::websocket::{self, Received, WebSocket};
use crate::aws::{Aws, ssm as api};
use crate::rt::{self, AsyncRead, AsyncWrite, Dialer, DuplexStream, ReadBuf};
use crate::ssm::{Channel, Event, Input, Moment, Settings, Transmit};

/// How much waits between SSH and the channel, each way, in bytes: a full packet.
const PIPE: usize = 32 * 1024;

/// How much is moved at once between them, in bytes.
const PIECE: usize = 32 * 1024;

/// How many messages are read before what they bring is handed on and acknowledged: one flush for all of their acknowledgements.
const BATCH: usize = 64;

/// How many turns before other tasks run.
const TURNS: usize = 8;

/// How often a ping keeps NATs and proxies from forgetting the connection. Their shortest limits are about a minute.
const PING: Duration = Duration::from_secs(30);

/// How long what was sent may be without any sign of the bastion. SSH finds a dead peer within 9 s by itself, but not while it is
/// stuck writing; 15 s are promised.
const DEAD: Duration = Duration::from_secs(12);

/// How long the last bytes may take behind SSH's goodbye.
const LINGER: Duration = Duration::from_millis(500);

/// What is needed for the channel of a session that was just started.
pub(crate) struct Opening {
    pub(crate) aws: Aws,
    pub(crate) dialer: Dialer,
    pub(crate) started: api::Started,
    /// Bytes of SSH in one message.
    pub(crate) payload: usize,
}

/// The stream. Dropping it ends the channel within [`LINGER`].
pub(crate) struct SsmStream {
    pipe: DuplexStream,
    over: Arc<Mutex<Option<Over>>>,
    _alive: Sender<()>,
}

impl fmt::Debug for SsmStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SsmStream")
    }
}

impl SsmStream {
    /// Opens the first websocket and shakes hands with the agent.
    ///
    /// # Errors
    /// Why it cannot be; the session is still to be ended.
    pub(crate) async fn open(opening: Opening) -> Result<SsmStream, Over> {
        let Opening {
            aws,
            dialer,
            started,
            payload,
        } = opening;
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|_| Over::Unfit("the system gives no random bytes".to_owned()))?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = u64::try_from(wall.as_millis()).unwrap_or_default();
        let socket = websocket::open(&dialer, &started.stream_url).await.map_err(Over::Unopened)?;
        let (near, far) = rt::duplex(PIPE);
        let (alive, gone) = smol::channel::bounded(1);
        let over = Arc::new(Mutex::new(None));
        let mut driver = Driver {
            aws,
            dialer,
            session: started.session_id,
            channel: Channel::new(Settings::new(payload, epoch, seed)),
            begun: Instant::now(),
            pipe: far,
            out: Bytes::new(),
            piece: vec![0; PIECE].into_boxed_slice(),
            gone,
            left: None,
            heard: Instant::now(),
            signs: 0,
            ping: Instant::now() + PING,
            timer: Timer::default(),
        };
        let (tell, told) = smol::channel::bounded(1);
        let ended = over.clone();
        let task = async move {
            let why = driver.run(socket, started.token, &tell).await;
            tracing::debug!("session {}: {why}; {:?}", driver.session, driver.channel.counters());
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        };
        // It ends by itself, soon after the stream is dropped.
        rt::spawn(task).detach();
        if told.recv().await.is_err() {
            let why = over.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(why.unwrap_or(Over::Left));
        }
        Ok(SsmStream {
            pipe: near,
            over,
            _alive: alive,
        })
    }
}

/// The instant to wake at; one timer serves while the instant only moves away.
#[derive(Default)]
struct Timer {
    at: Option<Instant>,
    sleep: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Timer {
    /// Whether it is time; the task is woken then.
    fn poll(&mut self, cx: &mut Context<'_>, wanted: Instant) -> bool {
        if self.at.is_none_or(|at| wanted < at) {
            self.at = Some(wanted);
            self.sleep = Some(Box::pin(rt::sleep_until(wanted)));
        }
        let due = self.sleep.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        if due {
            (self.at, self.sleep) = (None, None);
        }
        due
    }
}

struct Driver {
    aws: Aws,
    dialer: Dialer,
    session: String,
    channel: Channel,
    /// Moment zero of the channel.
    begun: Instant,
    pipe: DuplexStream,
    /// What the pipe has not taken yet.
    out: Bytes,
    piece: Box<[u8]>,
    /// Closed when nobody reads or writes any more.
    gone: Receiver<()>,
    /// Until when the last bytes may go out, once nobody writes any more.
    left: Option<Instant>,
    /// The last sign of the agent, or the last time when none was due.
    heard: Instant,
    /// How many signs there were.
    signs: u64,
    /// When the next ping is due.
    ping: Instant,
    timer: Timer,
}

/// Why the websocket of the moment is of no more use.
enum Cut {
    Over(Over),
    /// With the close code, if there was one.
    Broken(Option<u16>, String),
}

impl Driver {
    async fn run(&mut self, mut socket: WebSocket, mut token: String, ready: &Sender<()>) -> Over {
        loop {
            self.channel.connected(self.begun.elapsed(), &token);
            self.ping = Instant::now() + PING;
            let cut = std::future::poll_fn(|cx| self.poll(cx, &mut socket, ready)).await;
            match cut {
                Cut::Over(over) => {
                    rt::timeout(LINGER, socket.close()).await;
                    rt::timeout(LINGER, self.rest()).await;
                    return over;
                }
                Cut::Broken(code, why) => {
                    tracing::debug!("session {}: websocket: {why} (code {code:?})", self.session);
                    if code == Some(TOO_BIG) {
                        self.channel.payload_refused();
                    } else {
                        self.channel.disconnected();
                    }
                    drop(socket);
                }
            }
            let resumed = async { Some(resume(&self.aws, &self.dialer, &self.session).await) };
            let gone = self.gone.clone();
            let limit = async {
                // Nobody waits for a stream that nobody holds.
                while gone.recv().await.is_ok() {}
                None
            };
            let until = self.heard + DEAD;
            let dead = async {
                rt::sleep_until(until).await;
                Some(Err(Over::Silent))
            };
            match smol::future::or(smol::future::or(limit, resumed), dead).await {
                Some(Ok((next, fresh))) => (socket, token) = (next, fresh),
                Some(Err(over)) => return over,
                None => return Over::Left,
            }
        }
    }

    /// What was received and not read, behind the end.
    async fn rest(&mut self) {
        std::future::poll_fn(|cx| {
            self.deliver(cx);
            if self.out.is_empty() && !self.channel.readable() || self.left.is_some() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// Moves what can be moved.
    fn poll(&mut self, cx: &mut Context<'_>, socket: &mut WebSocket, ready: &Sender<()>) -> Poll<Cut> {
        for _ in 0..TURNS {
            let received = self.receive(cx, socket);
            if let Some(over) = self.events(ready) {
                return Poll::Ready(over);
            }
            let received = match received {
                Ok(received) => received,
                Err(cut) => return Poll::Ready(cut),
            };
            let delivered = self.deliver(cx);
            let taken = self.take(cx);
            let sent = match self.transmit(cx, socket) {
                Ok(sent) => sent,
                Err(why) => return Poll::Ready(Cut::Broken(None, why)),
            };
            let left = self
                .left
                .is_some_and(|until| self.channel.drained() || until <= Instant::now());
            if left {
                return Poll::Ready(Cut::Over(Over::Left));
            }
            self.listen();
            let due = self.deadline();
            let woken = self.timer.poll(cx, due);
            if woken {
                let now = self.now();
                self.channel.handle_timeout(now);
                if self.ping <= Instant::now() {
                    self.ping = Instant::now() + PING;
                    if let Err(why) = socket.give_ping() {
                        return Poll::Ready(Cut::Broken(None, why));
                    }
                }
                if self.heard + DEAD <= Instant::now() {
                    return Poll::Ready(Cut::Over(Over::Silent));
                }
            }
            if !(received || delivered || taken || sent || woken) {
                return Poll::Pending;
            }
        }
        // There is more to do; the others' turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn receive(&mut self, cx: &mut Context<'_>, socket: &mut WebSocket) -> Result<bool, Cut> {
        let mut any = false;
        for _ in 0..BATCH {
            if !self.channel.wants_input() {
                break;
            }
            match socket.poll_receive(cx) {
                Poll::Ready(Ok(Received::Binary(bytes))) => {
                    let now = self.now();
                    self.channel.handle_input(now, Input::Binary(bytes));
                    any = true;
                }
                Poll::Ready(Ok(Received::Text(text))) => {
                    let now = self.now();
                    self.channel.handle_input(now, Input::Text(&text));
                    any = true;
                }
                Poll::Ready(Ok(Received::Closed(code, reason))) => return Err(Cut::Broken(code, format!("closed: {reason}"))),
                Poll::Ready(Err(why)) => return Err(Cut::Broken(None, why)),
                Poll::Pending => break,
            }
        }
        Ok(any)
    }

    fn events(&mut self, ready: &Sender<()>) -> Option<Cut> {
        while let Some(event) = self.channel.poll_event() {
            let over = match event {
                Event::Ready {
                    agent_version,
                    customer_message,
                } => {
                    tracing::debug!("session {}: agent {agent_version} {customer_message}", self.session);
                    // Told once; who opened it waits for it.
                    ready.try_send(()).ok();
                    continue;
                }
                Event::Paused | Event::Resumed => continue,
                Event::Reconnect(reason) => return Some(Cut::Broken(None, reason.to_string())),
                Event::FirstAckMissing | Event::PortRefused => Over::PortClosed,
                Event::HandshakeMissing => Over::NoHandshake,
                Event::Refused(refusal) => Over::Unfit(refusal.to_string()),
                Event::Closed { output } => Over::Closed(output),
                Event::Violated(violation) => Over::Unfit(violation.to_string()),
            };
            return Some(Cut::Over(over));
        }
        None
    }

    /// To SSH.
    fn deliver(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        loop {
            if self.out.is_empty() {
                match self.channel.recv(PIECE) {
                    Some(bytes) => self.out = bytes,
                    None => return any,
                }
            }
            match Pin::new(&mut self.pipe).poll_write(cx, &self.out) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    drop(self.out.split_to(count));
                    any = true;
                }
                Poll::Ready(_) => {
                    // Nobody reads any more.
                    self.out = Bytes::new();
                    self.leave();
                    any = true;
                }
                Poll::Pending => return any,
            }
        }
    }

    /// From SSH.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while self.left.is_none() {
            let room = self.channel.capacity().min(self.piece.len());
            if room == 0 {
                break;
            }
            let mut buffer = ReadBuf::new(&mut self.piece[..room]);
            match Pin::new(&mut self.pipe).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    // It said that it has room for all of it.
                    self.channel.send(buffer.filled());
                }
                Poll::Ready(_) => self.leave(),
                Poll::Pending => break,
            }
            any = true;
        }
        any
    }

    fn leave(&mut self) {
        if self.left.is_none() {
            self.left = Some(Instant::now() + LINGER);
            self.channel.finish();
        }
    }

    /// Acknowledgements come first, as the channel gives them; all of it in as few writes as can be.
    fn transmit(&mut self, cx: &mut Context<'_>, socket: &mut WebSocket) -> Result<bool, String> {
        let mut any = false;
        while let Poll::Ready(ready) = socket.poll_ready(cx) {
            ready?;
            let now = self.now();
            match self.channel.poll_transmit(now) {
                Some(Transmit::Binary(bytes)) => socket.give(bytes)?,
                Some(Transmit::Text(text)) => socket.give_text(text)?,
                None => break,
            }
            any = true;
        }
        match socket.poll_flush(cx) {
            Poll::Ready(Err(why)) => Err(why),
            _ => Ok(any),
        }
    }

    /// Notes signs of the agent.
    fn listen(&mut self) {
        let counters = self.channel.counters();
        let signs = counters.acks_received + counters.received + counters.duplicates;
        // While SSH does not read, nothing can be heard.
        if signs != self.signs || self.channel.drained() || !self.channel.wants_input() {
            self.signs = signs;
            self.heard = Instant::now();
        }
    }

    fn deadline(&self) -> Instant {
        let channel = self.channel.poll_timeout().map(|at| self.begun + at);
        let all = [channel, self.left, Some(self.ping), Some(self.heard + DEAD)];
        all.into_iter().flatten().min().unwrap_or(self.ping)
    }
}

/// The close code of a message that is too big (RFC 6455, section 7.4.1).
const TOO_BIG: u16 = 1009;

impl AsyncRead for SsmStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.pipe).poll_read(cx, buffer);
        if matches!(polled, Poll::Ready(Ok(()))) && buffer.filled().len() == before && buffer.remaining() > 0 {
            let over = self.over.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(over) = &*over {
                return Poll::Ready(Err(io::Error::other(over.to_string())));
            }
        }
        polled
    }
}

impl AsyncWrite for SsmStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}
