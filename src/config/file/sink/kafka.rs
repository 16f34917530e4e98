//! `type = "kafka"`.

use std::time::Duration;

use super::remote::compression;
use super::set;
use super::syslog::{host_port, required};
use crate::config::file::credentials;
use crate::config::file::http::tls;
use crate::config::raw::{Problems, Table};
use crate::config::{Compression, KafkaConfig, RecordTime, RemoteSinkConfig, SaslConfig, SaslMechanism};

pub const KEYS: [&str; 13] = [
    "brokers",
    "topic",
    "sasl",
    "user",
    "password",
    "tls",
    "ca_file",
    "client_certificate",
    "client_key",
    "tls_version_min",
    "compression",
    "timestamp",
    "timeout",
];

const BROKER: &str = "kafka1.example.com:9093";
const TOPIC: &str = "confluence-audit";

const MECHANISMS: [(&str, SaslMechanism); 3] = [
    ("plain", SaslMechanism::Plain),
    ("scram-sha-256", SaslMechanism::ScramSha256),
    ("scram-sha-512", SaslMechanism::ScramSha512),
];

const TIMES: [(&str, RecordTime); 2] = [("sent", RecordTime::Sent), ("event", RecordTime::Event)];

pub fn table(table: &mut Table, problems: &mut Problems) -> Option<KafkaConfig> {
    let brokers = brokers(table, problems);
    let topic = required(table, "topic", TOPIC, problems);
    let topic = topic.and_then(|topic| match check_topic(&topic.value) {
        Ok(()) => Some(topic.value),
        Err(message) => {
            problems.add(&topic.span, topic.key, message);
            None
        }
    });
    let with_tls = table.flag("tls", problems);
    let tls = tls(table, problems);
    if with_tls != Some(true) && !table.has_like("tls") {
        for key in ["ca_file", "client_certificate", "client_key", "tls_version_min"] {
            if let Some(span) = table.place_of(key) {
                let message = "is for TLS; write `tls = true`, or remove it";
                problems.add(span, table.key(key), message);
            }
        }
    }
    let sasl = sasl(table, problems);
    let compression = compression(table, Compression::None, problems);
    let timestamp = table.choice("timestamp", &TIMES, &[], problems);
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let timeout = table.duration("timeout", range, problems);
    let mut config = KafkaConfig::new(brokers?, topic?);
    config.tls = (with_tls == Some(true)).then_some(tls);
    config.sasl = sasl;
    config.compression = compression;
    set(&mut config.timestamp, timestamp.map(|found| found.value));
    set(&mut config.timeout, timeout);
    warn_clear_text(table, &config, problems);
    Some(config)
}

/// The default in which it is unlike other sinks.
pub fn remote(mut config: RemoteSinkConfig) -> RemoteSinkConfig {
    config.batch.bytes = KafkaConfig::BATCH_BYTES;
    config
}

fn brokers(table: &mut Table, problems: &mut Problems) -> Option<Vec<String>> {
    let found = table.texts("brokers", BROKER, problems);
    let missing = found.is_none() && !table.had("brokers") && !table.has_like("brokers");
    if missing || found.as_ref().is_some_and(|found| found.value.is_empty()) {
        let message = format!("is missing; add `brokers = [\"{BROKER}\"]`");
        let span = table.place_of("brokers").unwrap_or(&table.span).clone();
        problems.add(&span, table.key("brokers"), message);
        return None;
    }
    let found = found?;
    let mut brokers = Vec::new();
    for broker in &found.value {
        match host_port(broker, BROKER) {
            Ok((host, _)) if host.contains(':') => {
                let message = format!(
                    "`{broker}` is an IPv6 address, which Kafka's brokers cannot be reached by here; write a name"
                );
                problems.add(&found.span, found.key.clone(), message);
            }
            Ok((host, port)) => brokers.push(format!("{host}:{port}")),
            Err(message) => problems.add(&found.span, found.key.clone(), message),
        }
    }
    (brokers.len() == found.value.len()).then_some(brokers)
}

/// Kafka's own rule.
fn check_topic(topic: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if topic.len() <= 249 && topic.bytes().all(fits) && topic != "." && topic != ".." {
        return Ok(());
    }
    Err(format!(
        "`{topic}` cannot be a topic; write at most 249 of a-z, A-Z, 0-9, `.`, `_` and `-`"
    ))
}

fn sasl(table: &mut Table, problems: &mut Problems) -> Option<SaslConfig> {
    let mechanism = table.choice("sasl", &MECHANISMS, &[], problems);
    let pair = credentials::pair(table, problems);
    if table.had("sasl") && !table.had("user") && !table.had("password") && !table.has_like("user") {
        let message =
            "has no credentials beside it; add `user = \"…\"` and `password = { file = \"/path\" }`";
        if let Some(span) = table.place_of("sasl") {
            problems.add(span, table.key("sasl"), message);
        }
    }
    if let (Some(span), false) = (
        table.place_of("user"),
        table.had("sasl") || table.has_like("sasl"),
    ) {
        let message = "has no `sasl` beside it, which says how Kafka is told it; add `sasl = \"scram-sha-512\"`, or what the brokers offer";
        problems.add(span, table.key("user"), message);
    }
    let ((user, password), mechanism) = (pair?, mechanism?.value);
    Some(SaslConfig {
        mechanism,
        user,
        password,
    })
}

fn warn_clear_text(table: &Table, config: &KafkaConfig, problems: &mut Problems) {
    let local = |broker: &String| {
        ["localhost:", "127."]
            .iter()
            .any(|local| broker.starts_with(local))
    };
    if let (Some(_), None, Some(span)) = (&config.sasl, &config.tls, table.place_of("sasl"))
        && !config.brokers.iter().all(local)
    {
        let message = "is sent without TLS: who listens on the way learns the password, or enough to guess it; write `tls = true`";
        problems.warn(span, table.key("sasl"), message);
    }
}
