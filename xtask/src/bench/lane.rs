//! The laptop's end in a process of its own: the library's own link and its own answers, without the rest of `ephemwork up`.
//!
//! `up` in local mode reaches its bastion through a unix socket. A bastion is reached through TCP, as the peer's is, so this
//! stands in for it: the same code carries the requests.

use std::fs;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;

use argh::FromArgs;
use ephemwork::error::Error;
use ephemwork::name::{Service, User};
use ephemwork::protocol::{self, Claim};
use ephemwork::rt;
use ephemwork::session::serve::{self, Protocol, Upstream, Upstreams};
use ephemwork::tunnel::{ClientKey, Link, Login, Transport};

/// Idle tunnels that one user holds; the daemon lets a user have 64 sessions.
pub(crate) const IDLE_PER_USER: usize = 50;

/// Connections that are being opened at a time.
const AT_ONCE: usize = 8;

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
    let login = Login {
        user: User::parse(&user).map_err(|why| why.to_string())?,
        key: ClientKey::from_openssh(&key).map_err(|why| why.to_string())?,
        host_key,
    };
    let name = Service::parse(&service).map_err(|why| why.to_string())?;
    let (link, requests) = Link::connect(&transport, &login)
        .await
        .map_err(|why| Error::from(why).to_string())?;
    let upstreams = Arc::new(Upstreams::new());
    upstreams.set(
        &name,
        Upstream {
            port,
            protocol: Protocol::Http1,
            host: None,
        },
    );
    rt::spawn(serve::run(requests, upstreams)).detach();
    let claim = Claim {
        protocol: protocol::VERSION,
        service,
        host: "bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        token: None,
        takeover: false,
        lane: 0,
        only: false,
    };
    link.claim(&claim).await.map_err(|why| why.to_string())?;
    Ok(link)
}
