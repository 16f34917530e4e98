//! Sinks that do not speak HTTP: can they be reached, is their TLS trusted, do they take the credentials.

use std::cell::RefCell;
use std::io;

use super::Report;
use crate::config::{KafkaConfig, SyslogConfig, TlsConfig, Transport};
use crate::sink::kafka::{self, cluster::ConnectionSettings};
use crate::sink::outcome::Outcome;
use crate::sink::syslog::connection::Connection;
use crate::tls::Tls;

/// Connects as a run does; sends nothing.
pub async fn syslog(subject: &str, config: &SyslogConfig, report: &mut Report<'_>) -> io::Result<()> {
    let address = config.address();
    let (tls, over) = match &config.transport {
        Transport::Udp => {
            return report.warning(
                subject,
                format_args!("whether `{address}` receives datagrams cannot be known: UDP loses events without anyone knowing; write `transport = \"tls\"` or \"tcp\""),
            );
        }
        Transport::Tcp => (TlsConfig::default(), "accepts connections"),
        Transport::Tls(tls) => (
            tls.clone(),
            "accepts connections, and its TLS certificate is trusted",
        ),
    };
    let tls = RefCell::new(Tls::new(&tls));
    match Connection::open(config, &tls).await {
        Ok(_) => report.ok(subject, format_args!("`{address}` {over}")),
        Err(outcome) => report.failure(subject, reason(outcome)),
    }
}

/// Connects as a run does and looks for the topic; sends nothing.
pub async fn kafka(subject: &str, config: &KafkaConfig, report: &mut Report<'_>) -> io::Result<()> {
    let ready = match ConnectionSettings::new(config).read() {
        Ok(ready) => ready,
        Err(outcome) => return report.failure(subject, reason(outcome)),
    };
    match kafka::open(ready, config).await {
        Ok(cluster) => report.ok(
            subject,
            format_args!(
                "Kafka at `{}` answers and has the topic `{}` with {} partitions",
                config.brokers.join(", "),
                config.topic,
                cluster.partitions()
            ),
        ),
        Err(outcome) => report.failure(subject, reason(outcome)),
    }
}

fn reason(outcome: Outcome) -> String {
    match outcome {
        Outcome::Retry { reason, .. }
        | Outcome::Poison { reason }
        | Outcome::TooLarge { reason }
        | Outcome::Misconfigured { reason } => reason,
        Outcome::Delivered | Outcome::Duplicate => String::new(),
    }
}
