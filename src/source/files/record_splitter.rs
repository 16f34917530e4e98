//! Splits the bytes of a file into records. A record ends at LF and nowhere else. Pure.
//!
//! Offsets count bytes of the file. Memory is bounded: a record that is too long, and a run of NUL bytes (left by a
//! host crash), are skipped in constant memory and returned as one malformed record.

use super::digest::Digest;
use super::malformed::{MalformedReason, MalformedRun};
use crate::position::ReadDigest;
use std::ops::Range;

/// Length of the tail fingerprint: bytes before a position that identify the content.
pub(crate) const FINGERPRINT_BYTES: usize = 1024;
/// A malformed record is returned in parts of at most this many bytes, so that a restart does not read all of it
/// again.
const PART_BYTES_MAX: u64 = 1 << 30;
const BOM: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, PartialEq)]
pub enum RawRecord<'a> {
    /// One record without its line end (LF or CRLF). `end` is the offset after the line end.
    Line { body: &'a [u8], offset: u64, end: u64 },
    /// Bytes that cannot be a record. `head` is their beginning, `hash` the XXH3 of all.
    Malformed { head: &'a [u8], offset: u64, bytes: u64, hash: u64, reason: MalformedReason },
}

impl<'a> RawRecord<'a> {
    fn from_malformed(run: &'a MalformedRun) -> RawRecord<'a> {
        RawRecord::Malformed {
            head: &run.head,
            offset: run.offset,
            bytes: run.bytes,
            hash: run.hash(),
            reason: run.reason,
        }
    }

    /// Length of the record without its line end.
    pub fn bytes(&self) -> u64 {
        match self {
            RawRecord::Line { body, .. } => body.len() as u64,
            RawRecord::Malformed { bytes, .. } => *bytes,
        }
    }
}

pub(crate) struct RecordSplitter {
    record_bytes_max: usize,
    part_bytes_max: u64,
    buf: Vec<u8>,
    /// File offset of `buf[0]`.
    base: u64,
    /// Everything before is consumed. The consumed bytes still in `buf` serve the tail fingerprint.
    start: usize,
    /// No LF or NUL between `start` and here.
    scanned: usize,
    end: usize,
    /// Digest of what is consumed. It may lag behind by bytes that are still in `buf`.
    digest: Option<Digest>,
    malformed_run: Option<MalformedRun>,
    /// The finished malformed record that [`RecordSplitter::next_record`] returned last.
    finished_run: Option<MalformedRun>,
}

enum RecordEnd {
    Line(Range<usize>),
    Malformed,
}

impl RecordSplitter {
    /// Starts at `offset`, a record boundary. `before` are the bytes before it.
    pub(crate) fn new(offset: u64, before: &[u8], record_bytes_max: usize) -> RecordSplitter {
        let kept = &before[before.len().saturating_sub(FINGERPRINT_BYTES)..];
        RecordSplitter {
            record_bytes_max,
            part_bytes_max: PART_BYTES_MAX,
            buf: kept.to_vec(),
            base: offset - kept.len() as u64,
            start: kept.len(),
            scanned: kept.len(),
            end: kept.len(),
            digest: None,
            malformed_run: None,
            finished_run: None,
        }
    }

    /// Continues a digest that ends at the start offset.
    pub(crate) fn set_digest(&mut self, digest: Digest) {
        self.digest = Some(digest);
    }

    /// Digest of everything before the boundary.
    pub(crate) fn digest_to_boundary(&mut self) -> Option<ReadDigest> {
        self.digest_to(self.start);
        match &self.malformed_run {
            Some(malformed_run) => malformed_run.digest,
            None => self.digest.as_ref().map(Digest::state),
        }
    }

    fn digest_to(&mut self, end: usize) {
        if let Some(digest) = &mut self.digest {
            let from = (digest.offset() - self.base) as usize;
            digest.feed(&self.buf[from.min(end)..end]);
        }
    }

    /// File offset up to which all records were returned: the checkpoint's position.
    pub(crate) fn boundary(&self) -> u64 {
        match &self.malformed_run {
            Some(malformed_run) => malformed_run.offset,
            None => self.base + self.start as u64,
        }
    }

    /// File offset of the next byte to read.
    pub(crate) fn read_offset(&self) -> u64 {
        self.base + self.end as u64
    }

    /// Number of bytes that wait for the end of their record.
    pub(crate) fn unterminated_bytes(&self) -> u64 {
        self.read_offset() - self.boundary()
    }

    /// The bytes that wait for the end of their record; empty within a malformed record.
    pub(crate) fn unterminated(&self) -> &[u8] {
        if self.malformed_run.is_some() {
            return &[];
        }
        &self.buf[self.start..self.end]
    }

    /// The last bytes before the boundary, at most [`FINGERPRINT_BYTES`].
    pub(crate) fn bytes_before_boundary(&self) -> &[u8] {
        match &self.malformed_run {
            Some(malformed_run) => &malformed_run.bytes_before,
            None => &self.buf[self.start.saturating_sub(FINGERPRINT_BYTES)..self.start],
        }
    }

    /// The last bytes before the read offset, to check whether the file still has them.
    pub(crate) fn last_read(&self) -> &[u8] {
        &self.buf[self.end.saturating_sub(FINGERPRINT_BYTES)..self.end]
    }

    /// Buffer space for `bytes` more bytes. Report how many were read with [`RecordSplitter::advance`].
    pub(crate) fn spare_space(&mut self, bytes: usize) -> &mut [u8] {
        self.digest_to(self.start);
        let keep_from = self.start.saturating_sub(FINGERPRINT_BYTES);
        if keep_from > 0 {
            self.buf.copy_within(keep_from..self.end, 0);
            self.base += keep_from as u64;
            self.start -= keep_from;
            self.scanned -= keep_from;
            self.end -= keep_from;
        }
        let wanted = self.end + bytes;
        if self.buf.len() < wanted {
            self.buf.reserve_exact(wanted - self.buf.len());
            self.buf.resize(wanted, 0);
        } else if self.buf.len() > 2 * wanted {
            // Release the memory of a long record.
            self.buf.truncate(wanted);
            self.buf.shrink_to_fit();
        }
        &mut self.buf[self.end..wanted]
    }

    pub(crate) fn advance(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Whether a run of NUL bytes reaches the read offset.
    pub(crate) fn in_nuls(&self) -> bool {
        let malformed_run = self.malformed_run.as_ref();
        malformed_run.is_some_and(|malformed_run| malformed_run.reason == MalformedReason::Nul)
            && self.start == self.end
    }

    /// Skips a hole in the file, which reads as NUL bytes. It is at least [`FINGERPRINT_BYTES`] long.
    pub(crate) fn skip_nuls(&mut self, bytes: u64) {
        if let Some(malformed_run) = &mut self.malformed_run {
            malformed_run.push_nuls(bytes);
        }
        self.digest_to(self.end);
        if let Some(digest) = &mut self.digest {
            digest.feed_zeros(bytes);
        }
        let kept = FINGERPRINT_BYTES;
        self.base = self.read_offset() + bytes - kept as u64;
        if self.buf.len() < kept {
            self.buf.resize(kept, 0);
        }
        self.buf[..kept].fill(0);
        (self.start, self.scanned, self.end) = (kept, kept, kept);
    }

    /// The next complete record; `None` until more is read. Blank lines are skipped.
    pub(crate) fn next_record(&mut self) -> Option<RawRecord<'_>> {
        match self.find_record_end()? {
            RecordEnd::Line(body) => {
                let offset = self.base + body.start as u64;
                Some(RawRecord::Line { body: &self.buf[body], offset, end: self.base + self.start as u64 })
            }
            RecordEnd::Malformed => self.finished_run.as_ref().map(RawRecord::from_malformed),
        }
    }

    /// The rest of a file that is complete: its last record without a line end.
    pub(crate) fn take_unterminated(&mut self) -> Option<RawRecord<'_>> {
        if let Some(mut malformed_run) = self.malformed_run.take() {
            malformed_run.push(&self.buf[self.start..self.end]);
            self.start = self.end;
            self.scanned = self.end;
            self.finished_run = Some(malformed_run);
            return self.finished_run.as_ref().map(RawRecord::from_malformed);
        }
        let body = self.body(self.start..self.end);
        self.start = self.end;
        self.scanned = self.end;
        let offset = self.base + body.start as u64;
        let end = self.base + self.start as u64;
        (!body.is_empty()).then(|| RawRecord::Line { body: &self.buf[body], offset, end })
    }

    fn find_record_end(&mut self) -> Option<RecordEnd> {
        loop {
            if self.malformed_run.is_some() {
                return self.continue_malformed().then_some(RecordEnd::Malformed);
            }
            match memchr::memchr2(b'\n', 0, &self.buf[self.scanned..self.end]) {
                Some(at) if self.buf[self.scanned + at] == b'\n' => {
                    let line = self.start..self.scanned + at;
                    self.start = line.end + 1;
                    self.scanned = self.start;
                    if line.len() > self.record_bytes_max {
                        self.finished_run = Some(self.start_malformed(MalformedReason::TooLong, line));
                        return Some(RecordEnd::Malformed);
                    }
                    let body = self.body(line);
                    if !body.is_empty() {
                        return Some(RecordEnd::Line(body));
                    }
                }
                Some(at) => {
                    // The line's bytes before a run of NUL were cut off by the crash. They belong to the malformed
                    // record.
                    let before = self.start..self.scanned + at;
                    self.start = before.end;
                    self.scanned = before.end;
                    self.malformed_run = Some(self.start_malformed(MalformedReason::Nul, before));
                }
                None => {
                    self.scanned = self.end;
                    if self.end - self.start <= self.record_bytes_max {
                        return None;
                    }
                    let begun = self.start..self.end;
                    self.start = self.end;
                    self.malformed_run = Some(self.start_malformed(MalformedReason::TooLong, begun));
                }
            }
        }
    }

    fn start_malformed(&mut self, reason: MalformedReason, begun: Range<usize>) -> MalformedRun {
        self.digest_to(begun.start);
        let digest = self.digest.as_ref().map(Digest::state);
        let before = &self.buf[begun.start.saturating_sub(FINGERPRINT_BYTES)..begun.start];
        let offset = self.base + begun.start as u64;
        let mut malformed_run = MalformedRun::new(reason, offset, digest, before);
        malformed_run.push(&self.buf[begun]);
        malformed_run
    }

    /// Continues a malformed record. `true` when its end, or the end of a part, was found.
    fn continue_malformed(&mut self) -> bool {
        let Some(malformed_run) = &mut self.malformed_run else {
            return false;
        };
        loop {
            let rest = &self.buf[self.start..self.end];
            let stop = match malformed_run.reason {
                MalformedReason::TooLong => memchr::memchr2(b'\n', 0, rest),
                MalformedReason::Nul => rest.iter().position(|&b| b != 0),
            };
            let taken = stop.unwrap_or(rest.len());
            match malformed_run.reason {
                MalformedReason::TooLong => malformed_run.push(&rest[..taken]),
                MalformedReason::Nul => {
                    malformed_run.push_nuls(taken as u64);
                    malformed_run.read += taken as u64;
                }
            }
            self.start += taken;
            self.scanned = self.start;
            match stop.map(|at| rest[at]) {
                None if malformed_run.read >= self.part_bytes_max => {
                    self.finished_run = self.malformed_run.take();
                    return true;
                }
                None => return false,
                Some(0) => malformed_run.reason = MalformedReason::Nul,
                // A line end after the record belongs to it. After NUL bytes a record may follow directly.
                Some(byte) => {
                    self.start += usize::from(byte == b'\n');
                    self.scanned = self.start;
                    self.finished_run = self.malformed_run.take();
                    return true;
                }
            }
        }
    }

    fn body(&self, mut line: Range<usize>) -> Range<usize> {
        if self.base + line.start as u64 == 0 && self.buf[line.clone()].starts_with(BOM) {
            line.start += BOM.len();
        }
        if self.buf[line.clone()].ends_with(b"\r") {
            line.end -= 1;
        }
        if self.buf[line.clone()].iter().all(u8::is_ascii_whitespace) {
            line.end = line.start;
        }
        line
    }
}

#[cfg(test)]
#[path = "record_splitter_tests.rs"]
mod tests;
