//! Text into JSON strings.

use super::out::{Out, PIECE_BYTES};

/// Bytes that are escaped in one go. Each becomes two at most unless there is a control character.
const CHUNK: usize = 32;

/// Appends `text` as the inside of a JSON string: only what must be escaped is.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    escape_bytes(text.as_bytes(), out);
}

/// The same for a text that may be long: in pieces, with room made between them.
pub(super) fn escape_long(text: &str, out: &mut Out) {
    for piece in text.as_bytes().chunks(PIECE_BYTES) {
        escape_bytes(piece, &mut out.bytes);
        out.room();
    }
}

fn escape_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + bytes.len() / 4);
    for chunk in bytes.chunks(CHUNK) {
        if chunk.iter().any(|byte| *byte < 0x20) {
            chunk.iter().for_each(|byte| escape_byte(*byte, out));
            continue;
        }
        // Quotes stand so close in a record that no branch is faster than one that guesses where they are.
        let mut escaped = [0; 2 * CHUNK];
        let mut length = 0;
        for byte in chunk {
            escaped[length % (2 * CHUNK)] = b'\\';
            length += usize::from(matches!(byte, b'"' | b'\\'));
            escaped[length % (2 * CHUNK)] = *byte;
            length += 1;
        }
        out.extend_from_slice(&escaped[..length]);
    }
}

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
        fn comes_back_as_it_was(text in "(\\PC|[\\x00-\\x22\\\\]){0,200}") {
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
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "\\u001b[2J\\n\\\"\\\\\u{7f}\u{202e}ü"
        );
    }
}
