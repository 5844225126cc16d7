//! A stream that reads far ahead for a reader that asks for little at a time.
//!
//! russh reads a packet's length and its rest in two reads; through this they cost one system call for many packets.
//! The buffer exists only while it holds bytes, so that an idle connection costs none.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once, in bytes: two full SSH packets, and what a loopback socket usually has ready.
const READAHEAD: usize = 64 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Readahead<S> {
    stream: S,
    buffer: Vec<u8>,
    taken: usize,
}

impl<S> Readahead<S> {
    /// Wraps a stream; nothing is read yet.
    pub fn new(stream: S) -> Readahead<S> {
        Readahead {
            stream,
            buffer: Vec::new(),
            taken: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Readahead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.taken == this.buffer.len() {
            if out.remaining() >= READAHEAD {
                return Pin::new(&mut this.stream).poll_read(cx, out);
            }
            this.buffer.resize(READAHEAD, 0);
            let mut ahead = ReadBuf::new(&mut this.buffer);
            let result = Pin::new(&mut this.stream).poll_read(cx, &mut ahead);
            let filled = ahead.filled().len();
            this.taken = 0;
            if filled == 0 {
                // Nothing to hold (waiting, the end, or an error): an idle connection keeps no buffer.
                this.buffer = Vec::new();
                return result;
            }
            this.buffer.truncate(filled);
            ready!(result)?;
        }
        let rest = &this.buffer[this.taken..];
        let count = rest.len().min(out.remaining());
        out.put_slice(&rest[..count]);
        this.taken += count;
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
