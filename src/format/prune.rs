//! Copies lists out of a record: as they stand where they can be, otherwise without what is empty in them.

use std::ops::Range;

use super::out::Out;
use crate::record::walk::{self, Cursor};

/// Writes a JSON value without white space, null, `""`, `{}`, `[]` and what is left of these. `begin` writes what
/// stands before it, once it is known that there is something; otherwise nothing is written. Lists of 16 MiB are written
/// without a tree. No name stands twice in an object: a record has been rid of that.
pub fn write_pruned(raw: &str, out: &mut Out, begin: impl FnOnce(&mut Out)) {
    let mut pruner = Pruner {
        text: raw,
        at: 0,
        run: 0..0,
        frames: Vec::new(),
        begin: Some(begin),
        out,
    };
    pruner.value(0..0);
    pruner.end_run();
}

/// An object or list that is being walked through. Its opening sign is written before the first value in it, so
/// that one without any leaves no trace.
struct Frame {
    key: Range<usize>,
    open: usize,
    written: bool,
    has_members: bool,
}

struct Pruner<'a, 'o, B> {
    text: &'a str,
    at: usize,
    /// What has been passed and is to be written, not yet copied because it may go on.
    run: Range<usize>,
    frames: Vec<Frame>,
    /// Until anything is kept.
    begin: Option<B>,
    out: &'o mut Out,
}

impl<B: FnOnce(&mut Out)> Pruner<'_, '_, B> {
    /// Goes over the next value. Recursion is bounded: nothing deeper than `walk::DEPTH_MAX` is parsed.
    fn value(&mut self, key: Range<usize>) {
        self.skip_space();
        let start = self.at;
        match self.text.as_bytes().get(start) {
            Some(b'{' | b'[') => {
                self.frames.push(Frame {
                    key,
                    open: start,
                    written: false,
                    has_members: false,
                });
                self.at += 1;
                self.members(self.text.as_bytes()[start] == b'{');
                if let Some(Frame { written: true, .. }) = self.frames.pop() {
                    self.keep(self.at - 1..self.at);
                }
            }
            Some(_) => {
                let mut cursor = Cursor::new(&self.text[start..]);
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
                    let key = self.at..walk::string_end(self.text.as_bytes(), self.at);
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
        let first = self
            .frames
            .iter()
            .rposition(|frame| frame.written)
            .map_or(0, |last| last + 1);
        for depth in first..self.frames.len() {
            let Frame { key, open, .. } = &self.frames[depth];
            let (key, open) = (key.clone(), *open);
            self.member(depth, key);
            self.keep(open..open + 1);
            self.frames[depth].written = true;
        }
    }

    /// Writes what stands before a value at `depth`: the comma, and the name if it has one.
    fn member(&mut self, depth: usize, key: Range<usize>) {
        if let Some(parent) = depth.checked_sub(1).map(|parent| &mut self.frames[parent])
            && std::mem::replace(&mut parent.has_members, true)
        {
            self.sign(b',');
        }
        if !key.is_empty() {
            self.keep(key);
            self.sign(b':');
        }
    }

    fn sign(&mut self, sign: u8) {
        if self.text.as_bytes().get(self.run.end) == Some(&sign) {
            self.run.end += 1;
        } else {
            self.end_run();
            self.out.bytes.push(sign);
        }
    }

    fn keep(&mut self, part: Range<usize>) {
        if let Some(begin) = self.begin.take() {
            begin(self.out);
        }
        if part.start == self.run.end {
            self.run.end = part.end;
        } else {
            self.end_run();
            self.run = part;
        }
    }

    fn end_run(&mut self) {
        let text = self.text;
        self.out.put_long(&text[self.run.clone()]);
        self.out.room();
        self.run = self.run.end..self.run.end;
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
        let mut out = Out::new();
        write_pruned(raw, &mut out, |_| {});
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn empties_are_dropped_at_every_depth() {
        for (raw, expected) in [
            (r#"[{"a":"b"},{"c":1}]"#, r#"[{"a":"b"},{"c":1}]"#),
            (r#"[{"a":"b","v":""},{"c":1}]"#, r#"[{"a":"b"},{"c":1}]"#),
            (
                r#"[{"v":"","a":"b"},{},null,"",[],{"c":1},null]"#,
                r#"[{"a":"b"},{"c":1}]"#,
            ),
            (
                r#"[{"a":{"b":{"c":[[""],{"d":null}]},"e":false}}]"#,
                r#"[{"a":{"e":false}}]"#,
            ),
            (
                r#"[{"a":{"b":[{"c":[[""],{"d":0}]}]}},{"x":""}]"#,
                r#"[{"a":{"b":[{"c":[{"d":0}]}]}}]"#,
            ),
            (
                "[ { \"a\" : \"b c\" ,\n \"d\":[ 1 , 2 ] } , 3 ]",
                r#"[{"a":"b c","d":[1,2]},3]"#,
            ),
            (
                r#"["\"\"","null","{}",-1.5e3,true]"#,
                r#"["\"\"","null","{}",-1.5e3,true]"#,
            ),
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
            let mut out = Out::new();
            write_pruned(raw, &mut out, |out| out.put(",\"k\":"));
            assert_eq!(String::from_utf8(out.bytes).unwrap(), expected, "{raw}");
        }
    }
}
