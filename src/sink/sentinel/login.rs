//! Requests tokens from Entra ID for an application.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::assertion::client_assertion;
use crate::clock;
use crate::config::{Auth, Reference, SentinelConfig};
use crate::credential::Credential;
use crate::http::{HeaderMap, Response};
use crate::secret::Secret;
use crate::sink::http::SharedClient;
use crate::sink::outcome::{self, Outcome, RequestOutcome, excerpt, of_status};
use crate::telemetry::chain;
use crate::tls::WatchedFiles;

/// Maximum size of a key in PEM form, or of a chain of certificates.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The token endpoint of Entra ID.
pub(super) struct Login {
    client: SharedClient,
    url: Url,
    client_id: String,
    scope: String,
    pub credential: ClientCredential,
}

/// How an application authenticates.
pub(super) enum ClientCredential {
    Secret {
        secret: RefCell<Credential>,
        /// The last secret was refused: the file is read again even if it looks unchanged.
        refused: Cell<bool>,
    },
    Certificate {
        certificate: PathBuf,
        key: PathBuf,
        files: RefCell<WatchedFiles>,
    },
}

impl ClientCredential {
    pub(super) fn secret(reference: &Reference) -> ClientCredential {
        ClientCredential::Secret {
            secret: RefCell::new(Credential::new(reference.clone())),
            refused: Cell::new(false),
        }
    }

    pub(super) fn certificate(certificate: &Path, key: &Path) -> ClientCredential {
        let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
        ClientCredential::Certificate {
            files: RefCell::new(WatchedFiles::new([&certificate, &key])),
            certificate,
            key,
        }
    }

    /// The secret that was used last.
    pub(super) fn last_secret(&self) -> Option<Secret> {
        match self {
            ClientCredential::Secret { secret, .. } => secret.borrow().held().cloned(),
            ClientCredential::Certificate { .. } => None,
        }
    }

    /// Whether the credential has changed since the last token request.
    pub(super) fn changed(&self) -> bool {
        match self {
            ClientCredential::Secret { secret, .. } => secret.borrow().changed(),
            ClientCredential::Certificate { files, .. } => files.borrow().changed(),
        }
    }
}

impl Login {
    pub(super) fn new(
        config: &SentinelConfig,
        tenant: &str,
        client: &str,
        credential: ClientCredential,
    ) -> Login {
        let mut http = config.http.clone();
        http.base = config.login.clone();
        (http.auth, http.headers) = (Auth::None, Vec::new());
        let mut url = config.login.clone();
        url.set_path(&format!("/{tenant}/oauth2/v2.0/token"));
        Login {
            client: SharedClient::new(&http),
            url,
            client_id: client.into(),
            scope: config.scope.clone(),
            credential,
        }
    }

    /// Requests a token. Returns the response that contains it.
    pub(super) async fn request_token(&self) -> Result<Response, Outcome> {
        let misconfigured = |reason: String| Outcome::Misconfigured { reason };
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("scope", &self.scope);
        let credential = match &self.credential {
            ClientCredential::Secret { secret, refused } => {
                let mut secret = secret.borrow_mut();
                let secret = match refused.get() {
                    true => secret.reread(),
                    false => secret.read(),
                };
                let secret = secret.map_err(|error| misconfigured(chain(&error)))?;
                form.append_pair("client_secret", secret.expose());
                secret
            }
            ClientCredential::Certificate { certificate, key, files } => {
                files.borrow_mut().mark_read();
                let (certificate, key) =
                    (read(certificate).map_err(misconfigured)?, read(key).map_err(misconfigured)?);
                let now_s = clock::now_ms() / 1000;
                let signed = client_assertion(&certificate, &key, &self.client_id, self.url.as_str(), now_s)
                    .map_err(|reason| misconfigured(reason.into()))?;
                form.append_pair(
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                )
                .append_pair("client_assertion", signed.expose());
                signed
            }
        };
        let mut headers = HeaderMap::new();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        let body = form.finish().into_bytes();
        self.client.redact(vec![credential]);
        let response = self.client.send(Method::POST, &self.url, headers, body).await;
        let response = response.map_err(|error| Outcome::of_error(&error))?;
        if let ClientCredential::Secret { refused, .. } = &self.credential {
            refused.set(response.status == 401);
        }
        match response.status {
            200 => Ok(response),
            _ => Err(refused(&response, clock::now_ms())),
        }
    }
}

/// The outcome of a refused token request. The ids at the end of Entra's text differ each time and are cut
/// off.
pub(super) fn refused(response: &Response, now_ms: i64) -> Outcome {
    if let RequestOutcome::All(outcome @ Outcome::Retry { .. }) = of_status(response, now_ms) {
        return outcome;
    }
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = body["error_description"].as_str().unwrap_or_default();
    let text = excerpt(&response.redacted(text.split("Trace ID:").next().unwrap_or_default()));
    if body["error"] == "temporarily_unavailable" {
        return Outcome::retry(text);
    }
    let code = text.split(':').next().unwrap_or_default();
    let remedy = match code {
        "AADSTS7000215" => "the secret is wrong; set `client_secret` to its value, not to its id",
        "AADSTS7000222" => "the secret has expired; create a new one for the application",
        "AADSTS7000112" => "the application is disabled; enable it in Entra ID",
        "AADSTS700016" => "the tenant has no such application; correct `client_id`, or `tenant_id`",
        "AADSTS90002" | "AADSTS900023" | "AADSTS900021" => "there is no such tenant; correct `tenant_id`",
        "AADSTS700027" => {
            "the certificate is not one of the application, or has expired; upload `client_certificate` there"
        }
        "AADSTS700024" => "the signature is not valid at this time; synchronize this host's clock",
        "AADSTS500011" | "AADSTS70011" | "AADSTS1002012" => "this cloud does not know `scope`; correct it",
        _ => "see `tenant_id`, `client_id` and the secret or certificate",
    };
    let server_message = match text.is_empty() {
        true => outcome::server_message_without_hint(response),
        false => text,
    };
    Outcome::Misconfigured { reason: format!("Entra ID issued no token: {remedy} ({server_message})") }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)).map_err(
        |error| match error.kind() {
            io::ErrorKind::PermissionDenied => crate::access::denied_message(path),
            _ => format!("cannot read `{}`: {error}; correct its path", path.display()),
        },
    );
    read.map(|_| bytes)
}
