//! Describes the host's cloud instance with ECS fields. They are requested from the cloud's metadata service
//! once, at the start.
//!
//! Without a cloud in the firmware nothing is requested and the start is not delayed. The service has a
//! link-local address, which routers do not forward. Requests bypass proxies and follow no redirects.

mod documents;

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

/// Limit for all requests together. A service responds in milliseconds; without a response it is blocked.
const LIMIT: Duration = Duration::from_secs(3);

/// Azure's response contains tags and keys of the instance, a few kB.
const BODY_BYTES_MAX: usize = 256 << 10;

/// Chassis asset tag of all virtual machines of Azure. Hyper-V elsewhere has other ones.
const AZURE_ASSET_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

const EC2_TOKEN: &str = "x-aws-ec2-metadata-token";
const EC2_TOKEN_TTL: &str = "x-aws-ec2-metadata-token-ttl-seconds";
const GCE_FLAVOR: &str = "metadata-flavor";

/// The fields `cloud.*` of ECS. Unknown fields are omitted.
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
pub(crate) enum Provider {
    Ec2,
    Azure,
    Gce,
}

impl Provider {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Provider::Ec2 => "Amazon EC2",
            Provider::Azure => "Microsoft Azure",
            Provider::Gce => "Google Compute Engine",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CloudError {
    #[error("the metadata service did not respond within {LIMIT:?}")]
    TimedOut,
    #[error("the request to the metadata service failed")]
    Http(#[source] reqwest::Error),
    #[error("the metadata service responded to `{path}` with {status}")]
    Status { path: &'static str, status: StatusCode },
    #[error("the response to `{path}` has more than {BODY_BYTES_MAX} bytes")]
    TooLarge { path: &'static str },
    #[error("the response to `{path}` is not from {}'s metadata service", provider.name())]
    WrongService { path: &'static str, provider: Provider },
    #[error("cannot start a thread for the metadata service")]
    Thread,
}

/// The cloud in this host's firmware, and the URL of its metadata service.
pub(crate) fn detect() -> Option<(Provider, Url)> {
    if let Some(simulated) = simulated() {
        return Some(simulated);
    }
    Some((detect_in(Path::new("/"))?, Url::parse(SERVICE).ok()?))
}

/// In debug builds the environment variable `CONFLUENCE_AUDIT_AGENT_METADATA="ec2=http://127.0.0.1:…/"`
/// replaces the service.
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

fn detect_in(root: &Path) -> Option<Provider> {
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let dmi = |name: &str| read(&format!("sys/class/dmi/id/{name}")).trim().to_owned();
    // Older instances run on Xen, which has no vendor entry of its own.
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

/// Requests the fields if this host is in a cloud, and logs the result. Takes `LIMIT` at most.
pub(crate) fn gather() -> Option<Cloud> {
    let (provider, base) = detect()?;
    match request(provider, &base, LIMIT) {
        Ok(cloud) => {
            let (instance, name) = (cloud.instance_id.as_deref(), provider.name());
            tracing::info!(cloud = name, instance, "the host is a cloud instance");
            Some(cloud)
        }
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                cloud = provider.name(),
                error,
                "events have no `cloud` fields; allow access to 169.254.169.254, or set `cloud_metadata = false` in `[enrich]`"
            );
            None
        }
    }
}

/// Requests the fields from the service at `base`. Uses a thread with its own runtime, because the caller may
/// be in one.
pub(crate) fn request(provider: Provider, base: &Url, limit: Duration) -> Result<Cloud, CloudError> {
    std::thread::scope(|scope| {
        let request = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|_| CloudError::Thread)?;
            let request_all = async { tokio::time::timeout(limit, request_all(provider, base)).await };
            runtime.block_on(request_all).unwrap_or(Err(CloudError::TimedOut))
        };
        let builder = std::thread::Builder::new().name("cloud".to_owned());
        let thread = builder.spawn_scoped(scope, request).map_err(|_| CloudError::Thread)?;
        thread.join().unwrap_or(Err(CloudError::Thread))
    })
}

/// Same with the limit of a start.
pub(crate) fn request_with_limit(provider: Provider, base: &Url) -> Result<Cloud, CloudError> {
    request(provider, base, LIMIT)
}

async fn request_all(provider: Provider, base: &Url) -> Result<Cloud, CloudError> {
    // The only provider in the binary. Building a client requires one even without TLS.
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
    let service = MetadataService { client, base, provider };
    match provider {
        Provider::Ec2 => service.ec2().await,
        Provider::Azure => service.azure().await,
        Provider::Gce => service.gce().await,
    }
}

struct MetadataService<'u> {
    client: Client,
    base: &'u Url,
    provider: Provider,
}

impl MetadataService<'_> {
    /// Version 2, with a token. Requests that are forwarded through an open proxy cannot get one.
    async fn ec2(&self) -> Result<Cloud, CloudError> {
        let ttl = (EC2_TOKEN_TTL, HeaderValue::from_static("60"));
        let path = "latest/api/token";
        let (_, token) = self.send(Method::PUT, path, ttl).await?;
        let mut token = HeaderValue::from_bytes(token.trim_ascii()).map_err(|_| self.wrong_service(path))?;
        token.set_sensitive(true);
        let path = "latest/dynamic/instance-identity/document";
        let (_, body) = self.send(Method::GET, path, (EC2_TOKEN, token)).await?;
        documents::ec2(&body).ok_or_else(|| self.wrong_service(path))
    }

    async fn azure(&self) -> Result<Cloud, CloudError> {
        let header = ("metadata", HeaderValue::from_static("true"));
        let path = "metadata/instance/compute?api-version=2021-02-01&format=json";
        let (_, body) = self.send(Method::GET, path, header).await?;
        documents::azure(&body).ok_or_else(|| self.wrong_service(path))
    }

    /// Requests each field separately: a recursive request would include keys and scripts.
    async fn gce(&self) -> Result<Cloud, CloudError> {
        let mut cloud = Cloud { provider: "gcp", ..Cloud::default() };
        for (path, field) in [
            ("computeMetadata/v1/instance/id", &mut cloud.instance_id),
            ("computeMetadata/v1/instance/zone", &mut cloud.availability_zone),
            ("computeMetadata/v1/instance/machine-type", &mut cloud.machine_type),
            ("computeMetadata/v1/instance/image", &mut cloud.image_id),
            ("computeMetadata/v1/project/project-id", &mut cloud.account_id),
        ] {
            let header = (GCE_FLAVOR, HeaderValue::from_static("Google"));
            match self.send(Method::GET, path, header).await {
                Ok((headers, _)) if headers.get(GCE_FLAVOR).is_none_or(|value| value != "Google") => {
                    return Err(self.wrong_service(path));
                }
                Ok((_, body)) => *field = documents::text(std::str::from_utf8(&body).ok()),
                // An instance without an image has no such field.
                Err(CloudError::Status { status, .. }) if status == StatusCode::NOT_FOUND => {}
                Err(error) => return Err(error),
            }
        }
        documents::gce(cloud).ok_or_else(|| self.wrong_service("computeMetadata/v1/instance/id"))
    }

    async fn send(
        &self,
        method: Method,
        path: &'static str,
        header: (&'static str, HeaderValue),
    ) -> Result<(HeaderMap, Vec<u8>), CloudError> {
        let url = self.base.join(path).map_err(|_| self.wrong_service(path))?;
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

    fn wrong_service(&self, path: &'static str) -> CloudError {
        CloudError::WrongService { path, provider: self.provider }
    }
}

fn failed(error: reqwest::Error) -> CloudError {
    CloudError::Http(error.without_url())
}
