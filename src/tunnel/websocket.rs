//! A websocket (RFC 6455) as a client: over TLS, through a proxy where there is one, messages of bytes.
//!
//! The upgrade is spoken here and not by the library, because a refusal's body says why: AWS's own sentences, or a proxy's page.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream as _;
use futures_sink::Sink as _;
use http::Uri;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio_websockets::{ClientBuilder, CloseCode, Config, Error, Limits, Message, WebSocketStream};

use crate::aws::base64;
use crate::rt::{self, AsyncReadExt, AsyncWriteExt, Dialer, Secure, Undialed};

/// How long the answer to an upgrade may take, behind TCP and TLS.
const UPGRADE: Duration = Duration::from_secs(10);

/// The longest head of that answer, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// How much of a refusal's body is read, in bytes, and how long it is waited for.
const MAX_BODY: usize = 4 * 1024;
const BODY: Duration = Duration::from_secs(2);

/// How many fields that head may have.
const MAX_FIELDS: usize = 64;

/// The largest message that is taken, in bytes. The agent's have 1144, an endpoint's up to 65,000; AWS's gateway relays at most 142,000.
const MAX_MESSAGE: usize = 1024 * 1024;

/// How much is gathered before it is written, in bytes: some hundred acknowledgements, four full TLS records.
const GATHERED: usize = 64 * 1024;

/// What the accepted key is made of (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// An open websocket.
pub(crate) struct WebSocket(WebSocketStream<Secure>);

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Binary(Bytes),
    Text(String),
    /// The peer closes, with a code where it gave one, and a reason that is often empty.
    Closed(Option<u16>, String),
}

/// Why there is no websocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unopened {
    /// The URL is none that can be opened; the service's fault.
    Url(String),
    /// No connection to the host.
    Undialed(Undialed),
    /// It answered the upgrade with another status, and with this.
    Refused {
        status: u16,
        body: String,
        /// `Server`, by which a proxy's answer is known from AWS's.
        server: Option<String>,
    },
    /// It did not answer the upgrade, or not as a websocket does.
    Upgrade(String),
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unopened::Url(why) | Unopened::Upgrade(why) => f.write_str(why),
            Unopened::Undialed(why) => why.fmt(f),
            Unopened::Refused { status, body, .. } if body.is_empty() => write!(f, "the upgrade was answered with {status}"),
            Unopened::Refused { status, body, .. } => write!(f, "the upgrade was answered with {status}: {body}"),
        }
    }
}

/// The host and port of a `wss` URL.
pub(crate) fn place(url: &str) -> Result<(String, u16, Uri), Unopened> {
    let uri: Uri = url
        .parse()
        .map_err(|_| Unopened::Url("what AWS named is not a URL".to_owned()))?;
    match (uri.scheme_str(), uri.host()) {
        (Some("wss"), Some(host)) => {
            let host = host.trim_matches(['[', ']']).to_owned();
            Ok((host, uri.port_u16().unwrap_or(443), uri))
        }
        _ => Err(Unopened::Url("what AWS named is not a wss URL".to_owned())),
    }
}

/// Opens the websocket of a URL.
pub(crate) async fn open(dialer: &Dialer, url: &str) -> Result<WebSocket, Unopened> {
    let (host, port, uri) = place(url)?;
    let mut stream = dialer.open(&host, port).await.map_err(Unopened::Undialed)?;
    let mut nonce = [0u8; 16];
    getrandom::fill(&mut nonce).map_err(|_| Unopened::Upgrade("the system gives no random bytes".to_owned()))?;
    let key = base64::encode(&nonce);
    match rt::timeout(UPGRADE, upgrade(&mut stream, &uri, &key)).await {
        Some(done) => done?,
        None => {
            let why = format!("no answer to the upgrade within {} s", UPGRADE.as_secs());
            return Err(Unopened::Upgrade(why));
        }
    }
    let builder = ClientBuilder::new()
        .config(Config::default().flush_threshold(GATHERED))
        .limits(Limits::default().max_payload_len(Some(MAX_MESSAGE)));
    Ok(WebSocket(builder.take_over(stream)))
}

async fn upgrade(stream: &mut Secure, uri: &Uri, key: &str) -> Result<(), Unopened> {
    let broken = |why: std::io::Error| Unopened::Upgrade(why.to_string());
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let host = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
    let ask = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\nUser-Agent: ephemwork/{}\r\n\r\n",
        env!("CARGO_PKG_VERSION")
    );
    stream.write_all(ask.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut head = Vec::new();
    // Byte by byte, out of TLS's buffer: the first message may follow at once.
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(Unopened::Upgrade("the answer to the upgrade has no end".to_owned()));
        }
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(why) if why.kind() == std::io::ErrorKind::UnexpectedEof => {
                let why = "the connection was closed instead of an answer to the upgrade".to_owned();
                return Err(Unopened::Upgrade(why));
            }
            Err(why) => return Err(broken(why)),
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let status = match answer.parse(&head) {
        Ok(httparse::Status::Complete(_)) => answer.code.unwrap_or_default(),
        _ => return Err(Unopened::Upgrade("the answer to the upgrade is not HTTP".to_owned())),
    };
    let field = |name: &str| {
        let found = answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok().map(|value| value.trim().to_owned())
    };
    if status != 101 {
        let length = field("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(MAX_BODY);
        return Err(Unopened::Refused {
            status,
            server: field("server"),
            body: body(stream, length.min(MAX_BODY)).await,
        });
    }
    let accepted = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes());
    let upgraded = field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    if !upgraded || field("sec-websocket-accept") != Some(base64::encode(accepted.as_ref())) {
        return Err(Unopened::Upgrade("the answer to the upgrade is not a websocket's".to_owned()));
    }
    Ok(())
}

/// What a refusal says, on one line, without markup.
async fn body(stream: &mut Secure, length: usize) -> String {
    let mut body = Vec::new();
    let read = async {
        let mut limited = stream.take(length as u64);
        // What came before an error is better than nothing.
        limited.read_to_end(&mut body).await.ok();
    };
    rt::timeout(BODY, read).await;
    let text = String::from_utf8_lossy(&body);
    let said = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|object| {
        let message = ["message", "Message"].iter().find_map(|name| object[name].as_str());
        message.map(str::to_owned)
    });
    said.unwrap_or_else(|| plain(&text))
}

/// The words of a page.
fn plain(page: &str) -> String {
    /// A sentence or two, in characters.
    const SHOWN: usize = 300;
    let mut inside = false;
    let text: String = page
        .chars()
        .filter_map(|c| match c {
            '<' => {
                inside = true;
                Some(' ')
            }
            '>' if inside => {
                inside = false;
                None
            }
            _ if inside => None,
            c if c.is_control() => Some(' '),
            c => Some(c),
        })
        .collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(SHOWN).collect()
}

impl WebSocket {
    /// The next message; pings and pongs are dealt with. After an error or [`Received::Closed`] there is none.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, String>> {
        loop {
            let next = ready!(Pin::new(&mut self.0).poll_next(cx));
            let message = match next {
                Some(Ok(message)) => message,
                Some(Err(why)) => return Poll::Ready(Err(told(&why))),
                None => return Poll::Ready(Err("the connection was closed".to_owned())),
            };
            if message.is_binary() {
                return Poll::Ready(Ok(Received::Binary(message.into_payload().into())));
            }
            if message.is_close() {
                let close = message.as_close().map(|(code, reason)| (u16::from(code), reason.to_owned()));
                let (code, reason) = close.unzip();
                return Poll::Ready(Ok(Received::Closed(code, reason.unwrap_or_default())));
            }
            if let Some(text) = message.as_text() {
                return Poll::Ready(Ok(Received::Text(text.to_owned())));
            }
        }
    }

    /// Whether one more message can be given; writes while it is not.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.0).poll_ready(cx).map_err(|why| told(&why))
    }

    /// Gives a message of bytes, behind [`WebSocket::poll_ready`]; it is on its way after [`WebSocket::poll_flush`].
    pub(crate) fn give(&mut self, bytes: Bytes) -> Result<(), String> {
        Pin::new(&mut self.0)
            .start_send(Message::binary(bytes))
            .map_err(|why| told(&why))
    }

    /// The same with text.
    pub(crate) fn give_text(&mut self, text: String) -> Result<(), String> {
        Pin::new(&mut self.0)
            .start_send(Message::text(text))
            .map_err(|why| told(&why))
    }

    /// A ping, so that nothing in between takes the connection for dead.
    pub(crate) fn give_ping(&mut self) -> Result<(), String> {
        Pin::new(&mut self.0)
            .start_send(Message::ping("keepalive"))
            .map_err(|why| told(&why))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        Pin::new(&mut self.0).poll_flush(cx).map_err(|why| told(&why))
    }

    /// Says goodbye, and waits until it is on its way.
    pub(crate) async fn close(mut self) {
        let bye = Message::close(Some(CloseCode::NORMAL_CLOSURE), "");
        if Pin::new(&mut self.0).start_send(bye).is_ok() {
            // A connection that is gone needs no goodbye.
            std::future::poll_fn(|cx| self.poll_flush(cx)).await.ok();
        }
    }
}

fn told(why: &Error) -> String {
    match why {
        Error::Io(why) => why.to_string(),
        why => format!("websocket: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_in_words() {
        let check = |page: &str, expected: &str| assert_eq!(plain(page), expected, "{page}");
        check("", "");
        check("<html><body>Not\n<b>allowed</b> here.</body></html>", "Not allowed here.");
        check("a < b", "a");
        check("a > b", "a > b");
        check(&"x ".repeat(400), &"x ".repeat(150));
    }

    #[test]
    fn places() {
        let check = |url: &str, expected: Option<(&str, u16)>| {
            let found = place(url).ok().map(|(host, port, _)| (host, port));
            assert_eq!(found, expected.map(|(host, port)| (host.to_owned(), port)), "{url}");
        };
        check("", None);
        check("https://a/", None);
        check("ws://a/", None);
        check("wss:///x", None);
        check(
            "wss://a.example/v1/data-channel/b?role=publish_subscribe",
            Some(("a.example", 443)),
        );
        check("wss://[::1]:8443/", Some(("::1", 8443)));
    }
}
