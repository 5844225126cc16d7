//! A stream that reads far ahead for a reader that asks for little at a time.
//!
//! russh reads a packet's length and its rest in two reads; through this they cost one system call for many packets.
//! The buffer exists only while it holds bytes, so that an idle connection costs none. After each full buffer the reader's task
//! lets the others run: whoever takes what was read tells the peer to go on while the next buffer is read, and both ends of a
//! bulk transfer work at the same time instead of in turns.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// How much is read at once at most, in bytes: two full SSH packets, and what a loopback socket usually has ready.
const MOST: usize = 64 * 1024;

/// How much is read at once at least: a sign of life or a small request. It grows while reads fill it and shrinks when they do not.
const LEAST: usize = 4 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Readahead<S> {
    stream: S,
    buffer: BytesMut,
    /// How much is read next.
    ahead: usize,
    /// The last read filled the buffer: there is probably more, and others wait to run.
    full: bool,
}

impl<S> Readahead<S> {
    /// Wraps a stream; nothing is read yet.
    pub fn new(stream: S) -> Readahead<S> {
        Readahead {
            stream,
            buffer: BytesMut::new(),
            ahead: LEAST,
            full: false,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readahead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.buffer.is_empty() {
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
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Readahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
