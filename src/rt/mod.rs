//! The runtime: smol's executor runs every task, and one tokio current-thread runtime drives that executor because
//! russh needs tokio's reactor and timers. This is the only module that names tokio; the others see what it exports.
//!
//! Why this arrangement: see "Runtime" in ARCHITECTURE.md.

pub mod certificates;
mod dial;
mod hyper_seam;
mod inherited;
mod readahead;
mod signals;
mod smithy;
pub mod tls;

use std::future::Future;
use std::time::Duration;

pub use dial::{Dialer, Secure, Undialed};
pub use hyper_seam::{HyperExecutor, HyperTimer, Io, io};
pub use inherited::inherited;
pub use readahead::Readahead;
pub use signals::{Signal, Signals};
pub use smithy::{Network, SmithyClient, SmithySleep};
pub use smol::Task;
pub use std::time::Instant;
pub use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
pub use tokio::io::{DuplexStream, copy_bidirectional, duplex, split};
pub use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

static EXECUTOR: smol::Executor<'static> = smol::Executor::new();

/// Runs `main` and everything it spawns on this thread. Call once a process.
///
/// # Errors
/// The system refused the reactor (out of file descriptors, say).
pub fn block_on<T>(main: impl Future<Output = T>) -> std::io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let value = runtime.block_on(EXECUTOR.run(main));
    // Threads of `unblock` may be in the middle of a read from a terminal or a slow disk; nobody waits for them any more.
    runtime.shutdown_background();
    Ok(value)
}

/// Starts a task. Dropping the [`Task`] cancels it; `detach` lets it run on its own.
pub fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> Task<T> {
    EXECUTOR.spawn(future)
}

/// Waits.
pub async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Waits until an instant; at once if it is past.
pub async fn sleep_until(instant: Instant) {
    tokio::time::sleep_until(instant.into()).await;
}

/// `None` when `future` took longer than `limit`; it is dropped then.
pub async fn timeout<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Runs a blocking closure (disk, DNS) on another thread.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    smol::unblock(work).await
}
