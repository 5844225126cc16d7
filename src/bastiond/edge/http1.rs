//! A request to an origin that speaks HTTP/1.1, with upgrades: a stock OpenSSH client's service, or the staging environment.

use std::sync::Arc;

use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};

use super::asked::Asked;
use super::body::{EdgeBody, Flight, Outgoing};
use super::websocket;
use crate::bastiond::pace::PacedIo;
use crate::hop;
use crate::rt;
use crate::upstream::{self, AnswerBody, Connection, Pool, Unanswered};

/// Sends the request on an idle connection of `pool` or a new one, and streams the answer.
pub(crate) async fn answer<C, E>(
    pool: &Arc<Pool<Outgoing>>,
    connect: impl Fn() -> C,
    asked: &mut Asked,
    flight: Option<Flight>,
) -> Result<Response<EdgeBody>, Unanswered<E>>
where
    C: Future<Output = Result<Connection<Outgoing>, E>>,
{
    let is_extended = asked.is_extended;
    let Some(token) = asked.upgrade.clone() else {
        let request = asked.request(flight.as_ref());
        let spare = upstream::spare(&request, || Outgoing::Empty);
        let response = pool.exchange(request, spare, connect).await?;
        return Ok(plain(response, flight));
    };
    let mut head = asked.head();
    if is_extended {
        head.method = Method::GET;
        websocket::ask(&mut head.headers, &token);
    }
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(token) = HeaderValue::from_str(&token) {
        head.headers.insert(header::UPGRADE, token);
    }
    let mut connection = connect().await.map_err(Unanswered::Connect)?;
    let request = Request::from_parts(head, Outgoing::Empty);
    let mut response = connection
        .send(request)
        .await
        .map_err(|failed| Unanswered::Answer(failed.error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let response = response.map(|body| AnswerBody::new(body, connection, Pool::new()));
        return Ok(plain(response, flight));
    }
    let origin = hyper::upgrade::on(&mut response);
    let client = asked.client.take();
    let counted = asked.counted.take();
    let pace = flight.as_ref().map(|flight| Arc::clone(&flight.lane.pace));
    rt::spawn(async move {
        let _counted = counted;
        let both = async {
            let origin = origin.await.map_err(std::io::Error::other)?;
            let client = client.ok_or_else(|| std::io::Error::other("it was upgraded before"))?;
            let client = client.await.map_err(std::io::Error::other)?;
            match pace {
                Some(pace) => rt::copy_bidirectional(&mut rt::io(origin), &mut PacedIo::new(rt::io(client), &pace)).await,
                None => rt::copy_bidirectional(&mut rt::io(origin), &mut rt::io(client)).await,
            }
        };
        // The connection's driver ends when it hands the stream over.
        let (moved, ()) = smol::future::zip(both, connection.finish()).await;
        match (moved, flight) {
            (Ok((down, up)), Some(flight)) => {
                flight.downloaded(down);
                Flight::uploaded(&flight.daemon, &flight.lane, &flight.counters, up);
            }
            (Ok(_), None) => {}
            (Err(why), _) => tracing::debug!("an upgraded connection ended: {why}"),
        }
    })
    .detach();
    let (mut head, _) = response.into_parts();
    hop::strip(&mut head.headers);
    head.extensions.clear();
    if is_extended {
        head.status = StatusCode::OK;
        websocket::confirmed(&mut head.headers);
        return Ok(Response::from_parts(head, EdgeBody::own("")));
    }
    head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Ok(token) = HeaderValue::from_str(&token) {
        head.headers.insert(header::UPGRADE, token);
    }
    Ok(Response::from_parts(head, EdgeBody::own("")))
}

/// An answer as it is, streamed.
fn plain(response: Response<AnswerBody<Outgoing>>, flight: Option<Flight>) -> Response<EdgeBody> {
    let (mut head, body) = response.into_parts();
    hop::strip_answer(&mut head);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    Response::from_parts(head, EdgeBody::http1(body, flight))
}
