//! Builds the HTTP client from the configuration and the files that it names. Rebuilds it when a file
//! changes.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use reqwest::header::HeaderValue;
use reqwest::tls::Version;
use reqwest::{Certificate, Identity, Proxy, redirect::Policy};

use super::HttpError;
use super::proxy::Proxies;
use crate::config::{HttpConfig, TlsVersion};
use crate::credential::Credential;
use crate::secret::Secret;
use crate::tls::WatchedFiles;

pub(super) struct ReloadingClient {
    /// `None` until it could be built once.
    client: Option<reqwest::Client>,
    pub proxy_password: Option<Credential>,
    pub proxies: Proxies,
    files: WatchedFiles,
}

impl ReloadingClient {
    /// Reads no file yet.
    pub(super) fn new(config: &HttpConfig) -> ReloadingClient {
        let proxy = config.proxy.as_ref().and_then(|proxy| proxy.auth.as_ref());
        ReloadingClient {
            client: None,
            proxy_password: proxy.map(|(_, password)| Credential::new(password.clone())),
            proxies: Proxies::of(config),
            files: WatchedFiles::of(&config.tls),
        }
    }

    /// Whether the content of a file has changed since it was read.
    pub(super) fn files_changed(&self) -> bool {
        self.files.changed()
    }

    /// The client, built at the first call and rebuilt after a change of its files. If the changed files are
    /// not usable, for example half written, the previous client stays in use.
    pub(super) fn get(&mut self, config: &HttpConfig) -> Result<reqwest::Client, HttpError> {
        let changed = self.files_changed() || self.proxy_password.as_ref().is_some_and(Credential::changed);
        if let (Some(client), false) = (&self.client, changed) {
            return Ok(client.clone());
        }
        self.files.mark_read();
        let proxies = self.proxies.clone();
        match (client(config, proxies, self.proxy_password.as_mut()), &self.client) {
            (Ok(client), _) => Ok(self.client.insert(client).clone()),
            (Err(error), None) => Err(error),
            (Err(error), Some(old)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(url = %config.base, error, "changed TLS files cannot be used; the previous ones stay in use");
                Ok(old.clone())
            }
        }
    }
}

fn client(
    config: &HttpConfig,
    proxies: Proxies,
    proxy_password: Option<&mut Credential>,
) -> Result<reqwest::Client, HttpError> {
    // The only provider in the binary. The error means that it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .user_agent(&config.user_agent)
        .connect_timeout(config.timeouts.connect)
        .tls_version_min(match config.tls.version_min {
            TlsVersion::V1_2 => Version::TLS_1_2,
            TlsVersion::V1_3 => Version::TLS_1_3,
        });
    let extra_roots = config.tls.ca_file.as_deref().map_or(Ok(Vec::new()), ca)?;
    let proxy_url = proxies.choose(&config.base);
    builder = if [Some(&config.base), proxy_url].iter().flatten().any(|url| url.scheme() == "https") {
        builder.tls_certs_merge(extra_roots)
    } else {
        // Without TLS the system needs no CA certificates.
        builder.tls_certs_only(extra_roots)
    };
    if let Some((chain, key)) = &config.tls.client_certificate {
        builder = builder.identity(identity(chain, key)?);
    }
    let proxy_auth = config.proxy.as_ref().and_then(|proxy| proxy.auth.as_ref());
    let mut proxy = Proxy::custom(move |url| proxies.choose(url).cloned());
    if let (Some((user, _)), Some(password)) = (proxy_auth, proxy_password) {
        let password = password.read().map_err(HttpError::Credential)?;
        proxy = proxy.custom_http_auth(basic(user, &password)?);
    }
    // With a custom proxy the library ignores the environment.
    builder = builder.proxy(proxy);
    builder.build().map_err(|error| HttpError::Build(error.without_url()))
}

fn ca(path: &Path) -> Result<Vec<Certificate>, HttpError> {
    let certificates = Certificate::from_pem_bundle(&read(path)?);
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(HttpError::NoPem { path: path.into(), what: "certificate" }),
    }
}

fn identity(chain: &Path, key: &Path) -> Result<Identity, HttpError> {
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend(read(chain)?);
    Identity::from_pem(&pem)
        .map_err(|_| HttpError::NoPem { path: chain.into(), what: "certificate with its private key" })
}

fn read(path: &Path) -> Result<Vec<u8>, HttpError> {
    fs::read(path).map_err(|source| HttpError::File { path: path.into(), source })
}

/// The value of an `Authorization` or `Proxy-Authorization` header. Errors do not contain the password.
pub(super) fn basic(user: &str, password: &Secret) -> Result<HeaderValue, HttpError> {
    let text = format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose())));
    sensitive(&text, "user and password".into())
}

/// A header value that debug output does not show.
pub(super) fn sensitive(text: &str, what: String) -> Result<HeaderValue, HttpError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| HttpError::NoHeader { what })?;
    value.set_sensitive(true);
    Ok(value)
}
