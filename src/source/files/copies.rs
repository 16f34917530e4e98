//! Recognises content that was already delivered: a copy of a known file, or a known file compressed. Before a file
//! is read, it is compared with files that start with the same bytes and of which more was read. What they delivered
//! is skipped.

use super::compressed::{Decompressor, StreamFault, stream_fault};
use super::copy_scan::{CopyScan, CopyScanStep, DigestCheck, OriginalContent, PossibleOriginal};
use super::file_reader::{self, Content, FileReader};
use super::record_splitter::FINGERPRINT_BYTES;
use super::tracked::TrackedFile;
use super::{AuditFiles, ReadStatus, directory};
use crate::position::Fingerprint;
use crate::record::twins;
use std::fs::File;
use std::io;
use std::time::Instant;

impl AuditFiles {
    /// Skips what another file delivered, one block per call. `None`: read the file at its offset.
    pub(super) fn skip_known_content(
        &mut self,
        index: usize,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> io::Result<Option<ReadStatus>> {
        let scan = match self.tracked[index].scan.take() {
            Some(scan) => Ok(Some(scan)),
            None => self.begin_scan(index),
        };
        let mut scan = match scan {
            Ok(Some(scan)) => scan,
            Ok(None) => return Ok(None),
            Err(error) => return self.stream_failed(index, None, error, now, now_ms),
        };
        match scan.step() {
            Ok(CopyScanStep::More) => {
                let tracked = &mut self.tracked[index];
                (tracked.scan, tracked.is_prefix_of_other) = (Some(scan), false);
                Ok(Some(ReadStatus::More))
            }
            Ok(CopyScanStep::Done) => self.scan_done(index, scan),
            Ok(CopyScanStep::AtEnd) if self.tracked[index].compression.is_some() => {
                self.stream_at_end(index, scan)
            }
            Ok(CopyScanStep::AtEnd) => self.copy_at_end(index, scan, now, now_ms, once),
            Err(error) => self.stream_failed(index, Some(scan), error, now, now_ms),
        }
    }

    /// Starts the comparison of a file with possible originals. `None` if it can be read at its offset. A compressed
    /// file is always scanned from its start up to its offset.
    pub(super) fn begin_scan(&mut self, index: usize) -> io::Result<Option<Box<CopyScan>>> {
        let tracked = &self.tracked[index];
        let Some(how) = tracked.compression else {
            if !self.may_be_known(index) {
                return Ok(None);
            }
            let Some(file) = self.file_of(index)? else {
                return Ok(None);
            };
            let head = file_reader::bytes_before(&file, self.tracked[index].head_len(), FINGERPRINT_BYTES)?
                .unwrap_or_default();
            let originals = self.originals(index, &head);
            let scan = |originals| Box::new(CopyScan::new(Content::Plain(file), originals, 0));
            return Ok((!originals.is_empty()).then(|| scan(originals)));
        };
        if tracked.reader.is_some() {
            return Ok(None);
        }
        let Some(file) = self.file_of(index)? else {
            return Ok(None);
        };
        let head = Decompressor::open(file.try_clone()?, how)?.head()?;
        let mut originals = self.originals(index, &head);
        let tracked = &mut self.tracked[index];
        let entry = &mut tracked.entry;
        if entry.head_fingerprint.len == 0 {
            (entry.head_fingerprint, tracked.changed) = (Fingerprint::of(&head), true);
        }
        if entry.offset > 0 {
            originals.push(PossibleOriginal {
                key: entry.key,
                path: tracked.path.clone(),
                offset: entry.offset,
                // Skipped content was never read, so there is no fingerprint.
                content: if entry.tail_fingerprint.len == 0 {
                    OriginalContent::Trusted
                } else {
                    OriginalContent::TailFingerprint(entry.tail_fingerprint)
                },
                digest_check: DigestCheck::of(entry),
            });
        }
        let stream = Content::Compressed(Decompressor::open(file, how)?);
        // The bytes before the offset are read again for the twin counts.
        let keep = 2 * twins::WINDOW_BYTES as usize;
        Ok(Some(Box::new(CopyScan::new(stream, originals, keep))))
    }

    /// Continues after the known content.
    fn scan_done(&mut self, index: usize, mut scan: Box<CopyScan>) -> io::Result<Option<ReadStatus>> {
        let (key, size) = (self.tracked[index].entry.key, self.tracked[index].entry.size);
        let rewritten = scan.rejected.contains(&key);
        self.tracked[index].not_copies_of.append(&mut scan.rejected);
        if rewritten {
            self.handle_truncation(index, size);
            return Ok(Some(ReadStatus::More));
        }
        let known = scan.known();
        if let Content::Compressed(_) = scan.content {
            self.open_stream(index, *scan)?;
            return Ok(Some(ReadStatus::More));
        }
        if known <= self.tracked[index].read_offset() {
            return Ok(None);
        }
        self.report_copy(index, &scan);
        self.set_position(index, known, scan.content.file())?;
        Ok(Some(ReadStatus::More))
    }

    /// Continues a compressed file after the known content. If the scan has read further, the file is decompressed
    /// again up to there.
    fn open_stream(&mut self, index: usize, scan: CopyScan) -> io::Result<()> {
        let tracked = &mut self.tracked[index];
        let known = scan.known();
        if known != scan.offset() {
            tracked.scan = Some(Box::new(scan.restarted(tracked.entry.key, &tracked.path)?));
            return Ok(());
        }
        if known > tracked.entry.offset {
            self.report_copy(index, &scan);
        }
        let tracked = &mut self.tracked[index];
        let history = scan.history().to_vec();
        let Content::Compressed(stream) = scan.content else {
            return Ok(());
        };
        let reader = FileReader::of_stream(stream, &history, self.config.record_bytes_max);
        if !self.directories[tracked.directory].twin_window_loaded {
            tracked.bytes_before = history;
        }
        tracked.reader = Some(reader);
        tracked.changed = true;
        tracked.save_position();
        Ok(())
    }

    /// Sets the offset of an uncompressed file.
    fn set_position(&mut self, index: usize, offset: u64, file: &File) -> io::Result<()> {
        let head = offset.min(FINGERPRINT_BYTES as u64);
        let before = file_reader::bytes_before(file, offset, FINGERPRINT_BYTES)?;
        let first = file_reader::bytes_before(file, head, FINGERPRINT_BYTES)?;
        let (Some(before), Some(first)) = (before, first) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let tracked = &mut self.tracked[index];
        (tracked.reader, tracked.changed) = (None, true);
        let entry = &mut tracked.entry;
        // The digest covers only what was read from this file.
        entry.digest = None;
        (entry.offset, entry.tail_fingerprint, entry.head_fingerprint) =
            (offset, Fingerprint::of(&before), Fingerprint::of(&first));
        Ok(())
    }

    pub(super) fn report_copy(&self, index: usize, scan: &CopyScan) {
        let original = scan.known_from().unwrap_or_default();
        let path = &self.tracked[index].path;
        if original != path {
            tracing::info!(
                source = self.source,
                path,
                original,
                bytes = scan.known(),
                "the file starts with content that was delivered from another file; only the content after it is read"
            );
        }
    }

    /// The scan reached the end of the file, and so far its content is the start of another file. It may be an
    /// incomplete copy.
    fn copy_at_end(
        &mut self,
        index: usize,
        mut scan: Box<CopyScan>,
        now: Instant,
        now_ms: i64,
        once: bool,
    ) -> io::Result<Option<ReadStatus>> {
        let succeeded = self.has_successor(index);
        let tracked = &mut self.tracked[index];
        let (observed, names) = directory::observe(scan.content.file(), &tracked.entry.path)?;
        if (observed.size, observed.mtime_ms) != (tracked.entry.size, tracked.entry.mtime_ms) {
            (tracked.entry.size, tracked.entry.mtime_ms) = (observed.size, observed.mtime_ms);
            tracked.quiet_since = None;
        }
        if observed.size != scan.offset() {
            // It has grown. Or it was truncated: opening it compares it.
            tracked.scan = (observed.size > scan.offset()).then_some(scan);
            tracked.reader = tracked.reader.take().filter(|_| tracked.scan.is_some());
            return Ok(Some(ReadStatus::More));
        }
        let grace = self.config.rotate_grace;
        let since = *tracked.quiet_since.get_or_insert(now);
        let quiet =
            now_ms - observed.mtime_ms >= grace.as_millis() as i64 || now.duration_since(since) >= grace;
        if !scan.is_contained() {
            if quiet || once {
                // The original is missing, so it is unknown what was delivered. The events are emitted with the ids
                // that they had.
                scan.reject_originals();
                tracked.own_twin_scope = true;
                return self.scan_done(index, scan);
            }
            tracked.scan = Some(scan);
            return Ok(Some(ReadStatus::IdleUntil(since + grace)));
        }
        let (listed, known) = (tracked.listed, scan.line_end());
        if known > tracked.read_offset() {
            let file = scan.content.file().try_clone()?;
            self.set_position(index, known, &file)?;
        }
        let tracked = &mut self.tracked[index];
        let may_grow = listed && names > 0 && !succeeded;
        if quiet && (!may_grow || known == observed.size) {
            // The unterminated end is the start of a record that the other file has completely.
            scan.mark_all_known();
            self.report_copy(index, &scan);
            let file = scan.content.file().try_clone()?;
            self.set_position(index, observed.size, &file)?;
            self.tracked[index].entry.finished = !may_grow;
            return Ok(Some(if may_grow { ReadStatus::Idle } else { ReadStatus::More }));
        }
        (tracked.scan, tracked.is_prefix_of_other) = (Some(scan), true);
        Ok(Some(if may_grow { ReadStatus::Idle } else { ReadStatus::IdleUntil(since + grace) }))
    }

    /// Whether another file contains the unterminated last record as well, and delivers or delivered it.
    pub(super) fn unterminated_is_in_another_file(&self, index: usize) -> bool {
        let tracked = &self.tracked[index];
        let Some(reader) = &tracked.reader else { return false };
        let (from, to, unterminated) =
            (reader.splitter.boundary(), reader.splitter.read_offset(), reader.splitter.unterminated());
        if unterminated.is_empty() || from == 0 {
            return false;
        }
        let (head_fingerprint, tail_fingerprint) =
            (tracked.entry.head_fingerprint, Fingerprint::of(reader.splitter.bytes_before_boundary()));
        let may_be = |other: &usize| {
            let TrackedFile { entry, compression, .. } = &self.tracked[*other];
            // A file that was finished before these bytes does not deliver them.
            let brings =
                if entry.finished { entry.offset >= to } else { self.tracked[*other].read_offset() >= from };
            entry.key != tracked.entry.key && compression.is_none() && entry.size >= to && brings
        };
        let alike = |other: usize| {
            let Ok(Some(file)) = self.file_of(other) else {
                return false;
            };
            let has_fingerprint = |offset, fingerprint| {
                file_reader::has_fingerprint(&file, offset, fingerprint).unwrap_or(false)
            };
            has_fingerprint(u64::from(head_fingerprint.len), head_fingerprint)
                && has_fingerprint(from, tail_fingerprint)
                && file_reader::bytes_before(&file, to, unterminated.len())
                    .is_ok_and(|theirs| theirs.as_deref() == Some(unterminated))
        };
        (0..self.tracked.len()).filter(may_be).any(alike)
    }

    /// The scan reached the end of the compressed file.
    fn stream_at_end(&mut self, index: usize, mut scan: Box<CopyScan>) -> io::Result<Option<ReadStatus>> {
        let key = self.tracked[index].entry.key;
        if scan.originals.iter().any(|original| original.key == key) {
            // The file contains less than was read from it.
            let size = self.tracked[index].entry.size;
            self.handle_truncation(index, size);
            return Ok(Some(ReadStatus::More));
        }
        if !scan.is_contained() {
            scan.reject_originals();
            self.tracked[index].own_twin_scope = true;
            return self.scan_done(index, scan);
        }
        scan.mark_all_known();
        self.report_copy(index, &scan);
        let tracked = &mut self.tracked[index];
        let history = scan.history();
        let tail_fingerprint = &history[history.len().saturating_sub(FINGERPRINT_BYTES)..];
        (tracked.entry.offset, tracked.entry.tail_fingerprint) =
            (scan.offset(), Fingerprint::of(tail_fingerprint));
        tracked.entry.digest = None;
        (tracked.entry.finished, tracked.changed) = (true, true);
        Ok(Some(ReadStatus::More))
    }

    /// Handles a read error. An incomplete stream is retried, a damaged one is given up. Other errors are returned.
    pub(super) fn stream_failed(
        &mut self,
        index: usize,
        scan: Option<Box<CopyScan>>,
        error: io::Error,
        now: Instant,
        now_ms: i64,
    ) -> io::Result<Option<ReadStatus>> {
        let key = self.tracked[index].entry.key;
        match stream_fault(&error).filter(|_| self.tracked[index].compression.is_some()) {
            None => return Err(error),
            Some(StreamFault::Incomplete) => self.stream_incomplete(index, now),
            Some(StreamFault::Damaged) => match scan {
                // The content before the damage may be new.
                Some(mut scan)
                    if !self.original_is_known(index)
                        && !scan.is_contained()
                        && scan.originals.iter().all(|original| original.key != key) =>
                {
                    scan.reject_originals();
                    return self.scan_done(index, scan);
                }
                _ => self.give_up(index, now_ms, &format!("the compressed file is damaged ({error})")),
            },
        }
        Ok(Some(ReadStatus::More))
    }
}
