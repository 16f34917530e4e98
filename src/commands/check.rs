//! The command `check`: whether the agent can work on this host, and how to fix what prevents it. It opens
//! nothing for writing.

mod admin;
mod api;
mod elasticsearch;
mod enrich;
pub(super) mod files;
mod raw_sinks;
mod report;
mod sentinel;
mod sinks;
mod splunk_hec;
mod writing;

use std::io::{self, Write};

use crate::access;
use crate::cli::{CONFIG_PATH, Options};
use crate::config::{self, Config, FileLocation, FormatKind, Product, SinkKind, SourceConfig};
use crate::credential::readable_by_others;
use crate::exit;
use report::CheckReport;

/// Prints one finding per check, and their counts. `Ok` is the exit code: 0 without failures, 78 if the
/// configuration is wrong, 75 if something on the host is not ready. `fast` checks the configuration only.
pub fn check(options: &Options, fast: bool, colour: bool, out: &mut dyn Write) -> io::Result<u8> {
    let mut report = CheckReport::new(out, colour);
    let code = findings(options, fast, &mut report)?;
    report.counts()?;
    Ok(code)
}

fn findings(options: &Options, fast: bool, report: &mut CheckReport) -> io::Result<u8> {
    let config = match config::load(options) {
        Ok(config) => config,
        Err(errors) => {
            for error in &errors.0 {
                report.failure("configuration", error)?;
            }
            return Ok(errors.exit_code());
        }
    };
    configuration(options, &config, report)?;
    user(report)?;
    for file in &config.secret_files {
        if let Some(message) = readable_by_others(file) {
            report.warning("secret", message)?;
        }
    }
    if fast {
        for source in &config.sources {
            if let Some(location) = source.files.as_ref().map(|files| &files.location) {
                report.ok(&format!("source {}", source.name), location_text(location))?;
            }
        }
        return Ok(exit::OK);
    }
    for source in &config.sources {
        source_location(source, report)?;
        protection(source, report)?;
        if let Some(config) = &source.api {
            api::check(&format!("source {}", source.name), config, report)?;
        }
    }
    admin::check(&config.admin, &config.state_dir, report)?;
    enrich::geoip(&config.enrich, report)?;
    enrich::cloud(&config.enrich, report)?;
    writing::state_dir(&config.state_dir, report)?;
    writing::quarantine(&config.state_dir, report)?;
    for sink in &config.sinks {
        let subject = format!("sink {}", sink.name);
        match &sink.kind {
            SinkKind::Stdout => report.ok(&subject, format_args!("stdout, {}", format_name(sink.format)))?,
            SinkKind::Remote(remote) => sinks::check(&subject, remote, report)?,
            SinkKind::File(file) => {
                for path in writing::outputs(file, &config.sources) {
                    writing::output(&subject, &path, sink.format, report)?;
                    writing::readers(&subject, &path, file, report)?;
                }
            }
        }
    }
    Ok(if report.failed() { exit::TRY_AGAIN } else { exit::OK })
}

fn configuration(options: &Options, config: &Config, report: &mut CheckReport) -> io::Result<()> {
    let from = match &options.config {
        Some(path) => format!("`{}`", path.display()),
        None if options.without_file() => "from options, no file read".to_string(),
        None => format!("`{CONFIG_PATH}`"),
    };
    let names = |names: Vec<&str>| names.join(", ");
    let sources = names(config.sources.iter().map(|source| source.name.as_str()).collect());
    let sinks = names(config.sinks.iter().map(|sink| sink.name.as_str()).collect());
    report.ok("configuration", format_args!("{from}; sources: {sources}; sinks: {sinks}"))?;
    for warning in &config.warnings {
        report.warning("configuration", warning)?;
    }
    Ok(())
}

/// Root may read everything, so its result does not apply to the agent's own user.
fn user(report: &mut CheckReport) -> io::Result<()> {
    let user = access::user();
    if user.uid == 0 && access::user_exists(crate::NAME) {
        let way_out = format!("run it as the agent's user: sudo -u {0} {0} check", crate::NAME);
        return report.warning("user", format_args!("running as root, which may read everything; {way_out}"));
    }
    report.ok("user", format_args!("{} (uid {})", user.name, user.uid))
}

fn source_location(source: &SourceConfig, report: &mut CheckReport) -> io::Result<()> {
    let subject = format!("source {}", source.name);
    let Some(files) = &source.files else {
        return Ok(());
    };
    let text = location_text(&files.location);
    match &files.location {
        FileLocation::Home { dir, .. } => {
            if let Err(problem) = access::reach(dir) {
                let way_out =
                    "name the right directory with `home` or `--home`; the agent waits for it meanwhile";
                return match problem {
                    access::AccessProblem::Missing(missing) => report.failure(
                        &subject,
                        format_args!("{text}: `{}` does not exist; {way_out}", missing.display()),
                    ),
                    other => report.failure(&subject, format_args!("{text}: {other}")),
                };
            }
            report.ok(&subject, text)?;
            files::home(&subject, &files.location, report)
        }
        FileLocation::Files(patterns) => {
            report.ok(&subject, text)?;
            files::matching(&subject, patterns, report)
        }
    }
}

fn location_text(location: &FileLocation) -> String {
    match location {
        FileLocation::Home { dir, found } => format!("home `{}`, {found}", dir.display()),
        FileLocation::Files(patterns) => format!("files {}", patterns.join(", ")),
    }
}

/// What can be lost with the configured inputs.
fn protection(source: &SourceConfig, report: &mut CheckReport) -> io::Result<()> {
    let what = match (&source.files, &source.api) {
        (Some(_), Some(_)) => "audit files, and the audit API for events that are not in the files",
        (Some(_), None) => {
            "audit files only: what Confluence deletes, or somebody changes, before it is read is lost, and that is logged; add `url` and a \
             token, and the audit API fills such gaps"
        }
        (None, Some(api)) if api.product == Product::DataCenter => {
            "audit API only: what Confluence does not store, or deletes before the next poll, is lost; run an agent on each node \
             with `home` to read the audit files first"
        }
        // Cloud has no other input.
        _ => return Ok(()),
    };
    report.ok(&format!("source {}", source.name), what)
}

fn format_name(format: FormatKind) -> &'static str {
    match format {
        FormatKind::Ecs => "ECS events",
        FormatKind::Raw => "raw records",
        FormatKind::Sentinel => "records for Microsoft Sentinel",
        FormatKind::Cef => "CEF events",
        FormatKind::Ocsf => "OCSF events",
    }
}
