//! Request targets (RFC 9112, section 3.2): which are taken, and which bytes of them are percent-encoded first.
//!
//! Browsers and other clients send characters that RFC 3986 does not allow, and load balancers pass them on. The HTTP library
//! refuses a few of these, with an answer that says nothing; percent-encoded they mean the same and pass.

use http::Uri;

use super::{Refusal, bad};

/// The longest target, in bytes, encoded: what the HTTP library's type for it holds.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// Not allowed in a target.
const CONTROL: u8 = 1;

/// Needs a closer look.
const ODD: u8 = 2;

const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            0..=b' ' | 0x7f => CONTROL,
            b'"' | b'<' | b'>' | b'`' | 0x80.. => ODD,
            _ => 0,
        };
        byte += 1;
    }
    kinds
};

/// How a target goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    AsItIs,
    /// As [`encoded`] writes it.
    Encoded,
}

const WRONG: Refusal = bad(
    "bad-target",
    "the request's target is not a path, a URL or, with OPTIONS, an asterisk",
);

/// Looks at a target; `asterisk` when `*` is one (OPTIONS).
pub(super) fn check(target: &[u8], asterisk: bool) -> Result<Target, Refusal> {
    let kinds = target.iter().fold(0, |kinds, &byte| kinds | KINDS[usize::from(byte)]);
    if kinds & CONTROL != 0 {
        return Err(bad("bad-request-line", "the request's target has a control character"));
    }
    match target {
        [b'/', ..] if kinds == 0 && target.len() <= MAX_TARGET => return Ok(Target::AsItIs),
        [b'/', ..] => {}
        b"*" if asterisk => return Ok(Target::AsItIs),
        _ if path(target).is_none() => return Err(WRONG),
        _ => {}
    }
    let encoded = encoded(target);
    if encoded.len() > MAX_TARGET {
        return Err(Refusal {
            status: http::StatusCode::URI_TOO_LONG,
            reason: "target-too-long",
            what: "the request's target is longer than 65534 bytes",
        });
    }
    // In an absolute URL also the authority can be wrong.
    match Uri::try_from(&encoded[..]) {
        Ok(_) if encoded == target => Ok(Target::AsItIs),
        Ok(_) => Ok(Target::Encoded),
        Err(_) => Err(WRONG),
    }
}

/// Where the path begins; `None` for what is neither a path nor an absolute URL of HTTP.
fn path(target: &[u8]) -> Option<usize> {
    if target.first() == Some(&b'/') {
        return Some(0);
    }
    let scheme = [&b"http://"[..], b"https://"].into_iter().find(|scheme| {
        target
            .get(..scheme.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    })?;
    let authority = target[scheme.len()..]
        .iter()
        .take_while(|byte| !b"/?#".contains(byte))
        .count();
    Some(scheme.len() + authority)
}

/// The target with those bytes percent-encoded that the HTTP library refuses: `<` and `>`, a backtick in the path, a quote in the
/// query, and, where the whole is not UTF-8, what is not ASCII. A fragment, which is for no server, is dropped.
pub(crate) fn encoded(target: &[u8]) -> Vec<u8> {
    let (before, rest) = target.split_at(path(target).unwrap_or(target.len()));
    let rest = &rest[..memchr::memchr(b'#', rest).unwrap_or(rest.len())];
    let text = std::str::from_utf8(rest).is_ok();
    let query = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    let mut out = before.to_vec();
    for (at, &byte) in rest.iter().enumerate() {
        let refused = match byte {
            b'<' | b'>' => true,
            b'`' => at < query,
            b'"' => at > query,
            0x80.. => !text,
            _ => false,
        };
        if refused {
            out.extend_from_slice(format!("%{byte:02X}").as_bytes());
        } else {
            out.push(byte);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let check = |target: &[u8], expected: Option<&str>| {
            let found = super::check(target, false).ok().map(|found| match found {
                Target::AsItIs => target.to_vec(),
                Target::Encoded => encoded(target),
            });
            assert_eq!(
                found.as_deref(),
                expected.map(str::as_bytes),
                "{}",
                String::from_utf8_lossy(target)
            );
        };
        check(b"/a|b{c}^[d]\"?e=`|{}\\", Some("/a|b{c}^[d]\"?e=`|{}\\"));
        check(b"/a<b>`c?d=\"<`>", Some("/a%3Cb%3E%60c?d=%22%3C`%3E"));
        check("/caf\u{e9}?\u{e9}".as_bytes(), Some("/caf\u{e9}?\u{e9}"));
        check(b"/caf\xe9/\xc3\xa9", Some("/caf%E9/%C3%A9"));
        check(b"/a#b", Some("/a#b"));
        check(b"/a#<\xff", Some("/a"));
        check(b"http://h/<?\"", Some("http://h/%3C?%22"));
        check(b"http://h?<", Some("http://h?%3C"));
        check(b"HTTPS://u:p@[::1]:8/a", Some("HTTPS://u:p@[::1]:8/a"));
        check(b"http://[::1/a", None);
        check(b"http:///a", None);
        check(b"http://h|h/a", None);
        check(b"http://h\xff/a", None);
        check(b"ftp://h/a", None);
        check(b"*", None);
        check(b"a", None);
        check(b"?a", None);
        check(b"/a\x7f", None);
        check(b"/a b", None);
        check(&[b"/", &b"a".repeat(MAX_TARGET)[..]].concat(), None);
        check(&[b"/", &b"<".repeat(MAX_TARGET / 3 + 1)[..]].concat(), None);
    }

    /// What [`KINDS`] and [`encoded`] know of the library is what the library does.
    #[test]
    fn the_library_takes_what_passes() {
        for byte in 0..=255u8 {
            for target in [vec![b'/', byte], vec![b'/', b'?', byte], vec![b'/', 0xc3, 0xa9, byte]] {
                let found = super::check(&target, false);
                let taken = Uri::try_from(&target[..]).is_ok();
                match found {
                    Ok(Target::AsItIs) => assert!(taken, "{target:?}"),
                    Ok(Target::Encoded) => {
                        assert!(!taken && Uri::try_from(&encoded(&target)[..]).is_ok(), "{target:?}");
                    }
                    Err(_) => assert!(byte <= b' ' || byte == 0x7f, "{target:?}"),
                }
            }
        }
    }
}
