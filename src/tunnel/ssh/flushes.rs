//! Tells whoever hands bytes to an SSH connection when they are out of it.
//!
//! russh takes ten messages while it writes, and then writes all ten at once: on a slow way that is a queue of some hundred KiB
//! which nobody sees, and every small answer waits behind it. Whoever waits for a flush behind each message has two in it at most.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use crate::rt::{AsyncRead, AsyncWrite, ReadBuf};

/// How often a connection has written out all that it had. One task waits at a time.
#[derive(Debug, Default)]
pub(super) struct Flushes(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    times: u64,
    /// There will be no more.
    over: bool,
    waiting: Option<Waker>,
}

impl Flushes {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So often by now.
    pub(super) fn times(&self) -> u64 {
        self.lock().times
    }

    /// Waits until it was more often than `times`, or the connection is gone.
    pub(super) async fn more_than(&self, times: u64) {
        poll_fn(|cx| {
            let mut counted = self.lock();
            if counted.times > times || counted.over {
                return Poll::Ready(());
            }
            counted.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn change(&self, change: impl FnOnce(&mut Counted)) {
        let mut counted = self.lock();
        change(&mut counted);
        if let Some(waiting) = counted.waiting.take() {
            waiting.wake();
        }
    }
}

/// A connection's stream, which counts for it where somebody wants to know.
#[derive(Debug)]
pub(super) struct Flushing<S> {
    stream: S,
    flushes: Option<Arc<Flushes>>,
}

impl<S> Flushing<S> {
    pub(super) fn new(stream: S, flushes: Option<Arc<Flushes>>) -> Flushing<S> {
        Flushing { stream, flushes }
    }
}

impl<S> Drop for Flushing<S> {
    fn drop(&mut self) {
        if let Some(flushes) = &self.flushes {
            flushes.change(|counted| counted.over = true);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Flushing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Flushing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        if let Some(flushes) = &self.flushes {
            flushes.change(|counted| counted.times += 1);
        }
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
