//! The SSH server: who may log in, and the two kinds of peer that carry requests.
//!
//! It runs nothing, forwards to nothing and opens nothing on the bastion: a peer can open ephemwork's two subsystems, or claim
//! tags by remote forwarding as a stock OpenSSH client does. Everything else is refused with a reason.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::server::{Auth, ChannelOpenHandle, Handle, Msg, PublicKeyOffer, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelStream, Disconnect, Limits, MethodKind, MethodSet, server};

use crate::bastiond::control::{self, Caller};
use crate::bastiond::edge::body::Outgoing;
use crate::bastiond::lane::{Carrier, Lane, LaneKind, Peer};
use crate::bastiond::registry::Releaser;
use crate::bastiond::state::Daemon;
use crate::error::{Error, Exit, Result};
use crate::name::{Service, Tag, User};
use crate::protocol::{self, CONTROL_SUBSYSTEM, Claim, REQUESTS_SUBSYSTEM};
use crate::rt::{self, AsyncRead, AsyncWrite, Readahead};
use crate::tunnel::ssh as common;
use crate::tunnel::stream;
use crate::upstream::{Connection, Pool};

/// How long a peer may take to log in.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);

/// Peers that may be logging in at once. A restart brings all laptops back within seconds, each for some milliseconds.
const MAX_LOGINS: usize = 256;

/// Connections at once, logged in or not: some thousand laptops' worth of file descriptors.
const MAX_CONNECTIONS: usize = 4096;

/// Keys a peer may try. An agent with more keys than this has to name one.
const MAX_TRIES: usize = 6;

/// How long every refusal of a key takes, so that it says nothing about why. OpenSSH's first question ("none") is not delayed.
const REFUSAL_TIME: Duration = Duration::from_millis(300);

/// Session channels of one connection. A laptop needs two.
const MAX_CHANNELS: usize = 8;

/// Tags that one connection of a stock client may claim.
const MAX_FORWARDS: usize = 32;

/// How long a peer has to hang up after it was told to.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

/// How long a stock client may take to open a channel; it connects to the service meanwhile.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// The pause after a failed accept (out of file descriptors, say), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What SSH listens on.
pub(crate) enum SshListener {
    Tcp(rt::TcpListener),
    Unix(rt::UnixListener),
}

/// The daemon's identity.
pub(crate) struct HostKey(PrivateKey);

impl HostKey {
    /// Reads `host_key` in the state directory, or makes it with mode 0600, and writes `host_key.pub` beside it.
    pub(crate) fn load_or_make(directory: &Path) -> Result<HostKey> {
        let path = directory.join("host_key");
        let failed = |why: &dyn fmt::Display| {
            Error::new(Exit::Config, format!("the host key {} cannot be used", path.display())).because(why)
        };
        let key = match fs::read_to_string(&path) {
            Ok(text) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(|why| failed(&why))?;
                PrivateKey::from_openssh(&text)
                    .map_err(|why| failed(&why).hint("move it away, and a new one is made; laptops have to pin it again"))?
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                let key = common::new_key("ephemwork-bastiond")?;
                let text = key.to_openssh(LineEnding::LF).map_err(|why| failed(&why))?;
                write_new(&path, text.as_bytes()).map_err(|why| failed(&why))?;
                key
            }
            Err(why) => return Err(failed(&why)),
        };
        let key = HostKey(key);
        fs::write(
            directory.join("host_key.pub"),
            format!("{} ephemwork-bastiond\n", key.public()),
        )
        .map_err(|why| failed(&why))?;
        Ok(key)
    }

    /// `ssh-ed25519 AAAA…`
    pub(crate) fn public(&self) -> String {
        common::public_line(self.0.public_key())
    }
}

/// Writes a secret so that it is there wholly or not at all, and never readable for others.
fn write_new(path: &Path, text: &[u8]) -> io::Result<()> {
    let part = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)?;
    file.write_all(text)?;
    file.sync_all()?;
    fs::rename(&part, path)
}

struct Server {
    daemon: Arc<Daemon>,
    config: Arc<server::Config>,
    logins: Arc<smol::lock::Semaphore>,
    connections: Arc<smol::lock::Semaphore>,
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
        preferred: common::preferred(),
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
        daemon: Arc::clone(&daemon),
    });
    let accepting = async {
        loop {
            if let Err(why) = accept(&listener, &server).await {
                tracing::warn!("a connection to SSH was not accepted: {why}");
                rt::sleep(ACCEPT_PAUSE).await;
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
            let handle = stream.as_fd().try_clone_to_owned()?;
            rt::spawn(connection(stream, handle, address.to_string(), Arc::clone(server))).detach();
        }
        SshListener::Unix(listener) => {
            let (stream, _) = listener.accept().await?;
            let handle = stream.as_fd().try_clone_to_owned()?;
            rt::spawn(connection(stream, handle, "unix".to_owned(), Arc::clone(server))).detach();
        }
    }
    Ok(())
}

/// One connection from its first byte to its last.
async fn connection<S>(stream: S, socket: OwnedFd, address: String, server: Arc<Server>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let daemon = Arc::clone(&server.daemon);
    let (Some(place), Some(login)) = (server.connections.try_acquire_arc(), server.logins.try_acquire_arc()) else {
        daemon.metrics.handshake_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!("a connection from {address} was refused: too many at once");
        return;
    };
    let (end, ended) = smol::channel::bounded(1);
    let shared = Arc::new(Shared::default());
    let handler = Handler {
        daemon: Arc::clone(&daemon),
        address: address.clone(),
        user: None,
        shared: Arc::clone(&shared),
        end,
        channels: HashMap::new(),
        forwards: HashMap::new(),
        next_port: AtomicU32::new(1),
    };
    let result = {
        let session = async {
            let session = server::run_stream(Arc::clone(&server.config), Readahead::new(stream), handler).await?;
            shared.handle.set(session.handle()).unwrap_or_default();
            session.await
        };
        let login_limit = async {
            rt::sleep(LOGIN_LIMIT).await;
            drop(login);
            if shared.authenticated.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            "it did not log in in time".to_owned()
        };
        let told = async {
            match ended.recv().await {
                Ok(reason) => reason,
                Err(_) => std::future::pending().await,
            }
        };
        let mut session = std::pin::pin!(session);
        let stop = smol::future::or(login_limit, told);
        let result = smol::future::or(async { Ok((&mut session).await) }, async { Err(stop.await) }).await;
        match result {
            Ok(result) => result.map_err(|why| why.to_string()),
            Err(reason) => {
                if let Some(handle) = shared.handle.get() {
                    let goodbye = handle.disconnect(Disconnect::ByApplication, reason.clone(), String::new());
                    rt::timeout(GOODBYE_LIMIT, goodbye).await;
                    rt::timeout(GOODBYE_LIMIT, session).await;
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

/// What a connection's handler and its task both know.
#[derive(Default)]
struct Shared {
    authenticated: AtomicBool,
    handle: OnceLock<Handle>,
    lane: Mutex<Option<Arc<Lane>>>,
}

struct Handler {
    daemon: Arc<Daemon>,
    address: String,
    user: Option<User>,
    shared: Arc<Shared>,
    end: smol::channel::Sender<String>,
    /// Opened, and nothing asked of them yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    forwards: HashMap<(String, u32), Tag>,
    next_port: AtomicU32,
}

impl Handler {
    /// This connection as a lane; made when it is first used as one.
    fn lane(&self, kind: LaneKind, session: &mut Session) -> Option<Arc<Lane>> {
        let mut lane = self.shared.lane.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lane.as_ref() {
            return (lane.kind == kind).then(|| Arc::clone(lane));
        }
        let peer = Peer {
            id: self.daemon.next_lane_id(),
            user: self.user.clone()?,
            address: self.address.clone(),
            client: String::from_utf8_lossy(session.remote_sshid()).trim().to_owned(),
            since: self.daemon.now(),
        };
        let carrier = match kind {
            LaneKind::Laptop => Carrier::Laptop(OnceLock::new()),
            LaneKind::OpenSsh => Carrier::OpenSsh(Forwards::of(session.handle())),
        };
        let new = Arc::new(Lane::new(peer, carrier, self.end.clone()));
        tracing::info!(user = %new.user, address = %new.address, client = new.client, "connected");
        self.daemon.lane_up(Arc::clone(&new));
        *lane = Some(Arc::clone(&new));
        Some(new)
    }

    fn may(&self, user: &str, key: &russh::keys::PublicKey) -> Auth {
        if self.daemon.user_of_key(&common::public_line(key), user) {
            Auth::Accept
        } else {
            Auth::reject()
        }
    }

    /// Refuses what a channel asks for, with a reason on its standard error.
    fn refuse(&mut self, id: ChannelId, session: &mut Session, what: &str) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        session.channel_failure(id)?;
        session.extended_data(id, 1, format!("ephemwork-bastiond: {what}\r\n").into_bytes())?;
        session.exit_status_request(id, 1)?;
        session.eof(id)?;
        session.close(id)
    }

    async fn claim(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<(), String> {
        let service = match address {
            "" | "*" | "localhost" | "0.0.0.0" | "::" => return Err("name a service: ssh -R SERVICE:0:localhost:PORT".to_owned()),
            name => Service::parse(name).map_err(|why| format!("the service {name:?} is wrong: {why}"))?,
        };
        if self.forwards.len() >= MAX_FORWARDS {
            return Err(format!("one connection may claim {MAX_FORWARDS} tags at most"));
        }
        let lane = self
            .lane(LaneKind::OpenSsh, session)
            .ok_or("this connection is a laptop's; it claims over its control channel")?;
        let Carrier::OpenSsh(forwards) = &lane.carrier else {
            return Err("this connection carries no forwards".to_owned());
        };
        let number = match *port {
            0 => self.next_port.fetch_add(1, Ordering::Relaxed),
            asked => asked,
        };
        forwards.add(&service, address, number);
        let ip = self.address.rsplit_once(':').map_or(self.address.as_str(), |(ip, _)| ip);
        let claim = Claim {
            protocol: protocol::VERSION,
            service: service.as_str().to_owned(),
            host: format!("openssh@{ip}"),
            version: lane.client.clone(),
            token: None,
            takeover: false,
            lane: 0,
        };
        match self.daemon.claim(&lane.user, &claim, &lane).await {
            Ok(claimed) => {
                *port = number;
                self.forwards.insert((address.to_owned(), number), claimed.tag);
                Ok(())
            }
            Err(refused) => {
                forwards.remove(&service);
                Err(refused.refusal.what)
            }
        }
    }
}

impl server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        Ok(self.may(user, offer.public_key))
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        let auth = self.may(user, key.public_key);
        if auth == Auth::Accept {
            self.user = User::parse(user).ok();
        }
        Ok(auth)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), russh::Error> {
        self.shared.authenticated.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        if self.channels.len() >= MAX_CHANNELS {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&id);
        Ok(())
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), russh::Error> {
        if name != REQUESTS_SUBSYSTEM && name != CONTROL_SUBSYSTEM {
            return self.refuse(id, session, &format!("there is no subsystem {name:?} here"));
        }
        let Some(lane) = self.lane(LaneKind::Laptop, session) else {
            return self.refuse(id, session, "this connection claims by forwarding; it has no subsystems");
        };
        let Some(channel) = self.channels.remove(&id) else {
            return session.channel_failure(id);
        };
        let stream = channel.into_stream();
        session.channel_success(id)?;
        if name == REQUESTS_SUBSYSTEM {
            rt::spawn(carry(stream, lane)).detach();
        } else {
            rt::spawn(control(stream, lane, Arc::clone(&self.daemon))).detach();
        }
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, russh::Error> {
        match self.claim(address, port, session).await {
            Ok(()) => Ok(true),
            Err(why) => {
                // A refused forward carries no text; a message for the client's log does (RFC 4253, section 11.3).
                tracing::info!(address = self.address, "claim of {address:?} refused: {why}");
                session.debug(true, &format!("ephemwork-bastiond: {why}"), "en")?;
                Ok(false)
            }
        }
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, russh::Error> {
        let Some(tag) = self.forwards.remove(&(address.to_owned(), port)) else {
            return Ok(false);
        };
        let lane = self.shared.lane.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(lane) = lane else { return Ok(false) };
        if let Carrier::OpenSsh(forwards) = &lane.carrier {
            forwards.remove(&tag.service);
        }
        Ok(self.daemon.release(&tag, None, Releaser::Lane(lane.id)).await.is_ok())
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.refuse(
            id,
            session,
            "there is no shell here; use ephemwork, or ssh -N -R SERVICE:0:localhost:PORT",
        )
    }

    async fn exec_request(&mut self, id: ChannelId, _: &[u8], session: &mut Session) -> Result<(), russh::Error> {
        self.refuse(
            id,
            session,
            "no command is run here; use ephemwork, or ssh -N -R SERVICE:0:localhost:PORT",
        )
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        _: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(russh::Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn env_request(&mut self, id: ChannelId, _: &str, _: &str, session: &mut Session) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn x11_request(
        &mut self,
        id: ChannelId,
        _: bool,
        _: &str,
        _: &str,
        _: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(id)
    }

    async fn agent_request(&mut self, id: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        session.channel_failure(id)?;
        Ok(false)
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("nothing can be reached through this bastion")).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply
            .reject(prohibited("no socket can be reached through this bastion"))
            .await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("there is no X11 forwarding here")).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        reply.reject(prohibited("only the bastion opens forwarded connections")).await;
        Ok(())
    }
}

/// SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254, section 5.1) with a text.
fn prohibited(reason: &str) -> ChannelOpenFailure {
    ChannelOpenFailure::Other {
        code: 1,
        reason: reason.to_owned(),
    }
}

/// HTTP/2 to the laptop, until its channel ends.
async fn carry(channel: ChannelStream<Msg>, lane: Arc<Lane>) {
    let handshake = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(stream::STREAM_WINDOW)
        .initial_connection_window_size(stream::CONNECTION_WINDOW)
        .initial_max_send_streams(stream::MAX_STREAMS as usize)
        .max_frame_size(stream::FRAME)
        .max_header_list_size(stream::MAX_HEAD)
        .max_send_buffer_size(stream::SEND_BUFFER)
        .handshake(channel);
    let result = match handshake.await {
        Ok((sender, driver)) => {
            if let Carrier::Laptop(requests) = &lane.carrier
                && requests.set(sender).is_err()
            {
                lane.close("it opened the requests channel twice");
                return;
            }
            driver.await
        }
        Err(why) => Err(why),
    };
    match result {
        Ok(()) => lane.close("its requests channel was closed"),
        Err(why) => lane.close(&format!("its requests channel failed: {why}")),
    }
}

/// The control API for one laptop, until its channel ends.
async fn control(channel: ChannelStream<Msg>, lane: Arc<Lane>, daemon: Arc<Daemon>) {
    let service = hyper::service::service_fn(|request| {
        let answer = control::answer(Arc::clone(&daemon), Caller::Lane(Arc::clone(&lane)), request);
        async { Ok::<_, std::convert::Infallible>(answer.await) }
    });
    let serving = hyper::server::conn::http2::Builder::new(rt::HyperExecutor)
        .timer(rt::HyperTimer)
        .max_concurrent_streams(32)
        .serve_connection(rt::io(channel), service);
    if let Err(why) = serving.await {
        tracing::debug!(user = %lane.user, "control channel ended: {why}");
    }
}

/// The claims of a stock OpenSSH client, and connections to its services through forwarded-tcpip channels.
pub(crate) struct Forwards {
    handle: Option<Handle>,
    services: Mutex<HashMap<Service, Forward>>,
}

#[derive(Clone)]
struct Forward {
    /// As the client asked for it; it finds its own forward by address and port.
    address: String,
    port: u32,
    pool: Arc<Pool<Outgoing>>,
}

impl Forwards {
    fn of(handle: Handle) -> Forwards {
        Forwards {
            handle: Some(handle),
            services: Mutex::new(HashMap::new()),
        }
    }

    /// Of nobody, for tests.
    #[cfg(test)]
    pub(crate) fn none() -> Forwards {
        Forwards {
            handle: None,
            services: Mutex::new(HashMap::new()),
        }
    }

    fn add(&self, service: &Service, address: &str, port: u32) {
        let forward = Forward {
            address: address.to_owned(),
            port,
            pool: Pool::new(),
        };
        self.services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(service.clone(), forward);
    }

    fn remove(&self, service: &Service) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    /// The pool of connections to a service.
    pub(crate) fn pool(&self, service: &Service) -> Option<Arc<Pool<Outgoing>>> {
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.get(service).map(|forward| Arc::clone(&forward.pool))
    }

    /// A new connection to a service.
    pub(crate) async fn connect(&self, service: &Service) -> Result<Connection<Outgoing>, String> {
        let forward = self
            .services
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(service)
            .cloned();
        let (Some(forward), Some(handle)) = (forward, &self.handle) else {
            return Err("the client does not forward this service any more".to_owned());
        };
        let open = handle.channel_open_forwarded_tcpip(forward.address, forward.port, "127.0.0.1", 0);
        let channel = match rt::timeout(OPEN_LIMIT, open).await {
            Some(Ok(channel)) => channel,
            Some(Err(why)) => return Err(format!("the client's port does not accept connections: {why}")),
            None => return Err(format!("the client opened no connection within {} s", OPEN_LIMIT.as_secs())),
        };
        Connection::new(rt::io(channel.into_stream()))
            .await
            .map_err(|why| why.to_string())
    }
}
