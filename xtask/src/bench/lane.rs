//! The laptop's end in a process of its own: the library's own link and its own answers, without the rest of `ephemwork up`.
//!
//! `up` in local mode reaches its bastion through a unix socket. A bastion is reached through TCP, as the peer's is, so this
//! stands in for it: the same code carries the requests.

use std::fs;
use std::future::{Future, pending, poll_fn};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use argh::FromArgs;
use ephemwork::error::{Error, Exit};
use ephemwork::name::{Service, User};
use ephemwork::protocol::{self, Claim};
use ephemwork::rt;
use ephemwork::session::pause;
use ephemwork::session::serve::{self, Protocol, Upstream, Upstreams};
use ephemwork::tunnel::{ClientKey, Link, Login, Requests, Transport};

/// Idle tunnels that one user holds; the daemon lets a user have 64 sessions.
pub(crate) const IDLE_PER_USER: usize = 50;

/// Connections that are being opened at a time.
const AT_ONCE: usize = 8;

/// How often the file about them is written.
const TELL_EVERY: Duration = Duration::from_millis(50);

/// the laptop's end of the benchmark; the benchmark starts it itself
#[derive(FromArgs)]
#[argh(subcommand, name = "bench-lane")]
pub(crate) struct Arguments {
    /// where bastiond's SSH listens: HOST:PORT
    #[argh(option)]
    ssh: String,
    /// bastiond's host key
    #[argh(option)]
    host_key: String,
    /// the file with the private key
    #[argh(option)]
    key: PathBuf,
    /// the service's port
    #[argh(option)]
    port: u16,
    /// open so many tunnels that do nothing, instead of alice:api
    #[argh(option, default = "0")]
    idle: usize,
    /// how many idle tunnels others hold already
    #[argh(option, default = "0")]
    held: usize,
    /// come back whenever a connection is lost, as `up` does, and keep this file about it; requests get their tag as `user.service` in Host
    #[argh(option)]
    stay: Option<PathBuf>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    rt::block_on(hold(arguments)).map_err(|why| why.to_string())?
}

/// The user of an idle tunnel.
pub(crate) fn idle_user(index: usize) -> String {
    format!("idle{}", index / IDLE_PER_USER)
}

async fn hold(arguments: &Arguments) -> Result<(), String> {
    let wanted: Vec<(String, String)> = match arguments.idle {
        0 => vec![("alice".to_owned(), "api".to_owned())],
        count => (arguments.held..arguments.held + count)
            .map(|index| (idle_user(index), format!("s{index}")))
            .collect(),
    };
    if let Some(status) = &arguments.stay {
        let way = Way {
            transport: Transport::Tcp(arguments.ssh.clone()),
            host_key: arguments.host_key.clone(),
            key: fs::read_to_string(&arguments.key).map_err(|why| format!("{}: {why}", arguments.key.display()))?,
            port: arguments.port,
        };
        return stay(way, wanted, status).await;
    }
    let mut links = Vec::new();
    for batch in wanted.chunks(AT_ONCE) {
        let mut tasks = Vec::new();
        for (user, service) in batch {
            let key = fs::read_to_string(&arguments.key).map_err(|why| format!("{}: {why}", arguments.key.display()))?;
            let opening = open(
                Transport::Tcp(arguments.ssh.clone()),
                arguments.host_key.clone(),
                key,
                user.clone(),
                service.clone(),
                arguments.port,
            );
            tasks.push(rt::spawn(opening));
        }
        for task in tasks {
            links.push(task.await?);
        }
    }
    println!("ready {}", links.len());
    match &links[..] {
        [link] => Err(link.closed().await),
        _ => pending().await,
    }
}

async fn open(
    transport: Transport,
    host_key: String,
    key: String,
    user: String,
    service: String,
    port: u16,
) -> Result<Link, String> {
    let way = Way {
        transport,
        host_key,
        key,
        port,
    };
    let (link, name, requests) = way.connect(&user, &service).await.map_err(|why| why.to_string())?;
    way.serve(requests, &name, None);
    way.claim(&link, &service, None).await.map_err(|why| why.to_string())?;
    Ok(link)
}

/// How a laptop reaches its bastion, and its service.
struct Way {
    transport: Transport,
    host_key: String,
    key: String,
    port: u16,
}

impl Way {
    async fn connect(&self, user: &str, service: &str) -> Result<(Link, Service, Requests), Error> {
        let name = |why: String| Error::new(Exit::Usage, "a name is wrong").because(why);
        let login = Login {
            user: User::parse(user).map_err(|why| name(why.to_string()))?,
            key: ClientKey::from_openssh(&self.key)?,
            host_key: self.host_key.clone(),
        };
        let service = Service::parse(service).map_err(|why| name(why.to_string()))?;
        let (link, requests) = Link::connect(&self.transport, &login).await?;
        Ok((link, service, requests))
    }

    fn serve(&self, requests: Requests, name: &Service, host: Option<String>) {
        let upstreams = Arc::new(Upstreams::new());
        let upstream = Upstream {
            port: self.port,
            protocol: Protocol::Http1,
            host,
        };
        upstreams.set(name, upstream);
        rt::spawn(serve::run(requests, upstreams)).detach();
    }

    async fn claim(&self, link: &Link, service: &str, token: Option<String>) -> Result<String, Error> {
        let claim = Claim {
            protocol: protocol::VERSION,
            service: service.to_owned(),
            host: "bench".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            token,
            takeover: false,
            lane: 0,
            only: false,
        };
        Ok(link.claim(&claim).await?.token)
    }
}

/// What became of the laptops so far.
#[derive(Default)]
struct Counts {
    standing: AtomicU64,
    attempts: AtomicU64,
    /// Attempts that a bastion that listened did not let through.
    turned_away: AtomicU64,
    why: Mutex<String>,
}

/// Every laptop comes back by itself, for ever.
async fn stay(way: Way, wanted: Vec<(String, String)>, status: &Path) -> Result<(), String> {
    let (way, counts) = (Arc::new(way), Arc::new(Counts::default()));
    for (number, (user, service)) in (1..).zip(wanted) {
        rt::spawn(laptop(Arc::clone(&way), user, service, number, Arc::clone(&counts))).detach();
    }
    loop {
        let number = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let text = serde_json::json!({
            "standing": number(&counts.standing), "attempts": number(&counts.attempts), "turned_away": number(&counts.turned_away),
            "why": *counts.why.lock().unwrap_or_else(PoisonError::into_inner),
        });
        // Whoever reads it finds the former or this one.
        let new = status.with_extension("new");
        let written = fs::write(&new, text.to_string()).and_then(|()| fs::rename(&new, status));
        written.map_err(|why| format!("{}: {why}", status.display()))?;
        rt::sleep(TELL_EVERY).await;
    }
}

/// One laptop, for ever. It waits as an `up` does.
async fn laptop(way: Arc<Way>, user: String, service: String, number: u64, counts: Arc<Counts>) {
    let (mut failures, mut token) = (0, None);
    // A fraction that differs from laptop to laptop and from turn to turn (the golden ratio's multiples).
    let jitter = |turn: u32| (number as f64 * 0.618_034 + f64::from(turn) * 0.754_878).fract();
    for turn in 0.. {
        counts.attempts.fetch_add(1, Ordering::Relaxed);
        let come = async {
            let (link, name, requests) = way.connect(&user, &service).await?;
            way.serve(requests, &name, Some(format!("{user}.{service}")));
            let token = way.claim(&link, &service, token.clone()).await?;
            Ok::<_, Error>((link, token))
        };
        match come.await {
            Ok((link, given)) => {
                (failures, token) = (0, Some(given));
                counts.standing.fetch_add(1, Ordering::Relaxed);
                let events = link.events();
                let drained = async {
                    while let Ok(event) = events.recv().await {
                        if matches!(event, protocol::Event::Draining) {
                            return;
                        }
                    }
                    pending().await
                };
                let over = async {
                    link.closed().await;
                };
                first_of(over, drained).await;
                counts.standing.fetch_sub(1, Ordering::Relaxed);
                // What a bastion that drains still has, it has answered.
                rt::spawn(async move { link.closed().await }).detach();
            }
            Err(why) => {
                let why = why.why.unwrap_or(why.what);
                // Nobody listens: the bastion is away.
                if !why.contains("refused (os error") {
                    counts.turned_away.fetch_add(1, Ordering::Relaxed);
                    *counts.why.lock().unwrap_or_else(PoisonError::into_inner) = why;
                }
            }
        }
        rt::sleep(pause::after(failures, pause::MOST, jitter(turn))).await;
        failures += 1;
    }
}

/// The first of both.
async fn first_of(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => other.as_mut().poll(cx),
    })
    .await;
}
