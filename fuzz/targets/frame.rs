//! The bytes of a file become records: the same ones whatever each read returns, wherever the agent was restarted, and
//! whether a hole is read or skipped. A plain description of the rules says which ones.

use super::digest::Digest;
use super::malformed::MalformedReason;
use super::record_splitter::{FINGERPRINT_BYTES, RawRecord, RecordSplitter};
use crate::fuzz::input::Input;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

const KEY: [u64; 2] = [1, 2];
/// Stands for as many NUL bytes as the next byte says, times 16.
const NULS: u8 = 0xfe;
/// A longer file shows nothing new.
const FILE_BYTES_MAX: usize = 8 << 10;

#[derive(Debug, PartialEq)]
struct Piece {
    offset: u64,
    bytes: u64,
    /// Hash of a line or of what is malformed.
    hash: u64,
    malformed: Option<MalformedReason>,
}

impl Piece {
    fn of(raw: &RawRecord) -> Piece {
        match raw {
            RawRecord::Line { body, offset, .. } => {
                Piece { offset: *offset, bytes: body.len() as u64, hash: xxh3_64(body), malformed: None }
            }
            RawRecord::Malformed { head, offset, bytes, hash, reason } => {
                assert_eq!(head.len() as u64, (*bytes).min(1024));
                Piece { offset: *offset, bytes: *bytes, hash: *hash, malformed: Some(*reason) }
            }
        }
    }
}

pub(crate) fn frame(data: &[u8]) {
    let mut input = Input(data);
    let record_bytes_max = 1 + usize::from(input.byte());
    let read_bytes = 1 + usize::from(input.byte());
    let stop_after = usize::from(input.byte());
    let file = file(input.0);
    let expected = expected(&file, record_bytes_max);
    let whole = Reading { file: &file, record_bytes_max, read_bytes: usize::MAX, skips_holes: false };
    assert_eq!(whole.pieces(0, usize::MAX).0, expected);
    let parts = Reading { read_bytes, ..whole };
    assert_eq!(parts.pieces(0, usize::MAX).0, expected);
    let holes = Reading { skips_holes: true, ..parts };
    assert_eq!(holes.pieces(0, usize::MAX).0, expected);
    let (mut before, boundary) = holes.pieces(0, stop_after);
    before.extend(parts.pieces(boundary, usize::MAX).0);
    assert_eq!(before, expected, "restarted at {boundary}");
}

fn file(data: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut input = Input(data);
    while !input.0.is_empty() && file.len() < FILE_BYTES_MAX {
        match input.byte() {
            NULS => file.resize(file.len() + 16 * usize::from(input.byte()), 0),
            byte => file.push(byte),
        }
    }
    file
}

#[derive(Clone, Copy)]
struct Reading<'f> {
    file: &'f [u8],
    record_bytes_max: usize,
    read_bytes: usize,
    skips_holes: bool,
}

impl Reading<'_> {
    /// What is read from `offset` on, and the position after `reads` reads. All of the file: its end too.
    fn pieces(&self, offset: u64, reads: usize) -> (Vec<Piece>, u64) {
        let mut at = offset as usize;
        let mut splitter = RecordSplitter::new(offset, &self.file[..at], self.record_bytes_max);
        splitter.set_digest(self.digest(at));
        let mut pieces = Vec::new();
        for read in 0.. {
            while let Some(raw) = splitter.next_record() {
                pieces.push(Piece::of(&raw));
            }
            if at == self.file.len() || read == reads {
                self.check(&mut splitter, at);
            }
            if read == reads {
                return (pieces, splitter.boundary());
            }
            if at == self.file.len() {
                break;
            }
            if self.skips_holes && splitter.in_nuls() {
                let nuls = self.file[at..].iter().take_while(|byte| **byte == 0).count();
                if nuls >= FINGERPRINT_BYTES {
                    splitter.skip_nuls(nuls as u64);
                    at += nuls;
                    continue;
                }
            }
            let count = self.read_bytes.min(self.file.len() - at);
            splitter.spare_space(count)[..count].copy_from_slice(&self.file[at..at + count]);
            splitter.advance(count);
            at += count;
        }
        pieces.extend(splitter.take_unterminated().map(|raw| Piece::of(&raw)));
        assert_eq!((splitter.boundary(), splitter.unterminated_bytes()), (at as u64, 0));
        self.check(&mut splitter, at);
        (pieces, splitter.boundary())
    }

    fn digest(&self, end: usize) -> Digest {
        let mut digest = Digest::new(KEY, 0);
        digest.feed(&self.file[..end]);
        digest
    }

    /// What a checkpoint would store.
    fn check(&self, splitter: &mut RecordSplitter, read: usize) {
        let boundary = splitter.boundary() as usize;
        assert!(boundary <= read);
        assert_eq!(splitter.read_offset(), read as u64);
        let tail = |end: usize| &self.file[end.saturating_sub(FINGERPRINT_BYTES)..end];
        assert_eq!(splitter.bytes_before_boundary(), tail(boundary));
        assert_eq!(splitter.last_read(), tail(read));
        assert!(self.file[..read].ends_with(splitter.unterminated()));
        assert_eq!(splitter.digest_to_boundary(), Some(self.digest(boundary).state()));
    }
}

/// The records of a file by its rules, slowly.
fn expected(file: &[u8], record_bytes_max: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut start = 0;
    while start < file.len() {
        let line = &file[start..];
        let end = line.iter().position(|byte| matches!(byte, b'\n' | 0)).unwrap_or(line.len());
        let offset = start as u64;
        if line.get(end) == Some(&0) {
            let nuls = line[end..].iter().take_while(|byte| **byte == 0).count();
            let mut hash = Xxh3::new();
            hash.update(&line[..end]);
            hash.update(&(nuls as u64).to_le_bytes());
            let bytes = (end + nuls) as u64;
            pieces.push(Piece { offset, bytes, hash: hash.digest(), malformed: Some(MalformedReason::Nul) });
            start += end + nuls + usize::from(line.get(end + nuls) == Some(&b'\n'));
            continue;
        }
        let (mut body, mut offset) = (&line[..end], offset);
        start += end + 1;
        if end > record_bytes_max {
            let malformed = Some(MalformedReason::TooLong);
            pieces.push(Piece { offset, bytes: end as u64, hash: xxh3_64(body), malformed });
            continue;
        }
        if let Some(rest) = body.strip_prefix(b"\xef\xbb\xbf").filter(|_| offset == 0) {
            (body, offset) = (rest, 3);
        }
        body = body.strip_suffix(b"\r").unwrap_or(body);
        if !body.iter().all(u8::is_ascii_whitespace) {
            pieces.push(Piece { offset, bytes: body.len() as u64, hash: xxh3_64(body), malformed: None });
        }
    }
    pieces
}
