//! A certificate authority of this run's own, and the server's certificate: X.509 version 3 by hand, ECDSA P-256.

use std::sync::Arc;

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const UTF8: u8 = 0x0c;
const OCTETS: u8 = 0x04;
const TRUE: &[u8] = &[0x01, 1, 0xff];

/// From 2020 to 2049, whatever the day of the test.
const VALIDITY: [&[u8]; 2] = [b"200101000000Z", b"491231235959Z"];

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 17];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 15];

/// The authority in PEM, and what a server of `localhost` and 127.0.0.1 under it needs.
pub(crate) struct Made {
    pub(crate) authority: String,
    pub(crate) server: Arc<rustls::ServerConfig>,
}

pub(crate) fn make() -> Result<Made, String> {
    let broken = |why| format!("no certificate can be made: {why}");
    let (authority, authority_key) = key_pair().map_err(broken)?;
    let (server, server_key) = key_pair().map_err(broken)?;
    let name = "ephemwork test authority";
    let ca = [
        extension(BASIC_CONSTRAINTS, true, &sequence(&[TRUE])),
        // keyCertSign
        extension(KEY_USAGE, true, &[0x03, 2, 2, 0x04]),
    ]
    .concat();
    let names = [tagged(0x82, b"localhost"), tagged(0x87, &[127, 0, 0, 1])].concat();
    let leaf = extension(ALTERNATIVE_NAME, false, &tagged(SEQUENCE, &names));
    let root = certificate(1, name, name, &authority, &ca, &authority).map_err(broken)?;
    let end = certificate(2, name, "localhost", &server, &leaf, &authority).map_err(broken)?;
    drop(authority_key);
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|why| why.to_string())?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from(end)],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key)),
        )
        .map_err(|why| why.to_string())?;
    Ok(Made {
        authority: pem(&root),
        server: Arc::new(config),
    })
}

fn key_pair() -> Result<(EcdsaKeyPair, Vec<u8>), String> {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(|why| why.to_string())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref(), &random);
    Ok((pair.map_err(|why| why.to_string())?, document.as_ref().to_vec()))
}

fn certificate(
    serial: u8,
    issuer: &str,
    subject: &str,
    key: &EcdsaKeyPair,
    extensions: &[u8],
    signer: &EcdsaKeyPair,
) -> Result<Vec<u8>, String> {
    let algorithm = sequence(&[&tagged(OID, ECDSA_WITH_SHA256)]);
    let public = [&[0_u8], key.public_key().as_ref()].concat();
    let body = sequence(&[
        &tagged(0xa0, &[0x02, 1, 2]),
        &tagged(0x02, &[serial]),
        &algorithm,
        &name(issuer),
        &sequence(&VALIDITY.map(|time| tagged(0x17, time)).each_ref().map(Vec::as_slice)),
        &name(subject),
        &sequence(&[
            &sequence(&[&tagged(OID, EC_PUBLIC_KEY), &tagged(OID, P256)]),
            &tagged(0x03, &public),
        ]),
        &tagged(0xa3, &tagged(SEQUENCE, extensions)),
    ]);
    let signature = signer.sign(&SystemRandom::new(), &body).map_err(|why| why.to_string())?;
    let signature = [&[0_u8], signature.as_ref()].concat();
    Ok(sequence(&[&body, &algorithm, &tagged(0x03, &signature)]))
}

fn name(common: &str) -> Vec<u8> {
    let attribute = sequence(&[&tagged(OID, COMMON_NAME), &tagged(UTF8, common.as_bytes())]);
    sequence(&[&tagged(SET, &attribute)])
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { TRUE } else { &[] };
    sequence(&[&tagged(OID, oid), critical, &tagged(OCTETS, value)])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(SEQUENCE, &parts.concat())
}

/// One DER element.
fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..0x80 => out.push(length as u8),
        0x80..0x100 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(content);
    out
}

fn pem(der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = (0..text.len())
        .step_by(64)
        .map(|at| &text[at..text.len().min(at + 64)])
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let value = (0..3).fold(0_usize, |value, at| {
            value << 8 | usize::from(chunk.get(at).copied().unwrap_or(0))
        });
        for at in 0..4 {
            let letter = LETTERS[value >> (18 - 6 * at) & 63];
            out.push(if at <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    out
}
