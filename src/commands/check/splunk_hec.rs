//! Checks a Splunk HTTP Event Collector: connection, token and acknowledgement. Sends no event.

use std::io;

use super::CheckReport;
use crate::config::SplunkHecConfig;
use crate::sink::outcome::{Outcome, RequestOutcome};
use crate::sink::splunk_hec::SplunkHecSink;

pub(super) async fn check(
    subject: &str,
    config: &SplunkHecConfig,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let destination = SplunkHecSink::new(config.clone());
    let url = config.http.base.as_str().trim_end_matches('/');
    match destination.probe().await {
        // "No data" is reported after the token was checked.
        RequestOutcome::Halve { .. } | RequestOutcome::All(Outcome::Delivered) => {
            report.ok(subject, format_args!("`{url}` responds and accepts the token"))?;
        }
        RequestOutcome::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            return report.failure(subject, reason);
        }
        other => {
            return report
                .failure(subject, format_args!("the response of `{url}` is not understood: {other:?}"));
        }
    }
    if config.acknowledge.is_some() {
        match destination.probe_acknowledgement().await {
            Ok(()) => report.ok(subject, "the token has indexer acknowledgement")?,
            Err(reason) => report.failure(subject, reason)?,
        }
    }
    if let Some(index) = &config.index {
        report.ok(
            subject,
            format_args!(
                "whether the token may write to the index `{index}` is checked with the first event"
            ),
        )?;
    }
    Ok(())
}
