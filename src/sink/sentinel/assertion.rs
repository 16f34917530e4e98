//! A signed JSON Web Token by which an application authenticates with its certificate.

use base64::prelude::{BASE64_URL_SAFE_NO_PAD as BASE64, Engine};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PSS_SHA256, RsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use uuid::Uuid;

use crate::secret::Secret;

/// Short, but long enough for clocks that differ.
const VALID_S: i64 = 600;

/// A client assertion for `audience`, the URL of the token endpoint, signed with PS256. Errors contain
/// nothing of the key.
pub(super) fn client_assertion(
    certificate_pem: &[u8],
    key_pem: &[u8],
    client: &str,
    audience: &str,
    now_s: i64,
) -> Result<Secret, &'static str> {
    let certificate = CertificateDer::from_pem_slice(certificate_pem).map_err(
        |_| "`client_certificate` holds no certificate in PEM form (`-----BEGIN CERTIFICATE-----`)",
    )?;
    let key = key_pair(key_pem)?;
    if memchr::memmem::find(&certificate, key.public().as_ref()).is_none() {
        return Err("`client_key` is not the key of `client_certificate`");
    }
    let header = json!({
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": BASE64.encode(digest(&SHA256, &certificate)),
    });
    let claims = json!({
        "aud": audience,
        "iss": client,
        "sub": client,
        "jti": Uuid::new_v4().to_string(),
        "iat": now_s,
        "nbf": now_s,
        "exp": now_s + VALID_S,
    });
    let mut token = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PSS_SHA256, &SystemRandom::new(), token.as_bytes(), &mut signature)
        .map_err(|_| "`client_key` cannot sign")?;
    token.push('.');
    BASE64.encode_string(signature, &mut token);
    Ok(Secret::new(token))
}

fn key_pair(pem: &[u8]) -> Result<RsaKeyPair, &'static str> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(
        |_| "`client_key` holds no unencrypted private key in PEM form (`-----BEGIN PRIVATE KEY-----`)",
    )?;
    let parsed = match &key {
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        _ => return Err("`client_key` is not an RSA key, and Entra ID accepts no other"),
    };
    parsed.map_err(|_| "`client_key` is not an RSA key of 2048 to 4096 bits, and Entra ID accepts no other")
}
