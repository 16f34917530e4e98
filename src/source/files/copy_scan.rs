//! Compares a file from its start with possible originals: how many bytes of it another file delivered already.

use super::digest::Digest;
use super::file_reader::{self, Content};
use super::record_splitter::FINGERPRINT_BYTES;
use crate::position::{FileEntry, Fingerprint, ReadDigest};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK_BYTES: usize = 128 * 1024;

/// A file that the scanned file may be a copy of.
pub(super) struct PossibleOriginal {
    /// Key of its entry.
    pub key: u32,
    pub path: String,
    /// Bytes that were read from it.
    pub offset: u64,
    pub content: OriginalContent,
    /// Digest of everything that was read from it, if it is known.
    pub digest_check: Option<Box<DigestCheck>>,
}

/// A digest of the scanned file, computed with the key of a possible original's digest.
pub(super) struct DigestCheck {
    expected: ReadDigest,
    digest: Digest,
}

impl DigestCheck {
    pub(super) fn of(entry: &FileEntry) -> Option<Box<DigestCheck>> {
        let expected = entry.digest.filter(|digest| digest.to == entry.offset)?;
        let digest = Digest::new(expected.key, expected.from);
        Some(Box::new(DigestCheck { expected, digest }))
    }

    /// Feeds the block at offset `at`. Bytes before the digest's start are ignored.
    fn feed(&mut self, block: &[u8], at: u64) {
        let before = self.digest.offset().saturating_sub(at);
        let behind = usize::try_from(before).ok().and_then(|before| block.get(before..));
        self.digest.feed(behind.unwrap_or_default());
    }

    fn is_same(&self) -> bool {
        self.digest.state() == self.expected
    }
}

/// What is known of the content of a possible original.
pub(super) enum OriginalContent {
    /// The file is available and unchanged. The fingerprint is that of the last bytes before `offset`.
    Present(File, Fingerprint),
    /// The file is missing. Only the fingerprint of the last bytes before `offset` is known.
    TailFingerprint(Fingerprint),
    /// Its content is known to be the same, so it is not compared.
    Trusted,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum CopyScanStep {
    More,
    /// The scanned file ends here, and is the start of each remaining original.
    AtEnd,
    /// No possible original is left.
    Done,
}

pub(super) struct CopyScan {
    pub content: Content,
    pub originals: Vec<PossibleOriginal>,
    /// Entry keys of files that this file is not a copy of.
    pub rejected: Vec<u32>,
    /// Bytes of the file that were scanned.
    offset: u64,
    /// The last scanned bytes, and how many of them are kept.
    history: Vec<u8>,
    history_bytes: usize,
    /// Offset after the last line end.
    line_end: u64,
    /// Bytes at the start of this file that were delivered from another file, and that file's path.
    known: u64,
    known_from: Option<String>,
    /// Offset at which an original ends without a line end, if the content before is known.
    unterminated_end: Option<u64>,
}

impl CopyScan {
    /// `history_bytes`: number of bytes before the end of the known content to keep in memory.
    pub(super) fn new(content: Content, originals: Vec<PossibleOriginal>, history_bytes: usize) -> CopyScan {
        CopyScan {
            content,
            originals,
            rejected: Vec::new(),
            offset: 0,
            history: Vec::new(),
            history_bytes: history_bytes.max(FINGERPRINT_BYTES),
            line_end: 0,
            known: 0,
            known_from: None,
            unterminated_end: None,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    pub(super) fn known(&self) -> u64 {
        self.known
    }

    /// Path of the file from which the known content was delivered.
    pub(super) fn known_from(&self) -> Option<&str> {
        self.known_from.as_deref()
    }

    pub(super) fn line_end(&self) -> u64 {
        self.line_end
    }

    /// The last bytes before [`CopyScan::offset`].
    pub(super) fn history(&self) -> &[u8] {
        &self.history
    }

    /// Whether everything scanned is the start of an available file.
    pub(super) fn is_contained(&self) -> bool {
        self.originals.iter().any(|original| matches!(original.content, OriginalContent::Present(..)))
    }

    /// Compares the next block.
    ///
    /// # Errors
    /// Those of reading the scanned file. An original that cannot be read is dropped.
    pub(super) fn step(&mut self) -> io::Result<CopyScanStep> {
        let Some(stop) = self.originals.iter().map(|original| original.offset).min() else {
            return self.finish();
        };
        let mut block = vec![0; BLOCK_BYTES.min((stop - self.offset) as usize)];
        let read = self.content.read(&mut block, self.offset)?;
        if read == 0 && !block.is_empty() {
            return Ok(CopyScanStep::AtEnd);
        }
        let block = &block[..read];
        self.compare(block);
        self.advance(block);
        self.decide_reached();
        Ok(CopyScanStep::More)
    }

    /// Drops originals whose content differs.
    fn compare(&mut self, block: &[u8]) {
        let mut theirs = vec![0; block.len()];
        for mut original in std::mem::take(&mut self.originals) {
            let OriginalContent::Present(file, tail_fingerprint) = &original.content else {
                self.originals.push(original);
                continue;
            };
            let same = match file.read_exact_at(&mut theirs, self.offset) {
                Ok(()) => block.iter().zip(&theirs).take_while(|(a, b)| a == b).count(),
                Err(_) => 0,
            };
            if same == block.len() {
                self.originals.push(original);
                continue;
            }
            if !file_reader::has_fingerprint(file, original.offset, *tail_fingerprint).unwrap_or(false) {
                // The original was truncated meanwhile.
                original.content = OriginalContent::TailFingerprint(*tail_fingerprint);
                self.originals.push(original);
                continue;
            }
            let end = memchr::memrchr(b'\n', &block[..same])
                .map_or(self.line_end, |lf| self.offset + lf as u64 + 1);
            // Two files may start with a few equal lines by chance. This many bytes are no chance.
            if end >= FINGERPRINT_BYTES as u64 {
                self.mark_known(end, original.path);
            }
            self.rejected.push(original.key);
        }
    }

    fn advance(&mut self, block: &[u8]) {
        if let Some(lf) = memchr::memrchr(b'\n', block) {
            self.line_end = self.offset + lf as u64 + 1;
        }
        for digest_check in self.originals.iter_mut().filter_map(|original| original.digest_check.as_mut()) {
            digest_check.feed(block, self.offset);
        }
        self.offset += block.len() as u64;
        self.history.extend_from_slice(block);
        // Not after each block, because draining moves the bytes that are kept.
        if self.history.len() > 2 * self.history_bytes + BLOCK_BYTES {
            self.history.drain(..self.history.len() - self.history_bytes);
        }
    }

    /// Accepts or rejects originals whose offset was reached.
    fn decide_reached(&mut self) {
        for original in std::mem::take(&mut self.originals) {
            if original.offset > self.offset {
                self.originals.push(original);
                continue;
            }
            let same = match original.content {
                OriginalContent::Present(..) | OriginalContent::Trusted => true,
                OriginalContent::TailFingerprint(tail_fingerprint) => {
                    let from = self.history.len().checked_sub(tail_fingerprint.len as usize);
                    let has_same_tail =
                        from.is_some_and(|from| Fingerprint::of(&self.history[from..]) == tail_fingerprint);
                    has_same_tail && original.digest_check.is_none_or(|digest_check| digest_check.is_same())
                }
            };
            if !same {
                self.rejected.push(original.key);
                continue;
            }
            // A record may follow a run of NUL bytes without a line end.
            if matches!(self.history.last(), Some(b'\n' | 0) | None) {
                self.mark_known(self.offset, original.path);
            } else {
                self.unterminated_end = Some(self.offset);
                self.mark_known(self.line_end, original.path);
            }
        }
    }

    fn mark_known(&mut self, known: u64, original: String) {
        if known >= self.known {
            (self.known, self.known_from) = (known, Some(original));
        }
    }

    /// If an original ends without a line end and this file ends there too, the last record is the same.
    fn finish(&mut self) -> io::Result<CopyScanStep> {
        if self.unterminated_end == Some(self.offset) {
            let mut next = [0; 1];
            match self.content.read(&mut next, self.offset)? {
                0 => self.known = self.offset,
                read => self.offset += read as u64,
            }
            self.unterminated_end = None;
        }
        Ok(CopyScanStep::Done)
    }

    /// Marks everything scanned as known, because another file contains it.
    pub(super) fn mark_all_known(&mut self) {
        let is_prefix_of_other =
            |original: &&PossibleOriginal| matches!(original.content, OriginalContent::Present(..));
        if let Some(path) =
            self.originals.iter().find(is_prefix_of_other).map(|original| original.path.clone())
        {
            self.mark_known(self.offset, path);
        }
    }

    /// Scans again from the start up to the known content. `key` and `path` are those of the scanned file.
    pub(super) fn restarted(self, key: u32, path: &str) -> io::Result<CopyScan> {
        let Content::Compressed(stream) = self.content else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let known = PossibleOriginal {
            key,
            path: self.known_from.unwrap_or_else(|| path.to_owned()),
            offset: self.known,
            content: OriginalContent::Trusted,
            digest_check: None,
        };
        let originals = if self.known > 0 { vec![known] } else { Vec::new() };
        let content = Content::Compressed(stream.reopened()?);
        Ok(CopyScan::new(content, originals, self.history_bytes))
    }

    /// Rejects the remaining originals: nothing proves that this file is a copy.
    pub(super) fn reject_originals(&mut self) {
        self.rejected.extend(self.originals.drain(..).map(|original| original.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn lines(range: std::ops::Range<u32>) -> Vec<u8> {
        range.flat_map(|n| format!("{{line {n:092}}}\n").into_bytes()).collect()
    }

    fn scan_copy(copy: &[u8], original: &[u8], offset: u64, present: bool) -> (CopyScanStep, u64, bool) {
        scan_with_digest(copy, original, offset, present, None)
    }

    fn scan_with_digest(
        copy: &[u8],
        original: &[u8],
        offset: u64,
        present: bool,
        digest_check: Option<Box<DigestCheck>>,
    ) -> (CopyScanStep, u64, bool) {
        let from = offset.saturating_sub(FINGERPRINT_BYTES as u64) as usize;
        let tail_fingerprint = Fingerprint::of(&original[from..offset as usize]);
        let content = if present {
            OriginalContent::Present(file(original), tail_fingerprint)
        } else {
            OriginalContent::TailFingerprint(tail_fingerprint)
        };
        let original = PossibleOriginal { key: 7, path: "original".into(), offset, content, digest_check };
        let mut scan = CopyScan::new(Content::Plain(file(copy)), vec![original], 0);
        loop {
            match scan.step().unwrap() {
                CopyScanStep::More => {}
                step => return (step, scan.known(), scan.rejected == [7]),
            }
        }
    }

    /// F86: how many bytes of a file are known, for combinations of its content and the original's.
    #[test]
    fn f86_how_much_is_a_copy() {
        let all = lines(0..6_000);
        let len = all.len() as u64;
        for present in [true, false] {
            assert_eq!(scan_copy(&all, &all, len, present), (CopyScanStep::Done, len, false));
            // The copy has more, and the original was read in part.
            let more = [&all[..], &lines(0..9)].concat();
            assert_eq!(scan_copy(&more, &all, len, present), (CopyScanStep::Done, len, false));
            assert_eq!(scan_copy(&more, &all, 5000, present), (CopyScanStep::Done, 5000, false));
            // Different files: in the last bytes, or from the first line.
            let mut other = all.clone();
            other[len as usize - 3] = b'x';
            let known = if present { len - 100 } else { 0 };
            assert_eq!(scan_copy(&other, &all, len, present), (CopyScanStep::Done, known, true));
            assert_eq!(scan_copy(&lines(7..6_007), &all, len, present), (CopyScanStep::Done, 0, true));
            // The original's last record has no line end; the copy ends with it or goes on.
            let unterminated_end = &all[..950];
            assert_eq!(
                scan_copy(unterminated_end, unterminated_end, 950, present),
                (CopyScanStep::Done, 950, false)
            );
            assert_eq!(
                scan_copy(&all[..1000], unterminated_end, 950, present),
                (CopyScanStep::Done, 900, false)
            );
            // The caller decides about a copy of the start.
            assert_eq!(scan_copy(&all[..500], &all, len, present), (CopyScanStep::AtEnd, 0, false));
        }
        // A few equal lines do not make a file a copy.
        let [short, other] = [3, 4].map(|n| [lines(0..2), lines(n..9)].concat());
        assert_eq!(scan_copy(&short, &other, 500, true), (CopyScanStep::Done, 0, true));
    }

    /// F86: a file with a different middle is not a copy of a missing file. The digest may start after the file's
    /// start.
    #[test]
    fn f86_another_middle_is_no_copy_of_what_is_gone() {
        let all = lines(0..6_000);
        let len = all.len() as u64;
        for from in [0, 1, 200_000] {
            let entry = || {
                let mut digest = Digest::new([8, 6], from);
                digest.feed(&all[from as usize..]);
                FileEntry { offset: len, digest: Some(digest.state()), ..FileEntry::default() }
            };
            let more = [&all[..], &lines(0..9)].concat();
            for copy in [&all, &more] {
                let found = scan_with_digest(copy, &all, len, false, DigestCheck::of(&entry()));
                assert_eq!(found, (CopyScanStep::Done, len, false), "from {from}");
            }
            let mut other = all.clone();
            other[len as usize / 2] = b'x';
            let found = scan_with_digest(&other, &all, len, false, DigestCheck::of(&entry()));
            assert_eq!(found, (CopyScanStep::Done, 0, true), "from {from}");
            // A digest of another position is not used.
            let old = FileEntry { offset: len - 100, ..entry() };
            assert!(DigestCheck::of(&old).is_none());
        }
    }
}
