//! Local mode: where untagged requests go when a staging URL is set.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::edge::asked::Asked;
use super::edge::body::{EdgeBody, Outgoing};
use super::edge::{http1, own};
use crate::config::{Scheme, StagingUrl};
use crate::rt::tls::TlsClient;
use crate::rt::{self, TcpStream};
use crate::upstream::{self, Connection, Pool, Unanswered};

/// How long name look-up, TCP and TLS together may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The staging environment as an origin.
pub(crate) struct Staging {
    tls: OnceLock<Result<TlsClient, String>>,
    /// Connections to the URL that was asked last.
    pool: Mutex<Option<(StagingUrl, Arc<Pool<Outgoing>>)>>,
}

impl Staging {
    /// Nothing is connected or read yet.
    pub(crate) fn new() -> Staging {
        Staging {
            tls: OnceLock::new(),
            pool: Mutex::new(None),
        }
    }

    /// Passes an untagged request on, with Host rewritten.
    pub(crate) async fn answer(&self, url: &StagingUrl, request: Request<Incoming>) -> Result<Response<EdgeBody>, own::Own> {
        let pool = self.pool(url);
        let connect = || self.connect(url);
        let amend = |head: &mut http::request::Parts| {
            if let Some(host) = head.headers.remove(header::HOST)
                && !head.headers.contains_key(FORWARDED_HOST)
            {
                head.headers.insert(FORWARDED_HOST, host);
            }
            if let Ok(host) = HeaderValue::from_str(&authority(url)) {
                head.headers.insert(header::HOST, host);
            }
        };
        match http1::answer(&pool, connect, &mut Asked::of(request, amend), None).await {
            Ok(mut response) => {
                response
                    .headers_mut()
                    .insert(own::SERVED_BY, HeaderValue::from_static("staging"));
                Ok(response)
            }
            Err(why) => {
                let why = match why {
                    Unanswered::Connect(why) => why,
                    Unanswered::Answer(why) => why.to_string(),
                };
                let what = format!("the request has no tag, and the staging environment {url} gave no answer: {why}");
                Err(own::Own::new(StatusCode::BAD_GATEWAY, "staging-failed", what))
            }
        }
    }

    fn pool(&self, url: &StagingUrl) -> Arc<Pool<Outgoing>> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        match &*pool {
            Some((known, pool)) if known == url => Arc::clone(pool),
            _ => {
                let new = Pool::new();
                *pool = Some((url.clone(), Arc::clone(&new)));
                new
            }
        }
    }

    async fn connect(&self, url: &StagingUrl) -> Result<Connection<Outgoing>, String> {
        let connecting = async {
            let stream = TcpStream::connect((url.host.as_str(), url.port))
                .await
                .map_err(|why| why.to_string())?;
            // Nagle's algorithm costs a small request 40 ms.
            stream.set_nodelay(true).map_err(|why| why.to_string())?;
            match url.scheme {
                Scheme::Http => Connection::new(rt::io(stream), upstream::BUFFER)
                    .await
                    .map_err(|why| why.to_string()),
                Scheme::Https => {
                    let tls = self
                        .tls
                        .get_or_init(|| TlsClient::with_system_roots().map_err(|why| why.to_string()));
                    let stream = tls.as_ref().map_err(Clone::clone)?.connect(url.host.as_str(), stream).await;
                    let stream = stream.map_err(|why| why.to_string())?;
                    Connection::new(rt::io(stream), upstream::BUFFER)
                        .await
                        .map_err(|why| why.to_string())
                }
            }
        };
        match rt::timeout(CONNECT_LIMIT, connecting).await {
            Some(result) => result,
            None => Err(format!("no connection within {} s", CONNECT_LIMIT.as_secs())),
        }
    }
}

/// The URL's host and, unless it is the scheme's own, its port.
fn authority(url: &StagingUrl) -> String {
    let text = url.to_string();
    text.split_once("://")
        .map_or_else(|| text.clone(), |(_, authority)| authority.trim_end_matches('/').to_owned())
}
