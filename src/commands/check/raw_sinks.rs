//! Checks sinks that do not use HTTP: connection, TLS and credentials.

use std::cell::RefCell;
use std::io;

use super::CheckReport;
use crate::config::{KafkaConfig, SyslogConfig, TlsConfig, Transport};
use crate::sink::kafka::{self, cluster::ConnectionSettings};
use crate::sink::outcome::Outcome;
use crate::sink::syslog::connection::Connection;
use crate::tls::Tls;

/// Connects as a run does, without sending anything.
pub(super) async fn syslog(
    subject: &str,
    config: &SyslogConfig,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let address = config.address();
    let (tls, description) = match &config.transport {
        Transport::Udp => {
            return report.warning(
                subject,
                format_args!("whether `{address}` receives datagrams is unknown: UDP loses events silently; write `transport = \"tls\"` or \"tcp\""),
            );
        }
        Transport::Tcp => (TlsConfig::default(), "accepts connections"),
        Transport::Tls(tls) => (tls.clone(), "accepts connections, and its TLS certificate is trusted"),
    };
    let tls = RefCell::new(Tls::new(&tls));
    match Connection::open(config, &tls).await {
        Ok(_) => report.ok(subject, format_args!("`{address}` {description}")),
        Err(outcome) => report.failure(subject, reason(outcome)),
    }
}

/// Connects as a run does and looks up the topic, without sending anything.
pub(super) async fn kafka(
    subject: &str,
    config: &KafkaConfig,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let ready = match ConnectionSettings::new(config).read() {
        Ok(ready) => ready,
        Err(outcome) => return report.failure(subject, reason(outcome)),
    };
    match kafka::open(ready, config).await {
        Ok(cluster) => report.ok(
            subject,
            format_args!(
                "Kafka at `{}` responds and has the topic `{}` with {} partitions",
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
