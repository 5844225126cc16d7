//! Looks at a service until it answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;

use crate::config::Protocol;
use crate::rt;

/// Between two looks: below what a person notices, and no load.
const AGAIN: Duration = Duration::from_millis(100);
/// How long one look may take. A framework's first request may compile something.
const LOOK: Duration = Duration::from_secs(10);

/// What makes a service healthy.
#[derive(Clone, Debug)]
pub(super) struct Check {
    pub(super) port: u16,
    /// Answers 2xx or 3xx to GET; without it the port only has to accept.
    pub(super) path: Option<String>,
    pub(super) protocol: Protocol,
}

/// Returns once the service is healthy; `unhealthy` hears why it is not yet.
pub(super) async fn wait(check: Check, unhealthy: impl Fn(String)) {
    let mut last = String::new();
    loop {
        match rt::timeout(LOOK, look(&check)).await {
            Some(Ok(())) => return,
            Some(Err(why)) if why == last => {}
            Some(Err(why)) => {
                last.clone_from(&why);
                unhealthy(why);
            }
            None => unhealthy(format!("no answer within {} s", LOOK.as_secs())),
        }
        rt::sleep(AGAIN).await;
    }
}

/// One look, on both loopback addresses: dev servers listen on either.
async fn look(check: &Check) -> Result<(), String> {
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
    Err(refused)
}

async fn ask(stream: rt::TcpStream, check: &Check, path: &str) -> Result<(), String> {
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
        .map_err(|why| format!("health_check_path {path:?} cannot be asked for: {why}"))?;
    let failed = |why: hyper::Error| format!("GET {path} failed: {why}");
    let answer = match check.protocol {
        Protocol::Http1 => {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(rt::io(stream)).await.map_err(failed)?;
            let _driver = rt::spawn(connection);
            sender.send_request(request).await
        }
        Protocol::H2c => {
            let handshake = hyper::client::conn::http2::handshake(rt::HyperExecutor, rt::io(stream));
            let (mut sender, connection) = handshake.await.map_err(failed)?;
            let _driver = rt::spawn(connection);
            sender.send_request(request).await
        }
    };
    let status = answer.map_err(failed)?.status();
    match status.is_success() || status.is_redirection() {
        true => Ok(()),
        false => Err(format!("GET {path} answered {status}")),
    }
}
