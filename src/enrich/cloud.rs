//! Which instance of which cloud the host is, as ECS describes it: asked of the cloud's metadata service, once, at the start.
//!
//! A host whose firmware names no cloud asks nobody and waits for nothing. The service is at a link-local address, which no
//! router forwards; it is asked directly, never through a proxy, and sent nowhere else.

mod answer;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, StatusCode};
use url::Url;

/// The address of all three services.
const SERVICE: &str = "http://169.254.169.254/";

/// For all questions together. A service answers in milliseconds; what does not answer is blocked on the way.
const LIMIT: Duration = Duration::from_secs(3);

/// Azure's answer has the instance's tags and keys in it: some kB.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Chassis asset tag of all virtual machines of Azure; Hyper-V elsewhere has other ones.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

const EC2_TOKEN: &str = "x-aws-ec2-metadata-token";
const EC2_TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const GCE_FLAVOR: &str = "metadata-flavor";

/// ECS `cloud.*`. What the service does not tell is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cloud {
    /// `aws`, `azure` or `gcp`.
    pub provider: &'static str,
    /// The account, subscription or project.
    pub account_id: Option<String>,
    pub availability_zone: Option<String>,
    pub image_id: Option<String>,
    pub instance_id: Option<String>,
    pub machine_type: Option<String>,
    pub region: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    Ec2,
    Azure,
    Gce,
}

impl Provider {
    pub fn name(self) -> &'static str {
        match self {
            Provider::Ec2 => "Amazon EC2",
            Provider::Azure => "Microsoft Azure",
            Provider::Gce => "Google Compute Engine",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    #[error("the metadata service did not answer within {LIMIT:?}")]
    Late,
    #[error("the metadata service cannot be asked")]
    Http(#[source] reqwest::Error),
    #[error("the metadata service answered `{path}` with {status}")]
    Status { path: &'static str, status: StatusCode },
    #[error("the answer to `{path}` has more than {BODY_BYTES_MAX} bytes")]
    TooLarge { path: &'static str },
    #[error("the answer to `{path}` is not from {}'s metadata service", provider.name())]
    NotOurs { path: &'static str, provider: Provider },
    #[error("no thread to ask the metadata service")]
    Thread,
}

/// The cloud that this host's firmware names, and where its metadata service is.
pub fn recognise() -> Option<(Provider, Url)> {
    if let Some(simulated) = simulated() {
        return Some(simulated);
    }
    Some((recognise_in(Path::new("/"))?, Url::parse(SERVICE).ok()?))
}

/// Debug builds ask elsewhere when `CONFLUENCE_AUDIT_AGENT_METADATA="ec2=http://127.0.0.1:…/"` says so.
#[cfg(debug_assertions)]
fn simulated() -> Option<(Provider, Url)> {
    let text = std::env::var("CONFLUENCE_AUDIT_AGENT_METADATA").ok()?;
    let (provider, url) = text.split_once('=')?;
    let provider = match provider {
        "ec2" => Provider::Ec2,
        "azure" => Provider::Azure,
        "gce" => Provider::Gce,
        _ => return None,
    };
    Some((provider, Url::parse(url).ok()?))
}

#[cfg(not(debug_assertions))]
fn simulated() -> Option<(Provider, Url)> {
    None
}

fn recognise_in(root: &Path) -> Option<Provider> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let dmi = |name: &str| read(&format!("sys/class/dmi/id/{name}")).trim().to_owned();
    // The older instances are Xen's, which has no vendor of its own.
    let xen = dmi("bios_version").ends_with(".amazon") || read("sys/hypervisor/uuid").starts_with("ec2");
    if dmi("sys_vendor") == "Amazon EC2" || xen {
        Some(Provider::Ec2)
    } else if dmi("chassis_asset_tag") == AZURE_ASSET_TAG {
        Some(Provider::Azure)
    } else if dmi("product_name") == "Google Compute Engine" {
        Some(Provider::Gce)
    } else {
        None
    }
}

/// Asks, if this host is in a cloud, and says in the log what came of it. Takes `LIMIT` at most.
pub fn gather() -> Option<Cloud> {
    let (provider, base) = recognise()?;
    match ask(provider, &base, LIMIT) {
        Ok(cloud) => {
            let (instance, name) = (cloud.instance_id.as_deref(), provider.name());
            tracing::info!(cloud = name, instance, "the host is an instance in a cloud");
            Some(cloud)
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                cloud = provider.name(),
                error,
                "events go out without `cloud`; open the way to 169.254.169.254, or set `cloud_metadata = false` in `[enrich]`"
            );
            None
        }
    }
}

/// Asks the metadata service at `base`. The host may be on a runtime; this has one of its own on a thread of its own.
pub fn ask(provider: Provider, base: &Url, limit: Duration) -> Result<Cloud, CloudError> {
    std::thread::scope(|scope| {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|_| CloudError::Thread)?;
            let questions = async { tokio::time::timeout(limit, questions(provider, base)).await };
            runtime.block_on(questions).unwrap_or(Err(CloudError::Late))
        };
        let builder = std::thread::Builder::new().name("cloud".to_owned());
        let thread = builder.spawn_scoped(scope, ask).map_err(|_| CloudError::Thread)?;
        thread.join().unwrap_or(Err(CloudError::Thread))
    })
}

/// The same within the time that a start gives it.
pub fn ask_here(provider: Provider, base: &Url) -> Result<Cloud, CloudError> {
    ask(provider, base, LIMIT)
}

async fn questions(provider: Provider, base: &Url) -> Result<Cloud, CloudError> {
    // The one provider in the binary, which building a client wants even where nothing is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .tls_certs_only([])
        .user_agent(crate::NAME)
        .build()
        .map_err(failed)?;
    let service = Service {
        client,
        base,
        provider,
    };
    match provider {
        Provider::Ec2 => service.ec2().await,
        Provider::Azure => service.azure().await,
        Provider::Gce => service.gce().await,
    }
}

struct Service<'u> {
    client: Client,
    base: &'u Url,
    provider: Provider,
}

impl Service<'_> {
    /// Version 2: with a token, which requests that were smuggled through somebody else's proxy cannot get.
    async fn ec2(&self) -> Result<Cloud, CloudError> {
        let ttl = (EC2_TOKEN_TTL, HeaderValue::from_static("60"));
        let path = "latest/api/token";
        let (_, token) = self.exchange(Method::PUT, path, ttl).await?;
        let mut token = HeaderValue::from_bytes(token.trim_ascii()).map_err(|_| self.not_ours(path))?;
        token.set_sensitive(true);
        let path = "latest/dynamic/instance-identity/document";
        let (_, body) = self.exchange(Method::GET, path, (EC2_TOKEN, token)).await?;
        answer::ec2(&body).ok_or_else(|| self.not_ours(path))
    }

    async fn azure(&self) -> Result<Cloud, CloudError> {
        let header = ("metadata", HeaderValue::from_static("true"));
        let path = "metadata/instance/compute?api-version=2021-02-01&format=json";
        let (_, body) = self.exchange(Method::GET, path, header).await?;
        answer::azure(&body).ok_or_else(|| self.not_ours(path))
    }

    /// One by one: all together would bring the keys and scripts that are kept beside them.
    async fn gce(&self) -> Result<Cloud, CloudError> {
        let mut cloud = Cloud {
            provider: "gcp",
            ..Cloud::default()
        };
        for (path, found) in [
            ("computeMetadata/v1/instance/id", &mut cloud.instance_id),
            ("computeMetadata/v1/instance/zone", &mut cloud.availability_zone),
            (
                "computeMetadata/v1/instance/machine-type",
                &mut cloud.machine_type,
            ),
            ("computeMetadata/v1/instance/image", &mut cloud.image_id),
            ("computeMetadata/v1/project/project-id", &mut cloud.account_id),
        ] {
            let header = (GCE_FLAVOR, HeaderValue::from_static("Google"));
            match self.exchange(Method::GET, path, header).await {
                Ok((headers, _)) if headers.get(GCE_FLAVOR).is_none_or(|value| value != "Google") => {
                    return Err(self.not_ours(path));
                }
                Ok((_, body)) => *found = answer::text(std::str::from_utf8(&body).ok()),
                // An instance that was made without an image has none.
                Err(CloudError::Status { status, .. }) if status == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        answer::gce(cloud).ok_or_else(|| self.not_ours("computeMetadata/v1/instance/id"))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &'static str,
        header: (&'static str, HeaderValue),
    ) -> Result<(HeaderMap, Vec<u8>), CloudError> {
        let url = self.base.join(path).map_err(|_| self.not_ours(path))?;
        let request = self.client.request(method, url).header(header.0, header.1);
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(CloudError::Status { path, status });
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(failed)? {
            if body.len() + piece.len() > BODY_BYTES_MAX {
                return Err(CloudError::TooLarge { path });
            }
            body.extend_from_slice(&piece);
        }
        Ok((std::mem::take(response.headers_mut()), body))
    }

    fn not_ours(&self, path: &'static str) -> CloudError {
        CloudError::NotOurs {
            path,
            provider: self.provider,
        }
    }
}

fn failed(error: reqwest::Error) -> CloudError {
    CloudError::Http(error.without_url())
}
