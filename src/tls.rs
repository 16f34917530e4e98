//! TLS for connections other than HTTP. Built from the configuration and the files that it names, and rebuilt
//! when a file changes.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_platform_verifier::Verifier;

use crate::config::{TlsConfig, TlsVersion};
use crate::http::{TlsProblem, tls_problem};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot read `{}`; correct its path, or let the agent's user read it", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("`{}` contains no {what} in PEM form (`-----BEGIN …`); convert it with `openssl`, or name another file", path.display())]
    NoPem { path: PathBuf, what: &'static str },
    #[error("`{}` and `{}` do not belong together; name a certificate and its own key", chain.display(), key.display())]
    Pair { chain: PathBuf, key: PathBuf, source: rustls::Error },
    #[error(
        "TLS cannot be set up; if the system has no CA certificates, install the package `ca-certificates`, or name a file with `ca_file`"
    )]
    Build(#[source] rustls::Error),
}

/// Detects changes of files.
pub(crate) struct WatchedFiles(Vec<(PathBuf, Option<FileStamp>)>);

/// Inode, size and modification time. Differs for a file that was replaced or rewritten.
type FileStamp = (u64, u64, i64, i64);

impl WatchedFiles {
    /// The files of a TLS configuration.
    pub(crate) fn of(tls: &TlsConfig) -> WatchedFiles {
        let pair = tls.client_certificate.iter().flat_map(|(chain, key)| [chain, key]);
        WatchedFiles::new(tls.ca_file.iter().chain(pair))
    }

    pub(crate) fn new<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> WatchedFiles {
        let paths = paths.into_iter();
        WatchedFiles(paths.map(|path| (path.clone(), stamp(path))).collect())
    }

    /// Whether a file has changed since [`WatchedFiles::mark_read`].
    pub(crate) fn changed(&self) -> bool {
        self.0.iter().any(|(path, known)| stamp(path) != *known)
    }

    /// Call this before reading the files. A change in between is then detected later.
    pub(crate) fn mark_read(&mut self) {
        for (path, known) in &mut self.0 {
            *known = stamp(path);
        }
    }
}

fn stamp(path: &Path) -> Option<FileStamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

/// The TLS settings for one server.
pub(crate) struct Tls {
    config: TlsConfig,
    files: WatchedFiles,
    built: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads no file yet.
    pub(crate) fn new(config: &TlsConfig) -> Tls {
        Tls { config: config.clone(), files: WatchedFiles::of(config), built: None }
    }

    pub(crate) fn changed(&self) -> bool {
        self.files.changed()
    }

    /// Built at the first call and rebuilt after a change of its files. If the changed files are not usable,
    /// for example half written, the previous settings stay in use.
    pub(crate) fn config(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        if let (Some(built), false) = (&self.built, self.changed()) {
            return Ok(built.clone());
        }
        self.files.mark_read();
        match (build(&self.config), &self.built) {
            (Ok(config), _) => Ok(self.built.insert(Arc::new(config)).clone()),
            (Err(error), None) => Err(error),
            (Err(error), Some(old)) => {
                let error = &error as &dyn Error;
                tracing::warn!(error, "changed TLS files cannot be used; the previous ones stay in use");
                Ok(old.clone())
            }
        }
    }
}

fn build(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let extra_roots = match &tls.ca_file {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(extra_roots, provider.clone()).map_err(TlsError::Build)?;
    let versions: &[_] = match tls.version_min {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Build)?
        // As strict as the default verifier, with the certificates of the system and of `ca_file`.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((chain, key)) = &tls.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let pair = |source| TlsError::Pair { chain: chain.clone(), key: key.clone(), source };
    builder.with_client_auth_cert(certificates(chain)?, private_key(key)?).map_err(pair)
}

/// The TLS settings of a server. With `client_ca`, clients need a certificate that it has signed.
pub(crate) fn server(chain: &Path, key: &Path, client_ca: Option<&Path>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Build)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(TlsError::Build)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier =
                verifier.map_err(|error| TlsError::Build(rustls::Error::General(error.to_string())))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let pair = |source| TlsError::Pair { chain: chain.into(), key: key.into(), source };
    builder.with_single_cert(certificates(chain)?, private_key(key)?).map_err(pair)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let no_pem = |_| TlsError::NoPem { path: path.into(), what: "private key" };
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(no_pem)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let metadata: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match metadata {
        Ok(metadata) if !metadata.is_empty() => Ok(metadata),
        _ => Err(TlsError::NoPem { path: path.into(), what: "certificate" }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.into(), source })
}

/// The reason of a TLS failure, or `None` if the error has another cause. `key` is the configuration key of
/// the address.
pub(crate) fn message(error: &(dyn Error + 'static), key: &str) -> Option<String> {
    let error = crate::http::find::<rustls::Error>(error)?;
    Some(match tls_problem(error) {
        TlsProblem::NoTls => {
            format!(
                "the server does not use TLS at this port; correct the port in `{key}`, or remove the TLS settings"
            )
        }
        other => format!("{} ({error})", other.to_string().replace("`url`", &format!("`{key}`"))),
    })
}
