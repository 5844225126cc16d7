//! Our side: the real `ephemwork-bastiond` in a process, the laptop's end in another, TCP between them.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ephemwork::tunnel::ClientKey;
use serde_json::Value;

use super::System;
use super::lane;
use super::process::Running;

/// What we are called in reports.
pub(crate) const NAME: &str = "ephemwork";

/// The executables, built with the benchmark's profile.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// `ephemwork`.
    pub ephemwork: PathBuf,
    /// This program.
    pub xtask: PathBuf,
}

/// A daemon and one laptop.
#[derive(Debug)]
pub(crate) struct Product {
    programs: Programs,
    key: PathBuf,
    host_key: String,
    ssh: String,
    edge: SocketAddr,
    service: SocketAddr,
    // The laptop ends first.
    laptop: Running,
    bastion: Running,
}

impl Product {
    /// Starts both in an empty directory.
    pub(crate) fn start(directory: &Path, service: SocketAddr, programs: &Programs) -> Result<Product, String> {
        let broken = |why: std::io::Error| format!("{}: {why}", directory.display());
        fs::create_dir_all(directory).map_err(broken)?;
        let (_, private, public) = ClientKey::generate().map_err(|why| why.to_string())?;
        let key = directory.join("key");
        fs::write(&key, private).map_err(broken)?;
        let mut users = vec!["alice".to_owned()];
        users.extend((0..1000 / lane::IDLE_PER_USER).map(|index| lane::idle_user(index * lane::IDLE_PER_USER)));
        let public = public.trim();
        let keys: String = users
            .iter()
            .map(|user| format!("environment=\"EPHEMWORK_USER={user}\" {public}\n"))
            .collect();
        let authorized = directory.join("authorized_keys");
        fs::write(&authorized, keys).map_err(broken)?;

        let mut start = Command::new(&programs.ephemwork);
        start
            .args(["bastiond", "--http", "127.0.0.1:0", "--ssh", "127.0.0.1:0", "--state"])
            .arg(directory);
        start.arg("--authorized-keys").arg(&authorized);
        let log = fs::File::create(directory.join("log")).map_err(broken)?;
        let mut bastion = Running::start("ephemwork-bastiond", start.stderr(log))?;
        let mut ready = Value::Null;
        let waited = bastion.wait_until(|| {
            let text = fs::read(directory.join("ready.json")).unwrap_or_default();
            ready = serde_json::from_slice(&text).unwrap_or_default();
            !ready.is_null()
        });
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        waited.map_err(|why| format!("{why}\n{}", log().trim()))?;
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let edge = text("http")
            .parse()
            .map_err(|why| format!("ready.json names no address for http: {why}"))?;
        let mut lane = lane_command(programs, &text("ssh"), &text("host_key"), &key, service);
        let mut laptop = Running::start("the laptop's end", &mut lane)?;
        laptop.ready_line()?;
        Ok(Product {
            programs: programs.clone(),
            key,
            host_key: text("host_key"),
            ssh: text("ssh"),
            edge,
            service,
            laptop,
            bastion,
        })
    }

    /// It as a system that is measured.
    pub(crate) fn system(&self) -> System {
        System {
            name: NAME,
            edge: self.edge,
            tag: "alice:api".to_owned(),
            bastion: vec![self.bastion.pid()],
            laptop: vec![self.laptop.pid()],
        }
    }

    /// Opens so many more tunnels that then do nothing, in one process, beside those that are held already.
    pub(crate) fn idle(&self, count: usize, held: usize) -> Result<Running, String> {
        let mut command = lane_command(&self.programs, &self.ssh, &self.host_key, &self.key, self.service);
        command.args(["--idle", &count.to_string(), "--held", &held.to_string()]);
        let mut running = Running::start("idle laptops", &mut command)?;
        running.ready_line()?;
        Ok(running)
    }
}

fn lane_command(programs: &Programs, ssh: &str, host_key: &str, key: &Path, service: SocketAddr) -> Command {
    let mut command = Command::new(&programs.xtask);
    command.args([
        "bench-lane",
        "--ssh",
        ssh,
        "--host-key",
        host_key,
        "--port",
        &service.port().to_string(),
        "--key",
    ]);
    command.arg(key).stdout(Stdio::piped());
    command
}
