//! Pooled HTTP/1.1 connections to one origin: the laptop's service, the staging environment, or a service behind a
//! forwarded-tcpip channel of a stock OpenSSH client.
//!
//! A connection is driven by whoever uses it, inside that task: no task of its own, no wake-ups between tasks. While it
//! is idle nobody reads from it; that it was closed meanwhile is found by one poll before it is used again.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;

/// Idle connections kept for one origin. A browser opens six a host; a few of them at once is what a developer has.
const MAX_IDLE: usize = 64;

/// How long an idle connection is worth reusing. Under uvicorn's and Node's keep-alive of 5 s, so that a request is not
/// sent in the moment in which the service closes.
const MAX_IDLE_AGE: Duration = Duration::from_secs(4);

type Driver = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// One HTTP/1.1 connection and what drives it.
pub(crate) struct Connection<B> {
    sender: http1::SendRequest<B>,
    driver: Driver,
    ended: bool,
}

/// Idle connections to one origin.
pub(crate) struct Pool<B> {
    idle: Mutex<Vec<(Instant, Connection<B>)>>,
}

/// Why a request has no answer.
#[derive(Debug)]
pub(crate) struct NoAnswer {
    /// hyper's reason.
    pub(crate) error: hyper::Error,
    /// Nothing of an answer had arrived, so an idempotent request may be sent again.
    pub(crate) unanswered: bool,
}

/// What of one request may wait for its service, in bytes, and what is read of an answer at once. An answer's head must fit, so it is no less
/// than the tunnel's limit.
pub(crate) const BUFFER: usize = 192 * 1024;

/// What is said of an answer that is cut off because of its trailers; the limits are hyper's.
pub(crate) const TOO_MANY_TRAILERS: &str = "the service sent more or larger trailers than are passed on (100 fields, 16 KiB)";

/// Whether that is why an answer could not be read to its end. hyper has no other sign of it than its words.
pub(crate) fn has_too_many_trailers(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|why| why.kind() == io::ErrorKind::InvalidData && why.to_string().contains("trailer"))
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Takes a connected stream. `buffer` is [`BUFFER`], or more for a bulk transfer's sake.
    pub(crate) async fn new<S>(stream: S, buffer: usize) -> hyper::Result<Connection<B>>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::Builder::new().max_buf_size(buffer).handshake(stream).await?;
        Ok(Connection {
            sender,
            driver: Box::pin(driver.with_upgrades()),
            ended: false,
        })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if !self.ended && self.driver.as_mut().poll(cx).is_ready() {
            self.ended = true;
        }
    }

    /// Whether it is still open and between two messages, as far as can be seen without waiting.
    fn usable(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.drive(&mut cx);
        !self.ended && self.sender.is_ready()
    }

    /// Sends a request and waits for the answer's head.
    pub(crate) async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, NoAnswer> {
        let mut answer = std::pin::pin!(self.sender.send_request(request));
        let driver = &mut self.driver;
        let ended = &mut self.ended;
        let result = poll_fn(|cx| {
            if !*ended && driver.as_mut().poll(cx).is_ready() {
                *ended = true;
            }
            answer.as_mut().poll(cx)
        })
        .await;
        result.map_err(|error| NoAnswer {
            unanswered: error.is_canceled() || error.is_closed() || error.is_incomplete_message(),
            error,
        })
    }

    /// Goes on driving the connection until it ends; for an upgraded connection, whose bytes go through hyper's `Upgraded`.
    pub(crate) async fn finish(mut self) {
        poll_fn(|cx| {
            self.drive(cx);
            if self.ended { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new() -> Arc<Pool<B>> {
        Arc::new(Pool {
            idle: Mutex::new(Vec::new()),
        })
    }

    /// The most recently used connection that is still usable.
    pub(crate) fn take(&self) -> Option<Connection<B>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((since, mut connection)) = idle.pop() {
            if since.elapsed() > MAX_IDLE_AGE {
                // What lies below it is older still.
                idle.clear();
                return None;
            }
            if connection.usable() {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection for the next request, if there is room and it is between two messages.
    fn put(&self, mut connection: Connection<B>) {
        if !connection.usable() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() >= MAX_IDLE {
            idle.remove(0);
        }
        idle.push((Instant::now(), connection));
    }

    /// Closes what has been idle for too long; called now and then.
    pub(crate) fn sweep(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|(since, connection)| since.elapsed() <= MAX_IDLE_AGE && connection.usable());
    }
}

/// Why [`Pool::exchange`] has no answer.
#[derive(Debug)]
pub(crate) enum Unanswered<E> {
    /// No connection could be made.
    Connect(E),
    /// The connection gave no answer.
    Answer(hyper::Error),
}

impl<B> Pool<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// One request and its answer's head, on an idle connection or on a new one. `spare` is the same request once more, for the
    /// moment in which the origin closes an idle connection that is about to be used; only an idempotent request without a body has one.
    pub(crate) async fn exchange<C, E>(
        self: &Arc<Self>,
        mut request: Request<B>,
        spare: Option<Request<B>>,
        connect: impl Fn() -> C,
    ) -> Result<Response<AnswerBody<B>>, Unanswered<E>>
    where
        C: Future<Output = Result<Connection<B>, E>>,
    {
        let pool = if is_surely_read(&request) {
            Arc::clone(self)
        } else {
            request
                .headers_mut()
                .insert(header::CONNECTION, HeaderValue::from_static("close"));
            Pool::new()
        };
        let (mut connection, reused) = match self.take() {
            Some(connection) => (connection, true),
            None => (connect().await.map_err(Unanswered::Connect)?, false),
        };
        let mut result = connection.send(request).await;
        if let (Err(failed), true, Some(spare)) = (&result, reused, spare)
            && failed.unanswered
        {
            connection = connect().await.map_err(Unanswered::Connect)?;
            result = connection.send(spare).await;
        }
        let answer = result.map_err(|failed| Unanswered::Answer(failed.error))?;
        Ok(answer.map(|body| AnswerBody::new(body, connection, pool)))
    }
}

/// Whether a server that speaks HTTP/1.1 as simply as some do has read all of this request when it has answered. Python's http.server
/// knows no chunks, and reads no body of a GET: it takes what is left for the next request, and the answer to that would be given to
/// whoever uses the connection next. A body with a length where one is expected everybody reads, or no browser would get along with them.
fn is_surely_read<B: Body>(request: &Request<B>) -> bool {
    let expected = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    request.body().is_end_stream()
        || request.body().size_hint().exact() == Some(0)
        || (expected && request.headers().contains_key(header::CONTENT_LENGTH))
}

/// Whether a request may be sent twice: an idempotent method (RFC 9110, section 9.2.2) and no body.
pub(crate) fn is_replayable<B: Body>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_end_stream()
}

/// The same request once more, if it may be sent twice.
pub(crate) fn spare<B: Body>(request: &Request<B>, empty: impl FnOnce() -> B) -> Option<Request<B>> {
    is_replayable(request).then(|| {
        let mut copy = Request::new(empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

/// An answer's body. It drives its connection while it is read, and gives it back to the pool at its end.
pub(crate) struct AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    body: Incoming,
    connection: Option<Connection<B>>,
    pool: Arc<Pool<B>>,
}

impl<B> AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(crate) fn new(body: Incoming, connection: Connection<B>, pool: Arc<Pool<B>>) -> AnswerBody<B> {
        let mut this = AnswerBody {
            body,
            connection: Some(connection),
            pool,
        };
        if this.body.is_end_stream() {
            this.give_back();
        }
        this
    }

    fn give_back(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.put(connection);
        }
    }
}

impl<B> Body for AnswerBody<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if let Some(connection) = &mut this.connection {
            connection.drive(cx);
        }
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // A reader that knows the length asks no more when it has it all, and so never sees the end itself.
        if matches!(&polled, Poll::Ready(None)) || this.body.is_end_stream() {
            this.give_back();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
