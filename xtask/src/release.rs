//! `cargo xtask release`: the static binaries into a bucket, with what `bastion init` and `upgrade` want to know of them.
//!
//! A version has one binary a target, for ever: what is there is compared, never written over. Cut anywhere and run again.

mod manifest;
mod provision;
mod upload;

use std::fs;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use bytes::Bytes;
use ephemwork::aws::s3::{HeadObject, Location, ObjectHead, Over, PutObject};
use ephemwork::aws::{Aws, Place};
use ephemwork::host::Host;
use ephemwork::provision::binary::{ARCHITECTURE, SHA256, VERSION};
use ephemwork::rt;
use serde_json::Value;
use sha2::{Digest, Sha256};

use manifest::{Binary, Manifest};

/// What a bastion runs on, by default: one for each of EC2's processors.
const TARGETS: &[&str] = &["aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"];

/// Where the objects' keys begin, by default.
const PREFIX: &str = "ephemwork";

/// How often the manifest is read and written again when another release changes it at the same time.
const MANIFEST_TRIES: usize = 5;

/// build the static binaries and put them into an S3 bucket, with their sha256 and a manifest; a version's binary is never
/// replaced by another. Example: cargo xtask release --bucket shop-releases --dry-run
#[derive(FromArgs)]
#[argh(subcommand, name = "release")]
pub(crate) struct Arguments {
    /// the bucket
    #[argh(option)]
    bucket: String,
    /// where the objects' keys begin (default: ephemwork)
    #[argh(option, default = "PREFIX.to_owned()")]
    prefix: String,
    /// targets with commas between them (default: aarch64-unknown-linux-musl,x86_64-unknown-linux-musl)
    #[argh(option)]
    targets: Option<String>,
    /// take the files that `cargo xtask dist` wrote from this directory instead of building
    #[argh(option)]
    from: Option<PathBuf>,
    /// say what would be done, and do nothing
    #[argh(switch)]
    dry_run: bool,
    /// then upgrade the bastion of the ephemwork.toml here to what was uploaded
    #[argh(switch)]
    provision: bool,
    /// the bucket's and the bastion's region (default: AWS_REGION, then the profile's)
    #[argh(option)]
    region: Option<String>,
    /// the profile (default: AWS_PROFILE)
    #[argh(option)]
    profile: Option<String>,
}

/// A file to be released.
#[derive(Clone, Debug)]
struct File {
    binary: Binary,
    path: PathBuf,
    bytes: Bytes,
    version: String,
}

pub(crate) fn main(host: &Host, arguments: &Arguments) -> Result<(), String> {
    let targets = targets(arguments.targets.as_deref())?;
    for target in &targets {
        if architecture(target).is_none() {
            return Err(format!("no bastion runs on {target}; it runs on Linux on aarch64 and x86_64"));
        }
    }
    let prefix = arguments.prefix.trim_matches('/');
    let place = format!("s3://{}/{prefix}/{}/x", arguments.bucket, env!("CARGO_PKG_VERSION"));
    if prefix.is_empty() || Location::parse(&place).is_none() {
        return Err(format!(
            "s3://{}/{prefix} cannot be a place: a bucket's name has 3 to 63 lower case letters, digits, hyphens and dots, and a prefix is not empty",
            arguments.bucket
        ));
    }
    let directory = match &arguments.from {
        Some(directory) => host.directory.join(directory),
        None => crate::top().join("dist"),
    };
    if arguments.from.is_none() {
        if arguments.dry_run {
            for target in &targets {
                println!("dry run: would build for {target}");
                if let Some(missing) = crate::dist::missing_for(target)? {
                    println!("dry run: that needs something first: {missing}");
                }
            }
        } else {
            for target in &targets {
                crate::dist::build(host, target)?;
            }
        }
    }
    let mut files = Vec::new();
    for target in &targets {
        match read(&directory, target) {
            Ok(file) => files.push(file),
            // What is not built yet is no reason to say nothing of the rest.
            Err(_) if arguments.dry_run && arguments.from.is_none() => {
                let version = env!("CARGO_PKG_VERSION");
                let (bucket, name) = (&arguments.bucket, format!("ephemwork-{target}"));
                println!("dry run: would upload s3://{bucket}/{prefix}/{version}/{name}, which is not built yet");
            }
            Err(why) if arguments.dry_run => println!("dry run: {why}"),
            Err(why) => return Err(why),
        }
    }
    let [first, rest @ ..] = files.as_slice() else { return Ok(()) };
    if let Some(other) = rest.iter().find(|file| file.version != first.version) {
        return Err(format!(
            "{} is of version {}, {} of {}; build them again",
            first.path.display(),
            first.version,
            other.path.display(),
            other.version
        ));
    }
    let place = Place {
        region: arguments.region.clone(),
        profile: arguments.profile.clone(),
    };
    let release = async {
        let aws = Aws::open(host, &place).await.map_err(|why| why.to_string())?;
        let shelf = Shelf {
            aws: home(aws, &arguments.bucket).await?,
            bucket: arguments.bucket.clone(),
            folder: format!("{prefix}/{}", first.version),
        };
        shelf.release(&files, arguments.dry_run).await?;
        if arguments.provision {
            provision::upgrade(host, &place, &shelf, &files, arguments.dry_run).await?;
        }
        Ok(())
    };
    rt::block_on(release).map_err(|why| why.to_string())?
}

fn targets(given: Option<&str>) -> Result<Vec<String>, String> {
    let Some(given) = given else {
        return Ok(TARGETS.iter().map(|&target| target.to_owned()).collect());
    };
    let mut targets: Vec<String> = given.split(',').map(|target| target.trim().to_owned()).collect();
    targets.dedup();
    match targets.iter().any(String::is_empty) {
        true => Err(format!("--targets {given:?}: a target is empty")),
        false => Ok(targets),
    }
}

/// EC2's name for a target's processor; `None` where no bastion runs.
fn architecture(target: &str) -> Option<&'static str> {
    if !target.contains("-linux-") {
        return None;
    }
    match target.split('-').next() {
        Some("aarch64") => Some("arm64"),
        Some("x86_64") => Some("x86_64"),
        _ => None,
    }
}

/// Reads what `cargo xtask dist` wrote; the bytes count, not what is said of them.
fn read(directory: &Path, target: &str) -> Result<File, String> {
    let name = format!("ephemwork-{target}");
    let path = directory.join(&name);
    let unread = |path: &Path, why: &dyn std::fmt::Display| {
        format!("{}: {why}. Build it: cargo xtask dist --target {target}", path.display())
    };
    let bytes = fs::read(&path).map_err(|why| unread(&path, &why))?;
    let about = path.with_file_name(format!("{name}.json"));
    let about_text = fs::read_to_string(&about).map_err(|why| unread(&about, &why))?;
    let said: Value = serde_json::from_str(&about_text).map_err(|why| unread(&about, &why))?;
    let sha256 = hex(&Sha256::digest(&bytes));
    if said["sha256"].as_str() != Some(&sha256) {
        return Err(unread(&path, &"it is not the file that its .json tells of"));
    }
    let text = |key: &str| match said[key].as_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(unread(&about, &format!("it lacks {key:?}"))),
    };
    Ok(File {
        binary: Binary {
            target: target.to_owned(),
            architecture: architecture(target).unwrap_or_default().to_owned(),
            file: name,
            size: bytes.len() as u64,
            sha256,
            program: text("program")?,
        },
        version: text("version")?,
        path,
        bytes: Bytes::from(bytes),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The caller in the bucket's own region: a bucket is written to nowhere else.
async fn home(aws: Aws, bucket: &str) -> Result<Aws, String> {
    let probe = HeadObject {
        location: Location {
            bucket: bucket.to_owned(),
            key: "ephemwork".to_owned(),
        },
    };
    match aws.call(&probe).await {
        Err(failure) if failure.is_elsewhere() => match &failure.bucket_region {
            Some(region) => Ok(aws.in_region(region)),
            None => Err(ephemwork::error::Error::from(failure).to_string()),
        },
        // Whether the caller may use it is seen by what is done next.
        _ => Ok(aws),
    }
}

/// A version's place in a bucket.
pub(crate) struct Shelf {
    aws: Aws,
    bucket: String,
    /// Before each key, without a slash at its end.
    folder: String,
}

/// What is at a binary's place.
#[derive(Debug, PartialEq, Eq)]
enum There {
    Nothing,
    Same,
    Other(String),
}

impl Shelf {
    fn location(&self, name: &str) -> Location {
        Location {
            bucket: self.bucket.clone(),
            key: format!("{}/{name}", self.folder),
        }
    }

    /// Looks at all first: nothing is written when one of them may not be.
    async fn release(&self, files: &[File], dry_run: bool) -> Result<(), String> {
        let mut missing = Vec::new();
        for file in files {
            let location = self.location(&file.binary.file);
            let size = file.bytes.len() as f64 / 1e6;
            match self.there(&location, &file.binary.sha256).await? {
                There::Nothing => missing.push(file),
                There::Same => println!("{location}: there already, sha256 {}", file.binary.sha256),
                There::Other(sha256) => {
                    return Err(format!(
                        "{location} is another binary of version {}: sha256 {sha256}, here {}. Nothing was uploaded\n  \
                         Raise the version in Cargo.toml, or release what was built before: --from DIRECTORY",
                        file.version, file.binary.sha256
                    ));
                }
            }
            if dry_run && missing.last().is_some_and(|last| last.path == file.path) {
                println!(
                    "dry run: would upload {location}: {size:.2} MB, sha256 {}",
                    file.binary.sha256
                );
            }
        }
        if dry_run {
            println!("dry run: would note it in {}", self.location(manifest::NAME));
            return Ok(());
        }
        for file in missing {
            upload::upload(&self.aws, &self.location(&file.binary.file), file).await?;
        }
        self.note(files).await?;
        for file in files {
            println!("bastion_binary_s3_uri = \"{}\"", self.location(&file.binary.file));
        }
        Ok(())
    }

    async fn there(&self, location: &Location, sha256: &str) -> Result<There, String> {
        let found = match upload::head(&self.aws, location).await? {
            None => return Ok(There::Nothing),
            Some(ObjectHead { metadata, .. }) if metadata.contains_key(SHA256) => metadata[SHA256].clone(),
            // Put there by hand: what it is says the object itself.
            Some(head) => upload::digest(&self.aws, location, &head).await?,
        };
        Ok(match found == sha256 {
            true => There::Same,
            false => There::Other(found),
        })
    }

    /// Writes the manifest, or adds to it what an earlier run of the version did not build.
    async fn note(&self, files: &[File]) -> Result<(), String> {
        let location = self.location(manifest::NAME);
        let binaries = files.iter().map(|file| file.binary.clone());
        let ours = Manifest::of(&files[0].version, binaries.collect());
        for _ in 0..MANIFEST_TRIES {
            let (merged, over) = match upload::get(&self.aws, &location).await? {
                None => (ours.clone(), Over::Nothing),
                Some((body, etag)) => {
                    let there = Manifest::read(&body).map_err(|why| format!("{location}: {why}"))?;
                    let merged = there.with(&ours).map_err(|why| format!("{location}: {why}"))?;
                    if merged == there {
                        println!("{location}: there already");
                        return Ok(());
                    }
                    (merged, Over::Etag(etag))
                }
            };
            let put = PutObject {
                location: location.clone(),
                body: Bytes::from(merged.text()),
                content_type: "application/json",
                metadata: [(VERSION.to_owned(), files[0].version.clone())].into(),
                over,
            };
            match self.aws.call(&put).await {
                Ok(_) => {
                    println!("{location}: written");
                    return Ok(());
                }
                // Another release wrote it in between, or this one did and its answer was lost: look again.
                Err(failure) if matches!(failure.code(), Some("PreconditionFailed" | "ConditionalRequestConflict")) => {}
                Err(failure) => return Err(ephemwork::error::Error::from(failure).to_string()),
            }
        }
        Err(format!(
            "{location} was changed by others {MANIFEST_TRIES} times; run this again"
        ))
    }
}

/// What is written beside a binary.
fn metadata(file: &File) -> ephemwork::aws::s3::Metadata {
    [
        (SHA256.to_owned(), file.binary.sha256.clone()),
        (ARCHITECTURE.to_owned(), file.binary.architecture.clone()),
        (VERSION.to_owned(), file.version.clone()),
    ]
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for() {
        assert_eq!(targets(None).unwrap(), TARGETS);
        assert_eq!(targets(Some("a, b")).unwrap(), ["a", "b"]);
        assert!(targets(Some("a,")).is_err() && targets(Some("")).is_err());
        assert_eq!(architecture("aarch64-unknown-linux-musl"), Some("arm64"));
        assert_eq!(architecture("x86_64-unknown-linux-gnu"), Some("x86_64"));
        assert_eq!(architecture("aarch64-apple-darwin"), None);
        assert_eq!(architecture("riscv64gc-unknown-linux-gnu"), None);
    }

    #[test]
    fn files_are_what_their_notes_say() {
        let directory = tempfile::tempdir().unwrap();
        let (at, target) = (directory.path(), "aarch64-unknown-linux-musl");
        let check = |start: &str| {
            let why = read(at, target).unwrap_err();
            assert!(
                why.contains(start) && why.contains("cargo xtask dist --target aarch64"),
                "{why}"
            );
        };
        check("No such file");
        fs::write(at.join("ephemwork-aarch64-unknown-linux-musl"), "abc").unwrap();
        check("No such file");
        let about = at.join("ephemwork-aarch64-unknown-linux-musl.json");
        fs::write(&about, "{").unwrap();
        check("EOF");
        fs::write(&about, r#"{"sha256": "00"}"#).unwrap();
        check("not the file");
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        fs::write(&about, format!(r#"{{"sha256": "{abc}", "version": "1.0.0"}}"#)).unwrap();
        check("program");
        fs::write(
            &about,
            format!(r#"{{"sha256": "{abc}", "version": "1.0.0", "program": "ephemwork 1.0.0"}}"#),
        )
        .unwrap();
        let file = read(at, target).unwrap();
        assert_eq!((file.binary.size, file.binary.architecture.as_str()), (3, "arm64"));
    }
}
