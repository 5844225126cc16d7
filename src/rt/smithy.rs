//! smithy's runtime seams: how it sleeps, and how it reaches a server.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_async::rt::sleep::{AsyncSleep, Sleep};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

/// smithy's clock for backing off and for timeouts.
#[derive(Clone, Copy, Debug)]
pub struct SmithySleep;

impl AsyncSleep for SmithySleep {
    fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(tokio::time::sleep(duration))
    }
}

/// Connections to AWS: HTTP/1.1 or HTTP/2 over rustls, pooled, through the proxy that the environment names
/// (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`, in either case).
#[derive(Clone, Debug)]
pub struct SmithyClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Who is trusted beside the system's roots: PEM.
    bundle: Option<Vec<u8>>,
    /// One for each pair of time limits that smithy asks for; there are two or three.
    connectors: Mutex<Vec<(HttpConnectorSettings, SharedHttpConnector)>>,
}

impl SmithyClient {
    /// Trusts the system's roots, or instead of them the certificates of `bundle` (PEM).
    ///
    /// # Errors
    /// A sentence, when there is no usable certificate in the bundle.
    pub fn new(bundle: Option<Vec<u8>>) -> Result<SmithyClient, String> {
        if let Some(bundle) = &bundle {
            check(bundle)?;
        }
        Ok(SmithyClient(Arc::new(Inner {
            bundle,
            connectors: Mutex::new(Vec::new()),
        })))
    }
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

impl HttpClient for SmithyClient {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let mut connectors = self.0.connectors.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |known: &HttpConnectorSettings| {
            known.connect_timeout() == settings.connect_timeout() && known.read_timeout() == settings.read_timeout()
        };
        if let Some((_, connector)) = connectors.iter().find(|(known, _)| same(known)) {
            return connector.clone();
        }
        let _ = components;
        let connector = SharedHttpConnector::new(Either {
            bundle: self.0.bundle.clone(),
            plain: builder(settings).build_http(),
            settings: settings.clone(),
            tls: OnceLock::new(),
        });
        connectors.push((settings.clone(), connector.clone()));
        connector
    }
}

fn builder(settings: &HttpConnectorSettings) -> ConnectorBuilder {
    Connector::builder()
        .connector_settings(settings.clone())
        .sleep_impl(SmithySleep)
        .proxy_config(ProxyConfig::from_env())
}

/// A connector that reads the system's certificates when the first https URL asks for them.
#[derive(Debug)]
struct Either {
    bundle: Option<Vec<u8>>,
    settings: HttpConnectorSettings,
    plain: Connector,
    tls: OnceLock<Result<Connector, String>>,
}

impl Either {
    fn tls(&self) -> Result<Connector, String> {
        let trust = match &self.bundle {
            Some(bundle) => TrustStore::empty().with_pem_certificate(bundle.clone()),
            None => {
                super::tls::system_roots().map_err(|why| why.to_string())?;
                TrustStore::default()
            }
        };
        let context = TlsContext::builder().with_trust_store(trust).build();
        let context = context.map_err(|why| why.to_string())?;
        let provider = Provider::rustls(CryptoMode::Ring);
        Ok(builder(&self.settings).tls_provider(provider).tls_context(context).build())
    }
}

impl HttpConnector for Either {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if request.uri().starts_with("http://") {
            return self.plain.call(request);
        }
        match self.tls.get_or_init(|| self.tls()) {
            Ok(connector) => connector.call(request),
            Err(why) => HttpConnectorFuture::ready(Err(ConnectorError::user(why.clone().into()))),
        }
    }
}
