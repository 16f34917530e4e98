//! The command `prove`, and `verify --proof`: that an event is in the ledger of a signed checkpoint.

use super::find::hex;
use super::findings::{counted, number};
use super::lookup::{self, FoundEntry, Ledgers, checkpoints};
use super::output::print_error;
use super::verify::{self, VerifyFailure};
use crate::cli::{ProveArgs, VerifyArgs};
use crate::evidence::export::Export;
use crate::evidence::ledgers::LedgerError;
use crate::evidence::row::{HAS_DIGEST, Row};
use crate::evidence::sort::Sorter;
use crate::exit;
use crate::ledger::{self, EntryKind, Proof, ProofError, ProvenEntry};
use crate::record::EventId;
use crate::telemetry::chain;
use crate::telemetry::escape::escape;
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

/// Prints a proof for an event. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn prove(args: &ProveArgs, out: &mut impl Write) -> io::Result<u8> {
    let Ledgers { ledgers, .. } = match lookup::open(&args.location) {
        Ok(opened) => opened,
        Err(code) => return Ok(code),
    };
    let found = match lookup::entries(&ledgers, &args.id) {
        Ok(found) => found,
        Err(error) => return Ok(lookup::refuse(&error)),
    };
    let Some(first) = found.first() else {
        return Ok(lookup::none(&args.id, &ledgers));
    };
    if found.iter().any(|other| other.entry.id != first.entry.id) {
        print_error(&format!("`{}` is the beginning of several events' ids; use more characters", args.id));
        return Ok(exit::CONFIG);
    }
    let was_delivered = |found: &&FoundEntry<'_>| found.entry.kind != EntryKind::Loss;
    let found = found.iter().find(was_delivered).unwrap_or(first);
    let proof = match newest_proof(found) {
        Ok(Ok(proof)) => proof,
        Ok(Err(code)) => return Ok(code),
        Err(source) => {
            return Ok(lookup::refuse(&LedgerError::Read { path: found.ledger.dir.clone(), source }));
        }
    };
    if args.json {
        let id = EventId(found.entry.id).to_string();
        let (source, entry) = (&found.ledger.source, found.number);
        writeln!(out, "{}", json!({"id": id, "source": source, "entry": entry, "proof": proof.to_string()}))?;
    } else {
        write!(out, "{proof}")?;
    }
    Ok(exit::OK)
}

/// The proof with the newest checkpoint. The inner `Err` is the exit code after a message.
fn newest_proof(found: &FoundEntry<'_>) -> io::Result<Result<Proof, u8>> {
    let stored = checkpoints(found.ledger)?;
    let covering = stored.iter().rev().find(|stored| stored.checkpoint.size > found.number);
    let Some(covering) = covering else {
        print_error(&format!(
            "entry {} of source `{}` is not signed yet; the agent signs at intervals and when it stops",
            found.number, found.ledger.source
        ));
        return Ok(Err(exit::TRY_AGAIN));
    };
    Ok(Proof::new(&found.ledger.reader, found.number, &covering.note)?.ok_or_else(|| {
        print_error(&format!(
            "the entries of source `{}` do not lead to the root of checkpoint {}; `verify` says what was changed",
            found.ledger.source, covering.number
        ));
        exit::FINDINGS
    }))
}

/// What the event in a file is, compared with a proven entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventResult {
    Intact,
    /// Its original is another.
    Altered,
    /// It holds no original.
    WithoutOriginal,
    /// There is no event with the entry's id.
    Missing,
}

/// Verifies a proof, and with `--event` an event against it, with nothing but the keys. The event may have any form
/// that `verify` reads, or be its original alone. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn verify_proof(proof: &Path, args: &VerifyArgs, out: &mut impl Write) -> io::Result<u8> {
    let keys = match verify::keys(&args.key) {
        Ok(keys) => keys,
        Err(code) => return Ok(code),
    };
    let text = match std::fs::read_to_string(proof) {
        Ok(text) => text,
        Err(error) => {
            print_error(&format!("cannot read the proof `{}`: {error}", proof.display()));
            return Ok(exit::TRY_AGAIN);
        }
    };
    let proven = Proof::parse(&text).ok_or(ProofError::Malformed).and_then(|proof| proof.verify(&keys));
    let proven = match proven {
        Ok(proven) => proven,
        Err(error) => {
            if args.json {
                writeln!(out, "{}", json!({"proven": false, "problem": error.to_string()}))?;
            } else {
                writeln!(out, "result: not proven: {}", escape(&error.to_string()))?;
            }
            return Ok(exit::FINDINGS);
        }
    };
    let event = args.event.as_deref();
    let result = match event.map(|event| compare(&proven, event, args.site.as_deref())).transpose() {
        Ok(result) => result,
        Err(error) => {
            print_error(&chain(&error));
            return Ok(exit::TRY_AGAIN);
        }
    };
    if args.json {
        print_json(&proven, result, out)?;
    } else {
        print(&proven, result, out)?;
    }
    Ok(if matches!(result, None | Some(EventResult::Intact)) { exit::OK } else { exit::FINDINGS })
}

fn compare(proven: &ProvenEntry, event: &Path, site: Option<&str>) -> Result<EventResult, VerifyFailure> {
    // The original alone: a record as Confluence wrote it, or text of another kind.
    if let Ok(bytes) = std::fs::read(event) {
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if [&bytes[..], line].iter().any(|text| ledger::record_digest(text) == proven.entry.digest) {
            return Ok(EventResult::Intact);
        }
    }
    let (mut export, mut rows) = (Export::default(), Sorter::default());
    export.read(event, site, &mut rows, &mut |_| {})?;
    let mut result = EventResult::Missing;
    let rows = rows.finish().map_err(VerifyFailure::Temporary)?;
    for row in rows {
        let row: Row = row.map_err(VerifyFailure::Temporary)?;
        let same_original = row.has(HAS_DIGEST) && row.digest == proven.entry.digest;
        if same_original && export.differing(&row).is_empty() {
            return Ok(EventResult::Intact);
        }
        if same_original || row.id == proven.entry.id {
            result = if row.has(HAS_DIGEST) { EventResult::Altered } else { EventResult::WithoutOriginal };
        }
    }
    Ok(result)
}

fn print(proven: &ProvenEntry, result: Option<EventResult>, out: &mut impl Write) -> io::Result<()> {
    let ProvenEntry { number: entry, checkpoint, key, .. } = proven;
    let size = counted(checkpoint.size, "entry", "entries");
    writeln!(out, "proof: entry {} of {}", number(*entry), escape(&checkpoint.origin))?;
    writeln!(out, "  checkpoint  with {size}, signed by {}", escape(key))?;
    writeln!(out, "  event       {}", EventId(proven.entry.id))?;
    writeln!(out, "  original    SHA-256 {}", hex(&proven.entry.digest))?;
    match result {
        None => {
            writeln!(out, "not checked:\n  the event: give it with `--event`\nresult: the entry is proven")
        }
        Some(EventResult::Intact) => writeln!(out, "result: proven; the event is what was delivered"),
        Some(EventResult::Altered) => writeln!(out, "result: the event is not what was delivered"),
        Some(EventResult::WithoutOriginal) => {
            writeln!(out, "result: not proven: the event holds no original; it has the id of the entry")
        }
        Some(EventResult::Missing) => {
            writeln!(out, "result: not proven: the file holds no event of this entry")
        }
    }
}

fn print_json(proven: &ProvenEntry, result: Option<EventResult>, out: &mut impl Write) -> io::Result<()> {
    let event = result.map(|result| match result {
        EventResult::Intact => "intact",
        EventResult::Altered => "altered",
        EventResult::WithoutOriginal => "without original",
        EventResult::Missing => "missing",
    });
    let line = json!({
        "proven": matches!(result, None | Some(EventResult::Intact)),
        "event": event,
        "id": EventId(proven.entry.id).to_string(),
        "sha256": hex(&proven.entry.digest),
        "entry": proven.number,
        "origin": proven.checkpoint.origin,
        "size": proven.checkpoint.size,
        "key": proven.key,
    });
    writeln!(out, "{line}")
}
