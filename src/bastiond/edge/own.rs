//! The answers that the edge makes itself: each says in one line what happened, and in its head why.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use serde_json::json;

use super::body::EdgeBody;
use crate::bastiond::clients::Client;
use crate::bastiond::guard::Refusal;
use crate::bastiond::route::BadHeader;
use crate::name::{HEADER_DISPLAY, Tag};
use crate::protocol::NoAnswer;

/// Who answered: `edge; reason=...`, `staging`, or the tag.
pub(crate) const SERVED_BY: HeaderName = HeaderName::from_static("x-ephemwork-served-by");

/// How much of a wrong value is shown to whoever sent it, in bytes: two names of the longest kind.
const MAX_SHOWN: usize = 130;

/// What helps where one address is many people.
const PROXY: &str = "if this is a proxy of yours, tell the daemon how many stand before it: --trusted-hops";

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Whether a client wants JSON rather than text; from its Accept header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Text,
    Json,
}

impl Format {
    /// JSON when the client asks for it by name.
    pub(crate) fn of(headers: &HeaderMap) -> Format {
        let json = headers.get_all(header::ACCEPT).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value
                    .split(',')
                    .filter_map(|range| range.split(';').next())
                    .any(|range| range.trim().eq_ignore_ascii_case("application/json"))
            })
        });
        if json { Format::Json } else { Format::Text }
    }

    /// The same of a head that nobody could read: a guess, line by line.
    pub(crate) fn of_wrong(head: &[u8]) -> Format {
        let json = head.split(|&byte| byte == b'\n').any(|line| {
            let line = line.to_ascii_lowercase();
            line.starts_with(b"accept:") && memchr::memmem::find(&line, b"application/json").is_some()
        });
        if json { Format::Json } else { Format::Text }
    }
}

/// An answer of the edge.
#[derive(Clone, Debug)]
pub(crate) struct Own {
    status: StatusCode,
    reason: &'static str,
    what: String,
    hint: Option<String>,
    retry_after: Option<Duration>,
    close: bool,
}

impl Own {
    pub(crate) fn new(status: StatusCode, reason: &'static str, what: impl Into<String>) -> Own {
        Own {
            status,
            reason,
            what: what.into(),
            hint: None,
            retry_after: None,
            close: false,
        }
    }

    /// What happened, as a sentence.
    pub(crate) fn what(&self) -> String {
        self.what.clone()
    }

    /// Whether it says that nobody holds the tag.
    pub(crate) fn is_unknown(&self) -> bool {
        self.status == StatusCode::NOT_FOUND
    }

    fn hint(mut self, hint: impl Into<String>) -> Own {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn retry_after(mut self, time: Duration) -> Own {
        self.retry_after = Some(time);
        self
    }

    /// Ends the client's connection behind it.
    pub(crate) fn close(mut self) -> Own {
        self.close = true;
        self
    }

    pub(crate) fn refused(refusal: &Refusal) -> Own {
        Own::new(refusal.status, refusal.reason, refusal.what).close()
    }

    pub(crate) fn bad_header(bad: &BadHeader) -> Own {
        let what = match bad {
            BadHeader::NotText => format!("{HEADER_DISPLAY} is not text"),
            BadHeader::Two(first, second) => {
                format!(
                    "{HEADER_DISPLAY} has two different values, {:?} and {:?}",
                    shown(first),
                    shown(second)
                )
            }
            BadHeader::Tag(value, why) => format!("{HEADER_DISPLAY} is {:?}, which is no tag: {why}", shown(value)),
        };
        Own::new(StatusCode::BAD_REQUEST, "bad-tag", what).hint(format!("send {HEADER_DISPLAY}: user:service"))
    }

    pub(crate) fn untagged() -> Own {
        Own::new(
            StatusCode::NOT_FOUND,
            "no-tag",
            format!("the request has no {HEADER_DISPLAY} header, so no laptop is meant"),
        )
        .hint(format!("send {HEADER_DISPLAY}: user:service"))
    }

    pub(crate) fn unknown(tag: &Tag) -> Own {
        Own::new(StatusCode::NOT_FOUND, "unknown-tag", format!("no laptop serves {tag}"))
            .hint(format!("start it: ephemwork up {}", tag.service))
    }

    pub(crate) fn away(tag: &Tag, held: Duration, retry_after: Duration) -> Own {
        let what = format!(
            "the laptop of {tag} is away; the request was held for {:.1} s",
            held.as_secs_f64()
        );
        Own::new(StatusCode::SERVICE_UNAVAILABLE, "reconnecting", what).retry_after(retry_after)
    }

    pub(crate) fn crowded(tag: &Tag, what: &str) -> Own {
        Own::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-requests", format!("{tag} {what}"))
            .retry_after(Duration::from_secs(1))
    }

    /// The edge has as many connections as it takes.
    pub(crate) fn full(most: usize) -> Own {
        let what = format!("the bastion has {most} connections open, and takes no more");
        Own::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-connections", what)
            .retry_after(Duration::from_secs(1))
            .close()
    }

    pub(crate) fn too_many_connections(client: Client) -> Own {
        let what = format!("{client} has as many connections open as one address may have (--client-requests)");
        Own::new(StatusCode::TOO_MANY_REQUESTS, "too-many-connections", what)
            .hint(PROXY)
            .retry_after(Duration::from_secs(1))
            .close()
    }

    pub(crate) fn too_many_at_once(client: Client) -> Own {
        let what = format!("{client} has as many requests in flight as one address may have (--client-requests)");
        Own::new(StatusCode::TOO_MANY_REQUESTS, "client-busy", what)
            .hint(PROXY)
            .retry_after(Duration::from_secs(1))
    }

    /// Says nothing of the tag, which may be anybody's.
    pub(crate) fn too_many_tags(client: Client, wait: Duration) -> Own {
        let what = format!("{client} has asked for more tags than one address may try");
        Own::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tags", what)
            .hint(PROXY)
            .retry_after(wait + Duration::from_millis(999))
    }

    pub(crate) fn no_answer(tag: &Tag, kind: NoAnswer, what: &str) -> Own {
        let reason = match kind {
            NoAnswer::Refused => "port-refused",
            NoAnswer::Closed => "service-closed",
            NoAnswer::Malformed => "service-malformed",
            NoAnswer::Unknown => "not-served",
        };
        Own::new(StatusCode::BAD_GATEWAY, reason, format!("{tag}: {what}"))
    }

    pub(crate) fn lane_lost(tag: &Tag, why: &str) -> Own {
        Own::new(
            StatusCode::BAD_GATEWAY,
            "lane-lost",
            format!("the connection to the laptop of {tag} broke while it answered: {why}"),
        )
    }

    /// The response.
    pub(crate) fn response(self, format: Format) -> Response<EdgeBody> {
        let (kind, text) = match format {
            Format::Text => {
                let mut text = format!("ephemwork: {}\n", self.what);
                if let Some(hint) = &self.hint {
                    text.push_str(&format!("  {hint}\n"));
                }
                (TEXT, text)
            }
            Format::Json => {
                let error = json!({"error": {"what": self.what, "why": null, "hint": self.hint, "code": self.reason}});
                (JSON, format!("{error}\n"))
            }
        };
        let mut response = Response::new(EdgeBody::own(text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(by) = HeaderValue::from_str(&format!("edge; reason={}", self.reason)) {
            headers.insert(SERVED_BY, by);
        }
        if let Some(time) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs().max(1)));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The beginning of what a client sent; it was text, so that it is all ASCII.
fn shown(value: &str) -> &str {
    value.get(..MAX_SHOWN).unwrap_or(value)
}

/// `GET /ephemwork-health`.
pub(crate) fn health(draining: bool, format: Format) -> Response<EdgeBody> {
    let (status, word) = if draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "ok")
    };
    let (kind, text) = match format {
        Format::Text => (TEXT, format!("{word}\n")),
        Format::Json => (JSON, format!("{}\n", json!({"health": word}))),
    };
    let mut response = Response::new(EdgeBody::own(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(SERVED_BY, HeaderValue::from_static("edge; reason=health"));
    response
}
