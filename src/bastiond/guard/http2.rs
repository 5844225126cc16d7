//! What the HTTP library lets pass in a head of HTTP/2, and what would be read in two ways, or not at all, once it is HTTP/1.1.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Uri};

use super::{MAX_HEAD, Refusal, TOO_LARGE, bad, is_host_byte};

/// What each field counts besides its name and value (RFC 9113, section 6.5.2).
const FIELD: usize = 32;

/// Checks a head and brings it into a form that HTTP/1.1 has, too. `extended` for a CONNECT with `:protocol` (RFC 8441).
pub(crate) fn head(method: &Method, uri: &Uri, headers: &mut HeaderMap, extended: bool) -> Result<(), Refusal> {
    if *method == Method::CONNECT && !extended {
        return Err(bad("no-connect", "CONNECT is for another kind of proxy"));
    }
    let target = uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields: usize = headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD)
        .sum();
    if target + fields > MAX_HEAD {
        return Err(TOO_LARGE);
    }
    if uri.authority().is_none() {
        let mut hosts = headers.get_all(header::HOST).iter();
        let Some(host) = hosts.next() else {
            return Err(bad("no-host", "the request has neither :authority nor a Host header"));
        };
        if hosts.next().is_some() {
            return Err(bad("two-hosts", "the request has two Host headers"));
        }
        if !host.as_bytes().iter().all(|&byte| is_host_byte(byte)) {
            return Err(bad(
                "bad-host",
                "the request's Host is not a host name with or without a port",
            ));
        }
    }
    // The library has made sure that they are equal.
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(length) = headers.get(header::CONTENT_LENGTH).cloned()
    {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    // RFC 9113, section 8.2.3: browsers send each cookie in a field of its own, and only HTTP/2 has that.
    if headers.get_all(header::COOKIE).iter().nth(1).is_some() {
        let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
            headers.insert(header::COOKIE, joined);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let check = |method: Method,
                     uri: &'static str,
                     given: &[(&'static str, &'static str)],
                     expected: Result<&[(&str, &str)], &str>| {
            let mut headers = HeaderMap::new();
            for &(name, value) in given {
                headers.append(name, HeaderValue::from_static(value));
            }
            let found = head(&method, &Uri::from_static(uri), &mut headers, false).map(|()| {
                let mut fields: Vec<_> = headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                    .collect();
                fields.sort_unstable();
                fields
            });
            assert_eq!(
                found.as_deref().map_err(|why| why.reason),
                expected,
                "{method} {uri} {given:?}"
            );
        };
        check(Method::GET, "/", &[("host", "a:1")], Ok(&[("host", "a:1")]));
        check(Method::GET, "http://a/", &[], Ok(&[]));
        check(Method::GET, "/", &[], Err("no-host"));
        check(Method::GET, "/", &[("host", "a"), ("host", "a")], Err("two-hosts"));
        check(Method::GET, "/", &[("host", "a/b")], Err("bad-host"));
        check(Method::CONNECT, "a:1", &[], Err("no-connect"));
        check(
            Method::POST,
            "http://a/",
            &[("content-length", "3"), ("content-length", "3")],
            Ok(&[("content-length", "3")]),
        );
        check(
            Method::GET,
            "http://a/",
            &[("cookie", "a=1"), ("cookie", "b=2")],
            Ok(&[("cookie", "a=1; b=2")]),
        );
        let mut large = HeaderMap::new();
        large.insert("a", HeaderValue::from_str(&"b".repeat(MAX_HEAD)).unwrap());
        let refused = head(&Method::GET, &Uri::from_static("http://a/"), &mut large, false);
        assert_eq!(refused.map_err(|why| why.reason), Err("head-too-large"));
    }
}
