//! Objects, whole.

use bytes::Bytes;
use http::Method;

use super::super::call::{Ask, Call, Reply, Service, Unreadable};
use super::{Location, Metadata, ask, beside, header, metadata};

/// Asks what an object is. Whoever may not list the bucket hears 403 of one that is not there.
#[derive(Clone, Debug)]
pub struct HeadObject {
    /// Which.
    pub location: Location,
}

/// What an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Changes whenever the object does.
    pub etag: Option<String>,
    /// What was written beside it.
    pub metadata: Metadata,
}

fn head(reply: &Reply) -> ObjectHead {
    ObjectHead {
        size: header(reply, "content-length").and_then(|size| size.parse().ok()),
        etag: header(reply, "etag"),
        metadata: metadata(reply),
    }
}

impl Call for HeadObject {
    type Answer = ObjectHead;
    const SERVICE: Service = Service::S3;
    /// HEAD has no right of its own.
    const ACTION: &'static str = "s3:GetObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        ask(Method::HEAD, &self.location)
    }

    fn answer(reply: &Reply) -> Result<ObjectHead, Unreadable> {
        Ok(head(reply))
    }
}

/// Reads an object, or a part of it. It comes whole into memory: ask for large ones by parts.
#[derive(Clone, Debug)]
pub struct GetObject {
    /// Which.
    pub location: Location,
    /// The first byte and how many; `None` is all. Less comes where the object ends.
    pub range: Option<(u64, u64)>,
    /// Only if it still has this etag, else 412.
    pub if_match: Option<String>,
}

/// An object, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The bytes.
    pub body: Bytes,
    /// What it is; the size is that of the bytes.
    pub head: ObjectHead,
    /// The size of the whole object, when a part was asked for.
    pub whole: Option<u64>,
}

impl Call for GetObject {
    type Answer = Object;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:GetObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::GET, &self.location);
        if let Some((start, length)) = self.range {
            let last = start.saturating_add(length.max(1)) - 1;
            ask.header("range", format!("bytes={start}-{last}"));
        }
        if let Some(etag) = &self.if_match {
            ask.header("if-match", etag.clone());
        }
        ask
    }

    fn answer(reply: &Reply) -> Result<Object, Unreadable> {
        let range = header(reply, "content-range");
        Ok(Object {
            body: reply.body.clone(),
            head: head(reply),
            whole: range.and_then(|range| range.rsplit('/').next()?.parse().ok()),
        })
    }
}

/// Writes an object, if what is there is as expected (else `PreconditionFailed`).
#[derive(Clone)]
pub struct PutObject {
    /// Where.
    pub location: Location,
    /// What.
    pub body: Bytes,
    /// `application/json`.
    pub content_type: &'static str,
    /// What is written beside it.
    pub metadata: Metadata,
    /// What has to be there.
    pub over: Over,
}

/// What has to be there for something to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    Nothing,
    /// An object with this etag.
    Etag(String),
}

impl Call for PutObject {
    /// The etag.
    type Answer = Option<String>;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:PutObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::PUT, &self.location);
        ask.body = self.body.clone();
        ask.header("content-type", self.content_type.to_owned());
        match &self.over {
            Over::Nothing => ask.header("if-none-match", "*"),
            Over::Etag(etag) => ask.header("if-match", etag),
        }
        beside(&mut ask, &self.metadata);
        ask
    }

    fn answer(reply: &Reply) -> Result<Option<String>, Unreadable> {
        Ok(header(reply, "etag"))
    }
}
