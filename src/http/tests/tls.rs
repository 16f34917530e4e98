use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use tempfile::TempDir;

use super::rig::{TestServer, config, everything_of, get, serve_with};
use crate::config::{HttpConfig, TlsVersion};
use crate::http::{Client, HttpError, TlsProblem};

type Ca = CertifiedIssuer<'static, KeyPair>;

pub fn ca() -> Ca {
    named_ca("agent's test CA")
}

fn named_ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn leaf(ca: &Ca, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_string()]).unwrap();
    (params.signed_by(&key, ca).unwrap(), key)
}

/// A server for `name` with a certificate of the CA. `clients`: the CA of client certificates, if they are
/// required.
pub fn server(
    ca: &Ca,
    name: &str,
    clients: Option<&Ca>,
    versions: &[&'static SupportedProtocolVersion],
) -> TestServer {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (certificate, key) = leaf(ca, name);
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    serve_with(builder.with_single_cert(vec![certificate.der().clone()], key).unwrap())
}

pub fn file(dir: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn trusting(server: &TestServer, ca_file: &Path) -> HttpConfig {
    let mut config = config(&server.url("/"));
    config.tls.ca_file = Some(ca_file.into());
    config
}

#[track_caller]
fn fails(config: &HttpConfig, expect: TlsProblem, remedy: &str) {
    let error = get(&mut Client::new(config), config.base.as_str()).unwrap_err();
    assert!(
        matches!(&error, HttpError::Tls { problem, .. } if *problem == expect),
        "{}",
        everything_of(&error)
    );
    assert!(error.to_string().contains(remedy), "{error}");
}

const ALL: &[&SupportedProtocolVersion] = rustls::ALL_VERSIONS;

/// The system may have CA certificates or none. A foreign CA is used, so that the test runs on any host.
#[test]
fn a_server_is_trusted_by_its_own_ca_only() {
    let (dir, own) = (TempDir::new().unwrap(), ca());
    let server = server(&own, "127.0.0.1", None, ALL);
    fails(&trusting(&server, &file(&dir, "other.pem", &ca().pem())), TlsProblem::UnknownIssuer, "`ca_file`");
    fails(
        &trusting(&server, &file(&dir, "another.pem", &named_ca("another").pem())),
        TlsProblem::UnknownIssuer,
        "`ca_file`",
    );
    let mut client = Client::new(&trusting(&server, &file(&dir, "ca.pem", &own.pem())));
    assert_eq!(get(&mut client, &server.url("/")).unwrap().body, b"{}");
    let bundle = ca().pem() + &own.pem();
    let mut client = Client::new(&trusting(&server, &file(&dir, "bundle.pem", &bundle)));
    get(&mut client, &server.url("/")).unwrap();
}

#[test]
fn a_certificate_for_another_name() {
    let (dir, own) = (TempDir::new().unwrap(), ca());
    let server = server(&own, "wiki.example.com", None, ALL);
    fails(&trusting(&server, &file(&dir, "ca.pem", &own.pem())), TlsProblem::OtherName, "`url`");
}

#[test]
fn a_client_certificate_that_is_demanded() {
    let (dir, own, clients) = (TempDir::new().unwrap(), ca(), ca());
    let (certificate, key) = leaf(&clients, "agent");
    let pair = (file(&dir, "client.pem", &certificate.pem()), file(&dir, "client.key", &key.serialize_pem()));
    for versions in [ALL, &[&rustls::version::TLS12], &[&rustls::version::TLS13]] {
        let server = server(&own, "127.0.0.1", Some(&clients), versions);
        let mut config = trusting(&server, &file(&dir, "ca.pem", &own.pem()));
        // With TLS 1.2 the alert is less specific.
        let error = get(&mut Client::new(&config), &server.url("/")).unwrap_err();
        let known = [TlsProblem::ClientCertificate, TlsProblem::Handshake];
        assert!(
            matches!(&error, HttpError::Tls { problem, .. } if known.contains(problem)),
            "{}",
            everything_of(&error)
        );
        config.tls.client_certificate = Some(pair.clone());
        get(&mut Client::new(&config), &server.url("/")).unwrap();
    }
}

#[test]
fn a_minimum_version_that_the_server_does_not_have() {
    let (dir, own) = (TempDir::new().unwrap(), ca());
    let server = server(&own, "127.0.0.1", None, &[&rustls::version::TLS12]);
    let mut config = trusting(&server, &file(&dir, "ca.pem", &own.pem()));
    get(&mut Client::new(&config), &server.url("/")).unwrap();
    config.tls.version_min = TlsVersion::V1_3;
    fails(&config, TlsProblem::Version, "`tls_version_min`");
}

#[test]
fn a_port_without_tls() {
    let (dir, plain) =
        (TempDir::new().unwrap(), super::serve(|stream, _| super::answer(stream, "200 OK", "", "")));
    let plain_config = trusting(&plain, &file(&dir, "ca.pem", &ca().pem()));
    let early = super::server::start("https", |mut stream, _, _| {
        let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let mut config = plain_config;
    config.base = super::url_of(&early.url("/"));
    fails(&config, TlsProblem::NoTls, "`http://`");
}

#[test]
fn files_without_certificates() {
    let dir = TempDir::new().unwrap();
    let mut with_ca = config("https://wiki.example.com/");
    for (text, what) in [
        (Some("no PEM"), "contains no certificate"),
        (Some(""), "contains no certificate"),
        (None, "cannot read"),
    ] {
        let path = dir.path().join("ca.pem");
        let _ = fs::remove_file(&path);
        if let Some(text) = text {
            fs::write(&path, text).unwrap();
        }
        with_ca.tls.ca_file = Some(path);
        let error = get(&mut Client::new(&with_ca), "https://wiki.example.com/").unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("ca.pem"), "{error}");
    }
    let mut with_pair = config("https://wiki.example.com/");
    let (certificate, _) = leaf(&ca(), "agent");
    let chain = file(&dir, "client.pem", &certificate.pem());
    with_pair.tls.client_certificate = Some((chain, file(&dir, "client.key", "no PEM")));
    let error = get(&mut Client::new(&with_pair), "https://wiki.example.com/").unwrap_err().to_string();
    assert!(error.contains("with its private key"), "{error}");
}

/// Replaced by rename, as careful tools do, and half written, as others do.
#[test]
fn f56_a_ca_file_that_is_replaced_is_used_at_once() {
    let (dir, own) = (TempDir::new().unwrap(), ca());
    let server = server(&own, "127.0.0.1", None, ALL);
    let path = file(&dir, "ca.pem", &ca().pem());
    let mut client = Client::new(&trusting(&server, &path));
    // Missing at first, or not a CA: each request reads it again.
    let right = fs::read(&path).unwrap();
    for wrong in [None, Some("no PEM")] {
        fs::remove_file(&path).unwrap();
        if let Some(text) = wrong {
            fs::write(&path, text).unwrap();
        }
        assert!(get(&mut client, &server.url("/")).is_err());
        assert!(!client.credentials_changed());
        fs::write(&path, &right).unwrap();
        assert!(client.credentials_changed());
    }
    assert!(matches!(get(&mut client, &server.url("/")), Err(HttpError::Tls { .. })));
    assert!(!client.credentials_changed());
    fs::rename(file(&dir, "new.pem", &own.pem()), &path).unwrap();
    assert!(client.credentials_changed());
    get(&mut client, &server.url("/")).unwrap();
    assert!(!client.credentials_changed());
    for broken in [&own.pem()[..100], ""] {
        fs::write(&path, broken).unwrap();
        get(&mut client, &server.url("/")).unwrap();
    }
}
