//! Copies lists out of a record: as they stand where they can be, otherwise without what is empty in them.

use std::borrow::Cow;
use std::ops::Range;

use super::out::Out;
use crate::record::walk::{self, Cursor};

/// Writes a JSON value that is not empty: without white space, null, `""`, `{}`, `[]` and what is left of these,
/// and of two members of one name with the last. Lists of 16 MiB are written without a tree.
pub fn write_pruned(raw: &str, out: &mut Out) {
    match survey(raw) {
        Survey {
            clean: true,
            repeated: false,
        } => out.put_long(raw),
        Survey { repeated, .. } => {
            let mut pruner = Pruner {
                text: raw,
                at: 0,
                run: 0..0,
                frames: Vec::new(),
                look_ahead: repeated,
                out,
            };
            pruner.value(0..0);
            pruner.end_run();
        }
    }
}

struct Survey {
    /// Nothing in it is empty, and there is no white space.
    clean: bool,
    /// A name may stand twice in an object.
    repeated: bool,
}

fn survey(raw: &str) -> Survey {
    let bytes = raw.as_bytes();
    let mut found = Survey {
        clean: true,
        repeated: false,
    };
    // The names in each open object, each a bit: names that share a bit are looked at more closely later.
    let mut names = [0_u64; walk::DEPTH_MAX + 1];
    let mut depth = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = walk::string_end(bytes, at);
                let is_key = match bytes.get(end) {
                    Some(b' ' | b'\t' | b'\r' | b'\n') => {
                        bytes[end..].iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
                    }
                    next => next == Some(&b':'),
                };
                if is_key {
                    let name = name_bit(&bytes[at + 1..end - 1]);
                    found.repeated |= names[depth] & name != 0;
                    names[depth] |= name;
                } else {
                    found.clean &= end - at > 2;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                depth = (depth + 1).min(walk::DEPTH_MAX);
                names[depth] = 0;
                found.clean &= !matches!(bytes.get(at + 1), Some(b'}' | b']'));
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'n' | b' ' | b'\t' | b'\r' | b'\n' => found.clean = false,
            _ => {}
        }
        at += 1;
    }
    found
}

/// One of 63 bits that differ for names that Confluence uses together, or all where a name has escapes.
fn name_bit(name: &[u8]) -> u64 {
    if name.contains(&b'\\') {
        return u64::MAX;
    }
    let (first, last) = (
        name.first().copied().unwrap_or(0),
        name.last().copied().unwrap_or(0),
    );
    1 << ((name.len() * 5 + usize::from(first) * 3 + usize::from(last)) % 63)
}

/// An object or list that is being walked through. Its opening sign is written before the first value in it, so
/// that one without any leaves no trace.
struct Frame {
    key: Range<usize>,
    open: usize,
    written: bool,
    has_members: bool,
}

struct Pruner<'a, 'o> {
    text: &'a str,
    at: usize,
    /// What has been passed and is to be written, not yet copied because it may go on.
    run: Range<usize>,
    frames: Vec<Frame>,
    look_ahead: bool,
    out: &'o mut Out,
}

impl Pruner<'_, '_> {
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
        let superseded = if object && self.look_ahead {
            self.superseded()
        } else {
            Vec::new()
        };
        let mut count = 0;
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
                    if superseded.binary_search(&count).is_ok() {
                        let mut cursor = Cursor::new(&self.text[self.at..]);
                        cursor.skip();
                        self.at += cursor.place();
                    } else {
                        self.value(key);
                    }
                    count += 1;
                }
                Some(_) => self.value(0..0),
                None => return,
            }
        }
    }

    /// Which members of the object that begins here are followed by one of the same name, in ascending order.
    fn superseded(&self) -> Vec<usize> {
        let mut keys: Vec<(Cow<str>, usize)> = Vec::new();
        let mut cursor = Cursor::new(&self.text[self.at..]);
        while cursor.more() {
            keys.push((cursor.key(), keys.len()));
            cursor.skip();
        }
        keys.sort_unstable();
        let mut superseded: Vec<usize> = keys
            .windows(2)
            .filter(|pair| pair[0].0 == pair[1].0)
            .map(|pair| pair[0].1)
            .collect();
        superseded.sort_unstable();
        superseded
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

    #[test]
    fn known_names_have_bits_of_their_own() {
        for names in [
            &["id", "name", "type", "uri"][..],
            &["from", "i18nKey", "key", "to"],
            &["name", "nameI18nKey", "value"],
        ] {
            let bits = names
                .iter()
                .fold(0, |bits, name| bits | name_bit(name.as_bytes()));
            assert_eq!(bits.count_ones() as usize, names.len(), "{names:?}");
        }
    }

    fn pruned(raw: &str) -> String {
        let mut out = Out::new();
        write_pruned(raw, &mut out);
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
    fn last_of_two_names_wins() {
        for (raw, expected) in [
            (r#"[{"a":1,"a":2}]"#, r#"[{"a":2}]"#),
            (r#"[{"a":1,"b":3,"\u0061":2}]"#, r#"[{"b":3,"\u0061":2}]"#),
            (r#"[{"a":1,"b":3,"a":""}]"#, r#"[{"b":3}]"#),
            (r#"[{"a":1},{"a":2}]"#, r#"[{"a":1},{"a":2}]"#),
            (
                r#"[{"a":{"b":1,"b":2},"a":{"c":1,"c":[{"d":1,"d":3}]}}]"#,
                r#"[{"a":{"c":[{"d":3}]}}]"#,
            ),
        ] {
            assert_eq!(pruned(raw), expected, "{raw}");
        }
        let many: Vec<String> = (0..40).map(|at| format!("\"k{}\":{at}", at % 30)).collect();
        let value: serde_json::Value =
            serde_json::from_str(&pruned(&format!("[{{{}}}]", many.join(",")))).unwrap();
        assert_eq!(value[0].as_object().unwrap().len(), 30);
        assert_eq!(value[0]["k3"], 33);
    }
}
