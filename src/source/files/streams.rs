//! Compressed audit files that cannot be read, or not yet: they are waited for, or told as lost.

use super::compressed::{self, Compression, Decompressor, flaw};
use super::identity::FileObservation;
use super::tracked::CutOff;
use super::{Files, Turn, name};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// A compressed file that ends too early is being written; if nothing was added for so long it will not be.
const CUT_OFF_MAX_MS: i64 = 60_000;
const RETRY_MAX: Duration = Duration::from_secs(30);

impl Files {
    /// The first bytes of a compressed file's content, as many as there are to be had.
    ///
    /// # Errors
    /// Those of reading the file. A stream that is not whole is no error.
    pub(super) fn compressed_head(
        &self,
        folder: usize,
        seen: &FileObservation,
        how: Compression,
    ) -> io::Result<Vec<u8>> {
        let Some(dir) = &self.folders[folder].open else {
            return Ok(Vec::new());
        };
        if how == Compression::Unsupported {
            return Ok(Vec::new());
        }
        let head = dir
            .open_file(name::of(&seen.path))
            .and_then(|file| Decompressor::open(file, how)?.head());
        head.or_else(|error| flaw(&error).map(|_| Vec::new()).ok_or(error))
    }

    /// Whether a compressed file cannot be read on now. One that no reader is here for is given up when it is whole.
    pub(super) fn wait_for_stream(
        &mut self,
        at: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> Option<Turn> {
        let tracked = &mut self.tracked[at];
        let entry = &tracked.entry;
        let age_ms = now_ms - entry.mtime_ms;
        if tracked.compression? == Compression::Unsupported {
            let grace = self.config.rotate_grace;
            if self
                .original_of(at)
                .is_some_and(|original| self.tracked[original].listed)
            {
                return Some(Turn::Idle);
            }
            if !once && age_ms < grace.as_millis() as i64 {
                return Some(Turn::Until(now + grace));
            }
            let reason =
                "the file is compressed in a way that the agent does not read; decompress it where it is";
            self.give_up(at, now_ms, reason);
            return Some(Turn::More);
        }
        let cut_off = tracked.cut_off.as_ref()?;
        let unchanged = cut_off.size == entry.size && cut_off.mtime_ms == entry.mtime_ms;
        if unchanged && age_ms >= CUT_OFF_MAX_MS {
            let reason = "the compressed file ends in the middle, and nothing was added to it for a minute";
            self.give_up(at, now_ms, reason);
            return Some(Turn::More);
        }
        let retry = cut_off.at + Duration::from_secs(1 << cut_off.times.min(5)).min(RETRY_MAX);
        if unchanged || now < retry {
            return Some(Turn::Until(retry.max(now + Duration::from_secs(1))));
        }
        None
    }

    /// The stream ends too early.
    pub(super) fn cut_off(&mut self, at: usize, now: Instant) {
        let tracked = &mut self.tracked[at];
        tracked.note_position();
        tracked.tail = None;
        let times = tracked.cut_off.as_ref().map_or(0, |cut_off| cut_off.times + 1);
        if times == 0 {
            tracing::debug!(
                source = self.source,
                path = tracked.path,
                "the compressed file is not whole yet"
            );
        }
        tracked.cut_off = Some(CutOff {
            size: tracked.entry.size,
            mtime_ms: tracked.entry.mtime_ms,
            at: now,
            times,
        });
    }

    /// Nothing more can be read of the compressed file.
    pub(super) fn give_up(&mut self, at: usize, now_ms: i64, reason: &str) {
        let known = self.original_is_known(at);
        let tracked = &mut self.tracked[at];
        tracked.note_position();
        (tracked.tail, tracked.cut_off) = (None, None);
        (tracked.entry.finished, tracked.changed) = (true, true);
        if !known {
            let (path, from) = (tracked.entry.path.clone(), tracked.entry.offset);
            self.lose(now_ms, &path, from, 0, reason);
        }
    }

    /// Whether what a compressed file was made of is read for itself, or was; what was lost of it was told when it went.
    pub(super) fn original_is_known(&self, at: usize) -> bool {
        let original = self.original_of(at).map(|original| &self.tracked[original]);
        original.is_some_and(|original| original.listed || original.entry.finished)
    }

    /// The entry of the file that a compressed one was made of, as its name says.
    pub(super) fn original_of(&self, at: usize) -> Option<usize> {
        let (stem, _) = compressed::of_name(&self.tracked[at].entry.path)?;
        let is_original = |t: &super::Tracked| !t.entry.is_replaced() && t.entry.path == Path::new(stem);
        self.tracked.iter().position(is_original)
    }
}
