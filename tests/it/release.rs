//! `cargo xtask release`: what is in the bucket afterwards, also when it was cut or what was there is another.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::aws::Fault;
use crate::support::process::Finished;
use crate::support::{Engineer, LIMIT, Process};

const ARM: &str = "aarch64-unknown-linux-musl";
const INTEL: &str = "x86_64-unknown-linux-musl";

/// More than goes at once: three parts.
const LARGE: usize = 20_000_000;

/// The program of the chores. The test run does not build it by itself.
fn xtask() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut build = Command::new(env!("CARGO"));
        build
            .args([
                "build",
                "--quiet",
                "--locked",
                "--package",
                "xtask",
                "--message-format",
                "json",
            ])
            .current_dir(env!("CARGO_MANIFEST_DIR"));
        let built = Process::start("cargo build", &mut build).finish_within(Duration::from_secs(600));
        assert!(built.status.success(), "{}", built.err);
        let messages = built.out.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut executables = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        executables.next().unwrap()
    })
}

/// What `cargo xtask dist` leaves for a target.
fn build(directory: &Path, target: &str, contents: &[u8]) -> String {
    let name = format!("ephemwork-{target}");
    std::fs::write(directory.join(&name), contents).unwrap();
    let output = Command::new("sha256sum").arg(directory.join(&name)).output().unwrap();
    let sha256 = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
    let about = json!({"version": "0.1.0", "program": "ephemwork 0.1.0 (0123456789ab, protocol 1)", "sha256": sha256});
    std::fs::write(directory.join(format!("{name}.json")), about.to_string()).unwrap();
    sha256
}

/// Bytes that compress to nothing and are in no part the same.
fn large() -> Vec<u8> {
    (0..LARGE as u32 / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

struct Releaser {
    engineer: Engineer,
    built: tempfile::TempDir,
}

impl Releaser {
    #[track_caller]
    fn start() -> Option<Releaser> {
        Some(Releaser {
            engineer: Engineer::start()?,
            built: tempfile::tempdir().unwrap(),
        })
    }

    #[track_caller]
    fn release(&self, more: &[&str]) -> Finished {
        self.release_to(self.engineer.id("bucket"), more)
    }

    #[track_caller]
    fn release_to(&self, bucket: &str, more: &[&str]) -> Finished {
        let mut command = self.engineer.command(&[]);
        let environment: Vec<_> = command
            .get_envs()
            .map(|(name, value)| (name.to_owned(), value.unwrap().to_owned()))
            .collect();
        let directory = command.get_current_dir().unwrap().to_owned();
        command = Command::new(xtask());
        command
            .args(["release", "--bucket", bucket, "--from"])
            .arg(self.built.path())
            .args(more)
            .env_clear()
            .envs(environment)
            .current_dir(directory);
        Process::start("release", &mut command).finish_within(3 * LIMIT)
    }

    /// A release that works; what it said.
    #[track_caller]
    fn works(&self, more: &[&str]) -> String {
        let finished = self.release(more);
        assert!(finished.status.success(), "{more:?}\n{}\n{}", finished.out, finished.err);
        finished.out
    }

    #[track_caller]
    fn refused(&self, more: &[&str], parts: &[&str]) {
        let finished = self.release(more);
        assert!(!finished.status.success(), "{more:?}\n{}", finished.out);
        for part in parts {
            assert!(finished.err.contains(part), "{part:?} is not in {}", finished.err);
        }
    }

    /// An object's head, by its name.
    #[track_caller]
    fn head(&self, name: &str) -> Value {
        let key = format!("ephemwork/0.1.0/{name}");
        let params = json!({"Bucket": self.engineer.id("bucket"), "Key": key});
        self.engineer.world.aws("s3", "HeadObject", params)
    }

    /// A target's object's size.
    #[track_caller]
    fn size(&self, target: &str) -> usize {
        let params = json!({"Bucket": self.engineer.id("bucket"), "Prefix": format!("ephemwork/0.1.0/ephemwork-{target}")});
        let found = self.engineer.world.aws("s3", "ListObjectsV2", params);
        found["Contents"][0]["Size"].as_u64().unwrap() as usize
    }

    /// The keys of the version, and the uploads that are not finished.
    #[track_caller]
    fn shelf(&self) -> (Vec<String>, usize) {
        let bucket = self.engineer.id("bucket");
        let prefix = "ephemwork/0.1.0/ephemwork-";
        let found = self
            .engineer
            .world
            .aws("s3", "ListObjectsV2", json!({"Bucket": bucket, "Prefix": "ephemwork/"}));
        let keys = found["Contents"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|object| object["Key"].as_str().unwrap().to_owned());
        // The staging environment's own binary aside.
        let staging = self.engineer.id("key");
        let keys: Vec<String> = keys.filter(|key| key != staging).map(|key| key.replace(prefix, "")).collect();
        let uploads = self
            .engineer
            .world
            .aws("s3", "ListMultipartUploads", json!({"Bucket": bucket}));
        (keys, uploads["Uploads"].as_array().map_or(0, Vec::len))
    }

    /// How often an operation came since the last reset of the count.
    #[track_caller]
    fn times(&self, since: u64, name: &str) -> usize {
        let calls = self.engineer.world.calls();
        calls.iter().skip(since as usize).filter(|call| call.name == name).count()
    }
}

#[test]
fn a_version_is_released_once() {
    let Some(releaser) = Releaser::start() else { return };
    let arm = build(releaser.built.path(), ARM, b"a program");
    let intel = build(releaser.built.path(), INTEL, &large());
    let before = releaser.shelf();
    let told = releaser.works(&["--dry-run"]);
    assert!(
        told.contains(&format!("would upload s3://shop-releases/ephemwork/0.1.0/ephemwork-{ARM}")),
        "{told}"
    );
    assert_eq!(releaser.shelf(), before);

    let told = releaser.works(&[]);
    assert!(told.contains("part 2 of 3 sent, 16.8 of 20.0 MB"), "{told}");
    let uri = format!("bastion_binary_s3_uri = \"s3://shop-releases/ephemwork/0.1.0/ephemwork-{ARM}\"");
    assert!(told.contains(&uri), "{told}");
    let head = releaser.head(&format!("ephemwork-{ARM}"));
    assert_eq!(
        head["Metadata"],
        json!({"sha256": arm, "architecture": "arm64", "version": "0.1.0"})
    );
    let head = releaser.head(&format!("ephemwork-{INTEL}"));
    assert_eq!(
        head["Metadata"],
        json!({"sha256": intel, "architecture": "x86_64", "version": "0.1.0"})
    );
    assert_eq!(releaser.size(INTEL), LARGE);
    let whole = (
        vec![ARM.to_owned(), INTEL.to_owned(), "ephemwork/0.1.0/manifest.json".to_owned()],
        0,
    );
    assert_eq!(releaser.shelf(), whole);
    let notes = std::fs::read_dir(releaser.built.path()).unwrap().count();
    assert_eq!(notes, 4, "a note of an upload stayed");

    let count = releaser.engineer.world.count();
    let told = releaser.works(&[]);
    assert_eq!(told.matches("there already").count(), 3, "{told}");
    assert_eq!(
        releaser.times(count, "s3:PutObject") + releaser.times(count, "s3:CreateMultipartUpload"),
        0
    );

    build(releaser.built.path(), ARM, b"another program");
    let other = [
        arm.as_str(),
        "is another binary of version 0.1.0",
        "Nothing was uploaded",
        "Raise the version",
    ];
    releaser.refused(&[], &other);
    releaser.refused(&["--dry-run"], &other);
    assert_eq!(releaser.head(&format!("ephemwork-{ARM}"))["Metadata"]["sha256"], arm);
}

#[test]
fn a_manifest_grows_by_what_was_not_built_at_first() {
    let Some(releaser) = Releaser::start() else { return };
    let arm = build(releaser.built.path(), ARM, b"a program");
    releaser.works(&["--targets", ARM]);
    let intel = build(releaser.built.path(), INTEL, b"a third program");
    releaser.works(&["--targets", INTEL]);
    let python = crate::support::need_module("boto3").unwrap();
    let script = "import boto3; print(boto3.client('s3').get_object(Bucket='shop-releases', Key='ephemwork/0.1.0/manifest.json')['Body'].read().decode())";
    let mut get = Command::new(python);
    get.args(["-c", script]).envs(releaser.engineer.world.environment());
    // boto3 reads AWS_DEFAULT_REGION only.
    get.env("AWS_DEFAULT_REGION", releaser.engineer.id("region"));
    let manifest: Value = serde_json::from_str(&Process::run("boto3", &mut get).out).unwrap();
    assert_eq!((&manifest["manifest"], &manifest["version"]), (&json!(1), &json!("0.1.0")));
    let digests: Vec<&Value> = manifest["binaries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|binary| &binary["sha256"])
        .collect();
    assert_eq!(digests, [&json!(arm), &json!(intel)]);
    assert_eq!(manifest["binaries"][1]["revision"], "0123456789ab");
}

#[test]
fn an_object_that_was_put_there_by_hand() {
    let Some(releaser) = Releaser::start() else { return };
    build(releaser.built.path(), ARM, b"a program");
    let put = |body: &str| {
        let bucket = releaser.engineer.id("bucket");
        let key = format!("ephemwork/0.1.0/ephemwork-{ARM}");
        let params = json!({"Bucket": bucket, "Key": key, "Body": body});
        releaser.engineer.world.aws("s3", "PutObject", params);
    };
    // In base64: "a program", "other".
    put("YSBwcm9ncmFt");
    let told = releaser.works(&["--targets", ARM]);
    assert!(told.contains("there already"), "{told}");
    put("b3RoZXI=");
    releaser.refused(&["--targets", ARM], &["is another binary of version 0.1.0"]);
}

#[test]
fn cut_anywhere_and_run_again() {
    let Some(releaser) = Releaser::start() else { return };
    build(releaser.built.path(), ARM, b"a program");
    build(releaser.built.path(), INTEL, &large());
    let world = &releaser.engineer.world;
    let (mut parts, mut after) = (0, 0);
    // Each run gets one call further than the last one, until one gets to the end.
    for round in 0.. {
        let fault = Fault::ALL[round % Fault::ALL.len()];
        let count = world.count();
        world.fail_from(after, fault);
        let finished = releaser.release(&[]);
        world.heal();
        parts += releaser.times(count, "s3:UploadPart");
        if finished.status.success() {
            break;
        }
        assert!(finished.err.contains("error: "), "{}", finished.err);
        assert!(after < 40, "there is no end: {}", finished.err);
        after += 1;
    }
    let whole = (
        vec![ARM.to_owned(), INTEL.to_owned(), "ephemwork/0.1.0/manifest.json".to_owned()],
        0,
    );
    assert_eq!(releaser.shelf(), whole);
    assert_eq!(releaser.size(INTEL), LARGE);
    // A part whose answer was lost is sent again by nobody: the next run finds it.
    assert!(parts <= 9, "{parts} parts were sent where 3 were needed and some were cut");
    let told = releaser.works(&[]);
    assert_eq!(told.matches("there already").count(), 3, "{told}");
}

#[test]
fn what_cannot_be_released() {
    let Some(releaser) = Releaser::start() else { return };
    releaser.refused(
        &["--targets", ARM],
        &["No such file", "cargo xtask dist --target aarch64-unknown-linux-musl"],
    );
    releaser.refused(
        &["--targets", "aarch64-apple-darwin"],
        &["no bastion runs on aarch64-apple-darwin"],
    );
    releaser.refused(&["--prefix", "/"], &["cannot be a place"]);
    build(releaser.built.path(), ARM, b"a program");
    let absent = releaser.release_to("absent-bucket", &["--targets", ARM]);
    assert!(
        !absent.status.success() && absent.err.contains("NoSuchBucket"),
        "{}",
        absent.err
    );
    releaser.engineer.world.deny(&["s3:PutObject"]);
    releaser.refused(&["--targets", ARM], &["no right to s3:PutObject", "Allow"]);
    releaser.engineer.world.deny(&[]);
    assert_eq!(releaser.shelf().0, [""; 0]);
}

#[test]
fn a_release_upgrades_the_bastion() {
    let Some(releaser) = Releaser::start() else { return };
    let engineer = &releaser.engineer;
    engineer.works(&["init", "--live", "--yes"]);
    let old = engineer.instances()[0]["InstanceId"].clone();
    build(releaser.built.path(), ARM, b"a newer program");
    build(releaser.built.path(), INTEL, b"not for this one");
    let told = releaser.works(&["--provision", "--dry-run"]);
    assert!(told.contains("would upgrade the bastion of \"shop\""), "{told}");
    assert_eq!(engineer.instances()[0]["InstanceId"], old);
    let told = releaser.works(&["--provision"]);
    assert!(told.contains("the bastion of \"shop\" runs it"), "{told}");
    let now = engineer.instances();
    assert_eq!(now.len(), 1);
    assert_ne!(now[0]["InstanceId"], old);
}
