//! The bastion's daemon as an init system keeps it: killed, drained and started again on the same addresses and state.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::bench::process::{self, Running};

/// How long requests in flight may take when it drains, in seconds.
const DRAIN: u64 = 5;

/// How long it may take to end and to begin.
const ENDS: Duration = Duration::from_secs(DRAIN + 10);

/// Where automatic ports do not lie, so that nobody takes one while its owner is away: below Linux's usual range.
const PORTS: std::ops::Range<u16> = 11_000..31_000;

pub(super) struct Daemon {
    ephemwork: PathBuf,
    pub(super) state: PathBuf,
    pub(super) http: SocketAddr,
    pub(super) ssh: SocketAddr,
    /// Where laptops are sent in place of `ssh`.
    pub(super) relay: Option<SocketAddr>,
    arguments: Vec<String>,
    running: Option<Running>,
    pub(super) host_key: String,
}

/// An address that stays ours while nobody listens on it.
pub(super) fn lasting() -> Result<SocketAddr, String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(61);
    for _ in 0..count {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, PORTS.start + offset as u16));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(format!("no free port in {PORTS:?}"))
}

impl Daemon {
    /// Starts it with its state in an empty directory.
    pub(super) fn start(ephemwork: &Path, state: PathBuf, more: &[&str]) -> Result<Daemon, String> {
        fs::create_dir_all(&state).map_err(|why| format!("{}: {why}", state.display()))?;
        let mut daemon = Daemon {
            ephemwork: ephemwork.to_owned(),
            state,
            http: lasting()?,
            ssh: lasting()?,
            relay: None,
            arguments: more.iter().map(|&text| text.to_owned()).collect(),
            running: None,
            host_key: String::new(),
        };
        daemon.run()?;
        Ok(daemon)
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }

    pub(super) fn log(&self) -> PathBuf {
        self.state.with_extension("log")
    }

    pub(super) fn run(&mut self) -> Result<(), String> {
        let log = OpenOptions::new().create(true).append(true).open(self.log());
        let log = log.map_err(|why| format!("{}: {why}", self.log().display()))?;
        let mut start = Command::new(&self.ephemwork);
        start
            .args(["bastiond", "--http", &self.http.to_string(), "--ssh", &self.ssh.to_string()])
            .args(["--drain", &DRAIN.to_string(), "--state"])
            .arg(&self.state)
            .args(&self.arguments)
            .stderr(log);
        let mut running = Running::start("ephemwork-bastiond", &mut start)?;
        let (file, pid) = (self.state.join("ready.json"), running.pid());
        let mut ready = Value::Null;
        let waited = running.wait_until(|| {
            let text = fs::read(&file).unwrap_or_default();
            ready = serde_json::from_slice(&text).unwrap_or_default();
            // One that was killed leaves its file behind.
            ready["pid"] == pid
        });
        waited.map_err(|why| format!("{why}; its log: {}", self.log().display()))?;
        self.host_key = ready["host_key"].as_str().unwrap_or_default().to_owned();
        if let Some(relay) = self.relay {
            ready["ssh"] = relay.to_string().into();
            fs::write(&file, ready.to_string()).map_err(|why| format!("{}: {why}", file.display()))?;
        }
        self.running = Some(running);
        Ok(())
    }

    /// SIGKILL, and its end.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        if let Some(running) = self.running.take() {
            running.kill();
        }
        Ok(())
    }

    /// SIGTERM, and its end.
    pub(super) fn end(&mut self) -> Result<(), String> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        running.send(Signal::TERM);
        match running.wait_for_end(ENDS)? {
            status if status.success() => Ok(()),
            status => Err(format!("bastiond ended with {status} after SIGTERM")),
        }
    }

    /// What it ended with, if it has without being asked to.
    pub(super) fn ended(&mut self) -> Option<String> {
        Some(self.running.as_mut()?.ended()?.to_string())
    }

    pub(super) fn metrics(&self) -> Result<Metrics, String> {
        Metrics::of(&self.state)
    }

    /// Forgets a session, as the bastion's admin.
    pub(super) fn release(&self, tag: &str) -> Result<(), String> {
        let body = format!("{{\"service\":\"{tag}\"}}");
        let said = ask(&self.state, "POST /v1/release", &body)?;
        match said.starts_with("HTTP/1.1 200") {
            true => Ok(()),
            false => Err(format!("{tag} was not released: {said}")),
        }
    }

    /// The sizes of its databases together, in bytes.
    pub(super) fn database(&self) -> u64 {
        let entries = fs::read_dir(&self.state).into_iter().flatten().flatten();
        let databases = entries.filter(|entry| entry.path().extension().is_some_and(|its| its == "redb"));
        databases.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }

    pub(super) fn descriptors(&self) -> usize {
        process::descriptors(self.pid()).unwrap_or_default()
    }
}

/// One look at the daemon's own numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// From the control socket in this state directory.
    pub(super) fn of(state: &Path) -> Result<Metrics, String> {
        let page = ask(state, "GET /metrics", "")?;
        let lines = page.lines().filter(|line| line.starts_with("ephemwork_"));
        let pairs = lines.filter_map(|line| {
            let (name, value) = line.strip_prefix("ephemwork_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Ok(Metrics(pairs.collect()))
    }

    /// By its name without `ephemwork_`, with its labels.
    pub(super) fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(f64::NAN)
    }
}

/// One request over the control socket, and all that came back.
fn ask(state: &Path, what: &str, body: &str) -> Result<String, String> {
    let socket = state.join("control.sock");
    let exchange = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let length = body.len();
        let head = format!("{what} HTTP/1.1\r\nHost: control\r\nConnection: close\r\nContent-Type: application/json\r\n");
        stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{body}").as_bytes())?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    exchange().map_err(|why| format!("{}: {why}", socket.display()))
}
