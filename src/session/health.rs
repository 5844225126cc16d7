//! Looks at a service until it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;

use super::happened::Teller;
use super::machine::{Event, Index};
use crate::config::Protocol;
use crate::rt;

/// Between two looks: below what a person notices, and no load.
const AGAIN: Duration = Duration::from_millis(100);
/// Between two looks at a service that answers, but not yet well: twice as long each time up to this. Most write a line for each request.
const AGAIN_MOST: Duration = Duration::from_secs(1);
/// How long one look may take. A framework's first request may compile something.
const LOOK: Duration = Duration::from_secs(10);

/// How much of an answer is read, in bytes: a page with the state of some hundred parts.
const MAX_BODY: usize = 256 * 1024;
/// How long it is read. Whoever checks with an endless stream is ready all the same.
const BODY: Duration = Duration::from_secs(1);

/// What makes a service healthy.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) port: u16,
    /// Answers 2xx or 3xx to GET; without it the port only has to accept.
    pub(super) path: Option<String>,
    pub(super) protocol: Protocol,
}

/// Looks until the service is healthy. The loop hears why it is not yet, and then that it is.
pub(super) async fn wait(check: Check, index: Index, teller: Teller) {
    let mut last = String::new();
    let mut again = AGAIN;
    loop {
        let unhealthy = rt::timeout(LOOK, look(&check)).await;
        let unhealthy = unhealthy.unwrap_or_else(|| Err(Unhealthy::Silent(format!("no answer within {} s", LOOK.as_secs()))));
        let why = match unhealthy {
            Ok(()) => return teller.tell(Event::Healthy(index)).await,
            Err(Unhealthy::Answers(why)) => {
                again = (again * 2).min(AGAIN_MOST);
                why
            }
            Err(Unhealthy::Silent(why)) => {
                again = AGAIN;
                why
            }
        };
        if why != last {
            last.clone_from(&why);
            teller.tell(Event::Unhealthy(index, why)).await;
        }
        rt::sleep(again).await;
    }
}

/// Why a service is not healthy yet.
enum Unhealthy {
    /// It gave another answer.
    Answers(String),
    /// It gave none.
    Silent(String),
}

/// One look, on both loopback addresses: dev servers listen on either.
async fn look(check: &Check) -> Result<(), Unhealthy> {
    let mut refused = String::new();
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        match rt::TcpStream::connect(SocketAddr::new(address, check.port)).await {
            Ok(stream) => {
                return match &check.path {
                    Some(path) => ask(stream, check, path).await,
                    None => Ok(()),
                };
            }
            Err(why) if refused.is_empty() => refused = format!("port {} does not accept: {why}", check.port),
            // The first address's reason is the one that people expect; ::1 may not exist at all.
            Err(_) => {}
        }
    }
    Err(Unhealthy::Silent(refused))
}

/// Reads the answer to its end, so that the service does not find its connection broken while it writes; but not a stream without one.
async fn read(body: Incoming) {
    let whole = Limited::new(body, MAX_BODY).collect();
    // The status alone says whether it is healthy.
    rt::timeout(BODY, whole).await.map(Result::ok);
}

async fn ask(stream: rt::TcpStream, check: &Check, path: &str) -> Result<(), Unhealthy> {
    let authority = format!("localhost:{}", check.port);
    let target = match check.protocol {
        Protocol::Http1 => path.to_owned(),
        Protocol::H2c => format!("http://{authority}{path}"),
    };
    let request = http::Request::get(target)
        .header("host", &authority)
        .header(
            "user-agent",
            concat!("ephemwork/", env!("CARGO_PKG_VERSION"), " health check"),
        )
        .body(Empty::<Bytes>::new())
        .map_err(|why| Unhealthy::Answers(format!("health_check_path {path:?} cannot be asked for: {why}")))?;
    let failed = |why: hyper::Error| Unhealthy::Silent(format!("GET {path} failed: {why}"));
    let (answer, _driver) = match check.protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(rt::io(stream)).await.map_err(failed)?;
            let driver = rt::spawn(connection);
            let answer = sender.send_request(request).await.map_err(failed)?;
            (answer, rt::spawn(async move { drop(driver.await) }))
        }
        Protocol::H2c => {
            let handshake = hyper::client::conn::http2::handshake(rt::HyperExecutor, rt::io(stream));
            let (mut sender, connection) = handshake.await.map_err(failed)?;
            let driver = rt::spawn(connection);
            let answer = sender.send_request(request).await.map_err(failed)?;
            (answer, rt::spawn(async move { drop(driver.await) }))
        }
    };
    let status = answer.status();
    read(answer.into_body()).await;
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(Unhealthy::Answers(format!("GET {path} answered {status}"))),
    }
}
