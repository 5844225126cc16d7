//! Uploads in parts, which can be taken up again after they were cut.

use std::time::SystemTime;

use bytes::Bytes;
use http::Method;

use super::super::call::{Ask, Call, Page, Reply, Service, Unreadable, paged};
use super::super::xml;
use super::{Location, Metadata, ask, beside, header};

/// Begins an upload. It costs storage until it is completed or aborted.
#[derive(Clone, Debug)]
pub struct CreateMultipartUpload {
    /// Where.
    pub location: Location,
    /// `application/octet-stream`.
    pub content_type: &'static str,
    /// What is written beside the object.
    pub metadata: Metadata,
}

impl Call for CreateMultipartUpload {
    /// The upload's id.
    type Answer = String;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:PutObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::POST, &self.location);
        ask.query.push(("uploads".to_owned(), String::new()));
        ask.header("content-type", self.content_type.to_owned());
        beside(&mut ask, &self.metadata);
        ask
    }

    fn answer(reply: &Reply) -> Result<String, Unreadable> {
        xml::read(&reply.body, |root| root.need_text("UploadId"))
    }
}

/// Sends a part, in place of one of the number.
#[derive(Clone)]
pub struct UploadPart {
    /// Where.
    pub location: Location,
    /// Of which upload.
    pub upload_id: String,
    /// From 1 to 10,000.
    pub number: u32,
    /// At least 5 MiB, but for the last one.
    pub body: Bytes,
}

impl Call for UploadPart {
    /// The part's etag: its MD5 in quotes, unless the bucket encrypts with KMS.
    type Answer = String;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:PutObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::PUT, &self.location);
        ask.query.push(("partNumber".to_owned(), self.number.to_string()));
        ask.query.push(("uploadId".to_owned(), self.upload_id.clone()));
        ask.body = self.body.clone();
        ask
    }

    fn answer(reply: &Reply) -> Result<String, Unreadable> {
        header(reply, "etag").ok_or_else(|| Unreadable("the answer lacks an etag".to_owned()))
    }
}

/// Lists an upload's parts.
#[derive(Clone, Debug)]
pub struct ListParts {
    /// Where.
    pub location: Location,
    /// Of which upload.
    pub upload_id: String,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// A part that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// Its etag.
    pub etag: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Call for ListParts {
    type Answer = Page<Part>;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:ListMultipartUploadParts";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::GET, &self.location);
        ask.query.push(("uploadId".to_owned(), self.upload_id.clone()));
        if let Some(marker) = &self.next {
            ask.query.push(("part-number-marker".to_owned(), marker.clone()));
        }
        ask
    }

    fn answer(reply: &Reply) -> Result<Page<Part>, Unreadable> {
        xml::read(&reply.body, |root| {
            let parts = root.all("Part").map(|part| {
                Ok(Part {
                    number: part
                        .parsed("PartNumber")?
                        .ok_or_else(|| Unreadable("a part without a number".to_owned()))?,
                    etag: part.need_text("ETag")?,
                    size: part.parsed("Size")?.unwrap_or_default(),
                })
            });
            let truncated = root.parsed("IsTruncated")?.unwrap_or_default();
            Ok(Page {
                items: parts.collect::<Result<Vec<Part>, Unreadable>>()?,
                next: if truncated { root.text("NextPartNumberMarker") } else { None },
            })
        })
    }
}

paged!(ListParts => Part);

/// Lists uploads that were begun and neither completed nor aborted, under a prefix.
#[derive(Clone, Debug)]
pub struct ListMultipartUploads {
    /// In which bucket.
    pub bucket: String,
    /// Where their keys begin.
    pub prefix: String,
    /// The page; see [`crate::aws::Paged`].
    pub next: Option<String>,
}

/// An upload that was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: String,
    /// The key.
    pub key: String,
    /// When.
    pub begun: Option<SystemTime>,
}

/// Between a page's two markers; S3's upload ids have no white space.
const BETWEEN: char = ' ';

impl Call for ListMultipartUploads {
    type Answer = Page<Upload>;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:ListBucketMultipartUploads";

    fn resource(&self) -> Option<String> {
        Some(self.bucket.clone())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(
            Method::GET,
            &Location {
                bucket: self.bucket.clone(),
                key: String::new(),
            },
        );
        ask.query.push(("uploads".to_owned(), String::new()));
        ask.query.push(("prefix".to_owned(), self.prefix.clone()));
        if let Some((upload, key)) = self.next.as_ref().and_then(|next| next.split_once(BETWEEN)) {
            ask.query.push(("key-marker".to_owned(), key.to_owned()));
            ask.query.push(("upload-id-marker".to_owned(), upload.to_owned()));
        }
        ask
    }

    fn answer(reply: &Reply) -> Result<Page<Upload>, Unreadable> {
        xml::read(&reply.body, |root| {
            let uploads = root.all("Upload").map(|upload| {
                Ok(Upload {
                    id: upload.need_text("UploadId")?,
                    key: upload.need_text("Key")?,
                    begun: upload.text("Initiated").and_then(|text| humantime::parse_rfc3339(&text).ok()),
                })
            });
            let truncated = root.parsed("IsTruncated")?.unwrap_or_default();
            let next = || {
                let key = root.text("NextKeyMarker")?;
                Some(format!(
                    "{}{BETWEEN}{key}",
                    root.text("NextUploadIdMarker").unwrap_or_default()
                ))
            };
            Ok(Page {
                items: uploads.collect::<Result<Vec<Upload>, Unreadable>>()?,
                next: if truncated { next() } else { None },
            })
        })
    }
}

paged!(ListMultipartUploads => Upload);

/// Makes an object of an upload's parts, unless there is one already (`PreconditionFailed`).
#[derive(Clone, Debug)]
pub struct CompleteMultipartUpload {
    /// Where.
    pub location: Location,
    /// Which upload.
    pub upload_id: String,
    /// The numbers and etags of all its parts, in order.
    pub parts: Vec<(u32, String)>,
}

impl Call for CompleteMultipartUpload {
    /// The object's etag.
    type Answer = Option<String>;
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:PutObject";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::POST, &self.location);
        ask.query.push(("uploadId".to_owned(), self.upload_id.clone()));
        ask.header("content-type", "application/xml".to_owned());
        ask.header("if-none-match", "*".to_owned());
        let mut body = String::from(r#"<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">"#);
        for (number, etag) in &self.parts {
            let etag = xml::escaped(etag);
            body.push_str(&format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"));
        }
        body.push_str("</CompleteMultipartUpload>");
        ask.body = Bytes::from(body);
        ask
    }

    fn answer(reply: &Reply) -> Result<Option<String>, Unreadable> {
        xml::read(&reply.body, |root| Ok(root.text("ETag")))
    }
}

/// Ends an upload and removes its parts.
#[derive(Clone, Debug)]
pub struct AbortMultipartUpload {
    /// Where.
    pub location: Location,
    /// Which upload.
    pub upload_id: String,
}

impl Call for AbortMultipartUpload {
    type Answer = ();
    const SERVICE: Service = Service::S3;
    const ACTION: &'static str = "s3:AbortMultipartUpload";

    fn resource(&self) -> Option<String> {
        Some(self.location.to_string())
    }

    fn request(&self) -> Ask {
        let mut ask = ask(Method::DELETE, &self.location);
        ask.query.push(("uploadId".to_owned(), self.upload_id.clone()));
        ask
    }

    fn answer(_: &Reply) -> Result<(), Unreadable> {
        Ok(())
    }
}
