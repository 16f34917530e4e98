//! An input taken apart into JSON documents: lines as a rule, several lines where a document is laid out so.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};

use flate2::read::MultiGzDecoder;

use crate::record::walk;

/// Where a document begins.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// JSON-escaped, with its quotes; none if the input has no name.
    pub path_json: Option<&'a str>,
    /// In bytes of what has been unpacked.
    pub offset: u64,
}

/// An answer that is laid out over many lines is put together up to this size; an answer of 1000 events, the most
/// that Confluence gives, has some 2 MiB.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;

/// One input. Packed ones are told by their first bytes.
pub struct Documents<'r> {
    input: Box<dyn BufRead + 'r>,
    /// Where the next line starts.
    offset: u64,
    /// The lines of a document, each with its end, its bytes and where it begins in the input.
    text: Vec<u8>,
    lines: VecDeque<(std::ops::Range<usize>, u64)>,
    /// Lines that turned out to be no document together wait here to go out one by one.
    single: bool,
}

impl<'r> Documents<'r> {
    pub fn new(input: impl Read + 'r) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
        let is_gzip = input.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let input: Box<dyn BufRead + 'r> = if is_gzip {
            Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input)))
        } else {
            Box::new(input)
        };
        Ok(Documents {
            input,
            offset: 0,
            text: Vec::new(),
            lines: VecDeque::new(),
            single: false,
        })
    }

    /// Bytes that have been read, unpacked.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }

    /// The next document and where it begins; `None` at the end. Blank lines are passed over.
    pub fn next(&mut self) -> io::Result<Option<(&[u8], u64)>> {
        if self.single
            && let Some((line, offset)) = self.lines.pop_front()
        {
            return Ok(Some((&self.text[line], offset)));
        }
        self.single = false;
        self.text.clear();
        self.lines.clear();
        let mut depth = 0;
        loop {
            let Some(line) = self.line()? else {
                // It never ended: its lines are what they are.
                self.single = true;
                return Ok(self
                    .lines
                    .pop_front()
                    .map(|(line, offset)| (&self.text[line], offset)));
            };
            let body = &self.text[line.0.clone()];
            if self.lines.is_empty() && !opens_document(body) {
                return Ok(Some((&self.text[line.0], line.1)));
            }
            depth += depth_change(body).unwrap_or(0);
            self.lines.push_back(line);
            if depth <= 0 {
                let first = self.lines.front().map_or(0, |(_, offset)| *offset);
                self.lines.clear();
                return Ok(Some((self.text.trim_ascii_end(), first)));
            }
            if self.text.len() > DOCUMENT_BYTES_MAX {
                self.single = true;
                return Ok(self
                    .lines
                    .pop_front()
                    .map(|(line, offset)| (&self.text[line], offset)));
            }
        }
    }

    /// Appends the next line that is not blank to the text, without its line end.
    fn line(&mut self) -> io::Result<Option<(std::ops::Range<usize>, u64)>> {
        loop {
            let start = self.text.len();
            let length = self.input.read_until(b'\n', &mut self.text)?;
            if length == 0 {
                return Ok(None);
            }
            let offset = self.offset;
            self.offset += length as u64;
            let skipped = if offset == 0 && self.text[start..].starts_with(b"\xef\xbb\xbf") {
                3
            } else {
                0
            };
            let begin = start + skipped;
            let end = begin + self.text[begin..].trim_ascii_end().len();
            if end > begin {
                return Ok(Some((begin..end, offset + skipped as u64)));
            }
            self.text.truncate(start);
        }
    }
}
/// Whether a document begins here that goes on in the next line. A line that is merely torn rarely ends so.
fn opens_document(line: &[u8]) -> bool {
    matches!(line.trim_ascii_start().first(), Some(b'{' | b'['))
        && matches!(line.last(), Some(b'{' | b'[' | b','))
        && depth_change(line).is_some_and(|change| change > 0)
}

/// How many more brackets a line opens than it closes; `None` if it ends within a string.
fn depth_change(line: &[u8]) -> Option<i64> {
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        match byte {
            b'"' => {
                at = walk::string_end(line, at);
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
