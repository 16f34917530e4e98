//! The commands `ledger key`, `ledger show` and `ledger export`.

use super::check::files::human_size;
use super::findings::{counted, number, time};
use super::lookup::{self, Ledgers, StoredCheckpoint, checkpoints};
use super::output::print_error;
use super::progress::Progress;
use crate::cli::{LedgerExport, LedgerShow};
use crate::evidence::ledgers::{LedgerError, SourceLedger};
use crate::exit;
use crate::ledger::{self, ExportError, Verifier, key};
use crate::telemetry::chain;
use crate::telemetry::escape::{escape, escape_path};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

const ENTRY_BYTES: u64 = 80;
/// Entries at each end of a ledger that are read for their times.
const TIMED_ENTRIES: u64 = 256;

/// Prints the verifier key. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn key(state_dir: &Path, as_json: bool, out: &mut impl Write) -> io::Result<u8> {
    let published = match key::published(state_dir) {
        Ok(published) => published,
        Err(source) => {
            return Ok(lookup::refuse(&LedgerError::Read { path: state_dir.to_owned(), source }));
        }
    };
    let Some((current, earlier)) = published.split_last() else {
        print_error(&format!(
            "there is no key in `{}` yet; the agent makes it at its first start",
            state_dir.display()
        ));
        return Ok(exit::TRY_AGAIN);
    };
    if as_json {
        let earlier: Vec<String> = earlier.iter().map(Verifier::to_string).collect();
        writeln!(out, "{}", json!({"key": current.to_string(), "earlier": earlier}))?;
        return Ok(exit::OK);
    }
    if !earlier.is_empty() {
        writeln!(out, "earlier keys, which signed older checkpoints:")?;
        for key in earlier {
            writeln!(out, "  {key}")?;
        }
        writeln!(out, "the key that is in use:")?;
    }
    writeln!(out, "{current}")?;
    Ok(exit::OK)
}

/// Prints which ledgers there are. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn show(args: &LedgerShow, out: &mut impl Write) -> io::Result<u8> {
    let Ledgers { ledgers, keys, .. } = match lookup::open(&args.location) {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    for (at, ledger) in ledgers.iter().enumerate() {
        let overview = match Overview::read(ledger, &keys) {
            Ok(overview) => overview,
            Err(source) => {
                return Ok(lookup::refuse(&LedgerError::Read { path: ledger.dir.clone(), source }));
            }
        };
        if args.json {
            writeln!(out, "{}", overview.json())?;
        } else {
            if at > 0 {
                writeln!(out)?;
            }
            overview.print(out)?;
        }
    }
    Ok(exit::OK)
}

struct Overview<'a> {
    ledger: &'a SourceLedger,
    /// Times of events among its first and its last entries.
    times: Option<(i64, i64)>,
    count: usize,
    last: Option<StoredCheckpoint>,
    signed_by: Option<String>,
}

impl Overview<'_> {
    fn read<'a>(ledger: &'a SourceLedger, keys: &[Verifier]) -> io::Result<Overview<'a>> {
        let kept = ledger.kept();
        let first = kept.start..kept.end.min(kept.start + TIMED_ENTRIES);
        let last = first.end.max(kept.end.saturating_sub(TIMED_ENTRIES))..kept.end;
        let mut times: Option<(i64, i64)> = None;
        for entry in ledger.reader.entries(first).chain(ledger.reader.entries(last)) {
            if let Some(entry) = entry?.1.filter(|entry| entry.flags & ledger::NO_TIME == 0) {
                let (oldest, newest) = times.get_or_insert((entry.time_ms, entry.time_ms));
                (*oldest, *newest) = (entry.time_ms.min(*oldest), entry.time_ms.max(*newest));
            }
        }
        let mut stored = checkpoints(ledger)?;
        let (count, last) = (stored.len(), stored.pop());
        let signed_by = last.as_ref().and_then(|last| last.signed_by(keys));
        Ok(Overview { ledger, times, count, last, signed_by })
    }

    fn json(&self) -> serde_json::Value {
        let kept = self.ledger.kept();
        let last = self.last.as_ref().map(|last| {
            json!({
                "origin": last.checkpoint.origin,
                "size": last.checkpoint.size,
                "root": STANDARD.encode(last.checkpoint.root),
                "signed_by": self.signed_by,
            })
        });
        json!({
            "source": self.ledger.source,
            "directory": self.ledger.dir.display().to_string(),
            "first": kept.start,
            "size": kept.end,
            "oldest": self.times.map(|(oldest, _)| time(oldest)),
            "newest": self.times.map(|(_, newest)| time(newest)),
            "checkpoints": self.count,
            "checkpoint": last,
        })
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let kept = self.ledger.kept();
        let entries = kept.end - kept.start;
        writeln!(out, "ledger of source {}", escape(&self.ledger.source))?;
        writeln!(out, "  directory   {}", escape_path(&self.ledger.dir))?;
        let size = human_size(entries * ENTRY_BYTES);
        writeln!(out, "  entries     {}, {size}", counted(entries, "entry", "entries"))?;
        if kept.start > 0 {
            writeln!(out, "  dropped     entries 0 to {}, by retention", number(kept.start - 1))?;
        }
        if let Some((oldest, newest)) = self.times {
            writeln!(out, "  events      {} to {}", time(oldest), time(newest))?;
        }
        let Some(last) = &self.last else {
            writeln!(out, "  checkpoint  none yet; the agent signs at intervals and when it stops")?;
            return Ok(());
        };
        let size = counted(last.checkpoint.size, "entry", "entries");
        writeln!(out, "  checkpoint  {} of {}, with {size}", last.number, self.count)?;
        let by = self.signed_by.as_deref().unwrap_or("no key that is known here; see `verify --key`");
        writeln!(out, "  signed by   {}", escape(by))?;
        writeln!(out, "  origin      {}", escape(&last.checkpoint.origin))?;
        writeln!(out, "  root        {}", STANDARD.encode(last.checkpoint.root))?;
        match kept.end.saturating_sub(last.checkpoint.size) {
            0 => Ok(()),
            1 => writeln!(out, "  not signed  the last entry"),
            later => writeln!(out, "  not signed  the last {} entries", number(later)),
        }
    }
}

/// Writes ledgers as tiles. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn export(args: &LedgerExport, out: &mut impl Write) -> io::Result<u8> {
    let ledgers = match lookup::open(&args.location) {
        Ok(opened) => opened.ledgers,
        Err(code) => return Ok(code),
    };
    let mut code = exit::OK;
    for ledger in &ledgers {
        let dir = match (ledgers.len(), ledger.dir.file_name()) {
            (2.., Some(name)) => args.dir.join(name),
            _ => args.dir.clone(),
        };
        let kept = ledger.kept();
        let mut progress = Progress::new("exporting the ledger", (kept.end - kept.start) * ENTRY_BYTES);
        let mut reached = kept.start;
        let exported = ledger::export(&ledger.reader, &dir, &mut |entry| {
            progress.add((entry - reached) * ENTRY_BYTES);
            reached = entry;
        });
        progress.finish();
        let exported = match exported {
            Ok(exported) => exported,
            Err(error) => {
                print_error(&format!("source `{}`: {}", ledger.source, chain(&error)));
                code = code.max(exit_code(&error));
                continue;
            }
        };
        let size = exported.checkpoint.size;
        if args.json {
            let line = json!({
                "source": ledger.source,
                "directory": dir.display().to_string(),
                "origin": exported.checkpoint.origin,
                "first": exported.first,
                "size": size,
                "checkpoints": exported.checkpoints,
            });
            writeln!(out, "{line}")?;
        } else {
            let (entries, checkpoints) = (
                counted(size - exported.first, "entry", "entries"),
                counted(exported.checkpoints as u64, "checkpoint", "checkpoints"),
            );
            let source = escape(&ledger.source);
            writeln!(out, "source {source}: {entries} and {checkpoints} in {}", escape_path(&dir))?;
        }
    }
    Ok(code)
}

fn exit_code(error: &ExportError) -> u8 {
    match error {
        ExportError::Read(_) | ExportError::Write { .. } | ExportError::NotSealed => exit::TRY_AGAIN,
        ExportError::Foreign(_) => exit::CONFIG,
        ExportError::Altered => exit::FINDINGS,
    }
}
