//! Managed identity of an Azure machine. A virtual machine gets tokens from its metadata service, an Azure
//! Arc host from the local Arc agent. The Arc agent requires the content of a challenge file that only
//! privileged users can read.

use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use rustix::fs::{Mode, OFlags};
use url::Url;

use crate::config::{Auth, HttpConfig, ProxyConfig, Timeouts};
use crate::http::{HeaderMap, Response};
use crate::secret::Secret;
use crate::sink::http::SharedClient;
use crate::sink::outcome::{Outcome, RequestOutcome, of_status, server_message, server_message_without_hint};

const METADATA_HOST: &str = "http://169.254.169.254";
const METADATA_VERSION: &str = "2018-02-01";
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
const ARC_VERSION: &str = "2020-06-01";
/// Exists if the Azure Arc agent is installed.
const ARC_PROGRAM: &str = "/opt/azcmagent/bin/himds";
/// The directory of the Arc agent's challenge files.
const ARC_CHALLENGES: &str = "/var/opt/azcmagent/tokens";
const CHALLENGE_BYTES_MAX: u64 = 4096;

/// Timeouts. The service is on the host or next to it, so it responds soon or does not exist.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) struct ManagedIdentity {
    client: SharedClient,
    url: Url,
    /// The directory of challenge files on an Arc host.
    challenges: Option<PathBuf>,
}

impl ManagedIdentity {
    /// Detects the service of this host. The environment variables are set by Arc and used by Azure's own
    /// libraries too.
    pub(super) fn detect(client: Option<&str>, scope: &str) -> Result<ManagedIdentity, String> {
        let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let arc = match (var("IDENTITY_ENDPOINT"), var("IMDS_ENDPOINT")) {
            (Some(endpoint), Some(_)) => Some(endpoint),
            _ => Path::new(ARC_PROGRAM).exists().then(|| ARC.to_owned()),
        };
        match arc {
            Some(_) if client.is_some() => {
                Err("an Azure Arc host has only its own identity; remove `client_id`".into())
            }
            Some(endpoint) => ManagedIdentity::arc(&endpoint, scope, ARC_CHALLENGES.into()),
            None => {
                let host = var("AZURE_POD_IDENTITY_AUTHORITY_HOST").unwrap_or_else(|| METADATA_HOST.into());
                let endpoint = format!("{}/metadata/identity/oauth2/token", host.trim_end_matches('/'));
                ManagedIdentity::new(&endpoint, METADATA_VERSION, client, scope, None)
            }
        }
    }

    /// The Azure Arc agent at `endpoint`, with challenge files in the directory `challenges`.
    pub(super) fn arc(endpoint: &str, scope: &str, challenges: PathBuf) -> Result<ManagedIdentity, String> {
        ManagedIdentity::new(endpoint, ARC_VERSION, None, scope, Some(challenges))
    }

    fn new(
        endpoint: &str,
        version: &str,
        client: Option<&str>,
        scope: &str,
        challenges: Option<PathBuf>,
    ) -> Result<ManagedIdentity, String> {
        let mut url = Url::parse(endpoint).map_err(|error| format!("`{endpoint}` is not a URL: {error}"))?;
        let mut config = HttpConfig::new(url.clone(), Auth::None);
        config.proxy = Some(ProxyConfig::never(&url));
        config.timeouts = Timeouts { connect: CONNECT_TIMEOUT, ..Timeouts::within(TOTAL_TIMEOUT) };
        // This API takes an audience instead of a scope.
        let audience = scope.strip_suffix("/.default").unwrap_or(scope);
        url.query_pairs_mut().append_pair("api-version", version).append_pair("resource", audience);
        if let Some(client) = client {
            url.query_pairs_mut().append_pair("client_id", client);
        }
        Ok(ManagedIdentity { client: SharedClient::new(&config), url, challenges })
    }

    /// Requests a token. Returns the response that contains it.
    pub(super) async fn request_token(&self) -> Result<Response, Outcome> {
        let first = self.get(None).await?;
        let response = match (&self.challenges, first.status) {
            (Some(dir), 401) => {
                let challenge = challenge(&first, dir).map_err(|reason| Outcome::Misconfigured { reason })?;
                self.get(Some(challenge)).await?
            }
            _ => first,
        };
        match response.status {
            200 => Ok(response),
            // The service is being updated.
            404 | 410 => Err(Outcome::retry(server_message(&response))),
            400 | 401 | 403 => Err(Outcome::Misconfigured {
                reason: format!(
                    "this machine has no managed identity, or not the one of `client_id`; enable it in Azure ({})",
                    server_message_without_hint(&response)
                ),
            }),
            _ => match of_status(&response, crate::clock::now_ms()) {
                RequestOutcome::All(outcome @ Outcome::Retry { .. }) => Err(outcome),
                _ => Err(Outcome::Misconfigured { reason: server_message(&response) }),
            },
        }
    }

    async fn get(&self, challenge: Option<HeaderValue>) -> Result<Response, Outcome> {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("metadata"), HeaderValue::from_static("true"));
        if let Some(challenge) = challenge {
            headers.insert(AUTHORIZATION, challenge);
        }
        let response = self.client.send(Method::GET, &self.url, headers, Vec::new()).await;
        response.map_err(|error| match Outcome::of_error(&error) {
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

/// The content of the challenge file as a header. A file outside of the directory is not read: otherwise any
/// program at that port could read any file.
fn challenge(response: &Response, dir: &Path) -> Result<HeaderValue, String> {
    let file = response.header("www-authenticate").and_then(|text| text.strip_prefix("Basic realm="));
    let path = Path::new(file.ok_or("the Azure Arc agent named no challenge file")?.trim_matches('"'));
    let is_plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !is_plain || path.parent() != Some(dir) || path.extension().is_none_or(|end| end != "key") {
        return Err(format!(
            "the challenge file that was named is not one of the Azure Arc agent, which are `{}/….key`; see which program listens at its port",
            dir.display()
        ));
    }
    let text = read(path).map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::PermissionDenied => {
                "; add the agent's user to the group `himds`, and restart the agent"
            }
            _ => "",
        };
        format!("cannot read the Azure Arc agent's challenge file `{}`: {error}{remedy}", path.display())
    })?;
    let value = HeaderValue::from_str(&format!("Basic {}", text.expose()));
    let mut value =
        value.map_err(|_| "the Azure Arc agent's challenge file is not valid text for a header")?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(path: &Path) -> std::io::Result<Secret> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > CHALLENGE_BYTES_MAX {
        return Err(std::io::Error::other("it is not a small regular file"));
    }
    let mut text = String::new();
    file.take(CHALLENGE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(Secret::new(text.trim_end()))
}
