//! The local bastion: the same executable as a daemon of its own, started when none answers, which ends by itself when idle.
//!
//! Whoever comes first starts it, under a lock; the others find it. It outlives the `up` that started it, so that another
//! `up` keeps its edge. Keys are made and pinned without a question, in a directory that only the user may enter.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use serde::Deserialize;

use super::home::{Home, private_directory};
use super::system::Process;
use super::{mark, port, socket, system};
use crate::config::StagingUrl;
use crate::error::{Error, Exit, Result};
use crate::host::Host;
use crate::name::User;
use crate::protocol::{self, Health};
use crate::rt;
use crate::tunnel::{ClientKey, Link, Login, Requests, Transport};

/// After this long without a session it ends.
const IDLE: Duration = Duration::from_secs(600);
/// How long a start may take, and how long another's start or end is waited for: a drain takes up to 20 s.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a start.
const LOOK: Duration = Duration::from_millis(20);
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

    /// The same, with a daemon that ends this long after its last session.
    pub(crate) fn with_idle(self, idle: Duration) -> Local {
        Local { idle, ..self }
    }

    /// Finds or starts the daemon and connects to it.
    pub(crate) async fn connect(&self) -> Result<(Link, Requests, Ready)> {
        let (ready, new_key) = self.ensure().await?;
        self.stage(&ready).await?;
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
                Err(error) => return Err(error),
            }
        }
    }

    /// A daemon that answers, and whether our key was added to those it knows just now.
    async fn ensure(&self) -> Result<(Ready, bool)> {
        let directory = self.home.local(self.listen);
        private_directory(&directory).map_err(|why| trouble(&directory, &why))?;
        let begun = Instant::now();
        let _lock = self.lock(&directory, begun).await?;
        let new_key = self.authorize(&directory).map_err(|why| trouble(&directory, &why))?;
        loop {
            match answering(&directory).await {
                Found::Serving(ready) => {
                    self.understood(&ready)?;
                    if new_key && let Some(daemon) = Process::of(ready.pid) {
                        daemon.signal(Signal::HUP);
                    }
                    return Ok((ready, new_key));
                }
                Found::Nobody => return Ok((self.start(&directory).await?, false)),
                Found::Ending if begun.elapsed() >= PATIENCE => {
                    let what = format!("the local bastion on {} is ending and does not end", self.listen);
                    return Err(Error::new(Exit::Unreachable, what).hint(format!("its log: {}", log(&directory).display())));
                }
                Found::Ending => rt::sleep(LOOK).await,
            }
        }
    }

    /// One starter at a time; the lock goes with the process that has it.
    async fn lock(&self, directory: &Path, begun: Instant) -> Result<File> {
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
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => rt::sleep(LOOK).await,
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

    async fn start(&self, directory: &Path) -> Result<Ready> {
        let failed = |why: String| {
            Error::new(
                Exit::Unreachable,
                format!("the local bastion on {} does not start", self.listen),
            )
            .because(why)
        };
        if self.listen.port() != 0
            && let Some(taken) = rt::unblock({
                let port = self.listen.port();
                move || port::taken(port)
            })
            .await
        {
            let by = taken
                .by
                .unwrap_or_else(|| "a process that the system does not name".to_owned());
            return Err(Error::new(
                Exit::Conflict,
                format!("{} is taken, so the local bastion cannot listen there", self.listen),
            )
            .because(format_args!("{by} holds it"))
            .hint("end it, or choose another address in ephemwork.toml: [tunnel] listen = \"127.0.0.1:7071\""));
        }
        std::fs::remove_file(directory.join("ready.json")).ok();
        let log = log(directory);
        let begins = std::fs::metadata(&log).map_or(0, |found| found.len());
        let mut daemon = self.spawn(directory, &log, begins).map_err(|why| failed(why.to_string()))?;
        let begun = Instant::now();
        loop {
            if let Found::Serving(ready) = answering(directory).await
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

    /// Tells the daemon where untagged requests go.
    async fn stage(&self, ready: &Ready) -> Result<()> {
        let url = self.staging.as_ref().map(ToString::to_string);
        let body = serde_json::json!({ "staging_url": url });
        let told = socket::call(&ready.control, Method::POST, "/v1/staging", Some(body)).await;
        let why = match told {
            Ok((status, _)) if status.is_success() => return Ok(()),
            Ok((status, body)) => format!("it answered {status}: {}", String::from_utf8_lossy(&body)),
            Err(why) => why,
        };
        Err(Error::new(Exit::Unreachable, "the local bastion does not take tunnel.staging_url").because(why))
    }
}

enum Found {
    Serving(Ready),
    /// It was told to end and still runs.
    Ending,
    Nobody,
}

/// The daemon of a state directory, if it answers.
pub(crate) async fn serving(directory: &Path) -> Option<Ready> {
    match answering(directory).await {
        Found::Serving(ready) => Some(ready),
        Found::Ending | Found::Nobody => None,
    }
}

async fn answering(directory: &Path) -> Found {
    let text = std::fs::read_to_string(directory.join("ready.json")).unwrap_or_default();
    let Ok(ready) = serde_json::from_str::<Ready>(&text) else {
        return Found::Nobody;
    };
    let pid = ready.pid;
    match socket::call(&ready.control, Method::GET, "/v1/health", None).await {
        Ok((status, body)) if status.is_success() => match serde_json::from_slice::<Health>(&body) {
            Ok(health) if health.status == "draining" => Found::Ending,
            _ => Found::Serving(ready),
        },
        // Else the file of a daemon that was killed, or of one whose number another process has.
        _ if rt::unblock(move || is_bastiond(pid)).await => Found::Ending,
        _ => Found::Nobody,
    }
}

fn is_bastiond(pid: u32) -> bool {
    Process::of(pid).is_some() && system::command_line(pid).is_some_and(|line| line.contains("bastiond"))
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

/// The laptop's own key; made when there is none.
fn laptop_key(home: &Home) -> Result<ClientKey> {
    let path = home.key();
    loop {
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                return ClientKey::from_openssh(&text).map_err(|why| {
                    Error::new(Exit::Config, format!("{} is not a key", path.display()))
                        .because(why)
                        .hint(format!("a new one is made when it is gone: rm {}", path.display()))
                });
            }
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(trouble(&path, &why)),
            Err(_) => {}
        }
        let (_, private, public) = ClientKey::generate()?;
        let own = path.with_extension(format!("{}.new", std::process::id()));
        write_private(&own, &private).map_err(|why| trouble(&own, &why))?;
        // A link does not replace: of two that make a key at once the first counts for both.
        let linked = std::fs::hard_link(&own, &path);
        std::fs::remove_file(&own).ok();
        match linked {
            Ok(()) => write_private(&path.with_extension("pub"), &format!("{public}\n")).map_err(|why| trouble(&path, &why))?,
            Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(why) => return Err(trouble(&path, &why)),
        }
    }
}

/// Replaces a file as a whole; only its owner may read it.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let new = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(&new, path)
}
