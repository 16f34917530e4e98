//! A ledger as a process reads it that does not write it: from its directory, also while the agent runs, or from
//! exported tiles.

use super::blocks::{BLOCK_ENTRIES, BLOCK_SUMMARY_BYTES};
use super::entry::{ENTRY_BYTES, Entry};
use super::note::split_notes;
use super::segments::{self, SEGMENT_ENTRIES, read_text};
use super::tiles::{self, LATEST_CHECKPOINT};
use super::tree::TreeHash;
use rustix::fs::OFlags;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of the directory below the state directory that has the ledgers of all sources.
pub(super) const DIRECTORY: &str = "ledger";
/// File of the key that signs the ledgers, in that directory.
pub(super) const KEY: &str = "key";
/// All signed checkpoints, oldest first.
pub(super) const ALL_CHECKPOINTS: &str = "checkpoints";
/// Entries that are read at once: 80 KiB.
pub(super) const READ_ENTRIES: u64 = 4 * BLOCK_ENTRIES;

/// The ledgers below a state directory: the name of each source, and the directory of its ledger.
///
/// # Errors
/// The directory cannot be read. A missing one has no ledgers.
pub fn ledgers(state_dir: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let found = match std::fs::read_dir(state_dir.join(DIRECTORY)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        found => found?,
    };
    let mut ledgers = Vec::new();
    for entry in found {
        let entry = entry?;
        // The key is a file, and a ledger that was set aside has a name that no source has.
        let source = entry.file_name().to_str().and_then(source_name);
        if let Some(source) = source.filter(|_| entry.path().join(segments::ENTRIES).is_dir()) {
            ledgers.push((source, entry.path()));
        }
    }
    ledgers.sort();
    Ok(ledgers)
}

/// The directory of a source's ledger. `%` and two digits stand for a byte that is no letter, digit, `-` or `_`, so
/// that no source has the name of a ledger that was set aside, or of the key.
pub fn ledger_dir(state_dir: &Path, source: &str) -> PathBuf {
    let mut name = String::new();
    for (at, byte) in source.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        // A source that is called like the key.
        if is_plain && (at > 0 || source != KEY) {
            name.push(byte.into());
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    state_dir.join(DIRECTORY).join(name)
}

/// The source whose ledger has this file name, see [`ledger_dir`].
pub(super) fn source_name(file_name: &str) -> Option<String> {
    let mut parts = file_name.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(part.get(..2)?, 16).ok()?);
        bytes.extend_from_slice(&part.as_bytes()[2..]);
    }
    (!file_name.contains('.')).then(|| String::from_utf8(bytes).ok()).flatten()
}

/// The entries and the signed checkpoints of one ledger.
pub struct LedgerReader {
    dir: PathBuf,
    layout: Layout,
    first: u64,
    size: u64,
    /// Length of the list of checkpoints, taken before `size`: none of them covers more than that.
    checkpoints_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// The agent's own directory.
    Segments,
    /// An export as C2SP `tlog-tiles`.
    Tiles,
}

impl LedgerReader {
    /// Opens the ledger in `dir`, which the agent may be writing. `None`: there is no ledger.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(dir: &Path) -> io::Result<Option<LedgerReader>> {
        LedgerReader::opened(dir, Layout::Segments, segments::on_disk)
    }

    /// Opens exported tiles in `dir`. `None`: there are no tiles.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open_tiles(dir: &Path) -> io::Result<Option<LedgerReader>> {
        LedgerReader::opened(dir, Layout::Tiles, tiles::on_disk)
    }

    fn opened(
        dir: &Path,
        layout: Layout,
        kept: impl Fn(&Path) -> io::Result<Option<Range<u64>>>,
    ) -> io::Result<Option<LedgerReader>> {
        let checkpoints_bytes = match std::fs::metadata(dir.join(ALL_CHECKPOINTS)) {
            Ok(metadata) => metadata.len() as usize,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let kept = kept(dir)?;
        let dir = dir.to_owned();
        Ok(kept.map(|kept| LedgerReader {
            dir,
            layout,
            first: kept.start,
            size: kept.end,
            checkpoints_bytes,
        }))
    }

    /// The same ledger as it is now.
    ///
    /// # Errors
    /// The directory cannot be read, or is gone.
    pub(super) fn reopen(&self) -> io::Result<LedgerReader> {
        let reopened = match self.layout {
            Layout::Segments => LedgerReader::open(&self.dir)?,
            Layout::Tiles => LedgerReader::open_tiles(&self.dir)?,
        };
        reopened.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Number of the first entry that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Number of whole entries on the disk, those included that were dropped. The checkpoint store of a running agent
    /// may know fewer.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The entries of a range, clamped to what is there, with their numbers. `None`: the bytes are no entry, or are
    /// lost.
    pub fn entries(&self, range: Range<u64>) -> Entries<'_> {
        let range = range.start.max(self.first)..range.end.min(self.size);
        Entries { reader: self, read: range.start..range.start, end: range.end, bytes: Vec::new() }
    }

    /// The bytes of a range of entries, which is not checked. Zeros stand for what is lost.
    ///
    /// # Errors
    /// A file cannot be read, or the agent has dropped the entries since the ledger was opened.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        match self.layout {
            Layout::Segments => self.read_segments(range),
            Layout::Tiles => tiles::read_entries(&self.dir, range),
        }
    }

    fn read_segments(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; range.end.saturating_sub(range.start) as usize * ENTRY_BYTES];
        let (mut at, mut rest) = (range.start, &mut bytes[..]);
        while at < range.end {
            let first = at - at % SEGMENT_ENTRIES;
            let end = range.end.min(first + SEGMENT_ENTRIES);
            let (now, later) = rest.split_at_mut((end - at) as usize * ENTRY_BYTES);
            match segments::open(&segments::path(&self.dir, first), OFlags::RDONLY) {
                Ok(file) => read_or_zeros(&file, now, (at - first) * ENTRY_BYTES as u64)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.ensure_kept(at)?,
                Err(error) => return Err(error),
            }
            (at, rest) = (end, later);
        }
        Ok(bytes)
    }

    /// Tells a segment that retention has dropped since the start from one that is lost.
    fn ensure_kept(&self, entry: u64) -> io::Result<()> {
        let kept = segments::on_disk(&self.dir)?;
        match kept {
            Some(kept) if kept.start <= entry => Ok(()),
            _ => Err(io::Error::other(format!(
                "entry {entry} of the ledger was dropped by its retention while it was read; start again"
            ))),
        }
    }

    /// Whether it is an export.
    pub(super) fn is_export(&self) -> bool {
        self.layout == Layout::Tiles
    }

    /// The summaries of a range of blocks, as far as there are any. An export has none.
    pub(super) fn read_block_summaries(
        &self,
        blocks: Range<u64>,
    ) -> io::Result<Vec<[u8; BLOCK_SUMMARY_BYTES]>> {
        let file = match segments::open(&self.dir.join(segments::BLOCKS), OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file?,
        };
        let end = blocks.end.min(file.metadata()?.len() / BLOCK_SUMMARY_BYTES as u64);
        let mut summaries = vec![[0; BLOCK_SUMMARY_BYTES]; end.saturating_sub(blocks.start) as usize];
        read_or_zeros(&file, summaries.as_flattened_mut(), blocks.start * BLOCK_SUMMARY_BYTES as u64)?;
        Ok(summaries)
    }

    /// Hashes of a tile of an export: a range of them. `None`: they are not there.
    pub(super) fn read_tile(
        &self,
        level: u32,
        tile: u64,
        range: Range<u64>,
    ) -> io::Result<Option<Vec<TreeHash>>> {
        tiles::read_hashes(&self.dir, level, tile, range)
    }

    /// All signed checkpoints at the time of the opening, oldest first, as they are stored: nothing is verified.
    ///
    /// # Errors
    /// A file cannot be read. A missing one has no checkpoints.
    pub fn checkpoints(&self) -> io::Result<Vec<String>> {
        // In this order: the agent appends to the list before it replaces the latest one.
        let latest = read_text(&self.dir.join(LATEST_CHECKPOINT))?;
        let mut all = std::fs::read(self.dir.join(ALL_CHECKPOINTS)).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => Err(error),
        })?;
        let is_listed = split_notes(&String::from_utf8_lossy(&all)).contains(&latest);
        all.truncate(self.checkpoints_bytes);
        let mut notes = split_notes(&String::from_utf8_lossy(&all));
        if !latest.is_empty() && !is_listed {
            notes.push(latest);
        }
        Ok(notes)
    }
}

/// Reads what is there. Zeros stand for what the file does not have.
fn read_or_zeros(file: &std::fs::File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.read_at(bytes, offset) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Iterator over entries, which are read in blocks.
pub struct Entries<'a> {
    reader: &'a LedgerReader,
    /// Numbers of the entries in `bytes` that are still to be returned.
    read: Range<u64>,
    end: u64,
    bytes: Vec<u8>,
}

impl Iterator for Entries<'_> {
    type Item = io::Result<(u64, Option<Entry>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.read.is_empty() {
            let begin = self.read.end;
            if begin >= self.end {
                return None;
            }
            // Whole blocks, so that no bundle of an export is read twice.
            let end = (begin - begin % READ_ENTRIES + READ_ENTRIES).min(self.end);
            match self.reader.read(begin..end) {
                Ok(bytes) => (self.bytes, self.read) = (bytes, begin..end),
                Err(error) => {
                    self.end = begin;
                    return Some(Err(error));
                }
            }
        }
        let number = self.read.next()?;
        let left = (self.read.end - number) as usize * ENTRY_BYTES;
        let begin = self.bytes.len() - left;
        Some(Ok((number, Entry::from_bytes(&self.bytes[begin..begin + ENTRY_BYTES]))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::store_tests::{filled, nth};

    fn read_all(reader: &LedgerReader) -> Vec<(u64, Option<Entry>)> {
        reader.entries(0..u64::MAX).map(Result::unwrap).collect()
    }

    #[test]
    fn entries_of_a_directory_are_read_in_order() {
        let dir = tempfile::tempdir().unwrap();
        assert!(LedgerReader::open(dir.path()).unwrap().is_none());
        let size = SEGMENT_ENTRIES + 700;
        filled(dir.path(), size);
        let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
        assert_eq!((reader.first(), reader.size()), (0, size));
        let entries = read_all(&reader);
        assert!(entries.iter().enumerate().all(|(n, found)| *found == (n as u64, Some(nth(n as u64)))));
        assert_eq!(entries.len() as u64, size);
        let some: Vec<_> = reader.entries(65_530..65_540).map(|entry| entry.unwrap().0).collect();
        assert_eq!(some, (65_530..65_540).collect::<Vec<_>>());
        // Half an entry does not count, a lost one is `None`.
        let second = segments::path(dir.path(), SEGMENT_ENTRIES);
        let file = std::fs::File::options().write(true).open(&second).unwrap();
        file.set_len(100 * 80 + 3).unwrap();
        let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
        assert_eq!(reader.size(), SEGMENT_ENTRIES + 100);
        file.set_len(90 * 80).unwrap();
        let lost = read_all(&reader).into_iter().filter(|(_, entry)| entry.is_none());
        assert_eq!(lost.map(|(n, _)| n - SEGMENT_ENTRIES).collect::<Vec<_>>(), (90..100).collect::<Vec<_>>());
        // Retention drops the first segment while it is read.
        std::fs::remove_file(segments::path(dir.path(), 0)).unwrap();
        let error = reader.entries(5..9).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("entry 5 of the ledger was dropped"), "{error}");
        assert_eq!(LedgerReader::open(dir.path()).unwrap().unwrap().first(), SEGMENT_ENTRIES);
    }

    #[test]
    fn notes_are_told_apart_and_an_unfinished_one_is_left_out() {
        let (one, two) = ("a\n1\nAA\n\n— k AA\n— l BB\n", "a\n2\nBB\n\n— k CC\n");
        for (text, expected) in [
            (String::new(), vec![]),
            (one.to_owned(), vec![one]),
            (format!("{one}{two}"), vec![one, two]),
            (format!("{one}a\n2\nBB\n\n"), vec![one]),
            (format!("{one}a\n2\nBB\n\n— k C"), vec![one]),
        ] {
            assert_eq!(split_notes(&text), expected, "{text:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 1);
        let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
        assert!(reader.checkpoints().unwrap().is_empty());
        std::fs::write(dir.path().join("checkpoint"), one).unwrap();
        assert_eq!(reader.checkpoints().unwrap(), [one]);
        std::fs::write(dir.path().join("checkpoints"), format!("{one}{two}")).unwrap();
        std::fs::write(dir.path().join("checkpoint"), two).unwrap();
        // What was signed after the opening may cover more entries than were there.
        assert!(reader.checkpoints().unwrap().is_empty());
        let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
        assert_eq!(reader.checkpoints().unwrap(), [one, two]);
    }

    #[test]
    fn the_ledgers_of_a_state_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(ledgers(dir.path()).unwrap().is_empty());
        let below = dir.path().join("ledger");
        for name in ["wiki", "Gr%c3%b6%c3%9fe", "%2e%2e", "wiki.kept-12", "bad%zz"] {
            std::fs::create_dir_all(below.join(name).join("entries")).unwrap();
        }
        std::fs::write(below.join("key"), "").unwrap();
        let names: Vec<String> = ledgers(dir.path()).unwrap().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["..", "Größe", "wiki"]);
        let names = ["key", "key.pub", "wiki", "wiki.log-1", "wiki.log-1.log-1"];
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir_all(ledger_dir(dir.path(), name).join("entries")).unwrap();
        }
        for reserved in ["key", "key.pub", "wiki.log-1"] {
            assert!(!dir.path().join("ledger").join(reserved).exists(), "{reserved}");
        }
        let expected: Vec<_> =
            names.iter().map(|name| ((*name).to_owned(), ledger_dir(dir.path(), name))).collect();
        assert_eq!(ledgers(dir.path()).unwrap(), expected);
    }
}
