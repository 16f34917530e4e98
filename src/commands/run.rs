//! The command `run`: the agent, and the summary of a run that ends by itself.

use crate::agent::{self, Delivered, Mode, Summary};
use crate::config::Config;
use crate::exit;
use crate::telemetry::chain;
use crate::telemetry::escape::escape;
use crate::telemetry::log::LogGuard;
use std::io::{self, Write};

/// Runs the agent. Returns the exit code.
pub fn run(config: &Config, mode: Mode, log: &LogGuard) -> u8 {
    for warning in &config.warnings {
        tracing::warn!("the configuration: {warning}");
    }
    match agent::run(config, mode, log) {
        Ok(summary) => {
            if mode.once || mode.dry_run {
                // A closed stderr is not an error after the work is done.
                let _ = report(&summary, mode, &mut io::stderr().lock());
            }
            if mode.once && summary.exit_code == exit::OK { once(&summary) } else { summary.exit_code }
        }
        Err(error) => {
            tracing::error!("{}", chain(&error));
            error.exit_code()
        }
    }
}

/// The exit code of a completed single run. Refused events are reported by this run only, so they have
/// precedence. Read errors are reported by the next run again.
fn once(summary: &Summary) -> u8 {
    if summary.sinks.iter().any(|sink| sink.quarantined > 0) {
        exit::DATA
    } else if summary.sources.iter().any(|(_, read)| read.problem.is_some()) {
        exit::TRY_AGAIN
    } else {
        exit::OK
    }
}

/// Prints what was read and what was delivered.
fn report(summary: &Summary, mode: Mode, out: &mut dyn Write) -> io::Result<()> {
    for (source, read) in &summary.sources {
        for file in &read.files {
            write!(
                out,
                "{source}: read {} from {} ({} bytes)",
                records(file.records),
                escape(&file.path),
                file.bytes
            )?;
            match file.unterminated_bytes {
                0 => writeln!(out)?,
                waiting => writeln!(out, "; {waiting} bytes of an incomplete line are left")?,
            }
        }
        if let Some(api) = &read.api {
            write!(
                out,
                "{source}: read {} from {} in {} requests",
                records(api.rows - api.repeated),
                escape(&api.url),
                api.requests
            )?;
            match api.dropped {
                0 => writeln!(out)?,
                dropped => writeln!(out, "; {dropped} of the agent's own searches were dropped")?,
            }
        }
        if let Some(problem) = &read.problem {
            writeln!(out, "{source}: {}", escape(problem))?;
        } else if read.events == 0 {
            writeln!(out, "{source}: nothing is new")?;
        }
        if read.unreadable > 0 {
            writeln!(
                out,
                "{source}: {} could not be read and became `pipeline_error` events",
                records(read.unreadable)
            )?;
        }
    }
    for Delivered { sink, source, events, quarantined } in &summary.sinks {
        let verb = if mode.dry_run { "would deliver" } else { "delivered" };
        writeln!(out, "{source}: {verb} {events} event{} to {sink}", if *events == 1 { "" } else { "s" })?;
        if *quarantined > 0 {
            writeln!(
                out,
                "{source}: {quarantined} refused by {sink}; see `confluence-audit-agent quarantine list`"
            )?;
        }
    }
    Ok(())
}

fn records(count: u64) -> String {
    if count == 1 { "1 record".to_owned() } else { format!("{count} records") }
}
