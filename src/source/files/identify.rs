//! Identifies a file whose name and inode are not both known: a file that was read before, or a new one.

use super::matching::{FileIdentity, FileObservation, match_compressed, match_entry, match_moved};
use super::record_splitter::FINGERPRINT_BYTES;
use super::tracked::TrackedFile;
use super::{AuditFiles, compressed, file_reader, name};
use crate::config::StartAt;
use crate::position::{FileEntry, Fingerprint};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// A regular file that may be an audit file: by its name, or because its inode is being read.
pub(crate) struct Candidate {
    pub observed: FileObservation,
    pub has_audit_name: bool,
}

/// A file that may match an entry but cannot be read to find out. Until then it is not new, and the entry's file not
/// missing.
pub(super) struct Unidentified {
    path: PathBuf,
    inode: (u64, u64),
    failures: u32,
    /// Seen by the last sweep.
    pub(super) listed: bool,
}

impl Unidentified {
    /// Whether it may be the tracked file.
    pub(super) fn may_be(&self, tracked: &TrackedFile) -> bool {
        self.path == tracked.entry.path || self.inode == (tracked.entry.dev, tracked.entry.ino)
    }
}

/// Whether the file has more than was read of the entry's. If that is only a piece of a line, it proves nothing: many
/// records begin alike, and the inode of a deleted file is reused. A file that was skipped is known by its length alone.
fn has_grown(entry: &FileEntry, observed: &FileObservation) -> bool {
    entry.offset > 0 && entry.tail_fingerprint.len > 0 && observed.size > entry.offset
}

impl AuditFiles {
    pub(super) fn identify(&mut self, directory: usize, file: Candidate, growing: bool, now_ms: i64) {
        let Candidate { observed, has_audit_name } = file;
        let (mut candidates, mut entries) = self.entries_of(|t| t.directory == directory && !t.listed);
        let dir = self.directories[directory].open.as_ref();
        let mut file: Option<File> = None;
        let mut read = |what: &dyn Fn(&File) -> io::Result<bool>| {
            if file.is_none() {
                file = dir.map(|dir| dir.open_file(name::file_name(&observed.path))).transpose()?;
            }
            file.as_ref().map_or(Ok(false), what)
        };
        let compressed = compressed::split_extension(&observed.path);
        let head =
            compressed.map_or(Ok(Vec::new()), |(_, how)| self.compressed_head(directory, &observed, how));
        let mut verdict = match compressed {
            Some((original, _)) => {
                head.map(|head| match_compressed(&entries, &observed, Path::new(original), &head))
            }
            None => match_entry(&entries, &observed, &mut |offset, fingerprint| {
                read(&|file| file_reader::has_fingerprint(file, offset, fingerprint))
            }),
        };
        if let Ok(FileIdentity::Resume { entry }) = verdict
            && compressed.is_none()
            && has_grown(&entries[entry], &observed)
        {
            let offset = entries[entry].offset;
            let is_piece_of_line = read(&|file| Ok(file_reader::boundary_before(file, offset)? == 0));
            verdict = is_piece_of_line.map(|is_piece_of_line| match is_piece_of_line {
                true => FileIdentity::New,
                false => FileIdentity::Resume { entry },
            });
        }
        if has_audit_name && compressed.is_none() && matches!(verdict, Ok(FileIdentity::New)) {
            (candidates, entries) = self.entries_of(|t| self.directories[t.directory].orphaned);
            verdict = match_moved(&entries, &observed, &mut |offset, fingerprint| {
                read(&|file| file_reader::has_fingerprint(file, offset, fingerprint))
            });
        }
        match verdict {
            Err(error) => self.leave_unidentified(&observed, &error),
            // The inode of a deleted file was reused by a file that is not an audit file.
            Ok(FileIdentity::Resume { entry })
                if !has_audit_name
                    && entries[entry].offset == 0
                    && entries[entry].head_fingerprint.len == 0 => {}
            Ok(FileIdentity::New) if !has_audit_name => {}
            Ok(FileIdentity::Resume { entry }) => {
                self.resume_entry(candidates[entry], directory, &observed, now_ms);
            }
            // Two entries had this inode at different times. If only one had it, opening the file checks the content.
            Ok(FileIdentity::Restart { entry }) => {
                let index = candidates[entry];
                self.tracked[index].refresh(&observed, now_ms);
                self.handle_truncation(index, observed.size);
            }
            Ok(FileIdentity::New) => self.track_new(directory, &observed, growing, now_ms),
        }
    }

    /// Matching entries and their indexes in `tracked`.
    fn entries_of(&self, which: impl Fn(&TrackedFile) -> bool) -> (Vec<usize>, Vec<FileEntry>) {
        let found = self.tracked.iter().enumerate().filter(|(_, t)| which(t));
        found.map(|(index, t)| (index, t.entry.clone())).unzip()
    }

    /// Continues at the offset of an entry whose file has another path, device or inode now.
    pub(super) fn resume_entry(
        &mut self,
        index: usize,
        directory: usize,
        observed: &FileObservation,
        now_ms: i64,
    ) {
        let tracked = &mut self.tracked[index];
        tracing::warn!(
            source = self.source,
            path = name::display_path(&observed.path),
            before = tracked.path,
            offset = tracked.entry.offset,
            "audit file has another path, device or inode than before but the same content; \
             reading continues at the stored offset"
        );
        if tracked.directory != directory {
            // The records before the offset are read again for the twin counts of the new directory.
            (tracked.directory, tracked.reader) = (directory, None);
        }
        tracked.moved_to(observed, now_ms);
    }

    fn track_new(&mut self, directory: usize, observed: &FileObservation, growing: bool, now_ms: i64) {
        let mut entry = FileEntry {
            key: self.next_key,
            path: observed.path.clone(),
            dev: observed.dev,
            ino: observed.ino,
            size: observed.size,
            mtime_ms: observed.mtime_ms,
            tail_fingerprint: Fingerprint::of(b""),
            head_fingerprint: self.head_fingerprint_of(directory, observed),
            last_seen_ms: now_ms,
            ..FileEntry::default()
        };
        self.next_key += 1;
        if self.first_run && self.config.start_at == StartAt::End {
            // The length of compressed content is unknown. Such a file does not grow, so it is skipped completely.
            let compressed = compressed::split_extension(&observed.path).is_some();
            let offset = if compressed { 0 } else { observed.size };
            (entry.offset, entry.finished) = (offset, compressed || !growing);
        }
        let mut tracked = TrackedFile::new(entry, directory);
        (tracked.listed, tracked.changed) = (true, true);
        self.tracked.push(tracked);
    }

    /// The fingerprint of a file's first bytes. Until the file is read, they and its name identify it. If it cannot
    /// be opened now, only its name does.
    fn head_fingerprint_of(&self, directory: usize, observed: &FileObservation) -> Fingerprint {
        let len = observed.size.min(FINGERPRINT_BYTES as u64);
        if let Some((_, how)) = compressed::split_extension(&observed.path) {
            let head = self.compressed_head(directory, observed, how);
            return Fingerprint::of(&head.unwrap_or_default());
        }
        let dir = self.directories[directory].open.as_ref();
        let head = dir.map(|dir| {
            dir.open_file(name::file_name(&observed.path))
                .and_then(|file| file_reader::bytes_before(&file, len, FINGERPRINT_BYTES))
        });
        match head {
            Some(Ok(Some(head))) => Fingerprint::of(&head),
            _ => Fingerprint::of(b""),
        }
    }

    /// Leaves the file to the next sweep, which may be able to read it.
    fn leave_unidentified(&mut self, observed: &FileObservation, error: &io::Error) {
        let failures = self.note_unidentified(&observed.path, (observed.dev, observed.ino));
        self.report_failure(&observed.path, failures, error);
    }

    /// Returns the number of consecutive failures.
    pub(super) fn note_unidentified(&mut self, path: &Path, inode: (u64, u64)) -> u32 {
        let known = |file: &Unidentified| file.path == path && file.inode == inode;
        let index = self.unidentified.iter().position(known).unwrap_or_else(|| {
            self.unidentified.push(Unidentified { path: path.to_owned(), inode, failures: 0, listed: true });
            self.unidentified.len() - 1
        });
        let file = &mut self.unidentified[index];
        (file.failures, file.listed) = (file.failures + 1, true);
        file.failures
    }
}
