//! How the SSH byte stream reaches bastiond.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::eice::EiceStream;
use super::ssh::Compression;
use super::ssm::SsmStream;
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
    Ssm(SsmStream),
    Eice(Box<EiceStream>),
}

impl Stream {
    /// The transport in one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Stream::Tcp(_) => "tcp",
            Stream::Unix(_) => "unix",
            Stream::Ssm(_) => "ssm",
            Stream::Eice(_) => "eice",
        }
    }
}

/// Both directions of a stream.
trait Both: AsyncRead + AsyncWrite {}

impl<S: AsyncRead + AsyncWrite> Both for S {}

impl Stream {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn Both + Send + Unpin)> {
        let inner: &mut (dyn Both + Send + Unpin) = match self.get_mut() {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
            Stream::Ssm(stream) => stream,
            Stream::Eice(stream) => &mut **stream,
        };
        Pin::new(inner)
    }
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
    /// This machine's end of a TCP connection, which goes with the network.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        match self {
            Stream::Tcp(stream) => stream.local_addr().ok(),
            Stream::Unix(_) | Stream::Ssm(_) | Stream::Eice(_) => None,
        }
    }

    /// Whether SSH is to compress what goes through it.
    pub(super) fn compression(&self) -> Compression {
        match self {
            Stream::Tcp(_) | Stream::Unix(_) => Compression::Never,
            Stream::Ssm(_) => Compression::Wanted,
            // As quick as the network in between, which is the developer's uplink.
            Stream::Eice(_) => Compression::Wanted,
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
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
