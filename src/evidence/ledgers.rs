//! The ledgers that are compared: which there are, and their entries as rows.

use super::row::Row;
use super::sort::Sorter;
use crate::ledger::{self, Entry, LedgerReader};
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Where ledgers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LedgerPlace {
    /// The state directory of an agent, which may run.
    State(PathBuf),
    /// A ledger, or a directory with some.
    Ledger(PathBuf),
    /// Exported tiles, or a directory with some.
    Tiles(PathBuf),
}

/// A ledger as it was when it was opened.
pub(crate) struct SourceLedger {
    pub source: String,
    pub dir: PathBuf,
    pub reader: LedgerReader,
    is_tiles: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("cannot read the ledger in `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("there is no ledger in `{}`", .0.display())]
    None(PathBuf),
    #[error("there is no ledger of a source `{source_name}` in `{}`; there is {known}", path.display())]
    NoSource { source_name: String, path: PathBuf, known: String },
}

impl LedgerPlace {
    pub(crate) fn path(&self) -> &Path {
        match self {
            LedgerPlace::State(path) | LedgerPlace::Ledger(path) | LedgerPlace::Tiles(path) => path,
        }
    }

    /// The ledgers there, of one source if it is named.
    pub(crate) fn open(&self, source: Option<&str>) -> Result<Vec<SourceLedger>, LedgerError> {
        let failed = |error| LedgerError::Read { path: self.path().to_owned(), source: error };
        let mut found = match self {
            LedgerPlace::State(state_dir) => {
                open_each(ledger::ledgers(state_dir).map_err(failed)?, false).map_err(failed)?
            }
            LedgerPlace::Ledger(dir) => one_or_some(dir, false).map_err(failed)?,
            LedgerPlace::Tiles(dir) => one_or_some(dir, true).map_err(failed)?,
        };
        if found.is_empty() {
            return Err(LedgerError::None(self.path().to_owned()));
        }
        if let Some(source) = source {
            let known: Vec<String> = found.iter().map(|ledger| format!("`{}`", ledger.source)).collect();
            found.retain(|ledger| ledger.source == source);
            if found.is_empty() {
                let (source_name, path) = (source.to_owned(), self.path().to_owned());
                return Err(LedgerError::NoSource { source_name, path, known: known.join(", ") });
            }
        }
        Ok(found)
    }
}

fn one_or_some(dir: &Path, is_tiles: bool) -> io::Result<Vec<SourceLedger>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let found = open_each(vec![(name(dir), dir.to_owned())], is_tiles)?;
    if !found.is_empty() {
        return Ok(found);
    }
    let mut dirs = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            dirs.push((name(&path), path));
        }
    }
    dirs.sort();
    open_each(dirs, is_tiles)
}

fn open_each(dirs: Vec<(String, PathBuf)>, is_tiles: bool) -> io::Result<Vec<SourceLedger>> {
    let open = |(source, dir): (String, PathBuf)| {
        let reader = open_reader(&dir, is_tiles).transpose()?;
        Some(reader.map(|reader| SourceLedger { source, dir, reader, is_tiles }))
    };
    dirs.into_iter().filter_map(open).collect()
}

fn open_reader(dir: &Path, is_tiles: bool) -> io::Result<Option<LedgerReader>> {
    if is_tiles { LedgerReader::open_tiles(dir) } else { LedgerReader::open(dir) }
}

/// What the entries of some ledgers have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoadedEntries {
    /// Entries that are events.
    pub events: u64,
    /// Entries of events before this time may have been dropped by retention.
    pub dropped_before_ms: i64,
    /// Time of the oldest event.
    pub oldest_ms: i64,
}

/// Entries at the beginning of a ledger that say how old the entries are that retention has dropped.
const OLDEST_ENTRIES: u64 = 256;

/// Reads the entries of ledgers as rows. `read` is called with the number of entries that were read.
pub(crate) fn load(
    ledgers: &[SourceLedger],
    rows: &mut Sorter,
    read: &mut dyn FnMut(u64),
) -> Result<LoadedEntries, LedgerError> {
    let mut loaded = LoadedEntries { events: 0, dropped_before_ms: i64::MIN, oldest_ms: i64::MAX };
    for (origin, ledger) in ledgers.iter().enumerate() {
        let failed = |error| LedgerError::Read { path: ledger.dir.clone(), source: error };
        let first = ledger.reader.first();
        for entry in ledger.reader.entries(0..u64::MAX) {
            let (number, entry) = entry.map_err(failed)?;
            read(1);
            let Some(row) = row_of(entry, origin as u16, number) else { continue };
            if first > 0 && number < first + OLDEST_ENTRIES {
                loaded.dropped_before_ms =
                    loaded.dropped_before_ms.max(row.time().map_or(i64::MIN, |ms| ms.saturating_add(1)));
            }
            loaded.events += 1;
            loaded.oldest_ms = loaded.oldest_ms.min(row.time().unwrap_or(i64::MAX));
            rows.push(&row).map_err(failed)?;
        }
    }
    Ok(loaded)
}

impl SourceLedger {
    /// Its signed checkpoints, oldest first. Nothing is verified.
    pub(crate) fn checkpoints(&self) -> Result<Vec<String>, LedgerError> {
        let failed = |error| LedgerError::Read { path: self.dir.clone(), source: error };
        self.reader.checkpoints().map_err(failed)
    }

    /// Whether more entries may be appended to it.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_tiles
    }

    /// Events that were appended since `size`, by id. Returns also the size now.
    pub(crate) fn appended(&self, origin: u16, size: u64) -> Result<(HashMap<u128, Row>, u64), LedgerError> {
        let failed = |error| LedgerError::Read { path: self.dir.clone(), source: error };
        let Some(reader) = open_reader(&self.dir, self.is_tiles).map_err(failed)? else {
            return Ok((HashMap::new(), size));
        };
        let mut rows = HashMap::new();
        for entry in reader.entries(size..u64::MAX) {
            let (number, entry) = entry.map_err(failed)?;
            rows.extend(row_of(entry, origin, number).map(|row| (row.id, row)));
        }
        Ok((rows, reader.size().max(size)))
    }

    /// Numbers of the entries that are kept.
    pub(crate) fn kept(&self) -> Range<u64> {
        self.reader.first()..self.reader.size()
    }
}

fn row_of(entry: Option<Entry>, origin: u16, number: u64) -> Option<Row> {
    Row::of_entry(&entry?, origin, number)
}
