//! Scans the bytes of JSON: ends of strings, emptiness, depth, white space. Nothing is parsed.

use std::borrow::Cow;
use std::ops::Range;

/// Maximum depth of nesting in a record. Confluence needs 3; serde_json's own limit is 128.
pub(crate) const DEPTH_MAX: usize = 128;

/// The offset after the closing quote of the string that starts at `start`.
pub(crate) fn string_end(bytes: &[u8], start: usize) -> usize {
    string_bounds(bytes, start).0
}

/// As [`string_end`], and whether the string has no escapes.
#[inline]
pub(super) fn string_bounds(bytes: &[u8], start: usize) -> (usize, bool) {
    let mut at = start + 1;
    let mut plain = true;
    loop {
        // Names and values are short: comparing eight bytes at a time is faster here than calling memchr.
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

/// 1 in each byte of a word.
pub(super) const ONES: u64 = 0x0101_0101_0101_0101;

/// Sets the highest bit of each byte that is zero. Bits above the first one are undefined.
pub(super) fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// Whether a value contains only null, `""`, `{}` and `[]` at any depth. Stops at the first other value.
pub(crate) fn is_empty(raw: &str) -> bool {
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

/// Whether a value is nested deeper than [`DEPTH_MAX`]. Counts brackets first and checks exactly only if there are
/// enough.
pub(crate) fn is_too_deep(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut seen = 0;
    // Small sums allow the compiler to vectorise.
    let could_be = bytes.chunks(128).any(|chunk| {
        seen += usize::from(chunk.iter().map(|byte| u8::from(matches!(byte, b'{' | b'['))).sum::<u8>());
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

/// JSON without white space outside its strings; otherwise unchanged.
pub fn compact(json: &str) -> String {
    let mut result = String::with_capacity(json.len());
    each_without_blanks(json.as_bytes(), |part| result.push_str(&json[part]));
    result
}

/// As [`compact`], for bytes that may be neither UTF-8 nor JSON.
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

/// Calls `each` with the ranges between white space outside strings.
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
