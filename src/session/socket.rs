//! Calls an HTTP API on a unix socket of this machine: a running `up`'s, or the local bastion's.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt, Full, Limited};

use crate::rt;

/// How long a call may take: both ends are on this machine.
pub(super) const LIMIT: Duration = Duration::from_secs(5);
/// The largest answer, in bytes: some thousand sessions.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// Status and body of the answer, or why there is none.
pub(crate) async fn call(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<(StatusCode, Bytes), String> {
    let exchange = exchange(socket, method, path, body);
    let answered = rt::timeout(LIMIT, exchange).await;
    answered.unwrap_or_else(|| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Option<serde_json::Value>,
) -> Result<(StatusCode, Bytes), String> {
    let stream = rt::UnixStream::connect(socket).await.map_err(|why| why.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(rt::io(stream))
        .await
        .map_err(|why| why.to_string())?;
    let _driver = rt::spawn(connection);
    let body = body.map(|value| value.to_string()).unwrap_or_default();
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|why| why.to_string())?;
    let answer = sender.send_request(request).await.map_err(|why| why.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), MAX_ANSWER)
        .collect()
        .await
        .map_err(|why| why.to_string())?;
    Ok((status, body.to_bytes()))
}
