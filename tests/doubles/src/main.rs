//! AWS's side of a tunnel, for the tests: Session Manager's message gateway with an agent behind it, an EC2 Instance Connect
//! Endpoint, and an office's proxy. It shares no code with the product, and takes nothing that AWS, its agent or a real client
//! would not: what a client does wrong is a violation, which is said on stderr, ends the session, and fails the test that asks.
//!
//! It prints one line, `READY={"control":"127.0.0.1:1","secure":"127.0.0.1:2","proxy":"127.0.0.1:3"}`, and runs until it is
//! killed. `control` is plain HTTP with JSON both ways, and trusts whoever reaches it:
//!
//! * `POST /control/{StartSession,ResumeSession,TerminateSession,DescribeSessions}`: an AWS call that the gateway of
//!   tests/peers/aws has checked, with the caller's ARN in `X-Caller-Arn`. 400 with `code` and `message` is AWS's refusal.
//! * `POST /admin/...`, from a test:
//!   * `instance` `{"instance":"i-…","address":"127.0.0.1:22","private_ip":"10.0.0.5","connected":true}`: an instance whose agent
//!     is connected and whose port 22 is there; an address of null removes it.
//!   * `key` `{"id","secret","token"}`: an access key for the endpoint; without a secret it is forgotten.
//!   * `settings`: any of `latency_ms` (one way), `paced`, `payload_bytes`, `ack_limit_ms`, `crash_after_ms`, `dial_ms`,
//!     `agent_back_ms`, `hour_ms`, `seed`; for later sessions and those that are open.
//!   * `sessions`: all that ever were: `number` (from 0), `id`, `target`, `document`, `owner`, `reason`, `open`, `over` (why), `client` and `agent`
//!     (attached), `phase` of the agent, `complete` (HandshakeComplete was delivered), `websockets` (how many the client opened),
//!     `most_outstanding`, `paced_us` (how long the agent worked and slept for what it sent, in microseconds), and for `up` and `down` `messages`, `bytes` of payload, `acks`, `retransmissions`.
//!   * `violations`: a sentence each; `forgive` gives and forgets them.
//!   * `fault`: see below. `{"session":"…"}` strikes one session, else all that are open, and what lasts strikes later ones too.
//!     Once: `cut_client` (reset), `bye` (close 1000 "Bye", both ends), `blackhole` (takes bytes, never answers), `cut_agent` (true,
//!     or the milliseconds it is away), `kill_agent` (dies without a word), `crash` (the same, and the gateway notices after
//!     `crash_after_ms`), `end` (channel_closed with this text). Lasting: `cut_client_every_ms`, `cut_agent_every_ms` (0 ends it),
//!     `stall` (the websocket is not read), `close_above` (bytes of a message that close with 1009; 0 is none), `refuse_resume`
//!     (no token), `up` and `down` `{"drop","duplicate","reorder","corrupt"}` (fractions; `{}` ends it).
//!   * `upgrade` `{"status":403}`: data channels' upgrades are refused, until the status is null.
//!   * `tunnels`: the endpoint's; `endpoint` `{"refuse":{"status","message"}|null,"cut":true}`.
//!   * `proxy` `{"mode":"allow"|"refuse"|"strip"}`.
//!
//! `secure` is TLS with a certificate for localhost and 127.0.0.1 of the authority that `--authority` writes: data channels at
//! `/v1/data-channel/SESSION?role=publish_subscribe`, tunnels at `/openTunnel`. `proxy` takes CONNECT.
//!
//! What is as in AWS: messages, handshake, acknowledgements and their order, the agent's timers, its pace, its discarding of early
//! data, the silence after a failed dial, start_publication and pause_publication with invalid headers, a channel that outlives its
//! websockets. What is not: no control channel, no idle limit, no multiplexing, no shell; what is on its way when a websocket breaks
//! is always lost; a session that is over is not resumed (an answer without token).
//!
//! Another client, aws-ssm-bridge 0.6.0 of crates.io, has driven it by hand: 16 MiB there and back were equal and nothing was a violation, but for
//! two things: its ClientId is the session's id, where AWS's plugin has a random UUID and so has to be one here, and it lets its user send before
//! HandshakeComplete.

#![allow(
    clippy::disallowed_methods,
    reason = "a program of its own: it reads its arguments, and its threads may sleep"
)]

mod admin;
mod agent;
mod authority;
mod chance;
mod control;
mod door;
mod eice;
mod http;
mod judge;
mod lane;
mod proxy;
mod pump;
mod session;
mod settings;
mod sigv4;
mod tls;
mod wire;
mod worker;
mod world;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use session::Standing;
use settings::Settings;
use world::{Instance, Known, World};

const USAGE: &str = "usage: ephemwork-ssm-double --authority FILE [--instance ID=ADDRESS]... [--set NAME=VALUE]...";

/// What the command line says.
struct Options {
    /// Where the authority's certificate is written.
    authority: String,
    settings: Settings,
    instances: BTreeMap<String, Instance>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut authority, mut settings, mut instances) = (None, Settings::default(), BTreeMap::new());
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            let pair = || {
                value
                    .split_once('=')
                    .ok_or_else(|| format!("{name} takes NAME=VALUE, not {value:?}\n{USAGE}"))
            };
            match name.as_str() {
                "--authority" => authority = Some(value),
                "--instance" => {
                    let (id, address) = pair()?;
                    let instance = Instance {
                        port: address.parse().map_err(|why| format!("{value}: {why}"))?,
                        private: None,
                        connected: true,
                    };
                    instances.insert(id.to_owned(), instance);
                }
                "--set" => {
                    let (name, value) = pair()?;
                    let value: Value = serde_json::from_str(value).map_err(|why| format!("{name}: {why}"))?;
                    settings.set(name, &value)?;
                }
                _ => return Err(format!("{name} is no option\n{USAGE}")),
            }
        }
        Ok(Options {
            authority: authority.ok_or(USAGE)?,
            settings,
            instances,
        })
    }
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), String> {
    let made = authority::make()?;
    std::fs::write(&options.authority, &made.authority).map_err(|why| format!("{}: {why}", options.authority))?;
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(|why| format!("no port on loopback: {why}"));
    let (control, secure, proxy) = (listen()?, listen()?, listen()?);
    let at = |listener: &TcpListener| listener.local_addr().map_err(|why| why.to_string());
    let known = Known {
        settings: options.settings,
        standing: Standing::default(),
        instances: options.instances,
        sessions: BTreeMap::new(),
        keys: BTreeMap::new(),
        endpoint: eice::Endpoint::default(),
        refuse_upgrade: None,
        proxy: proxy::Mode::Allow,
    };
    let world = Arc::new(World::new(known, at(&secure)?));
    let ready = json!({
        "control": at(&control)?.to_string(),
        "secure": at(&secure)?.to_string(),
        "proxy": at(&proxy)?.to_string(),
    });
    println!("READY={ready}");
    std::io::stdout().flush().map_err(|why| format!("stdout: {why}"))?;
    std::thread::scope(|scope| {
        scope.spawn(|| worker::keep(&world));
        scope.spawn(|| door::listen(&world, &made.server, &secure));
        scope.spawn(|| proxy::listen(&world, &made.server, &proxy));
        control::listen(&world, &control);
    });
    Ok(())
}
