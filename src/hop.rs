//! Headers that belong to one connection only and end at each hop (RFC 9110, section 7.6.1).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response};

/// Hop-by-hop whether Connection names them or not. `te: trailers` is kept: it says what the client can take, and gRPC needs it.
const HOP_BY_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Takes them off, with those that Connection names.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named = headers.get_all(header::CONNECTION).iter().any(|value| !is_plain(value));
    if named {
        let names: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
            .filter(|name| !is_kept(name))
            .collect();
        for name in names {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE)
        && te != "trailers"
    {
        let trailers = te
            .to_str()
            .is_ok_and(|te| te.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")));
        headers.remove(header::TE);
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// Takes them off a service's answer, and a length that does not count: beside Transfer-Encoding (RFC 9112, section 6.3) or where
/// there is no body (RFC 9110, section 8.6). Over HTTP/2 it would end the stream.
pub(crate) fn strip_answer(head: &mut response::Parts) {
    if head.status == StatusCode::NO_CONTENT || head.headers.contains_key(header::TRANSFER_ENCODING) {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    strip(&mut head.headers);
}

/// What a client may not take off by naming it in Connection: what says where a message ends or goes, and what the load
/// balancer says about the client.
fn is_kept(name: &HeaderName) -> bool {
    matches!(*name, header::TE | header::HOST | header::CONTENT_LENGTH | header::FORWARDED)
        || name.as_str().starts_with("x-forwarded-")
        || name == crate::name::HEADER
}

/// Names nothing that would have to be taken off.
fn is_plain(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close") || value.eq_ignore_ascii_case(b"upgrade")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips() {
        let check = |given: &[(&str, &str)], expected: &[(&str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(
                    HeaderName::from_bytes(name.as_bytes()).unwrap(),
                    HeaderValue::from_str(value).unwrap(),
                );
            }
            strip(&mut headers);
            let mut found: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                .collect();
            found.sort_unstable();
            assert_eq!(found, expected, "{given:?}");
        };
        check(
            &[("connection", "X-Secret, close"), ("x-secret", "1"), ("a", "b")],
            &[("a", "b")],
        );
        check(&[("connection", "close"), ("connection", "x-y"), ("x-y", "1")], &[]);
        check(
            &[("connection", "host, content-length"), ("host", "h"), ("content-length", "3")],
            &[("content-length", "3"), ("host", "h")],
        );
        check(&[("te", "trailers, deflate;q=0.5")], &[("te", "trailers")]);
        check(
            &[
                ("connection", "X-Forwarded-For, x-ephemwork"),
                ("x-ephemwork", "a:b"),
                ("x-forwarded-for", "1.2.3.4"),
            ],
            &[("x-ephemwork", "a:b"), ("x-forwarded-for", "1.2.3.4")],
        );
        check(&[("te", "gzip")], &[]);
        check(&[("connection", "te"), ("te", "trailers")], &[("te", "trailers")]);
        check(
            &[
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "x"),
                ("upgrade", "h2c"),
                ("transfer-encoding", "chunked"),
            ],
            &[],
        );
        check(&[("connection", ",, ,"), ("a", "b")], &[("a", "b")]);
    }
}
