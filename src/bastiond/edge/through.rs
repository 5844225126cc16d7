//! A tagged request through a lane to its laptop, and the answer back.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::client::SendRequest;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version, request};
use http_body::Body;
use hyper::body::Incoming;

use super::asked::Asked;
use super::body::{EdgeBody, Flight, Outgoing, chain};
use super::hold::{self, Patience};
use super::own::{Own, SERVED_BY};
use super::shared::Shared;
use super::{Answered, Edge, websocket};
use crate::bastiond::lane::{Carrier, Lane};
use crate::bastiond::pace::{Paced, PacedIo};
use crate::bastiond::ssh::forwards::{self, Unopened};
use crate::bastiond::ssh::{Forwards, Requests};
use crate::name::{self, Tag};
use crate::protocol::{self, NoAnswer};
use crate::rt;
use crate::tunnel::stream::{self, Direction, TunnelBody, Unsent};
use crate::upstream::{self, Pool, Unanswered};

/// The longest sentence that a laptop may send instead of an answer, in bytes.
const MAX_SENTENCE: usize = 4 * 1024;

/// How often one request is sent at most: a laptop's connection may break twice while it is being answered, and a request that breaks
/// its laptop does not come back for ever.
const MAX_SENT: usize = 3;

/// How many lanes are tried at most, those included that took nothing: twice what a session has.
const MAX_TRIES: usize = 2 * protocol::MAX_LANES as usize + MAX_SENT;

/// Why an attempt came to nothing.
enum Missed {
    /// This is the answer.
    Own(Own),
    /// The lane took nothing of the request.
    Unsent(Own),
    /// The lane broke before the answer began.
    Lost(Own),
}

impl From<Own> for Missed {
    fn from(own: Own) -> Missed {
        Missed::Own(own)
    }
}

/// Answers a tagged request. What is idempotent and has no body is sent again when its lane breaks before the answer begins; what no
/// lane has taken anything of waits for the next one, whatever it is.
pub(super) async fn answer(edge: &Arc<Edge>, shared: &Shared, tag: &Tag, request: Request<Incoming>) -> Result<Answered, Own> {
    let mut patience = Patience::begin(&edge.daemon, &request);
    let mut found = hold::lane(edge, tag, &mut patience).await?;
    if request.headers().contains_key(header::ORIGIN) {
        edge.origins.learn(request.headers(), tag, Instant::now());
    }
    let mut asked = Asked::of(request, |head| set_tag(head, tag));
    let mut sent = 0;
    for _ in 0..MAX_TRIES {
        let (lane, counters) = found;
        let Some(permit) = patience.spend(lane.permit()).await else {
            return Err(Own::crowded(tag, "has as many requests in flight as one connection carries"));
        };
        let flight = Flight::begin(&edge.daemon, &lane, &counters, Some(permit));
        let missed = match attempt(&lane, flight, shared, tag, &mut asked).await {
            Ok(mut response) => {
                response.headers_mut().insert(SERVED_BY, served_by(tag));
                return Ok((response, Some(counters)));
            }
            Err(missed) => missed,
        };
        let (own, again) = match missed {
            Missed::Own(own) => (own, false),
            Missed::Unsent(own) => {
                lane.failed();
                (own, true)
            }
            Missed::Lost(own) => {
                lane.failed();
                sent += 1;
                (own, asked.is_replayable && sent < MAX_SENT)
            }
        };
        if !again {
            counters.failed(own.what());
            return Err(own);
        }
        tracing::debug!(%tag, "a request goes to another lane: {}", own.what());
        found = match hold::lane(edge, tag, &mut patience).await {
            Ok(found) => found,
            // Its laptop has left for good since.
            Err(away) => return Err(if away.is_unknown() { own } else { away }),
        };
    }
    Err(Own::lane_lost(tag, "one connection after the other"))
}

/// Sends a request over this lane.
async fn attempt(
    lane: &Arc<Lane>,
    flight: Flight,
    shared: &Shared,
    tag: &Tag,
    asked: &mut Asked,
) -> Result<Response<EdgeBody>, Missed> {
    match &lane.carrier {
        Carrier::Laptop(requests) => {
            let ready = requests.ready(lane).await;
            let sender = ready.map_err(|why| Missed::Unsent(Own::lane_lost(tag, &why)))?;
            tunnel((requests, sender), flight, shared, tag, asked).await
        }
        Carrier::OpenSsh(forwards) => match forwards.pool(&tag.service) {
            Some(pool) => forward(forwards, &pool, flight, shared, tag, asked).await,
            None => Err(Own::unknown(tag).into()),
        },
    }
}

fn served_by(tag: &Tag) -> HeaderValue {
    HeaderValue::from_str(&tag.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
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
    asked: &mut Asked,
) -> Result<Response<EdgeBody>, Missed> {
    let mut head = asked.head();
    if let Some(token) = &asked.upgrade {
        if !requests.takes_upgrades(&sender).await {
            return Err(Own::lane_lost(tag, "it does not carry upgrades").into());
        }
        if asked.is_http2 {
            websocket::ask(&mut head.headers, token);
        }
        head.method = Method::CONNECT;
        head.extensions.insert(h2::ext::Protocol::from(token.as_str()));
        head.headers.remove(header::CONTENT_LENGTH);
    }
    let missed = |why: h2::Error| -> Missed {
        if let Some(refusal) = shared.refusal_of_body() {
            return Own::refused(&refusal).into();
        }
        let reset = why.reason().filter(|_| why.is_remote() && why.is_reset());
        match reset {
            Some(stream::TRAILERS_TOO_LARGE) => Own::no_answer(tag, NoAnswer::Malformed, upstream::TOO_MANY_TRAILERS).into(),
            // So the laptop says that it could not go on, of this one stream: its head was lost on the way.
            Some(h2::Reason::INTERNAL_ERROR) => {
                let what = "the service broke off in the middle of its answer";
                Own::no_answer(tag, NoAnswer::Closed, what).into()
            }
            // The whole connection is gone, not this stream of it alone.
            None if why.is_io() || why.is_go_away() => Missed::Lost(Own::lane_lost(tag, &why.to_string())),
            _ => Own::lane_lost(tag, &why.to_string()).into(),
        }
    };
    let gate = || {
        let gate = requests.gate().map(Arc::clone);
        gate.ok_or_else(|| Own::lane_lost(tag, "its requests channel is not open"))
    };
    let body = asked.body();
    let end = asked.upgrade.is_none() && body.is_none();
    let (answer, mut to_laptop) = sender.send_request(Request::from_parts(head, ()), end).map_err(missed)?;
    drop(sender);
    if let Some(body) = body {
        let gate = gate()?;
        let mut counted = flight.uploads(body.size_hint().exact());
        let body = Paced::new(body, &flight.lane.pace);
        let upload = rt::spawn(async move {
            let counted = |count| counted.moved(count);
            // Why it ended is told by the answer, or by its absence.
            let reason = |_: &_| h2::Reason::INTERNAL_ERROR;
            if let Err(Unsent::Source(why)) = stream::send_body(body, &mut to_laptop, &gate, reason, counted).await {
                tracing::debug!("a request's body broke off: {why}");
            }
        });
        let response = answered(answer.await.map_err(missed)?, tag).await?;
        return Ok(plain(response, Some(upload), flight));
    }
    let response = answered(answer.await.map_err(missed)?, tag).await?;
    let upgraded = response.headers().get(protocol::UPGRADED).cloned();
    let (Some(token), Some(client)) = (upgraded.filter(|_| asked.upgrade.is_some()), asked.client.take()) else {
        return Ok(plain(response, None, flight));
    };
    let (mut head, from_laptop) = response.into_parts();
    head.headers.remove(protocol::UPGRADED);
    head.version = Version::HTTP_11;
    if asked.is_http2 {
        websocket::confirmed(&mut head.headers);
    } else {
        head.status = StatusCode::SWITCHING_PROTOCOLS;
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, token);
    }
    let gate = gate()?;
    let counted = asked.counted.take();
    rt::spawn(async move {
        let _counted = counted;
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
    asked: &mut Asked,
) -> Result<Response<EdgeBody>, Missed> {
    let connect = || forwards.connect(&tag.service);
    let why = match super::http1::answer(pool, connect, asked, Some(flight)).await {
        Ok(response) => return Ok(response),
        Err(why) => why,
    };
    if let Some(refusal) = shared.refusal_of_body() {
        return Err(Own::refused(&refusal).into());
    }
    Err(match why {
        // A channel is opened before anything is sent.
        Unanswered::Connect(Unopened::Gone(why)) => Missed::Unsent(Own::lane_lost(tag, &why)),
        Unanswered::Connect(Unopened::Refused(why)) => Own::no_answer(tag, NoAnswer::Refused, &why).into(),
        Unanswered::Answer(error) if forwards::is_gone(&error) => Missed::Lost(Own::lane_lost(tag, &chain(&error))),
        Unanswered::Answer(error) => {
            Own::no_answer(tag, NoAnswer::Closed, &format!("the service gave no answer: {error}")).into()
        }
    })
}
