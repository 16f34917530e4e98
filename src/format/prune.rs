//! Copies values of a record without their empty parts.

use std::ops::Range;

use super::buffer::EventBuffer;
use crate::record::{json_cursor::JsonCursor, scan};

/// Writes a JSON value without white space, null, `""`, `{}`, `[]`, and containers of only these. If nothing
/// is left, nothing is written. Otherwise `begin` writes what is before the value. Lists of 16 MiB are
/// written without a tree. Keys are unique in each object: the parser has removed duplicates.
pub(crate) fn write_pruned(raw: &str, out: &mut EventBuffer, begin: impl FnOnce(&mut EventBuffer)) {
    let mut pruner = Pruner { text: raw, at: 0, pending: 0..0, frames: Vec::new(), begin: Some(begin), out };
    pruner.value(0..0);
    pruner.flush_pending();
}

/// An object or list that is being copied. Its opening sign is written before the first value in it, so empty
/// ones leave nothing.
struct OpenContainer {
    key: Range<usize>,
    open: usize,
    written: bool,
    has_members: bool,
}

struct Pruner<'a, 'o, B> {
    text: &'a str,
    at: usize,
    /// The range that is to be written. It is not copied yet because it may be extended.
    pending: Range<usize>,
    frames: Vec<OpenContainer>,
    /// Set until something is written.
    begin: Option<B>,
    out: &'o mut EventBuffer,
}

impl<B: FnOnce(&mut EventBuffer)> Pruner<'_, '_, B> {
    /// Copies the next value. The recursion is bounded: the parser accepts no more than `scan::DEPTH_MAX`
    /// levels.
    fn value(&mut self, key: Range<usize>) {
        self.skip_space();
        let start = self.at;
        match self.text.as_bytes().get(start) {
            Some(b'{' | b'[') => {
                self.frames.push(OpenContainer { key, open: start, written: false, has_members: false });
                self.at += 1;
                self.members(self.text.as_bytes()[start] == b'{');
                if let Some(OpenContainer { written: true, .. }) = self.frames.pop() {
                    self.keep(self.at - 1..self.at);
                }
            }
            Some(_) => {
                let mut cursor = JsonCursor::new(&self.text[start..]);
                let value = cursor.value();
                self.at = start + value.len();
                if !matches!(value, "\"\"" | "null") {
                    self.open_frames();
                    self.member(self.frames.len(), key);
                    self.keep(start..self.at);
                }
            }
            None => {}
        }
    }

    fn members(&mut self, object: bool) {
        loop {
            self.skip_space();
            match self.text.as_bytes().get(self.at) {
                Some(b'}' | b']') => {
                    self.at += 1;
                    return;
                }
                Some(b',') => self.at += 1,
                Some(b'"') if object => {
                    let key = self.at..scan::string_end(self.text.as_bytes(), self.at);
                    self.at = key.end;
                    self.skip_space();
                    self.at += 1;
                    self.value(key);
                }
                Some(_) => self.value(0..0),
                None => return,
            }
        }
    }

    /// Writes the opening signs that were held back.
    fn open_frames(&mut self) {
        let first = self.frames.iter().rposition(|frame| frame.written).map_or(0, |last| last + 1);
        for depth in first..self.frames.len() {
            let OpenContainer { key, open, .. } = &self.frames[depth];
            let (key, open) = (key.clone(), *open);
            self.member(depth, key);
            self.keep(open..open + 1);
            self.frames[depth].written = true;
        }
    }

    /// Writes what is before a value at `depth`: the comma, and the key if there is one.
    fn member(&mut self, depth: usize, key: Range<usize>) {
        if let Some(parent) = depth.checked_sub(1).map(|parent| &mut self.frames[parent])
            && std::mem::replace(&mut parent.has_members, true)
        {
            self.punctuation(b',');
        }
        if !key.is_empty() {
            self.keep(key);
            self.punctuation(b':');
        }
    }

    fn punctuation(&mut self, punctuation: u8) {
        if self.text.as_bytes().get(self.pending.end) == Some(&punctuation) {
            self.pending.end += 1;
        } else {
            self.flush_pending();
            self.out.bytes.push(punctuation);
        }
    }

    fn keep(&mut self, part: Range<usize>) {
        if let Some(begin) = self.begin.take() {
            begin(self.out);
        }
        if part.start == self.pending.end {
            self.pending.end = part.end;
        } else {
            self.flush_pending();
            self.pending = part;
        }
    }

    fn flush_pending(&mut self) {
        let text = self.text;
        self.out.put_long(&text[self.pending.clone()]);
        self.out.flush_if_large();
        self.pending = self.pending.end..self.pending.end;
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pruned(raw: &str) -> String {
        let mut out = EventBuffer::new();
        write_pruned(raw, &mut out, |_| {});
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn empties_are_dropped_at_every_depth() {
        for (raw, expected) in [
            (r#"[{"a":"b"},{"c":1}]"#, r#"[{"a":"b"},{"c":1}]"#),
            (r#"[{"a":"b","v":""},{"c":1}]"#, r#"[{"a":"b"},{"c":1}]"#),
            (r#"[{"v":"","a":"b"},{},null,"",[],{"c":1},null]"#, r#"[{"a":"b"},{"c":1}]"#),
            (r#"[{"a":{"b":{"c":[[""],{"d":null}]},"e":false}}]"#, r#"[{"a":{"e":false}}]"#),
            (r#"[{"a":{"b":[{"c":[[""],{"d":0}]}]}},{"x":""}]"#, r#"[{"a":{"b":[{"c":[{"d":0}]}]}}]"#),
            ("[ { \"a\" : \"b c\" ,\n \"d\":[ 1 , 2 ] } , 3 ]", r#"[{"a":"b c","d":[1,2]},3]"#),
            (r#"["\"\"","null","{}",-1.5e3,true]"#, r#"["\"\"","null","{}",-1.5e3,true]"#),
            (r#"[{"a":"","":"x"}]"#, r#"[{"":"x"}]"#),
        ] {
            assert_eq!(pruned(raw), expected, "{raw}");
        }
    }

    #[test]
    fn f101_nothing_is_begun_for_nothing() {
        for (raw, expected) in [
            ("", ""),
            ("null", ""),
            ("\"\"", ""),
            (" [ ] ", ""),
            (r#"[{"a":null,"b":[{},[""]]}]"#, ""),
            ("0", ",\"k\":0"),
            ("false", ",\"k\":false"),
            (r#"[{"a":null},[[ 1 ]]]"#, r#","k":[[[1]]]"#),
        ] {
            let mut out = EventBuffer::new();
            write_pruned(raw, &mut out, |out| out.put(",\"k\":"));
            assert_eq!(String::from_utf8(out.bytes).unwrap(), expected, "{raw}");
        }
    }
}
