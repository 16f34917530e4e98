//! Certificates for servers and clients of the tests.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub fn new(name: &str) -> Ca {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ca(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for 127.0.0.1 and localhost, and its key, in PEM.
    pub fn issue(&self) -> (String, String) {
        let (certificate, key) = self.leaf();
        (certificate.pem(), key.serialize_pem())
    }

    fn leaf(&self) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let names = ["127.0.0.1", "localhost"].map(str::to_owned);
        let params = CertificateParams::new(names.to_vec()).unwrap();
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    /// A server that demands a certificate of the `clients`' CA, if there is one.
    pub fn server(&self, clients: Option<&Ca>) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(clients) => {
                let mut roots = RootCertStore::empty();
                roots.add(clients.0.der().clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let (certificate, key) = self.leaf();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
    }

    /// A client that trusts this CA, with a certificate of the `identity`'s CA, if there is one.
    pub fn client(&self, identity: Option<&Ca>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let Some(identity) = identity else { return builder.with_no_client_auth() };
        let (certificate, key) = identity.leaf();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
    }

    /// Writes a certificate and its key to `<name>.pem` and `<name>.key`, as a renewal does: each whole, one after the
    /// other.
    pub fn write_pair(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.issue();
        let paths = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        replace(&paths.0, &certificate);
        replace(&paths.1, &key);
        paths
    }
}

/// Puts a new file in the place of another.
pub fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}
