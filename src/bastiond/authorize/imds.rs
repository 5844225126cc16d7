//! The instance metadata service, version 2: a token first, then what is asked for. Every answer is short, every wait has an end.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};

use crate::config::{Scheme, StagingUrl};
use crate::rt::{self, TcpStream};

/// Where AWS puts it (EC2 User Guide, "Access instance metadata").
pub(crate) const ENDPOINT: &str = "http://169.254.169.254";

/// How often a token is asked for: IMDS is restarted now and then, and throttles.
const TRIES: u32 = 3;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one exchange may take. IMDS answers within milliseconds, or its packets are dropped.
const EXCHANGE: Duration = Duration::from_secs(2);
/// How long a token lives, in seconds: longer than any lookup, and no longer than needed.
const TOKEN_SECONDS: &str = "30";
/// The longest token, in bytes; AWS's have 56.
const MAX_TOKEN: usize = 1024;
/// The largest answer, in bytes: 256 blocks of keys ([`super::blocks`]), or a chain of certificates.
const MAX_ANSWER: usize = 512 * 1024;

const TOKEN: &str = "x-aws-ec2-metadata-token";

/// The metadata service of this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Imds(StagingUrl);

/// One lookup's way to it.
pub(super) struct Session {
    sender: SendRequest<Empty<Bytes>>,
    _driver: rt::Task<()>,
    imds: Imds,
    token: HeaderValue,
}

impl Imds {
    /// Takes `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// A sentence about what it is instead.
    pub(crate) fn parse(text: &str) -> Result<Imds, String> {
        let url = StagingUrl::parse(text).map_err(|why| why.to_string())?;
        match url.scheme {
            Scheme::Http => Ok(Imds(url)),
            Scheme::Https => Err("the metadata service speaks HTTP without TLS; write http://".to_owned()),
        }
    }

    /// Connects and asks for a token.
    pub(super) async fn open(&self) -> Result<Session, String> {
        let mut tried = 1;
        loop {
            let why = match rt::timeout(EXCHANGE, self.token()).await {
                Some(Ok(session)) => return Ok(session),
                Some(Err(why)) => why,
                None => format!("no answer within {} s", EXCHANGE.as_secs()),
            };
            if tried == TRIES {
                return Err(format!("the instance metadata service at {self} gives no token: {why}"));
            }
            tried += 1;
            rt::sleep(PAUSE).await;
        }
    }

    async fn token(&self) -> Result<Session, String> {
        let stream = TcpStream::connect((self.0.host.as_str(), self.0.port))
            .await
            .map_err(|why| why.to_string())?;
        let (mut sender, driver) = http1::handshake(rt::io(stream)).await.map_err(|why| why.to_string())?;
        // How it ends is told by the exchange that it breaks.
        let driver = rt::spawn(async move { drop(driver.await) });
        let request = self
            .request(Method::PUT, "/latest/api/token")
            .header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
        match exchange(&mut sender, request, MAX_TOKEN).await? {
            (StatusCode::OK, body) => Ok(Session {
                token: HeaderValue::from_bytes(body.trim_ascii()).map_err(|_| "its token is no header value".to_owned())?,
                sender,
                _driver: driver,
                imds: self.clone(),
            }),
            (StatusCode::FORBIDDEN, _) => Err("it answers 403; is it turned off for this instance (HttpEndpoint)?".to_owned()),
            (status, _) => Err(format!("it answers {status}")),
        }
    }

    fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", format!("{}:{}", self.0.host, self.0.port))
    }
}

impl fmt::Display for Imds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Session {
    /// What stands at `/latest/meta-data/PATH`; `None` when nothing does.
    pub(super) async fn read(&mut self, path: &str) -> Result<Option<String>, String> {
        let full = format!("/latest/meta-data/{path}");
        let request = self.imds.request(Method::GET, &full).header(TOKEN, &self.token);
        let answered = rt::timeout(EXCHANGE, exchange(&mut self.sender, request, MAX_ANSWER)).await;
        let answer = answered.unwrap_or_else(|| Err(format!("no answer within {} s", EXCHANGE.as_secs())));
        match answer {
            Ok((StatusCode::OK, body)) => Ok(Some(String::from_utf8_lossy(&body).into_owned())),
            Ok((StatusCode::NOT_FOUND, _)) => Ok(None),
            Ok((status, _)) => Err(format!("the instance metadata service answers {status} to {path}")),
            Err(why) => Err(format!("the instance metadata service does not say {path}: {why}")),
        }
    }

    /// [`Session::read`] of what every instance has.
    pub(super) async fn need(&mut self, path: &str) -> Result<String, String> {
        let found = self.read(path).await?;
        let found = found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        found.ok_or_else(|| format!("the instance metadata service has no {path}"))
    }
}

async fn exchange(
    sender: &mut SendRequest<Empty<Bytes>>,
    request: http::request::Builder,
    limit: usize,
) -> Result<(StatusCode, Bytes), String> {
    let request = request.body(Empty::new()).map_err(|why| why.to_string())?;
    sender.ready().await.map_err(|why| why.to_string())?;
    let answer = sender.send_request(request).await.map_err(|why| why.to_string())?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), limit).collect().await;
    let body = body.map_err(|why| match why.downcast_ref::<http_body_util::LengthLimitError>() {
        Some(_) => format!("its answer is longer than {limit} bytes"),
        None => why.to_string(),
    })?;
    Ok((status, body.to_bytes()))
}
