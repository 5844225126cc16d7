//! What the daemon is told: the command line and the file of `--config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use crate::config::StagingUrl;

/// Where SSH listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SshAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Everything that is fixed while the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub http: SocketAddr,
    pub ssh: SshAddress,
    pub state: PathBuf,
    pub control_socket: PathBuf,
    pub exit_when_idle: Option<Duration>,
    pub local: bool,
    pub metrics: Option<SocketAddr>,
    pub rekey_bytes: Option<u64>,
    pub tunables: Tunables,
}

/// What SIGHUP reads again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunables {
    pub lease: Duration,
    /// How long the edge holds a request of a session without lane.
    pub hold: Duration,
    pub drain: Duration,
    pub cors_origins: Vec<String>,
    pub authorized_keys: PathBuf,
}
