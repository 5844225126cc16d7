//! A bastion in an AWS that is a double, and laptops: the real executables, each with a directory of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ephemwork_net::plane::{self, Plane};
use serde_json::{Value, json};

use crate::bench::load::{End, Load, Request};
use crate::bench::process::{self, Running};

/// How long the lanes of a laptop may take to stand, each some round trips behind the other.
const LANES: Duration = Duration::from_secs(5);

/// Variables of whoever runs this that would lead a laptop elsewhere.
const FOREIGN: &[&str] = &[
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// The executables, of one build.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) ephemwork: PathBuf,
    pub(super) double: PathBuf,
}

/// A double with a bastion behind it, at one round trip.
pub(super) struct World {
    programs: Programs,
    directory: PathBuf,
    service: SocketAddr,
    edge: SocketAddr,
    host_key: String,
    /// The double's door.
    door: SocketAddr,
    plane: SocketAddr,
    double: Running,
    bastion: Running,
}

/// A running `ephemwork up`.
pub(super) struct Laptop {
    /// What its requests carry.
    pub(super) tag: String,
    process: Running,
}

/// What a double has counted so far, over all sessions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    /// Messages of agents.
    pub(super) messages: f64,
    /// Bytes that clients sent, each once.
    pub(super) up: f64,
    /// Seconds that agents worked and slept for them.
    pub(super) paced: f64,
    /// Messages that either side sent again.
    pub(super) again: f64,
    /// Sessions that are open.
    pub(super) open: usize,
}

impl World {
    /// In an empty directory; `round_trip` in milliseconds.
    pub(super) fn start(directory: &Path, service: SocketAddr, programs: &Programs, round_trip: u64) -> Result<World, String> {
        let broken = |why: std::io::Error| format!("{}: {why}", directory.display());
        fs::create_dir_all(directory).map_err(broken)?;
        let log = |name: &str| fs::File::create(directory.join(name)).map_err(broken);

        let mut start = Command::new(&programs.double);
        start.arg("--authority").arg(directory.join("ca.pem"));
        start.args(["--set", &format!("latency_ms={}", round_trip / 2)]);
        let mut double = Running::start("the double", start.stdout(Stdio::piped()).stderr(log("double.log")?))?;
        let ready: Value =
            serde_json::from_str(&double.line_after("READY=")?).map_err(|why| format!("the double's ports: {why}"))?;
        let door = address(&ready, "control")?;

        let keys = directory.join("keys");
        fs::write(&keys, "").map_err(broken)?;
        let mut start = Command::new(&programs.ephemwork);
        start
            .args(["bastiond", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0"])
            .args(["--authorized-keys-command", &format!("/bin/cat {}", keys.display())])
            .arg("--state")
            .arg(directory);
        let mut bastion = Running::start("ephemwork-bastiond", start.stderr(log("bastion.log")?))?;
        let mut ready = Value::Null;
        bastion.wait_until(|| {
            let text = fs::read(directory.join("ready.json")).unwrap_or_default();
            ready = serde_json::from_slice(&text).unwrap_or_default();
            !ready.is_null()
        })?;
        let world = World {
            programs: programs.clone(),
            directory: directory.to_owned(),
            service,
            edge: address(&ready, "http")?,
            host_key: ready["host_key"].as_str().unwrap_or_default().to_owned(),
            door,
            plane: plane::serve(
                SocketAddr::from(([127, 0, 0, 1], 0)),
                &Plane {
                    project: super::PROJECT.to_owned(),
                    keys,
                    double: Some(door),
                },
            )?,
            double,
            bastion,
        };
        let ssh = address(&ready, "ssh")?.to_string();
        world.admin("instance", &json!({"instance": plane::INSTANCE, "address": ssh}))?;
        Ok(world)
    }

    /// Starts an `up` of the service `api`, whose `[tunnel]` has these lines too, and waits until it answers.
    pub(super) fn laptop(&self, user: &str, tunnel: &str) -> Result<Laptop, String> {
        let directory = self.directory.join(user);
        let broken = |why: std::io::Error| format!("{}: {why}", directory.display());
        fs::create_dir_all(directory.join("project")).map_err(broken)?;
        let config = format!(
            "[tunnel]\ntype = \"ec2\"\nproject_name = \"{}\"\ntransport = \"ssm\"\nhost_key = \"{}\"\n{tunnel}\n\
             [service.api]\nport = {}\n",
            super::PROJECT,
            self.host_key,
            self.service.port()
        );
        fs::write(directory.join("project/ephemwork.toml"), config).map_err(broken)?;
        let log = fs::File::create(directory.join("log")).map_err(broken)?;
        let mut start = Command::new(&self.programs.ephemwork);
        for name in FOREIGN {
            start.env_remove(name);
        }
        start
            .args(["up", "--no-run", "api"])
            .current_dir(directory.join("project"))
            .envs([("EPHEMWORK_USER", user), ("AWS_REGION", "eu-west-1"), ("NO_COLOR", "1")])
            .envs([
                ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
                ("AWS_SECRET_ACCESS_KEY", "bench"),
            ])
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ENDPOINT_URL", format!("http://{}", self.plane))
            .env("AWS_CA_BUNDLE", self.directory.join("ca.pem"))
            .env("EPHEMWORK_HOME", directory.join("home"))
            .env("HOME", &directory)
            .stdout(log.try_clone().map_err(broken)?)
            .stderr(log);
        let mut laptop = Laptop {
            tag: format!("{user}:api"),
            process: Running::start("ephemwork up", &mut start)?,
        };
        let tag = laptop.tag.clone();
        let waited = laptop
            .process
            .wait_until(|| self.load(&tag, Request::Download(1), End::Count(1)).run().is_ok());
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        waited.map_err(|why| format!("{why}\n{}", log().trim()))?;
        Ok(laptop)
    }

    /// Waits until so many sessions are open; how many there are in the end.
    pub(super) fn sessions(&self, wanted: usize) -> Result<usize, String> {
        let deadline = Instant::now() + LANES;
        loop {
            let open = self.counted()?.open;
            if open >= wanted || Instant::now() > deadline {
                return Ok(open);
            }
            process::pause(Duration::from_millis(20));
        }
    }

    /// One connection's load on a tag.
    pub(super) fn load(&self, tag: &str, request: Request, end: End) -> Load {
        Load {
            address: self.edge,
            tag: tag.to_owned(),
            connections: 1,
            request,
            end,
        }
    }

    /// The double's counters.
    pub(super) fn counted(&self) -> Result<Counted, String> {
        let all = self.admin("sessions", &json!({}))?;
        let mut sum = Counted::default();
        for session in all.as_array().into_iter().flatten() {
            let number = |value: &Value| value.as_f64().unwrap_or_default();
            sum.messages += number(&session["down"]["messages"]);
            sum.paced += number(&session["paced_us"]) / 1e6;
            sum.up += number(&session["up"]["bytes"]);
            sum.again += number(&session["down"]["retransmissions"]) + number(&session["up"]["retransmissions"]);
            sum.open += usize::from(session["open"] == true);
        }
        Ok(sum)
    }

    /// What the client did wrong, in the double's eyes; a run with any measures nothing.
    pub(super) fn violations(&self) -> Result<(), String> {
        match self.admin("violations", &json!({}))?.as_array() {
            Some(none) if none.is_empty() => Ok(()),
            found => Err(format!("what AWS would not take: {found:?}")),
        }
    }

    /// Seconds of processor time: the double's, the bastion's, the laptop's.
    pub(super) fn cpu(&self, laptop: &Laptop) -> [f64; 3] {
        [&self.double, &self.bastion, &laptop.process].map(|running| process::cpu(&[running.pid()]))
    }

    fn admin(&self, path: &str, given: &Value) -> Result<Value, String> {
        match plane::post(self.door, &format!("/admin/{path}"), &given.to_string())? {
            (200, value) => Ok(value),
            (status, value) => Err(format!("the double: {path} {given}: {status} {value}")),
        }
    }
}

fn address(ready: &Value, name: &str) -> Result<SocketAddr, String> {
    let text = ready[name].as_str().unwrap_or_default();
    text.parse().map_err(|why| format!("no address for {name} in {ready}: {why}"))
}
