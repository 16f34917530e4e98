//! JSON values of 64 KB at most: Azure Monitor cuts what is longer in a column, without a word.

use super::super::escape::escape;
use super::super::out::Out;
use crate::record::compact;
use crate::record::token::pieces;
use crate::record::walk::Cursor;

/// Azure Monitor's limit for the value of a column.
pub const FIELD_BYTES_MAX: usize = 64 * 1024;

/// Kept free for what closes a value that is cut: names of members, quotes, brackets.
const CLOSING_BYTES: usize = 1024;

/// An element of a list is left out when there is less room than this.
const ELEMENT_BYTES_MIN: usize = 256;

/// One value being written, and how much of it there is already.
pub struct Capped {
    bytes: usize,
    cut: bool,
}

impl Capped {
    pub fn new() -> Self {
        Capped { bytes: 0, cut: false }
    }

    pub fn is_cut(&self) -> bool {
        self.cut
    }

    fn room(&self) -> usize {
        (FIELD_BYTES_MAX - CLOSING_BYTES).saturating_sub(self.bytes)
    }

    /// JSON's own signs and names, which are short.
    pub fn raw(&mut self, json: &str, out: &mut Out) {
        self.bytes += json.len();
        out.put(json);
    }

    /// A string; `escaped` is what stands between its quotes.
    pub fn text(&mut self, escaped: &str, out: &mut Out) {
        // Beside other texts a long one takes half of the room, so that the others are not lost.
        let share = if self.bytes == 0 { 1 } else { 2 };
        self.raw("\"", out);
        self.piece_of(escaped, share, out);
        self.raw("\"", out);
    }

    /// A part of a string whose quotes are written with [`Capped::raw`].
    pub fn piece(&mut self, escaped: &str, out: &mut Out) {
        self.piece_of(escaped, 1, out);
    }

    /// A string from a text that is not escaped.
    pub fn plain(&mut self, text: &str, out: &mut Out) {
        self.raw("\"", out);
        let room = self.room();
        self.put_some(text, room, out);
        self.raw("\"", out);
    }

    fn piece_of(&mut self, escaped: &str, share: usize, out: &mut Out) {
        let room = self.room();
        if escaped.len() <= room {
            return self.raw(escaped, out);
        }
        // Escaped anew, with no more escapes than are needed, it may fit yet.
        let mut room = room / share;
        let mut full = false;
        pieces(escaped, |piece| {
            if !full {
                let before = self.bytes;
                full = !self.put_some(piece, room, out);
                room -= (self.bytes - before).min(room);
            }
        });
    }

    /// Writes as much of a text as there is room for, up to the end of a character; returns whether that was all.
    fn put_some(&mut self, text: &str, room: usize, out: &mut Out) -> bool {
        let start = out.bytes.len();
        let mut end = text.len().min(room);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut whole = end == text.len();
        escape(&text[..end], &mut out.bytes);
        if out.bytes.len() - start > room {
            // Escapes made it longer than it was.
            out.bytes.truncate(start);
            end = 0;
            let mut character = [0; 4];
            for letter in text.chars() {
                let before = out.bytes.len();
                escape(letter.encode_utf8(&mut character), &mut out.bytes);
                if out.bytes.len() - start > room {
                    out.bytes.truncate(before);
                    break;
                }
                end += letter.len_utf8();
            }
            whole = end == text.len();
        }
        self.bytes += out.bytes.len() - start;
        self.cut |= !whole;
        whole
    }

    /// An element of a list, or nothing where there is no room for it.
    pub fn element(&mut self, first: bool, out: &mut Out, write: impl FnOnce(&mut Self, &mut Out)) {
        if self.room() < ELEMENT_BYTES_MIN {
            self.cut = true;
            return;
        }
        if !first {
            self.raw(",", out);
        }
        write(self, out);
    }

    /// Any JSON value, as it stands. Of one that is too long texts are cut, members and elements left out.
    pub fn value(&mut self, json: &str, out: &mut Out) {
        if json.len() <= self.room() {
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

    /// An object with one text more before its members, in the place of one that has this name.
    pub fn object_with(&mut self, name: &str, escaped: &str, json: &str, out: &mut Out) {
        self.raw("{\"", out);
        self.raw(name, out);
        self.raw("\":", out);
        self.text(escaped, out);
        self.elements(json, true, Some(name), false, out);
        self.raw("}", out);
    }

    fn nested(&mut self, json: &str, object: bool, out: &mut Out) {
        self.raw(if object { "{" } else { "[" }, out);
        self.elements(json, object, None, true, out);
        self.raw(if object { "}" } else { "]" }, out);
    }

    /// What is inside a list, or inside an object, but for the member of a name.
    fn elements(&mut self, json: &str, object: bool, left_out: Option<&str>, mut first: bool, out: &mut Out) {
        let mut cursor = Cursor::new(json);
        cursor.enter();
        while cursor.more() {
            let start = cursor.place();
            if object {
                let key = cursor.key();
                if left_out.is_some_and(|name| key == name) {
                    cursor.skip();
                    continue;
                }
            }
            let key = &json[start..cursor.place()];
            let value = cursor.value();
            if self.room() < ELEMENT_BYTES_MIN + key.len() {
                self.cut = true;
                continue;
            }
            if !std::mem::take(&mut first) {
                self.raw(",", out);
            }
            // Blanks between a name and its value may be line ends.
            match memchr::memchr3(b'\n', b'\r', b'\t', key.as_bytes()) {
                None => self.raw(key, out),
                Some(_) => self.raw(&compact(key), out),
            }
            self.value(value, out);
        }
    }
}

/// The named members of the object that a record is, as they stand there, empty ones too; of two of one name the last.
pub fn members<'a, const N: usize>(record: &'a str, names: [&str; N]) -> [Option<&'a str>; N] {
    let mut values = [None; N];
    let mut cursor = Cursor::new(record);
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
        let mut out = Out::new();
        let mut field = Capped::new();
        field.value(json, &mut out);
        assert!(out.bytes.len() <= FIELD_BYTES_MAX, "{}", out.bytes.len());
        (serde_json::from_slice(&out.bytes).unwrap(), field.is_cut())
    }

    #[test]
    fn what_fits_stays_as_it_is() {
        let text = "x".repeat(FIELD_BYTES_MAX - CLOSING_BYTES - 2);
        for json in [format!("\"{text}\""), r#"{"a":["",null,{"b":1}]}"#.to_owned()] {
            assert_eq!(capped(&json), (serde_json::from_str(&json).unwrap(), false));
        }
        // Longer only by the way it is written.
        let spaced = format!("[{}1 , \"a\"]", "\n ".repeat(FIELD_BYTES_MAX));
        assert_eq!(capped(&spaced), (serde_json::json!([1, "a"]), false));
        let escaped = format!("\"{}\"", "\\u0041".repeat(FIELD_BYTES_MAX / 2));
        assert_eq!(capped(&escaped), ("A".repeat(FIELD_BYTES_MAX / 2).into(), false));
    }

    #[test]
    fn what_does_not_fit_is_cut_and_told() {
        let long = "ü\u{1f600}\\n\\u0001".repeat(20_000);
        let (value, cut) = capped(&format!("\"{long}\""));
        let whole: String = serde_json::from_str(&format!("\"{long}\"")).unwrap();
        let value = value.as_str().unwrap();
        assert!(cut && whole.starts_with(value) && value.len() > 30_000);

        let (value, cut) = capped(&format!(r#"{{"name":"{long}","objectType":"Page"}}"#));
        assert!(cut);
        assert_eq!(value["objectType"], "Page");
        assert!(value["name"].as_str().unwrap().len() > 15_000);

        let list = (0..20_000)
            .map(|at| format!("{{\"n\":{at}}}"))
            .collect::<Vec<_>>()
            .join(",");
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
