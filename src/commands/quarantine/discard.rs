//! `drop`.

use super::index::Index;
use super::{Failure, ended, events, open, time, unknown};
use crate::access;
use crate::cli::EventSelection;
use crate::clock;
use crate::commands::ask;
use crate::commands::output::Unread;
use crate::exit;
use crate::telemetry::escape::escape;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// Removes events for good, and writes down selection. Without `agreed` a person is asked. The exit code.
///
/// # Errors
/// Only those of `out`.
pub fn discard(
    state_dir: &Path,
    selection: &EventSelection,
    agreed: bool,
    out: &mut impl Write,
) -> io::Result<u8> {
    ended(discard_all(state_dir, selection, agreed, out))
}

fn discard_all(
    state_dir: &Path,
    selection: &EventSelection,
    agreed: bool,
    out: &mut impl Write,
) -> Result<u8, Failure> {
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
    let out = &mut Unread::new(out);
    let mut index = Index::of(&directory, selection)?;
    let ids: Vec<String> = index
        .groups
        .iter()
        .flat_map(|group| group.events.iter().map(|item| item.id.to_string()))
        .collect();
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
        writeln!(
            out,
            "{count} of source {source} that sink {sink} has not delivered"
        )?;
    }
    let question = || format!("Drop {} for good?", events(index.count()));
    if !agreed && let Some(code) = ask::refused(&question(), "nothing is dropped", out)? {
        return Ok(code);
    }
    for group in 0..index.groups.len() {
        let all: Vec<usize> = (0..index.groups[group].events.len()).collect();
        for some in all.chunks(1000) {
            // Written down first: what is gone was named.
            directory.log_dropped(&noted(&index, group, some)?)?;
            index.remove(group, some)?;
        }
    }
    writeln!(
        out,
        "dropped {}; `{}/dropped.log` says selection",
        events(ids.len() as u64),
        escape(&directory.path.display().to_string())
    )?;
    Ok(exit::OK)
}

/// A line for each of these events.
fn noted(index: &Index, group: usize, some: &[usize]) -> Result<Vec<u8>, Failure> {
    let by = match std::env::var("SUDO_USER") {
        Ok(user) => format!("{} (sudo by {user})", access::user().name),
        Err(_) => access::user().name,
    };
    let dropped = time(clock::now_ms());
    let mut lines = Vec::new();
    for at in some {
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
