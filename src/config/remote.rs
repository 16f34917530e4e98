//! What the configuration means where a source is reached by HTTP. Every value here has been checked.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::secret::Secret;

/// An audit API that is polled.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiConfig {
    pub product: Product,
    pub http: HttpConfig,
    /// Where a source that has no checkpoint begins.
    pub start: Start,
    pub poll_interval: Duration,
    /// Rows asked for in one request.
    pub page_size: usize,
    /// Read again by each poll, for rows that become visible late.
    pub overlap: Duration,
    /// This often twice as much is read again, for rows that are later than `overlap`.
    pub late_rows_interval: Duration,
    /// Whether the audit events that the agent's own searches make are left out.
    pub drop_self_polls: bool,
    pub token: TokenConfig,
}

impl ApiConfig {
    /// The defaults.
    pub fn new(product: Product, http: HttpConfig) -> ApiConfig {
        ApiConfig {
            product,
            http,
            // A first run shows events at once and asks little of the server. Who wants the history says from when.
            start: Start::Ago(Duration::from_secs(86_400)),
            // Each search leaves an audit event in Confluence, so once a minute and no more.
            poll_interval: Duration::from_secs(60),
            // The most that Confluence gives: the fewest requests.
            page_size: 1000,
            // Nodes whose clocks differ and transactions that commit late are well inside it, and five minutes of rows
            // are mostly one page.
            overlap: Duration::from_secs(300),
            // A node that was cut off from the database for a while, or a queue that stood still.
            late_rows_interval: Duration::from_secs(3600),
            // An audit trail has no holes that nobody asked for.
            drop_self_polls: false,
            token: TokenConfig::default(),
        }
    }
}

/// Which Confluence is behind a URL.
#[derive(Debug, Clone, PartialEq)]
pub enum Product {
    DataCenter,
    /// Classic tokens are used at the site's own host; scoped ones at `api.atlassian.com` under the site's cloud id,
    /// which is looked up if it is not given.
    Cloud {
        scoped: bool,
        cloud_id: Option<String>,
        /// Where scoped tokens are used: `https://api.atlassian.com`; Atlassian's government cloud has another.
        gateway: Url,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// In milliseconds since 1970.
    At(i64),
    /// So long before the first poll.
    Ago(Duration),
}

/// What is known of the token besides its text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenConfig {
    /// Data Center reports the expiry of each token, but not which one is in use.
    pub name: Option<String>,
    /// In milliseconds since 1970, as the operator recorded it.
    pub expires_ms: Option<i64>,
}

/// How a server is spoken to. Serves sources and sinks.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Scheme, host, port and context path, the latter without a slash at its end. Where there is none the path is `/`,
    /// as `Url` has it. Of a Cloud site: `https://acme.atlassian.net/`.
    pub base: Url,
    pub auth: Auth,
    pub timeouts: Timeouts,
    /// `None`: from the environment (`HTTPS_PROXY`, `NO_PROXY`).
    pub proxy: Option<ProxyConfig>,
    pub tls: TlsConfig,
    /// Sent with each request. The values may be secret.
    pub headers: Vec<(String, Reference)>,
    pub user_agent: String,
    /// A longer answer is an error.
    pub body_bytes_max: usize,
}

impl HttpConfig {
    /// A page of 1000 rows has one or two megabytes; of longer rows fewer are asked for. It bounds memory.
    pub const BODY_BYTES_MAX: usize = 16 << 20;

    /// The defaults, for a server at `base`.
    pub fn new(base: Url, auth: Auth) -> HttpConfig {
        HttpConfig {
            base,
            auth,
            timeouts: Timeouts::within(Timeouts::DEFAULT),
            proxy: None,
            tls: TlsConfig::default(),
            headers: Vec::new(),
            // Who reads the server's access log sees what asks.
            user_agent: format!("{}/{}", crate::NAME, env!("CARGO_PKG_VERSION")),
            body_bytes_max: HttpConfig::BODY_BYTES_MAX,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    None,
    Bearer(Reference),
    /// `ApiKey`, `Splunk`: a token of another scheme.
    Scheme(&'static str, Reference),
    Basic {
        user: String,
        password: Reference,
    },
}

/// Where a secret is found.
#[derive(Debug, Clone, PartialEq)]
pub enum Reference {
    /// Read when it changes. A trailing line end does not belong to the secret.
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
    /// The name of a systemd credential: a file in `$CREDENTIALS_DIRECTORY`.
    Systemd(String),
    /// In the configuration itself.
    Inline(Secret),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timeouts {
    pub connect: Duration,
    /// Until the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// For all of an exchange.
    pub whole: Duration,
}

impl Timeouts {
    /// A minute: a page takes seconds on a busy database, and what takes a minute does not come any more.
    pub const DEFAULT: Duration = Duration::from_secs(60);

    /// The defaults in an exchange that may take this long.
    pub fn within(whole: Duration) -> Timeouts {
        Timeouts {
            // Time for three lost packets and the greetings of TLS.
            connect: whole.min(Duration::from_secs(10)),
            // A server under load is busy first and sends then: all of the time may be spent here.
            first_byte: whole,
            // Whoever sends does not pause for so long; a connection that a firewall forgot does.
            idle: whole.min(Duration::from_secs(30)),
            whole,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProxyConfig {
    /// Without credentials.
    pub url: Url,
    pub auth: Option<(String, Reference)>,
    /// Hosts, domains and networks that are reached directly.
    pub no_proxy: Vec<String>,
}

impl ProxyConfig {
    /// None for this server, whatever the environment says: for what is reached from the host alone.
    pub fn never(base: &Url) -> ProxyConfig {
        let host = base.host_str().unwrap_or_default();
        ProxyConfig { url: base.clone(), auth: None, no_proxy: vec![host.trim_matches(['[', ']']).into()] }
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TlsConfig {
    /// PEM. Trusted in addition to those of the system.
    pub ca_file: Option<PathBuf>,
    /// PEM: a certificate chain and its key.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub version_min: TlsVersion,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TlsVersion {
    /// What every Confluence that is still supported speaks.
    #[default]
    V1_2,
    V1_3,
}
