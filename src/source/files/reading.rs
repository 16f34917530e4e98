//! Reads one file: opens it where its entry says, hands out what is there, and knows when nothing can follow.

use super::digest::Digest;
use super::directory;
use super::frame::FINGERPRINT_BYTES;
use super::tail::{self, Tail};
use super::{FileRecord, Files, Turn, name};
use crate::position::{FileEntry, Fingerprint};
use std::fs::File;
use std::io;
use std::time::Instant;

impl Files {
    pub(super) fn read_one(
        &mut self,
        at: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> io::Result<Turn> {
        if let Some(turn) = self.wait_for_stream(at, now, now_ms, once) {
            return Ok(turn);
        }
        if !self.tracked[at].is_open() {
            // Closed to make room while it was waiting to be quiet for long enough; a sweep sees whether it grows.
            let tracked = &self.tracked[at];
            if let Some(since) = tracked.quiet_since
                && tracked.entry.offset == tracked.entry.size
                && now.duration_since(since) < self.config.rotate_grace
            {
                return Ok(Turn::Until(since + self.config.rotate_grace));
            }
            if !self.room_for_one_more() {
                return Ok(Turn::Idle);
            }
        }
        if self.tracked[at].tail.is_none() {
            if let Some(turn) = self.pass_known(at, now, now_ms, once)? {
                return Ok(turn);
            }
            if self.tracked[at].compression.is_some() || !self.open(at)? {
                return Ok(Turn::Idle);
            }
        }
        crate::failpoint::hit("read");
        let tracked = &mut self.tracked[at];
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        let look = tail.look(&tracked.entry.path)?;
        if look.rewritten {
            if tracked.compression.is_some() {
                // How much of it is still there is seen when it is opened again.
                tracked.note_position();
                tracked.tail = None;
            } else {
                self.restart(at, look.seen.size);
            }
            return Ok(Turn::More);
        }
        if (look.seen.size, look.seen.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (look.seen.size, look.seen.mtime_ms);
            tracked.quiet_since = None;
        }
        let more = look.seen.size > tail.framer.read_offset();
        if (more || tracked.scan.is_some())
            && let Some(turn) = self.pass_known(at, now, now_ms, once)?
        {
            return Ok(turn);
        }
        self.join_sequence(at, emit)?;
        let tracked = &mut self.tracked[at];
        let Some(tail) = &mut tracked.tail else {
            return Ok(Turn::Idle);
        };
        match tail.fill(self.config.read_bytes) {
            Ok(0) if tracked.compression.is_some() => return Ok(self.finish(at, emit)),
            Ok(0) => {}
            Ok(_) => {
                (tracked.quiet_since, tracked.cut_off) = (None, None);
                let folder = &mut self.folders[tracked.folder];
                folder.passed_bytes += tracked.emit(folder.sequence, folder.passed_bytes, emit);
                return Ok(Turn::More);
            }
            Err(error) => {
                let turn = self.stream_failed(at, None, error, now, now_ms)?;
                return Ok(turn.unwrap_or(Turn::More));
            }
        }
        self.at_end(at, look.names, now, now_ms, once, emit)
    }

    /// Tells the records before the first one of a sequence again. What is read apart begins a sequence of its own, and ends it.
    fn join_sequence(&mut self, at: usize, emit: &mut dyn FnMut(FileRecord<'_>)) -> io::Result<()> {
        let tracked = &self.tracked[at];
        let alone = tracked.alone.then_some(tracked.entry.key);
        let folder = &mut self.folders[tracked.folder];
        if folder.alone != alone {
            folder.sequence += 1;
            (folder.alone, folder.begun) = (alone, alone.is_some());
        }
        if folder.begun {
            return Ok(());
        }
        self.tracked[at].note_position();
        self.replay(at, emit)
            .inspect_err(|_| self.tracked[at].tail = None)
    }

    /// The file has no more now; if nothing can follow, its rest is a record and it is finished.
    fn at_end(
        &mut self,
        at: usize,
        names: u64,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> io::Result<Turn> {
        let succeeded = self.succeeded(at);
        let tracked = &mut self.tracked[at];
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
        Ok(self.finish(at, emit))
    }

    /// Nothing can follow: what is left is a record, unless it is the beginning of one that another file will have whole.
    fn finish(&mut self, at: usize, emit: &mut dyn FnMut(FileRecord<'_>)) -> Turn {
        let is_of_another = self.rest_is_of_another(at);
        let tracked = &mut self.tracked[at];
        let folder = tracked.folder;
        let Some(tail) = &mut tracked.tail else {
            return Turn::Idle;
        };
        let path_json = &tracked.path_json;
        let (sequence, passed) = (self.folders[folder].sequence, self.folders[folder].passed_bytes);
        if let Some(frame) = tail.framer.last_frame().filter(|_| !is_of_another) {
            emit(FileRecord {
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
        if tracked.entry.compared_ms == 0 {
            tracked.entry.compared_ms = self.now_ms;
        }
        tracked.changed = true;
        tracked.tail = None;
        tracing::debug!(source = self.source, path = tracked.path, "audit file finished");
        Turn::More
    }

    /// Opens the file where its entry says. `false`: it is not what the entry says; the next turn or sweep knows more.
    pub(super) fn open(&mut self, at: usize) -> io::Result<bool> {
        let tracked = &mut self.tracked[at];
        let Some(folder) = &self.folders[tracked.folder].open else {
            return Ok(false);
        };
        let name = name::of(&tracked.entry.path);
        let file = folder.open_file(name)?;
        let (seen, _) = directory::look(&file, &tracked.entry.path)?;
        if (seen.dev, seen.ino) != (tracked.entry.dev, tracked.entry.ino) {
            // Replaced since the sweep.
            return Ok(false);
        }
        if tracked.begins_at_end() {
            tracked.entry.offset = tail::boundary_before(&file, tracked.entry.offset.min(seen.size))?;
            let before =
                tail::bytes_before(&file, tracked.entry.offset, FINGERPRINT_BYTES)?.unwrap_or_default();
            tracked.entry.tail_fingerprint = Fingerprint::of(&before);
            tracked.changed = true;
        }
        let entry = &tracked.entry;
        // Of a file that was not read only the beginning is known.
        let begins = entry.offset > 0 || tail::holds(&file, u64::from(entry.prefix.len), entry.prefix)?;
        if let Some(digest) = begins.then(|| digest_of(&file, entry)).transpose()?.flatten() {
            tracked.tail = Tail::open(
                file,
                entry.offset,
                entry.tail_fingerprint,
                self.config.record_bytes_max,
            )?;
            if let Some(tail) = &mut tracked.tail {
                tail.framer.with_digest(digest);
            }
        }
        if tracked.tail.is_none() {
            self.restart(at, seen.size);
            return self.open(at);
        }
        Ok(true)
    }
}

/// The digest of what was read, to go on with. `None`: the file holds other bytes now. Where there is none yet it begins here.
fn digest_of(file: &File, entry: &FileEntry) -> io::Result<Option<Digest>> {
    let Some(state) = entry.digest.as_ref().filter(|digest| digest.to == entry.offset) else {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        return Ok(Some(Digest::new([high, low], entry.offset)));
    };
    let bytes = tail::bytes_before(file, entry.offset, Digest::begun(state) as usize)?;
    Ok(bytes.and_then(|bytes| Digest::resume(state, &bytes)))
}
