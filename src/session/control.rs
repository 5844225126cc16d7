//! The control socket of a running `up`: HTTP/1.1 and JSON, for `status` and `down` in another terminal.
//!
//! `GET /status` answers a [`Status`]; `POST /down` with `{"services": [..]}` (none: all) answers 202 and begins.

use std::convert::Infallible;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use serde::{Deserialize, Serialize};
use smol::channel::Sender;

use super::records::{Records, Up};
use super::socket;
use crate::error::Result;
use crate::rt;

/// The largest request body, in bytes: some hundred service names.
const MAX_BODY: usize = 64 * 1024;

/// What a running `up` says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    pub(crate) pid: u32,
    pub(crate) user: String,
    /// The ephemwork.toml.
    pub(crate) file: PathBuf,
    /// Where the edge answers, once connected.
    pub(crate) url: Option<String>,
    /// How the bastion is reached, when that is not by a socket of this machine.
    #[serde(default)]
    pub(crate) through: Option<String>,
    /// Its `tunnel.staging_url`.
    #[serde(default)]
    pub(crate) staging_url: Option<String>,
    /// Seconds since the Unix epoch.
    pub(crate) since: u64,
    pub(crate) services: Vec<ServiceStatus>,
    /// Its connections to the bastion.
    #[serde(default)]
    pub(crate) lanes: Vec<LaneStatus>,
}

/// One connection to the bastion, as the laptop sees it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct LaneStatus {
    /// Which of the sessions' lanes it is.
    pub(crate) number: u32,
    /// `connecting`, `up`, `ending` (it is being replaced), `draining` (its bastion stops), `leaving` (it answers what it has).
    pub(crate) state: String,
    /// The transport, in words.
    pub(crate) through: Option<String>,
    /// Connected since, seconds since the Unix epoch.
    pub(crate) since: Option<u64>,
    /// Bytes from the bastion: heads and bodies.
    pub(crate) bytes_in: u64,
    /// Bytes to the bastion.
    pub(crate) bytes_out: u64,
    /// Bytes a second over the last seconds.
    pub(crate) in_per_second: u64,
    pub(crate) out_per_second: u64,
    /// The last round trip that was measured, in microseconds.
    pub(crate) round_trip_us: Option<u64>,
}

/// One of its services.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ServiceStatus {
    pub(crate) tag: String,
    pub(crate) service: String,
    /// `preparing`, `starting`, `connecting`, `ready`, `reconnecting`, `restarting`, `stopping`, `stopped`.
    pub(crate) state: String,
    pub(crate) port: u16,
    /// Of the running command.
    pub(crate) pid: Option<u32>,
    /// Requests since it was last connected.
    pub(crate) requests: u64,
    pub(crate) last_error: Option<String>,
}

/// What the loop is asked.
pub(crate) enum Asked {
    Status(Sender<Status>),
    Down(Vec<String>),
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Down {
    #[serde(default)]
    services: Vec<String>,
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: rt::UnixListener, asked: Sender<Asked>) {
    loop {
        // An error is one connection's (it went away) or a lack of descriptors, which a moment may mend.
        let Ok((stream, _)) = listener.accept().await else {
            rt::sleep(std::time::Duration::from_millis(50)).await;
            continue;
        };
        let asked = asked.clone();
        rt::spawn(async move {
            let service = service_fn(|request| answer(request, &asked));
            // Who hangs up in the middle needs no answer.
            hyper::server::conn::http1::Builder::new()
                .serve_connection(rt::io(stream), service)
                .await
                .ok();
        })
        .detach();
    }
}

async fn answer(request: Request<Incoming>, asked: &Sender<Asked>) -> std::result::Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/status") => {
            let (reply, replied) = smol::channel::bounded(1);
            let sent = asked.send(Asked::Status(reply)).await.is_ok();
            match replied.recv().await {
                Ok(status) if sent => (StatusCode::OK, serde_json::to_string(&status).unwrap_or_default()),
                _ => (StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
            }
        }
        (&Method::POST, "/down") => {
            let body = Limited::new(request.into_body(), MAX_BODY).collect().await;
            match body
                .ok()
                .and_then(|body| serde_json::from_slice::<Down>(&body.to_bytes()).ok())
            {
                Some(down) if asked.send(Asked::Down(down.services.clone())).await.is_ok() => {
                    (StatusCode::ACCEPTED, "{}".to_owned())
                }
                Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "{}".to_owned()),
                None => (
                    StatusCode::BAD_REQUEST,
                    r#"{"what":"the body is not {\"services\": [..]}"}"#.to_owned(),
                ),
            }
        }
        _ => (
            StatusCode::NOT_FOUND,
            r#"{"what":"there are GET /status and POST /down"}"#.to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert("content-type", http::HeaderValue::from_static("application/json"));
    Ok(response)
}

/// Every `up` of this home that answers.
pub(crate) async fn running(records: &Records) -> Result<Vec<(Up, Status)>> {
    let mut found = Vec::new();
    for up in records.ups().await? {
        if let Some(status) = status(&up.socket).await {
            found.push((up, status));
        }
    }
    Ok(found)
}

pub(crate) async fn status(socket: &Path) -> Option<Status> {
    let (_, body) = socket::call(socket, Method::GET, "/status", None).await.ok()?;
    serde_json::from_slice(&body).ok()
}

/// Asks an `up` to end these services; none means all.
pub(crate) async fn down(socket: &Path, services: &[String]) -> std::result::Result<(), String> {
    let body = serde_json::json!({ "services": services });
    match socket::call(socket, Method::POST, "/down", Some(body)).await? {
        (status, _) if status.is_success() => Ok(()),
        (status, body) => Err(format!("it answered {status}: {}", String::from_utf8_lossy(&body))),
    }
}
