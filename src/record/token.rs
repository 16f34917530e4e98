//! JSON values as they stand in the record, borrowed and still escaped.
//!
//! Most strings of an event are copied from JSON into JSON, so nothing is unescaped that nobody looks into.

use std::borrow::Cow;

use super::walk;

/// A JSON value as it stands in the record. null, `""`, `{}`, `[]` and what holds nothing else are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token<'a>(&'a str);

impl<'a> Token<'a> {
    pub const MISSING: Token<'static> = Token("");

    /// `raw` is one valid JSON value without white space around it.
    pub fn new(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') if raw.len() > 2 => Token(raw),
            Some(b'{' | b'[') if !walk::is_empty(raw) => Token(raw),
            Some(b'"' | b'{' | b'[' | b'n') | None => Token(""),
            Some(_) => Token(raw),
        }
    }

    pub fn is_missing(self) -> bool {
        self.0.is_empty()
    }

    /// The value's JSON, or `""` when it is missing.
    pub fn raw(self) -> &'a str {
        self.0
    }

    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    pub fn is_list(self) -> bool {
        self.0.starts_with('[')
    }

    /// The value if it is a text that is not empty.
    pub fn text(self) -> Option<Text<'a>> {
        self.0.starts_with('"').then_some(Text(self.0))
    }

    pub fn boolean(self) -> Option<bool> {
        match self.0 {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    pub fn integer(self) -> Option<i64> {
        self.0.parse().ok()
    }
}

/// A JSON string that is not empty, as it stands in the record: with its quotes, still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// With quotes, ready to be copied into other JSON.
    pub fn quoted(self) -> &'a str {
        self.0
    }

    /// What stands between the quotes, still escaped.
    pub fn escaped(self) -> &'a str {
        &self.0[1..self.0.len() - 1]
    }

    /// What it means.
    pub fn decoded(self) -> Cow<'a, str> {
        decoded(self.escaped())
    }

    /// Whether it means `text`.
    pub fn is(self, text: &str) -> bool {
        let escaped = self.escaped();
        escaped == text || (has_escape(escaped) && decoded(escaped) == text)
    }
}

/// Whether anything in it is escaped.
pub fn has_escape(escaped: &str) -> bool {
    let (words, rest) = escaped.as_bytes().as_chunks::<8>();
    if words.len() > 8 {
        return memchr::memchr(b'\\', escaped.as_bytes()).is_some();
    }
    // Most are short, and asked for dozens of times a record.
    let in_words = words.iter().fold(0, |found, word| {
        found | walk::zero_bytes(u64::from_le_bytes(*word) ^ (walk::ONES * u64::from(b'\\')))
    });
    in_words != 0 || rest.contains(&b'\\')
}

/// What an escaped text means.
pub fn decoded(escaped: &str) -> Cow<'_, str> {
    if !has_escape(escaped) {
        return Cow::Borrowed(escaped);
    }
    let mut text = String::with_capacity(escaped.len());
    pieces(escaped, |piece| text.push_str(piece));
    Cow::Owned(text)
}

/// Hands on what an escaped text means, piece by piece, without holding it as a whole.
pub fn pieces(escaped: &str, mut each: impl FnMut(&str)) {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        if at > 0 {
            each(&rest[..at]);
        }
        let (meant, length) = unescape(&rest[at..]);
        each(meant.encode_utf8(&mut [0; 4]));
        rest = rest.get(at + length..).unwrap_or("");
    }
    if !rest.is_empty() {
        each(rest);
    }
}

/// The character that the escape at the start of `text` means, and the escape's length in bytes.
fn unescape(text: &str) -> (char, usize) {
    match text.as_bytes().get(1) {
        Some(b'n') => ('\n', 2),
        Some(b't') => ('\t', 2),
        Some(b'r') => ('\r', 2),
        Some(b'b') => ('\u{8}', 2),
        Some(b'f') => ('\u{c}', 2),
        Some(b'u') => {
            let Some(first) = unit(text) else {
                return (char::REPLACEMENT_CHARACTER, 6);
            };
            if let Some(single) = char::from_u32(first) {
                return (single, 6);
            }
            let second = text
                .get(6..)
                .and_then(unit)
                .filter(|unit| (0xDC00..0xE000).contains(unit));
            match second {
                Some(second) if first < 0xDC00 => {
                    let both = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
                    (char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), 12)
                }
                _ => (char::REPLACEMENT_CHARACTER, 6),
            }
        }
        Some(&other) => (char::from(other), 2),
        None => (char::REPLACEMENT_CHARACTER, 1),
    }
}

/// The number in `\uXXXX` at the start of `text`.
fn unit(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// Replaces each escape that is half a surrogate pair by `\ufffd`; `None` when there is none. Such an escape
/// passes JSON's grammar, but no collector could read an event that holds it.
pub fn without_lone_surrogates(json: &str) -> Option<(String, Vec<usize>)> {
    let mut repaired = String::new();
    let mut places = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += found;
        let (meant, length) = unescape(&json[at..]);
        let lone = meant == char::REPLACEMENT_CHARACTER
            && unit(&json[at..]).is_some_and(|unit| (0xD800..0xE000).contains(&unit));
        if lone {
            repaired.push_str(&json[copied..at]);
            places.push(repaired.len());
            repaired.push_str("\\ufffd");
            copied = at + length;
        }
        at = (at + length).min(json.len());
        while !json.is_char_boundary(at) {
            at += 1;
        }
    }
    if places.is_empty() {
        return None;
    }
    repaired.push_str(&json[copied..]);
    Some((repaired, places))
}
