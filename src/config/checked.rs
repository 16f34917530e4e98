//! What the configuration means. Every value here has been checked; defaults stand with their reasons.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::errors::ConfigError;
use super::home::HomeFound;
use super::remote::{ApiConfig, Reference};
use super::sinks::{Compression, DestinationConfig, RemoteSinkConfig};
pub use crate::format::FormatKind;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// The complete configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The file that it was read from, absolute where that is known. `None`: options only.
    pub file: Option<PathBuf>,
    /// Absolute. Holds the checkpoint store, the lock and the quarantine.
    pub state_dir: PathBuf,
    /// How long a stop waits for what is in flight.
    pub shutdown_timeout: Duration,
    /// How much may be delivered while the position cannot be stored.
    pub uncommitted_bytes_max: u64,
    /// The position is stored no more often than this while events flow.
    pub checkpoint_interval: Duration,
    pub ledger: LedgerConfig,
    pub admin: AdminConfig,
    pub heartbeat: HeartbeatConfig,
    pub log: LogConfig,
    pub event: EventConfig,
    pub enrich: EnrichConfig,
    /// At least one; names are unique.
    pub sources: Vec<SourceConfig>,
    /// At least one; names are unique.
    pub sinks: Vec<SinkConfig>,
    /// What works and is not as it should be. `check` shows it, `run` logs it once.
    pub warnings: Vec<ConfigError>,
    /// Files that hold secrets; `check` looks whether others may read them.
    pub secret_files: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            file: None,
            state_dir: "/var/lib/confluence-audit-agent".into(),
            // systemd kills after 90 s, a person waits less.
            shutdown_timeout: Duration::from_secs(10),
            // Room to go on while somebody frees the disk. After a crash in that state so much is delivered
            // again, to sinks that cannot recognise it.
            uncommitted_bytes_max: 64 * MIB,
            // A crash then repeats at most a second to sinks that cannot recognise it; an fsync a second
            // is nothing to a disk.
            checkpoint_interval: Duration::from_secs(1),
            ledger: LedgerConfig::default(),
            admin: AdminConfig::default(),
            heartbeat: HeartbeatConfig::default(),
            log: LogConfig::default(),
            event: EventConfig::default(),
            enrich: EnrichConfig::default(),
            sources: Vec::new(),
            sinks: Vec::new(),
            warnings: Vec::new(),
            secret_files: Vec::new(),
        }
    }
}

/// The ledger of each source.
#[derive(Debug, Clone, PartialEq)]
pub struct LedgerConfig {
    /// How long an event is remembered after its delivery.
    pub retention: Duration,
    /// Entries of one source, in bytes.
    pub bytes_max: u64,
    /// How often a checkpoint is signed and published.
    pub seal_interval: Duration,
    /// Holds 32 bytes in base64, the seed of an Ed25519 key. `None`: the agent makes a key in the state directory.
    pub signing_key: Option<Reference>,
}

impl Default for LedgerConfig {
    fn default() -> LedgerConfig {
        LedgerConfig {
            // Standards such as PCI DSS ask for 12 months of audit trail; this leaves time for the audit.
            retention: Duration::from_secs(400 * 86_400),
            // Some 13 million events, more than most instances have in that time.
            bytes_max: GIB,
            // What is not sealed yet can be changed by root on this host. An event an hour costs nothing.
            seal_interval: Duration::from_secs(3600),
            signing_key: None,
        }
    }
}

/// The admin endpoint.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdminConfig {
    /// A Unix socket. `None`: the one in the unit's runtime directory, if systemd has made one.
    pub socket: Option<PathBuf>,
    /// `None`, the default: no TCP, because any user of the host could read it.
    pub listen: Option<SocketAddr>,
    /// What clients must send over TCP. An address that is no loopback address has one.
    pub token: Option<Reference>,
    /// TLS over TCP.
    pub tls: Option<AdminTls>,
}

/// The files of the admin endpoint's TLS, in PEM.
#[derive(Debug, Clone, PartialEq)]
pub struct AdminTls {
    /// The certificate chain of the endpoint.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Clients need a certificate that one of these has signed.
    pub client_ca_file: Option<PathBuf>,
}

/// The events `agent.heartbeat`, `agent.started` and `agent.stopped`.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatConfig {
    /// `None`: none of them is sent.
    pub interval: Option<Duration>,
}

impl Default for HeartbeatConfig {
    fn default() -> HeartbeatConfig {
        // A rule that looks for hosts without events of the last 15 minutes then tolerates two that are late.
        HeartbeatConfig { interval: Some(Duration::from_secs(300)) }
    }
}

/// The agent's own log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    pub format: LogFormat,
    pub level: tracing::Level,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        // info is what an operator did or must know: a few lines a day.
        LogConfig { format: LogFormat::Text, level: tracing::Level::INFO }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// Fields that are the same in every event.
#[derive(Debug, Clone, PartialEq)]
pub struct EventConfig {
    pub tags: Vec<String>,
    /// `data_stream.namespace`.
    pub namespace: String,
    /// Whether `event.original` carries the record as it came.
    pub preserve_original_event: bool,
}

impl Default for EventConfig {
    fn default() -> EventConfig {
        EventConfig {
            tags: vec!["confluence-audit".into()],
            namespace: "default".into(),
            // Evidence: what the mapping leaves out or gets wrong can still be read.
            preserve_original_event: true,
        }
    }
}

/// What is added to events that no record says.
#[derive(Debug, Clone, PartialEq)]
pub struct EnrichConfig {
    /// `false`: addresses are not looked up.
    pub geoip: bool,
    /// Absolute, of a MaxMind City database. `None`: looked for where `geoipupdate` puts it.
    pub geoip_city: Option<PathBuf>,
    /// Likewise, of an ASN or ISP database.
    pub geoip_asn: Option<PathBuf>,
    /// Whether a cloud's metadata service is asked on a host of that cloud.
    pub cloud_metadata: bool,
    pub host_fields: HostFields,
}

/// Which fields `host.*` an event has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostFields {
    All,
    /// `host.name`, `host.hostname` and `host.id`: what tells hosts apart.
    Minimal,
}

impl Default for EnrichConfig {
    fn default() -> EnrichConfig {
        EnrichConfig {
            // Who installs databases wants them used; without any it costs nothing.
            geoip: true,
            geoip_city: None,
            geoip_asn: None,
            // Asked on hosts whose firmware names the cloud, and at a link-local address only.
            cloud_metadata: true,
            // As Elastic Agent does: queries and dashboards for hosts find what they know.
            host_fields: HostFields::All,
        }
    }
}

/// One Confluence: a node's audit files, a site's audit API, or both. At least one of them is there.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    pub name: String,
    /// `confluence.audit.site`. The source's name when a configuration file names it; `None` when built from
    /// options only: then it is the host of each event's own `system`.
    pub site: Option<String>,
    pub files: Option<FilesConfig>,
    pub api: Option<ApiConfig>,
    /// How the two work together where both are there.
    pub fallback: FallbackConfig,
}

/// When the API is the fallback for the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FallbackConfig {
    /// How often the API is asked whether the files bring everything.
    pub probe_interval: Duration,
    /// An event that the files have not brought so long after its time is taken from the API.
    pub file_lag_timeout: Duration,
    /// How long files must be unreadable before the API is read instead.
    pub file_error_timeout: Duration,
    /// How long files must be well before they are trusted again.
    pub file_recovery_timeout: Duration,
    /// Take the events of all nodes of a cluster from the API, and not only those of this one.
    pub all_nodes: bool,
}

impl Default for FallbackConfig {
    fn default() -> FallbackConfig {
        FallbackConfig {
            // Each probe is a search that Confluence audits; what it finds has waited for longer anyhow.
            probe_interval: Duration::from_secs(300),
            // Confluence writes files in batches, and a busy disk may hold one back.
            file_lag_timeout: Duration::from_secs(600),
            // A restart or a remount takes seconds.
            file_error_timeout: Duration::from_secs(30),
            // Longer than that, so that a flapping mount does not switch each time.
            file_recovery_timeout: Duration::from_secs(120),
            // Each node of a cluster has an agent of its own.
            all_nodes: false,
        }
    }
}

impl SourceConfig {
    /// Its files, by their defaults if it had none.
    pub fn files_mut(&mut self) -> &mut FilesConfig {
        self.files.get_or_insert_with(|| FilesConfig::new(FileLocation::Files(Vec::new())))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FilesConfig {
    pub location: FileLocation,
    pub start_at: StartAt,
    /// Longer lines become an error event with their first bytes.
    pub record_bytes_max: usize,
    /// How often the directory is looked through whether or not a notification came.
    pub sweep_interval: Duration,
    /// How long a file that has a successor must be quiet before it counts as finished.
    pub rotate_grace: Duration,
    /// Files held open at once.
    pub open_files_max: usize,
    /// Deleted files held open until they are read.
    pub deleted_files_max: usize,
    /// Unread bytes of deleted files held on the disk.
    pub deleted_bytes_max: u64,
    /// How long a deleted file is held.
    pub deleted_age_max: Duration,
    /// How long the position in a vanished file is remembered.
    pub missing_files_retention: Duration,
    /// Positions in vanished files remembered at most.
    pub missing_files_max: usize,
    /// `false`: sweep only.
    pub notify: bool,
    /// Size of one read.
    pub read_bytes: usize,
}

impl FilesConfig {
    /// The defaults, for files at `location`.
    pub fn new(location: FileLocation) -> FilesConfig {
        FilesConfig {
            location,
            // Everything that Confluence still has: an audit trail with a hole at its start is a hole.
            start_at: StartAt::Beginning,
            // Confluence sets no limit, and a page's title is no reason for one. Memory does not depend on it.
            record_bytes_max: 16 * MIB as usize,
            // What notification misses (NFS, exhausted inotify) comes this late; a sweep is one readdir.
            sweep_interval: Duration::from_secs(5),
            // Confluence writes in batches and may still have one for the old file.
            rotate_grace: Duration::from_secs(10),
            // One is live; a backlog is read one after another. The rest is for files that will not settle.
            open_files_max: 8,
            // 4 × 100 MB is what Confluence deletes when it is four files ahead.
            deleted_files_max: 4,
            // A deleted file that is held still fills Confluence's disk.
            deleted_bytes_max: GIB,
            deleted_age_max: Duration::from_secs(3600),
            // A file that comes back from a backup or a remounted disk within a month is recognised.
            missing_files_retention: Duration::from_secs(30 * 86_400),
            // Twice the files that Confluence keeps.
            missing_files_max: 200,
            notify: true,
            // Some hundred records in a system call, and little memory: each source has its own block.
            read_bytes: 128 * KIB as usize,
        }
    }
}

/// Where the audit files are.
#[derive(Debug, Clone, PartialEq)]
pub enum FileLocation {
    /// `<dir>/log/audit` holds the files.
    Home { dir: PathBuf, found: HomeFound },
    /// Absolute glob patterns.
    Files(Vec<String>),
}

/// Where a file that the agent has never seen is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    Beginning,
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub struct SinkConfig {
    pub name: String,
    pub format: FormatKind,
    pub kind: SinkKind,
    /// Whether it gets the events of [`HeartbeatConfig`].
    pub heartbeat: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum SinkKind {
    Stdout,
    File(FileSinkConfig),
    Remote(Box<RemoteSinkConfig>),
}

impl SinkKind {
    /// Whether a sink of this kind gets heartbeats unless it is configured otherwise. Nobody watches a local file for
    /// hosts that fall silent.
    pub fn has_heartbeat(&self) -> bool {
        matches!(self, SinkKind::Remote(_))
    }

    /// Its `type`.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            SinkKind::Stdout => "stdout",
            SinkKind::File(_) => "file",
            SinkKind::Remote(remote) => match remote.destination {
                DestinationConfig::Http(_) => "http",
                DestinationConfig::Elasticsearch(_) => "elasticsearch",
                DestinationConfig::Kafka(_) => "kafka",
                DestinationConfig::Syslog(_) => "syslog",
                DestinationConfig::Sentinel(_) => "sentinel",
                DestinationConfig::SplunkHec(_) => "splunk_hec",
            },
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FileSinkConfig {
    /// Absolute; may contain `{source}`, and does when there is more than one source.
    pub path: PathBuf,
    pub rotate_bytes: u64,
    pub rotate_daily: bool,
    /// Rotated files kept.
    pub rotated_files_max: usize,
    /// Of rotated files.
    pub compression: Compression,
    /// Permission bits of the file, and of rotated and compressed ones. `None`: new ones are for their owner alone, and
    /// what
    /// somebody has set by hand stays.
    pub mode: Option<u32>,
    /// Who is meant by the middle digit of the mode: a name, or a number.
    pub group: Option<String>,
}

impl FileSinkConfig {
    /// The defaults, for a file at `path`.
    pub fn new(path: PathBuf) -> FileSinkConfig {
        FileSinkConfig {
            path,
            // As large and as often as Confluence's own files.
            rotate_bytes: 100 * MIB,
            rotate_daily: true,
            // As many as Confluence keeps itself.
            rotated_files_max: 100,
            // Whatever reads them may not know how to; and it takes a moment of Confluence's processor.
            compression: Compression::None,
            // An audit trail is for those who are named.
            mode: None,
            group: None,
        }
    }

    /// The output of one source. Each has its own: one length cannot be right for the positions of two.
    pub fn path_for(&self, source: &str) -> PathBuf {
        match self.path.to_str() {
            Some(path) => path.replace(SOURCE_PLACEHOLDER, source).into(),
            None => self.path.clone(),
        }
    }
}

/// Stands for the source's name in a file sink's path.
pub const SOURCE_PLACEHOLDER: &str = "{source}";

/// The directory of a home that holds its audit files.
pub fn audit_dir(home: &Path) -> PathBuf {
    home.join("log").join("audit")
}
