//! What a request's head says about where it goes, and how a head is rewritten for the tunnel. Pure.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri, Version, request};

use crate::hop;
use crate::name::{self, BadTag, Tag};

/// What is wrong with the tag's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// It is not text.
    NotText,
    /// Two values that differ.
    Two(String, String),
    /// The value is no tag.
    Tag(String, BadTag),
}

/// The tag of a request; `None` without the header. Values that stand in several lines, or in one line with commas between
/// them (RFC 9110, section 5.3), must be the same.
pub(crate) fn tag(headers: &HeaderMap) -> Result<Option<Tag>, BadHeader> {
    let mut first: Option<&str> = None;
    for value in headers.get_all(name::HEADER) {
        let value = value.to_str().map_err(|_| BadHeader::NotText)?;
        for value in value.split(',') {
            let value = value.trim_matches([' ', '\t']);
            match first {
                None => first = Some(value),
                Some(first) if first == value => {}
                Some(first) => return Err(BadHeader::Two(first.to_owned(), value.to_owned())),
            }
        }
    }
    match first {
        None => Ok(None),
        Some(value) => Tag::parse(value)
            .map(Some)
            .map_err(|why| BadHeader::Tag(value.to_owned(), why)),
    }
}

/// The upgrade that a request asks for (RFC 9110, section 7.8): the token, for the tunnel's `:protocol`. Only of a GET without a
/// body, as WebSocket has it: the tunnel's CONNECT has room for neither another method nor a body. Any server may pass an offer over.
pub(crate) fn upgrade(head: &request::Parts) -> Option<&str> {
    let body = head.headers.contains_key(header::TRANSFER_ENCODING)
        || head.headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if head.version != Version::HTTP_11 || head.method != Method::GET || body {
        return None;
    }
    let asked = head.headers.get_all(header::CONNECTION).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")))
    });
    let token = head.headers.get(header::UPGRADE)?.to_str().ok()?;
    // h2c by upgrade is not offered (RFC 9113, section 3.1 removed it); the request is an ordinary one then.
    (asked && !token.is_empty() && !token.to_ascii_lowercase().starts_with("h2c")).then_some(token)
}

/// A CORS preflight (Fetch standard, "CORS-preflight request") that asks for the tag's header.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
        && headers.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS).iter().any(|value| {
            value
                .to_str()
                .is_ok_and(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case(name::HEADER)))
        })
}

/// Rewrites a head for the next hop: connection headers end here, the target is in origin form, the authority is Host.
pub(crate) fn rewrite(head: &mut request::Parts) {
    hop::strip(&mut head.headers);
    // The edge has answered `Expect: 100-continue` itself by reading the body.
    head.headers.remove(header::EXPECT);
    if head.uri.authority().is_some() {
        // RFC 9112, section 3.2.2: the target's authority counts, not Host. (In HTTP/2 it is `:authority`.)
        if let Some(authority) = head.uri.authority()
            && let Ok(value) = HeaderValue::from_str(host_of(authority.as_str()))
        {
            head.headers.insert(header::HOST, value);
        }
        let path = head.uri.path_and_query().cloned();
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
}

/// The authority without user information.
fn host_of(authority: &str) -> &str {
    authority.rsplit('@').next().unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::BadName;

    fn headers(given: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for &(name, value) in given {
            headers.append(name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn tags() {
        let check = |given: &[&'static [u8]], expected: Result<Option<&str>, BadHeader>| {
            let given: Vec<_> = given.iter().map(|&value| (name::HEADER, value)).collect();
            let found = tag(&headers(&given)).map(|tag| tag.map(|tag| tag.to_string()));
            assert_eq!(found, expected.map(|tag| tag.map(str::to_owned)), "{given:?}");
        };
        check(&[], Ok(None));
        check(&[b"alice:api"], Ok(Some("alice:api")));
        check(&[b" alice:api\t"], Ok(Some("alice:api")));
        check(&[b"alice:api", b"alice:api"], Ok(Some("alice:api")));
        check(&[b"alice:api, alice:api"], Ok(Some("alice:api")));
        check(
            &[b"alice:api", b"bob:api"],
            Err(BadHeader::Two("alice:api".into(), "bob:api".into())),
        );
        check(
            &[b"alice:api,bob:api"],
            Err(BadHeader::Two("alice:api".into(), "bob:api".into())),
        );
        check(&[b"alice:api,"], Err(BadHeader::Two("alice:api".into(), String::new())));
        check(&[b""], Err(BadHeader::Tag(String::new(), BadTag::NoColon)));
        check(
            &[b"Alice:api"],
            Err(BadHeader::Tag("Alice:api".into(), BadTag::User(BadName::UpperCase('A', 1)))),
        );
        check(&[b"\xff:api"], Err(BadHeader::NotText));
    }

    #[test]
    fn upgrades() {
        let check = |given: &[(&'static str, &'static [u8])], expected: Option<&str>| {
            let (mut head, ()) = http::Request::new(()).into_parts();
            head.headers = headers(given);
            assert_eq!(upgrade(&head), expected, "{given:?}");
        };
        check(
            &[("connection", b"keep-alive, Upgrade"), ("upgrade", b"websocket")],
            Some("websocket"),
        );
        check(&[("connection", b"keep-alive"), ("upgrade", b"websocket")], None);
        check(&[("connection", b"upgrade"), ("upgrade", b"h2c")], None);
        check(&[("connection", b"upgrade")], None);
        check(&[("connection", b"upgrade"), ("upgrade", b"echo/1")], Some("echo/1"));
        check(
            &[("connection", b"upgrade"), ("upgrade", b"echo/1"), ("content-length", b"3")],
            None,
        );
    }

    #[test]
    fn rewrites() {
        let check = |uri: &str, host: &'static [u8], target: &str, expected: &str| {
            let (mut head, ()) = http::Request::builder().uri(uri).body(()).unwrap().into_parts();
            head.headers = headers(&[
                ("host", host),
                ("expect", b"100-continue"),
                ("connection", b"x-a"),
                ("x-a", b"1"),
            ]);
            rewrite(&mut head);
            assert_eq!(head.uri.to_string(), target);
            assert_eq!(head.headers.len(), 1);
            assert_eq!(head.headers[header::HOST], expected);
        };
        check("/a?b", b"h:1", "/a?b", "h:1");
        check("http://other:2/a?b", b"h", "/a?b", "other:2");
        check("http://user@other", b"h", "/", "other");
        check("*", b"h", "*", "h");
    }

    #[test]
    fn preflights() {
        let check = |method: Method, asked: &'static [u8], expected: bool| {
            let given = headers(&[
                ("origin", b"http://a"),
                ("access-control-request-method", b"POST"),
                ("access-control-request-headers", asked),
            ]);
            assert_eq!(is_preflight(&method, &given), expected, "{method} {asked:?}");
        };
        check(Method::OPTIONS, b"content-type,x-ephemwork", true);
        check(Method::OPTIONS, b"X-Ephemwork", true);
        check(Method::OPTIONS, b"x-ephemwork-other", false);
        check(Method::GET, b"x-ephemwork", false);
    }
}
