//! Entra ID: asks it for a token, for an application that proves who it is.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::assertion::assertion;
use crate::clock;
use crate::config::{Auth, Reference, SentinelConfig};
use crate::credential::Credential;
use crate::http::{Answer, HeaderMap};
use crate::secret::Secret;
use crate::sink::answer::{self, Outcome, excerpt, of_status};
use crate::sink::http::Link;
use crate::telemetry::chain;
use crate::tls::Files;

/// Of a key in PEM form, or a chain of certificates.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Entra ID.
pub struct Login {
    link: Link,
    url: Url,
    client: String,
    scope: String,
    pub proof: Proof,
}

/// By what an application proves who it is.
pub enum Proof {
    Secret {
        secret: RefCell<Credential>,
        /// The last one was: the file is read again even if it looks the same.
        refused: Cell<bool>,
    },
    Certificate {
        certificate: PathBuf,
        key: PathBuf,
        seen: RefCell<Files>,
    },
}

impl Proof {
    pub fn secret(reference: &Reference) -> Proof {
        Proof::Secret {
            secret: RefCell::new(Credential::new(reference.clone())),
            refused: Cell::new(false),
        }
    }

    pub fn certificate(certificate: &Path, key: &Path) -> Proof {
        let (certificate, key) = (certificate.to_path_buf(), key.to_path_buf());
        Proof::Certificate {
            seen: RefCell::new(Files::new([&certificate, &key])),
            certificate,
            key,
        }
    }

    /// The secret that was used last.
    pub fn held(&self) -> Option<Secret> {
        match self {
            Proof::Secret { secret, .. } => secret.borrow().held().cloned(),
            Proof::Certificate { .. } => None,
        }
    }

    /// Whether it is another than when a token was last asked for.
    pub fn changed(&self) -> bool {
        match self {
            Proof::Secret { secret, .. } => secret.borrow().changed(),
            Proof::Certificate { seen, .. } => seen.borrow().changed(),
        }
    }
}

impl Login {
    pub fn new(config: &SentinelConfig, tenant: &str, client: &str, proof: Proof) -> Login {
        let mut http = config.http.clone();
        http.base = config.login.clone();
        (http.auth, http.headers) = (Auth::None, Vec::new());
        let mut url = config.login.clone();
        url.set_path(&format!("/{tenant}/oauth2/v2.0/token"));
        Login {
            link: Link::new(&http),
            url,
            client: client.into(),
            scope: config.scope.clone(),
            proof,
        }
    }

    /// The answer that holds a token.
    pub async fn ask(&self) -> Result<Answer, Outcome> {
        let misconfigured = |reason: String| Outcome::Misconfigured { reason };
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client)
            .append_pair("scope", &self.scope);
        let proof = match &self.proof {
            Proof::Secret { secret, refused } => {
                let mut secret = secret.borrow_mut();
                let secret = match refused.get() {
                    true => secret.reread(),
                    false => secret.read(),
                };
                let secret = secret.map_err(|error| misconfigured(chain(&error)))?;
                form.append_pair("client_secret", secret.expose());
                secret
            }
            Proof::Certificate {
                certificate,
                key,
                seen,
            } => {
                seen.borrow_mut().note();
                let (certificate, key) = (
                    read(certificate).map_err(misconfigured)?,
                    read(key).map_err(misconfigured)?,
                );
                let now_s = clock::now_ms() / 1000;
                let signed = assertion(&certificate, &key, &self.client, self.url.as_str(), now_s)
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
        self.link.conceal(vec![proof]);
        let answer = self.link.send(Method::POST, &self.url, headers, body).await;
        let answer = answer.map_err(|error| Outcome::of_error(&error))?;
        if let Proof::Secret { refused, .. } = &self.proof {
            refused.set(answer.status == 401);
        }
        match answer.status {
            200 => Ok(answer),
            _ => Err(refusal(&answer, clock::now_ms())),
        }
    }
}

/// Why Entra ID gives no token. Its text ends with numbers that differ each time: they are left out.
pub fn refusal(answer: &Answer, now_ms: i64) -> Outcome {
    if let answer::Answer::All(outcome @ Outcome::Retry { .. }) = of_status(answer, now_ms) {
        return outcome;
    }
    let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let text = said["error_description"].as_str().unwrap_or_default();
    let text = excerpt(&answer.concealed(text.split("Trace ID:").next().unwrap_or_default()));
    if said["error"] == "temporarily_unavailable" {
        return Outcome::retry(text);
    }
    let code = text.split(':').next().unwrap_or_default();
    let remedy = match code {
        "AADSTS7000215" => "the secret is wrong; write its value, and not its id, into `client_secret`",
        "AADSTS7000222" => "the secret has expired; make a new one for the application",
        "AADSTS7000112" => "the application is disabled; enable it in Entra ID",
        "AADSTS700016" => "the tenant has no such application; correct `client_id`, or `tenant_id`",
        "AADSTS90002" | "AADSTS900023" | "AADSTS900021" => "there is no such tenant; correct `tenant_id`",
        "AADSTS700027" => {
            "the certificate is not that of the application, or has expired; upload `client_certificate` there"
        }
        "AADSTS700024" => "the signature is not of this time; set this host's clock by NTP",
        "AADSTS500011" | "AADSTS70011" | "AADSTS1002012" => "this cloud does not know `scope`; correct it",
        _ => "see `tenant_id`, `client_id` and the secret or certificate",
    };
    let server_message = match text.is_empty() {
        true => answer::words(answer),
        false => text,
    };
    Outcome::Misconfigured {
        reason: format!("Entra ID gives no token: {remedy} ({server_message})"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => crate::access::denied_message(path),
            _ => format!("cannot read `{}`: {error}; correct its path", path.display()),
        });
    read.map(|_| bytes)
}
