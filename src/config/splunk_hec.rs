//! What the configuration means where events go to a Splunk HTTP Event Collector. Every value here has been checked.

use std::time::Duration;

use super::remote::HttpConfig;
use super::sinks::Compression;

/// Splunk's HTTP Event Collector, or what speaks like one.
#[derive(Debug, Clone, PartialEq)]
pub struct SplunkHecConfig {
    /// Below its base the collector is found at `/services/collector`.
    pub http: HttpConfig,
    /// What stands in each event's envelope. `None`: the token's own settings decide.
    pub index: Option<String>,
    pub source: Option<String>,
    pub sourcetype: Option<String>,
    pub host: Option<String>,
    /// An event is delivered when the indexer says that it is safe, and sent again after so long without that. `None`: it is
    /// delivered when it has been received.
    pub acknowledge: Option<Duration>,
    pub compression: Compression,
}

impl SplunkHecConfig {
    /// Indexers acknowledge within a minute, restarts of a cluster take a few; what is sent again too early is there twice.
    pub const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(300);
}
