//! Finds the files that a file may be a copy of: they start with the same bytes, and more of them was read.

use super::copy_scan::{DigestCheck, OriginalContent, PossibleOriginal};
use super::name::FileOrder;
use super::record_splitter::FINGERPRINT_BYTES;
use super::{AuditFiles, directory, file_reader, name};
use crate::position::Fingerprint;
use std::fs::File;
use std::io;

/// Number of files that a file is compared with at the same time.
const ORIGINALS_MAX: usize = 4;

impl AuditFiles {
    /// Whether another file, of which more was read, may start with the same bytes. Reads no file.
    pub(super) fn may_be_known(&self, index: usize) -> bool {
        let tracked = &self.tracked[index];
        tracked.entry.size > tracked.read_offset()
            && (0..self.tracked.len()).any(|other| self.may_be_original(index, other))
    }

    fn may_be_original(&self, index: usize, other: usize) -> bool {
        let (tracked, other) = (&self.tracked[index], &self.tracked[other]);
        let (mine, theirs) = (tracked.entry.head_fingerprint, other.entry.head_fingerprint);
        let whole = FINGERPRINT_BYTES as u32;
        other.read_offset() > tracked.read_offset()
            && other.entry.key != tracked.entry.key
            && theirs.len > 0
            && (mine.len != whole || theirs.len != whole || mine.hash == theirs.hash)
            // The file's own content before a truncation does not count: what is still there is emitted again.
            && !(other.entry.is_replaced() && other.path == tracked.path)
            && !tracked.not_copies_of.contains(&other.entry.key)
    }

    /// The files that start with the same bytes, the most read ones first.
    pub(super) fn originals(&mut self, index: usize, head: &[u8]) -> Vec<PossibleOriginal> {
        self.tracked.iter_mut().for_each(|tracked| tracked.save_position());
        // The newest file with a name of Confluence's is not a copy: it may start with a record that is identical to
        // another file's.
        let is_named = matches!(self.tracked[index].order, FileOrder::ByName { .. });
        let is_confluences = is_named && self.newer_than(index).next().is_none();
        let least = if is_confluences { FINGERPRINT_BYTES } else { 0 };
        if head.len() < least {
            return Vec::new();
        }
        let others: Vec<usize> =
            (0..self.tracked.len()).filter(|&other| self.may_be_original(index, other)).collect();
        let mut originals = Vec::new();
        for other in others {
            let entry = self.tracked[other].entry.clone();
            if entry.offset < least as u64 {
                continue;
            }
            let len = entry.head_fingerprint.len as usize;
            let plain = self.tracked[other].compression.is_none();
            let file = || {
                let file = plain.then(|| self.file_of(other).ok().flatten()).flatten()?;
                // If it was truncated meanwhile, only its fingerprints are known.
                let has_fingerprint = |offset, fingerprint| {
                    file_reader::has_fingerprint(&file, offset, fingerprint).unwrap_or(false)
                };
                (has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)
                    && has_fingerprint(entry.offset, entry.tail_fingerprint))
                .then_some(file)
            };
            let has_same_head = match head.get(..len) {
                Some(head) => Fingerprint::of(head) == entry.head_fingerprint,
                // Less than a line proves nothing, because all records start alike.
                None if !head.contains(&b'\n') => continue,
                None => match file()
                    .and_then(|file| file_reader::bytes_before(&file, head.len() as u64, head.len()).ok())
                {
                    Some(theirs) => theirs.is_some_and(|theirs| theirs == head),
                    None => continue,
                },
            };
            if !has_same_head {
                self.tracked[index].not_copies_of.push(entry.key);
                continue;
            }
            let content = match file() {
                Some(file) => OriginalContent::Present(file, entry.tail_fingerprint),
                None if entry.tail_fingerprint.len > 0 => {
                    OriginalContent::TailFingerprint(entry.tail_fingerprint)
                }
                None => continue,
            };
            originals.push(PossibleOriginal {
                key: entry.key,
                path: self.tracked[other].path.clone(),
                offset: entry.offset,
                content,
                digest_check: DigestCheck::of(&entry),
            });
        }
        originals.sort_by_key(|original| std::cmp::Reverse(original.offset));
        originals.truncate(ORIGINALS_MAX);
        originals
    }

    /// The file of an entry, if it is available.
    pub(super) fn file_of(&self, index: usize) -> io::Result<Option<File>> {
        let tracked = &self.tracked[index];
        if let Some(reader) = &tracked.reader {
            return reader.file().try_clone().map(Some);
        }
        let Some(opened) = self.directories[tracked.directory].open.as_ref().filter(|_| tracked.listed)
        else {
            return Ok(None);
        };
        let file = opened.open_file(name::file_name(&tracked.entry.path))?;
        let (observed, _) = directory::observe(&file, &tracked.entry.path)?;
        // Otherwise it was replaced since the sweep.
        Ok(((observed.dev, observed.ino) == (tracked.entry.dev, tracked.entry.ino)).then_some(file))
    }
}
