//! What the configuration means where events are sent to a server. Every value here has been checked.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::remote::{HttpConfig, Reference, TlsConfig};

/// A sink that reaches a server.
#[derive(Debug, Clone, PartialEq)]
pub struct RemoteSinkConfig {
    pub destination: DestinationConfig,
    pub batch: BatchConfig,
    /// Requests on their way at once, for each source.
    pub concurrency: usize,
    pub on_poison: OnPoison,
}

/// The server, and how it is spoken to.
#[derive(Debug, Clone, PartialEq)]
pub enum DestinationConfig {
    Http(Box<HttpSinkConfig>),
    Elasticsearch(Box<ElasticsearchConfig>),
    Kafka(KafkaConfig),
    Syslog(SyslogConfig),
    Sentinel(Box<SentinelConfig>),
    SplunkHec(Box<SplunkHecConfig>),
}

impl RemoteSinkConfig {
    /// The defaults.
    pub fn new(destination: DestinationConfig) -> RemoteSinkConfig {
        let mut batch = BatchConfig::default();
        match &destination {
            DestinationConfig::Kafka(_) => batch.bytes = KafkaConfig::BATCH_BYTES,
            DestinationConfig::Sentinel(_) => batch.bytes = SentinelConfig::BATCH_BYTES,
            _ => {}
        }
        RemoteSinkConfig {
            // One is on its way while the next is made; but over syslog's one connection events arrive in order.
            concurrency: if matches!(destination, DestinationConfig::Syslog(_)) { 1 } else { 2 },
            destination,
            batch,
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
    /// How long the first event of a request waits for others. `None`: it waits only while a request is in flight,
    /// at most [`BatchConfig::BUSY_WAIT`].
    pub wait: Option<Duration>,
}

impl Default for BatchConfig {
    fn default() -> BatchConfig {
        BatchConfig {
            // Some 600 events: larger requests make servers no faster, and all of it is memory on Confluence's host.
            bytes: 1 << 20,
            events: 1000,
            // An event that comes alone arrives at once, and the slower the server the larger the requests.
            wait: None,
        }
    }
}

impl BatchConfig {
    /// A slow request must not hold up the events behind it: the next request goes after this time.
    pub const BUSY_WAIT: Duration = Duration::from_secs(1);
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
    /// The ingest pipeline through which the index may send events, in addition to one of the template's name.
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

#[derive(Debug, Clone, PartialEq)]
pub struct KafkaConfig {
    /// `host:port` of those that are asked for the others.
    pub brokers: Vec<String>,
    pub topic: String,
    pub tls: Option<TlsConfig>,
    pub sasl: Option<SaslConfig>,
    pub compression: Compression,
    pub timestamp: RecordTime,
    /// For all of a request, connecting included.
    pub timeout: Duration,
}

/// What a record has as its time. The event says itself when it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordTime {
    Sent,
    Event,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SaslConfig {
    pub mechanism: SaslMechanism,
    pub user: String,
    pub password: Reference,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl KafkaConfig {
    /// Of the events of a request. With their keys and headers they stay below the megabyte that a broker takes in one
    /// batch unless it is configured otherwise (`message.max.bytes`), even if all go to one partition.
    pub const BATCH_BYTES: usize = 768 << 10;

    /// The defaults.
    pub fn new(brokers: Vec<String>, topic: String) -> KafkaConfig {
        KafkaConfig {
            brokers,
            topic,
            tls: None,
            sasl: None,
            compression: Compression::None,
            // A topic's retention counts from it: of a backlog that is older, Kafka would delete what it has just
            // taken.
            timestamp: RecordTime::Sent,
            // A broker waits for its replicas for 30 s at most and says so then.
            timeout: Duration::from_secs(60),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct SyslogConfig {
    pub host: String,
    pub port: u16,
    pub transport: Transport,
    /// Over TCP and TLS.
    pub framing: Framing,
    /// 0 to 23.
    pub facility: u8,
    pub app_name: String,
    /// TLS included.
    pub connect_timeout: Duration,
    /// For sending a request and for the receiver's system to acknowledge it.
    pub timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    Tcp,
    Tls(TlsConfig),
    Udp,
}

/// How messages are separated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The length precedes it: RFC 5425, RFC 6587.
    OctetCounting,
    /// An LF follows it.
    Newline,
}

impl SyslogConfig {
    /// The defaults.
    pub fn new(host: String, port: u16, transport: Transport) -> SyslogConfig {
        SyslogConfig {
            host,
            port,
            transport,
            // The one that RFC 5425 knows, and that rsyslog and syslog-ng recognise by themselves.
            framing: Framing::OctetCounting,
            // "log audit": what these events are. It also keeps them out of the files where hosts collect `authpriv`.
            facility: 13,
            // At most 48 bytes, and short, because it is in each line.
            app_name: "confluence-audit".into(),
            // Time for three lost packets and the greetings of TLS.
            connect_timeout: Duration::from_secs(10),
            // What is not acknowledged by then goes over another connection.
            timeout: Duration::from_secs(30),
        }
    }

    pub fn address(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

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
    /// The identity of the virtual machine or Azure Arc host; `client` selects one of several of a machine.
    Managed {
        client: Option<String>,
    },
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

/// Splunk's HTTP Event Collector, or what speaks like one.
#[derive(Debug, Clone, PartialEq)]
pub struct SplunkHecConfig {
    /// Below its base the collector is found at `/services/collector`.
    pub http: HttpConfig,
    /// Metadata of each event's envelope. `None`: the settings of the token apply.
    pub index: Option<String>,
    pub source: Option<String>,
    pub sourcetype: Option<String>,
    pub host: Option<String>,
    /// An event is delivered when the indexer says that it is safe, and sent again after so long without that. `None`:
    /// it is delivered when it has been received.
    pub acknowledge: Option<Duration>,
    pub compression: Compression,
}

impl SplunkHecConfig {
    /// Indexers acknowledge within a minute, restarts of a cluster take a few; what is sent again too early is there
    /// twice.
    pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(300);
}
