//! A platform engineer: a directory with an ephemwork.toml, an AWS account with a staging environment, and the real executable.

use std::{path::PathBuf, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use super::aws::AwsWorld;
use super::process::Finished;
use super::{LIMIT, Process};

/// See the module. The staging environment's ids stand in `staging`.
pub(crate) struct Engineer {
    pub(crate) world: AwsWorld,
    pub(crate) staging: Value,
    directory: TempDir,
}

impl Engineer {
    /// With a staging environment, and a file that names what is not found by itself. `None` without the peers.
    #[track_caller]
    pub(crate) fn start() -> Option<Engineer> {
        let (world, staging) = AwsWorld::with_staging()?;
        let engineer = Engineer {
            world,
            staging,
            directory: TempDir::new().unwrap(),
        };
        engineer.write("");
        Some(engineer)
    }

    /// An id of the staging environment.
    #[track_caller]
    pub(crate) fn id(&self, name: &str) -> &str {
        self.staging[name]
            .as_str()
            .unwrap_or_else(|| panic!("{name} in {}", self.staging))
    }

    pub(crate) fn subnet(&self) -> &str {
        self.staging["subnets"][0].as_str().unwrap()
    }

    /// Writes ephemwork.toml anew, with more lines of its `[bastion]` part.
    pub(crate) fn write(&self, more: &str) {
        let text = format!(
            "[tunnel]\ntype = \"ec2\"\nproject_name = \"shop\"\nexpected_vpc_id = \"{}\"\n[bastion]\nsubnet_id = \"{}\"\n\
             bastion_binary_s3_uri = \"{}\"\nlistener_arn = \"{}\"\n{more}\n",
            self.id("vpc"),
            self.subnet(),
            self.id("uri"),
            self.id("listener"),
        );
        self.file(&text);
    }

    /// Writes ephemwork.toml wholly.
    pub(crate) fn file(&self, text: &str) {
        std::fs::write(self.directory.path().join("ephemwork.toml"), text).unwrap();
    }

    /// The executable in that directory, allowed to call this account only. It is quick: one attempt a call, no pauses.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.without_credentials(arguments);
        command.envs(self.world.environment());
        command
    }

    /// The same, without anything that AWS would know.
    pub(crate) fn without_credentials(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ephemwork"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("EPHEMWORK_HOME", self.home())
            .env("EPHEMWORK_USER", "alice")
            .env("EPHEMWORK_AWS_PACE_MS", "0")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1");
        command
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Runs `ephemwork bastion ...` to its end.
    #[track_caller]
    pub(crate) fn bastion(&self, arguments: &[&str]) -> Finished {
        let all: Vec<&str> = ["bastion"].iter().chain(arguments).copied().collect();
        // The hours of every fault are run beside other work, at the lowest priority.
        let starved = std::env::var("EPHEMWORK_ALL_FAULTS").is_ok();
        Process::start("bastion", &mut self.command(&all)).finish_within(if starved { 60 * LIMIT } else { 3 * LIMIT })
    }

    /// [`Engineer::bastion`] that must work; what it printed on stdout.
    #[track_caller]
    pub(crate) fn works(&self, arguments: &[&str]) -> String {
        let finished = self.bastion(arguments);
        assert_eq!(finished.code(), 0, "{arguments:?}\n{}\n{}", finished.out, finished.err);
        finished.out
    }
}

/// Members that are random; and the last two, which moto forgets when other metadata options change.
const FORTUITOUS: [&str; 6] = [
    ".MacAddress",
    ".InstanceProfileId",
    ".RoleId",
    ".KmsKeyId",
    ".HttpProtocolIpv6",
    ".InstanceMetadataTags",
];

/// An inventory as sorted lines in which ids and numbers are masked, so that two accounts that differ only in those are equal.
pub(crate) fn masked(inventory: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    flatten(inventory, "", &mut lines);
    let mut lines: Vec<String> = lines.iter().map(|line| mask(line)).collect();
    lines.sort();
    lines
}

fn flatten(value: &Value, path: &str, lines: &mut Vec<String>) {
    match value {
        Value::Object(entries) => entries
            .iter()
            .for_each(|(key, value)| flatten(value, &format!("{path}.{key}"), lines)),
        Value::Array(items) => items.iter().for_each(|value| flatten(value, &format!("{path}[]"), lines)),
        _ if FORTUITOUS.iter().any(|end| path.ends_with(end)) => {}
        plain => lines.push(format!("{path} = {plain}")),
    }
}

/// Every run of at least eight hexadecimal digits, and every run of decimal ones, becomes `#`.
fn mask(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let run = |fits: fn(&char) -> bool| rest.chars().take_while(fits).count();
        let hex = run(|c| c.is_ascii_digit() || ('a'..='f').contains(c));
        let decimal = run(char::is_ascii_digit);
        let length = if hex >= 8 { hex } else { decimal };
        if length > 0 {
            out.push('#');
            rest = &rest[length..];
        } else {
            // What follows a letter is not a number of its own.
            out.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    out
}

/// The lines of one that the other does not have, both ways.
pub(crate) fn difference(expected: &[String], found: &[String]) -> Vec<String> {
    let (mut lacks, mut has) = (expected.to_vec(), found.to_vec());
    lacks.retain(|line| match has.iter().position(|other| other == line) {
        Some(index) => {
            has.remove(index);
            false
        }
        None => true,
    });
    let lacks = lacks.into_iter().map(|line| format!("- {line}"));
    lacks.chain(has.into_iter().map(|line| format!("+ {line}"))).collect()
}

impl Engineer {
    /// The account's masked inventory.
    #[track_caller]
    pub(crate) fn account(&self) -> Vec<String> {
        masked(&self.world.inventory())
    }

    /// The account's inventory as sorted lines, nothing masked.
    #[track_caller]
    pub(crate) fn exact(&self) -> Vec<String> {
        let mut lines = Vec::new();
        flatten(&self.world.inventory(), "", &mut lines);
        lines.sort();
        lines
    }

    /// Everything back to a staging environment without a bastion.
    #[track_caller]
    pub(crate) fn again(&mut self) {
        self.world.reset();
        self.staging = self.world.staging(serde_json::json!({}));
        self.write("");
    }

    /// The project's instances that are neither terminated nor about to be.
    #[track_caller]
    pub(crate) fn instances(&self) -> Vec<Value> {
        let inventory = self.world.inventory();
        let all = inventory["instances"].as_object().unwrap().values();
        all.filter(|instance| instance["State"]["Name"] != "shutting-down")
            .cloned()
            .collect()
    }

    /// A new binary under the same name.
    pub(crate) fn upload(&self, text: &str, architecture: &str) {
        use sha2::Digest as _;
        let sha256: String = sha2::Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        let params = serde_json::json!({
            "Bucket": self.id("bucket"), "Key": self.id("key"), "Body": ephemwork::aws::base64::encode(text.as_bytes()),
            "Metadata": { "sha256": sha256, "architecture": architecture },
        });
        self.world.aws("s3", "PutObject", params);
    }
}
