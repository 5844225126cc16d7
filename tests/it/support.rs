//! The harness: real executables, real sockets, real processes, and one way to wait.
//!
//! Nothing here sleeps in order to be in time: [`until`] polls a condition and gives up loudly after a deadline.
//! Everything that is started is ended by its own process id when its owner is dropped, also when a test panics.

pub(crate) mod aws;
pub(crate) mod bastion;
pub(crate) mod cloud;
pub(crate) mod engineer;
pub(crate) mod frames;
pub(crate) mod library;
pub(crate) mod other;
pub(crate) mod peers;
pub(crate) mod process;
pub(crate) mod relay;
pub(crate) mod remote;
pub(crate) mod root;
pub(crate) mod service;
pub(crate) mod ssm;
pub(crate) mod wire;
pub(crate) mod workshop;

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use bastion::Bastion;
pub(crate) use cloud::Cloud;
pub(crate) use engineer::Engineer;
pub(crate) use peers::{need, need_module, peer};
pub(crate) use process::Process;
pub(crate) use remote::Remote;
pub(crate) use service::Service;
pub(crate) use ssm::Ssm;
pub(crate) use wire::{Answer, Head, Wire, fetch, get};
pub(crate) use workshop::Workshop;

/// What tests send as credentials. It stands in nothing that the product prints: `cargo xtask transcripts` knows it, too.
pub(crate) const CANARY: &str = "ephemwork-canary-5d1f";

/// How long anything may take that takes milliseconds on an idle machine. Generous, because a debug build on a busy
/// machine with two cores runs the whole suite in parallel; it is reached only when a test fails.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

/// How often [`until`] looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Waits until `condition` gives something; panics with `what` after `limit`.
#[track_caller]
pub(crate) fn until_within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// [`until_within`] the usual [`LIMIT`].
#[track_caller]
pub(crate) fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_within(LIMIT, what, condition)
}

/// A TCP address on loopback that stays the same over a restart. It lies below the system's range for automatic ports, so
/// that no other socket of this machine takes it by chance in between.
pub(crate) fn lasting_address() -> SocketAddr {
    const FIRST: u32 = 11_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Two test runs at once start far apart.
    let start = std::process::id().wrapping_mul(61) % COUNT;
    for _ in 0..COUNT {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free TCP port between {FIRST} and {}", FIRST + COUNT);
}

/// The tests that need a whole core or the memory of one process to themselves take turns.
pub(crate) fn heavy() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an ed25519 key pair without a passphrase at `path` and gives the public line.
pub(crate) fn make_key(path: &Path, comment: &str) -> String {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path)
        .status()
        .expect("ssh-keygen must be installed");
    assert!(made.success(), "ssh-keygen failed");
    std::fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}
