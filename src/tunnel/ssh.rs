//! The laptop's half of SSH, and what both halves agree on: algorithms, windows and limits.
//!
//! The laptop never serves anything through SSH: every channel that a bastion tries to open is refused.

mod algorithms;
pub(crate) mod channel;
mod flushes;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, DisconnectReason, Session};
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::ssh_key::{self, LineEnding};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Disconnect, Limits, SshId};

use super::transport::Stream;
use crate::error::{Error, Exit, Result};
use crate::name::User;
use crate::rt::{self, Backlog, Readahead};
pub(crate) use algorithms::{Compression, preferred};
use flushes::{Flushes, Flushing};

/// The window of each channel, in bytes: what may be on its way on a link of 100 MB/s with a round
/// trip of 160 ms. Flow control between requests is HTTP/2's; this window only bounds the link.
pub(crate) const WINDOW: u32 = 16 * 1024 * 1024;

/// The largest SSH packet's payload, in bytes (RFC 4253, section 6.1: every implementation takes this much).
pub(crate) const PACKET: u32 = 32 * 1024;

/// Messages queued for one channel before the connection waits for its reader. HTTP/2's own windows end a stall long before.
pub(crate) const CHANNEL_QUEUE: usize = 128;

/// Silence after which a sign of life is asked for. With [`KEEPALIVE_MAX`] a dead peer is found within 9 s.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(3);

/// Unanswered questions after which the connection counts as dead.
pub(crate) const KEEPALIVE_MAX: usize = 2;

/// Bytes under one key before a new one is agreed on, each way (RFC 4253, section 9: after each gigabyte).
pub(crate) const REKEY_BYTES: usize = 1 << 30;

/// Time under one key (RFC 4253, section 9: after each hour).
pub(crate) const REKEY_TIME: Duration = Duration::from_secs(3600);

/// How long a bastion that does not take a key may take to say why; it waits half of this for another key.
const REASON_LIMIT: Duration = Duration::from_secs(1);

/// What stands before a bastion's own words about the end of a connection.
const GOODBYE: &str = "the bastion ended the connection: ";

/// The identification string (RFC 4253, section 4.2).
pub(crate) fn identification() -> SshId {
    SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-ephemwork_", env!("CARGO_PKG_VERSION"))))
}

/// A new ed25519 key.
pub(crate) fn new_key(comment: &str) -> Result<PrivateKey> {
    let mut seed = [0u8; 32];
    getrandom::fill(&mut seed).map_err(|why| Error::new(Exit::Bug, "the system gives no random bytes").because(why))?;
    let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
    PrivateKey::new(pair, comment).map_err(|why| Error::new(Exit::Bug, "no key could be made").because(why))
}

/// A public key as `algorithm base64`, without comment.
pub(crate) fn public_line(key: &PublicKey) -> String {
    let text = key.to_openssh().unwrap_or_default();
    let mut parts = text.split(' ');
    match (parts.next(), parts.next()) {
        (Some(algorithm), Some(body)) => format!("{algorithm} {body}"),
        _ => text,
    }
}

/// The key with which a laptop proves who it is.
#[derive(Clone)]
pub struct ClientKey(Arc<PrivateKey>);

impl ClientKey {
    /// A new ed25519 key: itself, its private half in OpenSSH's format, its public line without comment.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn generate() -> Result<(ClientKey, String, String)> {
        let key = new_key("ephemwork")?;
        let text = key
            .to_openssh(LineEnding::LF)
            .map_err(|why| Error::new(Exit::Bug, "no key could be made").because(why))?
            .to_string();
        let line = public_line(key.public_key());
        Ok((ClientKey(Arc::new(key)), text, line))
    }

    /// Reads a private key in OpenSSH's format, without passphrase.
    ///
    /// # Errors
    /// The text is not such a key.
    pub fn from_openssh(text: &str) -> Result<ClientKey> {
        let wrong = |why: &dyn fmt::Display| Error::new(Exit::Config, "the SSH key cannot be used").because(why);
        let key = PrivateKey::from_openssh(text).map_err(|why| wrong(&why))?;
        if key.is_encrypted() {
            return Err(wrong(&"it has a passphrase"));
        }
        Ok(ClientKey(Arc::new(key)))
    }

    /// The public half as `ssh-ed25519 AAAA…`.
    pub fn public_line(&self) -> String {
        public_line(self.0.public_key())
    }
}

/// Who connects, and to whom.
#[derive(Clone)]
pub struct Login {
    /// The SSH user name.
    pub user: User,
    /// The laptop's key.
    pub key: ClientKey,
    /// The bastion's host key, `ssh-ed25519 AAAA…`; any other ends the connection before anything is said.
    pub host_key: String,
}

/// A channel as a byte stream.
pub(crate) use channel::ChannelIo;

/// An authenticated SSH connection with its requests channel open.
pub(super) struct Connected {
    pub(super) handle: Handle,
    pub(super) requests: ChannelIo,
    pub(super) ended: Ended,
}

/// Why there is no SSH connection.
#[derive(Clone, Debug)]
pub enum Unconnected {
    /// The bastion shows another host key.
    HostKey {
        /// As the login has it.
        pinned: String,
        /// `ssh-ed25519 AAAA…`
        shown: String,
    },
    /// The bastion does not accept the laptop's key.
    Key(Error),
    /// The stream stands, and nothing comes through.
    Silent(Error),
    /// Everything else.
    Other(Error),
}

impl From<Error> for Unconnected {
    fn from(error: Error) -> Unconnected {
        Unconnected::Other(error)
    }
}

impl From<Unconnected> for Error {
    fn from(why: Unconnected) -> Error {
        match why {
            Unconnected::HostKey { pinned, shown } => wrong_host_key(&pinned, &shown),
            Unconnected::Key(error) | Unconnected::Silent(error) | Unconnected::Other(error) => error,
        }
    }
}

/// Keeps the connection; dropping it closes the connection without a word.
pub(super) struct Handle(client::Handle<Handler>, Arc<Backlog>);

impl Handle {
    /// Opens a channel for a subsystem; the reason when that is refused. The caller bounds the time.
    pub(super) async fn subsystem(&self, name: &str) -> Result<ChannelIo, String> {
        Ok(ChannelIo::new(subsystem(&self.0, name).await?, Arc::clone(&self.1)).of_calls())
    }

    /// Asks for a sign of life, besides those of [`KEEPALIVE`]. An error means that the connection is gone.
    pub(super) async fn ask(&self) {
        drop(self.0.send_keepalive(true).await);
    }

    /// Says goodbye. An error means that the connection is gone already, which is what was wanted.
    pub(super) async fn disconnect(&self) {
        drop(self.0.disconnect(Disconnect::ByApplication, "bye", "en").await);
    }
}

/// Tells when and why the connection ended; every clone is told.
#[derive(Clone)]
pub(super) struct Ended {
    reason: Arc<Mutex<Option<Reason>>>,
    signal: smol::channel::Receiver<()>,
}

/// Why a connection ended.
#[derive(Clone)]
struct Reason {
    text: String,
    /// Nothing came through any more.
    silence: bool,
}

impl Ended {
    /// Waits for the end.
    pub(super) async fn wait(&self) -> String {
        // Nothing is ever sent: the channel closes when the handler is dropped with the connection.
        while self.signal.recv().await.is_ok() {}
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        reason.map_or_else(|| "the connection was closed".to_owned(), |reason| reason.text)
    }

    /// Whether it has ended because nothing came through any more.
    pub(super) fn in_silence(&self) -> bool {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.as_ref().is_some_and(|reason| reason.silence)
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        self.signal.is_closed()
    }
}

struct Handler {
    host_key: String,
    mismatch: Arc<Mutex<Option<String>>>,
    reason: Arc<Mutex<Option<Reason>>>,
    _alive: smol::channel::Sender<()>,
}

impl client::Handler for Handler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = key else {
            return Ok(false);
        };
        if public_line(key) == self.host_key {
            return Ok(true);
        }
        *self.mismatch.lock().unwrap_or_else(PoisonError::into_inner) = Some(public_line(key));
        Ok(false)
    }

    async fn disconnected(&mut self, reason: DisconnectReason<russh::Error>) -> Result<(), russh::Error> {
        let text = match &reason {
            DisconnectReason::ReceivedDisconnect(info) if info.message.is_empty() => {
                "the bastion ended the connection".to_owned()
            }
            DisconnectReason::ReceivedDisconnect(info) => format!("{GOODBYE}{}", info.message),
            DisconnectReason::Error(russh::Error::KeepaliveTimeout) => "the bastion does not answer any more".to_owned(),
            DisconnectReason::Error(why) => why.to_string(),
        };
        let silence = matches!(&reason, DisconnectReason::Error(why) if is_silence(why));
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(Reason { text, silence });
        match reason {
            DisconnectReason::ReceivedDisconnect(_) => Ok(()),
            DisconnectReason::Error(why) => Err(why),
        }
    }

    // A dropped reply refuses the channel: a bastion has nothing to open on a laptop.
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<client::Msg>,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<client::Msg>,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<client::Msg>,
        _: &str,
        _: u32,
        _: client::ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), russh::Error> {
        Ok(())
    }
}

/// SSH over an open stream: key exchange, host key, public key, the requests channel. The caller bounds the time.
pub(super) async fn connect(stream: Stream, login: &Login, requests: &str) -> Result<Connected, Unconnected> {
    let slow = stream.compression() == Compression::Wanted;
    let flushes = slow.then(Arc::<Flushes>::default);
    let config = client::Config {
        client_id: identification(),
        limits: Limits::new(REKEY_BYTES, REKEY_BYTES, REKEY_TIME),
        window_size: WINDOW,
        maximum_packet_size: PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred: preferred(stream.compression()),
        keepalive_interval: Some(KEEPALIVE),
        keepalive_max: KEEPALIVE_MAX,
        ..client::Config::default()
    };
    let reason = Arc::new(Mutex::new(None));
    let mismatch = Arc::new(Mutex::new(None));
    let (alive, signal) = smol::channel::bounded(1);
    let handler = Handler {
        host_key: login.host_key.clone(),
        mismatch: Arc::clone(&mismatch),
        reason: Arc::clone(&reason),
        _alive: alive,
    };
    let unreachable = |why: &dyn fmt::Display| Error::new(Exit::Unreachable, "SSH with the bastion failed").because(why);
    let stream = Readahead::new(Flushing::new(stream, flushes.clone()));
    let backlog = stream.backlog();
    let mut handle = match client::connect_stream(Arc::new(config), stream, handler).await {
        Ok(handle) => handle,
        Err(why) => {
            let mismatch = mismatch.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(match mismatch {
                Some(shown) => Unconnected::HostKey {
                    pinned: login.host_key.clone(),
                    shown,
                },
                None if is_silence(&why) => Unconnected::Silent(unreachable(&why)),
                None => unreachable(&why).into(),
            });
        }
    };
    let key = PrivateKeyWithHashAlg::new(Arc::clone(&login.key.0), None);
    let answer = handle
        .authenticate_publickey(login.user.as_str(), key)
        .await
        .map_err(|why| unreachable(&why))?;
    if !answer.success() {
        // A bastion that asks AWS says why it does not take a key, in its goodbye.
        rt::timeout(REASON_LIMIT, signal.recv()).await;
        let reason = reason.lock().unwrap_or_else(PoisonError::into_inner).take();
        return Err(Unconnected::Key(unaccepted(login, reason.map(|reason| reason.text))));
    }
    let requests = subsystem(&handle, requests).await.map_err(|why| unreachable(&why))?;
    Ok(Connected {
        requests: match flushes {
            Some(flushes) => ChannelIo::narrow(requests, Arc::clone(&backlog), flushes),
            None => ChannelIo::new(requests, Arc::clone(&backlog)),
        },
        handle: Handle(handle, backlog),
        ended: Ended { reason, signal },
    })
}

/// Nothing came for long, or nothing that was sent was acknowledged.
fn is_silence(why: &russh::Error) -> bool {
    matches!(why, russh::Error::KeepaliveTimeout) || matches!(why, russh::Error::IO(why) if why.kind() == io::ErrorKind::TimedOut)
}

fn unaccepted(login: &Login, reason: Option<String>) -> Error {
    let user = login.user.as_str();
    let error = Error::new(
        Exit::Unreachable,
        format!("the bastion does not accept this laptop's key for user {user:?}"),
    );
    match reason {
        Some(reason) => error
            .because(reason.strip_prefix(GOODBYE).unwrap_or(&reason))
            .hint("try again; if it stays so, the bastion's log has more (journalctl -u ephemwork-bastiond)"),
        None => error
            .because(format!("key {}", login.key.public_line()))
            .hint("add the key with this user's name to the bastion's authorized keys"),
    }
}

async fn subsystem(handle: &client::Handle<Handler>, name: &str) -> Result<Channel<client::Msg>, String> {
    let mut channel = handle.channel_open_session().await.map_err(|why| why.to_string())?;
    channel.request_subsystem(true, name).await.map_err(|why| why.to_string())?;
    loop {
        match channel.wait().await {
            Some(ChannelMsg::Success) => return Ok(channel),
            Some(ChannelMsg::WindowAdjusted { .. }) => {}
            Some(ChannelMsg::Failure) => return Err(format!("the bastion has no subsystem {name}; is it an ephemwork bastion?")),
            _ => return Err(format!("the bastion closed the channel for {name}")),
        }
    }
}

/// A key's line as people compare it.
pub(crate) fn fingerprint(line: &str) -> String {
    match PublicKey::from_openssh(line) {
        Ok(key) => key.fingerprint(ssh_key::HashAlg::Sha256).to_string(),
        Err(_) => format!("{line:?}, which is not a key"),
    }
}

fn wrong_host_key(pinned: &str, shown: &str) -> Error {
    let (pinned, found) = (fingerprint(pinned), fingerprint(shown));
    Error::new(
        Exit::Unreachable,
        "the bastion shows another host key than the one that is pinned",
    )
    .because(format!("pinned {pinned}, shown {found}"))
    .hint("if the bastion was made anew, pin its new key; otherwise somebody is in between")
}
