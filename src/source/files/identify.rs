//! A file that the last look did not know under its name and inode: one that was read before, or a new one.

use super::frame::FINGERPRINT_BYTES;
use super::identity::{FileIdentity, FileObservation, resolve, resolve_compressed, resolve_moved};
use super::tracked::Tracked;
use super::{Files, compressed, name, tail};
use crate::config::StartAt;
use crate::position::{FileEntry, Fingerprint};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A regular file that may be one of ours: by its name, or by the inode of a file that is being read.
pub struct Candidate {
    pub seen: FileObservation,
    pub named: bool,
}

/// A file that may be one that was read before, and cannot be read to find out: it is no new file, and the other is not gone.
pub(super) struct Unidentified {
    path: PathBuf,
    inode: (u64, u64),
    failures: u32,
    /// Found by the last sweep.
    pub(super) listed: bool,
}

impl Unidentified {
    /// Whether that may be this file.
    pub(super) fn may_be(&self, tracked: &Tracked) -> bool {
        self.path == tracked.entry.path || self.inode == (tracked.entry.dev, tracked.entry.ino)
    }
}

impl Files {
    pub(super) fn identify(&mut self, folder: usize, file: Candidate, live: bool, now_ms: i64) {
        let Candidate { seen, named } = file;
        let (mut candidates, mut entries) = self.entries_of(|t| t.folder == folder && !t.listed);
        let dir = self.folders[folder].open.as_ref();
        let mut file: Option<File> = None;
        let mut holds = |offset: u64, fingerprint: Fingerprint| {
            if file.is_none() {
                file = dir.map(|dir| dir.open_file(name::of(&seen.path))).transpose()?;
            }
            let Some(file) = &file else { return Ok(false) };
            tail::holds(file, offset, fingerprint)
        };
        let compressed = compressed::of_name(&seen.path);
        let head = compressed.map_or(Ok(Vec::new()), |(_, how)| {
            self.compressed_head(folder, &seen, how)
        });
        let mut verdict = match compressed {
            Some((original, _)) => {
                head.map(|head| resolve_compressed(&entries, &seen, Path::new(original), &head))
            }
            None => resolve(&entries, &seen, &mut holds),
        };
        if named && compressed.is_none() && matches!(verdict, Ok(FileIdentity::New)) {
            (candidates, entries) = self.entries_of(|t| self.folders[t.folder].left);
            verdict = resolve_moved(&entries, &seen, &mut holds);
        }
        match verdict {
            Err(error) => self.leave_unidentified(&seen, &error),
            // The inode of a deleted file was used again for something that is no audit file.
            Ok(FileIdentity::Resume { entry })
                if !named && entries[entry].offset == 0 && entries[entry].prefix.len == 0 => {}
            Ok(FileIdentity::New) if !named => {}
            Ok(FileIdentity::Resume { entry }) => {
                self.go_on(candidates[entry], folder, &seen, now_ms);
            }
            // Two entries had this inode, one after the other; a file whose inode only one had is checked when it is opened.
            Ok(FileIdentity::Restart { entry }) => {
                let at = candidates[entry];
                self.tracked[at].still_there(&seen, now_ms);
                self.restart(at, seen.size);
            }
            Ok(FileIdentity::New) => self.begin(folder, &seen, live, now_ms),
        }
    }

    /// Entries that a file may be one of, and where they stand.
    fn entries_of(&self, which: impl Fn(&Tracked) -> bool) -> (Vec<usize>, Vec<FileEntry>) {
        let found = self.tracked.iter().enumerate().filter(|(_, t)| which(t));
        found.map(|(at, t)| (at, t.entry.clone())).unzip()
    }

    /// Goes on at the offset of an entry whose file was found elsewhere.
    pub(super) fn go_on(&mut self, at: usize, folder: usize, seen: &FileObservation, now_ms: i64) {
        let tracked = &mut self.tracked[at];
        tracing::warn!(
            source = self.source,
            path = name::shown(&seen.path),
            before = tracked.path,
            offset = tracked.entry.offset,
            "audit file has another path, device or inode than before, but the same bytes at its beginning and before the position; going on where it was left"
        );
        if tracked.folder != folder {
            // What stands before the offset is told again to the sequence that it belongs to now.
            (tracked.folder, tracked.tail) = (folder, None);
        }
        tracked.moved_to(seen, now_ms);
    }

    fn begin(&mut self, folder: usize, seen: &FileObservation, live: bool, now_ms: i64) {
        let mut entry = FileEntry {
            key: self.next_key,
            path: seen.path.clone(),
            dev: seen.dev,
            ino: seen.ino,
            size: seen.size,
            mtime_ms: seen.mtime_ms,
            tail_fingerprint: Fingerprint::of(b""),
            prefix: self.head_of(folder, seen),
            last_seen_ms: now_ms,
            ..FileEntry::default()
        };
        self.next_key += 1;
        if self.fresh && self.config.start_at == StartAt::End {
            // How long the content of a compressed one is is not known; nothing follows it, and none of it is wanted.
            let compressed = compressed::of_name(&seen.path).is_some();
            let offset = if compressed { 0 } else { seen.size };
            (entry.offset, entry.finished) = (offset, compressed || !live);
        }
        let mut tracked = Tracked::new(entry, folder);
        (tracked.listed, tracked.changed) = (true, true);
        self.tracked.push(tracked);
    }

    /// The fingerprint of a file's first bytes: until it is read, they and its name are all that it is known by. What cannot be
    /// opened now is known by its name alone.
    fn head_of(&self, folder: usize, seen: &FileObservation) -> Fingerprint {
        let len = seen.size.min(FINGERPRINT_BYTES as u64);
        if let Some((_, how)) = compressed::of_name(&seen.path) {
            let head = self.compressed_head(folder, seen, how);
            return Fingerprint::of(&head.unwrap_or_default());
        }
        let dir = self.folders[folder].open.as_ref();
        let head = dir.map(|dir| {
            dir.open_file(name::of(&seen.path))
                .and_then(|file| tail::bytes_before(&file, len, FINGERPRINT_BYTES))
        });
        match head {
            Some(Ok(Some(head))) => Fingerprint::of(&head),
            _ => Fingerprint::of(b""),
        }
    }

    /// Until the next sweep, which may be able to read it.
    fn leave_unidentified(&mut self, seen: &FileObservation, error: &io::Error) {
        let failures = self.note_unidentified(&seen.path, (seen.dev, seen.ino));
        self.report_failure(&seen.path, failures, error);
    }

    /// Returns how often in a row it was.
    pub(super) fn note_unidentified(&mut self, path: &Path, inode: (u64, u64)) -> u32 {
        let known = |file: &Unidentified| file.path == path && file.inode == inode;
        let at = self.unidentified.iter().position(known).unwrap_or_else(|| {
            self.unidentified.push(Unidentified {
                path: path.to_owned(),
                inode,
                failures: 0,
                listed: true,
            });
            self.unidentified.len() - 1
        });
        let file = &mut self.unidentified[at];
        (file.failures, file.listed) = (file.failures + 1, true);
        file.failures
    }
}
