//! Answers the requests that the bastion sends through a lane, from the services on this machine.
//!
//! Each request is one HTTP/2 stream; its body, its answer's body and trailers are streamed both ways and never buffered.
//! What the service said is passed on as it is; what it failed to say is told with `protocol::NO_ANSWER`.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2;

use crate::hop;
use crate::name::{self, Service, Tag};
use crate::protocol::{self, NoAnswer};
use crate::rt::{self, TcpStream};
use crate::tunnel::Requests;
use crate::tunnel::stream::{self, TunnelBody, Unsent};
use crate::upstream::{self, AnswerBody, Connection, Pool, Unanswered};

/// How long a service on this machine may take to accept a connection; its backlog is full when it does not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

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

/// Where a service listens on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The port, on 127.0.0.1 or ::1.
    pub port: u16,
    /// What it speaks.
    pub protocol: Protocol,
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
#[derive(Default)]
pub struct Upstreams {
    services: RwLock<HashMap<Service, Arc<Target>>>,
}

/// The body of a request on its way to the service.
enum Outgoing {
    Empty,
    Stream(TunnelBody),
}

struct Target {
    upstream: Upstream,
    pool: Arc<Pool<Outgoing>>,
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

    /// Adds or replaces a service; its counters start anew.
    pub fn set(&self, service: &Service, upstream: Upstream) {
        let target = Target {
            upstream,
            pool: Pool::new(),
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

    /// Requests for it are told that it is unknown.
    pub fn remove(&self, service: &Service) {
        self.services.write().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// What happened to its requests so far.
    pub fn counters(&self, service: &Service) -> ServiceCounters {
        match self.target(service) {
            Some(target) => ServiceCounters {
                requests: target.requests.load(Ordering::Relaxed),
                last_error: target.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            },
            None => ServiceCounters::default(),
        }
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
    let sweeper = async {
        loop {
            rt::sleep(SWEEP).await;
            upstreams.sweep();
        }
    };
    smol::future::or(accept(requests, &upstreams), sweeper).await;
}

async fn accept(requests: Requests, upstreams: &Arc<Upstreams>) {
    let handshake = h2::server::Builder::new()
        .initial_window_size(stream::STREAM_WINDOW)
        .initial_connection_window_size(stream::CONNECTION_WINDOW)
        .max_concurrent_streams(stream::MAX_STREAMS)
        .max_frame_size(stream::FRAME)
        .max_header_list_size(stream::MAX_HEAD)
        .max_send_buffer_size(stream::SEND_BUFFER)
        .max_pending_accept_reset_streams(stream::MAX_ABANDONED)
        // h2 counts these over the connection's whole life and then ends it; a lane lives for days.
        .max_local_error_reset_streams(None)
        .enable_connect_protocol()
        .handshake(requests.0);
    let mut connection = match handshake.await {
        Ok(connection) => connection,
        Err(why) => {
            tracing::debug!("the requests channel ended before it began: {why}");
            return;
        }
    };
    // When the connection is dropped every stream fails, and with it the task that answers it.
    loop {
        match connection.accept().await {
            Some(Ok((request, respond))) => rt::spawn(answer(request, respond, Arc::clone(upstreams))).detach(),
            Some(Err(why)) => {
                tracing::debug!("the requests channel ended: {why}");
                return;
            }
            None => return,
        }
    }
}

/// Answers one request, whatever happens.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, upstreams: Arc<Upstreams>) {
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
    let result = if request.method() == Method::CONNECT {
        target.upgrade(request, &mut respond).await
    } else {
        match target.upstream.protocol {
            Protocol::Http1 => target.http1(request, &mut respond).await,
            Protocol::H2c => target.h2c(request, &mut respond).await,
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

/// Why a request was not answered to its end.
enum Failure {
    /// There is no answer of the service, and nothing was sent yet.
    Service(NoAnswer, String),
    /// The service broke off in the middle of its answer; the stream is reset.
    Midway(String),
    /// Nobody waits for the answer any more.
    Unwanted,
}

impl Failure {
    fn of_stream(_: h2::Error) -> Failure {
        Failure::Unwanted
    }
}

impl Target {
    async fn connect(&self) -> Result<TcpStream, Failure> {
        let four = SocketAddr::from((Ipv4Addr::LOCALHOST, self.upstream.port));
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, self.upstream.port));
        let was_six = self.six.load(Ordering::Relaxed);
        let order = if was_six { [six, four] } else { [four, six] };
        let mut first = None;
        for address in order {
            let attempt = match rt::timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Some(attempt) => attempt,
                None => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("not accepted within {} s", CONNECT_LIMIT.as_secs()),
                )),
            };
            match attempt {
                Ok(stream) => {
                    // Nagle's algorithm costs a small request 40 ms.
                    if let Err(why) = stream.set_nodelay(true) {
                        tracing::debug!("TCP_NODELAY: {why}");
                    }
                    self.six.store(address.is_ipv6(), Ordering::Relaxed);
                    return Ok(stream);
                }
                Err(why) => first = first.or(Some(why)),
            }
        }
        let why = first.map_or_else(String::new, |why| format!(": {why}"));
        let what = format!(
            "nothing accepts connections on port {} of the laptop{why}",
            self.upstream.port
        );
        Err(Failure::Service(NoAnswer::Refused, what))
    }

    async fn connection(&self) -> Result<Connection<Outgoing>, Failure> {
        let stream = self.connect().await?;
        Connection::new(rt::io(stream))
            .await
            .map_err(|why| Failure::Service(NoAnswer::Closed, why.to_string()))
    }

    async fn http1(&self, request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), Failure> {
        let request = to_http1(request);
        let spare = upstream::spare(&request, || Outgoing::Empty);
        let exchange = self.pool.exchange(request, spare, || self.connection());
        let (head, body) = match until_unwanted(respond, exchange).await? {
            Ok(answer) => answer.into_parts(),
            Err(Unanswered::Connect(failure)) => return Err(failure),
            Err(Unanswered::Answer(error)) => return Err(no_head(&error)),
        };
        pass_on(head, body, respond).await
    }

    async fn h2c(&self, request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), Failure> {
        let (mut head, body) = request.into_parts();
        let length = content_length(&head.headers);
        head.uri = absolute(&head)?;
        head.version = Version::HTTP_2;
        head.headers.remove(header::HOST);
        let request = Request::from_parts(head, Outgoing::Stream(TunnelBody::new(body, length)));
        let mut sender = self.h2c_sender().await?;
        let answer = until_unwanted(respond, sender.send_request(request)).await?;
        let (head, body) = answer.map_err(|error| no_head(&error))?.into_parts();
        pass_on(head, body, respond).await
    }

    async fn h2c_sender(&self) -> Result<http2::SendRequest<Outgoing>, Failure> {
        if let Some(sender) = self.h2c.lock().unwrap_or_else(PoisonError::into_inner).clone()
            && !sender.is_closed()
        {
            return Ok(sender);
        }
        let stream = self.connect().await?;
        let handshake = http2::Builder::new(rt::HyperExecutor)
            .initial_stream_window_size(stream::STREAM_WINDOW)
            .initial_connection_window_size(stream::CONNECTION_WINDOW)
            .handshake(rt::io(stream));
        let (sender, driver) = handshake
            .await
            .map_err(|why| Failure::Service(NoAnswer::Malformed, why.to_string()))?;
        rt::spawn(async move {
            if let Err(why) = driver.await {
                tracing::debug!("h2c connection ended: {why}");
            }
        })
        .detach();
        *self.h2c.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender.clone());
        Ok(sender)
    }

    /// Extended CONNECT becomes an HTTP/1.1 upgrade, and its bytes go both ways until either side has closed.
    async fn upgrade(&self, request: Request<RecvStream>, respond: &mut SendResponse<Bytes>) -> Result<(), Failure> {
        let (mut head, body) = request.into_parts();
        let Some(token) = head
            .extensions
            .get::<h2::ext::Protocol>()
            .map(|protocol| protocol.as_str().to_owned())
        else {
            return Err(Failure::Service(
                NoAnswer::Unknown,
                "CONNECT without an upgrade token is not served".to_owned(),
            ));
        };
        let token = HeaderValue::from_str(&token)
            .map_err(|_| Failure::Service(NoAnswer::Unknown, "the upgrade token is none".to_owned()))?;
        head.method = Method::GET;
        head.version = Version::HTTP_11;
        set_host(&mut head);
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, token.clone());
        head.extensions.clear();
        // The body of the request that asks for an upgrade is empty; the stream's bytes are the upgraded connection's.
        let request = Request::from_parts(head, Outgoing::Empty);
        let mut connection = Connection::new(rt::io(self.connect().await?))
            .await
            .map_err(|why| Failure::Service(NoAnswer::Closed, why.to_string()))?;
        let answer = until_unwanted(respond, connection.send(request)).await?;
        let answer = answer.map_err(|failed| no_head(&failed.error))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, body) = answer.into_parts();
            let body = AnswerBody::new(body, connection, Pool::new());
            return pass_on(head, body, respond).await;
        }
        let mut answer = answer;
        let upgraded = hyper::upgrade::on(&mut answer);
        let (mut head, _) = answer.into_parts();
        hop::strip(&mut head.headers);
        head.status = StatusCode::OK;
        head.version = Version::HTTP_2;
        head.headers.insert(HeaderName::from_static(protocol::UPGRADED), token);
        let mut to_tunnel = respond
            .send_response(Response::from_parts(head, ()), false)
            .map_err(Failure::of_stream)?;
        let carry = async {
            match upgraded.await {
                Ok(upgraded) => match stream::relay(rt::io(upgraded), body, &mut to_tunnel, |_, _| {}).await {
                    Ok(()) => Ok(()),
                    Err(why) => Err(Failure::Midway(format!("an upgraded connection broke: {why}"))),
                },
                Err(why) => Err(Failure::Midway(why.to_string())),
            }
        };
        // The connection's driver ends when it hands the stream over.
        let (result, ()) = smol::future::zip(carry, connection.finish()).await;
        result
    }
}

/// Waits for the service's answer as long as somebody wants it.
async fn until_unwanted<T>(respond: &mut SendResponse<Bytes>, answer: impl Future<Output = T>) -> Result<T, Failure> {
    let mut answer = std::pin::pin!(answer);
    poll_fn(|cx| {
        if let Poll::Ready(value) = answer.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        respond.poll_reset(cx).map(|_| Err(Failure::Unwanted))
    })
    .await
}

fn no_head(error: &hyper::Error) -> Failure {
    let kind = if error.is_parse() {
        NoAnswer::Malformed
    } else {
        NoAnswer::Closed
    };
    let mut text = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        text = format!("{text}: {source}");
    }
    Failure::Service(kind, format!("the service gave no answer: {text}"))
}

/// Passes the service's answer on.
async fn pass_on<B>(mut head: http::response::Parts, body: B, respond: &mut SendResponse<Bytes>) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    hop::strip(&mut head.headers);
    head.headers.remove(protocol::NO_ANSWER);
    head.headers.remove(protocol::UPGRADED);
    head.version = Version::HTTP_2;
    head.extensions.clear();
    let end = body.is_end_stream();
    let mut to_tunnel = respond
        .send_response(Response::from_parts(head, ()), end)
        .map_err(Failure::of_stream)?;
    if end {
        return Ok(());
    }
    match stream::send_body(body, &mut to_tunnel, |_| {}).await {
        Ok(()) => Ok(()),
        Err(Unsent::Source(why)) => Err(Failure::Midway(format!(
            "the service broke off in the middle of an answer: {why}"
        ))),
        Err(Unsent::Stream) => Err(Failure::Unwanted),
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

/// The request as HTTP/1.1 writes it.
fn to_http1(request: Request<RecvStream>) -> Request<Outgoing> {
    let (mut head, body) = request.into_parts();
    head.version = Version::HTTP_11;
    set_host(&mut head);
    head.extensions.clear();
    let length = content_length(&head.headers);
    Request::from_parts(head, Outgoing::Stream(TunnelBody::new(body, length)))
}

/// Moves the authority into Host, where the request has no Host, and leaves the path as the target.
fn set_host(head: &mut http::request::Parts) {
    if !head.headers.contains_key(header::HOST)
        && let Some(authority) = head.uri.authority()
        && let Ok(value) = HeaderValue::from_str(authority.as_str())
    {
        head.headers.insert(header::HOST, value);
    }
    if head.uri.scheme().is_some() {
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

/// The target with scheme and authority, as HTTP/2 wants it.
fn absolute(head: &http::request::Parts) -> Result<Uri, Failure> {
    let authority = match head.headers.get(header::HOST) {
        Some(host) => host.as_bytes(),
        None => head
            .uri
            .authority()
            .map_or(&b"localhost"[..], |authority| authority.as_str().as_bytes()),
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder()
        .scheme("http")
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|why| Failure::Service(NoAnswer::Malformed, format!("the request's Host is none: {why}")))
}

fn content_length(headers: &http::HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.get_mut() {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Stream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Stream(body) => body.size_hint(),
        }
    }
}
