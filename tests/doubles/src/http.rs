//! As much HTTP/1.1 as the double's doors need.

use std::io::{self, Read, Write};

/// The largest head in bytes; a presigned URL with a security token has some 2,000.
const MOST_HEAD: usize = 32 * 1024;
/// The largest body of a request in bytes.
const MOST_BODY: usize = 1024 * 1024;

/// A request's head, and what came behind it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    fields: Vec<(String, String)>,
    pub(crate) rest: Vec<u8>,
}

impl Head {
    /// The first field of this name (lower case).
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(each, _)| each == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether a comma-separated field has this word, in any case.
    pub(crate) fn has(&self, name: &str, word: &str) -> bool {
        let mut values = self.fields.iter().filter(|(each, _)| each == name);
        values.any(|(_, value)| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word)))
    }

    /// Takes a field out.
    pub(crate) fn strip(&mut self, name: &str) {
        self.fields.retain(|(each, _)| each != name);
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    pub(crate) fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }
}

/// The head within `bytes`, `None` while it is not there wholly.
pub(crate) fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return if bytes.len() > MOST_HEAD {
            Err("a head without an end".to_owned())
        } else {
            Ok(None)
        };
    };
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| "a head that is not UTF-8")?;
    let mut lines = text.split("\r\n");
    let start: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, "HTTP/1.1"] = start[..] else {
        return Err(format!("no HTTP/1.1 request: {start:?}"));
    };
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("no header field: {line:?}"))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok(Some(Head {
        method: method.to_owned(),
        target: target.to_owned(),
        fields: lines.map(field).collect::<Result<_, String>>()?,
        rest: bytes[end + 4..].to_vec(),
    }))
}

/// Reads a whole request from a blocking stream; `None` at its end.
pub(crate) fn request(stream: &mut impl Read) -> io::Result<Option<(Head, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 8192];
    let mut found = loop {
        if let Some(found) = head(&bytes).map_err(io::Error::other)? {
            break found;
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            length => bytes.extend(&piece[..length]),
        }
    };
    let length: usize = found
        .field("content-length")
        .map_or(Ok(0), str::parse)
        .map_err(io::Error::other)?;
    if length > MOST_BODY {
        return Err(io::Error::other("a body beyond any test's"));
    }
    let mut body = std::mem::take(&mut found.rest);
    while body.len() < length {
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            length => body.extend(&piece[..length]),
        }
    }
    Ok(Some((found, body)))
}

/// An answer that ends its connection.
pub(crate) fn answer(stream: &mut impl Write, status: u16, kind: &str, body: &str) -> io::Result<()> {
    let reason = match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Refused",
    };
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nx-amzn-RequestId: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        crate::wire::uuid_text(&crate::chance::uuid()),
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    stream.flush()
}

/// Name and value pairs of a query, percent-decoded; the names in their order.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (decoded(name), decoded(value))
        })
        .collect()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = text
            .get(at + 1..at + 3)
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
