//! TLS as a client, over rustls with the system's roots. Nothing here accepts TLS.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A TLS connection over `S`.
pub type TlsStream<S> = tokio_rustls::client::TlsStream<S>;

/// What a client trusts and offers; made once and shared.
#[derive(Clone)]
pub struct TlsClient(tokio_rustls::TlsConnector);

/// The roots that the system trusts (or `SSL_CERT_FILE`).
///
/// # Errors
/// There is no usable one.
pub(super) fn system_roots() -> io::Result<RootCertStore> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found
            .errors
            .first()
            .map_or_else(|| "none found".to_owned(), ToString::to_string);
        return Err(io::Error::other(format!("no usable root certificate on this system: {why}")));
    }
    Ok(roots)
}

impl TlsClient {
    /// A client that trusts the system's roots (or `SSL_CERT_FILE`) and offers HTTP/1.1 by ALPN.
    ///
    /// # Errors
    /// The system has no usable root certificate.
    pub fn with_system_roots() -> io::Result<TlsClient> {
        TlsClient::trusting(system_roots()?)
    }

    /// A client that trusts the certificates of a PEM bundle instead.
    ///
    /// # Errors
    /// One of them is of no use.
    pub(super) fn with_bundle(bundle: &[u8]) -> io::Result<TlsClient> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle) {
            let certificate = certificate.map_err(io::Error::other)?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        TlsClient::trusting(roots)
    }

    fn trusting(roots: RootCertStore) -> io::Result<TlsClient> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsClient(tokio_rustls::TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with `host`.
    ///
    /// # Errors
    /// The host name is none, the certificate does not fit it, or the connection broke.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("{host:?} is not a host name")))?;
        self.0.connect(name, stream).await
    }
}
