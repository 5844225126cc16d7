//! WebSockets that come over HTTP/2 (RFC 8441) and go on over HTTP/1.1 (RFC 6455): only the latter has a key and its confirmation.

use http::header::{self, HeaderMap, HeaderValue};

/// The alphabet of RFC 4648, section 4.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Adds a key to a request that has none.
pub(super) fn ask(headers: &mut HeaderMap, token: &str) {
    if token.eq_ignore_ascii_case("websocket") && !headers.contains_key(header::SEC_WEBSOCKET_KEY) {
        let mut random = [0; 16];
        // What comes of it is a key all the same; it protects caches against clients, not anybody here.
        if let Err(why) = getrandom::fill(&mut random) {
            tracing::debug!("no random key for a WebSocket: {why}");
        }
        headers.insert(header::SEC_WEBSOCKET_KEY, key(&random));
    }
}

/// Takes the confirmation off the answer.
pub(super) fn confirmed(headers: &mut HeaderMap) {
    headers.remove(header::SEC_WEBSOCKET_ACCEPT);
}

fn key(random: &[u8; 16]) -> HeaderValue {
    let mut text = Vec::with_capacity(24);
    for three in random.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            text.push(if digit <= three.len() {
                BASE64[(bits >> (18 - 6 * digit)) as usize & 63]
            } else {
                b'='
            });
        }
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        // RFC 6455, section 1.3.
        assert_eq!(key(b"the sample nonce"), "dGhlIHNhbXBsZSBub25jZQ==");
        let mut headers = HeaderMap::new();
        ask(&mut headers, "other");
        assert!(headers.is_empty());
        ask(&mut headers, "websocket");
        assert_eq!(headers[header::SEC_WEBSOCKET_KEY].len(), 24);
    }
}
