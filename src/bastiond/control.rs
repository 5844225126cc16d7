//! The control API: HTTP and JSON over a laptop's control channel and over the admin's unix socket.
//!
//! Which call a request is ([`call`]) is decided first, without reading its body.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Body;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::bastiond::audit::{self, Actor};
use crate::bastiond::lane::Lane;
use crate::bastiond::refused::Refused;
use crate::bastiond::registry::Releaser;
use crate::bastiond::settings::StagingUrl;
use crate::bastiond::state::Daemon;
use crate::bastiond::store::Query;
use crate::name::{Service, Tag, User};
use crate::protocol::{self, Claim, Left, Release, ReleaseUser, Speaks};
use crate::rt;

/// The longest body of a call, in bytes: a claim with the longest names is under 2 KiB.
const MAX_BODY: usize = 16 * 1024;

/// How long a call's body may take to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What an answer's body is.
pub(crate) type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Who calls.
#[derive(Clone)]
pub(crate) enum Caller {
    /// A laptop, over its SSH connection.
    Lane(Arc<Lane>),
    /// Whoever may open the unix socket.
    Admin,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Health,
    Sessions { all: bool },
    Claim,
    Release,
    Leave,
    Metrics,
    Staging,
    Users,
    ReleaseUser,
    Audit,
}

/// `POST /v1/staging`: where untagged requests of local mode go from now on.
#[derive(Debug, Deserialize, Serialize)]
struct Staging {
    staging_url: Option<String>,
}

/// Answers one request.
pub(crate) async fn answer<B>(daemon: Arc<Daemon>, caller: Caller, request: Request<B>) -> Answer
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let call = call(request.method(), request.uri().path(), request.uri().query());
    let said = request
        .headers()
        .get(protocol::TRANSPORT)
        .and_then(|value| value.to_str().ok());
    if let (Caller::Lane(lane), Some(transport)) = (&caller, said.and_then(audit::transport)) {
        lane.came_by(transport);
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let result = match (call, spoken(&request)) {
        (Ok(call), Ok(())) => carry_out(&daemon, caller, call, &query, request.into_body()).await,
        (_, Err(refused)) => Err(match &caller {
            Caller::Lane(lane) => daemon.refused(lane.user.as_str(), None, lane.actor(None), refused).await,
            Caller::Admin => refused,
        }),
        (Err(refused), Ok(())) => Err(refused),
    };
    let mut answer = result.unwrap_or_else(refusal);
    put(
        &mut answer,
        header::HeaderName::from_static(protocol::PROTOCOL),
        &Speaks::own().to_string(),
    );
    answer
}

/// Whether the caller speaks what this daemon does. One that does not say so says it in its claim.
fn spoken<B>(request: &Request<B>) -> Result<(), Refused> {
    let said = request
        .headers()
        .get(protocol::PROTOCOL)
        .and_then(|value| value.to_str().ok());
    match said.and_then(Speaks::parse) {
        Some(said) => speaks(said.protocol),
        None => Ok(()),
    }
}

fn speaks(theirs: u32) -> Result<(), Refused> {
    if (protocol::OLDEST..=protocol::VERSION).contains(&theirs) {
        Ok(())
    } else {
        Err(Refused::protocol(theirs))
    }
}

fn call(method: &Method, path: &str, query: Option<&str>) -> Result<Call, Refused> {
    let all = query.unwrap_or_default().split('&').any(|part| part == "all=true");
    let (wanted, call) = match path {
        "/v1/health" | "/v1/version" => (Method::GET, Call::Health),
        "/v1/sessions" => (Method::GET, Call::Sessions { all }),
        "/metrics" => (Method::GET, Call::Metrics),
        "/v1/claim" => (Method::POST, Call::Claim),
        "/v1/release" => (Method::POST, Call::Release),
        "/v1/leave" => (Method::POST, Call::Leave),
        "/v1/staging" => (Method::POST, Call::Staging),
        "/v1/users" => (Method::GET, Call::Users),
        "/v1/audit" => (Method::GET, Call::Audit),
        "/v1/users/release" => (Method::POST, Call::ReleaseUser),
        _ => {
            return Err(Refused::new(404, format!("there is nothing at {path:?}"))
                .hint("GET /v1/health, /v1/version, /v1/sessions, /v1/users, /v1/audit, /metrics; POST /v1/claim, /v1/release, /v1/users/release, /v1/leave, /v1/staging"));
        }
    };
    if *method == wanted {
        return Ok(call);
    }
    Err(Refused::new(405, format!("{method} {path} is not a call")).hint(format!("use {wanted}")))
}

async fn carry_out<B>(daemon: &Arc<Daemon>, caller: Caller, call: Call, query: &str, body: B) -> Result<Answer, Refused>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    if let (Call::Users | Call::ReleaseUser | Call::Audit, Caller::Lane(lane)) = (call, &caller)
        && !daemon.is_admin(lane)
    {
        let you = lane
            .principal
            .as_ref()
            .map_or("a key that the bastion lists".to_owned(), ToString::to_string);
        let verb = if call == Call::Audit { "audit" } else { "users" };
        let refused = Refused::new(403, "this call is for the bastion's admin")
            .because(format!("you are {you}, which no pattern of its admins fits (--admin)"))
            .hint(format!(
                "make it on the bastion: ephemwork bastion {verb} --control-socket /var/lib/ephemwork/control.sock"
            ));
        return Err(daemon.refused(lane.user.as_str(), None, lane.actor(None), refused).await);
    }
    match (call, caller) {
        (Call::Users, _) => Ok(json(StatusCode::OK, &daemon.users())),
        (Call::Audit, _) => Ok(json(StatusCode::OK, &daemon.audit(wanted(query)?).await?)),
        (Call::ReleaseUser, caller) => {
            let by = match &caller {
                Caller::Lane(lane) => lane.actor(None),
                Caller::Admin => Actor::socket(),
            };
            let release: ReleaseUser = read(body).await?;
            let user = User::parse(&release.user)
                .map_err(|why| Refused::new(400, format!("{:?} is not a user name", release.user)).because(why))?;
            Ok(json(StatusCode::OK, &daemon.free(&user, by).await?))
        }
        (Call::Health, _) => Ok(json(StatusCode::OK, &daemon.health())),
        (Call::Sessions { all: false }, Caller::Lane(lane)) => Ok(json(StatusCode::OK, &daemon.sessions(Some(&lane.user)))),
        (Call::Sessions { all: true }, Caller::Lane(lane)) if !daemon.is_admin(&lane) => {
            Ok(json(StatusCode::OK, &daemon.sessions_for(&lane.user)))
        }
        (Call::Sessions { .. }, _) => Ok(json(StatusCode::OK, &daemon.sessions(None))),
        (Call::Claim, Caller::Lane(lane)) => {
            let claim: serde_json::Value = read(body).await?;
            // Another version's claim may have another shape; its number is where it always was.
            let theirs = claim.get("protocol").and_then(|number| u32::try_from(number.as_u64()?).ok());
            if let Err(refused) = theirs.map_or(Ok(()), speaks) {
                return Err(daemon.refused(lane.user.as_str(), None, lane.actor(None), refused).await);
            }
            let claim: Claim = serde_json::from_value(claim).map_err(unread)?;
            let claimed = daemon.claim(&lane.user, &claim, &lane).await?;
            Ok(json(StatusCode::OK, &claimed))
        }
        (Call::Release, caller) => {
            let release: Release = read(body).await?;
            let (tag, by) = match caller {
                Caller::Lane(lane) => (own_tag(&lane, &release.service)?, Releaser::Lane(lane.id)),
                Caller::Admin => (any_tag(&release.service)?, Releaser::Admin),
            };
            let released = daemon.release(&tag, release.token.as_deref(), by).await?;
            Ok(json(StatusCode::OK, &released))
        }
        (Call::Leave, Caller::Lane(lane)) => {
            daemon.leave(&lane);
            let in_flight = lane.streams.load(Ordering::Relaxed) as u64;
            Ok(json(StatusCode::OK, &Left { in_flight }))
        }
        (Call::Metrics, Caller::Admin) => Ok(metrics(daemon)),
        (Call::Staging, Caller::Admin) if daemon.settings.local => {
            let staging: Staging = read(body).await?;
            let parsed = staging.staging_url.as_deref().map(StagingUrl::parse).transpose();
            let url = parsed.map_err(|why| Refused::new(400, "the staging_url is not an origin").because(why))?;
            let answer = Staging {
                staging_url: url.as_ref().map(ToString::to_string),
            };
            daemon.set_staging_url(url);
            Ok(json(StatusCode::OK, &answer))
        }
        (Call::Staging, Caller::Admin) => {
            Err(Refused::new(403, "only a daemon of local mode has a staging_url").hint("start it with --local"))
        }
        (Call::Claim | Call::Leave, Caller::Admin) => {
            Err(Refused::new(403, "this call belongs to an SSH connection").hint("make it over the control channel of a laptop"))
        }
        (Call::Metrics | Call::Staging, Caller::Lane(_)) => {
            Err(Refused::new(403, "this call is for the bastion's admin").hint("make it over the bastion's control socket"))
        }
    }
}

/// What of the audit is asked for.
fn wanted(query: &str) -> Result<Query, Refused> {
    let mut wanted = Query::default();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let wrong = || {
            Refused::new(400, format!("{part:?} is not a part of the audit's query"))
                .hint("since=SECONDS, user=NAME, after=NUMBER")
        };
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        match name {
            "since" => wanted.since = value.parse().map_err(|_| wrong())?,
            "after" => wanted.after = value.parse().map_err(|_| wrong())?,
            "user" => wanted.user = Some(User::parse(value).map_err(|_| wrong())?.to_string()),
            _ => return Err(wrong()),
        }
    }
    Ok(wanted)
}

fn own_tag(lane: &Lane, service: &str) -> Result<Tag, Refused> {
    let service =
        Service::parse(service).map_err(|why| Refused::new(400, format!("{service:?} is not a service name")).because(why))?;
    Ok(Tag::new(lane.user.clone(), service))
}

fn any_tag(text: &str) -> Result<Tag, Refused> {
    Tag::parse(text).map_err(|why| {
        Refused::new(400, format!("{text:?} is not a tag"))
            .because(why)
            .hint("over the control socket \"service\" is user:service")
    })
}

async fn read<T: DeserializeOwned, B>(body: B) -> Result<T, Refused>
where
    B: Body<Data = Bytes> + Send,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let whole = rt::timeout(BODY_TIME, Limited::new(body, MAX_BODY).collect()).await;
    let Some(whole) = whole else {
        return Err(Refused::new(
            408,
            format!("the body did not arrive within {} seconds", BODY_TIME.as_secs()),
        ));
    };
    let bytes = whole.map_err(|why| match why.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => Refused::new(413, format!("the body is longer than {MAX_BODY} bytes")),
        None => Refused::new(400, "the body broke off").because(why),
    })?;
    serde_json::from_slice(&bytes.to_bytes()).map_err(unread)
}

fn unread(why: serde_json::Error) -> Refused {
    Refused::new(400, "the body is not the JSON of this call").because(why)
}

/// The metrics page as an answer.
pub(crate) fn metrics(daemon: &Daemon) -> Answer {
    let mut answer = Response::new(Full::from(daemon.metrics_page()).boxed());
    put(&mut answer, header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8");
    answer
}

/// A refusal as an answer.
pub(crate) fn refusal(refused: Refused) -> Answer {
    let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = json(status, &refused.refusal);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = refused.refusal.hint.as_deref().and_then(|hint| hint.strip_prefix("use "));
        put(&mut answer, header::ALLOW, allowed.unwrap_or("GET, POST"));
    }
    answer
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // The protocol's types have text keys and no failing serializer, so there is always a body.
    let mut body = serde_json::to_vec(value).unwrap_or_default();
    body.push(b'\n');
    let mut answer = Response::new(Full::from(body).boxed());
    *answer.status_mut() = status;
    put(&mut answer, header::CONTENT_TYPE, "application/json");
    answer
}

fn put(answer: &mut Answer, name: header::HeaderName, value: &str) {
    if let Ok(value) = header::HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls() {
        let check = |method: Method, path: &str, query: Option<&str>, expected: Result<Call, u16>| {
            let found = call(&method, path, query).map_err(|refused| refused.status);
            assert_eq!(found, expected, "{method} {path}");
        };
        check(Method::GET, "/", None, Err(404));
        check(Method::GET, "/v1/claims", None, Err(404));
        check(Method::GET, "/v1/claim", None, Err(405));
        check(Method::POST, "/v1/health", None, Err(405));
        check(Method::DELETE, "/v1/sessions", None, Err(405));
        check(Method::GET, "/v1/health", None, Ok(Call::Health));
        check(Method::GET, "/v1/version", None, Ok(Call::Health));
        check(Method::GET, "/v1/sessions", None, Ok(Call::Sessions { all: false }));
        check(
            Method::GET,
            "/v1/sessions",
            Some("x=1&all=true"),
            Ok(Call::Sessions { all: true }),
        );
        check(Method::POST, "/v1/claim", None, Ok(Call::Claim));
        check(Method::POST, "/v1/release", None, Ok(Call::Release));
        check(Method::POST, "/v1/leave", None, Ok(Call::Leave));
        check(Method::POST, "/v1/staging", None, Ok(Call::Staging));
        check(Method::GET, "/metrics", None, Ok(Call::Metrics));
        check(Method::GET, "/v1/users", None, Ok(Call::Users));
        check(Method::POST, "/v1/users/release", None, Ok(Call::ReleaseUser));
        check(Method::POST, "/v1/users", None, Err(405));
        check(Method::GET, "/v1/events", None, Err(404));
    }
}
