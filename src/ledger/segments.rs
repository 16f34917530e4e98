//! The files of a ledger: segments of entries, and the summaries of full blocks.
//!
//! ```text
//! entries/0000000000000000   65,536 entries of 80 bytes; the name is the number of the first one
//! entries/0000000000065536
//! blocks                     88 bytes a full block: spans of times and offsets, flags, hash of the subtree
//! ```

use super::blocks::{BLOCK_ENTRIES, BLOCK_SUMMARY_BYTES, SEGMENT_BLOCKS};
use super::entry::ENTRY_BYTES;
use rustix::fs::{Mode, OFlags};
use std::fs::{DirBuilder, File};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Entries of a segment: 5 MiB, so that retention drops little at a time.
pub(super) const SEGMENT_ENTRIES: u64 = BLOCK_ENTRIES * SEGMENT_BLOCKS as u64;
/// Directory of the segments.
pub(super) const ENTRIES: &str = "entries";
/// File of the summaries of full blocks.
pub(super) const BLOCKS: &str = "blocks";

/// Entries that the checkpoint knows and the disk has lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub missing: Range<u64>,
}

/// The files of one ledger.
pub(super) struct Segments {
    dir: PathBuf,
    summaries: Arc<File>,
    /// The segment that is written, and its first entry.
    current: Option<(u64, Arc<File>)>,
    /// Written since the last sync.
    unsynced: Vec<Arc<File>>,
    /// A segment was created since the last sync.
    created: bool,
}

/// What has to reach the disk before the checkpoint may know of it.
pub(super) struct Unsynced {
    files: Vec<Arc<File>>,
    /// The directory, if a file in it is new.
    dir: Option<PathBuf>,
}

impl Unsynced {
    pub(super) fn sync(&self) -> io::Result<()> {
        for file in &self.files {
            file.sync_data()?;
        }
        match &self.dir {
            Some(dir) => File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Segments {
    /// Opens the files in `dir`, which is created.
    pub(super) fn open(dir: &Path) -> io::Result<Segments> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir.join(ENTRIES))?;
        let summaries = Arc::new(open(&dir.join(BLOCKS), OFlags::RDWR | OFlags::CREATE)?);
        // All directories may be new.
        for dir in dir.ancestors().take(3) {
            File::open(dir)?.sync_all()?;
        }
        Ok(Segments { dir: dir.to_owned(), summaries, current: None, unsynced: Vec::new(), created: true })
    }

    /// As [`Segments::open`], for a process that only reads. `None`: there is no ledger.
    pub(super) fn open_existing(dir: &Path) -> io::Result<Option<Segments>> {
        let summaries = match open(&dir.join(BLOCKS), OFlags::RDONLY) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            summaries => Arc::new(summaries?),
        };
        let dir = dir.to_owned();
        Ok(Some(Segments { dir, summaries, current: None, unsynced: Vec::new(), created: false }))
    }

    /// Makes the segments as long as the checkpoint says: `kept` entries. Missing ones are filled with zeros, which are
    /// no entries.
    pub(super) fn cut_back(&mut self, kept: Range<u64>) -> io::Result<Vec<Damage>> {
        let end = kept.end.next_multiple_of(SEGMENT_ENTRIES);
        self.remove(|first| first < kept.start || first >= end)?;
        let mut damage: Vec<Damage> = Vec::new();
        for first in kept.clone().step_by(SEGMENT_ENTRIES as usize) {
            let file = open(&self.path(first), OFlags::RDWR | OFlags::CREATE)?;
            let wanted = (kept.end - first).min(SEGMENT_ENTRIES) * ENTRY_BYTES as u64;
            let found = file.metadata()?.len();
            if found != wanted {
                // The rest of half an entry must not look like one.
                file.set_len(wanted.min(found - found % ENTRY_BYTES as u64))?;
                file.set_len(wanted)?;
                file.sync_all()?;
            }
            if found < wanted {
                let missing = first + found / ENTRY_BYTES as u64..first + wanted / ENTRY_BYTES as u64;
                match damage.last_mut() {
                    Some(last) if last.missing.end == missing.start => last.missing.end = missing.end,
                    _ => damage.push(Damage { missing }),
                }
            }
            self.current = Some((first, Arc::new(file)));
        }
        Ok(damage)
    }

    /// When the segment with this first entry was last written.
    pub(super) fn last_written(&self, first: u64) -> io::Result<SystemTime> {
        std::fs::symlink_metadata(self.path(first))?.modified()
    }

    /// Removes the segments before this entry.
    pub(super) fn remove_before(&self, entry: u64) -> io::Result<()> {
        self.remove(|first| first < entry)
    }

    /// Removes the segments that begin with such an entry.
    fn remove(&self, which: impl Fn(u64) -> bool) -> io::Result<()> {
        for entry in std::fs::read_dir(self.dir.join(ENTRIES))? {
            let entry = entry?;
            let first = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if first.is_some_and(&which) {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Writes entries from number `at` on. The same call may be repeated after an error.
    pub(super) fn write(&mut self, mut at: u64, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let first = at - at % SEGMENT_ENTRIES;
            let file = match &self.current {
                Some((current, file)) if *current == first => file.clone(),
                _ => {
                    self.created = true;
                    Arc::new(open(&self.path(first), OFlags::RDWR | OFlags::CREATE)?)
                }
            };
            let fits = (first + SEGMENT_ENTRIES - at) as usize * ENTRY_BYTES;
            let (now, later) = bytes.split_at(fits.min(bytes.len()));
            file.write_all_at(now, (at - first) * ENTRY_BYTES as u64)?;
            if !self.unsynced.iter().any(|unsynced| Arc::ptr_eq(unsynced, &file)) {
                self.unsynced.push(file.clone());
            }
            self.current = Some((first, file));
            (at, bytes) = (at + (now.len() / ENTRY_BYTES) as u64, later);
        }
        Ok(())
    }

    /// Writes summaries of blocks from number `block` on.
    pub(super) fn write_summaries(&self, block: u64, bytes: &[u8]) -> io::Result<()> {
        self.summaries.write_all_at(bytes, block * BLOCK_SUMMARY_BYTES as u64)
    }

    /// Cuts the summaries off after so many.
    pub(super) fn cut_summaries(&self, blocks: u64) -> io::Result<()> {
        self.summaries.set_len(blocks * BLOCK_SUMMARY_BYTES as u64)
    }

    /// Number of complete summaries.
    pub(super) fn summaries(&self) -> io::Result<u64> {
        Ok(self.summaries.metadata()?.len() / BLOCK_SUMMARY_BYTES as u64)
    }

    pub(super) fn read_summaries(&self, blocks: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; blocks.end.saturating_sub(blocks.start) as usize * BLOCK_SUMMARY_BYTES];
        self.summaries.read_exact_at(&mut bytes, blocks.start * BLOCK_SUMMARY_BYTES as u64)?;
        Ok(bytes)
    }

    /// What was written since the last call. `summaries`: also the summaries of blocks.
    pub(super) fn take_unsynced(&mut self, summaries: bool) -> Unsynced {
        let mut files = std::mem::take(&mut self.unsynced);
        if summaries {
            files.push(self.summaries.clone());
        }
        let created = std::mem::take(&mut self.created);
        Unsynced { files, dir: created.then(|| self.dir.join(ENTRIES)) }
    }

    /// The sync failed: it is all to be synced again.
    pub(super) fn return_unsynced(&mut self, unsynced: Unsynced) {
        self.created |= unsynced.dir.is_some();
        self.unsynced.extend(unsynced.files);
    }

    /// The bytes of a range of entries.
    pub(super) fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (range.end - range.start) as usize * ENTRY_BYTES];
        let (mut at, mut rest) = (range.start, &mut bytes[..]);
        while at < range.end {
            let first = at - at % SEGMENT_ENTRIES;
            let end = range.end.min(first + SEGMENT_ENTRIES);
            let (now, later) = rest.split_at_mut((end - at) as usize * ENTRY_BYTES);
            let file = open(&self.path(first), OFlags::RDONLY)?;
            file.read_exact_at(now, (at - first) * ENTRY_BYTES as u64)?;
            (at, rest) = (end, later);
        }
        Ok(bytes)
    }

    fn path(&self, first: u64) -> PathBuf {
        path(&self.dir, first)
    }
}

/// The segment of the ledger in `dir` that begins with this entry.
pub(super) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(ENTRIES).join(format!("{first:016}"))
}

/// The entries whose segments are in `dir`: from the first one that is kept to the last whole one. `None`: there is no
/// ledger.
pub(super) fn on_disk(dir: &Path) -> io::Result<Option<Range<u64>>> {
    let names = match std::fs::read_dir(dir.join(ENTRIES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        names => names?,
    };
    let mut found: Option<(u64, u64)> = None;
    for name in names {
        let first = name?.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
        if let Some(first) = first.filter(|first| first.is_multiple_of(SEGMENT_ENTRIES)) {
            let (oldest, newest) = found.get_or_insert((first, first));
            (*oldest, *newest) = (first.min(*oldest), first.max(*newest));
        }
    }
    let Some((oldest, newest)) = found else {
        return Ok(Some(0..0));
    };
    let entries = std::fs::metadata(path(dir, newest))?.len() / ENTRY_BYTES as u64;
    Ok(Some(oldest..newest + entries.min(SEGMENT_ENTRIES)))
}

/// The text of a file; a missing file is empty. Bytes that are no UTF-8 belong to no checkpoint and are replaced.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Opens a file for the agent's user alone, and not through a symbolic link.
pub(super) fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(File::from(rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?))
}
