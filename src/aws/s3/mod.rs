//! S3: one object at a time.

mod multipart;
mod objects;

pub use multipart::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, ListMultipartUploads, ListParts, Part, Upload,
    UploadPart,
};
pub use objects::{GetObject, HeadObject, Object, ObjectHead, Over, PutObject};

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use http::Method;

use super::call::{Ask, Reply};
use super::query;

/// An object's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The bucket.
    pub bucket: String,
    /// The key, without a slash before it.
    pub key: String,
}

impl Location {
    /// From `s3://bucket/key`.
    pub fn parse(uri: &str) -> Option<Location> {
        let (bucket, key) = uri.strip_prefix("s3://")?.split_once('/')?;
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
        let named = (3..=63).contains(&bucket.len()) && bucket.bytes().all(fits);
        (named && !key.is_empty() && key.len() <= 1024).then(|| Location {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    }

    /// As policies name it.
    pub fn arn(&self, partition: super::Partition) -> String {
        format!("arn:{}:s3:::{}/{}", partition.name(), self.bucket, self.key)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// What is written beside an object: names in lower case, values in ASCII.
pub type Metadata = BTreeMap<String, String>;

/// S3's prefix of metadata in headers.
const METADATA: &str = "x-amz-meta-";

fn ask(method: Method, location: &Location) -> Ask {
    let key: Vec<String> = location.key.split('/').map(query::encoded).collect();
    Ask {
        method,
        path: format!("/{}/{}", query::encoded(&location.bucket), key.join("/")),
        query: Vec::new(),
        headers: Vec::new(),
        body: Bytes::new(),
    }
}

fn beside(ask: &mut Ask, metadata: &Metadata) {
    for (name, value) in metadata {
        ask.header(format!("{METADATA}{name}"), value);
    }
}

fn header(reply: &Reply, name: &str) -> Option<String> {
    reply.headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn metadata(reply: &Reply) -> Metadata {
    let named = reply.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(METADATA)?;
        Some((name.to_owned(), value.to_str().ok()?.to_owned()))
    });
    named.collect()
}

#[cfg(test)]
mod tests;
