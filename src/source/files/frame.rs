//! Cuts the bytes of a file into records: a record ends at LF and nowhere else. Pure.
//!
//! Offsets count bytes of the file. A record is bounded: one that is longer than allowed, and a run of NUL bytes
//! (what a host crash leaves behind), is passed over in constant memory and told as one malformed record.

use super::digest::Digest;
use crate::position::ReadDigest;
use std::ops::Range;
use xxhash_rust::xxh3::Xxh3;

/// How many bytes before a position are kept as evidence of what stood there.
pub const FINGERPRINT_BYTES: usize = 1024;
/// How much of a malformed record is shown.
const PREFIX_BYTES: usize = 1024;
/// What is read of a malformed record is told in pieces of so many bytes, so that a restart does not begin it again.
const PIECE_BYTES: u64 = 1 << 30;
const BOM: &[u8] = b"\xEF\xBB\xBF";

#[derive(Debug, PartialEq)]
pub enum Frame<'a> {
    /// One record without its line end (LF or CRLF).
    Line { body: &'a [u8], offset: u64 },
    /// Bytes that can be no record.
    Malformed {
        prefix: &'a [u8],
        offset: u64,
        bytes: u64,
        hash: u64,
        reason: MalformedReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MalformedReason {
    TooLong,
    Nul,
}

impl MalformedReason {
    /// What the event of a malformed record says.
    pub fn error(self, bytes: u64, offset: u64, hash: u64) -> String {
        let what = match self {
            MalformedReason::TooLong => "a line longer than `record_bytes_max`",
            MalformedReason::Nul => "a run of NUL bytes",
        };
        format!("{what}: {bytes} bytes at offset {offset}, xxh3 {hash:016x}")
    }
}

impl Frame<'_> {
    /// Length of the record without its line end.
    pub fn bytes(&self) -> u64 {
        match self {
            Frame::Line { body, .. } => body.len() as u64,
            Frame::Malformed { bytes, .. } => *bytes,
        }
    }
}

/// A malformed record that is being passed over.
struct MalformedRun {
    reason: MalformedReason,
    offset: u64,
    bytes: u64,
    prefix: Vec<u8>,
    /// Of the bytes before the first NUL, and of the number of NULs: they need not be read to be counted.
    hash: Xxh3,
    nuls: u64,
    /// How many of the bytes were read.
    read: u64,
    /// Of what stands before it.
    digest: Option<ReadDigest>,
    /// The bytes before it, which are gone from the buffer before it ends.
    tail_fingerprint: Vec<u8>,
}

impl MalformedRun {
    fn take(&mut self, bytes: &[u8]) {
        let room = PREFIX_BYTES - self.prefix.len();
        self.prefix.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
        self.read += bytes.len() as u64;
        self.hash.update(bytes);
    }

    fn whole_hash(&self) -> u64 {
        let mut hash = self.hash.clone();
        if self.nuls > 0 {
            hash.update(&self.nuls.to_le_bytes());
        }
        hash.digest()
    }

    fn take_nuls(&mut self, nuls: u64) {
        let shown = (self.prefix.len() as u64)
            .saturating_add(nuls)
            .min(PREFIX_BYTES as u64);
        self.prefix.resize(shown as usize, 0);
        self.bytes += nuls;
        self.nuls += nuls;
    }
}

pub struct Framer {
    record_bytes_max: usize,
    piece_bytes: u64,
    buf: Vec<u8>,
    /// File offset of `buf[0]`.
    base: u64,
    /// Everything before it is consumed; what is left of that in `buf` is the evidence.
    start: usize,
    /// Everything between `start` and it holds neither LF nor NUL.
    scanned: usize,
    end: usize,
    /// Of what is consumed, or of less of it as long as that is in `buf`.
    digest: Option<Digest>,
    malformed_run: Option<MalformedRun>,
    /// Where the record that `malformed_run` last told about stands.
    told: Option<MalformedRun>,
}

enum RecordEnd {
    Line(Range<usize>),
    Malformed,
}

impl Framer {
    /// Starts at `offset`, a record boundary; `before` are the bytes just before it.
    pub fn new(offset: u64, before: &[u8], record_bytes_max: usize) -> Framer {
        let kept = &before[before.len().saturating_sub(FINGERPRINT_BYTES)..];
        Framer {
            record_bytes_max,
            piece_bytes: PIECE_BYTES,
            buf: kept.to_vec(),
            base: offset - kept.len() as u64,
            start: kept.len(),
            scanned: kept.len(),
            end: kept.len(),
            digest: None,
            malformed_run: None,
            told: None,
        }
    }

    /// Goes on with the digest of what stands before the offset at which this was made.
    pub fn with_digest(&mut self, digest: Digest) {
        self.digest = Some(digest);
    }

    /// Of everything before the boundary.
    pub fn digest(&mut self) -> Option<ReadDigest> {
        self.digest_to(self.start);
        match &self.malformed_run {
            Some(malformed_run) => malformed_run.digest,
            None => self.digest.as_ref().map(Digest::state),
        }
    }

    fn digest_to(&mut self, end: usize) {
        if let Some(digest) = &mut self.digest {
            let from = (digest.at() - self.base) as usize;
            digest.feed(&self.buf[from.min(end)..end]);
        }
    }

    /// The file offset up to which all records are handed out: what a checkpoint may say.
    pub fn boundary(&self) -> u64 {
        match &self.malformed_run {
            Some(malformed_run) => malformed_run.offset,
            None => self.base + self.start as u64,
        }
    }

    /// The file offset of the next byte to read.
    pub fn read_offset(&self) -> u64 {
        self.base + self.end as u64
    }

    /// Bytes that were read and wait for the end of their record.
    pub fn waiting_bytes(&self) -> u64 {
        self.read_offset() - self.boundary()
    }

    /// The bytes that wait for the end of their record; none of a malformed one.
    pub fn waiting(&self) -> &[u8] {
        if self.malformed_run.is_some() {
            return &[];
        }
        &self.buf[self.start..self.end]
    }

    /// The last bytes before the boundary, at most [`FINGERPRINT_BYTES`].
    pub fn tail_fingerprint(&self) -> &[u8] {
        match &self.malformed_run {
            Some(malformed_run) => &malformed_run.tail_fingerprint,
            None => &self.buf[self.start.saturating_sub(FINGERPRINT_BYTES)..self.start],
        }
    }

    /// The last bytes before the read offset, to see whether the file still holds them.
    pub fn recent(&self) -> &[u8] {
        &self.buf[self.end.saturating_sub(FINGERPRINT_BYTES)..self.end]
    }

    /// Room to read `bytes` more into; tell with [`Framer::filled`] how many came.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
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
            // One long record must not keep its memory for ever.
            self.buf.truncate(wanted);
            self.buf.shrink_to_fit();
        }
        &mut self.buf[self.end..wanted]
    }

    pub fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Whether a run of NUL goes on at the read offset, as far as is known.
    pub fn in_nuls(&self) -> bool {
        let malformed_run = self.malformed_run.as_ref();
        malformed_run.is_some_and(|malformed_run| malformed_run.reason == MalformedReason::Nul)
            && self.start == self.end
    }

    /// Goes over a hole in the file, whose bytes are NUL without being read. It is at least [`FINGERPRINT_BYTES`] long.
    pub fn skip_nuls(&mut self, bytes: u64) {
        if let Some(malformed_run) = &mut self.malformed_run {
            malformed_run.take_nuls(bytes);
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

    /// The next record that is whole, or none until more is read. Blank lines are no records.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        match self.find()? {
            RecordEnd::Line(body) => {
                let offset = self.base + body.start as u64;
                Some(Frame::Line {
                    body: &self.buf[body],
                    offset,
                })
            }
            RecordEnd::Malformed => self.told.as_ref().map(malformed),
        }
    }

    /// What is left of a file that will never grow again.
    pub fn last_frame(&mut self) -> Option<Frame<'_>> {
        if let Some(mut malformed_run) = self.malformed_run.take() {
            malformed_run.take(&self.buf[self.start..self.end]);
            self.start = self.end;
            self.scanned = self.end;
            self.told = Some(malformed_run);
            return self.told.as_ref().map(malformed);
        }
        let body = self.body(self.start..self.end);
        self.start = self.end;
        self.scanned = self.end;
        let offset = self.base + body.start as u64;
        (!body.is_empty()).then(|| Frame::Line {
            body: &self.buf[body],
            offset,
        })
    }

    fn find(&mut self) -> Option<RecordEnd> {
        loop {
            if self.malformed_run.is_some() {
                return self.pass().then_some(RecordEnd::Malformed);
            }
            match memchr::memchr2(b'\n', 0, &self.buf[self.scanned..self.end]) {
                Some(at) if self.buf[self.scanned + at] == b'\n' => {
                    let line = self.start..self.scanned + at;
                    self.start = line.end + 1;
                    self.scanned = self.start;
                    if line.len() > self.record_bytes_max {
                        self.told = Some(self.passing_over(MalformedReason::TooLong, line));
                        return Some(RecordEnd::Malformed);
                    }
                    let body = self.body(line);
                    if !body.is_empty() {
                        return Some(RecordEnd::Line(body));
                    }
                }
                Some(at) => {
                    // What stands before a run of NUL on its line was cut off: it belongs to the malformed record.
                    let before = self.start..self.scanned + at;
                    self.start = before.end;
                    self.scanned = before.end;
                    self.malformed_run = Some(self.passing_over(MalformedReason::Nul, before));
                }
                None => {
                    self.scanned = self.end;
                    if self.end - self.start <= self.record_bytes_max {
                        return None;
                    }
                    let begun = self.start..self.end;
                    self.start = self.end;
                    self.malformed_run = Some(self.passing_over(MalformedReason::TooLong, begun));
                }
            }
        }
    }

    fn passing_over(&mut self, reason: MalformedReason, begun: Range<usize>) -> MalformedRun {
        self.digest_to(begun.start);
        let mut malformed_run = MalformedRun {
            reason,
            offset: self.base + begun.start as u64,
            bytes: 0,
            prefix: Vec::new(),
            hash: Xxh3::new(),
            nuls: 0,
            read: 0,
            digest: self.digest.as_ref().map(Digest::state),
            tail_fingerprint: self.buf[begun.start.saturating_sub(FINGERPRINT_BYTES)..begun.start].to_vec(),
        };
        malformed_run.take(&self.buf[begun]);
        malformed_run
    }

    /// Goes on over a malformed record; true when its end was found.
    fn pass(&mut self) -> bool {
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
                MalformedReason::TooLong => malformed_run.take(&rest[..taken]),
                MalformedReason::Nul => {
                    malformed_run.take_nuls(taken as u64);
                    malformed_run.read += taken as u64;
                }
            }
            self.start += taken;
            self.scanned = self.start;
            match stop.map(|at| rest[at]) {
                None if malformed_run.read >= self.piece_bytes => {
                    self.told = self.malformed_run.take();
                    return true;
                }
                None => return false,
                Some(0) => malformed_run.reason = MalformedReason::Nul,
                // The line end after the record belongs to it; after a run of NUL a record may follow at once.
                Some(byte) => {
                    self.start += usize::from(byte == b'\n');
                    self.scanned = self.start;
                    self.told = self.malformed_run.take();
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

fn malformed(told: &MalformedRun) -> Frame<'_> {
    Frame::Malformed {
        prefix: &told.prefix,
        offset: told.offset,
        bytes: told.bytes,
        hash: told.whole_hash(),
        reason: told.reason,
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
