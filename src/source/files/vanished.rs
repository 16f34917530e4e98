//! Files that are missing from their directory. They are read on while open, then closed, and finally forgotten.

use super::failures::LossReason;
use super::tracked::TrackedFile;
use super::{AuditFiles, compressed, file_reader};
use crate::config::FilesConfig;
use crate::metrics::LossClass;
use std::collections::HashSet;
use std::time::Instant;

impl AuditFiles {
    /// Handles missing files. What was not read is lost unless the file is still open.
    pub(super) fn handle_vanished(&mut self, listed_directories: &[usize], now: Instant, now_ms: i64) {
        let grace_passed =
            |since: Instant, config: &FilesConfig| now.duration_since(since) >= config.deleted_age_max;
        let mut deleted_open: Vec<usize> = Vec::new();
        for index in 0..self.tracked.len() {
            let tracked = &mut self.tracked[index];
            if tracked.listed || !listed_directories.contains(&tracked.directory) {
                continue;
            }
            if self.unidentified.iter().any(|file| file.may_be(tracked)) {
                continue;
            }
            if tracked.scan.is_some() {
                // The scan holds it open and compares it to its end.
                continue;
            }
            if tracked.reader.is_none() && !tracked.entry.finished {
                self.vanish_unread(index, now_ms);
                continue;
            }
            let size = tracked.entry.size;
            if let Some(reader) = &mut tracked.reader {
                tracked.entry.size =
                    reader.check(&tracked.entry.path).map_or(size, |check| check.observed.size);
                tracked.deleted_since.get_or_insert(now);
                deleted_open.push(index);
            }
        }
        // Sort by value: first files with unread bytes, oldest first, because they are read next; then fully read
        // files, newest first, because they may still be written to. Beyond the limits the last ones are closed.
        deleted_open.sort_by(|&a, &b| {
            let (a, b) = (&self.tracked[a], &self.tracked[b]);
            match (a.unread_bytes() > 0, b.unread_bytes() > 0) {
                (true, true) => a.order.cmp(&b.order),
                (false, false) => b.order.cmp(&a.order),
                (a_unread, b_unread) => b_unread.cmp(&a_unread),
            }
        });
        let (mut files, mut bytes) = (0, 0);
        for index in deleted_open {
            let tracked = &mut self.tracked[index];
            let unread = tracked.unread_bytes();
            files += 1;
            bytes += unread;
            let too_old = tracked.deleted_since.is_some_and(|since| grace_passed(since, &self.config));
            if files > self.config.deleted_files_max || bytes > self.config.deleted_bytes_max || too_old {
                tracked.save_position();
                let (path, from) = (tracked.entry.path.clone(), tracked.read_offset());
                tracked.reader = None;
                tracked.mark_vanished(now_ms);
                if unread > 0 {
                    let lost = if tracked.compression.is_some() { 0 } else { unread };
                    let reason = "the file was deleted before it could be delivered; it was held open as long as the \
                                  limits allow";
                    self.record_loss(now_ms, &path, from, lost, LossReason(LossClass::Deleted, reason));
                }
            }
        }
        self.forget_expired(listed_directories, now_ms);
    }

    /// A file is missing that was not fully read. It is a loss unless another file has the same content.
    fn vanish_unread(&mut self, index: usize, now_ms: i64) {
        let holder = self.file_with_content_of(index);
        let tracked = &self.tracked[index];
        let (path, from, size) = (tracked.entry.path.clone(), tracked.entry.offset, tracked.entry.size);
        let compressed = tracked.compression.is_some();
        let from = from.max(holder.map_or(0, |holder| self.tracked[holder].read_offset()));
        if holder.is_some_and(|holder| self.tracked[holder].is_active()) && from < size {
            // What that file does not deliver is reported when it is finished.
            return;
        }
        self.tracked[index].mark_vanished(now_ms);
        if compressed {
            let reason = "the compressed file was deleted before it was read to its end";
            self.record_loss(now_ms, &path, from, 0, LossReason(LossClass::Deleted, reason));
        } else if size > from {
            let reason = LossReason(LossClass::Deleted, "the file was deleted before it was read");
            self.record_loss(now_ms, &path, from, size - from, reason);
        } else if holder.is_none() {
            let reason = "the file was deleted while the agent did not have it open; what was written to it since the \
                 last read is unknown";
            self.record_loss(now_ms, &path, from, 0, LossReason(LossClass::Deleted, reason));
        }
    }

    /// Another file that contains the known content of this one: a copy, or this file compressed.
    fn file_with_content_of(&self, index: usize) -> Option<usize> {
        let TrackedFile { entry, .. } = &self.tracked[index];
        let fingerprint = if entry.offset > 0 { entry.tail_fingerprint } else { entry.head_fingerprint };
        if self.tracked[index].compression.is_some() || fingerprint.len == 0 && entry.size > 0 {
            return None;
        }
        (0..self.tracked.len()).find(|&other| {
            let holder = &self.tracked[other];
            if other == index || !holder.listed {
                return false;
            }
            if holder.compression.is_some() {
                let stem = compressed::split_extension(&holder.entry.path).map(|(stem, _)| stem);
                let has_same_head =
                    entry.head_fingerprint.len > 0 && holder.entry.head_fingerprint == entry.head_fingerprint;
                return has_same_head || stem == Some(entry.path.as_os_str());
            }
            fingerprint.len > 0
                && holder.entry.size >= entry.offset
                && self.file_of(other).ok().flatten().is_some_and(|file| {
                    let has_fingerprint = |offset, fingerprint| {
                        file_reader::has_fingerprint(&file, offset, fingerprint).unwrap_or(false)
                    };
                    has_fingerprint(u64::from(entry.head_fingerprint.len), entry.head_fingerprint)
                        && has_fingerprint(entry.offset, entry.tail_fingerprint)
                })
        })
    }

    /// Removes entries of missing files beyond `missing_files_max` and `missing_files_retention`. Entries of
    /// directories that are no longer configured are removed in the same way, but only while all configured directories
    /// are available: a disk may be mounted late.
    fn forget_expired(&mut self, listed_directories: &[usize], now_ms: i64) {
        let all_there =
            !listed_directories.is_empty() && self.directories.iter().all(|d| d.orphaned || d.open.is_some());
        let gone = |t: &TrackedFile| {
            let maybe_there = t.listed || t.is_open() || self.unidentified.iter().any(|file| file.may_be(t));
            let vanished = t.entry.finished && listed_directories.contains(&t.directory);
            !maybe_there && (vanished || all_there && self.directories[t.directory].orphaned)
        };
        let retention_ms = self.config.missing_files_retention.as_millis() as i64;
        let mut vanished: Vec<(i64, u32)> =
            self.tracked.iter().filter(|t| gone(t)).map(|t| (t.entry.last_seen_ms, t.entry.key)).collect();
        vanished.sort();
        let surplus = vanished.len().saturating_sub(self.config.missing_files_max);
        let forget: HashSet<u32> = vanished
            .iter()
            .enumerate()
            .filter(|(n, (last_seen_ms, _))| *n < surplus || now_ms - last_seen_ms > retention_ms)
            .map(|(_, (_, key))| *key)
            .collect();
        for index in 0..self.tracked.len() {
            let TrackedFile { entry, .. } = &self.tracked[index];
            let compressed = self.tracked[index].compression.is_some();
            if forget.contains(&entry.key) && !entry.finished && (compressed || entry.size > entry.offset) {
                let bytes = if compressed { 0 } else { entry.size - entry.offset };
                let (path, from) = (entry.path.clone(), entry.offset);
                let reason = "its directory was unavailable for longer than positions are kept";
                self.record_loss(now_ms, &path, from, bytes, LossReason(LossClass::Forgotten, reason));
            }
        }
        if !forget.is_empty() {
            self.tracked.retain(|t| !forget.contains(&t.entry.key));
            self.pending_progress.forgotten_files.extend(forget);
        }
    }
}
