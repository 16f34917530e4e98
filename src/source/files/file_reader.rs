//! One open audit file: reads from a position and detects when what was read is no longer there.

use super::compressed::Decompressor;
use super::directory::observe;
use super::matching::FileObservation;
use super::record_splitter::{FINGERPRINT_BYTES, RecordSplitter};
use crate::position::Fingerprint;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Shorter holes are read as data.
const HOLE_BYTES_MIN: u64 = 64 * 1024;
/// How far back the start of a line is searched. No record is longer, but a run of NUL bytes may be.
const LINE_BYTES_MAX: u64 = 1 << 30;

pub(crate) struct FileReader {
    content: Content,
    pub splitter: RecordSplitter,
    /// Size and modification time at the last comparison of the bytes before the read offset.
    checked_size_and_mtime: (u64, i64),
}

pub(crate) enum Content {
    Plain(File),
    /// A stream can only be read forwards. Going back means to open it again.
    Compressed(Decompressor),
}

impl Content {
    pub(crate) fn file(&self) -> &File {
        match self {
            Content::Plain(file) => file,
            Content::Compressed(stream) => stream.file(),
        }
    }

    /// Reads at offset `at`. For a stream that must be its current offset.
    pub(crate) fn read(&mut self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => loop {
                match file.read_at(buffer, at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    other => break other,
                }
            },
            Content::Compressed(stream) => stream.read(buffer),
        }
    }
}

/// Result of [`FileReader::check`].
pub(crate) struct FileCheck {
    pub observed: FileObservation,
    pub link_count: u64,
    /// The file was truncated or rewritten: the bytes that were read are gone.
    pub rewritten: bool,
}

impl FileReader {
    /// Opens the file at `offset`, a record boundary. `None`: the bytes before it do not match `tail_fingerprint`.
    pub(crate) fn open(
        file: File,
        offset: u64,
        tail_fingerprint: Fingerprint,
        record_bytes_max: usize,
    ) -> io::Result<Option<FileReader>> {
        let Some(before) = bytes_before(&file, offset, FINGERPRINT_BYTES)? else {
            return Ok(None);
        };
        let claimed = &before[before.len().saturating_sub(tail_fingerprint.len as usize)..];
        if Fingerprint::of(claimed) != tail_fingerprint {
            return Ok(None);
        }
        let splitter = RecordSplitter::new(offset, &before, record_bytes_max);
        Ok(Some(FileReader { content: Content::Plain(file), splitter, checked_size_and_mtime: (0, 0) }))
    }

    /// Continues a stream at its current offset. `before` are the bytes before that.
    pub(crate) fn of_stream(stream: Decompressor, before: &[u8], record_bytes_max: usize) -> FileReader {
        FileReader {
            splitter: RecordSplitter::new(stream.offset(), before, record_bytes_max),
            content: Content::Compressed(stream),
            checked_size_and_mtime: (0, 0),
        }
    }

    pub(crate) fn file(&self) -> &File {
        self.content.file()
    }

    /// Examines the file. If it has changed, compares the bytes before the read offset with those that were read.
    pub(crate) fn check(&mut self, path: impl Into<PathBuf>) -> io::Result<FileCheck> {
        let (observed, link_count) = observe(self.content.file(), path)?;
        let file = match &self.content {
            Content::Plain(file) => file,
            // A stream is compared when it is opened.
            Content::Compressed(_) => {
                let (size, _) =
                    std::mem::replace(&mut self.checked_size_and_mtime, (observed.size, observed.mtime_ms));
                let rewritten = observed.size < size;
                return Ok(FileCheck { observed, link_count, rewritten });
            }
        };
        let mut rewritten = observed.size < self.splitter.read_offset();
        if !rewritten && (observed.size, observed.mtime_ms) != self.checked_size_and_mtime {
            let recent = self.splitter.last_read();
            let mut now = vec![0; recent.len()];
            match file.read_exact_at(&mut now, self.splitter.read_offset() - recent.len() as u64) {
                Ok(()) => rewritten = now != recent,
                // It shrank between the two calls.
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => rewritten = true,
                Err(e) => return Err(e),
            }
            self.checked_size_and_mtime = (observed.size, observed.mtime_ms);
        }
        Ok(FileCheck { observed, link_count, rewritten })
    }

    /// Reads at most `bytes` more. Returns the number of bytes; 0 at the current end.
    pub(crate) fn fill(&mut self, bytes: usize) -> io::Result<usize> {
        if self.splitter.in_nuls()
            && let Content::Plain(file) = &self.content
            && let Some(hole) = hole_at(file, self.splitter.read_offset())?
        {
            self.splitter.skip_nuls(hole);
            return Ok(usize::try_from(hole).unwrap_or(usize::MAX));
        }
        let content = &mut self.content;
        fill(&mut self.splitter, bytes, |buf, at| content.read(buf, at))
    }

    /// The fingerprint of the first `len` bytes. `None` for a stream: it was computed when the stream was opened.
    pub(crate) fn head_fingerprint(&self, len: usize) -> io::Result<Option<Fingerprint>> {
        let Content::Plain(file) = &self.content else {
            return Ok(None);
        };
        let mut first = vec![0; len];
        file.read_exact_at(&mut first, 0)?;
        Ok(Some(Fingerprint::of(&first)))
    }
}

/// Length of the hole at `offset` in bytes. `None`: there is data, the hole is short, or the file system does not
/// report it.
pub(crate) fn hole_at(file: &File, offset: u64) -> io::Result<Option<u64>> {
    let end = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(offset)) {
        Ok(data) => data,
        // No data up to the end of the file.
        Err(Errno::NXIO) => file.metadata()?.len(),
        Err(_) => return Ok(None),
    };
    Ok(end.checked_sub(offset).filter(|hole| *hole >= HOLE_BYTES_MIN))
}

/// A failed read leaves the position unchanged, so that the retry reads the same bytes.
fn fill(
    splitter: &mut RecordSplitter,
    bytes: usize,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let at = splitter.read_offset();
    let n = read(splitter.spare_space(bytes), at)?;
    splitter.advance(n);
    Ok(n)
}

/// At most `len` bytes that end at `offset`. `None` if the file is shorter than `offset`.
pub(crate) fn bytes_before(file: &File, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
    let len = offset.min(len as u64);
    let mut before = vec![0; len as usize];
    match file.read_exact_at(&mut before, offset - len) {
        Ok(()) => Ok(Some(before)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the bytes before `offset` match `fingerprint`.
pub(crate) fn has_fingerprint(file: &File, offset: u64, fingerprint: Fingerprint) -> io::Result<bool> {
    let bytes = bytes_before(file, offset, fingerprint.len as usize)?;
    Ok(bytes.is_some_and(|bytes| Fingerprint::of(&bytes) == fingerprint))
}

/// The offset after the last line end before `offset`; `offset` itself if there is none within `LINE_BYTES_MAX`.
pub(crate) fn boundary_before(file: &File, offset: u64) -> io::Result<u64> {
    let mut end = offset;
    while end > 0 {
        if offset - end >= LINE_BYTES_MAX {
            return Ok(offset);
        }
        let Some(block) = bytes_before(file, end, 64 * 1024)? else {
            return Ok(0);
        };
        if let Some(at) = memchr::memrchr(b'\n', &block) {
            return Ok(end - block.len() as u64 + at as u64 + 1);
        }
        end -= block.len() as u64;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::record_splitter::RawRecord;
    use super::*;
    use std::cell::Cell;

    #[test]
    fn f17_eio_retry_skips_and_repeats_no_byte() {
        let content = b"{a}\n{b}\n{c}\n".repeat(50);
        let (reads, failures) = (Cell::new(0), Cell::new(0));
        let mut splitter = RecordSplitter::new(0, b"", 100);
        let (mut lines, mut fed) = (Vec::new(), 0);
        while fed < content.len() {
            let n = fill(&mut splitter, 7, |buf, at| {
                reads.set(reads.get() + 1);
                if reads.get() % 3 == 0 {
                    failures.set(failures.get() + 1);
                    return Err(io::Error::from_raw_os_error(5));
                }
                let rest = &content[at as usize..];
                let n = rest.len().min(buf.len());
                buf[..n].copy_from_slice(&rest[..n]);
                Ok(n)
            });
            fed += n.unwrap_or(0);
            while let Some(RawRecord::Line { body, .. }) = splitter.next_record() {
                lines.extend([body, b"\n"].concat());
            }
        }
        assert_eq!(lines, content);
        assert!(failures.get() > 20);
    }

    #[test]
    fn f05_truncate_and_overtake_is_seen_by_the_bytes() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("f");
        std::fs::write(&path, "{a}\n{b}\n{ha").unwrap();
        let mut reader =
            FileReader::open(File::open(&path).unwrap(), 0, Fingerprint::of(b""), 100).unwrap().unwrap();
        assert!(!reader.check("f").unwrap().rewritten);
        assert_eq!(reader.fill(100).unwrap(), 11);
        assert!(!reader.check("f").unwrap().rewritten);
        let grown = "{a}\n{b}\n{half}\n";
        std::fs::write(&path, grown).unwrap();
        assert!(!reader.check("f").unwrap().rewritten, "same bytes and more");
        let other = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        other.write_all_at(b"{x}\n{y}\n{z}\n{longer}\n", 0).unwrap();
        assert!(reader.check("f").unwrap().rewritten);
    }

    #[test]
    fn the_end_is_a_line_boundary() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        for (content, expect) in [("", 0), ("{a}", 0), ("{a}\n", 4), ("{a}\n{b", 4)] {
            std::fs::write(temp.path(), content).unwrap();
            assert_eq!(boundary_before(temp.as_file(), content.len() as u64).unwrap(), expect, "{content:?}");
        }
    }
}
