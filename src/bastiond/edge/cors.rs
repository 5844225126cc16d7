//! CORS preflights: a browser tells the name of the tag's header but not its value.
//!
//! Where only one session can be meant the preflight goes to it. Otherwise the edge answers, for origins that it was told to
//! trust. Which session an origin belongs to is learnt from its tagged requests.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderValue};
use http::{Response, StatusCode};

use super::body::EdgeBody;
use super::own::{Format, Own, SERVED_BY};
use crate::name::Tag;

/// Pairs of origin and host that are remembered.
const MAX_PAIRS: usize = 1024;

/// The longest origin and host that are remembered, in bytes: a scheme, a host name (253) and a port.
const MAX_NAME: usize = 300;

/// Tags remembered for a pair; two are enough to know that it is not one.
const MAX_TAGS: usize = 2;

/// For how long a tagged request says whose an origin is.
const RECENT: Duration = Duration::from_secs(600);

/// How long a browser may keep the edge's own answer, in seconds: a change on the laptop should count soon.
const MAX_AGE: &str = "5";

/// Whose tagged requests came from which origin for which host.
#[derive(Debug, Default)]
pub(crate) struct Origins(Mutex<HashMap<Pair, Vec<(Tag, Instant)>>>);

/// Origin and Host, as they stand in the head.
type Pair = (Box<[u8]>, Box<[u8]>);

fn pair(headers: &HeaderMap) -> Option<Pair> {
    let origin = headers.get(header::ORIGIN)?.as_bytes();
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    (origin.len() <= MAX_NAME && host.len() <= MAX_NAME).then(|| (origin.into(), host.into()))
}

impl Origins {
    /// Learns from a tagged request, if it has an origin.
    pub(crate) fn learn(&self, headers: &HeaderMap, tag: &Tag, now: Instant) {
        let Some(pair) = pair(headers) else { return };
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= MAX_PAIRS && !pairs.contains_key(&pair) {
            pairs.retain(|_, tags| tags.iter().any(|(_, seen)| now.duration_since(*seen) < RECENT));
            if pairs.len() >= MAX_PAIRS {
                pairs.clear();
            }
        }
        let tags = pairs.entry(pair).or_default();
        tags.retain(|(known, seen)| known != tag && now.duration_since(*seen) < RECENT);
        if tags.len() >= MAX_TAGS {
            tags.remove(0);
        }
        tags.push((tag.clone(), now));
    }

    /// The only tag whose recent requests came from this origin for this host.
    pub(crate) fn only(&self, headers: &HeaderMap, now: Instant) -> Option<Tag> {
        let pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut recent = pairs
            .get(&pair(headers)?)?
            .iter()
            .filter(|(_, seen)| now.duration_since(*seen) < RECENT);
        let (tag, _) = recent.next()?;
        recent.next().is_none().then(|| tag.clone())
    }
}

/// The edge's own answer.
pub(crate) fn answer(headers: &HeaderMap, trusted: &[String], local: bool) -> Response<EdgeBody> {
    let origin = headers
        .get(header::ORIGIN)
        .cloned()
        .unwrap_or(HeaderValue::from_static("null"));
    let text = origin.to_str().unwrap_or_default();
    if !(trusted.iter().any(|known| known == text) || local && is_loopback(text)) {
        let what =
            format!("no single laptop is meant by this preflight, and origin {text:?} is not one that the edge answers for");
        return Own::new(StatusCode::FORBIDDEN, "origin-not-allowed", what).response(Format::of(headers));
    }
    let mut response = Response::new(EdgeBody::own(""));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow = response.headers_mut();
    allow.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    allow.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if let Some(method) = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
        allow.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    }
    for names in headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        allow.append(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    allow.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    allow.insert(
        header::VARY,
        HeaderValue::from_static("Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
    );
    allow.insert(SERVED_BY, HeaderValue::from_static("edge; reason=preflight"));
    response
}

/// Whether an origin is a page on this machine: `http://localhost:5173`, `http://app.localhost`, `http://127.0.0.1`, `http://[::1]:3000`.
fn is_loopback(origin: &str) -> bool {
    let Some(rest) = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) else {
        return false;
    };
    let host = match rest.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => rest.split(':').next().unwrap_or_default(),
    };
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_origins() {
        let check = |origin: &str, expected: bool| assert_eq!(is_loopback(origin), expected, "{origin}");
        check("http://localhost:5173", true);
        check("https://app.localhost", true);
        check("http://127.0.0.1", true);
        check("http://[::1]:3000", true);
        check("http://localhost.evil.example", false);
        check("http://127.0.0.1.evil.example", false);
        check("null", false);
        check("ftp://localhost", false);
        check("", false);
    }

    #[test]
    fn origins_are_learnt_and_forgotten() {
        let headers = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            headers.insert(header::HOST, HeaderValue::from_static("h"));
            headers
        };
        let (a, b) = (Tag::parse("a:api").unwrap(), Tag::parse("b:api").unwrap());
        let (here, there) = (headers("http://here"), headers("http://there"));
        let now = Instant::now();
        let origins = Origins::default();
        assert_eq!(origins.only(&here, now), None);
        origins.learn(&here, &a, now);
        assert_eq!(origins.only(&here, now), Some(a.clone()));
        assert_eq!(origins.only(&there, now), None);
        origins.learn(&here, &b, now + RECENT / 2);
        assert_eq!(origins.only(&here, now + RECENT / 2), None);
        assert_eq!(origins.only(&here, now + RECENT), Some(b));
        origins.learn(&HeaderMap::new(), &a, now);
    }
}
