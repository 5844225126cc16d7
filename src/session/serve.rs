//! Answers the requests that the bastion sends through a lane, from the services on this machine.
//!
//! Each request is one HTTP/2 stream; its body, its answer's body and trailers are streamed both ways and never buffered.
//! What the service said is passed on as it is; what it failed to say is told with `protocol::NO_ANSWER`.

mod target;

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::client::conn::http2;
use smol::channel::Sender;

use super::load::Load;
use target::{Failure, Outgoing};

use crate::name::{self, Service, Tag};
use crate::protocol::{self, Event, NoAnswer};
use crate::rt;
use crate::tunnel::Requests;
use crate::tunnel::gate::Gate;
use crate::tunnel::stream;
use crate::tunnel::window::{self, Windows};
use crate::upstream::Pool;

/// What the client asked for, when Host says something else.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How often idle connections are looked at.
const SWEEP: Duration = Duration::from_secs(2);

/// What a service speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge, in clear text: gRPC.
    H2c,
}

/// Where a service listens on this machine, and how it is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The port, on 127.0.0.1 or ::1.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// What its requests have in Host instead of what the client sent: development servers refuse names that they do not know.
    pub host: Option<String>,
}

/// What happened to a service's requests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceCounters {
    /// Requests answered or failed.
    pub requests: u64,
    /// The last failure.
    pub last_error: Option<String>,
}

/// The services that this laptop serves; changes while requests are answered.
pub struct Upstreams {
    services: RwLock<HashMap<Service, Arc<Target>>>,
    /// What happened to those that were removed.
    removed: Mutex<HashMap<Service, ServiceCounters>>,
    load: Arc<Load>,
}

impl Default for Upstreams {
    fn default() -> Upstreams {
        Upstreams {
            services: RwLock::default(),
            removed: Mutex::default(),
            load: Load::new(),
        }
    }
}

struct Target {
    upstream: Upstream,
    pool: Arc<Pool<Outgoing>>,
    load: Arc<Load>,
    h2c: Mutex<Option<http2::SendRequest<Outgoing>>>,
    /// The last connection was to ::1 (a service that listens on `localhost` may have only that).
    six: AtomicBool,
    requests: AtomicU64,
    last_error: Mutex<Option<String>>,
}

impl Upstreams {
    /// No service.
    pub fn new() -> Upstreams {
        Upstreams::default()
    }

    /// Adds a service that is not there; another lane may have brought it already.
    pub(super) fn offer(&self, service: &Service, upstream: &Upstream) {
        if self.target(service).is_none() {
            self.set(service, upstream.clone());
        }
    }

    /// How much is on its way to and from all of them.
    pub(super) fn load(&self) -> Arc<Load> {
        Arc::clone(&self.load)
    }

    /// Adds or replaces a service; its counters start anew.
    pub fn set(&self, service: &Service, upstream: Upstream) {
        let target = Target {
            upstream,
            pool: Pool::new(),
            load: Arc::clone(&self.load),
            h2c: Mutex::new(None),
            six: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            last_error: Mutex::new(None),
        };
        self.services
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(service.clone(), Arc::new(target));
    }

    /// Requests for it are told that it is unknown; its counters stay.
    pub fn remove(&self, service: &Service) {
        let counters = self.counters(service);
        self.removed().insert(service.clone(), counters);
        self.services.write().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// What happened to its requests so far.
    pub fn counters(&self, service: &Service) -> ServiceCounters {
        match self.target(service) {
            Some(target) => ServiceCounters {
                requests: target.requests.load(Ordering::Relaxed),
                last_error: target.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            },
            None => self.removed().get(service).cloned().unwrap_or_default(),
        }
    }

    fn removed(&self) -> MutexGuard<'_, HashMap<Service, ServiceCounters>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn target(&self, service: &Service) -> Option<Arc<Target>> {
        self.services
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(service)
            .cloned()
    }

    fn sweep(&self) {
        for target in self.services.read().unwrap_or_else(PoisonError::into_inner).values() {
            target.pool.sweep();
        }
    }
}

/// Serves a lane until its channel ends. Dropping the future cancels every request in flight.
pub async fn run(requests: Requests, upstreams: Arc<Upstreams>) {
    run_until(requests, upstreams, &Leave::default()).await;
}

/// Serves a lane until its channel ends, or until it was asked to leave and every request in flight is answered.
pub(super) async fn run_until(requests: Requests, upstreams: Arc<Upstreams>, leave: &Leave) {
    let sweeper = async {
        loop {
            rt::sleep(SWEEP).await;
            upstreams.sweep();
        }
    };
    smol::future::or(accept(requests, &upstreams, leave), sweeper).await;
}

/// Asks the task that serves a lane to end it.
#[derive(Debug, Default)]
pub(super) struct Leave {
    asked: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Leave {
    pub(super) fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.wake();
        }
    }

    fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }

    /// The task, which is the same for as long as the lane lives, is to be woken.
    fn wakes(&self, cx: &Context<'_>) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            self.wakes(cx);
            if self.is_asked() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

async fn accept(requests: Requests, upstreams: &Arc<Upstreams>, leave: &Leave) {
    let gate = Arc::new(Gate::new(requests.channel.traffic()));
    let handshake = h2::server::Builder::new()
        .initial_window_size(window::ALONE)
        .initial_connection_window_size(window::CONNECTION)
        .max_concurrent_streams(window::MAX_STREAMS)
        .max_frame_size(stream::FRAME)
        .max_header_list_size(stream::MAX_HEAD)
        .max_send_buffer_size(stream::SEND_BUFFER)
        .max_pending_accept_reset_streams(stream::MAX_ABANDONED)
        // h2 counts these over the connection's whole life and then ends it; a lane lives for days.
        .max_local_error_reset_streams(None)
        .enable_connect_protocol()
        .handshake(requests.channel);
    // HTTP/2 begins with the first request, which may never come.
    let handshake = smol::future::or(async { Some(handshake.await) }, async {
        leave.wait().await;
        None
    });
    let mut connection = match handshake.await {
        None => return,
        Some(Ok(connection)) => connection,
        Some(Err(why)) => {
            tracing::debug!("the requests channel ended before it began: {why}");
            return;
        }
    };
    let _keeping = connection.ping_pong().map(|pings| {
        let gate = Arc::clone(&gate);
        rt::spawn(async move { gate.keep(&smol::lock::Mutex::new(pings)).await })
    });
    let mut windows = Windows::new();
    let streams = Arc::new(());
    let mut leaving = false;
    poll_fn(|cx| {
        leave.wakes(cx);
        Poll::Ready(())
    })
    .await;
    // When the connection is dropped every stream fails, and with it the task that answers it.
    loop {
        let accepted = poll_fn(|cx| {
            // Each task holds one more.
            let open = Arc::strong_count(&streams) - 1;
            if let Some(window) = windows.change(open, Instant::now)
                && connection.set_initial_window_size(window).is_ok()
            {
                windows.offered(window);
            }
            if !leaving && leave.is_asked() {
                leaving = true;
                connection.graceful_shutdown();
            }
            connection.poll_accept(cx)
        });
        match accepted.await {
            Some(Ok((request, respond))) => {
                let (upstreams, open) = (Arc::clone(upstreams), Arc::clone(&streams));
                if is_event(&request) {
                    rt::spawn(event(request.into_body(), respond, requests.events.clone())).detach();
                    continue;
                }
                let gate = Arc::clone(&gate);
                rt::spawn(async move {
                    answer(request, respond, upstreams, &gate).await;
                    drop(open);
                })
                .detach();
            }
            Some(Err(why)) => {
                tracing::debug!("the requests channel ended: {why}");
                return;
            }
            None => return,
        }
    }
}

/// Whether the bastion itself speaks; what it passes on names a tag.
fn is_event(request: &Request<RecvStream>) -> bool {
    !request.headers().contains_key(name::HEADER) && request.uri().path() == protocol::EVENT_PATH
}

/// Takes one event of the bastion.
async fn event(mut body: RecvStream, mut respond: SendResponse<Bytes>, events: Sender<Event>) {
    let mut text = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        if text.len() + data.len() > protocol::MAX_EVENT || body.flow_control().release_capacity(data.len()).is_err() {
            return respond.send_reset(h2::Reason::ENHANCE_YOUR_CALM);
        }
        text.extend_from_slice(&data);
    }
    let status = match serde_json::from_slice(&text) {
        // Whoever would hear of it has gone, and the lane with it.
        Ok(event) => match events.send(event).await {
            Ok(()) => StatusCode::NO_CONTENT,
            Err(_) => StatusCode::GONE,
        },
        Err(_) => StatusCode::BAD_REQUEST,
    };
    let mut answer = Response::new(());
    *answer.status_mut() = status;
    if let Err(why) = respond.send_response(answer, true) {
        tracing::debug!("nobody waits for the answer to an event: {why}");
    }
}

/// Answers one request, whatever happens.
async fn answer(mut request: Request<RecvStream>, mut respond: SendResponse<Bytes>, upstreams: Arc<Upstreams>, gate: &Gate) {
    let service = request
        .headers()
        .get(name::HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| Tag::parse(value).ok());
    let target = service.as_ref().and_then(|tag| upstreams.target(&tag.service));
    let Some(target) = target else {
        let what = match &service {
            Some(tag) => format!("this laptop does not serve {:?}", tag.service.as_str()),
            None => "the request names no service".to_owned(),
        };
        no_answer(&mut respond, NoAnswer::Unknown, &what);
        return;
    };
    target.requests.fetch_add(1, Ordering::Relaxed);
    if let Some(host) = &target.upstream.host {
        readdress(&mut request, host);
    }
    let result = if request.method() == Method::CONNECT {
        target.upgrade(request, &mut respond, gate).await
    } else {
        match target.upstream.protocol {
            Protocol::Http1 => target.http1(request, &mut respond, gate).await,
            Protocol::H2c => target.h2c(request, &mut respond, gate).await,
        }
    };
    let Err(failure) = result else { return };
    if let Failure::Service(kind, why) = &failure {
        no_answer(&mut respond, *kind, why);
    }
    if let Failure::Service(_, why) | Failure::Midway(why) = failure {
        tracing::debug!("request failed: {why}");
        *target.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
}

/// Replaces Host, and keeps what was asked for in X-Forwarded-Host, as proxies do; one that is there already is the client's own.
fn readdress(request: &mut Request<RecvStream>, host: &str) {
    let asked = match request.headers().get(header::HOST) {
        Some(asked) => Some(asked.clone()),
        None => request
            .uri()
            .authority()
            .and_then(|authority| HeaderValue::from_str(authority.as_str()).ok()),
    };
    let headers = request.headers_mut();
    if let (Some(asked), false) = (asked, headers.contains_key(FORWARDED_HOST)) {
        headers.insert(FORWARDED_HOST, asked);
    }
    // It was checked when ephemwork.toml was read.
    if let Ok(host) = HeaderValue::from_str(host) {
        headers.insert(header::HOST, host);
    }
}

/// Says that there is no answer. An error means that nobody waits for it.
fn no_answer(respond: &mut SendResponse<Bytes>, kind: NoAnswer, what: &str) {
    let head = Response::builder()
        .status(StatusCode::BAD_GATEWAY)
        .header(protocol::NO_ANSWER, kind.as_str())
        .body(());
    if let Ok(head) = head
        && let Ok(mut stream) = respond.send_response(head, false)
        && let Err(why) = stream.send_data(Bytes::copy_from_slice(what.as_bytes()), true)
    {
        tracing::debug!("nobody waits for the answer: {why}");
    }
}
