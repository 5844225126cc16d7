//! A request as it goes on from the edge: rewritten once, and sent again when that can do no harm.

use http::{Request, Version, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::body::{Flight, Outgoing};
use super::door::Counted;
use crate::bastiond::pace::Paced;
use crate::bastiond::route;
use crate::upstream;

/// See the module.
pub(crate) struct Asked {
    head: request::Parts,
    body: Option<Incoming>,
    /// Of whoever asks for an upgrade; taken when it is granted.
    pub(super) client: Option<OnUpgrade>,
    /// As what it is counted; the connection that it may become takes it.
    pub(super) counted: Option<Counted>,
    /// The token of the upgrade that it asks for.
    pub(super) upgrade: Option<String>,
    /// It is an extended CONNECT (RFC 8441).
    pub(super) is_extended: bool,
    pub(super) is_http2: bool,
    /// It is idempotent (RFC 9110, section 9.2.2) and has no body.
    pub(super) is_replayable: bool,
}

impl Asked {
    /// `amend` changes the rewritten head.
    pub(crate) fn of(mut request: Request<Incoming>, amend: impl FnOnce(&mut request::Parts)) -> Asked {
        let extended = request
            .extensions()
            .get::<hyper::ext::Protocol>()
            .map(|protocol| protocol.as_str().to_owned());
        let is_extended = extended.is_some();
        let is_http2 = request.version() == Version::HTTP_2;
        // A WebSocket's extended CONNECT stands for the GET of HTTP/1.1.
        let is_replayable = is_extended || upstream::is_replayable(&request);
        let client = hyper::upgrade::on(&mut request);
        let (mut head, body) = request.into_parts();
        let upgrade = extended.or_else(|| route::upgrade(&head).map(str::to_owned));
        route::rewrite(&mut head);
        amend(&mut head);
        let counted = head.extensions.remove::<Counted>();
        // The version tells h2 that the target may be a path without an authority; Host goes as it is.
        head.version = Version::HTTP_11;
        head.extensions.clear();
        Asked {
            head,
            body: Some(body).filter(|body| upgrade.is_none() && !body.is_end_stream()),
            client: upgrade.is_some().then_some(client),
            counted,
            upgrade,
            is_extended,
            is_http2,
            is_replayable,
        }
    }

    /// The head, for one attempt. What cannot be sent again gives it once.
    pub(super) fn head(&mut self) -> request::Parts {
        if self.is_replayable {
            return self.head.clone();
        }
        let (empty, ()) = Request::new(()).into_parts();
        std::mem::replace(&mut self.head, empty)
    }

    /// The body, once; `None` for a request without one.
    pub(super) fn body(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// The whole of it for one attempt over HTTP/1.1; what goes through a lane is counted there.
    pub(super) fn request(&mut self, flight: Option<&Flight>) -> Request<Outgoing> {
        let body = match (self.body(), flight) {
            (None, _) => Outgoing::Empty,
            (Some(body), None) => Outgoing::Client(body),
            (Some(body), Some(flight)) => {
                let upload = flight.uploads(body.size_hint().exact());
                Outgoing::Counted(Paced::new(body, &flight.lane.pace), upload)
            }
        };
        Request::from_parts(self.head(), body)
    }
}
