//! The connections' settings, made from the configuration and the files that it names, and made again when one of these changes.

use std::fs;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD as BASE64, Engine};
use reqwest::header::HeaderValue;
use reqwest::tls::Version;
use reqwest::{Certificate, Identity, Proxy, redirect::Policy};

use super::HttpError;
use super::client::sensitive;
use super::proxy::Proxies;
use crate::config::{HttpConfig, TlsVersion};
use crate::credential::Credential;
use crate::secret::Secret;
use crate::tls::Files;

pub struct Built {
    /// `None` until a first one could be made.
    client: Option<reqwest::Client>,
    pub proxy_password: Option<Credential>,
    pub proxies: Proxies,
    files: Files,
}

impl Built {
    /// Reads nothing yet.
    pub fn new(config: &HttpConfig) -> Built {
        let proxy = config.proxy.as_ref().and_then(|proxy| proxy.auth.as_ref());
        Built {
            client: None,
            proxy_password: proxy.map(|(_, password)| Credential::new(password.clone())),
            proxies: Proxies::of(config),
            files: Files::of(&config.tls),
        }
    }

    /// Whether a file has another content than the one that was read.
    pub fn files_changed(&self) -> bool {
        self.files.changed()
    }

    /// The client; made at the first call, and anew after a change of what it is made from. If the new is not usable, half
    /// written for instance, the old goes on.
    pub fn client(&mut self, config: &HttpConfig) -> Result<reqwest::Client, HttpError> {
        let changed = self.files_changed() || self.proxy_password.as_ref().is_some_and(Credential::changed);
        if let (Some(client), false) = (&self.client, changed) {
            return Ok(client.clone());
        }
        self.files.note();
        let proxies = self.proxies.clone();
        match (
            client(config, proxies, self.proxy_password.as_mut()),
            &self.client,
        ) {
            (Ok(client), _) => Ok(self.client.insert(client).clone()),
            (Err(error), None) => Err(error),
            (Err(error), Some(old)) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(url = %config.base, error, "changed TLS files cannot be used; the old ones are");
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
    // The one provider in the binary. An error says that it is installed already.
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
    let own = config.tls.ca_file.as_deref().map_or(Ok(Vec::new()), ca)?;
    let proxy_url = proxies.choose(&config.base);
    builder = if [Some(&config.base), proxy_url]
        .iter()
        .flatten()
        .any(|url| url.scheme() == "https")
    {
        builder.tls_certs_merge(own)
    } else {
        // No TLS, so no need for the system to have CA certificates.
        builder.tls_certs_only(own)
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
    // With one, whatever it chooses, the library looks for no others.
    builder = builder.proxy(proxy);
    builder
        .build()
        .map_err(|error| HttpError::Build(error.without_url()))
}

fn ca(path: &Path) -> Result<Vec<Certificate>, HttpError> {
    let found = Certificate::from_pem_bundle(&read(path)?);
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(HttpError::NoPem {
            path: path.into(),
            what: "certificate",
        }),
    }
}

fn identity(chain: &Path, key: &Path) -> Result<Identity, HttpError> {
    let mut pem = read(key)?;
    pem.push(b'\n');
    pem.extend(read(chain)?);
    Identity::from_pem(&pem).map_err(|_| HttpError::NoPem {
        path: chain.into(),
        what: "certificate with its private key",
    })
}

fn read(path: &Path) -> Result<Vec<u8>, HttpError> {
    fs::read(path).map_err(|source| HttpError::File {
        path: path.into(),
        source,
    })
}

/// The value of an `Authorization` or `Proxy-Authorization` header.
pub fn basic(user: &str, password: &Secret) -> Result<HeaderValue, HttpError> {
    let text = format!("Basic {}", BASE64.encode(format!("{user}:{}", password.expose())));
    sensitive(&text, "user and password".into())
}
