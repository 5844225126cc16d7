//! What the bastion runs: the object's digest and processor, from the metadata that `xtask release` writes, else from the object.

use sha2::{Digest as _, Sha256};

use super::desired::Architecture;
use super::names::hex;
use crate::aws::s3::{GetObject, HeadObject, Location, ObjectHead};
use crate::aws::{Aws, Failure};
use crate::config::S3Uri;
use crate::error::{Error, Exit, Result};

/// The metadata that holds the sha256, in lower case hexadecimal.
pub const SHA256: &str = "sha256";
/// The metadata that holds the processor, `arm64` or `x86_64`.
pub const ARCHITECTURE: &str = "architecture";
/// The metadata that holds the version.
pub const VERSION: &str = "version";

/// The longest object that is read, in bytes: ten times a release.
const MAX_BYTES: u64 = 128 << 20;
/// How much of it is read at once, in bytes.
const STRIDE: u64 = 8 << 20;

/// An uploaded binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binary {
    pub sha256: String,
    pub architecture: Architecture,
    /// As `xtask release` wrote it.
    pub version: Option<String>,
}

/// Looks at the object.
///
/// # Errors
/// It is not there or not readable, or is no program for Linux.
pub async fn look(aws: &Aws, uri: &S3Uri) -> Result<Binary> {
    let location = Location {
        bucket: uri.bucket.clone(),
        key: uri.key.clone(),
    };
    let head = HeadObject {
        location: location.clone(),
    };
    let (aws, head) = match aws.call(&head).await {
        Ok(answer) => (aws.clone(), answer),
        Err(failure) => {
            // S3 says where the bucket is in a header of the refusal, so that nobody needs a right to ask.
            let Some(region) = failure.bucket_region.clone().filter(|_| failure.is_elsewhere()) else {
                return Err(absent(uri, failure));
            };
            let aws = aws.in_region(&region);
            let answer = aws.call(&head).await.map_err(|failure| absent(uri, failure))?;
            (aws, answer)
        }
    };
    match of_metadata(&head) {
        Some(binary) => Ok(binary),
        None => read(&aws, uri, location, &head).await,
    }
}

fn absent(uri: &S3Uri, failure: Failure) -> Error {
    let hint = "upload one: cargo xtask release --bucket BUCKET, which prints the URI to give as --bastion-binary-s3-uri";
    if failure.is_missing() {
        return Error::new(Exit::Config, format!("there is no object {uri}"))
            .because(failure)
            .hint(hint);
    }
    let denied = failure.is_denied();
    let error = Error::from(failure);
    if denied {
        // S3 tells who may not list the bucket that a missing object is forbidden.
        return error.hint(format!("it may also be that {uri} does not exist; {hint}"));
    }
    error
}

fn of_metadata(head: &ObjectHead) -> Option<Binary> {
    let sha256 = head.metadata.get(SHA256)?;
    let digits = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    Some(Binary {
        sha256: digits.then(|| sha256.clone())?,
        architecture: Architecture::parse(head.metadata.get(ARCHITECTURE)?)?,
        version: head.metadata.get(VERSION).cloned(),
    })
}

async fn read(aws: &Aws, uri: &S3Uri, location: Location, head: &ObjectHead) -> Result<Binary> {
    let size = head.size.unwrap_or_default();
    if size > MAX_BYTES {
        let what = format!("{uri} has {size} bytes, and at most {MAX_BYTES} are read");
        return Err(Error::new(Exit::Config, what).hint("name the program itself, not an archive or an image"));
    }
    let (mut hash, mut first, mut at) = (Sha256::new(), Vec::new(), 0);
    while at < size {
        let part = GetObject {
            location: location.clone(),
            range: Some((at, STRIDE.min(size - at))),
            if_match: head.etag.clone(),
        };
        let body = aws.call(&part).await?.body;
        if body.is_empty() {
            return Err(Error::new(Exit::Unreachable, format!("{uri} ended at {at} of {size} bytes")));
        }
        if at == 0 {
            first = body[..body.len().min(64)].to_vec();
        }
        at += body.len() as u64;
        hash.update(&body);
    }
    let architecture = of_elf(&first).ok_or_else(|| {
        Error::new(Exit::Config, format!("{uri} is no program for Linux on arm64 or x86_64"))
            .because("it does not begin with such an ELF header")
            .hint("upload one: cargo xtask release --bucket BUCKET")
    })?;
    Ok(Binary {
        sha256: hex(&hash.finalize()),
        architecture,
        version: None,
    })
}

/// The processor of a 64-bit little-endian ELF file (System V ABI, "ELF Header").
fn of_elf(bytes: &[u8]) -> Option<Architecture> {
    if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
        return None;
    }
    match bytes.get(18..20)? {
        [0xb7, 0] => Some(Architecture::Arm64),
        [0x3e, 0] => Some(Architecture::X86_64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        let elf = |machine: u8| [b"\x7fELF\x02\x01".as_slice(), &[0; 12], &[machine, 0], &[0; 44]].concat();
        let check = |bytes: &[u8], expected: Option<Architecture>| assert_eq!(of_elf(bytes), expected, "{bytes:?}");
        check(b"", None);
        check(b"\x7fELF\x02\x01", None);
        check(b"#!/bin/sh\necho this is not a program at all\n", None);
        check(&elf(0x28), None);
        check(&elf(0xb7), Some(Architecture::Arm64));
        check(&elf(0x3e), Some(Architecture::X86_64));
    }

    #[test]
    fn metadata() {
        let check = |metadata: &[(&str, &str)], fits: bool| {
            let head = ObjectHead {
                size: Some(1),
                etag: None,
                metadata: metadata
                    .iter()
                    .map(|&(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            };
            assert_eq!(of_metadata(&head).is_some(), fits, "{metadata:?}");
        };
        let digest = "ab".repeat(32);
        check(&[], false);
        check(&[("sha256", &digest)], false);
        check(&[("sha256", "$(reboot)"), ("architecture", "arm64")], false);
        check(&[("sha256", &digest), ("architecture", "riscv")], false);
        check(&[("sha256", &digest), ("architecture", "arm64")], true);
    }
}
