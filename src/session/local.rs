//! The local bastion: the same executable as a daemon of its own, started when none answers, which ends by itself when idle.
//!
//! Whoever comes first starts it, under a lock; the others find it. It outlives the `up` that started it, so that another
//! `up` keeps its edge. Keys are made and pinned without a question, in a directory that only the user may enter.

mod found;
pub(super) mod key;
mod staging;

use std::fs::{File, OpenOptions, TryLockError};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde::Deserialize;

use super::home::{Home, private_directory};
use super::records::Records;
use super::system::Process;
use super::{mark, port};
use crate::config::StagingUrl;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::User;
use crate::protocol;
use crate::rt;
use crate::tunnel::{ClientKey, Link, Login, Requests, Transport, Unconnected};
use found::Found;
pub(crate) use found::serving;
use key::{laptop_key, write_private};

/// After this long without a session it ends.
const IDLE: Duration = Duration::from_secs(600);
/// How long a start may take, and how long another's start or end is waited for: a drain takes up to 20 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a start.
const LOOK: Duration = Duration::from_millis(20);
/// How often a person is told that it is awaited.
const PROGRESS: Duration = Duration::from_secs(1);
/// How long the look before anything starts may take; one that hangs is dealt with later.
const GLANCE: Duration = Duration::from_secs(1);
/// How many looks in a row at a daemon that runs may stay without an answer (each takes the calls' limit); then it hangs.
const MAX_SILENT: u32 = 1;
/// How long a key that was added a moment ago may be refused.
const NEW_KEY: Duration = Duration::from_secs(3);
/// How much of the daemon's log is shown when it does not start, in bytes.
const LAST_WORDS: u64 = 2000;
/// The daemon's log is begun anew beyond this, in bytes.
const MAX_LOG: u64 = 10 * 1024 * 1024;

/// What the daemon does not inherit: systemd's socket, and the mark of a service in which this `up` may run; the daemon outlives it.
const NOT_FOR_IT: [&str; 2] = ["NOTIFY_SOCKET", mark::NAME];

/// What is needed to reach the local bastion, and to start it.
#[derive(Clone)]
pub(crate) struct Local {
    home: Home,
    host: Host,
    listen: SocketAddr,
    staging: Option<StagingUrl>,
    user: User,
    key: ClientKey,
    idle: Duration,
}

/// `ready.json`, which the daemon writes when it can serve.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) pid: u32,
    pub(crate) http: String,
    ssh: String,
    pub(crate) control: PathBuf,
    pub(crate) host_key: String,
    version: String,
    protocol: u32,
}

impl Local {
    /// Makes the laptop's key if there is none yet.
    pub(crate) fn new(host: &Host, home: &Home, user: &User, listen: SocketAddr, staging: Option<StagingUrl>) -> Result<Local> {
        Ok(Local {
            home: home.clone(),
            host: host.clone(),
            listen,
            staging,
            user: user.clone(),
            key: laptop_key(home)?,
            idle: IDLE,
        })
    }

    /// What to tell a person when requests without the header go elsewhere than another running `up` asked for.
    pub(super) async fn staging_taken(&self, records: &Records) -> Result<Option<String>> {
        staging::taken(self.listen, self.staging.as_ref(), records).await
    }

    /// At the end: the daemon serves the others' staging.
    pub(super) async fn stage_for_others(&self, records: &Records) {
        if self.staging.is_some() {
            staging::for_others(&self.home.local(self.listen), self.listen, records).await;
        }
    }

    /// The same, with a daemon that ends this long after its last session.
    pub(crate) fn with_idle(self, idle: Duration) -> Local {
        Local { idle, ..self }
    }

    /// Looks whether a daemon can serve on the address, before anything is built and started.
    ///
    /// # Errors
    /// Something else listens there, or the daemon that does is of another version.
    pub(super) async fn check(&self) -> Result<()> {
        let directory = self.home.local(self.listen);
        match rt::timeout(GLANCE, found::look(&self.home, &directory)).await {
            Some(Found::Serving(ready)) => self.understood(&ready),
            Some(Found::Nobody) => self.listen_is_free().await,
            // What is wrong with it is mended when it is needed.
            _ => Ok(()),
        }
    }

    /// Finds or starts the daemon and connects to it. `say` hears what takes longer than a moment.
    pub(crate) async fn connect(&self, records: &Records, say: Say<'_>) -> Result<(Link, Requests, Ready)> {
        let first = match self.reach(records, say).await {
            Err((Unconnected::HostKey { .. }, Some(ready))) if self.unlike_itself(&ready, say).await? => {
                self.reach(records, say).await
            }
            first => first,
        };
        first.map_err(|(why, ready)| match ready {
            Some(ready) => {
                let log = log(&self.home.local(self.listen));
                let hint = "end it, and `up` starts another: kill";
                Error::from(why).hint(format!("{hint} {}; its log: {}", ready.pid, log.display()))
            }
            None => why.into(),
        })
    }

    /// Ends the daemon that shows another host key than it wrote into `ready.json`, if that is surely what happened: its socket lies in
    /// a directory that only this user may enter, so that nobody can be in between.
    async fn unlike_itself(&self, ready: &Ready, say: Say<'_>) -> Result<bool> {
        let directory = self.home.local(self.listen);
        let own = format!("unix:{}", self.home.socket(directory.join("ssh.sock"))?.display());
        if ready.ssh != own {
            return Ok(false);
        }
        // Another `up` may have done it meanwhile.
        if let Some(daemon) = found::of(&directory, ready.pid).await {
            let why = "it shows another host key than ready.json has";
            self.replace(&daemon, why, say).await?;
        }
        Ok(true)
    }

    /// One try to connect; with the daemon that it failed at, if there was one that serves.
    async fn reach(
        &self,
        records: &Records,
        say: Say<'_>,
    ) -> std::result::Result<(Link, Requests, Ready), (Unconnected, Option<Box<Ready>>)> {
        let (ready, new_key) = self.ensure(say).await.map_err(|error| (error.into(), None))?;
        let staged = staging::stage(&ready, self.listen, records).await;
        staged.map_err(|error| (error.into(), None))?;
        let transport = match ready.ssh.strip_prefix("unix:") {
            Some(path) => Transport::Unix(PathBuf::from(path)),
            None => Transport::Tcp(ready.ssh.clone()),
        };
        let login = Login {
            user: self.user.clone(),
            key: self.key.clone(),
            host_key: ready.host_key.clone(),
        };
        let begun = Instant::now();
        loop {
            match Link::connect(&transport, &login).await {
                Ok((link, requests)) => return Ok((link, requests, ready)),
                // The daemon reads its keys again a moment after it was told to.
                Err(_) if new_key && begun.elapsed() < NEW_KEY => rt::sleep(LOOK).await,
                Err(error) => return Err((error, Some(Box::new(ready)))),
            }
        }
    }

    /// A daemon that answers, and whether our key was added to those it knows just now.
    async fn ensure(&self, say: Say<'_>) -> Result<(Ready, bool)> {
        let directory = self.home.local(self.listen);
        private_directory(&directory).map_err(|why| trouble(&directory, &why))?;
        let mut waiting = Waiting::new(say);
        let _lock = self.lock(&directory, &mut waiting).await?;
        let new_key = self.authorize(&directory).map_err(|why| trouble(&directory, &why))?;
        let mut silent = 0;
        loop {
            match found::look(&self.home, &directory).await {
                Found::Serving(ready) => {
                    self.understood(&ready)?;
                    if new_key && let Some(daemon) = Process::of(ready.pid) {
                        daemon.signal(Signal::HUP);
                    }
                    return Ok((ready, new_key));
                }
                Found::Nobody => return Ok((self.start(&directory, &mut waiting).await?, false)),
                Found::Busy(_) if waiting.time_is_left() => {
                    waiting.tell(&format!("waiting for the local bastion on {} to end", self.listen));
                    rt::sleep(LOOK).await;
                }
                Found::Silent(..) if silent < MAX_SILENT => {
                    silent += 1;
                    waiting.tell(&format!("waiting for the local bastion on {} to answer", self.listen));
                }
                Found::Busy(daemon) => self.replace(&daemon, "it is ending and does not end", say).await?,
                Found::Useless(daemon, why) | Found::Silent(daemon, why) => self.replace(&daemon, &why, say).await?,
            }
        }
    }

    /// Ends a daemon that is of no use, so that another can start.
    async fn replace(&self, daemon: &Process, why: &str, say: Say<'_>) -> Result<()> {
        say(format!(
            "the local bastion on {} (process {}) cannot be used: {why}; ending it and starting another",
            self.listen, daemon.pid
        ));
        found::end(daemon).await;
        if !daemon.lives() {
            return Ok(());
        }
        let what = format!("the local bastion on {} (process {}) cannot be used", self.listen, daemon.pid);
        let error = Error::new(Exit::Unreachable, what).because(format_args!("{why}; and it does not end"));
        Err(error.hint(format!("end it: kill -9 {}", daemon.pid)))
    }

    /// An address that something else has is found, and named.
    async fn listen_is_free(&self) -> Result<()> {
        let port = self.listen.port();
        // The system chooses one.
        if port == 0 {
            return Ok(());
        }
        let Some(taken) = rt::unblock(move || port::taken(port)).await else {
            return Ok(());
        };
        let by = taken
            .by
            .unwrap_or_else(|| "a process that the system does not name".to_owned());
        let what = format!("{} is taken, so the local bastion cannot listen there", self.listen);
        Err(Error::new(Exit::Conflict, what)
            .because(format_args!("{by} holds it"))
            .hint("end it, or choose another address in ephemwork.toml: [tunnel] listen = \"127.0.0.1:7071\""))
    }

    /// One starter at a time; the lock goes with the process that has it.
    async fn lock(&self, directory: &Path, waiting: &mut Waiting<'_>) -> Result<File> {
        let path = directory.join("start.lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|why| trouble(&path, &why))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if waiting.time_is_left() => {
                    waiting.tell("waiting for another ephemwork that starts the local bastion");
                    rt::sleep(LOOK).await;
                }
                Err(why) => return Err(trouble(&path, &why)),
            }
        }
    }

    /// Adds the laptop's key for its user to those that the daemon knows; whether that was new.
    fn authorize(&self, directory: &Path) -> std::io::Result<bool> {
        let path = directory.join("authorized_keys");
        let line = format!(
            "environment=\"EPHEMWORK_USER={}\" {} ephemwork",
            self.user,
            self.key.public_line()
        );
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        if known.lines().any(|known| known == line) {
            return Ok(false);
        }
        write_private(&path, &format!("{known}{line}\n"))?;
        Ok(true)
    }

    fn understood(&self, ready: &Ready) -> Result<()> {
        if ready.protocol == protocol::VERSION {
            return Ok(());
        }
        let what = format!(
            "the local bastion on {} is ephemwork {} and speaks another protocol",
            self.listen, ready.version
        );
        Err(Error::new(Exit::Unreachable, what)
            .because(format_args!(
                "it has protocol {}, this program {}",
                ready.protocol,
                protocol::VERSION
            ))
            .hint(format!("end it and try again; `up` starts the right one: kill {}", ready.pid)))
    }

    async fn start(&self, directory: &Path, waiting: &mut Waiting<'_>) -> Result<Ready> {
        let log = log(directory);
        let failed = |why: String| {
            let what = format!("the local bastion on {} does not start", self.listen);
            let hint = format!("its log: {}; what it keeps: {}", log.display(), directory.display());
            Error::new(Exit::Unreachable, what).because(why).hint(hint)
        };
        self.listen_is_free().await?;
        std::fs::remove_file(directory.join("ready.json")).ok();
        let begins = std::fs::metadata(&log).map_or(0, |found| found.len());
        let mut daemon = self.spawn(directory, &log, begins).map_err(|why| failed(why.to_string()))?;
        let begun = Instant::now();
        loop {
            if let Some(ready) = serving(directory).await
                && ready.pid == daemon.id()
            {
                // Reaped when it ends before this process does.
                rt::spawn(rt::unblock(move || daemon.wait().map(drop))).detach();
                return Ok(ready);
            }
            if let Ok(Some(status)) = daemon.try_wait() {
                return Err(failed(format!("it ended with {status}{}", last_words(&log, begins))));
            }
            if begun.elapsed() >= PATIENCE {
                daemon.kill().and_then(|()| daemon.wait()).ok();
                return Err(failed(format!(
                    "it was not ready within {} s{}",
                    PATIENCE.as_secs(),
                    last_words(&log, begins)
                )));
            }
            waiting.tell(&format!("waiting for the local bastion on {} to start", self.listen));
            rt::sleep(LOOK).await;
        }
    }

    /// In a process group of its own and with its output in a file, so that neither Ctrl-C nor the end of the terminal reaches it.
    fn spawn(&self, directory: &Path, log: &Path, size: u64) -> Result<Child> {
        let path = |name: &str| self.home.socket(directory.join(name));
        let output = OpenOptions::new()
            .create(true)
            .append(size <= MAX_LOG)
            .write(true)
            .truncate(size > MAX_LOG)
            .mode(0o600)
            .open(log)
            .and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(|why| trouble(log, &why))?;
        let mut command = Command::new(&self.host.executable);
        command
            .arg("bastiond")
            .args(["--local", "--http", &self.listen.to_string()])
            .arg("--ssh")
            .arg(format!("unix:{}", path("ssh.sock")?.display()))
            .arg("--control-socket")
            .arg(path("control.sock")?)
            .arg("--state")
            .arg(directory)
            .arg("--authorized-keys")
            .arg(directory.join("authorized_keys"))
            .args(["--exit-when-idle", &self.idle.as_secs().to_string()])
            .env_clear()
            .envs(
                self.host
                    .environment
                    .iter()
                    .filter(|(name, _)| !NOT_FOR_IT.iter().any(|not| name == not)),
            )
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0);
        command.spawn().map_err(|why| trouble(&self.host.executable, &why))
    }
}

/// Who hears what takes longer than a moment.
pub(crate) type Say<'a> = &'a (dyn Fn(String) + Send + Sync);

/// A wait that is told every second.
struct Waiting<'a> {
    say: Say<'a>,
    begun: Instant,
    told: Duration,
}

impl Waiting<'_> {
    fn new(say: Say<'_>) -> Waiting<'_> {
        Waiting {
            say,
            begun: Instant::now(),
            told: Duration::ZERO,
        }
    }

    fn time_is_left(&self) -> bool {
        self.begun.elapsed() < PATIENCE
    }

    fn tell(&mut self, what: &str) {
        let so_far = self.begun.elapsed();
        if so_far >= self.told + PROGRESS {
            self.told = so_far;
            (self.say)(format!("{what}, {} s", so_far.as_secs()));
        }
    }
}

fn log(directory: &Path) -> PathBuf {
    directory.join("bastiond.log")
}

/// The end of what the daemon wrote since its start, on lines of its own.
fn last_words(log: &Path, begins: u64) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let begins = begins.max((text.len() as u64).saturating_sub(LAST_WORDS)) as usize;
    let said = String::from_utf8_lossy(text.get(begins..).unwrap_or_default())
        .trim()
        .to_owned();
    match said.is_empty() {
        true => format!("; it said nothing in {}", log.display()),
        false => format!(":\n{said}"),
    }
}

fn trouble(path: &Path, why: &dyn std::fmt::Display) -> Error {
    Error::new(Exit::Config, format!("{} cannot be used", path.display()))
        .because(why)
        .hint("another place for ephemwork's state: export EPHEMWORK_HOME=/some/directory")
}
