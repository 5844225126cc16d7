//! Certificates that are no TLS server's: whether one that signs data is whose it says, and whether it signed.
//!
//! Not checked: revocation. Whoever signs with such a certificate shows it for the moment, see "Security" in the README.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::tls;

/// The largest file of roots, in bytes; a system's whole bundle is a quarter of it.
const MAX_ROOTS: u64 = 1 << 20;

/// The most certificates of one chain. Public chains have three or four.
const MAX_CHAIN: usize = 10;

/// Whom this machine trusts.
pub struct Roots(Vec<TrustAnchor<'static>>);

impl Roots {
    /// The system's, or those of a PEM file.
    ///
    /// # Errors
    /// There is no usable one, or the file cannot be read.
    pub fn load(file: Option<&Path>) -> io::Result<Roots> {
        let Some(file) = file else {
            return Ok(Roots(tls::system_roots()?.roots));
        };
        let mut text = Vec::new();
        File::open(file)?.take(MAX_ROOTS + 1).read_to_end(&mut text)?;
        if text.len() as u64 > MAX_ROOTS {
            return Err(io::Error::other(format!("it is longer than {MAX_ROOTS} bytes")));
        }
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(&text) {
            let certificate = certificate.map_err(|why| io::Error::other(format!("it is not PEM: {why}")))?;
            let anchor = anchor_from_trusted_cert(&certificate).map_err(io::Error::other)?;
            roots.push(anchor.to_owned());
        }
        if roots.is_empty() {
            return Err(io::Error::other("there is no certificate in it"));
        }
        Ok(Roots(roots))
    }
}

/// The certificate of somebody who signs, verified.
pub struct Signer(CertificateDer<'static>);

impl Signer {
    /// Takes a chain as PEM, the signer's own certificate first. It must lead to one of the roots at `now` (seconds since the
    /// epoch), and carry exactly this DNS name.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn verify(pem: &[u8], name: &str, roots: &Roots, now: u64) -> Result<Signer, String> {
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(pem).take(MAX_CHAIN + 1).collect();
        let chain = chain.map_err(|why| format!("it is not PEM: {why}"))?;
        let Some((own, between)) = chain.split_first() else {
            return Err("there is no certificate in it".to_owned());
        };
        if chain.len() > MAX_CHAIN {
            return Err(format!("it has more than {MAX_CHAIN} certificates"));
        }
        let certificate = EndEntityCert::try_from(own).map_err(|why| format!("its first certificate is unreadable: {why}"))?;
        certificate
            .verify_for_usage(
                ALL_VERIFICATION_ALGS,
                &roots.0,
                between,
                UnixTime::since_unix_epoch(Duration::from_secs(now)),
                KeyUsage::server_auth(),
                None,
                None,
            )
            .map_err(|why| format!("its chain does not verify: {why}"))?;
        // Equality, not TLS's rule: a wildcard is for servers.
        if !certificate.valid_dns_names().any(|found| found.eq_ignore_ascii_case(name)) {
            let found: Vec<&str> = certificate.valid_dns_names().take(3).collect();
            return Err(format!("it is the certificate of {:?}, not of {name}", found.join(", ")));
        }
        Ok(Signer(own.clone()))
    }

    /// Whether it signed this data with RSA-PSS, SHA-256 and a salt of 32 bytes.
    pub fn signed(&self, data: &[u8], signature: &[u8]) -> bool {
        let Ok(certificate) = EndEntityCert::try_from(&self.0) else {
            return false;
        };
        let algorithm = webpki::ring::RSA_PSS_2048_8192_SHA256_LEGACY_KEY;
        certificate.verify_signature(algorithm, data, signature).is_ok()
    }
}
