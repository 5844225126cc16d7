//! What the daemon is told: the command line and the file of `--config`, a flag before the file's line of the same name.
//!
//! Both are texts under the same names, so a rule stands once; all mistakes of both are reported together.

mod access;
mod limits;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use argh::FromArgs;

pub(crate) use access::Access;
pub(crate) use limits::Quotas;

use crate::bastiond::store::Keep;
use crate::config;
pub(crate) use crate::config::StagingUrl;
use crate::log::Format;

/// How long a session outlives its last lane: a laptop that sleeps for a coffee keeps its tag, one that was closed for the day does not.
const LEASE: u64 = 60;
/// How long a request waits for its laptop to come back: longer than the laptop's longest pause between two attempts (5 s).
const HOLD: u64 = 10;
/// How long requests in flight may take after SIGTERM: below an ECS task's and systemd's usual 30 s and 90 s.
const DRAIN: u64 = 20;
/// Requests in flight of one address: an office behind one, with a WebSocket for each of a hundred pages, and still a fifth of what
/// a bastion of the smallest kind takes.
const CLIENT_REQUESTS: usize = 1000;
/// The load balancer.
const TRUSTED_HOPS: usize = 1;
/// More proxies than this are a typing error.
const MAX_TRUSTED_HOPS: usize = 16;
/// More requests of one address than this are no limit.
const MAX_CLIENT_REQUESTS: usize = 1_000_000;
const SLOW_BODY: u64 = 60; // For a KiB of a body; an ALB ends connections on which nothing comes for as long.
/// The longest time that any setting takes, in seconds: a week. More is a typing error.
const MAX_SECONDS: u64 = 7 * 24 * 3600;
/// The smallest rekey limit, in bytes: below this a connection would do little but exchange keys.
const MIN_REKEY_BYTES: u64 = 1 << 20;

/// The settings' names in the file, in the order of the help; a flag has `-` for `_`.
const KEYS: [&str; 31] = [
    "http",
    "ssh",
    "state",
    "authorize",
    "authorized_keys",
    "authorized_keys_command",
    "user_from_arn",
    "admin",
    "imds",
    "roots",
    "control_socket",
    "lease",
    "hold",
    "settle",
    "slow_body",
    "client_requests",
    "trusted_hops",
    "exit_when_idle",
    "cors_origin",
    "local",
    "staging_url",
    "metrics",
    "rekey_bytes",
    "drain",
    "user_sessions",
    "session_lanes",
    "user_rate",
    "session_lifetime",
    "audit_days",
    "audit_bytes",
    "log_format",
];

/// The bastion's daemon: an HTTP edge whose routes are the SSH tunnels of laptops.
///
/// A flag wins over the line of the same name in the file of --config.
#[derive(FromArgs, Clone, Debug)]
#[argh(
    example = "{command_name} --http 127.0.0.1:7070 --ssh 127.0.0.1:2222 --state /var/lib/ephemwork",
    note = "Signals: SIGTERM drains and ends, a second one ends at once; SIGHUP reads keys and --config again.
EPHEMWORK_LOG sets the log level (error, warn, info, debug, trace)."
)]
pub(crate) struct Flags {
    /// where the edge listens for HTTP, e.g. 0.0.0.0:8080
    #[argh(option, arg_name = "addr")]
    http: Option<String>,
    /// where SSH listens: HOST:PORT or unix:PATH
    #[argh(option, arg_name = "addr")]
    ssh: Option<String>,
    /// directory of host key, sessions and sockets; made when absent
    #[argh(option, arg_name = "dir")]
    state: Option<String>,
    /// who may log in: keys (of the file or command below; default) or eic (keys sent by EC2 Instance Connect, and the file's if given)
    #[argh(option, arg_name = "source")]
    authorize: Option<String>,
    /// who may log in, in OpenSSH's format (default: authorized_keys in the state directory)
    #[argh(option, arg_name = "file")]
    authorized_keys: Option<String>,
    /// prints who may log in, as sshd's AuthorizedKeysCommand: an absolute path, with %u, %f, %k, %t
    #[argh(option, arg_name = "command")]
    authorized_keys_command: Option<String>,
    /// the one name a caller may use, e.g. arn:aws:sts::*:assumed-role/*/{user}@* (default: the first caller owns a name)
    #[argh(option, arg_name = "pattern")]
    user_from_arn: Option<String>,
    /// whose callers may list and release names, e.g. arn:aws:sts::*:assumed-role/Admin/*; may be repeated
    #[argh(option, arg_name = "pattern")]
    admin: Vec<String>,
    /// the instance metadata service (default http://169.254.169.254)
    #[argh(option, arg_name = "url")]
    imds: Option<String>,
    /// PEM file of the roots to trust in place of the system's
    #[argh(option, arg_name = "file")]
    roots: Option<String>,
    /// the admin's unix socket (default: control.sock in the state directory)
    #[argh(option, arg_name = "path")]
    control_socket: Option<String>,
    /// how long a session outlives its last connection (default 60)
    #[argh(option, arg_name = "seconds")]
    lease: Option<String>,
    /// how long a request waits for its laptop to come back (default 10)
    #[argh(option, arg_name = "seconds")]
    hold: Option<String>,
    /// how long after a start without any session tags that nobody has claimed wait, too: a bastion that takes another's place (default 0)
    #[argh(option, arg_name = "seconds")]
    settle: Option<String>,
    /// how long a client may take for each KiB of a request's body (default 60; 0: as long as it likes)
    #[argh(option, arg_name = "seconds")]
    slow_body: Option<String>,
    /// requests that one address may have in flight (default 1000; 0: any number, as with --local)
    #[argh(option, arg_name = "n")]
    client_requests: Option<String>,
    /// proxies before the edge whose X-Forwarded-For is believed (default 1, the load balancer; with --local 0)
    #[argh(option, arg_name = "n")]
    trusted_hops: Option<String>,
    /// end after so long without connection and session
    #[argh(option, arg_name = "seconds")]
    exit_when_idle: Option<String>,
    /// a file of settings: NAME = VALUE in TOML, names as the flags' with _ for -
    #[argh(option, arg_name = "file")]
    pub(crate) config: Option<String>,
    /// an origin whose CORS preflights the edge answers itself; may be repeated
    #[argh(option, arg_name = "origin")]
    cors_origin: Vec<String>,
    /// serve one machine's own `ephemwork up`
    #[argh(switch)]
    local: bool,
    /// where untagged requests go (with --local)
    #[argh(option, arg_name = "url")]
    staging_url: Option<String>,
    /// a loopback address for the Prometheus page
    #[argh(option, arg_name = "addr")]
    metrics: Option<String>,
    /// bytes after which an SSH connection exchanges new keys
    #[argh(option, arg_name = "n")]
    rekey_bytes: Option<String>,
    /// how long requests in flight may take after SIGTERM (default 20)
    #[argh(option, arg_name = "seconds")]
    drain: Option<String>,
    /// how many sessions one user may hold (default 64)
    #[argh(option, arg_name = "n")]
    user_sessions: Option<String>,
    /// how many connections one session may have, up to 8 (default 8)
    #[argh(option, arg_name = "n")]
    session_lanes: Option<String>,
    /// bytes a second of one user's requests and answers together (default 0: no limit)
    #[argh(option, arg_name = "n")]
    user_rate: Option<String>,
    /// how old a session may become; then it ends, and may be claimed anew (default 0: no limit)
    #[argh(option, arg_name = "seconds")]
    session_lifetime: Option<String>,
    /// how long the audit keeps what happened (default 90)
    #[argh(option, arg_name = "days")]
    audit_days: Option<String>,
    /// how much of it (default 16777216)
    #[argh(option, arg_name = "n")]
    audit_bytes: Option<String>,
    /// text, journal or json (default text)
    #[argh(option, arg_name = "format")]
    log_format: Option<String>,
}

impl Flags {
    /// What the flags say, as texts.
    pub(crate) fn texts(&self, directory: &Path) -> Texts {
        let flags = self.clone();
        let mut texts = Texts::default();
        let single = [
            ("http", flags.http),
            ("ssh", flags.ssh),
            ("state", flags.state),
            ("authorize", flags.authorize),
            ("authorized_keys", flags.authorized_keys),
            ("authorized_keys_command", flags.authorized_keys_command),
            ("user_from_arn", flags.user_from_arn),
            ("imds", flags.imds),
            ("roots", flags.roots),
            ("control_socket", flags.control_socket),
            ("lease", flags.lease),
            ("hold", flags.hold),
            ("settle", flags.settle),
            ("slow_body", flags.slow_body),
            ("client_requests", flags.client_requests),
            ("trusted_hops", flags.trusted_hops),
            ("exit_when_idle", flags.exit_when_idle),
            ("local", flags.local.then(|| "true".to_owned())),
            ("staging_url", flags.staging_url),
            ("metrics", flags.metrics),
            ("rekey_bytes", flags.rekey_bytes),
            ("drain", flags.drain),
            ("user_sessions", flags.user_sessions),
            ("session_lanes", flags.session_lanes),
            ("user_rate", flags.user_rate),
            ("session_lifetime", flags.session_lifetime),
            ("audit_days", flags.audit_days),
            ("audit_bytes", flags.audit_bytes),
            ("log_format", flags.log_format),
        ];
        for (key, value) in single {
            texts.flag(key, value, directory);
        }
        texts.flag("cors_origin", flags.cors_origin, directory);
        texts.flag("admin", flags.admin, directory);
        texts
    }
}

/// Where SSH listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SshAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Everything that is fixed while the daemon runs, and [`Tunables`] as they were at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub http: SocketAddr,
    pub ssh: SshAddress,
    pub state: PathBuf,
    pub control_socket: PathBuf,
    /// How long after a start without sessions requests of unclaimed tags are held like those of sessions without lane.
    pub settle: Duration,
    /// How long a client may take for each KiB of a request's body; `None` waits for ever.
    pub slow_body: Option<Duration>,
    /// Requests that one address may have in flight, and connections open where nothing stands before the edge.
    pub client_requests: Option<usize>,
    /// Proxies before the edge that say whom they were called by.
    pub trusted_hops: usize,
    pub exit_when_idle: Option<Duration>,
    pub local: bool,
    pub metrics: Option<SocketAddr>,
    pub rekey_bytes: Option<u64>,
    pub log_format: Format,
    pub staging_url: Option<StagingUrl>,
    pub access: Access,
    pub keep: Keep,
    pub tunables: Tunables,
}

/// What SIGHUP reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunables {
    pub lease: Duration,
    /// How long the edge holds a request of a session without lane.
    pub hold: Duration,
    pub drain: Duration,
    pub quotas: Quotas,
    /// Origins whose preflights the edge answers by itself.
    pub cors_origins: Vec<String>,
    /// Who may log in. Without the setting: `authorized_keys` of the state directory, which may be absent.
    pub authorized_keys: PathBuf,
    pub authorized_keys_given: bool,
}

/// The texts of one setting and where they stand.
#[derive(Clone, Debug)]
struct Given {
    values: Vec<String>,
    /// `--http` or `bastiond.toml:3: http`.
    place: String,
    /// What relative paths are relative to.
    base: PathBuf,
}

/// The texts of all settings, flags over file.
#[derive(Clone, Debug, Default)]
pub(crate) struct Texts {
    given: BTreeMap<&'static str, Given>,
    mistakes: Vec<String>,
}

impl Texts {
    /// Takes a flag's texts; none is no flag.
    pub(crate) fn flag(&mut self, key: &'static str, values: impl IntoIterator<Item = String>, directory: &Path) {
        let values: Vec<String> = values.into_iter().collect();
        if !values.is_empty() {
            let given = Given {
                values,
                place: format!("--{}", key.replace('_', "-")),
                base: directory.to_owned(),
            };
            self.given.insert(key, given);
        }
    }

    /// Takes the content of the file of `--config`, for whatever no flag gave.
    pub(crate) fn file(&mut self, text: &str, file: &Path) {
        let entries = match config::flat(text, &KEYS) {
            Ok(entries) => entries,
            Err(mistakes) => {
                let shown = mistakes.iter().map(|mistake| {
                    let hint = mistake.hint.iter().map(|hint| format!("; {hint}")).collect::<String>();
                    format!(
                        "{}:{}:{}: {}{hint}",
                        file.display(),
                        mistake.line,
                        mistake.column,
                        mistake.what
                    )
                });
                self.mistakes.extend(shown);
                return;
            }
        };
        for entry in entries {
            let given = Given {
                values: entry.values,
                place: format!("{}:{}: {}", file.display(), entry.line, entry.key),
                base: file.parent().unwrap_or(Path::new("")).to_owned(),
            };
            self.given.entry(entry.key).or_insert(given);
        }
    }

    /// The settings, or a sentence for everything that is wrong.
    pub(crate) fn settings(mut self) -> Result<Settings, Vec<String>> {
        let file_is_read = self.mistakes.is_empty();
        let state = self.path("state");
        let http = self.address("http");
        let ssh = self.one("ssh", |text, base| match text.strip_prefix("unix:") {
            Some("") => Err("there is no path behind unix:".to_owned()),
            Some(path) => Ok(SshAddress::Unix(base.join(path))),
            None => address(text).map(SshAddress::Tcp),
        });
        for (key, found) in [("http", http.is_some()), ("ssh", ssh.is_some()), ("state", state.is_some())] {
            if file_is_read && !found && !self.given.contains_key(key) {
                let example = match key {
                    "http" => "127.0.0.1:7070",
                    "ssh" => "127.0.0.1:2222",
                    _ => "/var/lib/ephemwork",
                };
                self.mistakes.push(format!(
                    "--{key} is missing; give it, for example --{key} {example}, or {key} = \"{example}\" in the file of --config"
                ));
            }
        }
        let state_directory = state.clone().unwrap_or_default();
        let authorized_keys = self.path("authorized_keys");
        let tunables = Tunables {
            lease: self.seconds("lease", 1).unwrap_or(Duration::from_secs(LEASE)),
            hold: self.seconds("hold", 0).unwrap_or(Duration::from_secs(HOLD)),
            drain: self.seconds("drain", 0).unwrap_or(Duration::from_secs(DRAIN)),
            quotas: self.quotas(),
            cors_origins: self.all("cors_origin", origin),
            authorized_keys_given: authorized_keys.is_some(),
            authorized_keys: authorized_keys.unwrap_or_else(|| state_directory.join("authorized_keys")),
        };
        let local = self
            .one("local", |text, _| {
                text.parse().map_err(|_| format!("{text:?} is neither true nor false"))
            })
            .unwrap_or(false);
        let metrics = self.one("metrics", |text, _| {
            let address = address(text)?;
            if address.ip().is_loopback() {
                return Ok(address);
            }
            Err(format!(
                "{text} is not a loopback address, and the metrics page has no login; use 127.0.0.1:PORT"
            ))
        });
        let rekey_bytes = self.one("rekey_bytes", |text, _| match text.parse() {
            Ok(bytes) if bytes >= MIN_REKEY_BYTES => Ok(bytes),
            _ => Err(format!("{text:?} is not a number of bytes from {MIN_REKEY_BYTES} up")),
        });
        let log_format = self.one("log_format", |text, _| Format::parse(text)).unwrap_or(Format::Text);
        let staging_url = self.one("staging_url", |text, _| {
            StagingUrl::parse(text).map_err(|why| why.to_string())
        });
        if staging_url.is_some() && !local {
            self.mistakes
                .push("staging_url is for local mode; give --local too, or leave it out".to_owned());
        }
        let access = self.access();
        let keep = self.keep();
        let control_socket = self.path("control_socket");
        let exit_when_idle = self.seconds("exit_when_idle", 1);
        let settle = self.seconds("settle", 0).unwrap_or_default();
        let slow_body = self.seconds("slow_body", 0).unwrap_or(Duration::from_secs(SLOW_BODY));
        let (requests, hops) = if local { (0, 0) } else { (CLIENT_REQUESTS, TRUSTED_HOPS) };
        let client_requests = self
            .count("client_requests", "requests", MAX_CLIENT_REQUESTS)
            .unwrap_or(requests);
        let trusted_hops = self.count("trusted_hops", "hops", MAX_TRUSTED_HOPS).unwrap_or(hops);
        match (http, ssh, state) {
            (Some(http), Some(ssh), Some(state)) if self.mistakes.is_empty() => Ok(Settings {
                http,
                ssh,
                control_socket: control_socket.unwrap_or_else(|| state.join("control.sock")),
                state,
                settle,
                slow_body: Some(slow_body).filter(|time| !time.is_zero()),
                client_requests: Some(client_requests).filter(|&most| most > 0),
                trusted_hops,
                exit_when_idle,
                local,
                metrics,
                rekey_bytes,
                log_format,
                staging_url,
                access,
                keep,
                tunables,
            }),
            _ => Err(self.mistakes),
        }
    }

    fn all<T>(&mut self, key: &str, parse: impl Fn(&str, &Path) -> Result<T, String>) -> Vec<T> {
        let Some(given) = self.given.get(key) else {
            return Vec::new();
        };
        let mut values = Vec::new();
        for text in &given.values {
            match parse(text, &given.base) {
                Ok(value) => values.push(value),
                Err(why) => self.mistakes.push(format!("{}: {why}", given.place)),
            }
        }
        values
    }

    fn one<T>(&mut self, key: &str, parse: impl Fn(&str, &Path) -> Result<T, String>) -> Option<T> {
        if let Some(given) = self.given.get(key).filter(|given| given.values.len() != 1) {
            self.mistakes
                .push(format!("{}: one value belongs here, not {}", given.place, given.values.len()));
            return None;
        }
        self.all(key, parse).pop()
    }

    fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.one(key, |text, base| match text {
            "" => Err("the path is empty".to_owned()),
            path => Ok(base.join(path)),
        })
    }

    fn address(&mut self, key: &str) -> Option<SocketAddr> {
        self.one(key, |text, _| address(text))
    }

    fn seconds(&mut self, key: &str, least: u64) -> Option<Duration> {
        self.one(key, |text, _| match text.parse() {
            Ok(seconds) if (least..=MAX_SECONDS).contains(&seconds) => Ok(Duration::from_secs(seconds)),
            _ => Err(format!("{text:?} is not a number of seconds from {least} to {MAX_SECONDS}")),
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an address and a port; write 127.0.0.1:7070 or [::1]:7070"))
}

/// An origin as browsers send it (RFC 6454, section 6.2): scheme, host, and a port unless it is the scheme's own.
fn origin(text: &str, _base: &Path) -> Result<String, String> {
    let wrong = |why: &str| {
        Err(format!(
            "{text:?} is not an origin ({why}); write https://app.example.com or http://localhost:5173"
        ))
    };
    let url = match StagingUrl::parse(text) {
        Ok(url) => url,
        Err(why) => return wrong(&why.to_string()),
    };
    let shown = url.to_string();
    if shown != text {
        return wrong(&format!("a browser would send {shown:?}"));
    }
    Ok(shown)
}

#[cfg(test)]
mod tests;
