//! Fifty developers: a laptop each, `ephemwork up` or a stock OpenSSH client, and the services on it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::chance::Chance;
use super::client::{Client, Fate, Kind};
use super::daemon::{Daemon, lasting};
use super::relay::Relay;
use crate::bench::process::{self, Running, pause};
use crate::bench::product::Programs;

/// How many processes share the services, so that some of them can die.
const GROUPS: usize = 5;

/// One in so many laptops is a stock OpenSSH client.
const OPENSSH_ONE_IN: usize = 12;

/// One in so many users' laptops live from the beginning to the end, so that what grows can be seen.
pub(super) const STEADY_ONE_IN: usize = 4;

/// How long a laptop may take to come back after anything.
const BACK: Duration = Duration::from_secs(180);

/// How long an `up` may take to end after SIGTERM: it gives its tags back.
const GIVES_BACK: Duration = Duration::from_secs(30);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Team {
    directory: PathBuf,
    programs: Programs,
    pub(super) daemon: Daemon,
    pub(super) relay: Relay,
    pub(super) laptops: Vec<Laptop>,
    groups: Vec<Option<Running>>,
    probe: Client,
}

pub(super) struct Laptop {
    pub(super) user: String,
    services: Vec<(String, u16)>,
    pub(super) openssh: bool,
    pub(super) steady: bool,
    group: usize,
    /// Which of the user's two machines: a takeover moves to the other one.
    machine: u32,
    running: Option<Running>,
    /// How long its output was when it was started.
    said: u64,
}

impl Laptop {
    pub(super) fn tags(&self) -> impl Iterator<Item = String> {
        self.services.iter().map(|(service, _)| format!("{}:{service}", self.user))
    }

    pub(super) fn group(&self) -> usize {
        self.group
    }

    fn pid(&self) -> u32 {
        self.running.as_ref().map_or(0, Running::pid)
    }
}

impl Team {
    pub(super) fn start(
        directory: &Path,
        programs: &Programs,
        users: usize,
        services: usize,
        mut chance: Chance,
    ) -> Result<Team, String> {
        let broken = |why: std::io::Error| format!("{}: {why}", directory.display());
        let state = directory.join("state");
        fs::create_dir_all(&state).map_err(broken)?;
        let has_ssh = Command::new("ssh").arg("-V").stderr(Stdio::null()).status().is_ok();
        let mut laptops = Vec::new();
        let mut keys = String::new();
        for number in 0..users {
            let user = format!("u{number:02}");
            let openssh = has_ssh && number % OPENSSH_ONE_IN == OPENSSH_ONE_IN - 1;
            let ports = (0..services).map(|service| Ok((format!("s{service}"), lasting()?.port())));
            keys.push_str(&make_key(directory, &user)?);
            laptops.push(Laptop {
                user,
                services: ports.collect::<Result<_, String>>()?,
                openssh,
                steady: number % STEADY_ONE_IN == 0,
                group: number % GROUPS,
                machine: 0,
                running: None,
                said: 0,
            });
        }
        fs::write(state.join("authorized_keys"), keys).map_err(broken)?;
        let mut daemon = Daemon::start(&programs.ephemwork, state, &["--local", "--lease", "30"])?;
        let way = lasting()?;
        let relay = Relay::start(way, daemon.ssh)?;
        daemon.relay = Some(way);
        let probe = Client::new(daemon.http, chance.split());
        let mut team = Team {
            directory: directory.to_owned(),
            programs: programs.clone(),
            daemon,
            relay,
            laptops,
            groups: (0..GROUPS).map(|_| None).collect(),
            probe,
        };
        // From now on laptops are sent to the relay.
        team.restart_daemon(Daemon::end)?;
        Ok(team)
    }

    /// Everybody comes, all at once.
    pub(super) fn arrive(&mut self) -> Result<(), String> {
        for group in 0..GROUPS {
            self.start_services(group)?;
        }
        for index in 0..self.laptops.len() {
            self.start_laptop(index, &[])?;
        }
        let everybody: Vec<usize> = (0..self.laptops.len()).collect();
        self.well(&everybody).map(drop)
    }

    /// Ends the daemon in some way and starts it again, as an init system does. An `up` of local mode would start one when it finds none,
    /// unless it sees that somebody else is at it.
    pub(super) fn restart_daemon(&mut self, end: impl FnOnce(&mut Daemon) -> Result<(), String>) -> Result<(), String> {
        let mut locks = Vec::new();
        for place in self.laptops.iter().map(|laptop| self.bastion_of(&self.home(laptop))) {
            if place.exists() {
                let path = place.join("start.lock");
                let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
                let locked = file.and_then(|file| file.lock().map(|()| file));
                locks.push(locked.map_err(|why| format!("{}: {why}", path.display()))?);
            }
        }
        end(&mut self.daemon)?;
        self.daemon.run()?;
        drop(locks);
        Ok(())
    }

    /// Where an `up` with this home looks for its bastion.
    fn bastion_of(&self, home: &Path) -> PathBuf {
        let address = self.daemon.http.to_string().replace(':', "_");
        home.join("home/local").join(address)
    }

    pub(super) fn complaints(&self) -> PathBuf {
        self.directory.join("complaints")
    }

    pub(super) fn start_services(&mut self, group: usize) -> Result<(), String> {
        let mut start = Command::new(&self.programs.xtask);
        start
            .arg("bench-echo")
            .arg("--complaints")
            .arg(self.complaints())
            .stdout(Stdio::piped());
        for laptop in self.laptops.iter().filter(|laptop| laptop.group == group) {
            for (tag, (_, port)) in laptop.tags().zip(&laptop.services) {
                start.args(["--serve", &format!("{tag}={port}")]);
            }
        }
        let mut running = Running::start("services", &mut start)?;
        running.ready_line()?;
        self.groups[group] = Some(running);
        Ok(())
    }

    pub(super) fn kill_services(&mut self, group: usize) {
        if let Some(running) = self.groups[group].take() {
            running.kill();
        }
    }

    /// The laptops whose services die together.
    pub(super) fn members(&self, group: usize) -> Vec<usize> {
        let laptops = self.laptops.iter().enumerate();
        laptops
            .filter(|(_, laptop)| laptop.group == group)
            .map(|(index, _)| index)
            .collect()
    }

    pub(super) fn a_group(chance: &mut Chance) -> usize {
        chance.below(GROUPS as u64) as usize
    }

    fn home(&self, laptop: &Laptop) -> PathBuf {
        self.directory.join(format!("{}-{}", laptop.user, laptop.machine))
    }

    /// Starts it and does not wait.
    pub(super) fn start_laptop(&mut self, index: usize, options: &[&str]) -> Result<(), String> {
        let laptop = &self.laptops[index];
        let home = self.home(laptop);
        let broken = |why: std::io::Error| format!("{}: {why}", home.display());
        fs::create_dir_all(&home).map_err(broken)?;
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(home.join("out"))
            .map_err(broken)?;
        let said = output.metadata().map_err(broken)?.len();
        let mut start = match laptop.openssh {
            true => self.openssh(laptop)?,
            false => self.up(laptop, &home, options).map_err(broken)?,
        };
        start.stdout(output.try_clone().map_err(broken)?).stderr(output);
        let running = Running::start(&format!("the laptop of {}", laptop.user), &mut start)?;
        let laptop = &mut self.laptops[index];
        laptop.running = Some(running);
        laptop.said = said;
        Ok(())
    }

    fn up(&self, laptop: &Laptop, home: &Path, options: &[&str]) -> std::io::Result<Command> {
        let listen = self.daemon.http;
        // Half of them add lanes beside large bodies, and let them go again.
        let lanes = if laptop.group.is_multiple_of(2) { "\"auto\"" } else { "1" };
        let mut text = format!("[tunnel]\ntype = \"local\"\nlisten = \"{listen}\"\nlanes = {lanes}\n");
        for (service, port) in &laptop.services {
            text.push_str(&format!("[service.{service}]\nport = {port}\n"));
        }
        fs::write(home.join("ephemwork.toml"), text)?;
        let bastion = self.bastion_of(home);
        if !bastion.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(&bastion)?;
            for name in ["ready.json", "authorized_keys"] {
                symlink(self.daemon.state.join(name), bastion.join(name))?;
            }
            fs::copy(key_of(&self.directory, &laptop.user), home.join("home/key"))?;
        }
        let mut start = Command::new(&self.programs.ephemwork);
        start
            .args(["up", "--no-run"])
            .args(options)
            .args(laptop.services.iter().map(|(service, _)| service));
        start
            .current_dir(home)
            .env("EPHEMWORK_HOME", home.join("home"))
            .env("EPHEMWORK_USER", &laptop.user)
            .env("HOME", home)
            .env("NO_COLOR", "1");
        Ok(start)
    }

    fn openssh(&self, laptop: &Laptop) -> Result<Command, String> {
        let way = self.daemon.relay.unwrap_or(self.daemon.ssh);
        let known = self.directory.join("known_hosts");
        let line = format!("[{}]:{} {}\n", way.ip(), way.port(), self.daemon.host_key);
        fs::write(&known, line).map_err(|why| format!("{}: {why}", known.display()))?;
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "/dev/null", "-N", "-p", &way.port().to_string(), "-i"])
            .arg(key_of(&self.directory, &laptop.user));
        for option in [
            &format!("UserKnownHostsFile={}", known.display()),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "BatchMode=yes",
            "ExitOnForwardFailure=yes",
            "ConnectTimeout=20",
            "ServerAliveInterval=3",
        ] {
            ssh.args(["-o", option]);
        }
        for (service, port) in &laptop.services {
            ssh.args(["-R", &format!("{service}:0:127.0.0.1:{port}")]);
        }
        ssh.arg(format!("{}@{}", laptop.user, way.ip()));
        Ok(ssh)
    }

    pub(super) fn kill_laptop(&mut self, index: usize) {
        if let Some(running) = self.laptops[index].running.take() {
            running.kill();
        }
    }

    pub(super) fn signal_laptop(&self, index: usize, signal: Signal) {
        if let Some(running) = &self.laptops[index].running {
            running.send(signal);
        }
    }

    /// The user goes on at their other machine and takes the tags there; the first one has to end, and says why.
    pub(super) fn take_over(&mut self, index: usize) -> Result<(), String> {
        let laptop = &mut self.laptops[index];
        let first = laptop.running.take();
        laptop.machine = 1 - laptop.machine;
        self.start_laptop(index, &["--takeover"])?;
        let Some(mut first) = first else { return Ok(()) };
        let status = first.wait_for_end(BACK)?;
        match status.code() {
            Some(6) => Ok(()),
            _ => Err(format!("{}: the displaced up ended with {status}", self.laptops[index].user)),
        }
    }

    /// Starts again what ends with its connection, and complains of what does not and has.
    fn tend(&mut self) -> Result<(), String> {
        if let Some(how) = self.daemon.ended() {
            return Err(format!(
                "bastiond ended by itself: {how}; its log: {}",
                self.daemon.log().display()
            ));
        }
        for index in 0..self.laptops.len() {
            let laptop = &mut self.laptops[index];
            let Some(status) = laptop.running.as_mut().and_then(Running::ended) else {
                continue;
            };
            if !laptop.openssh {
                let home = self.home(&self.laptops[index]);
                let said = fs::read_to_string(home.join("out")).unwrap_or_default();
                let last: Vec<&str> = said.lines().rev().take(6).collect();
                return Err(format!(
                    "the up of {} ended with {status}: {last:?}",
                    self.laptops[index].user
                ));
            }
            laptop.running = None;
            self.start_laptop(index, &[])?;
        }
        Ok(())
    }

    /// Waits until every tag of these laptops is answered; how long that took.
    pub(super) fn well(&mut self, indexes: &[usize]) -> Result<Duration, String> {
        let began = Instant::now();
        for &index in indexes {
            let tags: Vec<String> = self.laptops[index].tags().collect();
            for tag in tags {
                loop {
                    self.tend()?;
                    let fate = self.probe.exchange(Kind::Small, &tag);
                    match fate {
                        Fate::Whole => break,
                        Fate::Wrong(what) => return Err(format!("{tag}: {what}")),
                        _ if began.elapsed() > BACK => {
                            return Err(format!("{tag} was not back after {} s: {fate:?}", BACK.as_secs()));
                        }
                        _ => pause(LOOK),
                    }
                }
            }
        }
        Ok(began.elapsed())
    }

    /// The probe's connection ends.
    pub(super) fn let_go_of_the_edge(&mut self) {
        self.probe.leave();
    }

    /// Everybody goes home; each `up` gives its tags back.
    pub(super) fn go_home(&mut self) -> Result<(), String> {
        for laptop in &self.laptops {
            if let Some(running) = &laptop.running {
                running.send(Signal::TERM);
            }
        }
        for laptop in &mut self.laptops {
            let Some(mut running) = laptop.running.take() else { continue };
            let status = running.wait_for_end(GIVES_BACK)?;
            if !laptop.openssh && !status.success() {
                return Err(format!("the up of {} ended with {status} after SIGTERM", laptop.user));
            }
        }
        Ok(())
    }

    /// What anybody wrote of a panic.
    pub(super) fn panics(&self) -> Vec<String> {
        let mut files = vec![self.daemon.log()];
        for laptop in &self.laptops {
            files.extend((0..2).map(|machine| self.directory.join(format!("{}-{machine}/out", laptop.user))));
        }
        let text = |file: &PathBuf| fs::read_to_string(file).unwrap_or_default();
        let lines = files
            .iter()
            .flat_map(|file| text(file).lines().map(str::to_owned).collect::<Vec<_>>());
        lines.filter(|line| line.contains("panicked at")).collect()
    }

    /// What the services found wrong.
    pub(super) fn found_wrong(&self) -> Vec<String> {
        let text = fs::read_to_string(self.complaints()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn edge(&self) -> SocketAddr {
        self.daemon.http
    }

    /// Descriptors and memory (MiB) of the laptops that live throughout.
    pub(super) fn steady(&self) -> Vec<u32> {
        let steady = self.laptops.iter().filter(|laptop| laptop.steady && !laptop.openssh);
        steady
            .map(Laptop::pid)
            .filter(|pid| process::own_memory(*pid).is_some())
            .collect()
    }
}

fn key_of(directory: &Path, user: &str) -> PathBuf {
    directory.join(format!("{user}.key"))
}

/// Makes a user's key; gives its line for the bastion, as an `up` writes it.
fn make_key(directory: &Path, user: &str) -> Result<String, String> {
    let (_, private, public) = ephemwork::tunnel::ClientKey::generate().map_err(|why| why.to_string())?;
    let file = key_of(directory, user);
    let made = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&file);
    let written = made.and_then(|mut made| made.write_all(private.as_bytes()));
    written.map_err(|why| format!("{}: {why}", file.display()))?;
    Ok(format!("environment=\"EPHEMWORK_USER={user}\" {} ephemwork\n", public.trim()))
}
