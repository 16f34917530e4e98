//! Where formats write to.

use std::io::Write;

use super::escape::escape;
use super::prune::write_pruned;
use crate::record::{Text, Token};

/// More than this is handed on between the pieces of one event.
const ROOM_BYTES: usize = 256 * 1024;

/// Values longer than this are written in pieces of it.
pub(super) const PIECE_BYTES: usize = 64 * 1024;

type Flush = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// A buffer that grows; with a way out, an event of 16 MiB never has its whole text in it.
#[derive(Default)]
pub struct Out {
    pub bytes: Vec<u8>,
    /// The event being written is long and alone in the buffer: it may be handed on in parts.
    pub in_parts: bool,
    flush: Option<Flush>,
}

impl Out {
    pub fn new() -> Self {
        Out::default()
    }

    /// `flush` takes what is in the buffer and empties it. It keeps its errors to itself until it is asked.
    pub fn with_flush(flush: impl FnMut(&mut Vec<u8>) + Send + 'static) -> Self {
        Out {
            bytes: Vec::new(),
            in_parts: false,
            flush: Some(Box::new(flush)),
        }
    }

    /// Hands on what is there if it is much. Called between the pieces of a long value.
    pub fn room(&mut self) {
        if self.in_parts
            && self.bytes.len() > ROOM_BYTES
            && let Some(flush) = &mut self.flush
        {
            flush(&mut self.bytes);
        }
    }

    pub fn put(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// For what may be long.
    pub fn put_long(&mut self, text: &str) {
        if text.len() <= PIECE_BYTES {
            return self.put(text);
        }
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            self.bytes.extend_from_slice(piece);
            self.room();
        }
    }

    pub fn put_signed(&mut self, number: i64) {
        if number < 0 {
            self.put("-");
        }
        self.put_number(number.unsigned_abs());
    }

    pub fn put_number(&mut self, mut number: u64) {
        let mut digits = [0; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
    }
}

/// What may begin when the first value in it is known.
trait Begin {
    /// Writes what stands before a value: signs, and the name if it has one.
    fn begin(&mut self, key: &str, out: &mut Out);
}

/// Writes an object whose members may all be missing; then it is not written either, nor the name that it has in
/// another. A name is written with its value and in no other way, so none can be left without.
///
/// Keys are given as `,"key":`.
pub(super) struct Object<'p> {
    open: &'static str,
    started: bool,
    parent: Option<(&'p mut dyn Begin, &'static str)>,
}

impl Begin for Object<'_> {
    fn begin(&mut self, key: &str, out: &mut Out) {
        if self.started {
            return out.put(key);
        }
        self.started = true;
        if let Some((parent, own_key)) = &mut self.parent {
            parent.begin(own_key, out);
        }
        out.put(self.open);
        out.put(&key[1..]);
    }
}

impl Object<'static> {
    /// `open` is what stands before the first member, for example `,"user":{`.
    pub fn new(open: &'static str) -> Self {
        Object {
            open,
            started: false,
            parent: None,
        }
    }
}

impl Object<'_> {
    /// An object that is a member of this one.
    pub fn object(&mut self, key: &'static str) -> Object<'_> {
        Object {
            open: "{",
            started: false,
            parent: Some((self, key)),
        }
    }

    /// A list that is a member of this one.
    pub fn list(&mut self, key: &'static str) -> List<'_> {
        List {
            started: false,
            parent: self,
            key,
        }
    }

    /// A text of the record, if there is one.
    pub fn text(&mut self, key: &str, text: Option<Text>, out: &mut Out) {
        if let Some(text) = text {
            self.begin(key, out);
            out.put_long(text.quoted());
        }
    }

    /// A text that is escaped already.
    pub fn escaped(&mut self, key: &str, escaped: &str, out: &mut Out) {
        self.begin(key, out);
        out.put("\"");
        out.put_long(escaped);
        out.put("\"");
    }

    /// A text that is yet to be escaped.
    pub fn plain(&mut self, key: &str, text: &str, out: &mut Out) {
        self.begin(key, out);
        out.put("\"");
        escape(text, &mut out.bytes);
        out.put("\"");
    }

    pub fn number(&mut self, key: &str, number: u64, out: &mut Out) {
        self.begin(key, out);
        out.put_number(number);
    }

    /// A number that is finite: JSON has no others.
    pub fn float(&mut self, key: &str, number: f64, out: &mut Out) {
        if number.is_finite() {
            self.begin(key, out);
            // Into memory, which does not fail.
            let _ = write!(out.bytes, "{number}");
        }
    }

    pub fn boolean(&mut self, key: &str, value: Option<bool>, out: &mut Out) {
        if let Some(value) = value {
            self.begin(key, out);
            out.put(if value { "true" } else { "false" });
        }
    }

    /// A value of the record without what is empty in it, if that leaves any; of one that is `clean` that is known.
    pub fn pruned(&mut self, key: &str, value: Token, clean: bool, out: &mut Out) {
        if value.is_missing() {
            return;
        }
        if clean {
            self.begin(key, out);
            return out.put_long(value.raw());
        }
        write_pruned(value.raw(), out, |out| self.begin(key, out));
    }

    /// Closes it if it was begun, and tells whether it was.
    pub fn end(self, out: &mut Out) -> bool {
        if self.started {
            out.put("}");
        }
        self.started
    }
}

/// Writes a list in an [`Object`]; without elements it is not written.
pub(super) struct List<'p> {
    started: bool,
    parent: &'p mut dyn Begin,
    key: &'static str,
}

impl Begin for List<'_> {
    fn begin(&mut self, _: &str, out: &mut Out) {
        if std::mem::replace(&mut self.started, true) {
            return out.put(",");
        }
        self.parent.begin(self.key, out);
        out.put("[");
    }
}

impl List<'_> {
    /// An object that is an element.
    pub fn object(&mut self) -> Object<'_> {
        Object {
            open: "{",
            started: false,
            parent: Some((self, "")),
        }
    }

    /// A text that is escaped already.
    pub fn escaped(&mut self, escaped: &str, out: &mut Out) {
        self.begin("", out);
        out.put("\"");
        out.put_long(escaped);
        out.put("\"");
    }

    /// A text that is yet to be escaped.
    pub fn plain(&mut self, text: &str, out: &mut Out) {
        self.begin("", out);
        out.put("\"");
        escape(text, &mut out.bytes);
        out.put("\"");
    }

    /// Closes it if it was begun.
    pub fn end(self, out: &mut Out) {
        if self.started {
            out.put("]");
        }
    }
}
