//! The edge: the bastion's HTTP reverse proxy, the load balancer's target. A request's way, in this order:
//! accept, read the head ([`intake`]), find the tag (`route`), hold or refuse, pick a lane and send it ([`through`]),
//! stream both bodies, count.

pub(crate) mod asked;
pub(crate) mod body;
mod cors;
mod door;
mod exchange;
mod hold;
pub(crate) mod http1;
mod intake;
pub(crate) mod own;
mod shared;
mod through;
mod websocket;

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use hyper::server::conn;
use hyper::service::service_fn;
use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use body::EdgeBody;
use door::{Door, Entered};
use exchange::Exchange;
use intake::{Intake, Spoken};
use own::{Format, Own};
use shared::Shared;

use crate::bastiond::guard;
use crate::bastiond::route;
use crate::bastiond::staging::Staging;
use crate::bastiond::state::Daemon;
use crate::bastiond::unaccepted::Unaccepted;
use crate::rt::{self, TcpListener, TcpStream};

/// The health check's path.
const HEALTH: &str = "/ephemwork-health";

/// What of one answer may wait for its client, in bytes, besides the socket's own buffer. It is the parser's limit for heads, too, and the
/// guard's largest, with every byte of its target encoded, has little more than twice 64 KiB.
const WRITE_BUFFER: usize = 160 * 1024;

/// Requests at once on one HTTP/2 connection from outside: what ALB uses (128), and room.
const MAX_STREAMS: u32 = 256;

/// How much of one HTTP/2 upload may be on its way to a laptop that does not take it, in bytes. Load balancers are near.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What the system may hold of an answer for a client that does not read it, in bytes. Load balancers are near, so that more of it
/// would move nothing faster; the system's own limit is several MiB a connection.
const SEND_BUFFER: usize = 512 * 1024;

/// The largest head in HTTP/2 that is read at all, in bytes as HPACK counts them. Larger ones than `guard::MAX_HEAD` are refused with a
/// reason; what is larger than this gets the library's bare 431, or ends the connection.
const MAX_HEAD: u32 = 256 * 1024;

/// Requests that may be given up before they were looked at, all streams of one load balancer's connection: the library's own
/// limit, 20, is made for a single client, and ends the connection of all.
const MAX_ABANDONED: usize = MAX_STREAMS as usize;

/// Frames for streams that are over, in the whole life of a connection, before it is ended: h2 answers each with a reset, which waits until
/// the client reads. Of an upload that its service answered early up to 16 are on their way, or more when they are small, and a load
/// balancer's connection lives for days; the library's own limit, 1024, is reached by 64 uploads. A client that reads none of
/// so many resets costs less than 32 MiB (`floods` in tests/it).
const MAX_STRAY_FRAMES: usize = 64 * 1024;

/// The pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may be silent before the system asks whether it is still there, how often it asks, and how many times. A load
/// balancer's node that vanished would otherwise hold its idle streams and WebSockets, and their services', for ever.
const KEEP_ALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// How long a connection that is one too many has to ask and to be told so.
const TELL_LIMIT: Duration = Duration::from_secs(2);

/// What all connections share.
struct Edge {
    daemon: Arc<Daemon>,
    door: Arc<Door>,
    origins: cors::Origins,
    held: hold::Held,
    staging: Staging,
}

/// Serves until the daemon drains, and then until every request in flight has its answer.
pub(crate) async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    let files = files();
    let edge = Arc::new(Edge {
        door: Arc::new(Door::new(&daemon, files)),
        origins: cors::Origins::default(),
        held: hold::Held::default(),
        staging: Staging::new(),
        daemon: Arc::clone(&daemon),
    });
    // Every connection holds a clone; when the last is dropped all have ended.
    let (alive, all_ended) = smol::channel::bounded::<Infallible>(1);
    let accepting = async {
        let mut unaccepted = Unaccepted::new("the edge");
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    unaccepted.succeeded();
                    let Some(entered) = edge.door.connect(address.ip()) else {
                        continue;
                    };
                    let (edge, alive) = (Arc::clone(&edge), alive.clone());
                    rt::spawn(async move {
                        edge.daemon.metrics.http_connections.fetch_add(1, Ordering::Relaxed);
                        if entered.is_refused() {
                            rt::timeout(TELL_LIMIT, connection(stream, entered, &edge)).await;
                        } else {
                            connection(stream, entered, &edge).await;
                        }
                        edge.daemon.metrics.http_connections.fetch_sub(1, Ordering::Relaxed);
                        drop(alive);
                    })
                    .detach();
                }
                Err(why) => {
                    unaccepted.failed(&why);
                    rt::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    smol::future::or(accepting, daemon.drain_begins()).await;
    drop(listener);
    drop(alive);
    // Nothing is ever sent: it ends when no sender is left.
    while all_ended.recv().await.is_ok() {}
}

/// How many descriptors the process may open: as many as the system lets it ask for.
fn files() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    let raised = current != maximum && setrlimit(Resource::Nofile, all).is_ok();
    let files = if raised { maximum } else { current };
    files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// One client connection from its first byte to its last.
async fn connection(stream: TcpStream, entered: Entered, edge: &Arc<Edge>) {
    if let Err(why) = set_options(&stream) {
        tracing::debug!("a socket's options: {why}");
    }
    let draining = edge.daemon.drain_begins();
    // A client that has said nothing yet is owed nothing.
    let leaves = async {
        edge.daemon.drain_begins().await;
        Ok(None)
    };
    let shared = Shared::new(entered);
    let begin = Intake::begin(stream, edge.daemon.settings.slow_body, shared.clone());
    let (intake, spoken) = match smol::future::or(begin, leaves).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return,
        Err(why) => {
            tracing::debug!("a client left: {why}");
            return;
        }
    };
    let service = service_fn(|request| {
        let (edge, shared) = (Arc::clone(edge), shared.clone());
        // Now, not when the answer is first looked at: the parser may read on before.
        let exchange = Exchange::begin(&edge.daemon, &shared);
        async move { Ok::<_, Infallible>(answer(&edge, &shared, request, exchange).await) }
    });
    let result = match spoken {
        Spoken::Http1 => {
            let mut serving = conn::http1::Builder::new();
            serving.max_buf_size(WRITE_BUFFER);
            let mut serving = std::pin::pin!(serving.serve_connection(rt::io(intake), service).with_upgrades());
            until_drained(serving.as_mut(), draining, |serving| serving.graceful_shutdown()).await
        }
        Spoken::Http2 => {
            let mut serving = conn::http2::Builder::new(rt::HyperExecutor);
            serving
                .timer(rt::HyperTimer)
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(STREAM_WINDOW * (MAX_STREAMS + 6))
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD)
                .max_pending_accept_reset_streams(MAX_ABANDONED)
                .max_local_error_reset_streams(MAX_STRAY_FRAMES)
                .max_send_buf_size(WRITE_BUFFER)
                .enable_connect_protocol();
            let mut serving = std::pin::pin!(serving.serve_connection(rt::io(intake), service));
            until_drained(serving.as_mut(), draining, |serving| serving.graceful_shutdown()).await
        }
    };
    if let Err(why) = result {
        tracing::debug!("a client's connection ended: {why}");
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    // Nagle's algorithm costs a small answer 40 ms.
    stream.set_nodelay(true)?;
    // Linux doubles what it is told, for its own bookkeeping.
    sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER / 2)?;
    let (idle, interval, count) = KEEP_ALIVE;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, count)?;
    Ok(())
}

/// Serves a connection to its end; once the daemon drains, only what was begun.
async fn until_drained<C: Future>(
    mut serving: Pin<&mut C>,
    draining: impl Future<Output = ()>,
    end: fn(Pin<&mut C>),
) -> C::Output {
    let drained = async {
        draining.await;
        None
    };
    match smol::future::or(async { Some(serving.as_mut().await) }, drained).await {
        Some(result) => result,
        None => {
            end(serving.as_mut());
            serving.await
        }
    }
}

/// One request's answer, counted.
async fn answer(edge: &Arc<Edge>, shared: &Shared, request: Request<Incoming>, exchange: Exchange) -> Response<EdgeBody> {
    let mut format = Format::of(request.headers());
    // What follows a request for an upgrade was not looked at.
    let unseen = *request.method() == Method::GET && request.headers().contains_key(header::UPGRADE);
    let answered = match shared.refusal_of(&request) {
        Some((refusal, wanted)) => {
            format = wanted;
            Err(Own::refused(&refusal))
        }
        None => place(edge, shared, request).await,
    };
    let (mut response, counters) = match answered {
        Ok((response, counters)) => (response, counters),
        Err(own) => match shared.refusal_of_body() {
            Some(refusal) => (Own::refused(&refusal).response(format), None),
            None => (own.response(format), None),
        },
    };
    if unseen && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response
            .headers_mut()
            .insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    exchange.answered(counters.as_deref(), response.status().as_u16());
    response.body_mut().ends(exchange);
    response
}

type Answered = (Response<EdgeBody>, Option<Arc<crate::bastiond::metrics::Counters>>);

/// Finds who answers a request, and lets it.
async fn place(edge: &Arc<Edge>, shared: &Shared, mut request: Request<Incoming>) -> Result<Answered, Own> {
    if request.version() == Version::HTTP_2 {
        let extended = request.extensions().get::<hyper::ext::Protocol>().is_some();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        guard::http2::head(&method, &uri, request.headers_mut(), extended).map_err(|why| Own::refused(&why))?;
    }
    if request.uri().path() == HEALTH && matches!(*request.method(), Method::GET | Method::HEAD) {
        let format = Format::of(request.headers());
        return Ok((own::health(edge.daemon.draining(), format), None));
    }
    let counted = shared.entered().request(request.headers())?;
    if may_upgrade(&request) {
        request.extensions_mut().insert(counted.clone());
    }
    let mut answered = placed(edge, shared, request).await?;
    answered.0.body_mut().counts(counted);
    Ok(answered)
}

/// Whether a request's connection may go on as something else.
fn may_upgrade(request: &Request<Incoming>) -> bool {
    request.headers().contains_key(header::UPGRADE) || request.extensions().get::<hyper::ext::Protocol>().is_some()
}

/// The same of a request that is let in.
async fn placed(edge: &Arc<Edge>, shared: &Shared, request: Request<Incoming>) -> Result<Answered, Own> {
    let headers = request.headers();
    let tag = match route::tag(headers).map_err(|bad| Own::bad_header(&bad))? {
        Some(tag) => Some(tag),
        None if route::is_preflight(request.method(), headers) => {
            match edge
                .daemon
                .only_session()
                .or_else(|| edge.origins.only(headers, Instant::now()))
            {
                Some(tag) => Some(tag),
                None => {
                    let trusted = edge.daemon.tunables();
                    return Ok((cors::answer(headers, &trusted.cors_origins, edge.daemon.settings.local), None));
                }
            }
        }
        None => None,
    };
    match tag {
        Some(tag) => {
            shared.entered().tag(request.headers(), &tag)?;
            through::answer(edge, shared, &tag, request).await
        }
        None => match edge.daemon.staging_url() {
            Some(url) => Ok((edge.staging.answer(&url, request).await?, None)),
            None => Err(Own::untagged()),
        },
    }
}
