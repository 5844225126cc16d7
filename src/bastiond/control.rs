//! The control API.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};

use crate::bastiond::lane::Lane;
use crate::bastiond::state::Daemon;

/// Who calls.
pub(crate) enum Caller {
    /// A laptop, over its SSH connection.
    Lane(Arc<Lane>),
    /// Whoever may open the unix socket.
    Admin,
}

/// Answers one request.
pub(crate) async fn answer(
    _daemon: Arc<Daemon>,
    _caller: Caller,
    _request: http::Request<hyper::body::Incoming>,
) -> http::Response<BoxBody<Bytes, Infallible>> {
    http::Response::new(Full::new(Bytes::new()).boxed())
}
