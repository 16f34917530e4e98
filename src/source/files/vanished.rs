//! Files that are gone from their directory: read on while a descriptor holds them, then let go, then forgotten.

use super::tracked::Tracked;
use super::{Files, compressed, tail};
use crate::config::FilesConfig;
use std::collections::HashSet;
use std::time::Instant;

impl Files {
    /// Files that are gone: what of them was not read is lost unless a descriptor still holds it.
    pub(super) fn care_for_vanished(&mut self, looked_at: &[usize], now: Instant, now_ms: i64) {
        let grace_passed =
            |since: Instant, config: &FilesConfig| now.duration_since(since) >= config.deleted_age_max;
        let mut held: Vec<usize> = Vec::new();
        for at in 0..self.tracked.len() {
            let tracked = &mut self.tracked[at];
            if tracked.listed || !looked_at.contains(&tracked.folder) {
                continue;
            }
            if self.unidentified.iter().any(|file| file.may_be(tracked)) {
                continue;
            }
            if tracked.scan.is_some() {
                // It is held open, and compared to its end.
                continue;
            }
            if tracked.tail.is_none() && !tracked.entry.finished {
                self.vanish_unread(at, now_ms);
                continue;
            }
            let size = tracked.entry.size;
            if let Some(tail) = &mut tracked.tail {
                tracked.entry.size = tail.look(&tracked.entry.path).map_or(size, |look| look.seen.size);
                tracked.deleted_since.get_or_insert(now);
                held.push(at);
            }
        }
        // Unread ones first, of them the oldest: they are the next to be read. Of the others the newest, which may be
        // written to yet. What exceeds the caps is let go from the end.
        held.sort_by(|&a, &b| {
            let (a, b) = (&self.tracked[a], &self.tracked[b]);
            match (a.unread() > 0, b.unread() > 0) {
                (true, true) => a.order.cmp(&b.order),
                (false, false) => b.order.cmp(&a.order),
                (a_unread, b_unread) => b_unread.cmp(&a_unread),
            }
        });
        let (mut files, mut bytes) = (0, 0);
        for at in held {
            let tracked = &mut self.tracked[at];
            let unread = tracked.unread();
            files += 1;
            bytes += unread;
            let too_old = tracked
                .deleted_since
                .is_some_and(|since| grace_passed(since, &self.config));
            if files > self.config.deleted_files_max || bytes > self.config.deleted_bytes_max || too_old {
                tracked.note_position();
                let (path, from) = (tracked.entry.path.clone(), tracked.read_offset());
                tracked.tail = None;
                tracked.vanished(now_ms);
                if unread > 0 {
                    let lost = if tracked.compression.is_some() { 0 } else { unread };
                    self.lose(now_ms, &path, from, lost, "the file was deleted while it could not be delivered; it was held as long as the caps allow");
                }
            }
        }
        self.forget(looked_at, now_ms);
    }

    /// A file is gone of which not all was read, unless another file holds the same.
    fn vanish_unread(&mut self, at: usize, now_ms: i64) {
        let holder = self.holder_of(at);
        let tracked = &self.tracked[at];
        let (path, from, size) = (
            tracked.entry.path.clone(),
            tracked.entry.offset,
            tracked.entry.size,
        );
        let compressed = tracked.compression.is_some();
        let from = from.max(holder.map_or(0, |holder| self.tracked[holder].read_offset()));
        if holder.is_some_and(|holder| self.tracked[holder].is_active()) && from < size {
            // What it does not deliver is told when it is read to its end.
            return;
        }
        self.tracked[at].vanished(now_ms);
        if compressed {
            let reason = "the compressed file was deleted before it was read to its end";
            self.lose(now_ms, &path, from, 0, reason);
        } else if size > from {
            self.lose(
                now_ms,
                &path,
                from,
                size - from,
                "the file was deleted before it was read",
            );
        } else if holder.is_none() {
            let reason = "the file was deleted while the agent did not hold it; what was written to it since is not known";
            self.lose(now_ms, &path, from, 0, reason);
        }
    }

    /// Another file that holds what is known of this one: a copy, or it compressed.
    fn holder_of(&self, at: usize) -> Option<usize> {
        let Tracked { entry, .. } = &self.tracked[at];
        let fingerprint = if entry.offset > 0 {
            entry.tail_fingerprint
        } else {
            entry.prefix
        };
        if self.tracked[at].compression.is_some() || fingerprint.len == 0 && entry.size > 0 {
            return None;
        }
        (0..self.tracked.len()).find(|&other| {
            let holder = &self.tracked[other];
            if other == at || !holder.listed {
                return false;
            }
            if holder.compression.is_some() {
                let stem = compressed::of_name(&holder.entry.path).map(|(stem, _)| stem);
                let begins_alike = entry.prefix.len > 0 && holder.entry.prefix == entry.prefix;
                return begins_alike || stem == Some(entry.path.as_os_str());
            }
            fingerprint.len > 0
                && holder.entry.size >= entry.offset
                && self.file_of(other).ok().flatten().is_some_and(|file| {
                    let holds = |at, fingerprint| tail::holds(&file, at, fingerprint).unwrap_or(false);
                    holds(u64::from(entry.prefix.len), entry.prefix)
                        && holds(entry.offset, entry.tail_fingerprint)
                })
        })
    }

    /// Entries of vanished files are kept for a while, for a file may come back, but not for ever. Nor are those of directories
    /// that nothing leads to any more, while those that something leads to are there: a disk may be mounted late.
    fn forget(&mut self, looked_at: &[usize], now_ms: i64) {
        let all_there = !looked_at.is_empty() && self.folders.iter().all(|f| f.left || f.open.is_some());
        let gone = |t: &Tracked| {
            let maybe_there = t.listed || t.is_open() || self.unidentified.iter().any(|file| file.may_be(t));
            let vanished = t.entry.finished && looked_at.contains(&t.folder);
            !maybe_there && (vanished || all_there && self.folders[t.folder].left)
        };
        let retention_ms = self.config.missing_files_retention.as_millis() as i64;
        let mut vanished: Vec<(i64, u32)> = self
            .tracked
            .iter()
            .filter(|t| gone(t))
            .map(|t| (t.entry.last_seen_ms, t.entry.key))
            .collect();
        vanished.sort();
        let surplus = vanished.len().saturating_sub(self.config.missing_files_max);
        let forget: HashSet<u32> = vanished
            .iter()
            .enumerate()
            .filter(|(n, (last_seen_ms, _))| *n < surplus || now_ms - last_seen_ms > retention_ms)
            .map(|(_, (_, key))| *key)
            .collect();
        for at in 0..self.tracked.len() {
            let Tracked { entry, .. } = &self.tracked[at];
            let compressed = self.tracked[at].compression.is_some();
            if forget.contains(&entry.key) && !entry.finished && (compressed || entry.size > entry.offset) {
                let bytes = if compressed { 0 } else { entry.size - entry.offset };
                let (path, from) = (entry.path.clone(), entry.offset);
                let reason = "its directory has not been looked at for longer than positions are kept";
                self.lose(now_ms, &path, from, bytes, reason);
            }
        }
        if !forget.is_empty() {
            self.tracked.retain(|t| !forget.contains(&t.entry.key));
            self.pending.forget.extend(forget);
        }
    }
}
