//! The identity that Azure gives to a machine: of a virtual machine by its metadata service, of an Azure Arc host by the agent
//! there, which has the asker prove by a file that it may know.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use rustix::fs::{Mode, OFlags};
use url::Url;

use crate::config::{Auth, HttpConfig, ProxyConfig, Timeouts};
use crate::http::{Answer, HeaderMap};
use crate::secret::Secret;
use crate::sink::answer::{Outcome, of_status, server_message, words};
use crate::sink::http::Link;

const METADATA_HOST: &str = "http://169.254.169.254";
const METADATA_VERSION: &str = "2018-02-01";
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
const ARC_VERSION: &str = "2020-06-01";
/// Is there where Azure Arc's agent is installed.
const ARC_PROGRAM: &str = "/opt/azcmagent/bin/himds";
/// Where it puts the files that prove.
const ARC_PROOFS: &str = "/var/opt/azcmagent/tokens";
const PROOF_BYTES_MAX: u64 = 4096;

/// On the host or next to it: what does not answer soon is not there.
const CONNECT: Duration = Duration::from_secs(3);
const WHOLE: Duration = Duration::from_secs(20);

pub struct Managed {
    link: Link,
    url: Url,
    /// Of an Arc host: where its proofs lie.
    proofs: Option<PathBuf>,
}

impl Managed {
    /// Of this host. The variables are those that Arc sets and Azure's own libraries know.
    pub fn here(client: Option<&str>, scope: &str) -> Result<Managed, String> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let arc = match (var("IDENTITY_ENDPOINT"), var("IMDS_ENDPOINT")) {
            (Some(endpoint), Some(_)) => Some(endpoint),
            _ => Path::new(ARC_PROGRAM).exists().then(|| ARC.to_owned()),
        };
        match arc {
            Some(_) if client.is_some() => {
                Err("an Azure Arc host has one identity, its own; remove `client_id`".into())
            }
            Some(endpoint) => Managed::arc(&endpoint, scope, ARC_PROOFS.into()),
            None => {
                let host = var("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| METADATA_HOST.into());
                let endpoint = format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/'));
                Managed::new(&endpoint, METADATA_VERSION, client, scope, None)
            }
        }
    }

    /// Of the Azure Arc agent at `endpoint`, whose proofs lie in a directory.
    pub fn arc(endpoint: &str, scope: &str, proofs: PathBuf) -> Result<Managed, String> {
        Managed::new(endpoint, ARC_VERSION, None, scope, Some(proofs))
    }

    fn new(
        endpoint: &str,
        version: &str,
        client: Option<&str>,
        scope: &str,
        proofs: Option<PathBuf>,
    ) -> Result<Managed, String> {
        let mut url = Url::parse(endpoint).map_err(|error| format!("`{endpoint}` is no URL: {error}"))?;
        let mut config = HttpConfig::new(url.clone(), Auth::None);
        config.proxy = Some(ProxyConfig::never(&url));
        config.timeouts = Timeouts {
            connect: CONNECT,
            ..Timeouts::within(WHOLE)
        };
        // Here an audience is wanted, not a scope.
        let audience = scope.strip_suffix("/.default").unwrap_or(scope);
        url.query_pairs_mut()
            .append_pair("api-version", version)
            .append_pair("resource", audience);
        if let Some(client) = client {
            url.query_pairs_mut().append_pair("client_id", client);
        }
        Ok(Managed {
            link: Link::new(&config),
            url,
            proofs,
        })
    }

    /// The answer that holds a token.
    pub async fn ask(&self) -> Result<Answer, Outcome> {
        let first = self.get(None).await?;
        let answer = match (&self.proofs, first.status) {
            (Some(dir), 401) => {
                let proof = proof(&first, dir).map_err(|reason| Outcome::Misconfigured { reason })?;
                self.get(Some(proof)).await?
            }
            _ => first,
        };
        match answer.status {
            200 => Ok(answer),
            // While the service is renewed.
            404 | 410 => Err(Outcome::retry(server_message(&answer))),
            400 | 401 | 403 => Err(Outcome::Misconfigured {
                reason: format!(
                    "this machine has no managed identity, or not the one of `client_id`; turn it on in Azure ({})",
                    words(&answer)
                ),
            }),
            _ => match of_status(&answer, crate::clock::now_ms()) {
                crate::sink::answer::Answer::All(outcome @ Outcome::Retry { .. }) => Err(outcome),
                _ => Err(Outcome::Misconfigured {
                    reason: server_message(&answer),
                }),
            },
        }
    }

    async fn get(&self, proof: Option<HeaderValue>) -> Result<Answer, Outcome> {
        let mut headers = HeaderMap::new();
        headers.insert(
            HeaderName::from_static("metadata"),
            HeaderValue::from_static("true"),
        );
        if let Some(proof) = proof {
            headers.insert(AUTHORIZATION, proof);
        }
        let answer = self.link.send(Method::GET, &self.url, headers, Vec::new()).await;
        answer.map_err(|error| match Outcome::of_error(&error) {
            Outcome::Retry { reason, after } => Outcome::Retry {
                reason: format!(
                    "no managed identity: {reason}; if this host is neither a virtual machine in Azure nor connected by Azure Arc, write `client_id` and `client_secret`"
                ),
                after,
            },
            other => other,
        })
    }
}

/// The content of the file that the answer names, as a header. A file elsewhere is not read: whoever can answer at that port would
/// get the content of any file.
fn proof(answer: &Answer, dir: &Path) -> Result<HeaderValue, String> {
    let realm = answer
        .header("www-authenticate")
        .and_then(|text| text.strip_prefix("Basic realm="));
    let path = Path::new(
        realm
            .ok_or("the Azure Arc agent names no file as proof")?
            .trim_matches('"'),
    );
    let is_plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !is_plain || path.parent() != Some(dir) || path.extension().is_none_or(|end| end != "key") {
        return Err(format!(
            "the file that the Azure Arc agent names as proof is none of its own, which are `{}/….key`; see what listens at its port",
            dir.display()
        ));
    }
    let text = read(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; put the agent's user into the group `himds`, and start it again"
            }
            _ => "",
        };
        format!(
            "cannot read the Azure Arc agent's proof `{}`: {error}{remedy}",
            path.display()
        )
    })?;
    let value = HeaderValue::from_str(&format!("Basic {}", text.expose()));
    let mut value = value.map_err(|_| "the Azure Arc agent's proof is no text for a header")?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(path: &Path) -> std::io::Result<Secret> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let found = file.metadata()?;
    if !found.is_file() || found.len() > PROOF_BYTES_MAX {
        return Err(std::io::Error::other("it is no small regular file"));
    }
    let mut text = String::new();
    file.take(PROOF_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Secret::new(text.trim_end()))
}
