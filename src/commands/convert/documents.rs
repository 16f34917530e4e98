//! An input taken apart into JSON documents: lines as a rule, several lines where a document is laid out so.
//!
//! Lines are cut by the same framer as audit files, so what it holds of them is bounded: a line of 4 GiB is one event
//! that says so. So is what is put together of lines, up to the same size.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::read::MultiGzDecoder;

use crate::record::scan;
use crate::source::files::frame::{Frame, Framer};

/// A record may be so long, and an answer that holds many: what `run` takes by default (`record_bytes_max`,
/// `body_bytes_max`). An answer of 1000 events, the most that Confluence gives, has some 2 MiB.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

const BUFFER_BYTES: usize = 64 * 1024;

/// What an input holds.
pub enum Document<'d> {
    /// A line without its line end, or a document of several. The number is where it begins, in bytes of what has been
    /// unpacked.
    Whole(&'d [u8], u64),
    /// What is too long to be held, or a run of NUL bytes.
    Malformed {
        prefix: &'d [u8],
        offset: u64,
        bytes: u64,
        hash: u64,
        error: String,
    },
    /// The lines that follow one by one, from here on, would have been one document that is too long.
    TooLong(u64),
}

/// Hands on each document of an input, and returns how many bytes it had. A packed input is told by its first bytes.
pub fn each_document<E: From<io::Error>>(
    input: impl Read,
    mut each: impl FnMut(Document) -> Result<(), E>,
) -> Result<u64, E> {
    let mut input = BufReader::with_capacity(BUFFER_BYTES, input);
    let mut input: Box<dyn Read + '_> = if input.fill_buf()?.starts_with(&[0x1f, 0x8b]) {
        Box::new(MultiGzDecoder::new(input))
    } else {
        Box::new(input)
    };
    let mut framer = Framer::new(0, b"", DOCUMENT_BYTES_MAX);
    let mut open = Open::default();
    loop {
        let length = match input.read(framer.space(BUFFER_BYTES)) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => {
                // What is whole so far is not lost with it.
                open.give_up(&mut each)?;
                return Err(error.into());
            }
        };
        if length == 0 {
            break;
        }
        framer.filled(length);
        while let Some(frame) = framer.next_frame() {
            open.take(frame, &mut each)?;
        }
    }
    if let Some(frame) = framer.last_frame() {
        open.take(frame, &mut each)?;
    }
    open.give_up(&mut each)?;
    Ok(framer.read_offset())
}

/// A document that goes on in the next line.
#[derive(Default)]
struct Open {
    /// Its lines as they stand in the input, but for the line ends and blanks between them: LF for each byte of these.
    text: Vec<u8>,
    /// Where it begins.
    offset: u64,
    /// Brackets that are open.
    depth: i64,
}

impl Open {
    fn take<E>(&mut self, frame: Frame, each: &mut impl FnMut(Document) -> Result<(), E>) -> Result<(), E> {
        let (body, offset) = match frame {
            Frame::Line { body, offset } => (body, offset),
            Frame::Malformed {
                head,
                offset,
                bytes,
                hash,
                reason,
            } => {
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

    /// It never ended: its lines are what they are.
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

/// Whether a document begins here that goes on in the next line. A line that is merely torn rarely ends so.
fn opens_document(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    matches!(line.first(), Some(b'{' | b'['))
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
