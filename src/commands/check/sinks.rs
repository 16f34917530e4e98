//! Checks the server of a sink: connection and credentials. Sends nothing that it would store.

use std::io;

use super::{CheckReport, elasticsearch, raw_sinks, sentinel, splunk_hec};
use crate::config::{DestinationConfig, HttpSinkConfig, RemoteSinkConfig};
use crate::http::Client;
use crate::sink::outcome::server_message;
use crate::telemetry::chain;

/// Prints one line per check.
pub(super) fn check(subject: &str, config: &RemoteSinkConfig, report: &mut CheckReport) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &config.destination {
        DestinationConfig::Elasticsearch(config) => {
            runtime.block_on(elasticsearch::check(subject, config, report))
        }
        DestinationConfig::Http(config) => runtime.block_on(http(subject, config, report)),
        DestinationConfig::Kafka(config) => runtime.block_on(raw_sinks::kafka(subject, config, report)),
        DestinationConfig::Syslog(config) => runtime.block_on(raw_sinks::syslog(subject, config, report)),
        DestinationConfig::Sentinel(config) => runtime.block_on(sentinel::check(subject, config, report)),
        DestinationConfig::SplunkHec(config) => runtime.block_on(splunk_hec::check(subject, config, report)),
    }
}

/// Checks that the receiver responds to a GET and does not refuse the credentials. Any other status is
/// accepted.
async fn http(subject: &str, config: &HttpSinkConfig, report: &mut CheckReport<'_>) -> io::Result<()> {
    let url = &config.http.base;
    match Client::new(&config.http).get(url).await {
        Ok(answer) if matches!(answer.status, 401 | 403 | 407) => {
            report.failure(subject, server_message(&answer))
        }
        Ok(answer) => report.ok(
            subject,
            format_args!(
                "a server responds (status {} to a GET); whether it accepts events is checked with the first ones",
                answer.status
            ),
        ),
        Err(error) => report.failure(subject, chain(&error)),
    }
}
