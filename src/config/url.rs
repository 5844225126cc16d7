//! `tunnel.staging_url`: an origin and nothing more.

use std::fmt;
use std::net::Ipv6Addr;

/// How to talk to staging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP; port 80 when none is given.
    Http,
    /// HTTP over TLS; port 443 when none is given.
    Https,
}

/// Where untagged requests go in local mode: scheme, host and port. A path, a query or a user name would have to
/// be mixed into every request, so they are refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagingUrl {
    /// `http` or `https`.
    pub scheme: Scheme,
    /// A host name in lower case, an IPv4 address, or an IPv6 address without its brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

/// Why a text is not a [`StagingUrl`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadUrl {
    /// It does not begin with `http://` or `https://`.
    Scheme,
    /// There is no host.
    NoHost,
    /// The host is neither a name nor an address.
    Host(String),
    /// The port is not a number from 1 to 65535.
    Port(String),
    /// There is a user name or a password in it.
    Login,
    /// There is something behind the host and port.
    Path(String),
}

impl Scheme {
    /// The port that is meant when none is written.
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// As it stands before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

impl StagingUrl {
    /// Takes `http://HOST[:PORT]` or `https://HOST[:PORT]`; one `/` behind it is allowed, because browsers copy it so.
    pub fn parse(text: &str) -> Result<StagingUrl, BadUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(BadUrl::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, behind) = rest.split_at(end);
        if authority.contains('@') {
            return Err(BadUrl::Login);
        }
        if !matches!(behind, "" | "/") {
            return Err(BadUrl::Path(behind.to_owned()));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, behind) = rest.split_once(']').ok_or_else(|| BadUrl::Host(authority.to_owned()))?;
                let address: Ipv6Addr = host.parse().map_err(|_| BadUrl::Host(host.to_owned()))?;
                match behind {
                    "" => (address.to_string(), None),
                    _ => {
                        let port = behind.strip_prefix(':').ok_or_else(|| BadUrl::Host(authority.to_owned()))?;
                        (address.to_string(), Some(port))
                    }
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host_name(host)?, Some(port)),
                None => (host_name(authority)?, None),
            },
        };
        let port = match port {
            None => scheme.default_port(),
            Some(text) => port_number(text).ok_or_else(|| BadUrl::Port(text.to_owned()))?,
        };
        Ok(StagingUrl { scheme, host, port })
    }

    /// What a `Host` header says: the port only when it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == self.scheme.default_port() {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

/// Digits only (`u16::from_str` would take a `+`), 1 to 65535.
pub(super) fn port_number(text: &str) -> Option<u16> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|&port| port != 0)
}

/// RFC 1123's shape, and `_`, which container networks use.
fn host_name(text: &str) -> Result<String, BadUrl> {
    if text.is_empty() {
        return Err(BadUrl::NoHost);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let fine = text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label);
    if fine {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(BadUrl::Host(text.to_owned()))
    }
}

impl fmt::Display for StagingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Display for BadUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadUrl::Scheme => write!(f, "it must begin with http:// or https://"),
            BadUrl::NoHost => write!(f, "there is no host in it"),
            BadUrl::Host(host) => write!(f, "{host:?} is neither a host name nor an address"),
            BadUrl::Port(port) => write!(f, "the port {port:?} is not a number from 1 to 65535"),
            BadUrl::Login => write!(f, "a user name or password does not belong in it"),
            BadUrl::Path(path) => write!(f, "{path:?} is too much: requests keep their own path and query"),
        }
    }
}

impl std::error::Error for BadUrl {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn staging_urls() {
        let check = |text: &str, expected: Result<(&str, &str, u16), BadUrl>| {
            let found = StagingUrl::parse(text).map(|url| (url.to_string(), url.host.clone(), url.port));
            let expected = expected.map(|(shown, host, port)| (shown.to_owned(), host.to_owned(), port));
            assert_eq!(found, expected, "{text:?}");
        };
        check("", Err(BadUrl::Scheme));
        check("staging.example.com", Err(BadUrl::Scheme));
        check("ftp://a", Err(BadUrl::Scheme));
        check("http://", Err(BadUrl::NoHost));
        check("http:///x", Err(BadUrl::Path("/x".into())));
        check("http://a b", Err(BadUrl::Host("a b".into())));
        check("http://-a", Err(BadUrl::Host("-a".into())));
        check("http://a..b", Err(BadUrl::Host("a..b".into())));
        check("http://[::1", Err(BadUrl::Host("[::1".into())));
        check("http://[::g]", Err(BadUrl::Host("::g".into())));
        check("http://[::1]8", Err(BadUrl::Host("[::1]8".into())));
        check("http://::1", Err(BadUrl::NoHost));
        check("http://a:", Err(BadUrl::Port("".into())));
        check("http://a:0", Err(BadUrl::Port("0".into())));
        check("http://a:+8", Err(BadUrl::Port("+8".into())));
        check("http://a:65536", Err(BadUrl::Port("65536".into())));
        check("https://u:p@a", Err(BadUrl::Login));
        check("https://a/v1", Err(BadUrl::Path("/v1".into())));
        check("https://a?x=1", Err(BadUrl::Path("?x=1".into())));
        check("http://a", Ok(("http://a", "a", 80)));
        check(
            "HTTPS://Staging.Example.COM/",
            Ok(("https://staging.example.com", "staging.example.com", 443)),
        );
        check("https://a:8443", Ok(("https://a:8443", "a", 8443)));
        check("http://my_api:80", Ok(("http://my_api", "my_api", 80)));
        check("http://127.0.0.1:9000", Ok(("http://127.0.0.1:9000", "127.0.0.1", 9000)));
        check("http://[0:0::1]:9000", Ok(("http://[::1]:9000", "::1", 9000)));
    }
}
