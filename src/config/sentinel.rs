//! What the configuration means where events go to Microsoft Sentinel. Every value here has been checked.

use std::path::PathBuf;

use url::Url;

use super::remote::{HttpConfig, Reference};
use super::sinks::Compression;

/// The Logs Ingestion API of Azure Monitor.
#[derive(Debug, Clone, PartialEq)]
pub struct SentinelConfig {
    /// Its base is the endpoint of the data collection rule or of its data collection endpoint.
    pub http: HttpConfig,
    /// `dcr-` and 32 hexadecimal digits.
    pub dcr_immutable_id: String,
    pub stream: String,
    pub identity: AzureIdentity,
    /// Where Entra ID gives tokens. Without path.
    pub login: Url,
    /// What a token is asked for: an audience with `/.default` behind it.
    pub scope: String,
    pub compression: Compression,
}

/// As whom the agent writes.
#[derive(Debug, Clone, PartialEq)]
pub enum AzureIdentity {
    Secret {
        tenant: String,
        client: String,
        secret: Reference,
    },
    /// PEM: the certificate that is registered with the application, and its RSA key.
    Certificate {
        tenant: String,
        client: String,
        certificate: PathBuf,
        key: PathBuf,
    },
    /// The identity of the virtual machine or Azure Arc host; `client` tells several of one machine apart.
    Managed { client: Option<String> },
}

impl SentinelConfig {
    /// What Azure takes in one request is less than 1 MiB, before compression.
    pub const BODY_BYTES_MAX: usize = (1 << 20) - 1;
    /// Of events with a line end each: an array of them has one byte more.
    pub const BATCH_BYTES_MAX: usize = SentinelConfig::BODY_BYTES_MAX - 1;
    /// Clear of the limit, in case a proxy counts headers too.
    pub const BATCH_BYTES: usize = 1_000_000;
    /// Of Microsoft's own connector from 3.0.7 on.
    pub const STREAM: &str = "Custom-ConfluenceAuditLogs_CL";
    /// The public cloud's.
    pub const LOGIN_HOST: &str = "login.microsoftonline.com";
    pub const SCOPE: &str = "https://monitor.azure.com/.default";
}
