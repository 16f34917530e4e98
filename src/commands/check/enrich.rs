//! Checks enrichment: GeoIP databases, and the cloud's metadata service. The agent also works without them.

use std::io;
use std::path::Path;

use super::CheckReport;
use crate::clock;

use crate::config::EnrichConfig;
use crate::enrich::{cloud, geo};
use crate::telemetry::chain;

/// MaxMind publishes twice a week, and its licence requires replacing old databases within 30 days.
const DATABASE_AGE_DAYS_MAX: i64 = 60;

pub(super) fn geoip(config: &EnrichConfig, report: &mut CheckReport) -> io::Result<()> {
    let subject = "geoip";
    if !config.geoip {
        return report.ok(subject, "turned off by `geoip = false`");
    }
    for (kind, found) in geo::find_databases(config, Path::new("/")) {
        let (key, fields) = (kind.key(), kind.fields());
        match found {
            None => report.ok(
                subject,
                format_args!(
                    "no database for `{fields}`; install it with `geoipupdate`, or name it by `{key}`"
                ),
            )?,
            Some(Err(error)) => {
                report.warning(subject, format_args!("{}; events have no `{fields}`", chain(&error)))?
            }
            Some(Ok(database)) => {
                let what = format!(
                    "`{}`, {}, built on {}, for `{fields}`",
                    database.path.display(),
                    database.database_type(),
                    geo::build_date(&database)
                );
                let built_at_s = i64::try_from(database.built_at_s()).unwrap_or(i64::MAX);
                let days = (clock::now_ms() / 1000).saturating_sub(built_at_s) / 86_400;
                if days > DATABASE_AGE_DAYS_MAX {
                    report.warning(
                        subject,
                        format_args!("{what}; that was {days} days ago: check whether `geoipupdate` runs"),
                    )?;
                } else {
                    report.ok(subject, what)?;
                }
            }
        }
    }
    Ok(())
}

pub(super) fn cloud(config: &EnrichConfig, report: &mut CheckReport) -> io::Result<()> {
    let subject = "cloud";
    if !config.cloud_metadata {
        return report.ok(subject, "turned off by `cloud_metadata = false`");
    }
    let Some((provider, service)) = cloud::detect() else {
        return report.ok(subject, "the host's firmware names no cloud, so no metadata service is used");
    };
    let name = provider.name();
    match cloud::request_with_limit(provider, &service) {
        Ok(cloud) => {
            let instance = cloud.instance_id.unwrap_or_default();
            report.ok(subject, format_args!("{name}, instance {instance}"))
        }
        Err(error) => report.warning(
            subject,
            format_args!(
                "{name}, but {}; allow access to 169.254.169.254, or set `cloud_metadata = false` in `[enrich]`",
                chain(&error)
            ),
        ),
    }
}
