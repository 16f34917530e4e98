//! The command `quarantine drop`.

use super::index::QuarantineIndex;
use super::{QuarantineFailure, events, exit_code, open, time, unknown};
use crate::access;
use crate::cli::EventSelection;
use crate::clock;
use crate::commands::confirm;
use crate::commands::output::OptionalOutput;
use crate::exit;
use crate::telemetry::escape::escape;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Removes events for good and logs them. Without `agreed` a person is asked. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn discard(
    state_dir: &Path,
    selection: &EventSelection,
    agreed: bool,
    out: &mut impl Write,
) -> io::Result<u8> {
    exit_code(discard_all(state_dir, selection, agreed, out))
}

fn discard_all(
    state_dir: &Path,
    selection: &EventSelection,
    agreed: bool,
    out: &mut impl Write,
) -> Result<u8, QuarantineFailure> {
    let directory = match open(state_dir)? {
        Ok(directory) => directory,
        Err(code) => return Ok(code),
    };
    let Some(directory) = directory else {
        if let Some(code) = unknown(&selection.id, std::iter::empty()) {
            return Ok(code);
        }
        writeln!(out, "the quarantine is empty")?;
        return Ok(exit::OK);
    };
    directory.lock()?;
    let out = &mut OptionalOutput::new(out);
    let mut index = QuarantineIndex::of(&directory, selection)?;
    let ids: Vec<String> =
        index.groups.iter().flat_map(|group| group.events.iter().map(|event| event.id.to_string())).collect();
    if let Some(code) = unknown(&selection.id, ids.iter().map(String::as_str)) {
        return Ok(code);
    }
    if index.count() == 0 {
        writeln!(out, "there is nothing to drop")?;
        return Ok(exit::OK);
    }
    for group in &index.groups {
        let (sink, source) = (escape(&group.sink), escape(&group.source));
        let count = events(group.events.len() as u64);
        writeln!(out, "{count} of source {source} that sink {sink} has not delivered")?;
    }
    let question = || format!("Drop {} for good?", events(index.count()));
    if !agreed && let Some(code) = confirm::declined(&question(), "nothing is dropped", out)? {
        return Ok(code);
    }
    for group in 0..index.groups.len() {
        let all: Vec<usize> = (0..index.groups[group].events.len()).collect();
        for chunk in all.chunks(1000) {
            // Logged before the removal, so that each removed event is in the log.
            directory.log_dropped(&log_lines(&index, group, chunk)?)?;
            index.remove(group, chunk)?;
        }
    }
    writeln!(
        out,
        "dropped {}; see `{}/dropped.log`",
        events(ids.len() as u64),
        escape(&directory.path.display().to_string())
    )?;
    Ok(exit::OK)
}

/// The log lines of these events.
fn log_lines(index: &QuarantineIndex, group: usize, chunk: &[usize]) -> Result<Vec<u8>, QuarantineFailure> {
    let by = match std::env::var("SUDO_USER") {
        Ok(user) => format!("{} (sudo by {user})", access::user().name),
        Err(_) => access::user().name,
    };
    let dropped = time(clock::now_ms());
    let mut lines = Vec::new();
    for at in chunk {
        let entry = index.entry(&index.groups[group].events[*at])?;
        let line = BTreeMap::from([
            ("dropped", dropped.clone()),
            ("by", by.clone()),
            ("id", entry.id),
            ("sink", entry.sink),
            ("source", entry.source),
            ("happened", time(entry.time_ms)),
            ("set_aside", time(entry.at_ms)),
            ("reason", entry.reason),
        ]);
        serde_json::to_writer(&mut lines, &line).map_err(io::Error::from)?;
        lines.push(b'\n');
    }
    Ok(lines)
}
