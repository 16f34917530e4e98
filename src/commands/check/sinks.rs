//! A sink's server: can it be reached, and does it know the agent. Nothing is sent that it would keep.

use std::io;

use super::{Report, elasticsearch, raw_sinks, sentinel, splunk_hec};
use crate::config::{HttpSinkConfig, PeerConfig, RemoteSinkConfig};
use crate::http::Client;
use crate::sink::outcome::server_message;
use crate::telemetry::chain;

/// Writes one line for each thing looked at.
pub fn check(subject: &str, config: &RemoteSinkConfig, report: &mut Report) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match &config.peer {
        PeerConfig::Elasticsearch(config) => runtime.block_on(elasticsearch::check(subject, config, report)),
        PeerConfig::Http(config) => runtime.block_on(http(subject, config, report)),
        PeerConfig::Kafka(config) => runtime.block_on(raw_sinks::kafka(subject, config, report)),
        PeerConfig::Syslog(config) => runtime.block_on(raw_sinks::syslog(subject, config, report)),
        PeerConfig::Sentinel(config) => runtime.block_on(sentinel::check(subject, config, report)),
        PeerConfig::SplunkHec(config) => runtime.block_on(splunk_hec::check(subject, config, report)),
    }
}

/// A receiver answers a GET with whatever it likes: that it answers is what can be learnt, and whether it knows the credentials.
async fn http(subject: &str, config: &HttpSinkConfig, report: &mut Report<'_>) -> io::Result<()> {
    let url = &config.http.base;
    match Client::new(&config.http).get(url).await {
        Ok(answer) if matches!(answer.status, 401 | 403 | 407) => {
            report.failure(subject, server_message(&answer))
        }
        Ok(answer) => report.ok(
            subject,
            format_args!(
                "a server answers (status {} to a GET); whether it takes events is known when some are sent",
                answer.status
            ),
        ),
        Err(error) => report.failure(subject, chain(&error)),
    }
}
