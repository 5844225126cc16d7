//! Whether a presigned query (AWS Signature Version 4) is the one that its key gives. Written for the endpoint's only request.

use std::collections::BTreeMap;

use ring::hmac;
use sha2::{Digest as _, Sha256};

use crate::chance::hex;
use crate::http;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const SERVICE: &str = "ec2-instance-connect";
/// What X-Amz-Expires has to be, in seconds.
const EXPIRES: u64 = 60;
/// How far ahead of ours the signer's clock may be, in seconds.
const AHEAD: u64 = 300;

/// A query, taken apart.
#[derive(Debug)]
pub(crate) struct Presigned {
    pub(crate) key: String,
    pub(crate) token: Option<String>,
    /// The parameters that are not the signature's.
    pub(crate) parameters: BTreeMap<String, String>,
    /// Seconds since the epoch.
    signed_at: u64,
    scope: String,
    text: String,
    signature: String,
}

impl Presigned {
    /// Reads `GET path?query` to `host`.
    pub(crate) fn parse(path: &str, query: &str, host: &str) -> Result<Presigned, String> {
        let mut all = BTreeMap::new();
        for (name, value) in http::pairs(query) {
            if all.insert(name.clone(), value).is_some() {
                return Err(format!("{name} is there twice"));
            }
        }
        let mut take = |name: &str| all.remove(name).ok_or_else(|| format!("{name} is missing"));
        let signature = take("X-Amz-Signature")?;
        let mut signed: Vec<String> = http::pairs(query)
            .iter()
            .filter(|(name, _)| name != "X-Amz-Signature")
            .map(|(name, value)| format!("{}={}", encoded(name), encoded(value)))
            .collect();
        signed.sort();
        let (algorithm, expires, headers) = (take("X-Amz-Algorithm")?, take("X-Amz-Expires")?, take("X-Amz-SignedHeaders")?);
        if algorithm != ALGORITHM || expires != EXPIRES.to_string() || headers != "host" {
            return Err(format!(
                "X-Amz-Algorithm {algorithm:?}, X-Amz-Expires {expires:?}, X-Amz-SignedHeaders {headers:?}; \
                 expected {ALGORITHM}, {EXPIRES}, host"
            ));
        }
        let (credential, date) = (take("X-Amz-Credential")?, take("X-Amz-Date")?);
        let (key, scope) = credential.split_once('/').ok_or("X-Amz-Credential has no scope")?;
        let parts: Vec<&str> = scope.split('/').collect();
        let [day, _region, SERVICE, "aws4_request"] = parts[..] else {
            return Err(format!("the scope is {scope:?}, not DAY/REGION/{SERVICE}/aws4_request"));
        };
        if date.get(..8) != Some(day) {
            return Err(format!("X-Amz-Date {date} is not of the scope's day {day}"));
        }
        let canonical = format!(
            "GET\n{path}\n{}\nhost:{host}\n\nhost\n{}",
            signed.join("&"),
            hex(&Sha256::digest(b""))
        );
        let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        Ok(Presigned {
            key: key.to_owned(),
            token: all.remove("X-Amz-Security-Token"),
            signed_at: seconds(&date).ok_or_else(|| format!("X-Amz-Date is {date:?}"))?,
            scope: scope.to_owned(),
            text,
            signature,
            parameters: all,
        })
    }

    /// Whether `secret` gives this signature.
    pub(crate) fn verifies(&self, secret: &str) -> bool {
        let first = format!("AWS4{secret}").into_bytes();
        let key = self.scope.split('/').fold(first, |key, part| mac(&key, part));
        hex(&mac(&key, &self.text)) == self.signature
    }

    /// Whether it can be used at this time (seconds since the epoch).
    pub(crate) fn in_time(&self, now: u64) -> bool {
        now <= self.signed_at + EXPIRES && self.signed_at <= now + AHEAD
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// `20260102T030405Z` in seconds since the epoch.
fn seconds(date: &str) -> Option<u64> {
    let (bytes, number) = (date.as_bytes(), |from: usize, to: usize| {
        date.get(from..to)?.parse::<u64>().ok()
    });
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    // Days since 1970 of a day in the proleptic Gregorian calendar, years beginning in March.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day.checked_sub(1)?;
    let days = days.checked_sub(719_468)?;
    Some(((days * 24 + number(9, 11)?) * 60 + number(11, 13)?) * 60 + number(13, 15)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(seconds("19700101T000000Z"), Some(0));
        assert_eq!(seconds("20000229T120000Z"), Some(951_825_600));
        assert_eq!(seconds("20261122T083000Z"), Some(1_795_336_200));
        assert_eq!(seconds("20261122083000Z"), None);
        assert_eq!(seconds("20261122T0830é0Z"), None);
    }

    /// Computed once with botocore's SigV4QueryAuth.
    #[test]
    fn botocore_agrees() {
        // See the test of the whole double with botocore in tests/it/ssm_double.rs; here only that a change is noticed.
        let query = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20260102%2Feu-west-1%2Fec2-instance-connect%2F\
                     aws4_request&X-Amz-Date=20260102T030405Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&remotePort=22&\
                     X-Amz-Signature=00";
        let parsed = Presigned::parse("/openTunnel", query, "localhost:1").unwrap();
        assert_eq!(parsed.key, "AKIA");
        assert!(!parsed.verifies("secret"));
        assert!(parsed.in_time(parsed.signed_at + 60) && !parsed.in_time(parsed.signed_at + 61));
    }
}
