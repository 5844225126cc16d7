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
pub mod tcp;
pub mod tls;

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::task::Poll;
use std::time::Duration;

pub use dial::{Dialer, Secure, Undialed};
pub use hyper_seam::{HyperExecutor, HyperTimer, Io, io};
pub use inherited::inherited;
pub use readahead::{Backlog, Readahead};
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

/// Begins `work` again and again, each beside what was begun before and `every` so long, for answers that may be lost; the first that ends
/// counts. Of more than `most` at once the oldest is dropped. `work` is given its number, from 0. The caller bounds the time.
pub async fn beside<F: Future>(every: Duration, most: usize, mut work: impl FnMut(usize) -> F) -> F::Output {
    let mut running = VecDeque::new();
    let mut turn = 0;
    loop {
        if running.len() == most.max(1) {
            running.pop_front();
        }
        running.push_back(Box::pin(work(turn)));
        turn += 1;
        let first = poll_fn(|cx| {
            let ended = running.iter_mut().find_map(|one| match one.as_mut().poll(cx) {
                Poll::Ready(value) => Some(value),
                Poll::Pending => None,
            });
            ended.map_or(Poll::Pending, Poll::Ready)
        });
        if let Some(value) = timeout(every, first).await {
            return value;
        }
    }
}

/// Runs a blocking closure (disk, DNS) on another thread.
pub async fn unblock<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    smol::unblock(work).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::future::pending;

    const TICK: Duration = Duration::from_millis(5);

    #[test]
    fn what_is_begun_beside() {
        block_on(async {
            // One that never ends is no obstacle; one that ends late counts while it is kept.
            assert_eq!(
                beside(TICK, 4, |turn| async move { if turn < 2 { pending().await } else { turn } }).await,
                2
            );
            let late = |turn| async move {
                match turn {
                    0 => sleep(TICK * 5).await,
                    _ => pending().await,
                }
                turn
            };
            assert_eq!(beside(TICK, 100, late).await, 0);
            // No more than that at once.
            let alive = RefCell::new((0, 0));
            struct Alive<'a>(&'a RefCell<(i32, i32)>);
            impl Drop for Alive<'_> {
                fn drop(&mut self) {
                    self.0.borrow_mut().0 -= 1;
                }
            }
            let counted = |turn| {
                let mut count = alive.borrow_mut();
                *count = (count.0 + 1, count.1.max(count.0 + 1));
                let one = Alive(&alive);
                async move {
                    if turn < 10 {
                        pending::<()>().await;
                    }
                    drop(one);
                }
            };
            beside(TICK, 3, counted).await;
            assert_eq!(*alive.borrow(), (0, 3));
        })
        .unwrap();
    }
}
