//! The algorithms of SSH that both sides offer.

use std::borrow::Cow;

use russh::keys::Algorithm;
use russh::keys::ssh_key::EcdsaCurve;
use russh::{Preferred, cipher, compression, kex, mac};

/// Whether what goes through a connection is compressed, when both sides can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// The transport is quicker than compressing.
    Never,
    /// The transport is slow: text gets through in a fraction of the time.
    Wanted,
    /// As the other side likes it.
    Offered,
}

/// What both sides offer: no SHA-1, no CBC, no finite-field groups, authenticated ciphers only. aes128-gcm comes first, it costs
/// half of chacha20 on every CPU with AES instructions. Strict key exchange is announced and used with every peer that has it.
/// Compression only begins after the login, so that nobody without a key reaches its code.
pub(crate) fn preferred(compressed: Compression) -> Preferred {
    const KEX: &[kex::Name] = &[
        kex::MLKEM768X25519_SHA256,
        kex::CURVE25519,
        kex::CURVE25519_PRE_RFC_8731,
        kex::EXTENSION_SUPPORT_AS_CLIENT,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ];
    const KEY: &[Algorithm] = &[
        Algorithm::Ed25519,
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP384,
        },
        Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP521,
        },
    ];
    const CIPHER: &[cipher::Name] = &[cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];
    const MAC: &[mac::Name] = &[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM];
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Borrowed(KEY),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHER),
        mac: Cow::Borrowed(MAC),
        compression: Cow::Borrowed(match compressed {
            Compression::Never => &[compression::NONE],
            Compression::Wanted => &[compression::ZLIB_LEGACY, compression::NONE],
            Compression::Offered => &[compression::NONE, compression::ZLIB_LEGACY],
        }),
    }
}
