//! Entries of ledgers by the id of their event.

use super::output::print_error;
use super::progress::Progress;
use crate::cli::LedgerLocation;
use crate::evidence::ledgers::{LedgerError, LedgerPlace, SourceLedger};
use crate::exit;
use crate::ledger::{Checkpoint, Entry, Verifier, key};
use crate::telemetry::chain;
use std::io;

/// Length of an entry, in bytes, for the progress.
const ENTRY_BYTES: u64 = 80;
/// Entries from one report of progress to the next.
const PROGRESS_ENTRIES: u64 = 4096;
/// Digits of an id.
const ID_DIGITS: usize = 32;
/// Entries that are returned.
const FOUND_MAX: usize = 1000;

/// Ledgers, and the keys that sign them as far as they are known.
pub(super) struct Ledgers {
    pub ledgers: Vec<SourceLedger>,
    pub keys: Vec<Verifier>,
    pub place: LedgerPlace,
}

/// Opens ledgers. `Err`: the exit code after an error was printed.
pub(super) fn open(location: &LedgerLocation) -> Result<Ledgers, u8> {
    let place = super::verify::place(location).map_err(|errors| {
        print_error(&errors.to_string());
        errors.exit_code()
    })?;
    let ledgers = place.open(location.source.as_deref()).map_err(|error| refuse(&error))?;
    let keys = match &place {
        LedgerPlace::State(state_dir) => key::published(state_dir)
            .map_err(|source| refuse(&LedgerError::Read { path: state_dir.clone(), source }))?,
        LedgerPlace::Ledger(_) | LedgerPlace::Tiles(_) => Vec::new(),
    };
    Ok(Ledgers { ledgers, keys, place })
}

/// Prints why a ledger cannot be read. Returns the exit code.
pub(super) fn refuse(error: &LedgerError) -> u8 {
    print_error(&chain(error));
    exit::TRY_AGAIN
}

/// An entry that was found.
pub(super) struct FoundEntry<'a> {
    pub ledger: &'a SourceLedger,
    pub number: u64,
    pub entry: Entry,
}

/// The entries of events whose id begins like this, in the order of the ledgers.
pub(super) fn entries<'a>(
    ledgers: &'a [SourceLedger],
    prefix: &str,
) -> Result<Vec<FoundEntry<'a>>, LedgerError> {
    let rest = 4 * (ID_DIGITS - prefix.len()) as u32;
    let wanted = u128::from_str_radix(prefix, 16).unwrap_or_default();
    let total: u64 = ledgers.iter().map(|ledger| ledger.kept().end - ledger.kept().start).sum();
    let mut progress = Progress::new("searching the ledger", total * ENTRY_BYTES);
    let mut found = Vec::new();
    for ledger in ledgers {
        for entry in ledger.reader.entries(0..u64::MAX) {
            let (number, entry) =
                entry.map_err(|source| LedgerError::Read { path: ledger.dir.clone(), source })?;
            if number % PROGRESS_ENTRIES == 0 {
                progress.add(PROGRESS_ENTRIES * ENTRY_BYTES);
            }
            let matching = entry.filter(|entry| entry.id != 0 && entry.id.unbounded_shr(rest) == wanted);
            found.extend(matching.map(|entry| FoundEntry { ledger, number, entry }));
            if found.len() == FOUND_MAX {
                progress.finish();
                return Ok(found);
            }
        }
    }
    progress.finish();
    Ok(found)
}

/// Reports that there is no entry. Returns the exit code.
pub(super) fn none(prefix: &str, ledgers: &[SourceLedger]) -> u8 {
    let mut text =
        format!("no entry of an event `{prefix}` is in the ledger; it was not delivered by this agent");
    if ledgers.iter().any(|ledger| ledger.kept().start > 0) {
        text.push_str(", or its entry was dropped by retention");
    }
    print_error(&text);
    exit::FINDINGS
}

/// A checkpoint of a ledger: its number from 1 on, what it says, and its signed note.
pub(super) struct StoredCheckpoint {
    pub number: usize,
    pub checkpoint: Checkpoint,
    pub note: String,
}

/// The checkpoints of a ledger that can be read, oldest first.
pub(super) fn checkpoints(ledger: &SourceLedger) -> io::Result<Vec<StoredCheckpoint>> {
    let numbered = ledger.reader.checkpoints()?.into_iter().zip(1..);
    let readable = numbered.filter_map(|(note, number)| {
        Some(StoredCheckpoint { number, checkpoint: Checkpoint::parse(&note)?, note })
    });
    Ok(readable.collect())
}

impl StoredCheckpoint {
    /// Of these keys, the one that signed it.
    pub(super) fn signed_by(&self, keys: &[Verifier]) -> Option<String> {
        let key = keys.iter().rev().find(|key| key.open(&self.note).is_some());
        key.map(Verifier::short)
    }
}
