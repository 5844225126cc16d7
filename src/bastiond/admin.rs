//! The doors that are not SSH: the control socket, and the metrics page on a loopback port.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;

use crate::bastiond::control::{self, Answer, Caller};
use crate::bastiond::refused::Refused;
use crate::bastiond::state::Daemon;
use crate::bastiond::unaccepted::Unaccepted;
use crate::rt;

/// Connections of one door at once: an admin, a scraper and a few scripts. More wait in the system's queue.
const MAX_CONNECTIONS: usize = 64;

/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// The pause after the system refused to accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listening socket and what is behind it.
pub(crate) enum Door {
    /// The whole control API.
    Control(rt::UnixListener),
    /// `/metrics` and nothing else.
    Metrics(rt::TcpListener),
}

/// Serves a door until it is dropped, and its connections with it.
pub(crate) async fn serve(door: Door, daemon: Arc<Daemon>) {
    let mut connections: Vec<rt::Task<()>> = Vec::new();
    let mut unaccepted = Unaccepted::new(match door {
        Door::Control(_) => "the control socket",
        Door::Metrics(_) => "the metrics port",
    });
    loop {
        connections.retain(|task| !task.is_finished());
        if connections.len() >= MAX_CONNECTIONS {
            rt::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match accept(&door, &daemon).await {
            Ok(task) => {
                unaccepted.succeeded();
                connections.push(task);
            }
            Err(why) => {
                unaccepted.failed(&why);
                rt::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn accept(door: &Door, daemon: &Arc<Daemon>) -> io::Result<rt::Task<()>> {
    let daemon = daemon.clone();
    Ok(match door {
        Door::Control(listener) => {
            let (stream, _) = listener.accept().await?;
            rt::spawn(connection(stream, move |request| {
                let daemon = daemon.clone();
                async move { control::answer(daemon, Caller::Admin, request).await }
            }))
        }
        Door::Metrics(listener) => {
            let (stream, _) = listener.accept().await?;
            rt::spawn(connection(stream, move |request| {
                let daemon = daemon.clone();
                async move { page(&daemon, &request) }
            }))
        }
    })
}

async fn connection<S, F>(stream: S, answer: impl Fn(Request<Incoming>) -> F)
where
    S: rt::AsyncRead + rt::AsyncWrite + Unpin,
    F: Future<Output = Answer>,
{
    let service = service_fn(|request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut http = http1::Builder::new();
    http.timer(rt::HyperTimer).header_read_timeout(HEAD_TIME);
    if let Err(why) = http.serve_connection(rt::io(stream), service).await {
        tracing::debug!(%why, "a connection to the control socket or the metrics port broke");
    }
}

fn page(daemon: &Daemon, request: &Request<Incoming>) -> Answer {
    if request.uri().path() != "/metrics" {
        return control::refusal(
            Refused::new(404, format!("there is nothing at {:?}", request.uri().path())).hint("GET /metrics"),
        );
    }
    if request.method() != http::Method::GET {
        return control::refusal(Refused::new(405, format!("{} /metrics is not a call", request.method())).hint("use GET"));
    }
    control::metrics(daemon)
}
