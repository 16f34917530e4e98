//! Reads one file: opens it at its checkpointed offset, emits its records, and detects when it is complete.

use super::digest::Digest;
use super::directory;
use super::file_reader::{self, FileReader};
use super::record_splitter::FINGERPRINT_BYTES;
use super::{AuditFiles, FileRecord, ReadStatus, name};
use crate::position::{FileEntry, Fingerprint, Verification};
use std::fs::File;
use std::io;
use std::time::Instant;

impl AuditFiles {
    pub(super) fn read_file(
        &mut self,
        index: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> io::Result<ReadStatus> {
        if let Some(status) = self.wait_for_stream(index, now, now_ms, once) {
            return Ok(status);
        }
        if !self.tracked[index].is_open() {
            // It was closed to free a slot while it had to stay quiet. A sweep detects growth.
            let tracked = &self.tracked[index];
            if let Some(since) = tracked.quiet_since
                && tracked.entry.offset == tracked.entry.size
                && now.duration_since(since) < self.config.rotate_grace
            {
                return Ok(ReadStatus::IdleUntil(since + self.config.rotate_grace));
            }
            if !self.ensure_open_slot() {
                return Ok(ReadStatus::Idle);
            }
        }
        if self.tracked[index].reader.is_none() {
            if let Some(status) = self.skip_known_content(index, now, now_ms, once)? {
                return Ok(status);
            }
            if self.tracked[index].compression.is_some() || !self.open(index)? {
                return Ok(ReadStatus::Idle);
            }
        }
        crate::failpoint::hit("read");
        let tracked = &mut self.tracked[index];
        let Some(reader) = &mut tracked.reader else {
            return Ok(ReadStatus::Idle);
        };
        let check = reader.check(&tracked.entry.path)?;
        if check.rewritten {
            if tracked.compression.is_some() {
                // Reopening finds out how much of the content is still the same.
                tracked.save_position();
                tracked.reader = None;
            } else {
                self.handle_truncation(index, check.observed.size);
            }
            return Ok(ReadStatus::More);
        }
        if (check.observed.size, check.observed.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (check.observed.size, check.observed.mtime_ms);
            tracked.quiet_since = None;
        }
        let more = check.observed.size > reader.splitter.read_offset();
        if (more || tracked.scan.is_some())
            && let Some(status) = self.skip_known_content(index, now, now_ms, once)?
        {
            return Ok(status);
        }
        self.enter_twin_scope(index, emit)?;
        let tracked = &mut self.tracked[index];
        let Some(reader) = &mut tracked.reader else {
            return Ok(ReadStatus::Idle);
        };
        match reader.fill(self.config.read_bytes) {
            Ok(0) if tracked.compression.is_some() => return Ok(self.finish(index, emit)),
            Ok(0) => {}
            Ok(bytes) => {
                self.metrics.read_bytes.inc_by(bytes as u64);
                (tracked.quiet_since, tracked.incomplete) = (None, None);
                let directory = &mut self.directories[tracked.directory];
                directory.emitted_bytes += tracked.emit(directory.twin_scope, directory.emitted_bytes, emit);
                return Ok(ReadStatus::More);
            }
            Err(error) => {
                let status = self.stream_failed(index, None, error, now, now_ms)?;
                return Ok(status.unwrap_or(ReadStatus::More));
            }
        }
        self.at_end(index, check.link_count, now, now_ms, once, emit)
    }

    /// Before the first record of a twin scope: emits the records before it again. A file that may be a copy has a
    /// scope of its own.
    fn enter_twin_scope(&mut self, index: usize, emit: &mut dyn FnMut(FileRecord<'_>)) -> io::Result<()> {
        let tracked = &self.tracked[index];
        let own_twin_scope = tracked.own_twin_scope.then_some(tracked.entry.key);
        let directory = &mut self.directories[tracked.directory];
        if directory.own_scope_file != own_twin_scope {
            directory.twin_scope += 1;
            (directory.own_scope_file, directory.twin_window_loaded) =
                (own_twin_scope, own_twin_scope.is_some());
        }
        if directory.twin_window_loaded {
            return Ok(());
        }
        self.tracked[index].save_position();
        self.load_twin_window(index, emit).inspect_err(|_| self.tracked[index].reader = None)
    }

    /// The file has no more data now. If nothing can follow, its unterminated end is a record and the file is finished.
    fn at_end(
        &mut self,
        index: usize,
        names: u64,
        now: Instant,
        now_ms: i64,
        once: bool,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> io::Result<ReadStatus> {
        let succeeded = self.has_successor(index);
        let tracked = &mut self.tracked[index];
        if !succeeded && names > 0 && tracked.listed {
            return Ok(ReadStatus::Idle);
        }
        let since = *tracked.quiet_since.get_or_insert(now);
        let grace = self.config.rotate_grace;
        // A file that was last written long ago counts as quiet. If it ends in the middle of a line it is watched for
        // `rotate_grace` anyway, unless `once` is set.
        let long_ago = now_ms - tracked.entry.mtime_ms >= grace.as_millis() as i64;
        let unterminated =
            tracked.reader.as_ref().is_some_and(|reader| reader.splitter.unterminated_bytes() > 0);
        if !(long_ago && (once || !unterminated)) && now.duration_since(since) < grace {
            return Ok(ReadStatus::IdleUntil(since + grace));
        }
        Ok(self.finish(index, emit))
    }

    /// Finishes the file. Its unterminated end is a record, unless another file contains that record completely.
    fn finish(&mut self, index: usize, emit: &mut dyn FnMut(FileRecord<'_>)) -> ReadStatus {
        let is_in_another_file = self.unterminated_is_in_another_file(index);
        let tracked = &mut self.tracked[index];
        let directory = tracked.directory;
        let Some(reader) = &mut tracked.reader else {
            return ReadStatus::Idle;
        };
        let path_json = &tracked.path_json;
        let (twin_scope, emitted) =
            (self.directories[directory].twin_scope, self.directories[directory].emitted_bytes);
        if let Some(raw) = reader.splitter.take_unterminated().filter(|_| !is_in_another_file) {
            emit(FileRecord {
                raw,
                file_key: tracked.entry.key,
                path_json,
                directory,
                twin_scope,
                twin_offset: emitted,
                unterminated: true,
                already_delivered: false,
            });
            tracked.records += 1;
        }
        tracked.save_head();
        tracked.save_position();
        tracked.entry.finished = true;
        if tracked.entry.verification == Verification::Never {
            tracked.entry.verification = Verification::At(self.now_ms);
        }
        tracked.changed = true;
        tracked.reader = None;
        tracing::debug!(source = self.source, path = tracked.path, "audit file finished");
        ReadStatus::More
    }

    /// Opens the file at its entry's offset. `false`: it is not the entry's file; the next read or sweep finds out
    /// which it is.
    pub(super) fn open(&mut self, index: usize) -> io::Result<bool> {
        let tracked = &mut self.tracked[index];
        let Some(opened) = &self.directories[tracked.directory].open else {
            return Ok(false);
        };
        let name = name::file_name(&tracked.entry.path);
        let file = opened.open_file(name)?;
        let (observed, _) = directory::observe(&file, &tracked.entry.path)?;
        if (observed.dev, observed.ino) != (tracked.entry.dev, tracked.entry.ino) {
            return Ok(false);
        }
        if tracked.starts_at_end() {
            tracked.entry.offset =
                file_reader::boundary_before(&file, tracked.entry.offset.min(observed.size))?;
            let before = file_reader::bytes_before(&file, tracked.entry.offset, FINGERPRINT_BYTES)?
                .unwrap_or_default();
            tracked.entry.tail_fingerprint = Fingerprint::of(&before);
            tracked.changed = true;
        }
        let entry = &tracked.entry;
        // If nothing was read yet, only the head of the file is known.
        let begins = entry.offset > 0
            || file_reader::has_fingerprint(
                &file,
                u64::from(entry.head_fingerprint.len),
                entry.head_fingerprint,
            )?;
        if let Some(digest) = begins.then(|| digest_of(&file, entry)).transpose()?.flatten() {
            tracked.reader =
                FileReader::open(file, entry.offset, entry.tail_fingerprint, self.config.record_bytes_max)?;
            if let Some(reader) = &mut tracked.reader {
                reader.splitter.set_digest(digest);
            }
        }
        if tracked.reader.is_none() {
            self.handle_truncation(index, observed.size);
            return self.open(index);
        }
        Ok(true)
    }
}

/// The digest of what was read, to be continued. `None`: the file has other content now. Without a stored digest a
/// new one starts at the offset.
fn digest_of(file: &File, entry: &FileEntry) -> io::Result<Option<Digest>> {
    let Some(state) = entry.digest.as_ref().filter(|digest| digest.to == entry.offset) else {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        return Ok(Some(Digest::new([high, low], entry.offset)));
    };
    let bytes = file_reader::bytes_before(file, entry.offset, Digest::partial_block_len(state) as usize)?;
    Ok(bytes.and_then(|bytes| Digest::resume(state, &bytes)))
}
