//! Walks over JSON that is known to be valid, one pass, without a tree.

use std::borrow::Cow;
use std::ops::Range;

use super::token::{self, Token};

/// What is nested deeper than this is not taken for a record. Confluence needs 3; serde_json's own limit is 128.
pub const DEPTH_MAX: usize = 128;

/// A place in valid JSON. On text that is not valid it yields nonsense, but it ends and does not panic.
pub struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Cursor<'a> {
    pub fn new(text: &'a str) -> Self {
        Cursor { text, at: 0 }
    }

    /// Where the next value starts, in bytes from the start of the text.
    pub fn place(&mut self) -> usize {
        self.skip_space();
        self.at
    }

    /// The first byte of what comes next, 0 at the end.
    pub fn peek(&mut self) -> u8 {
        self.skip_space();
        self.text.as_bytes().get(self.at).copied().unwrap_or(0)
    }

    /// Steps over one byte: an opening bracket or brace.
    pub fn enter(&mut self) {
        self.skip_space();
        self.at += 1;
    }

    /// Whether one more element or member comes; steps over the comma before it or the closing sign.
    pub fn more(&mut self) -> bool {
        if self.peek() == b',' {
            self.at += 1;
        }
        match self.peek() {
            b']' | b'}' => {
                self.at += 1;
                false
            }
            0 => false,
            _ => true,
        }
    }

    /// The next member's name. The value is next.
    pub fn key(&mut self) -> Cow<'a, str> {
        self.skip_space();
        let start = self.at + 1;
        let (end, plain) = string_bounds(self.text.as_bytes(), self.at);
        self.at = end;
        if self.peek() == b':' {
            self.at += 1;
        }
        let key = self.text.get(start..end.saturating_sub(1)).unwrap_or("");
        if plain {
            Cow::Borrowed(key)
        } else {
            token::decoded(key)
        }
    }

    /// The next value as it stands.
    pub fn value(&mut self) -> &'a str {
        self.skip_space();
        let start = self.at;
        // Almost all are strings.
        match self.text.as_bytes().get(start) {
            Some(b'"') => self.at = string_end(self.text.as_bytes(), start),
            _ => self.skip(),
        }
        self.text.get(start..self.at).unwrap_or("")
    }

    pub fn token(&mut self) -> Token<'a> {
        Token::new(self.value())
    }

    /// Steps over the next value.
    pub fn skip(&mut self) {
        self.skip_space();
        let bytes = self.text.as_bytes();
        match bytes.get(self.at) {
            Some(b'"') => self.at = string_end(bytes, self.at),
            Some(b'{' | b'[') => {
                let mut depth = 0_usize;
                while let Some(&byte) = bytes.get(self.at) {
                    match byte {
                        b'"' => {
                            self.at = string_end(bytes, self.at);
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let start = self.at;
                while let Some(byte) = bytes.get(self.at)
                    && !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
                {
                    self.at += 1;
                }
                // Never stand still, whatever the text is.
                self.at = self.at.max(start + 1);
            }
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.as_bytes().get(self.at) {
            self.at += 1;
        }
    }
}

/// The end of the string that starts at `start`, behind its closing quote.
pub fn string_end(bytes: &[u8], start: usize) -> usize {
    string_bounds(bytes, start).0
}

/// The same, and whether nothing in the string is escaped.
#[inline]
fn string_bounds(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start + 1;
    let mut plain = true;
    loop {
        // Names and values are short: eight bytes at a time in place beat a call that is made for long ones.
        while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*word);
            let found = zero_bytes(word ^ (ONES * b'"' as u64)) | zero_bytes(word ^ (ONES * b'\\' as u64));
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match bytes.get(at) {
            Some(b'"') => return (at + 1, plain),
            Some(b'\\') => {
                plain = false;
                at += 2;
            }
            Some(_) => at += 1,
            None => return (bytes.len(), plain),
        }
    }
}

/// One in each byte of a word.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;

/// The highest bit of each byte that is zero; bits above the first of them mean nothing.
pub(super) fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Whether nothing but null, `""`, `{}` and `[]` is in a value, at any depth. Ends at the first thing it finds.
pub fn is_empty(raw: &str) -> bool {
    let bytes = raw.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = string_end(bytes, at);
                let mut next = end;
                while let Some(b' ' | b'\t' | b'\r' | b'\n') = bytes.get(next) {
                    next += 1;
                }
                let is_key = bytes.get(next) == Some(&b':');
                if !is_key && end - at > 2 {
                    return false;
                }
                at = end;
                continue;
            }
            b'n' => {
                at += 4;
                continue;
            }
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => return false,
        }
        at += 1;
    }
    true
}

/// Whether anything is nested deeper than [`DEPTH_MAX`]. Reads the text with care only if it could be.
pub fn is_too_deep(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut seen = 0;
    // Small sums let the compiler count many bytes at once.
    let could_be = bytes.chunks(128).any(|chunk| {
        seen += usize::from(
            chunk
                .iter()
                .map(|byte| u8::from(matches!(byte, b'{' | b'[')))
                .sum::<u8>(),
        );
        seen > DEPTH_MAX
    });
    if !could_be {
        return false;
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                at = string_end(bytes, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
        at += 1;
    }
    false
}

/// JSON without the white space outside its strings; nothing else is changed.
pub fn compact(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    each_without_blanks(json.as_bytes(), |part| result.push_str(&json[part]));
    result
}

/// The same as [`compact`] for what may not be UTF-8, nor JSON.
pub fn without_blanks(json: &[u8]) -> Cow<'_, [u8]> {
    let mut result = Vec::new();
    each_without_blanks(json, |part| {
        if part.len() < json.len() {
            result.extend_from_slice(&json[part]);
        }
    });
    if result.is_empty() {
        return Cow::Borrowed(json);
    }
    Cow::Owned(result)
}

/// Hands on what stands between the white space outside strings.
fn each_without_blanks(bytes: &[u8], mut each: impl FnMut(Range<usize>)) {
    let (mut kept, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            b' ' | b'\t' | b'\r' | b'\n' => {
                each(kept..at);
                at += 1;
                kept = at;
            }
            _ => at += 1,
        }
    }
    each(kept..bytes.len());
}

/// The same as [`compact`], the members of each object in the order of their names, and each text escaped in one way
/// only: the same for all that mean the same. It is not JSON.
pub fn canonical(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    put_canonical(&mut Cursor::new(json), &mut result);
    result
}

fn put_canonical_text(text: &str, result: &mut String) {
    result.push('"');
    for part in text.split_inclusive(['"', '\\']) {
        // The sign is the last byte.
        match part.strip_suffix(['"', '\\']) {
            Some(before) => {
                result.push_str(before);
                result.push('\\');
                result.push_str(&part[before.len()..]);
            }
            None => result.push_str(part),
        }
    }
    result.push('"');
}

fn put_canonical(cursor: &mut Cursor, result: &mut String) {
    match cursor.peek() {
        b'{' => {
            cursor.enter();
            result.push('{');
            let begin = result.len();
            let mut members: Vec<(Cow<str>, Range<usize>)> = Vec::new();
            while cursor.more() {
                result.push_str(if members.is_empty() { "" } else { "," });
                let start = result.len();
                let name = cursor.key();
                put_canonical_text(&name, result);
                result.push(':');
                put_canonical(cursor, result);
                members.push((name, start - begin..result.len() - begin));
            }
            if !members.is_sorted_by(|(a, _), (b, _)| a <= b) {
                members.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
                let unsorted = result.split_off(begin);
                for (at, (_, member)) in members.into_iter().enumerate() {
                    result.push_str(if at == 0 { "" } else { "," });
                    result.push_str(&unsorted[member]);
                }
            }
            result.push('}');
        }
        b'[' => {
            cursor.enter();
            result.push('[');
            let mut first = true;
            while cursor.more() {
                result.push_str(if std::mem::take(&mut first) { "" } else { "," });
                put_canonical(cursor, result);
            }
            result.push(']');
        }
        b'"' => {
            let text = cursor.value();
            put_canonical_text(&token::decoded(&text[1..text.len() - 1]), result);
        }
        _ => result.push_str(cursor.value()),
    }
}

/// The names of the members that lead to the value at `place`, joined by dots; list elements have no name.
pub fn path_at(text: &str, place: usize) -> String {
    let mut path = String::new();
    let mut cursor = Cursor::new(text);
    loop {
        let object = match cursor.peek() {
            b'{' => true,
            b'[' => false,
            _ => return path,
        };
        cursor.enter();
        let mut inside = false;
        while cursor.more() {
            let key = if object { cursor.key() } else { Cow::Borrowed("") };
            let start = cursor.place();
            cursor.skip();
            if place < cursor.at {
                if object {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(&key);
                }
                cursor.at = start;
                inside = true;
                break;
            }
        }
        if !inside {
            return path;
        }
    }
}

/// Hands on each element of a list that is not empty; an object counts as a list of one.
pub fn for_each_element<'a>(list: Token<'a>, mut each: impl FnMut(Token<'a>)) {
    if !list.is_list() {
        if !list.is_missing() {
            each(list);
        }
        return;
    }
    let mut cursor = Cursor::new(list.raw());
    cursor.enter();
    while cursor.more() {
        let element = cursor.token();
        if !element.is_missing() {
            each(element);
        }
    }
}
