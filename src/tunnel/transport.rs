//! How the SSH byte stream reaches bastiond.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::ssh::Compression;
use crate::rt::{AsyncRead, AsyncWrite, ReadBuf, TcpStream, UnixStream};

/// A way to a bastion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `host:port`.
    Tcp(String),
    /// A unix socket on this machine.
    Unix(PathBuf),
}

/// An open byte stream to the bastion.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Transport {
    /// Opens the stream. The caller bounds the time.
    pub(crate) async fn open(&self) -> io::Result<Stream> {
        match self {
            Transport::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str()).await?;
                // Nagle's algorithm costs a small request 40 ms.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Transport::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        }
    }
}

impl Stream {
    /// Whether SSH is to compress what goes through it.
    pub(super) fn compression(&self) -> Compression {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Compression::Never,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Transport::Tcp(address) => f.write_str(address),
            Transport::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
