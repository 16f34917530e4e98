//! Files that are gone from their directory: read on while a descriptor holds them, then let go, then forgotten.

use super::Files;
use super::tracked::Tracked;
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
            let size = tracked.entry.size;
            match &mut tracked.tail {
                Some(tail) => {
                    let seen_size = tail.look(&tracked.entry.path).map_or(size, |look| look.seen.size);
                    tracked.entry.size = seen_size;
                    tracked.deleted_since.get_or_insert(now);
                    held.push(at);
                }
                None if !tracked.entry.finished => {
                    let (path, from) = (tracked.entry.path.clone(), tracked.entry.offset);
                    tracked.vanished(now_ms);
                    let reason = if size > from {
                        "the file was deleted before it was read"
                    } else {
                        "the file was deleted while the agent did not hold it; what was written to it since is not known"
                    };
                    self.lose(now_ms, &path, from, size.saturating_sub(from), reason);
                }
                None => {}
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
                    self.lose(now_ms, &path, from, unread, "the file was deleted while it could not be delivered; it was held as long as the caps allow");
                }
            }
        }
        self.forget(looked_at, now_ms);
    }

    /// Entries of vanished files are kept for a while, for a file may come back, but not for ever. Nor are those of directories
    /// that nothing leads to any more, while those that something leads to are there: a disk may be mounted late.
    fn forget(&mut self, looked_at: &[usize], now_ms: i64) {
        let all_there = !looked_at.is_empty() && self.folders.iter().all(|f| f.left || f.open.is_some());
        let gone = |t: &Tracked| {
            let maybe_there =
                t.listed || t.tail.is_some() || self.unidentified.iter().any(|file| file.may_be(t));
            let vanished = t.entry.finished && looked_at.contains(&t.folder);
            !maybe_there && (vanished || all_there && self.folders[t.folder].left)
        };
        let retention_ms = self.config.retention.as_millis() as i64;
        let mut vanished: Vec<(i64, u32)> = self
            .tracked
            .iter()
            .filter(|t| gone(t))
            .map(|t| (t.entry.last_seen_ms, t.entry.key))
            .collect();
        vanished.sort();
        let surplus = vanished.len().saturating_sub(self.config.entries_vanished_max);
        let forget: HashSet<u32> = vanished
            .iter()
            .enumerate()
            .filter(|(n, (last_seen_ms, _))| *n < surplus || now_ms - last_seen_ms > retention_ms)
            .map(|(_, (_, key))| *key)
            .collect();
        for at in 0..self.tracked.len() {
            let Tracked { entry, .. } = &self.tracked[at];
            if forget.contains(&entry.key) && !entry.finished && entry.size > entry.offset {
                let (path, from, bytes) = (entry.path.clone(), entry.offset, entry.size - entry.offset);
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
