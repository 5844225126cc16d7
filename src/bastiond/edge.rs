//! The edge: the bastion's HTTP reverse proxy, the load balancer's target. A request's way, in this order:
//! accept, read the head ([`intake`]), find the tag (`route`), hold or refuse, pick a lane and send it ([`through`]),
//! stream both bodies, count.

pub(crate) mod body;
mod cors;
pub(crate) mod http1;
mod intake;
pub(crate) mod own;
mod through;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn;
use hyper::service::service_fn;

use body::EdgeBody;
use intake::{Intake, Shared, Spoken};
use own::{Format, Own};

use crate::bastiond::route;
use crate::bastiond::staging::Staging;
use crate::bastiond::state::Daemon;
use crate::rt::{self, TcpListener, TcpStream};

/// The health check's path.
const HEALTH: &str = "/ephemwork-health";

/// What of one answer may wait for its client, in bytes, besides the socket's own buffer.
const WRITE_BUFFER: usize = 256 * 1024;

/// Requests at once on one HTTP/2 connection from outside: what ALB uses (128), and room.
const MAX_STREAMS: u32 = 256;

/// How much of one HTTP/2 upload may be on its way to a laptop that does not take it, in bytes. Load balancers are near.
const STREAM_WINDOW: u32 = 256 * 1024;

/// What the system may hold of an answer for a client that does not read it, in bytes. Load balancers are near, so that more of it
/// would move nothing faster; the system's own limit is several MiB a connection.
const SEND_BUFFER: usize = 512 * 1024;

/// The largest head in HTTP/2, in bytes as HPACK counts them.
const MAX_HEAD: u32 = 64 * 1024;

/// The pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What all connections share.
struct Edge {
    daemon: Arc<Daemon>,
    origins: cors::Origins,
    held: through::Held,
    staging: Staging,
}

/// Serves until the daemon drains, and then until every request in flight has its answer.
pub(crate) async fn serve(listener: TcpListener, daemon: Arc<Daemon>) {
    let edge = Arc::new(Edge {
        origins: cors::Origins::default(),
        held: through::Held::default(),
        staging: Staging::new(),
        daemon: Arc::clone(&daemon),
    });
    // Every connection holds a clone; when the last is dropped all have ended.
    let (alive, all_ended) = smol::channel::bounded::<Infallible>(1);
    let accepting = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (edge, alive) = (Arc::clone(&edge), alive.clone());
                    rt::spawn(async move {
                        edge.daemon.metrics.http_connections.fetch_add(1, Ordering::Relaxed);
                        connection(stream, &edge).await;
                        edge.daemon.metrics.http_connections.fetch_sub(1, Ordering::Relaxed);
                        drop(alive);
                    })
                    .detach();
                }
                Err(why) => {
                    tracing::warn!("a connection was not accepted: {why}");
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

/// One client connection from its first byte to its last.
async fn connection(stream: TcpStream, edge: &Arc<Edge>) {
    // Nagle's algorithm costs a small answer 40 ms.
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!("TCP_NODELAY: {why}");
    }
    // Linux doubles what it is told, for its own bookkeeping.
    if let Err(why) = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER / 2) {
        tracing::debug!("SO_SNDBUF: {why}");
    }
    let draining = edge.daemon.drain_begins();
    // A client that has said nothing yet is owed nothing.
    let leaves = async {
        edge.daemon.drain_begins().await;
        Ok(None)
    };
    let (intake, spoken) = match smol::future::or(Intake::begin(stream), leaves).await {
        Ok(Some(begun)) => begun,
        Ok(None) => return,
        Err(why) => {
            tracing::debug!("a client left: {why}");
            return;
        }
    };
    let shared = intake.shared();
    let service = service_fn(|request| {
        let (edge, shared) = (Arc::clone(edge), shared.clone());
        async move { Ok::<_, Infallible>(answer(&edge, &shared, request).await) }
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
async fn answer(edge: &Arc<Edge>, shared: &Shared, request: Request<Incoming>) -> Response<EdgeBody> {
    let began = Instant::now();
    let metrics = &edge.daemon.metrics;
    metrics.in_flight.fetch_add(1, Ordering::Relaxed);
    let format = Format::of(request.headers());
    let answered = match shared.refusal_of(&request) {
        Some(refusal) => Err(Own::refused(&refusal)),
        None => place(edge, shared, request).await,
    };
    let (response, counters) = match answered {
        Ok((response, counters)) => (response, counters),
        Err(own) => (own.response(format), None),
    };
    metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    metrics.answered(counters.as_deref(), response.status().as_u16(), began.elapsed());
    response
}

type Answered = (Response<EdgeBody>, Option<Arc<crate::bastiond::metrics::Counters>>);

/// Finds who answers a request, and lets it.
async fn place(edge: &Arc<Edge>, shared: &Shared, request: Request<Incoming>) -> Result<Answered, Own> {
    if request.uri().path() == HEALTH && matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok((own::health(edge.daemon.draining()), None));
    }
    let headers = request.headers();
    let tag = match route::tag(headers).map_err(|bad| Own::bad_header(&bad))? {
        Some(tag) => {
            if headers.contains_key(http::header::ORIGIN) {
                edge.origins.learn(headers, &tag, Instant::now());
            }
            Some(tag)
        }
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
        Some(tag) => through::answer(edge, shared, &tag, request).await,
        None => match edge.daemon.staging_url() {
            Some(url) => Ok((edge.staging.answer(&url, request).await?, None)),
            None => Err(Own::untagged()),
        },
    }
}
