//! What the configuration means where events are sent to a server. Every value here has been checked.

use std::time::Duration;

use url::Url;

use super::kafka::KafkaConfig;
use super::remote::HttpConfig;
use super::sentinel::SentinelConfig;
use super::splunk_hec::SplunkHecConfig;
use super::syslog::SyslogConfig;

/// A sink that reaches a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSinkConfig {
    pub peer: PeerConfig,
    pub batch: BatchConfig,
    /// Requests on their way at once, for each source.
    pub concurrency: usize,
    pub on_poison: OnPoison,
}

/// The server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerConfig {
    Http(Box<HttpSinkConfig>),
    Elasticsearch(Box<ElasticsearchConfig>),
    Kafka(KafkaConfig),
    Syslog(SyslogConfig),
    Sentinel(Box<SentinelConfig>),
    SplunkHec(Box<SplunkHecConfig>),
}

impl RemoteSinkConfig {
    /// The defaults.
    pub fn new(peer: PeerConfig) -> RemoteSinkConfig {
        RemoteSinkConfig {
            peer,
            batch: BatchConfig::default(),
            // One is on its way while the next is made.
            concurrency: 2,
            // One event that a server cannot take must not hold up all others; it is kept.
            on_poison: OnPoison::Quarantine,
        }
    }

    /// What may be on its way to it, in bytes of events.
    pub fn in_flight_bytes_max(&self) -> usize {
        self.batch.bytes.saturating_mul(self.concurrency + 1)
    }
}

/// When a request is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchConfig {
    /// Of events, before compression.
    pub bytes: usize,
    pub events: usize,
    /// How long an event waits for others.
    pub wait: Duration,
}

impl Default for BatchConfig {
    fn default() -> BatchConfig {
        BatchConfig {
            // Some 600 events: larger requests make servers no faster, and all of it is memory on Confluence's host.
            bytes: 1 << 20,
            events: 1000,
            // Late enough that a busy minute is a request a second, early enough for an alarm.
            wait: Duration::from_secs(1),
        }
    }
}

/// What becomes of an event that its server refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPoison {
    /// It is kept aside and the next ones go on.
    Quarantine,
    /// The agent ends, for a person to look.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

/// Any server that takes events by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpSinkConfig {
    pub http: HttpConfig,
    pub method: reqwest::Method,
    pub body: HttpBody,
    /// Statuses that mean that all events of a request are safe. `None`: 200 to 299.
    pub success: Option<Vec<u16>>,
    pub compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpBody {
    /// One event a line.
    Ndjson,
    /// A JSON array of events.
    Array,
}

/// A cluster of Elasticsearch or OpenSearch.
#[derive(Debug, Clone, PartialEq)]
pub struct ElasticsearchConfig {
    /// Its `base` is the first of `hosts`.
    pub http: HttpConfig,
    /// Of one cluster, of one scheme, without a slash at their ends. The first is used while it answers.
    pub hosts: Vec<Url>,
    pub target: Target,
    pub compression: Compression,
    /// The index template that may have made the data stream.
    pub template: String,
    /// The ingest pipeline through which the index may send events, beside one of the template's own name.
    pub pipeline: Option<String>,
}

impl ElasticsearchConfig {
    /// The name of the template that `setup` makes, and of its policy.
    pub const TEMPLATE: &'static str = "confluence-audit";
}

/// Where in the cluster events go; its whole name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    DataStream(String),
    Index(String),
}

impl Target {
    /// What the names of this agent's data streams begin with; a namespace follows.
    pub const DATA_STREAMS: &'static str = "logs-atlassian_confluence.audit-";

    pub fn name(&self) -> &str {
        match self {
            Target::DataStream(name) | Target::Index(name) => name,
        }
    }
}
