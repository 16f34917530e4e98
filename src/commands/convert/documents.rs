//! Splits an input into JSON documents: one per line, or over several lines if a document has such a layout.
//!
//! Lines are cut by the splitter of audit files, so memory is bounded: a line of 4 GiB becomes one error event.
//! Documents of several lines have the same limit.

use std::io::{self, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use crate::record::scan;
use crate::source::files::record_splitter::{RawRecord, RecordSplitter};

/// Limit for a record and for a response, as in `run` (`record_bytes_max`, `body_bytes_max`). A response with
/// 1000 events, the most that Confluence returns, has about 2 MiB.
pub(super) const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A part of an input.
pub(super) enum Document<'d> {
    /// A line without its line end, or a document of several lines, with its offset in the decompressed
    /// input.
    Whole(&'d [u8], u64),
    /// A line that is too long, or a run of NUL bytes.
    Malformed { prefix: &'d [u8], offset: u64, bytes: u64, hash: u64, error: String },
    /// The following lines begin a document that is too long. They are passed one by one.
    TooLong(u64),
}

/// Calls `each` for each document of an input. Returns the size of the input. Compression is detected by the
/// first bytes.
pub(super) fn each_document<E: From<io::Error>>(
    mut input: impl Read,
    mut each: impl FnMut(Document) -> Result<(), E>,
) -> Result<u64, E> {
    // A pipe may return the first byte alone.
    let mut begin = Vec::new();
    input.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut begin)?;
    let is_gzip = begin == GZIP_MAGIC;
    let input = io::Cursor::new(begin).chain(input);
    let mut input: Box<dyn Read + '_> =
        if is_gzip { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) };
    let mut splitter = RecordSplitter::new(0, b"", DOCUMENT_BYTES_MAX);
    let mut open = OpenDocument::default();
    loop {
        let length = match input.read(splitter.spare_space(BUFFER_BYTES)) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                // Complete lines before the error are not lost.
                open.give_up(&mut each)?;
                return Err(error.into());
            }
        };
        if length == 0 {
            break;
        }
        splitter.advance(length);
        while let Some(raw) = splitter.next_record() {
            open.push_line(raw, &mut each)?;
        }
    }
    if let Some(raw) = splitter.take_unterminated() {
        open.push_line(raw, &mut each)?;
    }
    open.give_up(&mut each)?;
    Ok(splitter.read_offset())
}

/// A document that continues in the next line.
#[derive(Default)]
struct OpenDocument {
    /// Its lines as in the input. Each byte of line ends and blank lines is replaced by LF.
    text: Vec<u8>,
    /// Offset of its first line.
    offset: u64,
    /// Number of open brackets.
    depth: i64,
}

impl OpenDocument {
    fn push_line<E>(
        &mut self,
        raw: RawRecord,
        each: &mut impl FnMut(Document) -> Result<(), E>,
    ) -> Result<(), E> {
        let (body, offset) = match raw {
            RawRecord::Line { body, offset, .. } => (body, offset),
            RawRecord::Malformed { head, offset, bytes, hash, reason } => {
                self.give_up(each)?;
                return each(Document::Malformed {
                    prefix: head,
                    offset,
                    bytes,
                    hash,
                    error: reason.error(bytes, offset, hash),
                });
            }
        };
        let end = offset - self.offset + body.len() as u64;
        if !self.text.is_empty() && end > DOCUMENT_BYTES_MAX as u64 {
            each(Document::TooLong(self.offset))?;
            self.give_up(each)?;
        }
        if self.text.is_empty() {
            if !opens_document(body) {
                return each(Document::Whole(body, offset));
            }
            self.offset = offset;
        }
        self.text.resize((offset - self.offset) as usize, b'\n');
        self.text.extend_from_slice(body);
        self.depth += depth_change(body).unwrap_or(0);
        if self.depth <= 0 {
            each(Document::Whole(&self.text, self.offset))?;
            self.close();
        }
        Ok(())
    }

    /// The document never ended: its lines are passed separately.
    fn give_up<E>(&mut self, each: &mut impl FnMut(Document) -> Result<(), E>) -> Result<(), E> {
        let mut offset = self.offset;
        for line in self.text.split(|byte| *byte == b'\n') {
            if !line.is_empty() {
                each(Document::Whole(line, offset))?;
            }
            offset += line.len() as u64 + 1;
        }
        self.close();
        Ok(())
    }

    fn close(&mut self) {
        self.text.clear();
        self.depth = 0;
    }
}

/// Whether a line begins a document that continues in the next line. Torn lines rarely end in this way.
fn opens_document(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    matches!(line.first(), Some(b'{' | b'['))
        && matches!(line.last(), Some(b'{' | b'[' | b','))
        && depth_change(line).is_some_and(|change| change > 0)
}

/// The change of the bracket depth in a line. `None` if it ends within a string.
fn depth_change(line: &[u8]) -> Option<i64> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => {
                at = scan::string_end(line, at);
                if at == line.len() && line.last() != Some(&b'"') {
                    return None;
                }
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    Some(depth)
}
