//! One request to one service, and its answer: over HTTP/1.1, over HTTP/2 with prior knowledge, or as an upgrade.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::client::conn::http2;

use super::super::load::{Load, Watched};
use super::Target;
use crate::hop;
use crate::protocol::{self, NoAnswer};
use crate::rt::{self, TcpStream};
use crate::tunnel::gate::Gate;
use crate::tunnel::stream::{self, TunnelBody, Unsent};
use crate::tunnel::window;
use crate::upstream::{self, AnswerBody, Connection, Pool, Unanswered};

/// How long a service on this machine may take to accept a connection; its backlog is full when it does not.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// What is read of a service's answer at once at most, and what of a request may wait for it, in bytes: full frames of the tunnel. Each read lets
/// the service go on, and with fewer of them a bulk transfer needs less of the processor. A download that stops in full flow holds two of these.
const BUFFER: usize = 14 * stream::FRAME as usize;
const _: () = assert!(BUFFER > upstream::BUFFER);

/// The body of a request on its way to the service.
pub(super) enum Outgoing {
    Empty,
    Stream(TunnelBody, Watched),
}

/// Why a request was not answered to its end.
pub(super) enum Failure {
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
                Err(why) if is_ours(&why) => return Err(Failure::Service(NoAnswer::Unknown, self.no_room(&why))),
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

    fn no_room(&self, why: &io::Error) -> String {
        format!(
            "ephemwork on the laptop cannot open one more connection to port {}: {why}; it is not the service's fault, \
             end other programs there or allow more files: ulimit -n",
            self.upstream.port
        )
    }

    async fn connection(&self) -> Result<Connection<Outgoing>, Failure> {
        let stream = self.connect().await?;
        Connection::new(rt::io(stream), BUFFER)
            .await
            .map_err(|why| Failure::Service(NoAnswer::Closed, why.to_string()))
    }

    pub(super) async fn http1(
        &self,
        request: Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
        gate: &Gate,
    ) -> Result<(), Failure> {
        let request = self.to_http1(request);
        let spare = upstream::spare(&request, || Outgoing::Empty);
        let exchange = self.pool.exchange(request, spare, || self.connection());
        let (head, body) = match until_unwanted(respond, exchange).await? {
            Ok(answer) => answer.into_parts(),
            Err(Unanswered::Connect(failure)) => return Err(failure),
            Err(Unanswered::Answer(error)) => return Err(no_head(&error)),
        };
        pass_on(head, body, respond, (&self.load, gate)).await
    }

    pub(super) async fn h2c(
        &self,
        request: Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
        gate: &Gate,
    ) -> Result<(), Failure> {
        let (mut head, body) = request.into_parts();
        let length = content_length(&head.headers);
        head.uri = absolute(&head)?;
        head.version = Version::HTTP_2;
        head.headers.remove(header::HOST);
        let request = Request::from_parts(head, self.outgoing(body, length));
        let mut sender = self.h2c_sender().await?;
        let answer = until_unwanted(respond, sender.send_request(request)).await?;
        let (head, body) = answer.map_err(|error| no_head(&error))?.into_parts();
        pass_on(head, body, respond, (&self.load, gate)).await
    }

    /// The request as HTTP/1.1 writes it.
    fn to_http1(&self, request: Request<RecvStream>) -> Request<Outgoing> {
        let (mut head, body) = request.into_parts();
        head.version = Version::HTTP_11;
        set_host(&mut head);
        head.extensions.clear();
        let length = content_length(&head.headers);
        Request::from_parts(head, self.outgoing(body, length))
    }

    fn outgoing(&self, body: RecvStream, length: Option<u64>) -> Outgoing {
        let watched = Watched::new(&self.load, if body.is_end_stream() { Some(0) } else { length });
        Outgoing::Stream(TunnelBody::new(body, length), watched)
    }

    async fn h2c_sender(&self) -> Result<http2::SendRequest<Outgoing>, Failure> {
        if let Some(sender) = self.h2c.lock().unwrap_or_else(PoisonError::into_inner).clone()
            && !sender.is_closed()
        {
            return Ok(sender);
        }
        let socket = self.connect().await?;
        // hyper's own limit on heads, 16 KiB, ends the connection, and with it every other request on it, at four times as much.
        let handshake = http2::Builder::new(rt::HyperExecutor)
            .initial_stream_window_size(window::MANY)
            .initial_connection_window_size(window::CONNECTION)
            .max_header_list_size(stream::MAX_HEAD)
            // What comes of answers that nobody wants any more; 1024 such frames in its whole life would end the connection, too.
            .max_local_error_reset_streams(None)
            .handshake(rt::io(socket));
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
    pub(super) async fn upgrade(
        &self,
        request: Request<RecvStream>,
        respond: &mut SendResponse<Bytes>,
        gate: &Gate,
    ) -> Result<(), Failure> {
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
        let mut connection = Connection::new(rt::io(self.connect().await?), BUFFER)
            .await
            .map_err(|why| Failure::Service(NoAnswer::Closed, why.to_string()))?;
        let answer = until_unwanted(respond, connection.send(request)).await?;
        let answer = answer.map_err(|failed| no_head(&failed.error))?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (head, body) = answer.into_parts();
            let body = AnswerBody::new(body, connection, Pool::new());
            return pass_on(head, body, respond, (&self.load, gate)).await;
        }
        let mut answer = answer;
        let upgraded = hyper::upgrade::on(&mut answer);
        let (mut head, _) = answer.into_parts();
        hop::strip(&mut head.headers);
        head.status = StatusCode::OK;
        head.version = Version::HTTP_2;
        head.headers.insert(HeaderName::from_static(protocol::UPGRADED), token);
        fits(&head.headers)?;
        let mut to_tunnel = respond
            .send_response(Response::from_parts(head, ()), false)
            .map_err(Failure::of_stream)?;
        let carry = async {
            match upgraded.await {
                Ok(upgraded) => match stream::relay(rt::io(upgraded), body, &mut to_tunnel, gate, |_, _| {}).await {
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

/// Whether the laptop, and not the service, is why there is no connection: a limit on open files, of the process or of the system.
fn is_ours(why: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(why), Some(Errno::MFILE | Errno::NFILE))
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
    let source = std::error::Error::source(error);
    let mut text = error.to_string();
    if let Some(source) = source {
        text = format!("{text}: {source}");
    }
    // h2 found what came to be wrong, and has one word for all that can be.
    let wrong = source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(|why| why.is_library());
    if wrong {
        let limit = stream::MAX_HEAD / 1024;
        let why = format!("the service's answer is not right HTTP/2, or has a head of more than {limit} KiB: {text}");
        return Failure::Service(NoAnswer::Malformed, why);
    }
    let kind = if error.is_parse() {
        NoAnswer::Malformed
    } else {
        NoAnswer::Closed
    };
    Failure::Service(kind, format!("the service gave no answer: {text}"))
}

/// Refuses a head that the tunnel does not take: the bastion could say no more than that its stream broke.
fn fits(headers: &HeaderMap) -> Result<(), Failure> {
    // Beside the fields there is the status (RFC 9113, section 6.5.2: 32 bytes, its name and its value), and below the limit it must be.
    const STATUS: usize = 32 + 7 + 3;
    let fields = headers.iter().map(|(name, value)| 32 + name.as_str().len() + value.len());
    if fields.sum::<usize>() + STATUS < stream::MAX_HEAD as usize {
        return Ok(());
    }
    let what = format!(
        "the head of the service's answer is larger than is passed on, {} KiB",
        stream::MAX_HEAD / 1024
    );
    Err(Failure::Service(NoAnswer::Malformed, what))
}

/// Passes the service's answer on.
async fn pass_on<B>(
    mut head: http::response::Parts,
    body: B,
    respond: &mut SendResponse<Bytes>,
    (load, gate): (&Arc<Load>, &Gate),
) -> Result<(), Failure>
where
    B: Body<Data = Bytes, Error = hyper::Error> + Unpin,
{
    hop::strip_answer(&mut head);
    head.headers.remove(protocol::NO_ANSWER);
    head.headers.remove(protocol::UPGRADED);
    fits(&head.headers)?;
    head.version = Version::HTTP_2;
    head.extensions.clear();
    let end = body.is_end_stream();
    let mut to_tunnel = respond
        .send_response(Response::from_parts(head, ()), end)
        .map_err(Failure::of_stream)?;
    if end {
        return Ok(());
    }
    let mut watched = Watched::new(load, body.size_hint().exact());
    match stream::send_body(body, &mut to_tunnel, gate, reset, |count| watched.moved(count)).await {
        Ok(()) => Ok(()),
        Err(Unsent::Source(why)) if upstream::has_too_many_trailers(&why) => Err(Failure::Midway(format!(
            "an answer was cut off: {}",
            upstream::TOO_MANY_TRAILERS
        ))),
        Err(Unsent::Source(why)) => Err(Failure::Midway(format!(
            "the service broke off in the middle of an answer: {why}"
        ))),
        Err(Unsent::Stream) => Err(Failure::Unwanted),
    }
}

/// Tells the bastion why an answer is cut off.
fn reset(error: &hyper::Error) -> Reason {
    match upstream::has_too_many_trailers(error) {
        true => stream::TRAILERS_TOO_LARGE,
        false => Reason::INTERNAL_ERROR,
    }
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

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.get_mut() {
            Outgoing::Empty => Poll::Ready(None),
            Outgoing::Stream(body, watched) => {
                let polled = Pin::new(body).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &polled
                    && let Some(data) = frame.data_ref()
                {
                    watched.moved(data.len() as u64);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Empty => true,
            Outgoing::Stream(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Empty => SizeHint::with_exact(0),
            Outgoing::Stream(body, _) => body.size_hint(),
        }
    }
}
