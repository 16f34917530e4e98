//! Cuts the bytes of a file into records: a record ends at LF and nowhere else. Pure.
//!
//! Offsets count bytes of the file. A record is bounded: one that is longer than allowed, and a run of NUL bytes
//! (what a host crash leaves behind), is passed over in constant memory and told as one malformed record.

use std::ops::Range;
use xxhash_rust::xxh3::Xxh3;

/// How many bytes before a position are kept as evidence of what stood there.
pub const FRONTIER_BYTES: usize = 1024;
/// How much of a malformed record is shown.
const PREFIX_BYTES: usize = 1024;
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
        why: Why,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Why {
    TooLong,
    Nul,
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
struct Passing {
    why: Why,
    offset: u64,
    bytes: u64,
    prefix: Vec<u8>,
    hash: Xxh3,
    /// The bytes before it, which are gone from the buffer before it ends.
    frontier: Vec<u8>,
}

impl Passing {
    fn take(&mut self, bytes: &[u8]) {
        let room = PREFIX_BYTES - self.prefix.len();
        self.prefix.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }
}

pub struct Framer {
    record_bytes_max: usize,
    buf: Vec<u8>,
    /// File offset of `buf[0]`.
    base: u64,
    /// Everything before it is consumed; what is left of that in `buf` is the evidence.
    start: usize,
    /// Everything between `start` and it holds neither LF nor NUL.
    scanned: usize,
    end: usize,
    passing: Option<Passing>,
    /// Where the record that `passing` last told about stands.
    told: Option<Passing>,
}

enum Found {
    Line(Range<usize>),
    Malformed,
}

impl Framer {
    /// Starts at `offset`, a record boundary; `before` are the bytes just before it.
    pub fn new(offset: u64, before: &[u8], record_bytes_max: usize) -> Framer {
        let kept = &before[before.len().saturating_sub(FRONTIER_BYTES)..];
        Framer {
            record_bytes_max,
            buf: kept.to_vec(),
            base: offset - kept.len() as u64,
            start: kept.len(),
            scanned: kept.len(),
            end: kept.len(),
            passing: None,
            told: None,
        }
    }

    /// The file offset up to which all records are handed out: what a checkpoint may say.
    pub fn boundary(&self) -> u64 {
        match &self.passing {
            Some(passing) => passing.offset,
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
        if self.passing.is_some() {
            return &[];
        }
        &self.buf[self.start..self.end]
    }

    /// The last bytes before the boundary, at most [`FRONTIER_BYTES`].
    pub fn frontier(&self) -> &[u8] {
        match &self.passing {
            Some(passing) => &passing.frontier,
            None => &self.buf[self.start.saturating_sub(FRONTIER_BYTES)..self.start],
        }
    }

    /// The last bytes before the read offset, to see whether the file still holds them.
    pub fn recent(&self) -> &[u8] {
        &self.buf[self.end.saturating_sub(FRONTIER_BYTES)..self.end]
    }

    /// Room to read `bytes` more into; tell with [`Framer::filled`] how many came.
    pub fn room(&mut self, bytes: usize) -> &mut [u8] {
        let keep_from = self.start.saturating_sub(FRONTIER_BYTES);
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

    /// The next record that is whole, or none until more is read. Blank lines are no records.
    pub fn next_frame(&mut self) -> Option<Frame<'_>> {
        match self.find()? {
            Found::Line(body) => {
                let offset = self.base + body.start as u64;
                Some(Frame::Line {
                    body: &self.buf[body],
                    offset,
                })
            }
            Found::Malformed => self.told.as_ref().map(malformed),
        }
    }

    /// What is left of a file that will never grow again.
    pub fn last_frame(&mut self) -> Option<Frame<'_>> {
        if let Some(mut passing) = self.passing.take() {
            passing.take(&self.buf[self.start..self.end]);
            self.start = self.end;
            self.scanned = self.end;
            self.told = Some(passing);
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

    fn find(&mut self) -> Option<Found> {
        loop {
            if self.passing.is_some() {
                return self.pass().then_some(Found::Malformed);
            }
            match memchr::memchr2(b'\n', 0, &self.buf[self.scanned..self.end]) {
                Some(at) if self.buf[self.scanned + at] == b'\n' => {
                    let line = self.start..self.scanned + at;
                    self.start = line.end + 1;
                    self.scanned = self.start;
                    if line.len() > self.record_bytes_max {
                        self.told = Some(self.passing_over(Why::TooLong, line));
                        return Some(Found::Malformed);
                    }
                    let body = self.body(line);
                    if !body.is_empty() {
                        return Some(Found::Line(body));
                    }
                }
                Some(at) => {
                    // What stands before a run of NUL on its line was cut off: it belongs to the malformed record.
                    let before = self.start..self.scanned + at;
                    self.start = before.end;
                    self.scanned = before.end;
                    self.passing = Some(self.passing_over(Why::Nul, before));
                }
                None => {
                    self.scanned = self.end;
                    if self.end - self.start <= self.record_bytes_max {
                        return None;
                    }
                    let begun = self.start..self.end;
                    self.start = self.end;
                    self.passing = Some(self.passing_over(Why::TooLong, begun));
                }
            }
        }
    }

    fn passing_over(&self, why: Why, begun: Range<usize>) -> Passing {
        let mut passing = Passing {
            why,
            offset: self.base + begun.start as u64,
            bytes: 0,
            prefix: Vec::new(),
            hash: Xxh3::new(),
            frontier: self.buf[begun.start.saturating_sub(FRONTIER_BYTES)..begun.start].to_vec(),
        };
        passing.take(&self.buf[begun]);
        passing
    }

    /// Goes on over a malformed record; true when its end was found.
    fn pass(&mut self) -> bool {
        let Some(passing) = &mut self.passing else {
            return false;
        };
        loop {
            let rest = &self.buf[self.start..self.end];
            let stop = match passing.why {
                Why::TooLong => memchr::memchr2(b'\n', 0, rest),
                Why::Nul => rest.iter().position(|&b| b != 0),
            };
            let taken = stop.unwrap_or(rest.len());
            passing.take(&rest[..taken]);
            self.start += taken;
            self.scanned = self.start;
            match stop.map(|at| rest[at]) {
                None => return false,
                Some(0) => passing.why = Why::Nul,
                // The line end after the record belongs to it; after a run of NUL a record may follow at once.
                Some(byte) => {
                    self.start += usize::from(byte == b'\n');
                    self.scanned = self.start;
                    self.told = self.passing.take();
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

fn malformed(told: &Passing) -> Frame<'_> {
    Frame::Malformed {
        prefix: &told.prefix,
        offset: told.offset,
        bytes: told.bytes,
        hash: told.hash.digest(),
        why: told.why,
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
