//! The bastion's daemon: [`main`] puts its parts together, waits for a signal, and drains.
//!
//! `edge` takes requests, `state` says which lane is theirs, `ssh` holds the lanes. The rules stand in `registry`, `route`
//! and `guard`, which do nothing but decide.

mod admin;
mod audit;
pub(crate) mod authorize;
mod changes;
pub(crate) mod clients;
pub(crate) mod control;
mod directory;
pub(crate) mod edge;
mod end;
pub(crate) mod guard;
mod keys;
pub(crate) mod lane;
pub(crate) mod metrics;
mod notify;
pub(crate) mod pace;
pub(crate) mod principal;
mod refused;
pub(crate) mod registry;
pub(crate) mod route;
pub(crate) mod settings;
pub(crate) mod ssh;
mod staging;
pub(crate) mod state;
mod store;
mod unaccepted;
mod users;

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use argh::FromArgs as _;

use crate::bastiond::admin::Door;
use crate::bastiond::authorize::Authorized;
use crate::bastiond::directory::{Directory, Ready};
use crate::bastiond::settings::{Flags, Settings, SshAddress};
use crate::bastiond::ssh::{HostKey, SshListener};
use crate::bastiond::state::{Addresses, Beginning, Daemon};
use crate::bastiond::store::Store;
use crate::error::{Error, Exit, Result, short};
use crate::host::{Host, read_text};
use crate::log::{self, LevelFilter};
use crate::protocol;
use crate::rt::{self, Signal, Signals};

/// What the daemon calls itself.
const NAME: &str = "ephemwork-bastiond";

/// The longest file of settings, in bytes; it has some twenty lines.
const MAX_SETTINGS: u64 = 1 << 20;

/// How often a drain looks whether the last request is done. Only the end of the process waits for it.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// How long connections may take to say goodbye after the drain.
const GOODBYE: Duration = Duration::from_millis(500);

/// The daemon, from its arguments to its exit code.
pub fn main(host: &Host, arguments: &[String]) -> ExitCode {
    if arguments.first().is_some_and(|first| first == "--version" || first == "-V") {
        println!("{}", crate::version(NAME));
        return ExitCode::SUCCESS;
    }
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let flags = match Flags::from_args(&[NAME], &texts) {
        Ok(flags) => flags,
        Err(early) if early.status.is_ok() => {
            print!("{}", early.output);
            return ExitCode::SUCCESS;
        }
        Err(early) => {
            complain(&format!("{}\n  {NAME} --help lists what there is", early.output.trim_end()));
            return ExitCode::from(Exit::Usage as u8);
        }
    };
    match run(host, &flags) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(error.exit as u8)
        }
    }
}

/// Says why on stderr. One that takes nothing costs the text only, and the exit code stays.
fn complain(why: &str) {
    writeln!(io::stderr(), "error: {}", short(why)).unwrap_or_default();
}

fn run(host: &Host, flags: &Flags) -> Result<Exit> {
    let settings = settings(host, flags)?;
    let colour = host.stderr_is_terminal && host.variable("NO_COLOR").is_none();
    log::init(settings.log_format, host.variable(log::VARIABLE), LevelFilter::INFO, colour)?;
    let served = rt::block_on(serve(host, flags, settings));
    served.map_err(|why| Error::new(Exit::Bug, "the runtime cannot start").because(why))?
}

/// Reads flags and file.
fn settings(host: &Host, flags: &Flags) -> Result<Settings> {
    let mut texts = flags.texts(&host.directory);
    if let Some(file) = &flags.config {
        let file = host.directory.join(file);
        let text = read_text(&file, MAX_SETTINGS).map_err(|why| {
            Error::new(Exit::Config, format!("{} cannot be read", file.display()))
                .because(why)
                .hint("give --config a file of settings, or leave it out")
        })?;
        texts.file(&text, &file);
    }
    let exit = if flags.config.is_some() { Exit::Config } else { Exit::Usage };
    texts.settings().map_err(|mistakes| match mistakes.as_slice() {
        [only] => Error::new(exit, only),
        all => Error::new(exit, format!("{} settings are wrong:\n  {}", all.len(), all.join("\n  "))),
    })
}

/// What is open and has a place on disk while the daemon serves.
struct Open {
    directory: Directory,
    http: rt::TcpListener,
    ssh: SshListener,
    control: rt::UnixListener,
    metrics: Option<rt::TcpListener>,
    key: HostKey,
    addresses: Addresses,
    daemon: Arc<Daemon>,
}

async fn serve(host: &Host, flags: &Flags, settings: Settings) -> Result<Exit> {
    let mut signals = Signals::new().map_err(|why| Error::new(Exit::Bug, "signals cannot be received").because(why))?;
    let notify = host
        .environment
        .get(OsStr::new("NOTIFY_SOCKET"))
        .map(|socket| socket.as_os_str());
    let open = open(settings, notify).await?;
    let (directory, daemon) = (open.directory, open.daemon);
    let ready = Ready {
        pid: std::process::id(),
        http: open.addresses.http,
        ssh: open.addresses.ssh,
        control: daemon.settings.control_socket.clone(),
        host_key: open.key.public(),
        version: env!("CARGO_PKG_VERSION"),
        protocol: protocol::VERSION,
    };
    let edge = rt::spawn(edge::serve(open.http, daemon.clone()));
    let mut parts = vec![
        rt::spawn(ssh::serve(open.ssh, open.key, daemon.clone())),
        rt::spawn(admin::serve(Door::Control(open.control), daemon.clone())),
    ];
    parts.extend(
        open.metrics
            .map(|listener| rt::spawn(admin::serve(Door::Metrics(listener), daemon.clone()))),
    );
    for upkeep in [Upkeep::Leases, Upkeep::LastSeen, Upkeep::Rates, Upkeep::Audit] {
        let daemon = daemon.clone();
        parts.push(rt::spawn(async move {
            match upkeep {
                Upkeep::Leases => daemon.end_leases().await,
                Upkeep::LastSeen => daemon.keep_last_seen().await,
                Upkeep::Rates => daemon.keep_rates().await,
                Upkeep::Audit => daemon.keep_audit().await,
            }
        }));
    }
    directory.ready(&ready)?;
    tell(notify, notify::READY);
    tracing::info!(pid = ready.pid, http = %ready.http, ssh = %ready.ssh, control = %ready.control.display(), version = ready.version, "ready");

    let exit = until_the_end(host, flags, &daemon, &mut signals).await;
    tell(notify, notify::STOPPING);
    directory.not_ready();
    let exit = smol::future::or(drain(&daemon, edge, exit), again(&mut signals)).await;
    remove_sockets(&daemon.settings);
    drop(parts);
    daemon.close_store().await;
    tracing::info!("ended");
    Ok(exit)
}

#[derive(Clone, Copy)]
enum Upkeep {
    Leases,
    LastSeen,
    Rates,
    Audit,
}

/// Takes the directory, reads what is kept in it, and binds every socket that the service manager has not kept for it.
async fn open(settings: Settings, notify: Option<&OsStr>) -> Result<Open> {
    let mut kept = if notify.is_some() { rt::inherited() } else { Vec::new() };
    let ssh = match &settings.ssh {
        SshAddress::Tcp(address) => Some(*address),
        SshAddress::Unix(_) => None,
    };
    let asked = [Some(settings.http), ssh];
    kept.retain(|listener| listener.local_addr().is_ok_and(|at| asked.contains(&Some(at))));
    let directory = Directory::take(&settings.state)?;
    let loaded = Authorized::of(&settings)?;
    let opened = Store::open(&directory.file("sessions.redb"), settings.keep, now())?;
    for warning in loaded.warnings.iter().chain(&opened.warnings) {
        tracing::warn!("{warning}");
    }
    let key = HostKey::load_or_make(&settings.state)?;
    let http = listen(settings.http, "--http", &mut kept, notify).await?;
    let (ssh, ssh_address) = match &settings.ssh {
        SshAddress::Tcp(address) => {
            let listener = listen(*address, "--ssh", &mut kept, notify).await?;
            let address = local(&listener, *address);
            (SshListener::Tcp(listener), address)
        }
        SshAddress::Unix(path) => (
            SshListener::Unix(directory::listen(path)?),
            format!("unix:{}", path.display()),
        ),
    };
    let metrics = match settings.metrics {
        Some(address) => Some(bind(address, "--metrics").await?),
        None => None,
    };
    let control = directory::listen(&settings.control_socket)?;
    let addresses = Addresses {
        http: local(&http, settings.http),
        ssh: ssh_address,
    };
    tracing::info!(
        keys = loaded.authorized.len(),
        sessions = opened.records.len(),
        names = opened.owners.len(),
        "read"
    );
    let daemon = Daemon::new(Beginning {
        settings,
        addresses: addresses.clone(),
        store: opened.store,
        records: opened.records,
        owners: opened.owners,
        authorized: loaded.authorized,
        clock: now,
    });
    Ok(Open {
        directory,
        http,
        ssh,
        control,
        metrics,
        key,
        addresses,
        daemon,
    })
}

/// The listener that was kept, if there is one for this address; else a new one, which is given away to be kept.
async fn listen(
    address: SocketAddr,
    flag: &str,
    kept: &mut Vec<std::net::TcpListener>,
    notify: Option<&OsStr>,
) -> Result<rt::TcpListener> {
    let ours = |listener: &std::net::TcpListener| listener.local_addr().is_ok_and(|at| at == address);
    if let Some(index) = kept.iter().position(ours) {
        match rt::TcpListener::from_std(kept.remove(index)) {
            Ok(listener) => {
                tracing::info!(%address, "whoever connected meanwhile was kept waiting by the service manager");
                return Ok(listener);
            }
            Err(why) => tracing::warn!(%why, %address, "the service manager's socket cannot be used"),
        }
    }
    let name = flag.trim_start_matches('-');
    // What was kept of another address under this name is given up first: it would be in the way.
    if let Err(why) = notify::forget(notify, name) {
        tracing::warn!(%why, "the service manager is not told");
    }
    let listener = bind(address, flag).await?;
    if let Err(why) = notify::keep(notify, name, &listener) {
        tracing::warn!(%why, "the service manager does not keep {address}: who connects during a restart is refused");
    }
    Ok(listener)
}

async fn bind(address: SocketAddr, flag: &str) -> Result<rt::TcpListener> {
    rt::TcpListener::bind(address).await.map_err(|why| {
        let taken = why.kind() == io::ErrorKind::AddrInUse;
        let (exit, hint) = if taken {
            (
                Exit::Conflict,
                format!(
                    "see who listens there (lsof -nP -iTCP:{}), or give {flag} another port",
                    address.port()
                ),
            )
        } else {
            (
                Exit::Config,
                format!("give {flag} an address of this machine that this user may listen on"),
            )
        };
        Error::new(exit, format!("cannot listen on {address} ({flag})"))
            .because(why)
            .hint(hint)
    })
}

/// The address with its real port.
fn local(listener: &rt::TcpListener, asked: SocketAddr) -> String {
    listener.local_addr().unwrap_or(asked).to_string()
}

/// Serves until a signal or idleness ends it; SIGHUP reads keys and settings again.
async fn until_the_end(host: &Host, flags: &Flags, daemon: &Daemon, signals: &mut Signals) -> Exit {
    let idle = async {
        idle_for(daemon, daemon.settings.exit_when_idle).await;
        tracing::info!("idle, going to end");
        None
    };
    smol::pin!(idle);
    loop {
        let signal = async { Some(signals.next().await) };
        match smol::future::or(signal, &mut idle).await {
            Some(Signal::Hangup) => reload(host, flags, daemon),
            Some(Signal::Interrupt) => return Exit::Interrupted,
            Some(Signal::Terminate) | None => return Exit::Fine,
        }
    }
}

async fn idle_for(daemon: &Daemon, limit: Option<Duration>) {
    let Some(limit) = limit else {
        return std::future::pending().await;
    };
    loop {
        let changed = daemon.changed();
        if !daemon.idle() {
            changed.await;
        } else if rt::timeout(limit, changed).await.is_none() {
            return;
        }
    }
}

/// Reads keys and settings again. What is wrong changes nothing: the daemon goes on with what it has.
fn reload(host: &Host, flags: &Flags, daemon: &Daemon) {
    let read = settings(host, flags).and_then(|settings| {
        let loaded = Authorized::of(&settings)?;
        Ok((settings, loaded))
    });
    match read {
        Ok((settings, loaded)) => {
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            let fixed = Settings {
                tunables: daemon.settings.tunables.clone(),
                ..settings.clone()
            };
            if fixed != daemon.settings {
                tracing::warn!(
                    "only lease, hold, drain, cors_origin, the quotas and the keys change without a restart; the rest stays as it was"
                );
            }
            tracing::info!(keys = loaded.authorized.len(), "keys and settings were read again");
            daemon.reload(settings.tunables, loaded.authorized);
        }
        Err(error) => tracing::error!(%error, "keys and settings stay as they were"),
    }
}

/// Stops accepting, tells laptops to connect again, and lets requests in flight finish within the limit.
async fn drain(daemon: &Daemon, edge: rt::Task<()>, exit: Exit) -> Exit {
    let limit = daemon.tunables().drain;
    tracing::info!(
        seconds = limit.as_secs(),
        in_flight = daemon.metrics.in_flight.load(Ordering::Relaxed),
        "draining"
    );
    daemon.begin_drain();
    let finished = async {
        edge.await;
        while daemon.metrics.in_flight.load(Ordering::Relaxed) > 0 {
            rt::sleep(DRAIN_LOOK).await;
        }
    };
    if rt::timeout(limit, finished).await.is_none() {
        let left = daemon.metrics.in_flight.load(Ordering::Relaxed);
        tracing::warn!(in_flight = left, "the drain's time is over, the rest is cut off");
    }
    daemon.close_lanes("the bastion has stopped");
    let gone = async {
        loop {
            let changed = daemon.changed();
            if daemon.metrics.lanes.load(Ordering::Relaxed) == 0 {
                return;
            }
            changed.await;
        }
    };
    if rt::timeout(GOODBYE, gone).await.is_none() {
        tracing::debug!("connections did not say goodbye in time");
    }
    exit
}

/// The second signal that ends.
async fn again(signals: &mut Signals) -> Exit {
    loop {
        if signals.next().await != Signal::Hangup {
            tracing::warn!("a second signal, ending at once");
            return Exit::Interrupted;
        }
    }
}

fn remove_sockets(settings: &Settings) {
    directory::remove(&settings.control_socket);
    if let SshAddress::Unix(path) = &settings.ssh {
        directory::remove(Path::new(path));
    }
}

fn tell(socket: Option<&OsStr>, state: &str) {
    if let Err(why) = notify::tell(socket, state) {
        tracing::warn!(%why, state, "the service manager is not told");
    }
}

/// Seconds since the epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |time| time.as_secs())
}
