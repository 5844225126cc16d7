//! The SSH server: who may log in, and the two kinds of peer that carry requests.
//!
//! It runs nothing, forwards to nothing and opens nothing on the bastion: a peer can open ephemwork's two subsystems, or claim
//! tags by remote forwarding as a stock OpenSSH client does. Everything else is refused with a reason.

pub(crate) mod forwards;
mod handler;
mod host_key;
mod laptop;
mod login;
mod sources;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use russh::server::Handle;
use russh::{Disconnect, Limits, MethodKind, MethodSet, server};
use smol::lock::SemaphoreGuardArc;

pub(crate) use forwards::Forwards;
use handler::Handler;
pub(crate) use host_key::HostKey;
pub(crate) use laptop::Requests;
use sources::{Arrival, Sources};

use crate::bastiond::end::End;
use crate::bastiond::lane::Lane;
use crate::bastiond::state::Daemon;
use crate::bastiond::unaccepted::Unaccepted;
use crate::rt::{self, AsyncRead, AsyncWrite, Backlog, Readahead};
use crate::tunnel::ssh as common;

/// How long a peer may take to log in.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);

/// How long when others wait for a place. A laptop at the far end of Session Manager takes two seconds.
const CROWDED_LIMIT: Duration = Duration::from_secs(5);

/// How often it is looked whether others wait.
const CROWD_LOOK: Duration = Duration::from_secs(1);

/// How long a laptop's TCP may leave unacknowledged what it was sent, in milliseconds: as long as it may be silent.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS: u32 = 9_000;

/// Peers that may be logging in at once. A restart brings all laptops back within seconds, each for some milliseconds.
const MAX_LOGINS: usize = 256;

/// Connections at once, logged in or not: some thousand laptops' worth of file descriptors.
const MAX_CONNECTIONS: usize = 4096;

/// Keys a peer may try. An agent with more keys than this has to name one.
const MAX_TRIES: usize = 6;

/// How long every refusal of a key takes, so that it says nothing about why. OpenSSH's first question ("none") is not delayed.
const REFUSAL_TIME: Duration = Duration::from_millis(300);

/// How long a peer has to hang up after it was told to.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// The pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What SSH listens on.
pub(crate) enum SshListener {
    Tcp(rt::TcpListener),
    Unix(rt::UnixListener),
}

struct Server {
    daemon: Arc<Daemon>,
    config: Arc<server::Config>,
    logins: Arc<smol::lock::Semaphore>,
    connections: Arc<smol::lock::Semaphore>,
    sources: Arc<Sources>,
    /// Connections that wait until they may log in.
    waiting: AtomicUsize,
}

/// Accepts connections until the daemon drains; those that are open then end with their requests.
pub(crate) async fn serve(listener: SshListener, key: HostKey, daemon: Arc<Daemon>) {
    let rekey = daemon.settings.rekey_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let rekey = rekey.unwrap_or(common::REKEY_BYTES).min(common::REKEY_BYTES);
    let config = server::Config {
        server_id: common::identification(),
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: REFUSAL_TIME,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![key.0],
        limits: Limits::new(rekey, rekey, common::REKEY_TIME),
        window_size: common::WINDOW,
        maximum_packet_size: common::PACKET,
        channel_buffer_size: common::CHANNEL_QUEUE,
        preferred: common::preferred(common::Compression::Offered),
        max_auth_attempts: MAX_TRIES,
        inactivity_timeout: None,
        keepalive_interval: Some(common::KEEPALIVE),
        keepalive_max: common::KEEPALIVE_MAX,
        ..server::Config::default()
    };
    let server = Arc::new(Server {
        config: Arc::new(config),
        logins: Arc::new(smol::lock::Semaphore::new(MAX_LOGINS)),
        connections: Arc::new(smol::lock::Semaphore::new(MAX_CONNECTIONS)),
        sources: Arc::default(),
        waiting: AtomicUsize::new(0),
        daemon: Arc::clone(&daemon),
    });
    let accepting = async {
        let mut unaccepted = Unaccepted::new("SSH");
        loop {
            match accept(&listener, &server).await {
                Ok(()) => unaccepted.succeeded(),
                Err(why) => {
                    unaccepted.failed(&why);
                    rt::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    smol::future::or(accepting, daemon.drain_begins()).await;
}

async fn accept(listener: &SshListener, server: &Arc<Server>) -> io::Result<()> {
    match listener {
        SshListener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // Nagle's algorithm costs a small request 40 ms.
            stream.set_nodelay(true)?;
            // A laptop to which nothing gets through may well be heard: it is found by what it does not acknowledge.
            #[cfg(target_os = "linux")]
            rustix::net::sockopt::set_tcp_user_timeout(&stream, UNACKNOWLEDGED_MS)?;
            let handle = stream.as_fd().try_clone_to_owned()?;
            let peer = Some(address.ip());
            rt::spawn(connection(stream, handle, (peer, address.to_string()), Arc::clone(server))).detach();
        }
        SshListener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let handle = stream.as_fd().try_clone_to_owned()?;
            rt::spawn(connection(stream, handle, (None, "unix".to_owned()), Arc::clone(server))).detach();
        }
    }
    Ok(())
}

/// One connection from its first byte to its last.
async fn connection<S>(stream: S, socket: OwnedFd, (peer, address): (Option<IpAddr>, String), server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let daemon = Arc::clone(&server.daemon);
    let Some(place) = server.connections.try_acquire_arc() else {
        daemon.metrics.handshake_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("a connection from {address} was refused: {MAX_CONNECTIONS} are open");
        return;
    };
    let Some(arrival) = server.sources.arrive(peer) else {
        daemon.metrics.handshake_failures.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(
            "a connection from {address} was refused: {} of its address wait",
            sources::MAX_WAITING
        );
        return;
    };
    // After a restart all laptops come back at once: they wait for their turn, with nothing read from them yet.
    let turn = async {
        let of_its_address = arrival.turn().await;
        (of_its_address, server.logins.acquire_arc().await)
    };
    server.waiting.fetch_add(1, Ordering::Relaxed);
    let turn = Box::pin(rt::timeout(LOGIN_LIMIT, turn)).await;
    server.waiting.fetch_sub(1, Ordering::Relaxed);
    let Some((of_its_address, of_all)) = turn else {
        daemon.metrics.handshake_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("a connection from {address} was refused: others were logging in all the time");
        return;
    };
    let login = Turn {
        _of_its_address: of_its_address,
        _of_all: of_all,
        _arrival: arrival,
    };
    let end = End::default();
    let stream = Readahead::new(stream);
    let shared = Arc::new(Shared {
        backlog: stream.backlog(),
        ..Shared::default()
    });
    *shared.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login);
    let handler = Handler::new(&daemon, &address, &shared, end.clone());
    let result = {
        // In boxes is what an idle tunnel has done already, or does at its end.
        let begin = Box::pin(server::run_stream(Arc::clone(&server.config), stream, handler));
        let session = async {
            let session = begin.await?;
            shared.handle.set(session.handle()).unwrap_or_default();
            session.await
        };
        let login_limit = async {
            rt::sleep(CROWDED_LIMIT).await;
            let (begun, logged_in) = (Instant::now(), || shared.authenticated.load(Ordering::Relaxed));
            while !logged_in() && server.waiting.load(Ordering::Relaxed) == 0 && begun.elapsed() < LOGIN_LIMIT - CROWDED_LIMIT {
                rt::sleep(CROWD_LOOK).await;
            }
            (!logged_in()).then(|| "it did not log in in time".to_owned())
        };
        let login = Box::pin(smol::future::or(login_limit, async { Some(end.wait().await) }));
        let stop = async {
            match login.await {
                Some(reason) => reason,
                None => end.wait().await,
            }
        };
        let mut session = std::pin::pin!(session);
        let result = smol::future::or(async { Ok((&mut session).await) }, async { Err(stop.await) }).await;
        match result {
            Ok(result) => result.map_err(|why| why.to_string()),
            Err(reason) => {
                if let Some(handle) = shared.handle.get() {
                    let goodbye = handle.disconnect(Disconnect::ByApplication, reason.clone(), String::new());
                    Box::pin(rt::timeout(GOODBYE_LIMIT, goodbye)).await;
                    Box::pin(rt::timeout(GOODBYE_LIMIT, session)).await;
                }
                Err(reason)
            }
        }
    };
    // Whatever still holds the stream ends now. An error means that it is closed already.
    rustix::net::shutdown(&socket, rustix::net::Shutdown::Both).unwrap_or_default();
    let lane = shared.lane.lock().unwrap_or_else(PoisonError::into_inner).take();
    match (&lane, result) {
        (Some(lane), Err(why)) => tracing::info!(user = %lane.user, %address, "connection ended: {why}"),
        (Some(lane), Ok(())) => tracing::info!(user = %lane.user, %address, "connection ended"),
        (None, result) if !shared.authenticated.load(Ordering::Relaxed) => {
            daemon.metrics.handshake_failures.fetch_add(1, Ordering::Relaxed);
            let why = result.err().unwrap_or_else(|| "it left".to_owned());
            tracing::info!(%address, "nobody logged in: {why}");
        }
        _ => {}
    }
    if let Some(lane) = lane {
        daemon.lane_down(lane.id).await;
    }
    drop(place);
}

/// What somebody has who is logging in.
struct Turn {
    _of_its_address: Option<SemaphoreGuardArc>,
    _of_all: SemaphoreGuardArc,
    _arrival: Arrival,
}

/// What a connection's handler and its task both know.
#[derive(Default)]
struct Shared {
    authenticated: AtomicBool,
    /// The place among those who are logging in, until it is done.
    login: Mutex<Option<Turn>>,
    handle: OnceLock<Handle>,
    lane: Mutex<Option<Arc<Lane>>>,
    backlog: Arc<Backlog>,
}
