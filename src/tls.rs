//! TLS for connections that are not HTTP, made from the files that the configuration names, and made again when one changes.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_platform_verifier::Verifier;

use crate::config::{TlsConfig, TlsVersion};
use crate::http::{TlsProblem, tls_problem};

/// Why no TLS can be begun.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read `{}`; correct its path, or let the agent's user read it", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("`{}` holds no {what} in PEM form (`-----BEGIN …`); convert it with `openssl`, or name another file", path.display())]
    NoPem { path: PathBuf, what: &'static str },
    #[error("`{}` and `{}` do not fit together; name a certificate and its own key", chain.display(), key.display())]
    Pair {
        chain: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    #[error(
        "TLS cannot be set up; where the system has no CA certificates install the package `ca-certificates`, or name a file with `ca_file`"
    )]
    Build(#[source] rustls::Error),
}

/// Files whose content is in use.
pub struct Files(Vec<(PathBuf, Option<Stamp>)>);

/// A file that is replaced or rewritten has another one.
type Stamp = (u64, u64, i64, i64);

impl Files {
    /// Those that a configuration of TLS names.
    pub fn of(tls: &TlsConfig) -> Files {
        let pair = tls
            .client_certificate
            .iter()
            .flat_map(|(chain, key)| [chain, key]);
        Files::new(tls.ca_file.iter().chain(pair))
    }

    pub fn new<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> Files {
        let paths = paths.into_iter();
        Files(paths.map(|path| (path.clone(), stamp(path))).collect())
    }

    /// Whether one has another content than when this was last noted.
    pub fn changed(&self) -> bool {
        self.0.iter().any(|(path, was)| stamp(path) != *was)
    }

    /// To be called before they are read: a change in between is seen as one later.
    pub fn note(&mut self) {
        for (path, was) in &mut self.0 {
            *was = stamp(path);
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// How TLS is spoken with one server.
pub struct Tls {
    config: TlsConfig,
    files: Files,
    built: Option<Arc<ClientConfig>>,
}

impl Tls {
    /// Reads nothing yet.
    pub fn new(config: &TlsConfig) -> Tls {
        Tls {
            config: config.clone(),
            files: Files::of(config),
            built: None,
        }
    }

    pub fn changed(&self) -> bool {
        self.files.changed()
    }

    /// Made at the first call, and anew after a change of a file. If the new ones are not usable, half written for instance,
    /// the old ones go on.
    pub fn config(&mut self) -> Result<Arc<ClientConfig>, TlsError> {
        if let (Some(built), false) = (&self.built, self.changed()) {
            return Ok(built.clone());
        }
        self.files.note();
        match (build(&self.config), &self.built) {
            (Ok(config), _) => Ok(self.built.insert(Arc::new(config)).clone()),
            (Err(error), None) => Err(error),
            (Err(error), Some(old)) => {
                let error = &error as &dyn Error;
                tracing::warn!(error, "changed TLS files cannot be used; the old ones are");
                Ok(old.clone())
            }
        }
    }
}

fn build(tls: &TlsConfig) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let own = match &tls.ca_file {
        Some(path) => certificates(path)?,
        None => Vec::new(),
    };
    let verifier = Verifier::new_with_extra_roots(own, provider.clone()).map_err(TlsError::Build)?;
    let versions: &[_] = match tls.version_min {
        TlsVersion::V1_2 => rustls::ALL_VERSIONS,
        TlsVersion::V1_3 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Build)?
        // It verifies as strictly as the default, against the system's certificates and the own ones.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((chain, key)) = &tls.client_certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let pair = |source| TlsError::Pair {
        chain: chain.clone(),
        key: key.clone(),
        source,
    };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| TlsError::NoPem {
        path: key.clone(),
        what: "private key",
    })?;
    builder
        .with_client_auth_cert(certificates(chain)?, private)
        .map_err(pair)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(TlsError::NoPem {
            path: path.into(),
            what: "certificate",
        }),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File {
        path: path.into(),
        source,
    })
}

/// What is wrong with TLS where an error says so, in words that name the configuration's `key` for the address.
pub fn message(error: &(dyn Error + 'static), key: &str) -> Option<String> {
    let error = crate::http::find::<rustls::Error>(error)?;
    Some(match tls_problem(error) {
        TlsProblem::NoTls => {
            format!("what answers there speaks no TLS; correct the port in `{key}`, or do without TLS")
        }
        other => format!(
            "{} ({error})",
            other.to_string().replace("`url`", &format!("`{key}`"))
        ),
    })
}
