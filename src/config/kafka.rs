//! What the configuration means where events go to Kafka. Every value here has been checked.

use std::time::Duration;

use super::remote::{Reference, TlsConfig};
use super::sinks::Compression;

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
    /// Of the events of a request. With their keys and headers they stay below the megabyte that a broker takes in one batch
    /// unless it is told otherwise (`message.max.bytes`), even if all go to one partition.
    pub const BATCH_BYTES: usize = 768 << 10;

    /// The defaults.
    pub fn new(brokers: Vec<String>, topic: String) -> KafkaConfig {
        KafkaConfig {
            brokers,
            topic,
            tls: None,
            sasl: None,
            compression: Compression::None,
            // A topic's retention counts from it: of a backlog that is older, Kafka would delete what it has just taken.
            timestamp: RecordTime::Sent,
            // A broker waits for its replicas for 30 s at most and says so then.
            timeout: Duration::from_secs(60),
        }
    }
}
