//! Compressed audit files that cannot be read now: they are retried, or given up and recorded as lost.

use super::compressed::{self, Decompressor, FileCompression, stream_fault};
use super::failures::LossReason;
use super::matching::FileObservation;
use super::tracked::IncompleteStream;
use super::{AuditFiles, ReadStatus, name};
use crate::metrics::LossClass;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// An incomplete compressed file is being written. If it did not change for this long, it is given up.
const INCOMPLETE_MAX_MS: i64 = 60_000;
const RETRY_MAX: Duration = Duration::from_secs(30);

impl AuditFiles {
    /// The first bytes of a compressed file's content, as far as they can be decoded.
    ///
    /// # Errors
    /// Those of reading the file. An incomplete stream is not an error.
    pub(super) fn compressed_head(
        &self,
        directory: usize,
        observed: &FileObservation,
        how: FileCompression,
    ) -> io::Result<Vec<u8>> {
        let Some(dir) = &self.directories[directory].open else {
            return Ok(Vec::new());
        };
        if how == FileCompression::Unsupported {
            return Ok(Vec::new());
        }
        let head = dir
            .open_file(name::file_name(&observed.path))
            .and_then(|file| Decompressor::open(file, how)?.head());
        head.or_else(|error| stream_fault(&error).map(|_| Vec::new()).ok_or(error))
    }

    /// Whether a compressed file cannot be read now. A file with unsupported compression is given up once it is
    /// complete.
    pub(super) fn wait_for_stream(
        &mut self,
        index: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> Option<ReadStatus> {
        let tracked = &mut self.tracked[index];
        let entry = &tracked.entry;
        let age_ms = now_ms - entry.mtime_ms;
        if tracked.compression? == FileCompression::Unsupported {
            let grace = self.config.rotate_grace;
            if self.original_of(index).is_some_and(|original| self.tracked[original].listed) {
                return Some(ReadStatus::Idle);
            }
            // A date in the future says nothing about its age.
            if !once && (0..grace.as_millis() as i64).contains(&age_ms) {
                return Some(ReadStatus::IdleUntil(now + grace));
            }
            let reason = "the file's compression is not supported; decompress it in place";
            self.give_up(index, now_ms, reason);
            return Some(ReadStatus::More);
        }
        let incomplete = tracked.incomplete.as_ref()?;
        let unchanged = incomplete.size == entry.size && incomplete.mtime_ms == entry.mtime_ms;
        let watched = now.saturating_duration_since(incomplete.at).as_millis() as i64;
        if unchanged && age_ms.max(watched) >= INCOMPLETE_MAX_MS {
            let reason = "the compressed file is incomplete and did not change for a minute";
            self.give_up(index, now_ms, reason);
            return Some(ReadStatus::More);
        }
        let retry = incomplete.at + Duration::from_secs(1 << incomplete.times.min(5)).min(RETRY_MAX);
        if unchanged || now < retry {
            return Some(ReadStatus::IdleUntil(retry.max(now + Duration::from_secs(1))));
        }
        None
    }

    /// The stream is incomplete: retry later.
    pub(super) fn stream_incomplete(&mut self, index: usize, now: Instant) {
        let tracked = &mut self.tracked[index];
        tracked.save_position();
        tracked.reader = None;
        let times = tracked.incomplete.as_ref().map_or(0, |incomplete| incomplete.times + 1);
        if times == 0 {
            tracing::debug!(
                source = self.source,
                path = tracked.path,
                "the compressed file is incomplete; it is retried"
            );
        }
        tracked.incomplete = Some(IncompleteStream {
            size: tracked.entry.size,
            mtime_ms: tracked.entry.mtime_ms,
            at: now,
            times,
        });
    }

    /// Finishes a compressed file that cannot be read further, and records the loss.
    pub(super) fn give_up(&mut self, index: usize, now_ms: i64, reason: &str) {
        let known = self.original_is_known(index);
        let tracked = &mut self.tracked[index];
        tracked.save_position();
        (tracked.reader, tracked.incomplete) = (None, None);
        (tracked.entry.finished, tracked.changed) = (true, true);
        if !known {
            let (path, from) = (tracked.entry.path.clone(), tracked.entry.offset);
            self.record_loss(now_ms, &path, from, 0, LossReason(LossClass::Compressed, reason));
        }
    }

    /// Whether the original of a compressed file is tracked. Its losses were recorded when it went missing.
    pub(super) fn original_is_known(&self, index: usize) -> bool {
        let original = self.original_of(index).map(|original| &self.tracked[original]);
        original.is_some_and(|original| original.listed || original.entry.finished)
    }

    /// The original of a compressed file, by its name without the extension.
    pub(super) fn original_of(&self, index: usize) -> Option<usize> {
        let (stem, _) = compressed::split_extension(&self.tracked[index].entry.path)?;
        let is_original = |t: &super::TrackedFile| !t.entry.is_replaced() && t.entry.path == Path::new(stem);
        self.tracked.iter().position(is_original)
    }
}
