//! Compares the content of a file with what is known of others, from its beginning on: how much of it was delivered from
//! another file, byte for byte, as far as that can be told.

use super::digest::Digest;
use super::frame::FINGERPRINT_BYTES;
use super::tail::{self, Content};
use crate::position::{FileEntry, Fingerprint, ReadDigest};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const BLOCK_BYTES: usize = 128 * 1024;

/// What this file may be a copy of.
pub struct Rival {
    /// Key of its entry.
    pub key: u32,
    pub path: String,
    /// Up to there it was read.
    pub offset: u64,
    pub proof: Proof,
    /// Of all that was read of it, if that is known.
    pub whole: Option<Box<Whole>>,
}

/// A digest of this file, to be compared with a rival's.
pub struct Whole {
    expected: ReadDigest,
    digest: Digest,
}

impl Whole {
    pub fn of(entry: &FileEntry) -> Option<Box<Whole>> {
        let expected = entry.digest.filter(|digest| digest.to == entry.offset)?;
        let digest = Digest::new(expected.key, expected.from);
        Some(Box::new(Whole { expected, digest }))
    }

    /// Takes a block that stands at `at`.
    fn feed(&mut self, block: &[u8], at: u64) {
        let before = self.digest.at().saturating_sub(at);
        let behind = usize::try_from(before)
            .ok()
            .and_then(|before| block.get(before..));
        self.digest.feed(behind.unwrap_or_default());
    }

    fn is_same(&self) -> bool {
        self.digest.state() == self.expected
    }
}

/// How a rival's content is known.
pub enum Proof {
    /// The file is there, and holds what was read of it, of which these are the last bytes.
    File(File, Fingerprint),
    /// Of its last bytes before the offset.
    Fingerprint(Fingerprint),
    /// It was compared already.
    Done,
}

#[derive(Debug, PartialEq, Eq)]
pub enum ScanStep {
    More,
    /// The file ends here for now, and is the beginning of all rivals that are left.
    AtEnd,
    /// No rival is left.
    Done,
}

pub struct Scan {
    pub content: Content,
    pub rivals: Vec<Rival>,
    /// Keys of those that it is no copy of.
    pub rejected: Vec<u32>,
    /// So much of the file was read, in bytes.
    at: u64,
    /// The last of these bytes, and how many are kept.
    recent: Vec<u8>,
    keep: usize,
    /// Behind the last line end.
    line_end: u64,
    /// Up to there the content is known, from this file.
    known: u64,
    original: Option<String>,
    /// Where a rival ended without a line end, if the content is known up to there.
    ragged: Option<u64>,
}

impl Scan {
    /// `rotated_files_max`: so many of the bytes before the end of what is known are wanted afterwards.
    pub fn new(content: Content, rivals: Vec<Rival>, keep: usize) -> Scan {
        Scan {
            content,
            rivals,
            rejected: Vec::new(),
            at: 0,
            recent: Vec::new(),
            keep: keep.max(FINGERPRINT_BYTES),
            line_end: 0,
            known: 0,
            original: None,
            ragged: None,
        }
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    pub fn known(&self) -> u64 {
        self.known
    }

    /// From where the known content was delivered.
    pub fn original(&self) -> Option<&str> {
        self.original.as_deref()
    }

    pub fn line_end(&self) -> u64 {
        self.line_end
    }

    /// The last bytes before where the scan stands.
    pub fn recent(&self) -> &[u8] {
        &self.recent
    }

    /// All that was read of the file is the beginning of a file that is there.
    pub fn is_contained(&self) -> bool {
        self.rivals
            .iter()
            .any(|rival| matches!(rival.proof, Proof::File(..)))
    }

    /// Compares one block more.
    ///
    /// # Errors
    /// Those of reading the file itself. A rival that cannot be read is none.
    pub fn step(&mut self) -> io::Result<ScanStep> {
        let Some(stop) = self.rivals.iter().map(|rival| rival.offset).min() else {
            return self.finish();
        };
        let mut block = vec![0; BLOCK_BYTES.min((stop - self.at) as usize)];
        let read = self.content.read(&mut block, self.at)?;
        if read == 0 && !block.is_empty() {
            return Ok(ScanStep::AtEnd);
        }
        let block = &block[..read];
        self.compare(block);
        self.take(block);
        self.settle();
        Ok(ScanStep::More)
    }

    /// Drops the rivals with another content.
    fn compare(&mut self, block: &[u8]) {
        let mut theirs = vec![0; block.len()];
        for mut rival in std::mem::take(&mut self.rivals) {
            let Proof::File(file, tail_fingerprint) = &rival.proof else {
                self.rivals.push(rival);
                continue;
            };
            let same = match file.read_exact_at(&mut theirs, self.at) {
                Ok(()) => block.iter().zip(&theirs).take_while(|(a, b)| a == b).count(),
                Err(_) => 0,
            };
            if same == block.len() {
                self.rivals.push(rival);
                continue;
            }
            if !tail::holds(file, rival.offset, *tail_fingerprint).unwrap_or(false) {
                // It was truncated meanwhile.
                rival.proof = Proof::Fingerprint(*tail_fingerprint);
                self.rivals.push(rival);
                continue;
            }
            let end =
                memchr::memrchr(b'\n', &block[..same]).map_or(self.line_end, |lf| self.at + lf as u64 + 1);
            // Lines that are alike may stand at the beginning of two files; so many are the same ones.
            if end >= FINGERPRINT_BYTES as u64 {
                self.credit(end, rival.path);
            }
            self.rejected.push(rival.key);
        }
    }

    fn take(&mut self, block: &[u8]) {
        if let Some(lf) = memchr::memrchr(b'\n', block) {
            self.line_end = self.at + lf as u64 + 1;
        }
        for whole in self.rivals.iter_mut().filter_map(|rival| rival.whole.as_mut()) {
            whole.feed(block, self.at);
        }
        self.at += block.len() as u64;
        self.recent.extend_from_slice(block);
        // Not at each block, for what is kept is moved.
        if self.recent.len() > 2 * self.keep + BLOCK_BYTES {
            self.recent.drain(..self.recent.len() - self.keep);
        }
    }

    /// Decides about those whose offset is reached.
    fn settle(&mut self) {
        for rival in std::mem::take(&mut self.rivals) {
            if rival.offset > self.at {
                self.rivals.push(rival);
                continue;
            }
            let same = match rival.proof {
                Proof::File(..) | Proof::Done => true,
                Proof::Fingerprint(tail_fingerprint) => {
                    let from = self.recent.len().checked_sub(tail_fingerprint.len as usize);
                    let ends_alike =
                        from.is_some_and(|from| Fingerprint::of(&self.recent[from..]) == tail_fingerprint);
                    ends_alike && rival.whole.is_none_or(|whole| whole.is_same())
                }
            };
            if !same {
                self.rejected.push(rival.key);
                continue;
            }
            // After a run of NUL a record may follow at once.
            if matches!(self.recent.last(), Some(b'\n' | 0) | None) {
                self.credit(self.at, rival.path);
            } else {
                self.ragged = Some(self.at);
                self.credit(self.line_end, rival.path);
            }
        }
    }

    fn credit(&mut self, known: u64, original: String) {
        if known >= self.known {
            (self.known, self.original) = (known, Some(original));
        }
    }

    /// A rival's last record without a line end is that of this file too if nothing follows it here.
    fn finish(&mut self) -> io::Result<ScanStep> {
        if self.ragged == Some(self.at) {
            let mut next = [0; 1];
            match self.content.read(&mut next, self.at)? {
                0 => self.known = self.at,
                read => self.at += read as u64,
            }
            self.ragged = None;
        }
        Ok(ScanStep::Done)
    }

    /// The file is contained in another one up to where it was read.
    pub fn all_is_known(&mut self) {
        let contained = |rival: &&Rival| matches!(rival.proof, Proof::File(..));
        if let Some(path) = self.rivals.iter().find(contained).map(|rival| rival.path.clone()) {
            self.credit(self.at, path);
        }
    }

    /// Begins anew, up to where the content is known. `key` and `path` are those of the file.
    pub fn again(self, key: u32, path: &str) -> io::Result<Scan> {
        let Content::Compressed(stream) = self.content else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let known = Rival {
            key,
            path: self.original.unwrap_or_else(|| path.to_owned()),
            offset: self.known,
            proof: Proof::Done,
            whole: None,
        };
        let rivals = if self.known > 0 { vec![known] } else { Vec::new() };
        let content = Content::Compressed(stream.again()?);
        Ok(Scan::new(content, rivals, self.keep))
    }

    /// Rivals that this file is no copy of as far as can be told.
    pub fn reject_rest(&mut self) {
        self.rejected.extend(self.rivals.drain(..).map(|rival| rival.key));
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
        range
            .flat_map(|n| format!("{{line {n:092}}}\n").into_bytes())
            .collect()
    }

    fn scanned(copy: &[u8], original: &[u8], offset: u64, present: bool) -> (ScanStep, u64, bool) {
        compared(copy, original, offset, present, None)
    }

    fn compared(
        copy: &[u8],
        original: &[u8],
        offset: u64,
        present: bool,
        whole: Option<Box<Whole>>,
    ) -> (ScanStep, u64, bool) {
        let from = offset.saturating_sub(FINGERPRINT_BYTES as u64) as usize;
        let tail_fingerprint = Fingerprint::of(&original[from..offset as usize]);
        let proof = if present {
            Proof::File(file(original), tail_fingerprint)
        } else {
            Proof::Fingerprint(tail_fingerprint)
        };
        let rival = Rival {
            key: 7,
            path: "original".into(),
            offset,
            proof,
            whole,
        };
        let mut scan = Scan::new(Content::Plain(file(copy)), vec![rival], 0);
        loop {
            match scan.step().unwrap() {
                ScanStep::More => {}
                step => return (step, scan.known(), scan.rejected == [7]),
            }
        }
    }

    /// F86: how much of a file is known, by what it and its original hold.
    #[test]
    fn f86_how_much_is_a_copy() {
        let all = lines(0..6_000);
        let len = all.len() as u64;
        for present in [true, false] {
            assert_eq!(scanned(&all, &all, len, present), (ScanStep::Done, len, false));
            // It has more, and the original was read in part.
            let more = [&all[..], &lines(0..9)].concat();
            assert_eq!(scanned(&more, &all, len, present), (ScanStep::Done, len, false));
            assert_eq!(scanned(&more, &all, 5000, present), (ScanStep::Done, 5000, false));
            // Another file: in the last bytes that count, or from the first line on.
            let mut other = all.clone();
            other[len as usize - 3] = b'x';
            let known = if present { len - 100 } else { 0 };
            assert_eq!(scanned(&other, &all, len, present), (ScanStep::Done, known, true));
            assert_eq!(
                scanned(&lines(7..6_007), &all, len, present),
                (ScanStep::Done, 0, true)
            );
            // The original's last record has no line end; the copy ends with it or goes on.
            let ragged = &all[..950];
            assert_eq!(
                scanned(ragged, ragged, 950, present),
                (ScanStep::Done, 950, false)
            );
            assert_eq!(
                scanned(&all[..1000], ragged, 950, present),
                (ScanStep::Done, 900, false)
            );
            // A copy of the beginning is decided by who asks.
            assert_eq!(
                scanned(&all[..500], &all, len, present),
                (ScanStep::AtEnd, 0, false)
            );
        }
        // A few lines that are alike do not make two files one.
        let [short, other] = [3, 4].map(|n| [lines(0..2), lines(n..9)].concat());
        assert_eq!(scanned(&short, &other, 500, true), (ScanStep::Done, 0, true));
    }

    /// F86: a file with another middle is no copy, though its original is gone; the digest may begin behind the file's beginning.
    #[test]
    fn f86_another_middle_is_no_copy_of_what_is_gone() {
        let all = lines(0..6_000);
        let len = all.len() as u64;
        for from in [0, 1, 200_000] {
            let entry = || {
                let mut digest = Digest::new([8, 6], from);
                digest.feed(&all[from as usize..]);
                FileEntry {
                    offset: len,
                    digest: Some(digest.state()),
                    ..FileEntry::default()
                }
            };
            let more = [&all[..], &lines(0..9)].concat();
            for copy in [&all, &more] {
                let found = compared(copy, &all, len, false, Whole::of(&entry()));
                assert_eq!(found, (ScanStep::Done, len, false), "from {from}");
            }
            let mut other = all.clone();
            other[len as usize / 2] = b'x';
            let found = compared(&other, &all, len, false, Whole::of(&entry()));
            assert_eq!(found, (ScanStep::Done, 0, true), "from {from}");
            // Of an older position it says nothing.
            let old = FileEntry {
                offset: len - 100,
                ..entry()
            };
            assert!(Whole::of(&old).is_none());
        }
    }
}
