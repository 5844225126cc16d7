//! How the SSH byte stream reaches bastiond.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use super::eice::EiceStream;
use super::ssh::Compression;
use super::ssm::SsmStream;
use crate::rt::tcp::{self, Segments};
use crate::rt::{AsyncRead, AsyncWrite, ReadBuf, TcpStream, UnixStream};

/// How long what was sent over TCP may stay unacknowledged. A second before both ends' signs of life ([`super::ssh::KEEPALIVE`]) give the
/// connection up: it is then known that this laptop's packets were lost.
const UNACKNOWLEDGED: Duration = Duration::from_secs(8);

/// A way to a bastion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `host:port`.
    Tcp(String),
    /// A unix socket on this machine.
    Unix(PathBuf),
}

/// Whether large packets may vanish between this laptop and the bastion, because something in between does not tell that they are too
/// large (RFC 2923, section 2.1). Nobody says so; what is seen is a connection that stands and falls silent.
#[derive(Debug, Default)]
pub(crate) struct Narrows(AtomicBool);

impl Narrows {
    /// A connection fell silent: the next ones have small segments. When that was not the reason it costs a hundredth of the bandwidth.
    pub(crate) fn suspect(&self) {
        if !self.0.swap(true, Relaxed) {
            tracing::info!("a connection fell silent; the next one sends smaller packets");
        }
    }

    /// This is another network.
    pub(crate) fn forget(&self) {
        self.0.store(false, Relaxed);
    }

    fn segments(&self) -> Segments {
        match self.0.load(Relaxed) {
            true => Segments::Small,
            false => Segments::Full,
        }
    }
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
    pub(crate) async fn open(&self, narrows: &Narrows) -> io::Result<Stream> {
        match self {
            Transport::Tcp(address) => {
                let stream = tcp::connect(address.as_str(), narrows.segments()).await?;
                tcp::give_up_after(&stream, UNACKNOWLEDGED);
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
