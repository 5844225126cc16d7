//! For tests: what readers do with damaged answers. They may refuse them or read them; they never panic.

use bytes::Bytes;
use http::HeaderMap;

use super::call::{Call, Reply, Unreadable};

/// Bytes that mean something to XML, JSON or numbers.
const MEANINGFUL: &[u8] = b"<>&\"'/=:{}[],-9x\0\xff ";

/// An answer with this body.
pub(super) fn reply(body: impl Into<Bytes>) -> Reply {
    Reply {
        status: 200,
        headers: HeaderMap::new(),
        body: body.into(),
    }
}

/// Reads a good answer, then every beginning of it, and it with bytes changed.
pub(super) fn read<C: Call>(body: &str) -> C::Answer {
    for end in 0..body.len() {
        drop(C::answer(&reply(Bytes::copy_from_slice(&body.as_bytes()[..end]))));
    }
    // A stride that meets every byte of every element's name in the long run, in a time that fits into a test.
    for at in (0..body.len()).step_by(3) {
        let mut bytes = body.as_bytes().to_vec();
        bytes[at] = MEANINGFUL[at % MEANINGFUL.len()];
        drop(C::answer(&reply(bytes)));
    }
    let read: Result<C::Answer, Unreadable> = C::answer(&reply(body.to_owned()));
    match read {
        Ok(answer) => answer,
        Err(why) => panic!("{}: {why}", C::ACTION),
    }
}

/// Answers that have the right shape around what is wrong in it, and those that have none.
pub(super) fn refuse<C: Call>(bodies: &[&str]) {
    for body in bodies {
        assert!(C::answer(&reply((*body).to_owned())).is_err(), "{}: {body}", C::ACTION);
    }
}

/// The fields of a request's form, decoded.
pub(super) fn form(call: &impl Call) -> Vec<(String, String)> {
    let body = call.request().body;
    let text = std::str::from_utf8(&body).unwrap();
    let pair = |field: &str| {
        let (name, value) = field.split_once('=').unwrap();
        (super::query::decoded(name).unwrap(), super::query::decoded(value).unwrap())
    };
    text.split('&').map(pair).collect()
}
