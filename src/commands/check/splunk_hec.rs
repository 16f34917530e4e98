//! A Splunk HTTP Event Collector: does it answer, does it know the token, does it acknowledge. Sends no event.

use std::io;

use super::Report;
use crate::config::SplunkHecConfig;
use crate::sink::outcome::{Outcome, RequestOutcome};
use crate::sink::splunk_hec::SplunkHecSink;

pub async fn check(subject: &str, config: &SplunkHecConfig, report: &mut Report<'_>) -> io::Result<()> {
    let peer = SplunkHecSink::new(config.clone());
    let url = config.http.base.as_str().trim_end_matches('/');
    match peer.probe().await {
        // "No data": it has looked at the token before.
        RequestOutcome::Halve { .. } | RequestOutcome::All(Outcome::Delivered) => {
            report.ok(subject, format_args!("`{url}` answers and accepts the token"))?;
        }
        RequestOutcome::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            return report.failure(subject, reason);
        }
        other => {
            return report.failure(
                subject,
                format_args!("`{url}` answers with what is not understood: {other:?}"),
            );
        }
    }
    if config.acknowledge.is_some() {
        match peer.probe_acknowledgement().await {
            Ok(()) => report.ok(subject, "the token has indexer acknowledgement")?,
            Err(reason) => report.failure(subject, reason)?,
        }
    }
    if let Some(index) = &config.index {
        report.ok(
            subject,
            format_args!("whether the token may write into the index `{index}` shows with the first event"),
        )?;
    }
    Ok(())
}
