//! The commands `quarantine list`, `show`, `replay` and `drop`.

mod discard;
mod index;
mod print;
mod replay;

pub use discard::discard;
pub use print::{list, show};
pub use replay::replay;

use super::output::print_error;
use crate::cli::EventSelection;
use crate::exit;
use crate::quarantine::{Entry, QuarantineDirectory, QuarantineError};
use crate::telemetry::chain;
use std::io;
use std::path::Path;

/// Why a command stops early.
#[derive(Debug, thiserror::Error)]
pub enum QuarantineFailure {
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    /// Standard output cannot be written.
    #[error(transparent)]
    Output(#[from] io::Error),
}

/// The exit code, or the error of standard output. Other errors are printed to standard error.
fn exit_code(result: Result<u8, QuarantineFailure>) -> io::Result<u8> {
    match result {
        Ok(code) => Ok(code),
        Err(QuarantineFailure::Output(error)) => Err(error),
        Err(QuarantineFailure::Quarantine(error)) => {
            print_error(&chain(&error));
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// Calls `with` for each selected entry, oldest first, duplicates included. Lines that are not entries are
/// reported and kept. Returns their number.
fn each(
    directory: &QuarantineDirectory,
    selection: &EventSelection,
    with: &mut dyn FnMut(QuarantinePosition, Entry) -> Result<(), QuarantineFailure>,
) -> Result<u64, QuarantineFailure> {
    let files = directory.files()?;
    for name in &files.not_regular {
        let path = directory.path.join(name);
        print_error(&format!("`{}` is not a regular file; it is ignored", path.display()));
    }
    for (name, error) in &files.failed {
        let path = directory.path.join(name);
        print_error(&format!("`{}` cannot be examined: {error}; it is ignored", path.display()));
    }
    let mut damaged = 0;
    for name in &files.names {
        let mut first = None;
        let mut of_file = 0;
        directory.read(name, &mut |line| match line.entry {
            Ok(entry) if is_selected(&entry, selection) => {
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
            print_error(&format!(
                "`{}` is damaged and is kept: {} not readable, the first at byte {at}: {reason}",
                directory.path.join(name).display(),
                counted(of_file, "line is", "lines are")
            ));
        }
    }
    Ok(damaged)
}

/// The position of an entry.
struct QuarantinePosition<'a> {
    name: &'a std::ffi::OsStr,
    range: std::ops::Range<u64>,
}

fn is_selected(entry: &Entry, selection: &EventSelection) -> bool {
    let EventSelection { sink, source, id } = selection;
    sink.as_ref().is_none_or(|sink| *sink == entry.sink)
        && source.as_ref().is_none_or(|source| *source == entry.source)
        && (id.is_empty() || id.iter().any(|id| entry.id.starts_with(id.as_str())))
}

/// Reports requested ids that are missing or ambiguous. Returns the exit code in that case.
fn unknown<'a>(asked: &[String], found: impl Iterator<Item = &'a str>) -> Option<u8> {
    let found: std::collections::BTreeSet<&str> = found.collect();
    let mut code = None;
    for id in asked {
        let matching = found.iter().filter(|found| found.starts_with(id.as_str())).count();
        if matching == 1 {
            continue;
        }
        print_error(&match matching {
            0 => {
                format!("there is no event `{id}` in quarantine; `quarantine list` prints the existing ones")
            }
            many => format!("`{id}` is the beginning of {many} events' ids; use more characters"),
        });
        code = Some(exit::CONFIG);
    }
    code
}

/// Opens the quarantine below a state directory that must exist. The inner `Err` is the exit code after a
/// refusal.
fn open(state_dir: &Path) -> Result<Result<Option<QuarantineDirectory>, u8>, QuarantineFailure> {
    if !state_dir.exists() && state_dir.parent().is_some_and(Path::exists) {
        print_error(&format!("there is no state directory `{}`", state_dir.display()));
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

/// The time in UTC, in seconds.
fn time(at_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(at_ms)
        .map_or_else(|_| at_ms.to_string(), |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
