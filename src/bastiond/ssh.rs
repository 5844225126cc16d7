//! Accepts SSH connections (a place for the real server).

use std::sync::Arc;

use crate::bastiond::state::Daemon;

/// What SSH listens on.
pub(crate) enum SshListener {
    Tcp(crate::rt::TcpListener),
    Unix(crate::rt::UnixListener),
}

/// The daemon's identity.
pub(crate) struct HostKey;

impl HostKey {
    pub(crate) fn load_or_make(_directory: &std::path::Path) -> crate::error::Result<HostKey> {
        Ok(HostKey)
    }

    /// `ssh-ed25519 AAAA…`
    pub(crate) fn public(&self) -> String {
        "ssh-ed25519 AAAA".to_owned()
    }
}

pub(crate) async fn serve(listener: SshListener, _key: HostKey, daemon: Arc<Daemon>) {
    while !daemon.draining() {
        let accepted = match &listener {
            SshListener::Tcp(listener) => listener.accept().await.map(drop),
            SshListener::Unix(listener) => listener.accept().await.map(drop),
        };
        if accepted.is_err() {
            return;
        }
    }
}
