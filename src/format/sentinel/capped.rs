//! JSON values of at most 64 KB. Azure Monitor silently cuts longer column values.

use super::super::buffer::EventBuffer;
use super::super::escape::escape;
use crate::record::compact;
use crate::record::json_cursor::JsonCursor;
use crate::record::token::pieces;

/// Azure Monitor's limit for a column value.
pub(super) const FIELD_BYTES_MAX: usize = 64 * 1024;

/// Reserved for closing a value that was cut: member names, quotes, brackets.
const CLOSING_BYTES: usize = 1024;

/// With less space than this, further list elements are omitted.
const ELEMENT_BYTES_MIN: usize = 256;

/// A value that is being written, with its size so far.
pub(super) struct Capped {
    bytes: usize,
    cut: bool,
}

impl Capped {
    pub(super) fn new() -> Self {
        Capped { bytes: 0, cut: false }
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    fn space(&self) -> usize {
        (FIELD_BYTES_MAX - CLOSING_BYTES).saturating_sub(self.bytes)
    }

    /// Appends JSON syntax and member names, which are short.
    pub(super) fn raw(&mut self, json: &str, out: &mut EventBuffer) {
        self.bytes += json.len();
        out.put(json);
    }

    /// Appends a string. `escaped` is its content without quotes.
    pub(super) fn text(&mut self, escaped: &str, out: &mut EventBuffer) {
        // After other texts, a long one gets half of the space, so that the later ones fit as well.
        let share = if self.bytes == 0 { 1 } else { 2 };
        self.raw("\"", out);
        self.put_string_content(escaped, share, out);
        self.raw("\"", out);
    }

    /// Appends a part of a string whose quotes are written with [`Capped::raw`].
    pub(super) fn piece(&mut self, escaped: &str, out: &mut EventBuffer) {
        self.put_string_content(escaped, 1, out);
    }

    /// Appends a string from unescaped text.
    pub(super) fn plain(&mut self, text: &str, out: &mut EventBuffer) {
        self.raw("\"", out);
        let space = self.space();
        self.put_truncated(text, space, out);
        self.raw("\"", out);
    }

    fn put_string_content(&mut self, escaped: &str, share: usize, out: &mut EventBuffer) {
        let space = self.space();
        if escaped.len() <= space {
            return self.raw(escaped, out);
        }
        // With minimal escapes the text may still fit.
        let mut space = space / share;
        let mut full = false;
        pieces(escaped, |piece| {
            if !full {
                let before = self.bytes;
                full = !self.put_truncated(piece, space, out);
                space -= (self.bytes - before).min(space);
            }
        });
    }

    /// Appends as much of a text as fits into `space`, up to a character boundary. Returns whether all of it
    /// fitted.
    fn put_truncated(&mut self, text: &str, space: usize, out: &mut EventBuffer) -> bool {
        let start = out.bytes.len();
        let mut end = text.len().min(space);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut is_complete = end == text.len();
        escape(&text[..end], &mut out.bytes);
        if out.bytes.len() - start > space {
            // Escapes have made it longer.
            out.bytes.truncate(start);
            end = 0;
            let mut utf8 = [0; 4];
            for character in text.chars() {
                let before = out.bytes.len();
                escape(character.encode_utf8(&mut utf8), &mut out.bytes);
                if out.bytes.len() - start > space {
                    out.bytes.truncate(before);
                    break;
                }
                end += character.len_utf8();
            }
            is_complete = end == text.len();
        }
        self.bytes += out.bytes.len() - start;
        self.cut |= !is_complete;
        is_complete
    }

    /// Appends a list element, or nothing if there is no space.
    pub(super) fn element(
        &mut self,
        first: bool,
        out: &mut EventBuffer,
        write: impl FnOnce(&mut Self, &mut EventBuffer),
    ) {
        if self.space() < ELEMENT_BYTES_MIN {
            self.cut = true;
            return;
        }
        if !first {
            self.raw(",", out);
        }
        write(self, out);
    }

    /// Appends any JSON value. In a value that is too long, texts are cut, and members and elements are
    /// omitted.
    pub(super) fn value(&mut self, json: &str, out: &mut EventBuffer) {
        if json.len() <= self.space() {
            if memchr::memchr3(b'\n', b'\r', b'\t', json.as_bytes()).is_none() {
                return self.raw(json, out);
            }
            return self.raw(&compact(json), out);
        }
        match json.as_bytes().first() {
            Some(b'"') => self.text(&json[1..json.len() - 1], out),
            Some(b'{') => self.nested(json, true, out),
            Some(b'[') => self.nested(json, false, out),
            _ => {
                self.cut = true;
                self.raw("null", out);
            }
        }
    }

    /// Appends an object with an additional text as the first member. It replaces a member of the same name.
    pub(super) fn object_with(&mut self, name: &str, escaped: &str, json: &str, out: &mut EventBuffer) {
        self.raw("{\"", out);
        self.raw(name, out);
        self.raw("\":", out);
        self.text(escaped, out);
        self.elements(json, true, Some(name), false, out);
        self.raw("}", out);
    }

    fn nested(&mut self, json: &str, object: bool, out: &mut EventBuffer) {
        self.raw(if object { "{" } else { "[" }, out);
        self.elements(json, object, None, true, out);
        self.raw(if object { "}" } else { "]" }, out);
    }

    /// Appends the elements of a list or the members of an object, without the member `omitted`.
    fn elements(
        &mut self,
        json: &str,
        object: bool,
        omitted: Option<&str>,
        mut first: bool,
        out: &mut EventBuffer,
    ) {
        let mut cursor = JsonCursor::new(json);
        cursor.enter();
        while cursor.more() {
            let start = cursor.value_start();
            if object {
                let key = cursor.key();
                if omitted.is_some_and(|name| key == name) {
                    cursor.skip();
                    continue;
                }
            }
            let key = &json[start..cursor.value_start()];
            let value = cursor.value();
            if self.space() < ELEMENT_BYTES_MIN + key.len() {
                self.cut = true;
                continue;
            }
            if !std::mem::take(&mut first) {
                self.raw(",", out);
            }
            // White space between key and value may contain line ends.
            match memchr::memchr3(b'\n', b'\r', b'\t', key.as_bytes()) {
                None => self.raw(key, out),
                Some(_) => self.raw(&compact(key), out),
            }
            self.value(value, out);
        }
    }
}

/// The values of the named members of a record, unchanged, empty ones too. The last one of a repeated name is
/// returned.
pub(super) fn members<'a, const N: usize>(record: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    let mut values = [None; N];
    let mut cursor = JsonCursor::new(record);
    cursor.enter();
    while cursor.more() {
        let key = cursor.key();
        let value = cursor.value();
        if let Some(at) = names.iter().position(|name| *name == key) {
            values[at] = Some(value);
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capped(json: &str) -> (serde_json::Value, bool) {
        let mut out = EventBuffer::new();
        let mut field = Capped::new();
        field.value(json, &mut out);
        assert!(out.bytes.len() <= FIELD_BYTES_MAX, "{}", out.bytes.len());
        (serde_json::from_slice(&out.bytes).unwrap(), field.is_cut())
    }

    #[test]
    fn short_values_are_unchanged() {
        let text = "x".repeat(FIELD_BYTES_MAX - CLOSING_BYTES - 2);
        for json in [format!("\"{text}\""), r#"{"a":["",null,{"b":1}]}"#.to_owned()] {
            assert_eq!(capped(&json), (serde_json::from_str(&json).unwrap(), false));
        }
        // Longer only because of white space and escapes.
        let spaced = format!("[{}1 , \"a\"]", "\n ".repeat(FIELD_BYTES_MAX));
        assert_eq!(capped(&spaced), (serde_json::json!([1, "a"]), false));
        let escaped = format!("\"{}\"", "\\u0041".repeat(FIELD_BYTES_MAX / 2));
        assert_eq!(capped(&escaped), ("A".repeat(FIELD_BYTES_MAX / 2).into(), false));
    }

    #[test]
    fn long_values_are_cut_and_marked() {
        let long = "ü\u{1f600}\\n\\u0001".repeat(20_000);
        let (value, cut) = capped(&format!("\"{long}\""));
        let whole: String = serde_json::from_str(&format!("\"{long}\"")).unwrap();
        let value = value.as_str().unwrap();
        assert!(cut && whole.starts_with(value) && value.len() > 30_000);

        let (value, cut) = capped(&format!(r#"{{"name":"{long}","objectType":"Page"}}"#));
        assert!(cut);
        assert_eq!(value["objectType"], "Page");
        assert!(value["name"].as_str().unwrap().len() > 15_000);

        let list = (0..20_000).map(|at| format!("{{\"n\":{at}}}")).collect::<Vec<_>>().join(",");
        let (value, cut) = capped(&format!("[{list}]"));
        let kept = value.as_array().unwrap();
        assert!(cut && kept.len() > 5000);
        assert_eq!(kept.last().unwrap()["n"], kept.len() - 1);

        let deep = format!("{}\"{long}\"{}", "[".repeat(100), "]".repeat(100));
        assert!(capped(&deep).1);
        assert!(capped(&"1".repeat(70_000)).1);
        assert!(capped(&format!("{{\"{long}\":1,\"a\":2}}")).1);
    }
}
