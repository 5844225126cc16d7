//! smithy's runtime seams: how it sleeps, and how it reaches a server.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_http_client::proxy::{ProxyConfig, ProxyError};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use http::Uri;
use http_body_util::Limited;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::tls::TlsClient;

/// The longest answer that is taken, in bytes: four times the largest part of an object that is asked for at once.
const MAX_ANSWER: usize = 32 << 20;

/// smithy's clock for backing off and for timeouts.
#[derive(Clone, Copy, Debug)]
pub struct SmithySleep;

impl AsyncSleep for SmithySleep {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration))
    }
}

/// What stands between here and the servers.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Who is trusted instead of the system's roots: certificates in PEM.
    pub bundle: Option<Vec<u8>>,
    /// The proxy for http URLs: `[http[s]://][user:password@]host:port`.
    pub http_proxy: Option<String>,
    /// The proxy for https URLs.
    pub https_proxy: Option<String>,
    /// What no proxy serves: hosts, domains, addresses, ranges, with commas between them.
    pub no_proxy: String,
}

/// Connections to servers: HTTP/1.1 or HTTP/2 over rustls, pooled.
#[derive(Clone, Debug)]
pub struct SmithyClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    network: Network,
    /// One for each pair of time limits that smithy asks for; there are two or three.
    connectors: Mutex<Vec<(HttpConnectorSettings, SharedHttpConnector)>>,
}

impl SmithyClient {
    /// Connects through this.
    ///
    /// # Errors
    /// A sentence, when there is no usable certificate in the bundle, or a proxy is none.
    pub fn new(network: Network) -> Result<SmithyClient, String> {
        if let Some(bundle) = &network.bundle {
            check(bundle)?;
        }
        proxy(network.http_proxy.as_deref(), ProxyConfig::http)?;
        proxy(network.https_proxy.as_deref(), ProxyConfig::https)?;
        Ok(SmithyClient(Arc::new(Inner {
            network,
            connectors: Mutex::new(Vec::new()),
        })))
    }
}

impl SmithyClient {
    /// What it connects through.
    pub fn network(&self) -> Network {
        self.0.network.clone()
    }
}

/// A proxy as smithy wants it; one without a scheme is spoken to in HTTP.
fn proxy(url: Option<&str>, of: impl Fn(Uri) -> Result<ProxyConfig, ProxyError>) -> Result<ProxyConfig, String> {
    let Some(url) = url else { return Ok(ProxyConfig::disabled()) };
    let whole = if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    };
    // Of the URL nothing is told: it may have a password in it.
    let uri = whole
        .parse::<Uri>()
        .map_err(|why| format!("the proxy's URL is none: {why}"))?;
    of(uri).map_err(|_| "the proxy's URL does not begin with http:// or https://, or lacks a host".to_owned())
}

/// smithy's connector takes for granted what is checked here.
fn check(bundle: &[u8]) -> Result<(), String> {
    let mut count = 0_usize;
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        let certificate = certificate.map_err(|why| format!("certificate {} is not PEM: {why}", count + 1))?;
        count += 1;
        let added = RootCertStore::empty().add(certificate);
        added.map_err(|why| format!("certificate {count} is of no use: {why}"))?;
    }
    if count == 0 {
        return Err("there is no certificate in it".to_owned());
    }
    Ok(())
}

impl Network {
    /// TLS that trusts as the HTTP client does.
    pub(super) fn tls(&self) -> Result<TlsClient, String> {
        let client = match &self.bundle {
            Some(bundle) => TlsClient::with_bundle(bundle),
            None => TlsClient::with_system_roots(),
        };
        client.map_err(|why| why.to_string())
    }
}

impl HttpClient for SmithyClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        let mut connectors = self.0.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &HttpConnectorSettings| {
            known.connect_timeout() == settings.connect_timeout() && known.read_timeout() == settings.read_timeout()
        };
        if let Some((_, connector)) = connectors.iter().find(|(known, _)| same(known)) {
            return connector.clone();
        }
        let network = self.0.network.clone();
        let through = proxy(network.http_proxy.as_deref(), ProxyConfig::http).unwrap_or_else(|_| ProxyConfig::disabled());
        let connector = SharedHttpConnector::new(Either {
            plain: builder(settings, through.no_proxy(&network.no_proxy)).build_http(),
            network,
            settings: settings.clone(),
            tls: OnceLock::new(),
        });
        connectors.push((settings.clone(), connector.clone()));
        connector
    }
}

fn builder(settings: &HttpConnectorSettings, proxy: ProxyConfig) -> ConnectorBuilder {
    Connector::builder()
        .connector_settings(settings.clone())
        .sleep_impl(SmithySleep)
        .proxy_config(proxy)
}

/// A connector that reads the system's certificates when the first https URL asks for them.
#[derive(Debug)]
struct Either {
    network: Network,
    settings: HttpConnectorSettings,
    plain: Connector,
    tls: OnceLock<Result<Connector, String>>,
}

impl Either {
    fn tls(&self) -> Result<Connector, String> {
        let through = proxy(self.network.https_proxy.as_deref(), ProxyConfig::https)?;
        let through = through.no_proxy(&self.network.no_proxy);
        let trust = match &self.network.bundle {
            Some(bundle) => TrustStore::empty().with_pem_certificate(bundle.clone()),
            None => {
                super::tls::system_roots().map_err(|why| why.to_string())?;
                TrustStore::default()
            }
        };
        let context = TlsContext::builder().with_trust_store(trust).build();
        let context = context.map_err(|why| why.to_string())?;
        let provider = Provider::rustls(CryptoMode::Ring);
        Ok(builder(&self.settings, through)
            .tls_provider(provider)
            .tls_context(context)
            .build())
    }
}

impl HttpConnector for Either {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = if request.uri().starts_with("http://") {
            self.plain.call(request)
        } else {
            match self.tls.get_or_init(|| self.tls()) {
                Ok(connector) => connector.call(request),
                Err(why) => return HttpConnectorFuture::ready(Err(ConnectorError::user(why.clone().into()))),
            }
        };
        // The orchestrator reads every body whole into memory.
        let bounded = |body: SdkBody| SdkBody::from_body_1_x(Limited::new(body, MAX_ANSWER));
        HttpConnectorFuture::new(async move { Ok(answer.await?.map(bounded)) })
    }
}
