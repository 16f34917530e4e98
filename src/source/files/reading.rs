//! Reads one file: opens it where its entry says, hands out what is there, and knows when nothing can follow.

use super::directory;
use super::frame::FRONTIER_BYTES;
use super::tail::{self, Tail};
use super::{Files, Found, Tampered, Turn, name};
use crate::position::Evidence;
use std::io;
use std::time::Instant;

impl Files {
    pub(super) fn read_one(
        &mut self,
        at: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<Turn> {
        if self.tracked[at].tail.is_none() {
            // Closed to make room while it was waiting to be quiet for long enough; a sweep sees whether it grows.
            let tracked = &self.tracked[at];
            if let Some(since) = tracked.quiet_since
                && tracked.entry.offset == tracked.entry.size
                && now.duration_since(since) < self.config.rotate_grace
            {
                return Ok(Turn::Until(since + self.config.rotate_grace));
            }
            if !self.room_for_one_more() || !self.open(at)? {
                return Ok(Turn::Idle);
            }
            if let Err(error) = self.replay(at, emit) {
                self.tracked[at].tail = None;
                return Err(error);
            }
        }
        crate::failpoint::hit("read");
        let tracked = &mut self.tracked[at];
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        let look = tail.look(&tracked.path)?;
        if look.rewritten {
            self.restart(at, look.seen.size);
            return Ok(Turn::More);
        }
        if (look.seen.size, look.seen.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (look.seen.size, look.seen.mtime_ms);
            tracked.quiet_since = None;
        }
        if tail.fill(self.config.read_bytes)? > 0 {
            tracked.quiet_since = None;
            let folder = &mut self.folders[tracked.folder];
            folder.passed_bytes += tracked.hand_out(folder.sequence, folder.passed_bytes, emit);
            return Ok(Turn::More);
        }
        self.at_end(at, look.names, now, now_ms, once, emit)
    }

    /// The file has no more now; if nothing can follow, its rest is a record and it is finished.
    fn at_end(
        &mut self,
        at: usize,
        names: u64,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(Found<'_>),
    ) -> io::Result<Turn> {
        let succeeded = self.succeeded(at);
        let tracked = &mut self.tracked[at];
        let folder = tracked.folder;
        if !succeeded && names > 0 && tracked.listed {
            return Ok(Turn::Idle);
        }
        let since = *tracked.quiet_since.get_or_insert(now);
        let grace = self.config.rotate_grace;
        // What was last written long ago by the wall clock has been quiet already. A rest that may still get its end is
        // watched all the same, unless this run will not wait.
        let long_ago = now_ms - tracked.entry.mtime_ms >= grace.as_millis() as i64;
        let rest = tracked
            .tail
            .as_ref()
            .is_some_and(|tail| tail.framer.waiting_bytes() > 0);
        if !(long_ago && (once || !rest)) && now.duration_since(since) < grace {
            return Ok(Turn::Until(since + grace));
        }
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        let path_json = &tracked.path_json;
        let (sequence, passed) = (self.folders[folder].sequence, self.folders[folder].passed_bytes);
        if let Some(frame) = tail.framer.last_frame() {
            emit(Found {
                frame,
                file: tracked.entry.key,
                path_json,
                folder,
                sequence,
                at: passed,
                unterminated: true,
                replayed: false,
            });
            tracked.records += 1;
        }
        tracked.note_position();
        tracked.entry.finished = true;
        tracked.changed = true;
        tracked.tail = None;
        tracing::debug!(source = self.source, path = tracked.path, "audit file finished");
        Ok(Turn::More)
    }

    /// Opens the file where its entry says. `false`: it is not what the entry says; the next turn or sweep knows more.
    pub(super) fn open(&mut self, at: usize) -> io::Result<bool> {
        let tracked = &mut self.tracked[at];
        let Some(folder) = &self.folders[tracked.folder].open else {
            return Ok(false);
        };
        let name = name::of(&tracked.path);
        let file = folder.open_file(name)?;
        let (seen, _) = directory::look(&file, &tracked.path)?;
        if (seen.dev, seen.ino) != (tracked.entry.dev, tracked.entry.ino) {
            // Replaced since the sweep.
            return Ok(false);
        }
        if tracked.begins_at_end() {
            tracked.entry.offset = tail::boundary_before(&file, tracked.entry.offset.min(seen.size))?;
            let before = tail::bytes_before(&file, tracked.entry.offset, FRONTIER_BYTES)?.unwrap_or_default();
            tracked.entry.frontier = Evidence::of(&before);
            tracked.changed = true;
        }
        let entry = &tracked.entry;
        // Of a file that was not read only the beginning is known.
        let begins = entry.offset > 0 || tail::holds(&file, u64::from(entry.prefix.len), entry.prefix)?;
        if begins {
            tracked.tail = Tail::open(file, entry.offset, entry.frontier, self.config.record_bytes_max)?;
        }
        if tracked.tail.is_none() {
            self.restart(at, seen.size);
            return self.open(at);
        }
        Ok(true)
    }

    /// What was read of the file is gone from it: it is a new file in the place of the old one.
    pub(super) fn restart(&mut self, at: usize, size: u64) {
        let tracked = &mut self.tracked[at];
        let entry = &mut tracked.entry;
        tracing::warn!(
            source = self.source,
            path = tracked.path,
            offset = entry.offset,
            size_bytes = size,
            "audit file was truncated or rewritten; it is read from its beginning, and what was written between the last read and that is lost"
        );
        entry.epoch += 1;
        self.tampered.push(Tampered {
            path: tracked.path.clone(),
            offset: entry.offset,
            size,
            epoch: entry.epoch,
        });
        (entry.offset, entry.frontier, entry.prefix) = (0, Evidence::of(b""), Evidence::of(b""));
        (entry.size, entry.finished) = (size, false);
        (tracked.tail, tracked.quiet_since, tracked.changed) = (None, None, true);
        // What it still holds is told again, by the same ids: it must not be counted as twins of itself.
        let folder = &mut self.folders[tracked.folder];
        (folder.begun, folder.sequence) = (false, folder.sequence + 1);
    }
}
