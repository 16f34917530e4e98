//! `type = "kafka"`.

use super::SEC;
use super::remote::compression;
use super::syslog::host_port;
use crate::config::file::credentials;
use crate::config::file::http::{TLS_KEYS, tls};
use crate::config::raw::Table;
use crate::config::{KafkaConfig, PeerConfig, RecordTime, SaslConfig, SaslMechanism};

const BROKER: &str = "kafka1.example.com:9093";
const TOPIC: &str = "confluence-audit";

const MECHANISMS: [(&str, SaslMechanism); 3] = [
    ("plain", SaslMechanism::Plain),
    ("scram-sha-256", SaslMechanism::ScramSha256),
    ("scram-sha-512", SaslMechanism::ScramSha512),
];

const TIMES: [(&str, RecordTime); 2] = [("sent", RecordTime::Sent), ("event", RecordTime::Event)];

pub fn read(table: &mut Table) -> Option<PeerConfig> {
    let brokers = brokers(table);
    let topic = table
        .required_text("topic", TOPIC)
        .and_then(|topic| topic.check(|topic| check_topic(topic)));
    let complete = brokers.is_some() && topic.is_some();
    let topic = topic.map(|topic| topic.value);
    let mut config = KafkaConfig::new(brokers.unwrap_or_default(), topic.unwrap_or_default());
    let mut with_tls = false;
    table.flag("tls", &mut with_tls);
    config.tls = Some(tls(table)).filter(|_| with_tls);
    if !with_tls && !table.has_like("tls") {
        table.refuse(&TLS_KEYS, "is for TLS; write `tls = true`, or remove it");
    }
    config.sasl = sasl(table);
    compression(table, &mut config.compression);
    table.choice("timestamp", &TIMES, &mut config.timestamp);
    table.duration("timeout", SEC..=3600 * SEC, &mut config.timeout);
    warn_clear_text(table, &config);
    complete.then_some(PeerConfig::Kafka(config))
}

fn brokers(table: &mut Table) -> Option<Vec<String>> {
    let found = table.texts("brokers", BROKER);
    table.require("brokers", &format!("[\"{BROKER}\"]"));
    let found = found?;
    if found.value.is_empty() {
        found.error(format!("is missing; add `brokers = [\"{BROKER}\"]`"));
        return None;
    }
    let mut brokers = Vec::new();
    for broker in &found.value {
        match host_port(broker, BROKER) {
            Ok((host, _)) if host.contains(':') => found.error(format!(
                "`{broker}` is an IPv6 address, which Kafka's brokers cannot be reached by here; write a name"
            )),
            Ok((host, port)) => brokers.push(format!("{host}:{port}")),
            Err(message) => found.error(message),
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

fn sasl(table: &mut Table) -> Option<SaslConfig> {
    let mechanism = table.word("sasl", &MECHANISMS);
    let pair = credentials::pair(table);
    if !table.had("user") && !table.had("password") && !table.has_like("user") {
        let message =
            "has no credentials beside it; add `user = \"…\"` and `password = { file = \"/path\" }`";
        table.refuse(&["sasl"], message);
    }
    if !table.had("sasl") && !table.has_like("sasl") {
        let message = "has no `sasl` beside it, which says how Kafka is told it; add `sasl = \"scram-sha-512\"`, or what the brokers offer";
        table.refuse(&["user"], message);
    }
    let ((user, password), mechanism) = (pair?, mechanism?.value);
    Some(SaslConfig {
        mechanism,
        user,
        password,
    })
}

fn warn_clear_text(table: &Table, config: &KafkaConfig) {
    let local = |broker: &String| broker.starts_with("localhost:") || broker.starts_with("127.");
    if config.sasl.is_some() && config.tls.is_none() && !config.brokers.iter().all(local) {
        let message = "is sent without TLS: who listens on the way learns the password, or enough to guess it; write `tls = true`";
        table.warn(&["sasl"], message);
    }
}
