//! JSON values as they are written in the record: borrowed and still escaped.
//!
//! Most strings are copied from JSON into JSON, so they are decoded only where their content matters.

use std::borrow::Cow;

use super::scan;

/// A JSON value as it is written in the record. null, `""`, `{}`, `[]` and values that contain nothing else are
/// missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Token<'a>(&'a str);

impl<'a> Token<'a> {
    pub const MISSING: Token<'static> = Token("");

    /// `raw` is one valid JSON value without surrounding white space.
    pub fn new(raw: &'a str) -> Self {
        match raw.as_bytes().first() {
            Some(b'"') if raw.len() > 2 => Token(raw),
            Some(b'{' | b'[') if !scan::is_empty(raw) => Token(raw),
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

    /// The value if it is a non-empty text.
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

/// A non-empty JSON string as it is written in the record: with quotes and still escaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// With quotes, to be copied into other JSON.
    pub fn quoted(self) -> &'a str {
        self.0
    }

    /// The content between the quotes, still escaped.
    pub fn escaped(self) -> &'a str {
        &self.0[1..self.0.len() - 1]
    }

    /// The decoded text.
    pub fn decoded(self) -> Cow<'a, str> {
        decoded(self.escaped())
    }

    /// Whether the decoded text is `text`.
    pub fn is(self, text: &str) -> bool {
        let escaped = self.escaped();
        escaped == text || (has_escape(escaped) && decoded(escaped) == text)
    }
}

/// Whether the text contains an escape.
pub(crate) fn has_escape(escaped: &str) -> bool {
    let (words, rest) = escaped.as_bytes().as_chunks::<8>();
    if words.len() > 8 {
        return memchr::memchr(b'\\', escaped.as_bytes()).is_some();
    }
    // Most texts are short, and this is called dozens of times per record.
    let in_words = words.iter().fold(0, |found, word| {
        found | scan::zero_bytes(u64::from_le_bytes(*word) ^ (scan::ONES * u64::from(b'\\')))
    });
    in_words != 0 || rest.contains(&b'\\')
}

/// Decodes an escaped text.
pub(crate) fn decoded(escaped: &str) -> Cow<'_, str> {
    if !has_escape(escaped) {
        return Cow::Borrowed(escaped);
    }
    let mut text = String::with_capacity(escaped.len());
    pieces(escaped, |piece| text.push_str(piece));
    Cow::Owned(text)
}

/// Decodes an escaped text piece by piece, without holding all of it.
pub(crate) fn pieces(escaped: &str, mut each: impl FnMut(&str)) {
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

/// The character of the escape at the start of `text`, and the escape's length in bytes.
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
            let second = text.get(6..).and_then(unit).filter(|unit| (0xDC00..0xE000).contains(unit));
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

/// Replaces each lone surrogate escape by `\ufffd`, and returns their positions. `None` if there is none. Such an
/// escape is valid JSON, but many readers reject it.
pub(crate) fn without_lone_surrogates(json: &str) -> Option<(String, Vec<usize>)> {
    let mut repaired = String::new();
    let mut positions = Vec::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json.as_bytes()[at..]) {
        at += found;
        let (meant, length) = unescape(&json[at..]);
        let lone = meant == char::REPLACEMENT_CHARACTER
            && unit(&json[at..]).is_some_and(|unit| (0xD800..0xE000).contains(&unit));
        if lone {
            repaired.push_str(&json[copied..at]);
            positions.push(repaired.len());
            repaired.push_str("\\ufffd");
            copied = at + length;
        }
        at = (at + length).min(json.len());
        while !json.is_char_boundary(at) {
            at += 1;
        }
    }
    if positions.is_empty() {
        return None;
    }
    repaired.push_str(&json[copied..]);
    Some((repaired, positions))
}
