//! A file into a bucket: at once, or in parts that a later run goes on with.
//!
//! S3 does not tell what an upload that was begun is to become, so that is noted beside the file: only an upload of the same bytes
//! to the same place is gone on with. Each part's bytes are signed, so a part that S3 has is what was sent.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use ephemwork::aws::s3::{
    AbortMultipartUpload, CompleteMultipartUpload, CreateMultipartUpload, GetObject, HeadObject, ListMultipartUploads, ListParts,
    Location, ObjectHead, Over, PutObject, UploadPart,
};
use ephemwork::aws::{Aws, Failure};
use ephemwork::error::Error;
use ephemwork::provision::binary::SHA256;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{File, hex};

/// Up to this size a file goes at once, in bytes.
const AT_ONCE: usize = 16 * 1000 * 1000;

/// The size of a part, in bytes. S3 takes at least 5 MiB and at most 10,000 parts.
const PART: usize = 8 * 1024 * 1024;

/// How much of an object is read at once, in bytes.
const STRIDE: u64 = 8 * 1024 * 1024;

/// How old somebody's unfinished upload to the same place is when it is removed: nobody goes on with it any more.
const STALE: Duration = Duration::from_secs(7 * 24 * 3600);

fn told(failure: Failure) -> String {
    Error::from(failure).to_string()
}

/// What an object is; `None` when there is none.
pub(super) async fn head(aws: &Aws, location: &Location) -> Result<Option<ObjectHead>, String> {
    let location = location.clone();
    match aws.call(&HeadObject { location }).await {
        Ok(head) => Ok(Some(head)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) if failure.is_denied() => Err(format!(
            "{}\n  S3 tells whoever may not list a bucket (s3:ListBucket) that a missing object is forbidden",
            told(failure)
        )),
        Err(failure) => Err(told(failure)),
    }
}

/// A small object with its etag; `None` when there is none.
pub(super) async fn get(aws: &Aws, location: &Location) -> Result<Option<(Bytes, String)>, String> {
    let get = GetObject {
        location: location.clone(),
        range: None,
        if_match: None,
    };
    match aws.call(&get).await {
        Ok(object) => Ok(Some((object.body, object.head.etag.unwrap_or_default()))),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(told(failure)),
    }
}

/// An object's sha256, by reading it.
pub(super) async fn digest(aws: &Aws, location: &Location, head: &ObjectHead) -> Result<String, String> {
    let (mut hash, mut at, size) = (Sha256::new(), 0, head.size.unwrap_or_default());
    while at < size {
        let part = GetObject {
            location: location.clone(),
            range: Some((at, STRIDE)),
            if_match: head.etag.clone(),
        };
        let body = aws.call(&part).await.map_err(told)?.body;
        if body.is_empty() {
            return Err(format!("{location} ended at {at} of {size} bytes; run this again"));
        }
        at += body.len() as u64;
        hash.update(&body);
    }
    Ok(hex(&hash.finalize()))
}

/// Uploads a file to where there is nothing.
pub(super) async fn upload(aws: &Aws, location: &Location, file: &File) -> Result<(), String> {
    let begun = Instant::now();
    let done = if file.bytes.len() <= AT_ONCE {
        println!("{location}: uploading {:.2} MB", file.bytes.len() as f64 / 1e6);
        let put = PutObject {
            location: location.clone(),
            body: file.bytes.clone(),
            content_type: "application/octet-stream",
            metadata: super::metadata(file),
            over: Over::Nothing,
        };
        aws.call(&put).await.map(|_| ())
    } else {
        in_parts(aws, location, file).await?
    };
    if let Err(failure) = done {
        // It may have taken effect with its answer lost, or another run was quicker: what is there decides.
        let there = head(aws, location).await?.and_then(|head| head.metadata.get(SHA256).cloned());
        if there.as_ref() != Some(&file.binary.sha256) {
            return Err(told(failure));
        }
    }
    println!(
        "{location}: there after {:.1} s, sha256 {}",
        begun.elapsed().as_secs_f64(),
        file.binary.sha256
    );
    Ok(())
}

/// An upload in parts, as it is noted beside the file.
struct Note(PathBuf);

impl Note {
    fn of(file: &File) -> Note {
        Note(file.path.with_extension("upload.json"))
    }

    fn content(location: &Location, file: &File, upload_id: &str) -> Value {
        json!({"to": location.to_string(), "sha256": file.binary.sha256, "part": PART, "upload": upload_id})
    }

    /// The upload's id, when it is one of these bytes to this place.
    fn read(&self, location: &Location, file: &File) -> Option<String> {
        let noted: Value = serde_json::from_slice(&fs::read(&self.0).ok()?).ok()?;
        let id = noted["upload"].as_str()?.to_owned();
        (noted == Note::content(location, file, &id)).then_some(id)
    }

    fn write(&self, content: &Value) -> Result<(), String> {
        let new = self.0.with_extension("new");
        let write = || {
            fs::write(&new, content.to_string())?;
            fs::rename(&new, &self.0)
        };
        write().map_err(|why| format!("{}: {why}", self.0.display()))
    }

    /// A note that stays does no harm: the upload that it names is gone then.
    fn forget(&self) {
        if let Err(why) = fs::remove_file(&self.0) {
            eprintln!("note: {} stays: {why}", self.0.display());
        }
    }
}

async fn in_parts(aws: &Aws, location: &Location, file: &File) -> Result<Result<(), Failure>, String> {
    let note = Note::of(file);
    let noted = note.read(location, file);
    sweep(aws, location, noted.as_deref()).await;
    let mut have: Vec<(u32, String, u64)> = Vec::new();
    let mut upload_id = None;
    if let Some(id) = noted {
        let list = ListParts {
            location: location.clone(),
            upload_id: id.clone(),
            next: None,
        };
        match aws.all(&list).await {
            Ok(parts) => {
                have = parts.into_iter().map(|part| (part.number, part.etag, part.size)).collect();
                upload_id = Some(id);
            }
            Err(failure) if failure.is_missing() => {}
            Err(failure) => return Err(told(failure)),
        }
    }
    let upload_id = match upload_id {
        Some(id) => id,
        None => {
            let create = CreateMultipartUpload {
                location: location.clone(),
                content_type: "application/octet-stream",
                metadata: super::metadata(file),
            };
            let id = aws.call(&create).await.map_err(told)?;
            note.write(&Note::content(location, file, &id))?;
            id
        }
    };
    let whole = file.bytes.len();
    let (mut parts, mut sent) = (Vec::new(), 0);
    for (number, start) in (1_u32..).zip((0..whole).step_by(PART)) {
        let body = file.bytes.slice(start..(start + PART).min(whole));
        sent += body.len();
        let known = have
            .iter()
            .find(|(known, _, size)| *known == number && *size == body.len() as u64);
        let (etag, how) = match known {
            Some((_, etag, _)) => (etag.clone(), "was there"),
            None => {
                let part = UploadPart {
                    location: location.clone(),
                    upload_id: upload_id.clone(),
                    number,
                    body,
                };
                (aws.call(&part).await.map_err(told)?, "sent")
            }
        };
        parts.push((number, etag));
        println!(
            "{location}: part {number} of {} {how}, {:.1} of {:.1} MB",
            whole.div_ceil(PART),
            sent as f64 / 1e6,
            whole as f64 / 1e6
        );
    }
    let complete = CompleteMultipartUpload {
        location: location.clone(),
        upload_id,
        parts,
    };
    let done = aws.call(&complete).await.map(|_| ());
    if done.is_ok() {
        note.forget();
    }
    Ok(done)
}

/// Removes others' uploads to the same place that nobody goes on with; they cost storage and are seen nowhere. Whoever may not
/// list or remove them is told, and loses nothing.
async fn sweep(aws: &Aws, location: &Location, ours: Option<&str>) {
    let list = ListMultipartUploads {
        bucket: location.bucket.clone(),
        prefix: location.key.clone(),
        next: None,
    };
    let uploads = match aws.all(&list).await {
        Ok(uploads) => uploads,
        Err(failure) => return eprintln!("note: whether old uploads are left behind is not known: {failure}"),
    };
    for upload in uploads {
        let old = |begun: SystemTime| begun.elapsed().is_ok_and(|age| age > STALE);
        if upload.key != location.key || ours == Some(upload.id.as_str()) || !upload.begun.is_some_and(old) {
            continue;
        }
        let abort = AbortMultipartUpload {
            location: location.clone(),
            upload_id: upload.id,
        };
        match aws.call(&abort).await {
            Ok(()) => println!("{location}: an unfinished upload of more than a week ago is removed"),
            Err(failure) => eprintln!("note: an old upload is left behind: {failure}"),
        }
    }
}
