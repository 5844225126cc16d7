//! The two channels of an ephemwork laptop.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use http::{Method, Request, StatusCode, Version, header};
use russh::Channel;
use russh::server::Msg;
use smol::lock::OnceCell;

use crate::bastiond::control::{self, Caller};
use crate::bastiond::end::End;
use crate::bastiond::lane::Lane;
use crate::bastiond::state::{Daemon, Refused};
use crate::protocol::{self, Event};
use crate::rt::{self, Backlog};
use crate::tunnel::gate::Gate;
use crate::tunnel::ssh::channel::ChannelIo;
use crate::tunnel::stream;
use crate::tunnel::traffic::Traffic;
use crate::tunnel::window::{self, Windows};

/// Calls of the control API at once on one channel.
const MAX_CALLS: u32 = 32;

/// Control channels of one connection. A laptop has one, and for a moment a second while the first is being closed.
const MAX_CONTROLS: usize = 4;

/// How long a laptop may take to take an event, or to say what it can do.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The requests channel of a laptop. HTTP/2 begins on it with the first request: of a thousand tunnels most are idle, and its
/// buffers would be a third of what a tunnel costs.
#[derive(Default)]
pub(crate) struct Requests {
    opened: AtomicBool,
    /// Open, and not used yet.
    channel: Mutex<Option<(Channel<Msg>, Arc<Backlog>)>>,
    http2: OnceCell<Http2>,
}

struct Http2 {
    sender: SendRequest<Bytes>,
    pings: Option<Arc<smol::lock::Mutex<PingPong>>>,
    traffic: Arc<Traffic>,
    gate: Arc<Gate>,
    /// Measures the lane.
    _keeping: Option<rt::Task<()>>,
}

impl Requests {
    /// The laptop opened the channel.
    pub(super) fn open(&self, channel: Channel<Msg>, backlog: &Arc<Backlog>, lane: &Lane) {
        if self.opened.swap(true, Relaxed) {
            return lane.close("it opened the requests channel twice");
        }
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some((channel, Arc::clone(backlog)));
    }

    /// What goes through the channel, since the first request.
    pub(crate) fn traffic(&self) -> Option<&Traffic> {
        self.http2.get().map(|http2| http2.traffic.as_ref())
    }

    /// Where large bodies to the laptop wait for their turn; there since [`Requests::ready`].
    pub(crate) fn gate(&self) -> Option<&Arc<Gate>> {
        self.http2.get().map(|http2| &http2.gate)
    }

    /// Where a request can be sent now; the reason when there is no such place, or no longer.
    pub(crate) async fn ready(&self, lane: &Arc<Lane>) -> Result<SendRequest<Bytes>, String> {
        self.sender(lane).await?.ready().await.map_err(|why| why.to_string())
    }

    /// Where requests go; the reason when there is no such place.
    async fn sender(&self, lane: &Arc<Lane>) -> Result<SendRequest<Bytes>, String> {
        match self.http2.get() {
            Some(http2) => Ok(http2.sender.clone()),
            None => Ok(self.begin(lane).await?.sender.clone()),
        }
    }

    /// Waits until the laptop has said that it takes extended CONNECT, which is not asked of one that has not.
    pub(crate) async fn takes_upgrades(&self, sender: &SendRequest<Bytes>) -> bool {
        if let Some(http2) = self.http2.get()
            && !sender.is_extended_connect_protocol_enabled()
            && let Some(pings) = &http2.pings
        {
            // Its settings were sent before it answers this.
            rt::timeout(ANSWER_LIMIT, async { pings.lock().await.ping(Ping::opaque()).await }).await;
        }
        sender.is_extended_connect_protocol_enabled()
    }

    /// Tells the laptop what happened.
    pub(crate) async fn tell(&self, lane: &Arc<Lane>, event: &Event) -> Result<(), String> {
        let exchange = async {
            let body = serde_json::to_vec(event).map_err(|why| why.to_string())?;
            let request = Request::builder()
                .method(Method::POST)
                .uri(protocol::EVENT_PATH)
                .version(Version::HTTP_11)
                .header(header::CONTENT_TYPE, "application/json");
            let request = request.body(()).map_err(|why| why.to_string())?;
            let broken = |why: h2::Error| why.to_string();
            let mut sender = self.sender(lane).await?.ready().await.map_err(broken)?;
            let (answer, mut to_laptop) = sender.send_request(request, false).map_err(broken)?;
            stream::send_data(&mut to_laptop, body.into(), true).await.map_err(broken)?;
            match answer.await.map_err(broken)?.status() {
                StatusCode::NO_CONTENT => Ok(()),
                status => Err(format!("it answered {status}")),
            }
        };
        match rt::timeout(ANSWER_LIMIT, exchange).await {
            Some(result) => result,
            None => Err(format!("no answer within {} s", ANSWER_LIMIT.as_secs())),
        }
    }

    async fn begin(&self, lane: &Arc<Lane>) -> Result<&Http2, String> {
        let begin = async {
            let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).take();
            let (channel, backlog) = channel.ok_or("its requests channel is not open yet")?;
            let channel = ChannelIo::new(channel, backlog);
            let traffic = channel.traffic();
            let gate = Arc::new(Gate::new(Arc::clone(&traffic)));
            let handshake = h2::client::Builder::new()
                .enable_push(false)
                .initial_window_size(window::ALONE)
                .initial_connection_window_size(window::CONNECTION)
                .initial_max_send_streams(window::MAX_STREAMS as usize)
                .max_frame_size(stream::FRAME)
                .max_header_list_size(stream::MAX_HEAD)
                .max_send_buffer_size(stream::SEND_BUFFER)
                // Frames of answers that nobody wants any more are still on their way; h2 ends a connection after 1024 of them in
                // its whole life, and a lane lives for days.
                .max_local_error_reset_streams(None)
                .handshake(channel);
            let (sender, mut driver) = handshake.await.map_err(|why| {
                lane.close(&format!("its requests channel failed: {why}"));
                why.to_string()
            })?;
            let pings = driver.ping_pong().map(|pings| Arc::new(smol::lock::Mutex::new(pings)));
            let keeping = pings.clone().map(|pings| {
                let gate = Arc::clone(&gate);
                rt::spawn(async move { gate.keep(&pings).await })
            });
            rt::spawn(drive(driver, Arc::clone(lane))).detach();
            Ok::<_, String>(Http2 {
                sender,
                pings,
                traffic,
                gate,
                _keeping: keeping,
            })
        };
        self.http2.get_or_try_init(|| begin).await
    }
}

/// HTTP/2 to the laptop, until its channel ends.
async fn drive(mut driver: Connection<ChannelIo, Bytes>, lane: Arc<Lane>) {
    let mut windows = Windows::new();
    let drive = poll_fn(|cx| {
        let open = lane.streams.load(Relaxed);
        if let Some(window) = windows.change(open, Instant::now)
            && driver.set_initial_window_size(window).is_ok()
        {
            windows.offered(window);
        }
        Pin::new(&mut driver).poll(cx)
    });
    match drive.await {
        Ok(()) => lane.close("its requests channel was closed"),
        Err(why) => lane.close(&format!("its requests channel failed: {why}")),
    }
}

/// How long a peer that may do nothing has to ask why.
const REFUSED_LIMIT: Duration = Duration::from_secs(10);

/// Answers every call with the same refusal, for a while, and ends the connection.
pub(super) async fn refuse(channel: ChannelIo, refused: Arc<Refused>, end: End, place: Arc<()>) {
    let reason = refused.refusal.what.clone();
    let service = hyper::service::service_fn(move |_| {
        let answer = control::refusal((*refused).clone());
        async { Ok::<_, std::convert::Infallible>(answer) }
    });
    let serving = hyper::server::conn::http2::Builder::new(rt::HyperExecutor)
        .timer(rt::HyperTimer)
        .max_concurrent_streams(MAX_CALLS)
        .serve_connection(rt::io(channel), service);
    // However it went: the connection has no other use.
    drop(rt::timeout(REFUSED_LIMIT, serving).await);
    end.now(reason);
    drop(place);
}

/// The right to one more control channel, of which `all` counts those that are open.
pub(super) fn place(all: &Arc<()>) -> Option<Arc<()>> {
    (Arc::strong_count(all) <= MAX_CONTROLS).then(|| Arc::clone(all))
}

/// The control API for one laptop, until its channel ends.
pub(super) async fn control(channel: ChannelIo, lane: Arc<Lane>, daemon: Arc<Daemon>, place: Arc<()>) {
    tracing::debug!(user = %lane.user, "a control channel is open");
    let service = hyper::service::service_fn(|request| {
        let answer = control::answer(Arc::clone(&daemon), Caller::Lane(Arc::clone(&lane)), request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(rt::HyperExecutor)
        .timer(rt::HyperTimer)
        .max_concurrent_streams(MAX_CALLS)
        .serve_connection(rt::io(channel), service);
    if let Err(why) = serving.await {
        tracing::debug!(user = %lane.user, "control channel ended: {why}");
    }
    tracing::debug!(user = %lane.user, "a control channel is closed");
    drop(place);
}
