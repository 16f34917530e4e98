//! One audit file that the source knows: its entry in the checkpoint, and what this run makes of it.

use super::FileRecord;
use super::compressed::{self, Compression};
use super::frame::FINGERPRINT_BYTES;
use super::identity::FileObservation;
use super::name::{self, Order};
use super::scan::Scan;
use super::tail::Tail;
use crate::position::{FileEntry, Fingerprint};
use std::time::Instant;

/// Retention counts from the day a file was last there: not from its first day, or a disk that is away for a moment
/// would cost the positions of all older files.
const LAST_SEEN_AGE_MAX_MS: i64 = 86_400_000;

pub(super) struct Tracked {
    pub(super) entry: FileEntry,
    pub(super) folder: usize,
    pub(super) order: Order,
    pub(super) tail: Option<Tail>,
    /// Found by the last sweep of its folder.
    pub(super) listed: bool,
    /// Since when it has been at its end and did not change.
    pub(super) quiet_since: Option<Instant>,
    pub(super) deleted_since: Option<Instant>,
    pub(super) retry: Option<Retry>,
    /// It could not be compared with what was read of it, and is not to be tried before.
    pub(super) compare_after: Option<Instant>,
    pub(super) changed: bool,
    /// How it is compressed, by its name.
    pub(super) compression: Option<Compression>,
    /// What is known of it from other files is being passed over.
    pub(super) scan: Option<Box<Scan>>,
    /// All that it holds for now is in another file too, which is read.
    pub(super) contained: bool,
    /// Keys of entries that begin alike, or may have, and go on otherwise.
    pub(super) strangers: Vec<u32>,
    /// It may be a copy of something that is gone: its twins are counted apart, so that its events get the ids that they had.
    pub(super) alone: bool,
    pub(super) cut_off: Option<CutOff>,
    /// Of a compressed file, the content before the place where it was opened.
    pub(super) before: Vec<u8>,
    /// The entry's path as people are shown it.
    pub(super) path: String,
    pub(super) path_json: String,
    /// Totals of this run, for its summary.
    pub(super) records: u64,
    pub(super) bytes: u64,
}

pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) failures: u32,
}

/// A compressed file that ended too early when it was looked at, so many times in a row.
pub(super) struct CutOff {
    pub(super) size: u64,
    pub(super) mtime_ms: i64,
    pub(super) at: Instant,
    pub(super) times: u32,
}

impl Tracked {
    pub(super) fn new(entry: FileEntry, folder: usize) -> Tracked {
        let path = name::shown(&entry.path);
        Tracked {
            order: Order::of(name::of(&entry.path), entry.mtime_ms),
            path_json: serde_json::Value::from(path.as_str()).to_string(),
            compression: compressed::of_name(&entry.path).map(|(_, how)| how),
            scan: None,
            contained: false,
            strangers: Vec::new(),
            alone: false,
            cut_off: None,
            before: Vec::new(),
            path,
            folder,
            entry,
            tail: None,
            listed: false,
            quiet_since: None,
            deleted_since: None,
            retry: None,
            compare_after: None,
            changed: false,
            records: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !self.entry.finished && (self.listed || self.is_open())
    }

    pub(super) fn is_open(&self) -> bool {
        self.tail.is_some() || self.scan.is_some()
    }

    /// Whether all that can be read of it now was read.
    pub(super) fn is_read(&self) -> bool {
        match self.compression {
            Some(Compression::Unsupported) => true,
            Some(_) => false,
            None if self.scan.is_some() => self.contained,
            None => self.tail.is_some() || self.entry.offset == self.entry.size,
        }
    }

    /// Emits what is whole in the buffer; returns how many bytes of records that were.
    pub(super) fn emit(&mut self, sequence: u32, passed: u64, emit: &mut dyn FnMut(FileRecord<'_>)) -> u64 {
        let Some(tail) = &mut self.tail else { return 0 };
        let (file, folder, path_json) = (self.entry.key, self.folder, &self.path_json);
        let (mut handed_out, before) = (0, tail.framer.boundary());
        while let Some(frame) = tail.framer.next_frame() {
            let bytes = frame.bytes();
            emit(FileRecord {
                frame,
                file,
                path_json,
                folder,
                sequence,
                at: passed + handed_out,
                unterminated: false,
                replayed: false,
            });
            handed_out += bytes;
            self.records += 1;
        }
        self.bytes += tail.framer.boundary() - before;
        self.changed |= tail.framer.boundary() > before;
        handed_out
    }

    /// Writes the reading position into the entry.
    pub(super) fn note_position(&mut self) {
        let Some(tail) = &mut self.tail else { return };
        self.entry.digest = tail.framer.digest();
        self.entry.offset = tail.framer.boundary();
        self.entry.tail_fingerprint = Fingerprint::of(tail.framer.tail_fingerprint());
        let prefix = self.entry.offset.min(FINGERPRINT_BYTES as u64);
        // Before anything is read it stands for the first bytes that were found, of whatever length.
        if prefix > 0
            && u64::from(self.entry.prefix.len) != prefix
            && let Ok(Some(fingerprint)) = tail.prefix(prefix as usize)
        {
            self.entry.prefix = fingerprint;
        }
    }

    /// It is to be passed over up to where it ended when it was found, maybe within a line, and was not opened yet.
    pub(super) fn begins_at_end(&self) -> bool {
        self.entry.offset > 0 && self.entry.tail_fingerprint.len == 0
    }

    pub(super) fn still_there(&mut self, seen: &FileObservation, now_ms: i64) {
        self.listed = true;
        if now_ms - self.entry.last_seen_ms > LAST_SEEN_AGE_MAX_MS {
            (self.entry.last_seen_ms, self.changed) = (now_ms, true);
        }
        self.deleted_since = None;
        let touched = (seen.size, seen.mtime_ms) != (self.entry.size, self.entry.mtime_ms);
        if self.entry.finished && touched {
            self.is_to_be_compared();
        }
        // What is as long as before has nothing to read, and is compared whole.
        let as_long = self.entry.offset == seen.size && self.is_covered();
        let unread = match self.compression {
            // How much they hold is not known from their size.
            Some(how) => how != Compression::Unsupported && touched,
            None => touched && !as_long || self.entry.offset < seen.size,
        };
        if self.entry.finished && unread {
            // Written to again after it was finished, or back after it had vanished unread; the evidence is checked when it
            // is opened.
            (self.entry.finished, self.changed) = (false, true);
        }
        (self.entry.size, self.entry.mtime_ms) = (seen.size, seen.mtime_ms);
        self.order = seen.order();
    }

    pub(super) fn moved_to(&mut self, seen: &FileObservation, now_ms: i64) {
        self.compression = compressed::of_name(&seen.path).map(|(_, how)| how);
        if (self.entry.dev, self.entry.ino) != (seen.dev, seen.ino) {
            (self.tail, self.scan) = (None, None);
            self.is_to_be_compared();
        }
        (self.entry.dev, self.entry.ino) = (seen.dev, seen.ino);
        self.entry.path = seen.path.clone();
        self.path = name::shown(&seen.path);
        self.path_json = serde_json::Value::from(self.path.as_str()).to_string();
        self.changed = true;
        self.still_there(seen, now_ms);
    }

    /// How many bytes of its content, at most, its beginning is compared by.
    pub(super) fn head_len(&self) -> u64 {
        self.entry.size.min(FINGERPRINT_BYTES as u64)
    }

    /// Whether the file still holds everything that was read of it is to be found out soon.
    pub(super) fn is_to_be_compared(&mut self) {
        if self.is_covered() {
            (self.entry.compared_ms, self.changed) = (-1, true);
        }
    }

    /// Whether there is a digest of what stands in the file before the position. Of a compressed one there is none: it would be
    /// that of its content.
    pub(super) fn is_covered(&self) -> bool {
        let digest = self.entry.digest.as_ref();
        self.compression.is_none() && digest.is_some_and(|digest| digest.to == self.entry.offset)
    }

    /// Nothing more can come of this file.
    pub(super) fn vanished(&mut self, now_ms: i64) {
        (self.entry.finished, self.entry.last_seen_ms, self.changed) = (true, now_ms, true);
        // Or the source would count as in trouble for ever.
        self.retry = None;
    }

    /// In bytes; of a compressed file that was not read to its end the bytes that it has itself.
    pub(super) fn unread(&self) -> u64 {
        if self.compression.is_some() {
            return if self.entry.finished { 0 } else { self.entry.size };
        }
        self.entry.size.saturating_sub(self.read_offset())
    }

    pub(super) fn read_offset(&self) -> u64 {
        self.tail
            .as_ref()
            .map_or(self.entry.offset, |tail| tail.framer.boundary())
    }
}
