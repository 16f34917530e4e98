//! A file that does not hold any more what was read of it. Where a copy of that is found beside it, as `copytruncate` of
//! logrotate leaves one, the rest of the copy is read before the file is read from its beginning.

use super::compressed::{self, Compression};
use super::identity::FileObservation;
use super::name::Order;
use super::tracked::Tracked;
use super::{Files, Tampered, name, tail};
use crate::position::{FileEntry, Fingerprint};

impl Files {
    /// What was read of the file is gone from it: it is a new file in the place of the old one, whose content is remembered.
    pub(super) fn restart(&mut self, at: usize, size: u64) {
        let old = self.tracked[at].entry.clone();
        let copy = self.copy_of(at);
        let tracked = &mut self.tracked[at];
        let entry = &mut tracked.entry;
        (entry.offset, entry.tail_fingerprint, entry.prefix) =
            (0, Fingerprint::of(b""), Fingerprint::of(b""));
        (entry.size, entry.finished) = (size, false);
        (entry.digest, entry.compared_ms) = (None, 0);
        (tracked.tail, tracked.scan, tracked.quiet_since) = (None, None, None);
        (tracked.changed, tracked.alone, tracked.cut_off) = (true, false, None);
        tracked.strangers.clear();
        // What it still holds is told again, by the same ids: it must not be counted as twins of itself. Where there is a copy the
        // sequence goes on in that.
        if copy.is_none() {
            let folder = &mut self.folders[tracked.folder];
            (folder.begun, folder.sequence) = (false, folder.sequence + 1);
        }
        self.report_restart(at, &old, copy.as_ref());
        if old.offset == 0 && copy.is_none() || old.tail_fingerprint.len == 0 && old.offset > 0 {
            return;
        }
        let entry = &mut self.tracked[at].entry;
        (entry.key, entry.epoch) = (self.next_key, old.epoch + 1);
        self.next_key += 1;
        self.remember(at, old, copy);
    }

    fn report_restart(&mut self, at: usize, old: &FileEntry, copy: Option<&FileObservation>) {
        let tracked = &mut self.tracked[at];
        let (path, size) = (tracked.path.clone(), tracked.entry.size);
        tracked.entry.epoch = old.epoch + 1;
        let epoch = tracked.entry.epoch;
        match copy {
            Some(copy) => tracing::warn!(
                source = self.source,
                path,
                offset = old.offset,
                size_bytes = size,
                copy = name::shown(&copy.path),
                "audit file was truncated or rewritten; what its copy has beyond the offset is read, then the file from its beginning"
            ),
            None => tracing::warn!(
                source = self.source,
                path,
                offset = old.offset,
                size_bytes = size,
                "audit file was truncated or rewritten; it is read from its beginning, and what was written between the last read and that is lost"
            ),
        }
        if old.offset > 0 {
            self.tampered.push(Tampered {
                path,
                offset: old.offset,
                size,
                epoch,
                copy: copy.map(|copy| name::shown(&copy.path)),
            });
        } else if copy.is_none() && old.size > 0 {
            let reason = "the file was truncated or rewritten before it was read";
            let path = self.tracked[at].entry.path.clone();
            self.lose(self.now_ms, &path, 0, old.size, reason);
        }
    }

    /// Keeps what is known of the content that is gone from a file, so that a copy of it is recognised. One that is at hand, and
    /// is not followed for itself, is read on.
    fn remember(&mut self, at: usize, mut old: FileEntry, copy: Option<FileObservation>) {
        let (folder, order) = (self.tracked[at].folder, self.tracked[at].order.clone());
        let followed = |seen: &FileObservation| {
            let inode = (seen.dev, seen.ino);
            let mut listed = self.tracked.iter().filter(|t| t.listed);
            listed.any(|t| (t.entry.dev, t.entry.ino) == inode)
        };
        let copy = copy.filter(|copy| !followed(copy));
        if copy.is_none() && old.offset == 0 {
            // Nothing is known of it that the copy does not show itself.
            self.pending.forget.push(old.key);
            return;
        }
        old.last_seen_ms = self.now_ms;
        let mut past = match copy {
            Some(seen) => {
                (old.path, old.size, old.mtime_ms) = (seen.path, seen.size, seen.mtime_ms);
                (old.dev, old.ino, old.finished) = (seen.dev, seen.ino, false);
                let mut past = Tracked::new(old, folder);
                past.listed = true;
                past.is_to_be_compared();
                // It was written before what the file holds now.
                if past.order >= order {
                    past.order = Order::before(&order);
                }
                past
            }
            None => {
                (old.size, old.dev, old.ino, old.finished) = (old.offset, 0, 0, true);
                Tracked::new(old, folder)
            }
        };
        past.changed = true;
        self.tracked.push(past);
    }

    /// A file of the same directory, under whatever name, that holds what was read of this one.
    fn copy_of(&self, at: usize) -> Option<FileObservation> {
        let Tracked { entry, folder, .. } = &self.tracked[at];
        let known = if entry.offset > 0 {
            entry.tail_fingerprint.len
        } else {
            entry.prefix.len
        };
        let dir = self.folders[*folder].open.as_ref()?;
        if known == 0 || self.tracked[at].compression.is_some() {
            return None;
        }
        let mut found: Option<FileObservation> = None;
        for seen in dir.regular_files().ok()? {
            if (seen.dev, seen.ino) == (entry.dev, entry.ino) {
                continue;
            }
            let compression = compressed::of_name(&seen.path).map(|(_, how)| how);
            let holds = match compression {
                Some(Compression::Unsupported) => false,
                // How much it holds is seen when it is read.
                Some(how) => self.compressed_head(*folder, &seen, how).is_ok_and(|head| {
                    let head = head.get(..entry.prefix.len as usize);
                    head.is_some_and(|head| Fingerprint::of(head) == entry.prefix)
                }),
                None => {
                    // Of one that was not read all is wanted, of another what is behind the offset.
                    let enough =
                        seen.size >= entry.offset.max(if entry.offset == 0 { entry.size } else { 0 });
                    let file = || dir.open_file(name::of(&seen.path)).ok();
                    enough
                        && file().is_some_and(|file| {
                            let holds =
                                |at, fingerprint| tail::holds(&file, at, fingerprint).unwrap_or(false);
                            holds(u64::from(entry.prefix.len), entry.prefix)
                                && holds(entry.offset, entry.tail_fingerprint)
                        })
                }
            };
            let better = |than: &FileObservation| compression.is_none() && seen.size > than.size;
            if holds && found.as_ref().is_none_or(better) {
                found = Some(seen);
            }
        }
        found
    }
}
