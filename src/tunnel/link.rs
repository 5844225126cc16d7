//! One lane: an SSH connection whose requests channel is served elsewhere, and which opens its control channel to make a call.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smol::channel::{Receiver, Sender};
use smol::lock::Mutex;

use super::measure::{self, Measured};
use super::skew;
use super::ssh::{self, Ended, Login, Unconnected};
use super::traffic::Traffic;
use super::transport::{Narrows, Stream, Transport};
use crate::error::{Error, Exit, Result};
use crate::protocol::audit::AuditPage;
use crate::protocol::{
    self, CONTROL_SUBSYSTEM, Claim, Claimed, Event, Left, MEASURE_SUBSYSTEM, REQUESTS_SUBSYSTEM, Refusal, Release, ReleaseUser,
    Released, Sessions, Speaks, UsersView,
};
use crate::rt;

/// How long transport, SSH and both channels together may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// How long a call of the control API may take. A claim is one transaction with an fsync on the bastion.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// How long measuring may take: some round trips, and twice 3 s of bytes, of which a slow way holds some seconds' worth.
const MEASURE_LIMIT: Duration = Duration::from_secs(60);

/// How long a goodbye may take before the connection is simply dropped.
const CLOSE_LIMIT: Duration = Duration::from_millis(500);

/// The largest answer of the control API, in bytes: the list of some thousand sessions.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Events kept for a reader that is busy; when it is full the bastion waits.
const EVENT_QUEUE: usize = 64;

/// How long nothing may come after requests came before a sign of life is asked for. A firewall that forgot the connection sends its resets to
/// who sends, and that is the bastion as long as this end has nothing to answer; what it is asked next it hears at once. One question
/// after each group of requests is no chatter, and an idle connection has none of them.
const HUSH: Duration = Duration::from_millis(100);

/// How long the control channel stays open behind a call. Calls come in groups, the claims of an `up` or the releases of its end,
/// and after a restart of the bastion a thousand laptops make theirs within seconds: what one gives back the next can use.
const CONTROL_IDLE: Duration = Duration::from_millis(500);

/// One live connection to a bastion.
pub struct Link {
    handle: Arc<ssh::Handle>,
    /// How the stream came, in a word.
    transport: &'static str,
    control: Arc<Mutex<Option<Control>>>,
    events: Receiver<Event>,
    ended: Ended,
    /// Asks for signs of life where a firewall may stand in between.
    _asks: Option<rt::Task<()>>,
}

/// The control channel while it is open.
struct Control {
    sender: http2::SendRequest<Full<Bytes>>,
    /// The last call ended.
    used: Instant,
    /// Drives it, and closes it when it has been idle.
    _tasks: [rt::Task<()>; 2],
}

/// The requests channel of a link, for `session::serve`.
pub struct Requests {
    pub(crate) channel: ssh::ChannelIo,
    /// Where the bastion's events go.
    pub(crate) events: Sender<Event>,
}

impl Link {
    /// Opens transport, SSH and both channels.
    ///
    /// # Errors
    /// [`Exit::Unreachable`] with the cause, within [`CONNECT_LIMIT`].
    pub async fn connect(transport: &Transport, login: &Login) -> Result<(Link, Requests), Unconnected> {
        match rt::timeout(CONNECT_LIMIT, open(transport, login)).await {
            Some(result) => result,
            None => {
                let why = format!("no answer within {} s", CONNECT_LIMIT.as_secs());
                Err(unreachable(transport).because(why).into())
            }
        }
    }

    /// The same over a stream that is open.
    ///
    /// # Errors
    /// What SSH says, within [`CONNECT_LIMIT`].
    pub(crate) async fn over(stream: Stream, login: &Login) -> Result<(Link, Requests), Unconnected> {
        match rt::timeout(CONNECT_LIMIT, over(stream, login)).await {
            Some(result) => result,
            None => {
                let why = format!("no answer within {} s", CONNECT_LIMIT.as_secs());
                let error = Error::new(Exit::Unreachable, "SSH with the bastion failed").because(why);
                Err(Unconnected::Silent(error))
            }
        }
    }

    /// Asks for a session and binds it to this connection.
    ///
    /// # Errors
    /// [`Exit::Conflict`] with the holder when somebody has it; [`Exit::Unreachable`] when the link broke meanwhile.
    pub async fn claim(&self, claim: &Claim) -> Result<Claimed> {
        self.call(Method::POST, "/v1/claim", Some(claim)).await
    }

    /// Gives a session back.
    ///
    /// # Errors
    /// As the bastion says, or [`Exit::Unreachable`].
    pub async fn release(&self, release: &Release) -> Result<Released> {
        self.call(Method::POST, "/v1/release", Some(release)).await
    }

    /// Lets no new requests come over this connection; those in flight go on.
    ///
    /// # Errors
    /// As the bastion says, which may not know this call, or [`Exit::Unreachable`].
    pub async fn leave(&self) -> Result<Left> {
        self.call(Method::POST, "/v1/leave", None::<&()>).await
    }

    /// This user's sessions, or with `all` everyone's.
    ///
    /// # Errors
    /// As the bastion says, or [`Exit::Unreachable`].
    pub async fn sessions(&self, all: bool) -> Result<Sessions> {
        let path = if all { "/v1/sessions?all=true" } else { "/v1/sessions" };
        self.call(Method::GET, path, None::<&()>).await
    }

    /// Every user name on the bastion and whose it is, for its admins.
    ///
    /// # Errors
    /// As the bastion says, or [`Exit::Unreachable`].
    pub async fn users(&self) -> Result<UsersView> {
        self.call(Method::GET, "/v1/users", None::<&()>).await
    }

    /// Frees a user name, for the bastion's admins.
    ///
    /// # Errors
    /// As the bastion says, or [`Exit::Unreachable`].
    pub async fn release_user(&self, release: &ReleaseUser) -> Result<Released> {
        self.call(Method::POST, "/v1/users/release", Some(release)).await
    }

    /// One page of the bastion's audit, for its admins; `path` is `/v1/audit` with its query.
    ///
    /// # Errors
    /// As the bastion says, or [`Exit::Unreachable`].
    pub(crate) async fn audit(&self, path: &str) -> Result<AuditPage> {
        self.call(Method::GET, path, None::<&()>).await
    }

    /// How fast the connection is; takes some seconds, bounded.
    ///
    /// # Errors
    /// The bastion does not measure, or the connection broke.
    pub(crate) async fn measure(&self) -> Result<Measured> {
        let failed = |why: String| {
            Error::new(Exit::Unreachable, "the connection could not be measured")
                .because(why)
                .hint("a bastion of an earlier version cannot: ephemwork bastion upgrade")
        };
        let work = async {
            let broken = |why: std::io::Error| why.to_string();
            let mut channel = self.handle.subsystem(MEASURE_SUBSYSTEM).await?;
            let round_trip = measure::round_trip(&mut channel).await.map_err(broken)?;
            let mut channel = self.handle.subsystem(MEASURE_SUBSYSTEM).await?;
            let up = measure::up(&mut channel).await.map_err(broken)?;
            // Last: what is still on its way of it would hold up what comes behind.
            let mut channel = self.handle.subsystem(MEASURE_SUBSYSTEM).await?;
            let down = measure::down(&mut channel).await.map_err(broken)?;
            Ok(Measured { round_trip, down, up })
        };
        match rt::timeout(MEASURE_LIMIT, work).await {
            Some(done) => done.map_err(failed),
            None => Err(failed(format!("it took longer than {} s", MEASURE_LIMIT.as_secs()))),
        }
    }

    /// What the bastion tells this laptop; closed when the link is dead.
    pub fn events(&self) -> Receiver<Event> {
        self.events.clone()
    }

    /// Waits until the link is dead, and says why.
    pub async fn closed(&self) -> String {
        self.ended.wait().await
    }

    /// Whether it is dead because nothing came through any more.
    pub(crate) fn fell_silent(&self) -> bool {
        self.ended.in_silence()
    }

    /// Says goodbye, bounded in time.
    pub async fn close(self) {
        if !self.ended.is_over() {
            rt::timeout(CLOSE_LIMIT, self.handle.disconnect()).await;
            rt::timeout(CLOSE_LIMIT, self.ended.wait()).await;
        }
    }

    /// The control channel, opened if it is not.
    async fn control(&self) -> Result<http2::SendRequest<Full<Bytes>>, String> {
        let mut place = self.control.lock().await;
        if let Some(control) = &mut *place
            && !control.sender.is_closed()
        {
            control.used = Instant::now();
            return Ok(control.sender.clone());
        }
        let channel = self.handle.subsystem(CONTROL_SUBSYSTEM).await?;
        let (sender, driver) = http2::Builder::new(rt::HyperExecutor)
            .handshake(rt::io(channel))
            .await
            .map_err(|why| why.to_string())?;
        let driver = rt::spawn(async move {
            // Its end is told by the call that it breaks.
            drop(driver.await);
        });
        let closer = rt::spawn(close_when_idle(Arc::downgrade(&self.control)));
        *place = Some(Control {
            sender: sender.clone(),
            used: Instant::now(),
            _tasks: [driver, closer],
        });
        Ok(sender)
    }

    async fn call<A: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&impl Serialize>) -> Result<A> {
        let broken = |why: String| Error::new(Exit::Unreachable, format!("the bastion did not answer {path}")).because(why);
        let body = match body {
            Some(body) => {
                serde_json::to_vec(body).map_err(|why| Error::new(Exit::Bug, "a message could not be written").because(why))?
            }
            None => Vec::new(),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://bastion{path}"))
            .header("content-type", "application/json")
            .header(protocol::TRANSPORT, self.transport)
            .header(protocol::PROTOCOL, Speaks::own().to_string())
            .body(Full::new(Bytes::from(body)))
            .map_err(|why| Error::new(Exit::Bug, "a message could not be written").because(why))?;
        let exchange = async {
            let mut control = self.control().await?;
            let answer = control.send_request(request).await.map_err(|why| why.to_string())?;
            let (head, body) = answer.into_parts();
            let body = Limited::new(body, MAX_ANSWER)
                .collect()
                .await
                .map_err(|why| why.to_string())?;
            let said = head.headers.get(protocol::PROTOCOL).and_then(|value| value.to_str().ok());
            Ok::<_, String>((head.status, said.and_then(Speaks::parse), body.to_bytes()))
        };
        let answered = smol::future::or(async { Some(rt::timeout(CALL_LIMIT, exchange).await) }, async {
            self.ended.wait().await;
            None
        });
        let answered = answered.await;
        if let Some(control) = &mut *self.control.lock().await {
            control.used = Instant::now();
        }
        let (status, theirs, body) = match answered {
            Some(Some(result)) => result.map_err(broken)?,
            Some(None) => return Err(broken(format!("nothing within {} s", CALL_LIMIT.as_secs()))),
            None => return Err(broken(self.ended.wait().await)),
        };
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|why| skew::not_understood(path, &why, theirs.as_ref()));
        }
        if status == StatusCode::NOT_FOUND {
            return Err(skew::unknown_call(path, theirs.as_ref()));
        }
        Err(skew::hinted(refused(status, &body), theirs.as_ref()))
    }
}

async fn open(transport: &Transport, login: &Login) -> Result<(Link, Requests), Unconnected> {
    let stream = transport
        .open(&Narrows::default())
        .await
        .map_err(|why| unreachable(transport).because(why))?;
    over(stream, login).await
}

async fn over(stream: Stream, login: &Login) -> Result<(Link, Requests), Unconnected> {
    let (transport, network) = (stream.word(), stream.local().is_some());
    let connected = ssh::connect(stream, login, REQUESTS_SUBSYSTEM).await?;
    let handle = Arc::new(connected.handle);
    let asks = network.then(|| rt::spawn(ask_in_a_hush(Arc::clone(&handle), connected.requests.traffic())));
    let (sender, events) = smol::channel::bounded(EVENT_QUEUE);
    let link = Link {
        handle,
        transport,
        control: Arc::default(),
        events,
        ended: connected.ended,
        _asks: asks,
    };
    let requests = Requests {
        channel: connected.requests,
        events: sender,
    };
    Ok((link, requests))
}

/// Asks for a sign of life whenever requests came and no more come, for ever.
async fn ask_in_a_hush(handle: Arc<ssh::Handle>, traffic: Arc<Traffic>) {
    let mut received = 0;
    loop {
        traffic.received_beyond(received).await;
        while received != traffic.totals().0 {
            received = traffic.totals().0;
            rt::sleep(HUSH).await;
        }
        handle.ask().await;
    }
}

/// Closes the control channel when no call was made on it for a while.
async fn close_when_idle(control: Weak<Mutex<Option<Control>>>) {
    let mut wait = CONTROL_IDLE;
    loop {
        rt::sleep(wait).await;
        let Some(control) = control.upgrade() else { return };
        let mut place = control.lock().await;
        let Some(open) = &*place else { return };
        match CONTROL_IDLE.checked_sub(open.used.elapsed()) {
            Some(left) if !left.is_zero() => wait = left,
            _ => {
                if let Some(Control {
                    sender,
                    _tasks: [driver, closer],
                    ..
                }) = place.take()
                {
                    // The driver says goodbye once nobody can call any more; this task, which is its own, ends by itself.
                    drop(sender);
                    driver.detach();
                    closer.detach();
                }
                return;
            }
        }
    }
}

fn unreachable(transport: &Transport) -> Error {
    Error::new(Exit::Unreachable, format!("the bastion at {transport} cannot be reached"))
}

/// What the bastion's refusal of a call means.
pub(crate) fn refused(status: StatusCode, body: &[u8]) -> Error {
    let exit = match status.as_u16() {
        409 => Exit::Conflict,
        400..=499 => Exit::Config,
        _ => Exit::Unreachable,
    };
    match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => Error {
            what: refusal.what,
            why: refusal.why,
            hint: refusal.hint,
            exit,
        },
        Err(_) => Error::new(exit, format!("the bastion answered {status}")),
    }
}
