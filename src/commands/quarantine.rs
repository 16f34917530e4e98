//! `quarantine list`, `show`, `replay`, `drop`: events that a server refuses, in a person's hands.

mod discard;
mod index;
mod print;
mod replay;

pub use discard::discard;
pub use print::{list, show};
pub use replay::replay;

use super::output::complain;
use crate::cli::EventSelection;
use crate::exit;
use crate::quarantine::{Entry, QuarantineDirectory, QuarantineError};
use crate::telemetry::chain;
use std::io;
use std::path::Path;

/// Why a command ends early.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// Of standard output.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// The exit code, or what went wrong with standard output; everything else has been told on standard error.
fn ended(result: Result<u8, Failure>) -> io::Result<u8> {
    match result {
        Ok(code) => Ok(code),
        Err(Failure::Output(error)) => Err(error),
        Err(Failure::Quarantine(error)) => {
            complain(&chain(&error));
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// Goes through the entries that are asked for, oldest first, those that stand there twice twice. What is no entry is told
/// and left. Returns how many lines were none.
fn each(
    directory: &QuarantineDirectory,
    selection: &EventSelection,
    with: &mut dyn FnMut(QuarantinePosition, Entry) -> Result<(), Failure>,
) -> Result<u64, Failure> {
    let files = directory.files()?;
    for name in &files.not_regular {
        let path = directory.path.join(name);
        complain(&format!(
            "`{}` is not a regular file; it is ignored",
            path.display()
        ));
    }
    for (name, error) in &files.failed {
        let path = directory.path.join(name);
        complain(&format!(
            "`{}` cannot be looked at: {error}; it is left alone",
            path.display()
        ));
    }
    let mut damaged = 0;
    for name in &files.names {
        let mut first = None;
        let mut of_file = 0;
        directory.read(name, &mut |line| match line.entry {
            Ok(entry) if is_of(&entry, selection) => {
                let range = line.range;
                with(QuarantinePosition { name, range }, entry)
            }
            Ok(_) => Ok(()),
            Err(reason) => {
                of_file += 1;
                first.get_or_insert((line.range.start, reason));
                Ok(())
            }
        })?;
        if let Some((at, reason)) = first {
            damaged += of_file;
            complain(&format!(
                "`{}` is damaged and is kept: {} no entry, the first at byte {at}: {reason}",
                directory.path.join(name).display(),
                counted(of_file, "line is", "lines are")
            ));
        }
    }
    Ok(damaged)
}

/// Where an entry stands.
struct QuarantinePosition<'a> {
    name: &'a std::ffi::OsStr,
    range: std::ops::Range<u64>,
}

fn is_of(entry: &Entry, selection: &EventSelection) -> bool {
    let EventSelection { sink, source, id } = selection;
    sink.as_ref().is_none_or(|sink| *sink == entry.sink)
        && source.as_ref().is_none_or(|source| *source == entry.source)
        && (id.is_empty() || id.iter().any(|id| entry.id.starts_with(id.as_str())))
}

/// Says selection of the ids that were asked for are not there, or are the beginning of more than one. The exit code if there is one.
fn unknown<'a>(asked: &[String], found: impl Iterator<Item = &'a str>) -> Option<u8> {
    let found: std::collections::BTreeSet<&str> = found.collect();
    let mut code = None;
    for id in asked {
        let matching = found
            .iter()
            .filter(|found| found.starts_with(id.as_str()))
            .count();
        if matching == 1 {
            continue;
        }
        complain(&match matching {
            0 => format!("there is no event `{id}` in quarantine; `quarantine list` has those that are"),
            many => format!("`{id}` is the beginning of {many} events' ids; give more of it"),
        });
        code = Some(exit::CONFIG);
    }
    code
}

/// The quarantine below a state directory that must be there; `Err`: the exit code after a refusal.
fn open(state_dir: &Path) -> Result<Result<Option<QuarantineDirectory>, u8>, Failure> {
    if !state_dir.exists() && state_dir.parent().is_some_and(Path::exists) {
        complain(&format!("there is no state directory `{}`", state_dir.display()));
        return Ok(Err(exit::TRY_AGAIN));
    }
    Ok(Ok(QuarantineDirectory::open(state_dir)?))
}

fn counted(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    }
}

fn events(count: u64) -> String {
    counted(count, "event", "events")
}

/// In UTC, to the second.
fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms).map_or_else(
        |_| at_ms.to_string(),
        |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}
