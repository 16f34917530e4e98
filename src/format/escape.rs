//! Escapes text for JSON strings.

use std::borrow::Cow;

use super::buffer::{EventBuffer, PIECE_BYTES};
use crate::record::{Text, Token, compact};

/// Text escaped for JSON, without quotes.
pub(super) type EscapedText<'a> = Cow<'a, str>;

/// Appends `text` as the content of a JSON string, with the required escapes only.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    escape_bytes(text.as_bytes(), out);
}

pub(super) fn escaped(text: &str) -> EscapedText<'static> {
    let mut json = Vec::with_capacity(text.len());
    escape(text, &mut json);
    Cow::Owned(String::from_utf8_lossy(&json).into_owned())
}

/// `text` as a JSON string with its quotes.
pub(super) fn quoted(text: &str) -> String {
    let mut json = vec![b'"'];
    escape(text, &mut json);
    json.push(b'"');
    String::from_utf8_lossy(&json).into_owned()
}

/// A value as the content of a JSON string: a text as it is, any other value as JSON.
pub(super) fn value_text(value: Token) -> Option<Cow<str>> {
    if value.is_list() || value.is_object() {
        let mut text = Vec::new();
        escape(&compact(value.raw()), &mut text);
        return Some(Cow::Owned(String::from_utf8_lossy(&text).into_owned()));
    }
    let scalar = (!value.is_missing()).then(|| value.raw());
    value.text().map(Text::escaped).or(scalar).map(Cow::Borrowed)
}

/// Same as [`escape`] for long texts: written in pieces, so that the buffer can be flushed between them.
pub(super) fn escape_long(text: &str, out: &mut EventBuffer) {
    for piece in text.as_bytes().chunks(PIECE_BYTES) {
        escape_bytes(piece, &mut out.bytes);
        out.flush_if_large();
    }
}

fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    let mut buffer = [0; 2 * (COPY_BYTES + CHUNK)];
    for piece in bytes.chunks(COPY_BYTES) {
        if piece.iter().fold(false, |found, byte| found | (*byte < 0x20)) {
            piece.iter().for_each(|byte| escape_byte(*byte, out));
            continue;
        }
        let mut escaped = &mut buffer[..];
        // Quotes are frequent in records, so copying without branches is faster than searching for them.
        for chunk in piece.chunks(CHUNK) {
            let Some(window) = escaped.first_chunk_mut::<{ 2 * CHUNK + 1 }>() else {
                break;
            };
            let mut length = 0;
            for byte in chunk {
                let ([first, second], step) = ESCAPED[usize::from(*byte)];
                // The remainder equals `length`. It lets the compiler omit the bounds check.
                window[length % (2 * CHUNK)] = first;
                window[length % (2 * CHUNK) + 1] = second;
                length += usize::from(step);
            }
            escaped = &mut escaped[length..];
        }
        let unused = escaped.len();
        out.extend_from_slice(&buffer[..buffer.len() - unused]);
    }
}

/// Number of bytes that are escaped before they are copied to the output: so few that their copy stays in the cache.
const COPY_BYTES: usize = 512;

/// Number of bytes that are escaped in one step.
const CHUNK: usize = 16;

/// For each byte that is not a control character: its escaped form and the length of that.
const ESCAPED: [([u8; 2], u8); 256] = {
    let mut escaped = [([0; 2], 1); 256];
    let mut byte = 0;
    while byte < 256 {
        escaped[byte].0[0] = byte as u8;
        byte += 1;
    }
    escaped[b'"' as usize] = (*b"\\\"", 2);
    escaped[b'\\' as usize] = (*b"\\\\", 2);
    escaped
};

fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        0..0x20 => {
            let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]);
        }
        _ => out.push(byte),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn escaped_text_is_read_back(text in "(\\PC|[\\x00-\\x22\\\\]){0,200}") {
            let mut json = vec![b'"'];
            escape(&text, &mut json);
            json.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn f34_only_what_must_be_is_escaped() {
        let mut json = Vec::new();
        escape("\u{1b}[2J\n\"\\\u{7f}\u{202e}ü", &mut json);
        assert_eq!(String::from_utf8(json).unwrap(), "\\u001b[2J\\n\\\"\\\\\u{7f}\u{202e}ü");
    }
}
