//! `type = "kafka"`.

use super::remote::{COMPRESSIONS, RemoteKeys};
use super::syslog::host_port;
use super::{Context, SEC};
use crate::config::file::credentials;
use crate::config::file::http::{TLS_KEYS, tls};
use crate::config::raw::Table;
use crate::config::typed::keys;
use crate::config::words::ensure;
use crate::config::{DestinationConfig, KafkaConfig, RecordTime, SaslConfig, SaslMechanism};

const BROKER: &str = "kafka1.example.com:9093";
const TOPIC: &str = "confluence-audit";

const MECHANISMS: [(&str, SaslMechanism); 3] = [
    ("plain", SaslMechanism::Plain),
    ("scram-sha-256", SaslMechanism::ScramSha256),
    ("scram-sha-512", SaslMechanism::ScramSha512),
];

const TIMES: [(&str, RecordTime); 2] = [("sent", RecordTime::Sent), ("event", RecordTime::Event)];

pub(super) fn read(table: &mut Table, _: &Context, _: &RemoteKeys) -> Option<DestinationConfig> {
    let brokers = brokers(table);
    let topic = table.required("topic", TOPIC, |topic| check_topic(topic).map(|()| topic.to_owned()));
    let complete = brokers.is_some() && topic.is_some();
    let mut config = KafkaConfig::new(brokers.unwrap_or_default(), topic.unwrap_or_default());
    let mut with_tls = false;
    table.flag("tls", &mut with_tls);
    config.tls = Some(tls(table)).filter(|_| with_tls);
    if !with_tls && !table.has_like("tls") {
        table.refuse(&TLS_KEYS, "is for TLS; write `tls = true`, or remove it");
    }
    config.sasl = sasl(table);
    keys!(table, config;
        choice compression(&COMPRESSIONS);
        choice timestamp(&TIMES);
        duration timeout(SEC..=3600 * SEC);
    );
    warn_clear_text(table, &config);
    complete.then_some(DestinationConfig::Kafka(config))
}

fn brokers(table: &mut Table) -> Option<Vec<String>> {
    let typed = table.texts("brokers", BROKER);
    table.require("brokers", &format!("[\"{BROKER}\"]"));
    let typed = typed?;
    if typed.is_empty() {
        table.error("brokers", format!("is missing; add `brokers = [\"{BROKER}\"]`"));
    }
    let broker = |text: &String| match host_port(text, BROKER)? {
        (host, _) if host.contains(':') => Err(format!(
            "`{text}` is an IPv6 address, which Kafka's brokers cannot be reached by here; write a name"
        )),
        (host, port) => Ok(format!("{host}:{port}")),
    };
    let mut brokers = Vec::new();
    for result in typed.iter().map(broker) {
        match result {
            Ok(broker) => brokers.push(broker),
            Err(message) => table.error("brokers", message),
        }
    }
    Some(brokers)
}

/// Kafka's own rule.
fn check_topic(topic: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let good = topic.len() <= 249 && topic.bytes().all(fits) && topic != "." && topic != "..";
    let message =
        format!("`{topic}` cannot be a topic; write at most 249 of a-z, A-Z, 0-9, `.`, `_` and `-`");
    ensure(good, message)
}

fn sasl(table: &mut Table) -> Option<SaslConfig> {
    let mechanism = table.word("sasl", &MECHANISMS);
    let pair = credentials::pair(table);
    if !table.had("user") && !table.had("password") && !table.has_like("user") {
        let message = "needs credentials; add `user = \"…\"` and `password = { file = \"/path\" }`";
        table.refuse(&["sasl"], message);
    }
    if !table.had("sasl") && !table.has_like("sasl") {
        let message = "needs `sasl`, the way in which Kafka receives it; add `sasl = \"scram-sha-512\"`, or what the brokers offer";
        table.refuse(&["user"], message);
    }
    let ((user, password), mechanism) = (pair?, mechanism?);
    Some(SaslConfig { mechanism, user, password })
}

fn warn_clear_text(table: &Table, config: &KafkaConfig) {
    let local = |broker: &String| broker.starts_with("localhost:") || broker.starts_with("127.");
    if config.sasl.is_some() && config.tls.is_none() && !config.brokers.iter().all(local) {
        let message = "is sent without TLS: who listens on the way learns the password, or enough to guess it; write `tls = true`";
        table.warn(&["sasl"], message);
    }
}
