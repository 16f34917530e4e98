//! Handles a truncated or rewritten file. If a copy of its old content is found, as `copytruncate` of logrotate
//! leaves one, the rest of the copy is read first. Then the file is read from the start.

use super::compressed::{self, FileCompression};
use super::failures::LossReason;
use super::matching::FileObservation;
use super::name::FileOrder;
use super::tracked::TrackedFile;
use super::{AuditFiles, RewrittenFile, file_reader, name};
use crate::metrics::LossClass;
use crate::position::{FileEntry, Fingerprint, Verification};

impl AuditFiles {
    /// The file no longer contains what was read: it becomes a new file, and the old content keeps an entry of its
    /// own.
    pub(super) fn handle_truncation(&mut self, index: usize, size: u64) {
        let old = self.tracked[index].entry.clone();
        let copy = self.copy_of(index);
        let tracked = &mut self.tracked[index];
        let entry = &mut tracked.entry;
        (entry.offset, entry.tail_fingerprint, entry.head_fingerprint) =
            (0, Fingerprint::of(b""), Fingerprint::of(b""));
        (entry.size, entry.finished) = (size, false);
        (entry.digest, entry.verification) = (None, Verification::Never);
        (tracked.reader, tracked.scan, tracked.quiet_since) = (None, None, None);
        (tracked.changed, tracked.own_twin_scope, tracked.incomplete) = (true, false, None);
        tracked.not_copies_of.clear();
        // What the file still holds is emitted again with the same ids and must not be counted as twins of itself.
        // With a copy, the twin scope continues in the copy.
        if copy.is_none() {
            let directory = &mut self.directories[tracked.directory];
            (directory.twin_window_loaded, directory.twin_scope) = (false, directory.twin_scope + 1);
        }
        self.report_truncation(index, &old, copy.as_ref());
        if old.offset == 0 && copy.is_none() || old.tail_fingerprint.len == 0 && old.offset > 0 {
            return;
        }
        let entry = &mut self.tracked[index].entry;
        (entry.key, entry.truncations) = (self.next_key, old.truncations + 1);
        self.next_key += 1;
        self.keep_old_entry(index, old, copy);
    }

    fn report_truncation(&mut self, index: usize, old: &FileEntry, copy: Option<&FileObservation>) {
        let tracked = &mut self.tracked[index];
        let (path, size) = (tracked.path.clone(), tracked.entry.size);
        tracked.entry.truncations = old.truncations + 1;
        let truncations = tracked.entry.truncations;
        match copy {
            Some(copy) => tracing::warn!(
                source = self.source,
                path,
                offset = old.offset,
                size_bytes = size,
                copy = name::display_path(&copy.path),
                "audit file was truncated or rewritten; the rest of its copy is read, then the file from its start"
            ),
            None => tracing::warn!(
                source = self.source,
                path,
                offset = old.offset,
                size_bytes = size,
                "audit file was truncated or rewritten; it is read from its start, and what was written \
                 since the last read is lost"
            ),
        }
        if old.offset > 0 {
            self.rewritten_files.push(RewrittenFile {
                path,
                offset: old.offset,
                size,
                truncations,
                copy: copy.map(|copy| name::display_path(&copy.path)),
            });
        } else if copy.is_none() && old.size > 0 {
            let reason = "the file was truncated or rewritten before it was read";
            let path = self.tracked[index].entry.path.clone();
            self.record_loss(self.now_ms, &path, 0, old.size, LossReason(LossClass::Rewritten, reason));
        }
    }

    /// Keeps the old entry so that a copy of the old content is recognised. A copy that is available and not yet
    /// tracked is tracked and read on.
    fn keep_old_entry(&mut self, index: usize, mut old: FileEntry, copy: Option<FileObservation>) {
        let (directory, order) = (self.tracked[index].directory, self.tracked[index].order.clone());
        let followed = |observed: &FileObservation| {
            let inode = (observed.dev, observed.ino);
            let mut listed = self.tracked.iter().filter(|t| t.listed);
            listed.any(|t| (t.entry.dev, t.entry.ino) == inode)
        };
        let copy = copy.filter(|copy| !followed(copy));
        if copy.is_none() && old.offset == 0 {
            // The copy is tracked itself, and the old entry adds nothing.
            self.pending_progress.forgotten_files.push(old.key);
            return;
        }
        old.last_seen_ms = self.now_ms;
        let mut previous = match copy {
            Some(observed) => {
                (old.path, old.size, old.mtime_ms) = (observed.path, observed.size, observed.mtime_ms);
                (old.dev, old.ino, old.finished) = (observed.dev, observed.ino, false);
                let mut previous = TrackedFile::new(old, directory);
                previous.listed = true;
                previous.request_verification();
                // The old content precedes the file's new content.
                if previous.order >= order {
                    previous.order = FileOrder::before(&order);
                }
                previous
            }
            None => {
                (old.size, old.dev, old.ino, old.finished) = (old.offset, 0, 0, true);
                TrackedFile::new(old, directory)
            }
        };
        previous.changed = true;
        self.tracked.push(previous);
    }

    /// A file of the same directory, with any name, that contains what was read from this one.
    fn copy_of(&self, index: usize) -> Option<FileObservation> {
        let TrackedFile { entry, directory, .. } = &self.tracked[index];
        let known = if entry.offset > 0 { entry.tail_fingerprint.len } else { entry.head_fingerprint.len };
        let dir = self.directories[*directory].open.as_ref()?;
        if known == 0 || self.tracked[index].compression.is_some() {
            return None;
        }
        let mut found: Option<FileObservation> = None;
        for observed in dir.regular_files().ok()? {
            if (observed.dev, observed.ino) == (entry.dev, entry.ino) {
                continue;
            }
            let compression = compressed::split_extension(&observed.path).map(|(_, how)| how);
            let is_copy = match compression {
                Some(FileCompression::Unsupported) => false,
                // How much it contains is found out when it is read.
                Some(how) => self.compressed_head(*directory, &observed, how).is_ok_and(|head| {
                    let head = head.get(..entry.head_fingerprint.len as usize);
                    head.is_some_and(|head| Fingerprint::of(head) == entry.head_fingerprint)
                }),
                None => {
                    // If nothing was read, the copy must be complete. Otherwise it must reach the offset.
                    let enough =
                        observed.size >= entry.offset.max(if entry.offset == 0 { entry.size } else { 0 });
                    let file = || dir.open_file(name::file_name(&observed.path)).ok();
                    enough
                        && file().is_some_and(|file| {
                            let has_fingerprint = |offset, fingerprint| {
                                file_reader::has_fingerprint(&file, offset, fingerprint).unwrap_or(false)
                            };
                            has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)
                                && has_fingerprint(entry.offset, entry.tail_fingerprint)
                        })
                }
            };
            let better = |than: &FileObservation| compression.is_none() && observed.size > than.size;
            if is_copy && found.as_ref().is_none_or(better) {
                found = Some(observed);
            }
        }
        found
    }
}
