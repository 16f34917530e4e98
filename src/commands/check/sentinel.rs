//! Microsoft SentinelSink: tells application, endpoint, data collection rule, stream and role apart. Sends nothing that Azure could
//! store.

use std::io;

use super::Report;
use crate::config::SentinelConfig;
use crate::sink::outcome::{Outcome, RequestOutcome};
use crate::sink::sentinel::SentinelSink;

pub async fn check(subject: &str, config: &SentinelConfig, report: &mut Report<'_>) -> io::Result<()> {
    let peer = SentinelSink::new(config.clone());
    match peer.authenticate().await {
        Ok(()) => report.ok(subject, "Entra ID gives a token")?,
        Err(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            return report.failure(subject, reason);
        }
        Err(other) => return report.failure(subject, format_args!("no token: {other:?}")),
    }
    let (rule, stream) = (&config.dcr_immutable_id, &config.stream);
    match peer.probe().await {
        // It was refused as the broken array that it is, after all else had been looked at.
        RequestOutcome::Halve { .. } => report.ok(
            subject,
            format_args!("the endpoint knows the rule `{rule}`, and the application may write to it; its stream `{stream}` is proved by the first event"),
        ),
        RequestOutcome::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
            report.failure(subject, reason)
        }
        other => report.warning(
            subject,
            format_args!("the endpoint answers a broken request with what is not understood: {other:?}"),
        ),
    }
}
