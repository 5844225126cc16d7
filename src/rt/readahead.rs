//! A stream that reads far ahead for a reader that asks for little at a time.
//!
//! russh reads a packet's length and its rest in two reads; through this they cost one system call for many packets.
//! The buffer exists only while it holds bytes, so that an idle connection costs none. After each full buffer the reader's task
//! lets the others run: whoever takes what was read tells the peer to go on while the next buffer is read, and both ends of a
//! bulk transfer work at the same time instead of in turns.
//!
//! russh reads nothing while it writes. Two ends that both write more than the sockets between them hold would wait for each other for
//! ever; so what comes while a write waits is read here, and kept until it is asked for. And russh writes ten packets for each one that it
//! reads. So that what is kept does not grow, whoever gives it something to write waits while there is much ([`Backlog`]).
//!
//! This is why both ends cannot be stuck at once. Say that what is kept here passed [`MUCH`] before it last did there. Since then nothing was
//! given to russh here, so there came no more than what it had in its queue: less than is left up to [`MEANWHILE`]. So the other end takes
//! what is written here, and this one goes on to read.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much is read at once at most, in bytes: two full SSH packets, and what a loopback socket usually has ready.
const MOST: usize = 64 * 1024;

/// How much is read at once at least: a sign of life or a small request. It grows while reads fill it and shrinks when they do not.
const LEAST: usize = 4 * 1024;

/// How much is kept while a write waits, in bytes: [`MUCH`], and then what russh may have in its queues (two of ten messages with two packets
/// each, 1.3 MiB) and its own answers.
const MEANWHILE: usize = 2 * 1024 * 1024;

/// When nothing more is to be written until something was read, in bytes: four packets, so that a small request does not wait behind many.
const MUCH: usize = 128 * 1024;

/// What a connection has read while it wrote, and not yet looked at; and whether it is gone.
#[derive(Debug)]
pub struct Backlog {
    bytes: AtomicUsize,
    waiting: Mutex<Vec<Waker>>,
    /// Closed when the connection is gone; nothing goes through it.
    open: (smol::channel::Sender<Infallible>, smol::channel::Receiver<Infallible>),
}

impl Default for Backlog {
    fn default() -> Backlog {
        Backlog {
            bytes: AtomicUsize::new(0),
            waiting: Mutex::default(),
            open: smol::channel::bounded(1),
        }
    }
}

impl Backlog {
    /// Waits until the connection is gone.
    pub async fn over(&self) {
        // Nothing is ever sent, so this is the end.
        let Err(_) = self.open.1.recv().await;
    }

    /// Waits until it is small.
    pub async fn small(&self) {
        poll_fn(|cx| {
            if self.bytes.load(Ordering::Acquire) < MUCH {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // It may have become so before the lock was held.
            if self.bytes.load(Ordering::Acquire) < MUCH {
                return Poll::Ready(());
            }
            waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::AcqRel);
        if before >= MUCH && bytes < MUCH {
            let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Readahead<S> {
    stream: S,
    buffer: BytesMut,
    /// How much is read next.
    ahead: usize,
    /// The last read filled the buffer: there is probably more, and others wait to run.
    full: bool,
    /// Some of the buffer was read while a write waited.
    grown: bool,
    /// What ended such a read, until it is asked for.
    failed: Option<io::Error>,
    backlog: Arc<Backlog>,
}

impl<S> Drop for Readahead<S> {
    fn drop(&mut self) {
        // Whoever waits finds that the connection is gone.
        self.backlog.open.0.close();
        self.backlog.set(0);
    }
}

impl<S> Readahead<S> {
    /// Wraps a stream; nothing is read yet.
    pub fn new(stream: S) -> Readahead<S> {
        Readahead {
            stream,
            buffer: BytesMut::new(),
            ahead: LEAST,
            full: false,
            grown: false,
            failed: None,
            backlog: Arc::default(),
        }
    }

    /// What whoever gives the connection something to write looks at.
    pub fn backlog(&self) -> Arc<Backlog> {
        Arc::clone(&self.backlog)
    }
}

impl<S: AsyncRead + Unpin> Readahead<S> {
    /// Reads all that there is, because a write waits: its task is woken for either.
    fn meanwhile(&mut self, cx: &mut Context<'_>) {
        while self.failed.is_none() && self.buffer.len() < MEANWHILE {
            self.buffer.reserve(self.ahead);
            match pin!(self.stream.read_buf(&mut self.buffer)).poll(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    self.grown = true;
                    self.ahead = (self.ahead * 2).min(MOST);
                }
                Poll::Ready(Err(why)) => self.failed = Some(why),
                // The end of a stream is there for the next read, too.
                Poll::Ready(Ok(_)) | Poll::Pending => break,
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        if self.grown {
            self.backlog.set(self.buffer.len());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readahead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buffer.is_empty() {
            if let Some(why) = this.failed.take() {
                return Poll::Ready(Err(why));
            }
            if this.full {
                this.full = false;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            this.buffer.reserve(this.ahead);
            // Made anew for each poll: it holds nothing, and loses no byte when dropped.
            match pin!(this.stream.read_buf(&mut this.buffer)).poll(cx) {
                Poll::Ready(Ok(count)) if count > 0 => {
                    this.full = count >= MOST;
                    if count >= this.ahead {
                        this.ahead = (this.ahead * 2).min(MOST);
                    } else if count < this.ahead / 4 {
                        this.ahead = (this.ahead / 2).max(LEAST);
                    }
                }
                polled => {
                    // Waiting, the end, or an error: there is nothing to hold.
                    this.buffer = BytesMut::new();
                    return polled.map_ok(|_| ());
                }
            }
        }
        let count = this.buffer.len().min(out.remaining());
        out.put_slice(&this.buffer[..count]);
        this.buffer.advance(count);
        if this.grown {
            if this.buffer.is_empty() {
                this.grown = false;
                this.buffer = BytesMut::new();
            }
            this.backlog.set(this.buffer.len());
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Readahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, data);
        if polled.is_pending() {
            self.meanwhile(cx);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if polled.is_pending() {
            self.meanwhile(cx);
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, data);
        if polled.is_pending() {
            self.meanwhile(cx);
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt;
    use std::time::Duration;
    use tokio::io::AsyncWriteExt;

    /// What stands between two ends, in bytes: as little as the smallest socket holds.
    const PIPE: usize = 4 * 1024;
    const LIMIT: Duration = Duration::from_secs(20);

    fn pattern(seed: u8, len: usize) -> Vec<u8> {
        (0..len)
            .map(|at| (at as u8).wrapping_mul(31) ^ seed ^ (at >> 8) as u8)
            .collect()
    }

    /// Writes all before it reads anything, as russh does.
    async fn end(stream: rt::DuplexStream, send: Vec<u8>, expected: &[u8]) {
        let mut stream = Readahead::new(stream);
        stream.write_all(&send).await.unwrap();
        stream.flush().await.unwrap();
        let mut got = vec![0; expected.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert!(got == expected, "other bytes arrived");
        // Nothing more comes, or the end.
        smol::future::poll_once(stream.read(&mut [0; 1])).await;
        assert_eq!(stream.buffer.capacity(), 0, "memory is held for nothing");
    }

    #[test]
    fn two_ends_that_write_first_do_not_wait_for_each_other() {
        let (here, there) = rt::duplex(PIPE);
        let (down, up) = (pattern(1, 1_000_003), pattern(2, MEANWHILE));
        let both = smol::future::zip(end(here, up.clone(), &down), end(there, down.clone(), &up));
        rt::block_on(rt::timeout(LIMIT, both)).unwrap().expect("both are done");
    }

    #[test]
    fn no_more_is_kept_than_the_limit() {
        let (here, mut there) = rt::duplex(PIPE);
        rt::block_on(async {
            let mut near = Readahead::new(here);
            // Nobody reads at the other end, which writes on.
            let stuck = async {
                near.write_all(&[7; PIPE + 1]).await.unwrap();
                panic!("nobody took it");
            };
            let flood = async {
                let mut sent = 0;
                loop {
                    // As many turns as it needs to take what it takes.
                    for _ in 0..100 {
                        smol::future::yield_now().await;
                    }
                    match smol::future::poll_once(there.write(&[9; PIPE])).await {
                        Some(count) => sent += count.unwrap(),
                        None => return sent,
                    }
                }
            };
            let sent = smol::future::or(stuck, flood).await;
            assert!(sent >= MEANWHILE, "only {sent} bytes were taken");
            assert!(sent <= MEANWHILE + MOST + PIPE, "{sent} bytes were taken");
        })
        .unwrap();
    }

    #[test]
    fn the_end_of_the_stream_comes_after_what_was_kept() {
        let (here, mut there) = rt::duplex(PIPE);
        rt::block_on(async {
            there.write_all(b"last words").await.unwrap();
            let mut near = Readahead::new(here);
            assert!(smol::future::poll_once(near.write_all(&[7; PIPE + 1])).await.is_none());
            drop(there);
            let mut all = Vec::new();
            near.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"last words");
        })
        .unwrap();
    }
}
