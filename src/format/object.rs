//! Writes JSON objects and lists without their empty members.

use std::io::Write;

use super::buffer::EventBuffer;
use super::escape::escape;
use super::prune::write_pruned;
use crate::notice::FieldValue;
use crate::record::{Text, Token};

/// A container that is opened when its first value is known.
trait Container {
    /// Writes what is before a value: separators, the opening sign, and the key if there is one.
    fn begin(&mut self, key: &str, out: &mut EventBuffer);
}

/// Writes an object whose members may all be missing. In that case neither the object nor its key is written.
/// A key is only written together with its value. Keys have the form `,"key":`.
pub(super) struct Object<'p> {
    open: &'static str,
    started: bool,
    parent: Option<(&'p mut dyn Container, &'static str)>,
}

impl Container for Object<'_> {
    fn begin(&mut self, key: &str, out: &mut EventBuffer) {
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
    /// `open` is the text before the first member, for example `,"user":{`.
    pub(super) fn new(open: &'static str) -> Self {
        Object { open, started: false, parent: None }
    }
}

impl Object<'_> {
    /// An object as a member of this one.
    pub(super) fn object(&mut self, key: &'static str) -> Object<'_> {
        Object { open: "{", started: false, parent: Some((self, key)) }
    }

    /// A list as a member of this one.
    pub(super) fn list(&mut self, key: &'static str) -> List<'_> {
        List { started: false, parent: self, key }
    }

    /// A text of the record, if present.
    pub(super) fn text(&mut self, key: &str, text: Option<Text>, out: &mut EventBuffer) {
        if let Some(text) = text {
            self.begin(key, out);
            out.put_long(text.quoted());
        }
    }

    /// An escaped text.
    pub(super) fn escaped(&mut self, key: &str, escaped: &str, out: &mut EventBuffer) {
        self.begin(key, out);
        out.put("\"");
        out.put_long(escaped);
        out.put("\"");
    }

    /// A text that is not escaped yet.
    pub(super) fn plain(&mut self, key: &str, text: &str, out: &mut EventBuffer) {
        self.begin(key, out);
        out.put("\"");
        escape(text, &mut out.bytes);
        out.put("\"");
    }

    /// A named value of an event of the agent itself.
    pub(super) fn field(&mut self, name: &str, value: &FieldValue, out: &mut EventBuffer) {
        let key = format!(",\"{name}\":");
        match value {
            FieldValue::Text(text) => self.plain(&key, text, out),
            FieldValue::Number(number) => {
                self.begin(&key, out);
                out.put_signed(*number);
            }
        }
    }

    pub(super) fn number(&mut self, key: &str, number: u64, out: &mut EventBuffer) {
        self.begin(key, out);
        out.put_number(number);
    }

    /// A finite number; JSON has no others.
    pub(super) fn float(&mut self, key: &str, number: f64, out: &mut EventBuffer) {
        if number.is_finite() {
            self.begin(key, out);
            // Writing to memory does not fail.
            let _ = write!(out.bytes, "{number}");
        }
    }

    pub(super) fn boolean(&mut self, key: &str, value: Option<bool>, out: &mut EventBuffer) {
        if let Some(value) = value {
            self.begin(key, out);
            out.put(if value { "true" } else { "false" });
        }
    }

    /// A value of the record without its empty parts, if anything is left. `clean`: it has no empty parts.
    pub(super) fn pruned(&mut self, key: &str, value: Token, clean: bool, out: &mut EventBuffer) {
        if value.is_missing() {
            return;
        }
        if clean {
            self.begin(key, out);
            return out.put_long(value.raw());
        }
        write_pruned(value.raw(), out, |out| self.begin(key, out));
    }

    /// Closes the object if it was opened. Returns whether it was.
    pub(super) fn end(self, out: &mut EventBuffer) -> bool {
        if self.started {
            out.put("}");
        }
        self.started
    }
}

/// Writes a list in an [`Object`]. An empty list is not written.
pub(super) struct List<'p> {
    started: bool,
    parent: &'p mut dyn Container,
    key: &'static str,
}

impl Container for List<'_> {
    fn begin(&mut self, _: &str, out: &mut EventBuffer) {
        if std::mem::replace(&mut self.started, true) {
            return out.put(",");
        }
        self.parent.begin(self.key, out);
        out.put("[");
    }
}

impl List<'_> {
    /// An object as an element.
    pub(super) fn object(&mut self) -> Object<'_> {
        Object { open: "{", started: false, parent: Some((self, "")) }
    }

    /// An escaped text.
    pub(super) fn escaped(&mut self, escaped: &str, out: &mut EventBuffer) {
        self.begin("", out);
        out.put("\"");
        out.put_long(escaped);
        out.put("\"");
    }

    /// A text that is not escaped yet.
    pub(super) fn plain(&mut self, text: &str, out: &mut EventBuffer) {
        self.begin("", out);
        out.put("\"");
        escape(text, &mut out.bytes);
        out.put("\"");
    }

    /// Closes the list if it was opened.
    pub(super) fn end(self, out: &mut EventBuffer) {
        if self.started {
            out.put("]");
        }
    }
}
