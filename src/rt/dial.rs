//! Connections to https servers that no HTTP client of ours speaks to: TCP, an office's proxy where there is one, TLS.
//!
//! The proxy's settings mean what they mean to AWS's calls, because the same matcher reads them.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use super::smithy::Network;
use super::tcp::{self, Segments};
use super::tls::{TlsClient, TlsStream};

/// How long one step may take: a TCP connection in which a packet is lost and sent again, a TLS handshake, a proxy's answer.
const STEP: Duration = Duration::from_secs(8);

/// The longest head of a proxy's answer, in bytes; a refusal's is followed by a page that nobody reads.
const MAX_HEAD: usize = 16 * 1024;

/// Opens connections. Cheap to clone.
#[derive(Clone)]
pub struct Dialer(Arc<Inner>);

struct Inner {
    network: Network,
    /// Made when the first connection asks for it: the system's certificates are read then.
    tls: OnceLock<Result<TlsClient, String>>,
}

/// Where a connection could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undialed {
    /// Nothing accepts there, or the name is unknown.
    Host(String),
    /// The proxy of this address (without its password) cannot be reached or refuses.
    Proxy(String, String),
    /// TLS with the host failed.
    Tls(String),
}

impl fmt::Display for Undialed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Undialed::Host(why) => f.write_str(why),
            Undialed::Proxy(proxy, why) => write!(f, "proxy {proxy}: {why}"),
            Undialed::Tls(why) => write!(f, "TLS: {why}"),
        }
    }
}

/// TLS over TCP, or over TLS to a proxy.
#[derive(Debug)]
pub enum Secure {
    Direct(Box<TlsStream<TcpStream>>),
    Nested(Box<TlsStream<TlsStream<TcpStream>>>),
}

impl Dialer {
    /// Connects through this.
    pub fn new(network: Network) -> Dialer {
        Dialer(Arc::new(Inner {
            network,
            tls: OnceLock::new(),
        }))
    }

    /// The proxy that is asked for connections to a host, without its password.
    pub fn proxy(&self, host: &str, port: u16) -> Option<String> {
        let proxy = self.intercept(host, port)?;
        Some(shown(&proxy.uri))
    }

    /// Opens a connection and shakes hands.
    ///
    /// # Errors
    /// What stood in the way; each step is bounded in time.
    pub async fn open(&self, host: &str, port: u16) -> Result<Secure, Undialed> {
        let tls = self.0.tls.get_or_init(|| self.0.network.tls()).clone();
        let tls = tls.map_err(Undialed::Tls)?;
        let Some(proxy) = self.intercept(host, port) else {
            let stream = step(tcp::connect((host, port), Segments::Full))
                .await
                .map_err(|why| Undialed::Host(why.to_string()))?;
            let stream = step(tls.connect(host, stream)).await;
            return stream
                .map(|stream| Secure::Direct(Box::new(stream)))
                .map_err(|why| Undialed::Tls(why.to_string()));
        };
        let refused = |why: io::Error| Undialed::Proxy(shown(&proxy.uri), why.to_string());
        let at = proxy.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let secure = proxy.uri.scheme_str() == Some("https");
        let through = proxy.uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = step(tcp::connect((at.as_str(), through), Segments::Full))
            .await
            .map_err(refused)?;
        if !secure {
            let stream = step(tunnel(stream, host, port, proxy.authorization.as_deref()))
                .await
                .map_err(refused)?;
            let stream = step(tls.connect(host, stream)).await;
            return stream
                .map(|stream| Secure::Direct(Box::new(stream)))
                .map_err(|why| Undialed::Tls(why.to_string()));
        }
        let stream = step(tls.connect(&at, stream)).await.map_err(refused)?;
        let stream = step(tunnel(stream, host, port, proxy.authorization.as_deref()))
            .await
            .map_err(refused)?;
        let stream = step(tls.connect(host, stream)).await;
        stream
            .map(|stream| Secure::Nested(Box::new(stream)))
            .map_err(|why| Undialed::Tls(why.to_string()))
    }

    fn intercept(&self, host: &str, port: u16) -> Option<Proxy> {
        let network = &self.0.network;
        let proxy = network.https_proxy.as_deref()?;
        let matcher = Matcher::builder().https(proxy).no(network.no_proxy.as_str()).build();
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.to_owned()
        };
        let uri: Uri = format!("https://{host}:{port}/").parse().ok()?;
        let found = matcher.intercept(&uri)?;
        Some(Proxy {
            uri: found.uri().clone(),
            authorization: found.basic_auth().and_then(|value| value.to_str().ok()).map(str::to_owned),
        })
    }
}

struct Proxy {
    uri: Uri,
    /// The value of `Proxy-Authorization`.
    authorization: Option<String>,
}

fn shown(proxy: &Uri) -> String {
    let port = proxy.port().map_or_else(String::new, |port| format!(":{port}"));
    format!(
        "{}://{}{port}",
        proxy.scheme_str().unwrap_or("http"),
        proxy.host().unwrap_or_default()
    )
}

async fn step<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match super::timeout(STEP, work).await {
        Some(done) => done,
        None => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("no answer within {} s", STEP.as_secs()),
        )),
    }
}

/// Asks a proxy for a connection (RFC 9110, section 9.3.6).
async fn tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: &str,
    port: u16,
    authorization: Option<&str>,
) -> io::Result<S> {
    let target = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let mut ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
    if let Some(authorization) = authorization {
        ask += &format!("Proxy-Authorization: {authorization}\r\n");
    }
    ask += "\r\n";
    stream.write_all(ask.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    // Byte by byte: what follows the head is the host's, and says nothing before we do.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::other("its answer has no end"));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(io::Error::other("it closed the connection instead of answering CONNECT"));
            }
            Err(why) => return Err(why),
        }
    }
    let head = String::from_utf8_lossy(&head);
    let line = head.lines().next().unwrap_or_default();
    let status = line.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok());
    match status {
        Some(200..=299) => Ok(stream),
        Some(407) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it wants a user name and a password (407)",
        )),
        Some(_) => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("it refuses a connection to {target}: {line}"),
        )),
        None => Err(io::Error::other("what answers there is no HTTP proxy")),
    }
}

impl Secure {
    fn inner(self: Pin<&mut Self>) -> Pin<&mut (dyn Both + Send + Unpin)> {
        let inner: &mut (dyn Both + Send + Unpin) = match self.get_mut() {
            Secure::Direct(stream) => &mut **stream,
            Secure::Nested(stream) => &mut **stream,
        };
        Pin::new(inner)
    }
}

/// Both directions of a stream.
trait Both: AsyncRead + AsyncWrite {}

impl<S: AsyncRead + AsyncWrite> Both for S {}

impl AsyncRead for Secure {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Secure {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, data)
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Secure::Direct(stream) => stream.is_write_vectored(),
            Secure::Nested(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
