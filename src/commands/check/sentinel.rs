//! Checks Microsoft Sentinel: application, endpoint, data collection rule and role. Sends nothing that Azure
//! could store.

use std::io;

use super::CheckReport;
use crate::config::SentinelConfig;
use crate::sink::outcome::{Outcome, RequestOutcome};
use crate::sink::sentinel::SentinelSink;

pub(super) async fn check(
    subject: &str,
    config: &SentinelConfig,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let destination = SentinelSink::new(config.clone());
    match destination.authenticate().await {
        Ok(()) => report.ok(subject, "Entra ID issued a token")?,
        Err(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            return report.failure(subject, reason);
        }
        Err(other) => return report.failure(subject, format_args!("no token: {other:?}")),
    }
    let (rule, stream) = (&config.dcr_immutable_id, &config.stream);
    match destination.probe().await {
        // The invalid JSON was refused after all other checks.
        RequestOutcome::Halve { .. } => report.ok(
            subject,
            format_args!("the endpoint knows the rule `{rule}`, and the application may write to it; the stream `{stream}` is checked with the first event"),
        ),
        RequestOutcome::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            report.failure(subject, reason)
        }
        other => report.warning(
            subject,
            format_args!("the response of the endpoint to an invalid request is not understood: {other:?}"),
        ),
    }
}
