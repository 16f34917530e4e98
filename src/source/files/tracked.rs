//! One audit file that the source tracks: its checkpoint entry, and its state in this run.
//!
//! Words for the end of a file: it is *at its end* when everything available was read; it may still grow. It is
//! *finished* when it is not read any further. An *unterminated* record has no line end yet. *Nothing is left to read*
//! for a run with `--once` when each file is at its end, or is a compressed one that is still incomplete.

use super::FileRecord;
use super::compressed::{self, FileCompression};
use super::copy_scan::CopyScan;
use super::file_reader::FileReader;
use super::matching::FileObservation;
use super::name::{self, FileOrder};
use super::record_splitter::FINGERPRINT_BYTES;
use crate::position::{FileEntry, Fingerprint, Verification};
use std::time::Instant;

/// `last_seen_ms` is updated once a day, so that retention starts when a file goes missing. Otherwise a disk that is
/// away for a moment would cost the positions of all older files.
const LAST_SEEN_AGE_MAX_MS: i64 = 86_400_000;

pub(super) struct TrackedFile {
    pub(super) entry: FileEntry,
    pub(super) directory: usize,
    pub(super) order: FileOrder,
    pub(super) reader: Option<FileReader>,
    /// Seen by the last sweep of its directory.
    pub(super) listed: bool,
    /// Since when it was at its end and did not change.
    pub(super) quiet_since: Option<Instant>,
    pub(super) deleted_since: Option<Instant>,
    pub(super) retry: Option<Retry>,
    /// The verification failed. Do not retry before this time.
    pub(super) verify_after: Option<Instant>,
    pub(super) changed: bool,
    /// The compression, by the file's extension.
    pub(super) compression: Option<FileCompression>,
    /// The scan that skips content known from other files.
    pub(super) scan: Option<Box<CopyScan>>,
    /// Another file, which is read, contains everything that this one has so far.
    pub(super) is_prefix_of_other: bool,
    /// Entry keys of files that this one is not a copy of, though they may start with the same bytes.
    pub(super) not_copies_of: Vec<u32>,
    /// It may be a copy of a missing file. It is read with a twin scope of its own, so that its events get the ids that
    /// they had.
    pub(super) own_twin_scope: bool,
    pub(super) incomplete: Option<IncompleteStream>,
    /// The content before the offset at which a compressed file was opened.
    pub(super) bytes_before: Vec<u8>,
    /// The entry's path for messages.
    pub(super) path: String,
    pub(super) path_json: String,
    /// Totals of this run.
    pub(super) records: u64,
    pub(super) bytes: u64,
}

pub(super) struct Retry {
    pub(super) at: Instant,
    pub(super) failures: u32,
}

/// A compressed file that was incomplete, its size and time then, and the number of consecutive attempts.
pub(super) struct IncompleteStream {
    pub(super) size: u64,
    pub(super) mtime_ms: i64,
    pub(super) at: Instant,
    pub(super) times: u32,
}

impl TrackedFile {
    pub(super) fn new(entry: FileEntry, directory: usize) -> TrackedFile {
        let path = name::display_path(&entry.path);
        TrackedFile {
            order: FileOrder::of(name::file_name(&entry.path), entry.mtime_ms),
            path_json: serde_json::Value::from(path.as_str()).to_string(),
            compression: compressed::split_extension(&entry.path).map(|(_, how)| how),
            scan: None,
            is_prefix_of_other: false,
            not_copies_of: Vec::new(),
            own_twin_scope: false,
            incomplete: None,
            bytes_before: Vec::new(),
            path,
            directory,
            entry,
            reader: None,
            listed: false,
            quiet_since: None,
            deleted_since: None,
            retry: None,
            verify_after: None,
            changed: false,
            records: 0,
            bytes: 0,
        }
    }

    pub(super) fn is_active(&self) -> bool {
        !self.entry.finished && (self.listed || self.is_open())
    }

    pub(super) fn is_open(&self) -> bool {
        self.reader.is_some() || self.scan.is_some()
    }

    /// Whether everything available was read.
    pub(super) fn is_at_end(&self) -> bool {
        match self.compression {
            Some(FileCompression::Unsupported) => true,
            Some(_) => false,
            None if self.scan.is_some() => self.is_prefix_of_other,
            None => self.reader.is_some() || self.entry.offset == self.entry.size,
        }
    }

    /// Emits the complete records of the buffer. Returns their length in bytes, without line ends.
    pub(super) fn emit(
        &mut self,
        twin_scope: u32,
        twin_offset: u64,
        emit: &mut dyn FnMut(FileRecord<'_>),
    ) -> u64 {
        let Some(reader) = &mut self.reader else { return 0 };
        let (file_key, directory, path_json) = (self.entry.key, self.directory, &self.path_json);
        let (mut emitted, before) = (0, reader.splitter.boundary());
        while let Some(raw) = reader.splitter.next_record() {
            let bytes = raw.bytes();
            emit(FileRecord {
                raw,
                file_key,
                path_json,
                directory,
                twin_scope,
                twin_offset: twin_offset + emitted,
                unterminated: false,
                already_delivered: false,
            });
            emitted += bytes;
            self.records += 1;
        }
        self.bytes += reader.splitter.boundary() - before;
        self.changed |= reader.splitter.boundary() > before;
        self.save_head();
        emitted
    }

    /// Stores the read position in the entry. Reads nothing.
    pub(super) fn save_position(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        self.entry.digest = reader.splitter.digest_to_boundary();
        self.entry.offset = reader.splitter.boundary();
        self.entry.tail_fingerprint = Fingerprint::of(reader.splitter.bytes_before_boundary());
    }

    /// Stores the head fingerprint, which is read again while the position is within the bytes that it covers.
    pub(super) fn save_head(&mut self) {
        let Some(reader) = &self.reader else { return };
        let head_len = reader.splitter.boundary().min(FINGERPRINT_BYTES as u64);
        // Before anything is read the fingerprint covers the bytes that were found, of any number.
        if head_len > 0
            && u64::from(self.entry.head_fingerprint.len) != head_len
            && let Ok(Some(fingerprint)) = reader.head_fingerprint(head_len as usize)
        {
            self.entry.head_fingerprint = fingerprint;
        }
    }

    /// `start_at = "end"`: the file is skipped up to its length when it was found, maybe within a line. It was not
    /// opened yet.
    pub(super) fn starts_at_end(&self) -> bool {
        self.entry.offset > 0 && self.entry.tail_fingerprint.len == 0
    }

    pub(super) fn refresh(&mut self, observed: &FileObservation, now_ms: i64) {
        self.listed = true;
        if now_ms - self.entry.last_seen_ms > LAST_SEEN_AGE_MAX_MS {
            (self.entry.last_seen_ms, self.changed) = (now_ms, true);
        }
        self.deleted_since = None;
        let touched = (observed.size, observed.mtime_ms) != (self.entry.size, self.entry.mtime_ms);
        if self.entry.finished && touched {
            self.request_verification();
        }
        // A file of the same length has nothing to read. Its digest is compared instead.
        let as_long = self.entry.offset == observed.size && self.has_digest();
        let unread = match self.compression {
            // Their size does not show how much content they have.
            Some(how) => how != FileCompression::Unsupported && touched,
            None => touched && !as_long || self.entry.offset < observed.size,
        };
        if self.entry.finished && unread {
            // It was written to after it was finished, or came back after it vanished unread. Opening it checks the
            // content.
            (self.entry.finished, self.changed) = (false, true);
        }
        (self.entry.size, self.entry.mtime_ms) = (observed.size, observed.mtime_ms);
        self.order = observed.order();
    }

    pub(super) fn moved_to(&mut self, observed: &FileObservation, now_ms: i64) {
        self.compression = compressed::split_extension(&observed.path).map(|(_, how)| how);
        if (self.entry.dev, self.entry.ino) != (observed.dev, observed.ino) {
            (self.reader, self.scan) = (None, None);
            self.request_verification();
        }
        (self.entry.dev, self.entry.ino) = (observed.dev, observed.ino);
        self.entry.path = observed.path.clone();
        self.path = name::display_path(&observed.path);
        self.path_json = serde_json::Value::from(self.path.as_str()).to_string();
        self.changed = true;
        self.refresh(observed, now_ms);
    }

    /// Length of the head that is compared, in bytes.
    pub(super) fn head_len(&self) -> u64 {
        self.entry.size.min(FINGERPRINT_BYTES as u64)
    }

    /// Requests a verification of the file with its digest.
    pub(super) fn request_verification(&mut self) {
        if self.has_digest() {
            (self.entry.verification, self.changed) = (Verification::Requested, true);
        }
    }

    /// Whether a digest covers everything before the position. Compressed files have none: it would be that of their
    /// content.
    pub(super) fn has_digest(&self) -> bool {
        let digest = self.entry.digest.as_ref();
        self.compression.is_none() && digest.is_some_and(|digest| digest.to == self.entry.offset)
    }

    /// The file is missing and nothing more can be read from it.
    pub(super) fn mark_vanished(&mut self, now_ms: i64) {
        (self.entry.finished, self.entry.last_seen_ms, self.changed) = (true, now_ms, true);
        // A pending retry would keep the source unhealthy.
        self.retry = None;
    }

    /// Whether the first `size` bytes were read, an unterminated record included.
    pub(super) fn has_read(&self, size: u64) -> bool {
        match self.compression {
            Some(FileCompression::Unsupported) => true,
            Some(_) => false,
            None if self.scan.is_some() => self.is_prefix_of_other,
            None => {
                let read = self.reader.as_ref().map(|reader| reader.splitter.read_offset());
                read.unwrap_or(self.entry.offset) >= size
            }
        }
    }

    /// Unread bytes. For a compressed file that was not finished, its compressed size.
    pub(super) fn unread_bytes(&self) -> u64 {
        if self.compression.is_some() {
            return if self.entry.finished { 0 } else { self.entry.size };
        }
        self.entry.size.saturating_sub(self.read_offset())
    }

    pub(super) fn read_offset(&self) -> u64 {
        self.reader.as_ref().map_or(self.entry.offset, |reader| reader.splitter.boundary())
    }
}
