//! A tagged request through a lane to its laptop, and the answer back.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::body::{EdgeBody, Flight, Outgoing};
use super::own::{Own, SERVED_BY};
use super::shared::Shared;
use super::{Answered, Edge, websocket};
use crate::bastiond::lane::{Carrier, Lane};
use crate::bastiond::metrics::Counters;
use crate::bastiond::pace::{Paced, PacedIo};
use crate::bastiond::route;
use crate::bastiond::ssh::{Forwards, Requests};
use crate::bastiond::state::{Daemon, Route};
use crate::name::{self, Tag};
use crate::protocol::{self, NoAnswer};
use crate::rt;
use crate::tunnel::stream::{self, Direction, TunnelBody, Unsent};
use crate::upstream::{self, Pool, Unanswered};

/// Requests that may wait for one laptop to come back; a browser's page and its retries, not a load test.
const MAX_HELD: usize = 128;

/// Requests that may wait in all when one more waits whose tag nobody has claimed yet.
const MAX_UNCLAIMED: usize = 4 * MAX_HELD;

/// The longest sentence that a laptop may send instead of an answer, in bytes.
const MAX_SENTENCE: usize = 4 * 1024;

/// How many requests wait, by tag.
#[derive(Default)]
pub(crate) struct Held(Mutex<HashMap<Tag, usize>>);

/// One waiting request.
struct Place<'a> {
    held: &'a Held,
    tag: &'a Tag,
}

impl Held {
    /// Whoever sends made-up tags takes no more than this from the others.
    fn enter_unclaimed<'a>(&'a self, tag: &'a Tag) -> Option<Place<'a>> {
        let all: usize = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        if all < MAX_UNCLAIMED { self.enter(tag) } else { None }
    }

    fn enter<'a>(&'a self, tag: &'a Tag) -> Option<Place<'a>> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = held.entry(tag.clone()).or_default();
        if *count >= MAX_HELD {
            return None;
        }
        *count += 1;
        Some(Place { held: self, tag })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.held.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(self.tag) {
            *count -= 1;
            if *count == 0 {
                held.remove(self.tag);
            }
        }
    }
}

/// Answers a tagged request.
pub(super) async fn answer(edge: &Arc<Edge>, shared: &Shared, tag: &Tag, request: Request<Incoming>) -> Result<Answered, Own> {
    let (lane, counters) = match edge.daemon.route(tag) {
        Route::Lane(lane, counters) => (lane, counters),
        Route::Unknown => return Err(Own::unknown(tag)),
        Route::Away { .. } => hold(edge, tag, edge.held.enter(tag)).await?,
        Route::Unclaimed { .. } => hold(edge, tag, edge.held.enter_unclaimed(tag)).await?,
    };
    if request.headers().contains_key(header::ORIGIN) {
        edge.origins.learn(request.headers(), tag, Instant::now());
    }
    let mut lane = lane;
    let limit = edge.daemon.tunables().hold;
    let (flight, sender) = loop {
        let Some(permit) = rt::timeout(limit, lane.permit()).await else {
            return Err(Own::crowded(tag, "has as many requests in flight as one connection carries"));
        };
        let flight = Flight::begin(&edge.daemon, &lane, &counters, Some(permit));
        let why = match &lane.carrier {
            Carrier::Laptop(requests) => match requests.ready(&lane).await {
                Ok(sender) => break (flight, Some(sender)),
                Err(why) => why,
            },
            Carrier::OpenSsh(_) => break (flight, None),
        };
        // Nothing of the request was sent. Each lane that fails is not chosen again, so this ends.
        lane.failed();
        match edge.daemon.route(tag) {
            Route::Lane(other, _) if !other.has_failed() => lane = other,
            _ => {
                let own = Own::lane_lost(tag, &why);
                counters.failed(own.what());
                return Err(own);
            }
        }
    };
    let answered = match (&lane.carrier, sender) {
        (Carrier::Laptop(requests), Some(sender)) => tunnel((requests, sender), flight, shared, tag, request).await,
        (Carrier::Laptop(_), None) => Err(Own::unknown(tag)),
        (Carrier::OpenSsh(forwards), _) => match forwards.pool(&tag.service) {
            Some(pool) => forward(forwards, &pool, flight, shared, tag, request).await,
            None => Err(Own::unknown(tag)),
        },
    };
    match answered {
        Ok(mut response) => {
            response.headers_mut().insert(SERVED_BY, served_by(tag));
            Ok((response, Some(counters)))
        }
        Err(own) => {
            counters.failed(own.what());
            Err(own)
        }
    }
}

fn served_by(tag: &Tag) -> HeaderValue {
    HeaderValue::from_str(&tag.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
}

/// Waits for the laptop to come back.
async fn hold(edge: &Edge, tag: &Tag, place: Option<Place<'_>>) -> Result<(Arc<Lane>, Arc<Counters>), Own> {
    let began = Instant::now();
    let limit = edge.daemon.tunables().hold;
    let metrics = &edge.daemon.metrics;
    let Some(_place) = place else {
        return Err(Own::crowded(
            tag,
            "is away, and as many requests as are allowed wait for it already",
        ));
    };
    let _held = Gauge::enter(&edge.daemon);
    metrics.holds.fetch_add(1, Ordering::Relaxed);
    loop {
        let change = edge.daemon.hold(tag);
        let retry_after = match edge.daemon.route(tag) {
            Route::Lane(lane, counters) => return Ok((lane, counters)),
            Route::Unknown => return Err(Own::unknown(tag)),
            Route::Away { retry_after } | Route::Unclaimed { retry_after } => retry_after,
        };
        let left = limit.saturating_sub(began.elapsed());
        if edge.daemon.draining() || left.is_zero() || rt::timeout(left, change).await.is_none() {
            metrics.holds_expired.fetch_add(1, Ordering::Relaxed);
            return Err(Own::away(tag, began.elapsed(), retry_after));
        }
    }
}

/// Counts a request as held for as long as it lives.
struct Gauge<'a>(&'a Daemon);

impl Gauge<'_> {
    fn enter(daemon: &Daemon) -> Gauge<'_> {
        daemon.metrics.held.fetch_add(1, Ordering::Relaxed);
        Gauge(daemon)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.metrics.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The header goes on with the request, as the one value that it means: services pass it on to each other.
fn set_tag(head: &mut request::Parts, tag: &Tag) {
    head.headers.insert(name::HEADER, served_by(tag));
}

/// Over HTTP/2 on the requests channel.
async fn tunnel(
    (requests, mut sender): (&Requests, SendRequest<Bytes>),
    flight: Flight,
    shared: &Shared,
    tag: &Tag,
    mut request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Own> {
    let extended = request
        .extensions()
        .get::<hyper::ext::Protocol>()
        .map(|protocol| protocol.as_str().to_owned());
    let is_http2 = request.version() == Version::HTTP_2;
    let client = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let upgrade = extended.or_else(|| route::upgrade(&head).map(str::to_owned));
    route::rewrite(&mut head);
    set_tag(&mut head, tag);
    // The version tells h2 that the target may be a path without an authority; Host goes as it is.
    head.version = Version::HTTP_11;
    head.extensions.clear();
    if let Some(token) = &upgrade {
        if !requests.takes_upgrades(&sender).await {
            return Err(Own::lane_lost(tag, "it does not carry upgrades"));
        }
        if is_http2 {
            websocket::ask(&mut head.headers, token);
        }
        head.method = Method::CONNECT;
        head.extensions.insert(h2::ext::Protocol::from(token.as_str()));
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let lost = |why: h2::Error| match shared.refusal_of_body() {
        Some(refusal) => Own::refused(&refusal),
        None if why.is_remote() && why.reason() == Some(stream::TRAILERS_TOO_LARGE) && why.is_reset() => {
            Own::no_answer(tag, NoAnswer::Malformed, upstream::TOO_MANY_TRAILERS)
        }
        // So the laptop says that it could not go on, of this one stream: its head was lost on the way.
        None if why.is_remote() && why.reason() == Some(h2::Reason::INTERNAL_ERROR) && why.is_reset() => {
            Own::no_answer(tag, NoAnswer::Closed, "the service broke off in the middle of its answer")
        }
        None => Own::lane_lost(tag, &why.to_string()),
    };
    let gate = || {
        let gate = requests.gate().map(Arc::clone);
        gate.ok_or_else(|| Own::lane_lost(tag, "its requests channel is not open"))
    };
    let end = upgrade.is_none() && body.is_end_stream();
    let (answer, mut to_laptop) = sender.send_request(Request::from_parts(head, ()), end).map_err(lost)?;
    drop(sender);
    let mut upload = None;
    if upgrade.is_none() && !end {
        let gate = gate()?;
        let mut counted = flight.uploads(body.size_hint().exact());
        let body = Paced::new(body, &flight.lane.pace);
        upload = Some(rt::spawn(async move {
            let counted = |count| counted.moved(count);
            // Why it ended is told by the answer, or by its absence.
            let reason = |_: &_| h2::Reason::INTERNAL_ERROR;
            if let Err(Unsent::Source(why)) = stream::send_body(body, &mut to_laptop, &gate, reason, counted).await {
                tracing::debug!("a request's body broke off: {why}");
            }
        }));
        let response = answered(answer.await.map_err(lost)?, tag).await?;
        return Ok(plain(response, upload, flight));
    }
    let response = answered(answer.await.map_err(lost)?, tag).await?;
    let upgraded = response.headers().get(protocol::UPGRADED).cloned();
    let Some(token) = upgraded.filter(|_| upgrade.is_some()) else {
        return Ok(plain(response, upload, flight));
    };
    let (mut head, from_laptop) = response.into_parts();
    head.headers.remove(protocol::UPGRADED);
    head.version = Version::HTTP_11;
    if is_http2 {
        websocket::confirmed(&mut head.headers);
    } else {
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, token);
    }
    let gate = gate()?;
    rt::spawn(async move {
        let client = match client.await {
            Ok(client) => client,
            Err(why) => {
                tracing::debug!("a client did not go on with its upgrade: {why}");
                return;
            }
        };
        let moved = |direction, count| match direction {
            Direction::In => flight.downloaded(count),
            Direction::Out => Flight::uploaded(&flight.daemon, &flight.lane, &flight.counters, count),
        };
        if let Err(why) = stream::relay(
            PacedIo::new(rt::io(client), &flight.lane.pace),
            from_laptop,
            &mut to_laptop,
            &gate,
            moved,
        )
        .await
        {
            tracing::debug!("an upgraded connection ended: {why}");
        }
    })
    .detach();
    Ok(Response::from_parts(head, EdgeBody::own("")))
}

/// The laptop's answer, or why there is none.
async fn answered(response: Response<RecvStream>, tag: &Tag) -> Result<Response<RecvStream>, Own> {
    let Some(kind) = response.headers().get(protocol::NO_ANSWER) else {
        return Ok(response);
    };
    let kind = NoAnswer::parse(kind.to_str().unwrap_or_default());
    let mut body = response.into_body();
    let mut sentence = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap_or_default();
        sentence.extend_from_slice(&data[..data.len().min(MAX_SENTENCE - sentence.len())]);
        if sentence.len() == MAX_SENTENCE {
            break;
        }
    }
    Err(Own::no_answer(tag, kind, &String::from_utf8_lossy(&sentence)))
}

/// An answer as it is, streamed.
fn plain(response: Response<RecvStream>, upload: Option<rt::Task<()>>, mut flight: Flight) -> Response<EdgeBody> {
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_11;
    head.extensions.clear();
    head.headers.remove(protocol::UPGRADED);
    let length = head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let length = if body.is_end_stream() { Some(0) } else { length };
    flight.answers(length);
    Response::from_parts(head, EdgeBody::tunnel(TunnelBody::new(body, length), upload, flight))
}

/// Over HTTP/1.1 on a forwarded-tcpip channel of a stock OpenSSH client.
async fn forward(
    forwards: &Forwards,
    pool: &Arc<Pool<Outgoing>>,
    flight: Flight,
    shared: &Shared,
    tag: &Tag,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Own> {
    let failed = |error: hyper::Error| match shared.refusal_of_body() {
        Some(refusal) => Own::refused(&refusal),
        None => Own::no_answer(tag, NoAnswer::Closed, &format!("the service gave no answer: {error}")),
    };
    let refused = |why: String| Own::no_answer(tag, NoAnswer::Refused, &why);
    let connect = || forwards.connect(&tag.service);
    super::http1::answer(pool, connect, request, Some(flight), |head| set_tag(head, tag))
        .await
        .map_err(|why| match why {
            Unanswered::Connect(why) => refused(why),
            Unanswered::Answer(error) => failed(error),
        })
}
