//! The doors through which bytes of strangers come in, for fuzz targets and for the test that runs their corpus.
//!
//! Each function takes any bytes and panics when a property does not hold. Nothing else in the program calls them.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri, request};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bastiond::authorize::blocks;
use crate::bastiond::guard::{Guard, MAX_HEADERS, Verdict, encoded};
use crate::bastiond::route;
use crate::config;
use crate::name::{Service, Tag, User};
use crate::protocol::{self, Refusal};
use crate::{ssm, tunnel};

/// Parsing a config ends, and every mistake can be shown: its line is there, its column lies in it, they are in order.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let file = Path::new(config::FILE);
    let mistakes = match config::parse(text, file) {
        Ok(config) => {
            assert!(config.tunnel.listen.ip().is_loopback());
            assert!(config.services.values().all(|service| service.port != 0));
            return;
        }
        Err(mistakes) => mistakes,
    };
    assert!(!mistakes.is_empty() && mistakes.is_sorted());
    let plain = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = plain.split('\n').collect();
    for mistake in &mistakes {
        let end = lines[mistake.line - 1].chars().count() + 1;
        assert!(
            (1..=end).contains(&mistake.column) && mistake.column + mistake.width <= end + 1,
            "{mistake:?}"
        );
    }
    assert!(!config::render(&mistakes, text, file).is_empty());
}

/// A tag that is taken is printed as it came, and both of its halves are taken by themselves.
pub fn tag(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    match Tag::parse(text) {
        Ok(tag) => {
            assert_eq!(tag.to_string(), text);
            assert_eq!(User::parse(tag.user.as_str()), Ok(tag.user.clone()));
            assert_eq!(Service::parse(tag.service.as_str()), Ok(tag.service.clone()));
            assert_eq!(Tag::new(tag.user.clone(), tag.service.clone()), tag);
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
}

/// A block of keys that is read says the same when it is read again from what it was signed over, and nothing of it is made up.
pub fn imds_block(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (found, warnings) = blocks::parse(&text);
    assert!(warnings.iter().all(|warning| !warning.is_empty()));
    for block in found {
        assert!(text.contains(block.signed.trim_end_matches('\n')) && block.signed.ends_with('\n'));
        assert!(!block.signature.is_empty() && text.contains(&block.instance));
        let again = format!("{}{}\n", block.signed, crate::aws::base64::encode(&block.signature));
        assert_eq!(blocks::parse(&again), (vec![block], Vec::new()));
    }
}

/// A message of Session Manager's data channel is read or refused; what is read lies in the bytes. A channel takes it in every
/// state, goes on within its bounds, and says what it says only once.
pub fn ssm_message(bytes: &[u8]) {
    match ssm::Message::parse(Bytes::copy_from_slice(bytes)) {
        Ok(message) => {
            assert!(message.payload.is_empty() || bytes.ends_with(&message.payload));
            assert!(message.acknowledged().is_ok() || message.payload != br#"{"AcknowledgedMessageSequenceNumber":1}"#[..]);
            assert_eq!(message.output().trim(), message.output());
        }
        Err(why) => assert!(!why.to_string().is_empty()),
    }
    let now = Duration::from_secs(1);
    let mut channel = ssm::Channel::new(ssm::Settings::new(ssm::PLAIN_PAYLOAD, 1, [0; 32]));
    channel.connected(now, "token");
    for _ in 0..3 {
        channel.handle_input(now, ssm::Input::Binary(Bytes::copy_from_slice(bytes)));
        channel.send(b"data");
        let transmits = std::iter::from_fn(|| channel.poll_transmit(now)).take(100).count();
        let events = std::iter::from_fn(|| channel.poll_event()).take(100).count();
        assert!(transmits <= 3 && events <= 2, "{transmits} transmits, {events} events");
        channel.handle_timeout(now);
        assert!(channel.recv(1).is_none(), "data without a handshake");
    }
}

/// A message of either side of the control API is taken or refused; what is taken is written as it is read again, and what of it is
/// shown to people is printable. A refusal's words reach the person.
pub fn control(bytes: &[u8]) {
    same_again::<protocol::Claimed>(bytes);
    same_again::<protocol::Release>(bytes);
    same_again::<protocol::Released>(bytes);
    same_again::<protocol::ReleaseUser>(bytes);
    same_again::<protocol::Left>(bytes);
    same_again::<protocol::UsersView>(bytes);
    same_again::<protocol::Sessions>(bytes);
    same_again::<protocol::Event>(bytes);
    same_again::<protocol::Health>(bytes);
    same_again::<Refusal>(bytes);
    if let Some(claim) = same_again::<protocol::Claim>(bytes) {
        for text in [&claim.host, &claim.version] {
            let shown = protocol::shown(text);
            assert!(shown.chars().count() <= protocol::MAX_SHOWN && !shown.contains(char::is_control));
            assert_eq!(protocol::shown(&shown), shown);
        }
        tag(claim.service.as_bytes());
    }
    for status in [StatusCode::CONFLICT, StatusCode::BAD_REQUEST, StatusCode::BAD_GATEWAY] {
        let error = tunnel::link::refused(status, bytes);
        match serde_json::from_slice::<Refusal>(bytes) {
            Ok(refusal) => assert_eq!((error.what, error.why, error.hint), (refusal.what, refusal.why, refusal.hint)),
            Err(_) => assert!(!error.what.is_empty()),
        }
    }
}

fn same_again<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).unwrap_or_default();
    let again: T = serde_json::from_slice(&written).unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&written)));
    assert_eq!(serde_json::to_vec(&again).unwrap_or_default(), written);
    Some(read)
}

/// A published host key that is taken is an ed25519 key without comment or line end, which OpenSSH's format takes too, and it is read
/// again as itself.
pub fn host_key(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(key) = config::host_key(text) else { return };
    assert!(key.starts_with("ssh-ed25519 ") && key.len() == 80 && text.contains(&key[12..]));
    assert_eq!(config::host_key(&key).as_deref(), Some(&*key));
    assert!(tunnel::ssh::fingerprint(&key).starts_with("SHA256:"), "{key}");
}

/// What an agent asks for in the handshake is answered entry by entry, in JSON of a bounded size; a refusal has words.
pub fn ssm_handshake(bytes: &[u8]) {
    if let Some(request) = ssm::Request::parse(bytes) {
        let response = request.response();
        assert!(response.len() <= 16 * 1024, "{}", response.len());
        let read: serde_json::Value = serde_json::from_slice(&response).unwrap_or_default();
        let statuses: Vec<_> = read["ProcessedClientActions"].as_array().into_iter().flatten().collect();
        let asked: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        assert_eq!(Some(statuses.len()), asked["RequestedClientActions"].as_array().map(Vec::len));
        let refused = statuses.iter().any(|entry| entry["ActionStatus"] != 1);
        assert_eq!(
            refused,
            request.refusal().is_some_and(|refusal| !refusal.to_string().is_empty())
        );
    }
    let message = ssm::Complete::parse(bytes).customer_message;
    assert_eq!(message.trim(), message);
}

/// What passes the edge's guard is read in one way: however the bytes are cut, the same ones pass, and the head of each
/// request that passes is taken by the HTTP library and has one framing. Its rewritten head has nothing of its connection left, and stays as it is when rewritten again.
pub fn head(bytes: &[u8]) {
    let (whole, heads) = guarded(bytes, bytes.len());
    for step in [1, 7] {
        let (pieces, _) = guarded(bytes, step);
        assert_eq!(pieces, whole, "in pieces of {step}");
    }
    for head in heads {
        one_head(&head);
    }
}

/// Feeds the guard `step` bytes at a time. How many passed, whether it refused, and the heads that passed.
fn guarded(bytes: &[u8], step: usize) -> ((usize, bool), Vec<Vec<u8>>) {
    let mut guard = Guard::new();
    let mut heads = Vec::new();
    let (mut passed, mut there) = (0, 0);
    while passed < bytes.len() {
        if passed == there {
            there = (there + step.max(1)).min(bytes.len());
        }
        let in_head = guard.in_head();
        match guard.check(&bytes[passed..there]) {
            Verdict::Pass(count) => {
                assert!(count > 0 && passed + count <= there, "{count} of {}", there - passed);
                if in_head && count > 2 {
                    heads.push(bytes[passed..passed + count].to_vec());
                }
                passed += count;
            }
            Verdict::Encode { head, from, to } => {
                assert!(in_head && from < to && to < head && passed + head <= there);
                let head = &bytes[passed..passed + head];
                heads.push([&head[..from], &encoded(&head[from..to]), &head[to..]].concat());
                passed += head.len();
            }
            Verdict::More if there == bytes.len() => break,
            Verdict::More => there = (there + step.max(1)).min(bytes.len()),
            Verdict::Refuse(refusal) => {
                assert!(refusal.status.is_client_error() || refusal.status.is_server_error());
                return ((passed, true), heads);
            }
        }
    }
    ((passed, false), heads)
}

fn one_head(bytes: &[u8]) {
    let Some(mut head) = parsed(bytes) else {
        panic!("the library refuses {:?}", String::from_utf8_lossy(bytes));
    };
    let lengths = head.headers.get_all(header::CONTENT_LENGTH).iter().count();
    let encodings = head.headers.get_all(header::TRANSFER_ENCODING).iter().count();
    assert!(lengths + encodings <= 1, "{:?}", String::from_utf8_lossy(bytes));
    assert!(head.headers.get_all(header::HOST).iter().count() <= 1);
    if let Ok(Some(tag)) = route::tag(&head.headers) {
        assert_eq!(Tag::parse(&tag.to_string()), Ok(tag));
    }
    assert!(route::upgrade(&head).is_none_or(|token| !token.is_empty()));
    assert!(!route::is_preflight(&head.method, &head.headers) || head.method == Method::OPTIONS);
    route::rewrite(&mut head);
    assert!(head.uri.authority().is_none());
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
        "expect",
    ] {
        assert!(!head.headers.contains_key(name), "{name}");
    }
    assert!(head.headers.get_all(header::TE).iter().all(|te| te == "trailers"));
    let once = (head.uri.clone(), head.headers.clone());
    route::rewrite(&mut head);
    assert_eq!((head.uri, head.headers), once);
}

/// As the HTTP library under the edge reads it; `None` for what it refuses.
fn parsed(bytes: &[u8]) -> Option<request::Parts> {
    let mut room = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut read = httparse::Request::new(&mut room);
    let complete = read.parse(bytes).ok()?.is_complete();
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = Method::from_bytes(read.method.filter(|_| complete)?.as_bytes()).ok()?;
    head.uri = read.path?.parse::<Uri>().ok()?;
    head.version = if read.version? == 1 {
        http::Version::HTTP_11
    } else {
        http::Version::HTTP_10
    };
    for header in read.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        head.headers.append(name, HeaderValue::from_bytes(header.value).ok()?);
    }
    Some(head)
}
