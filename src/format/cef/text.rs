//! Text in the header or an extension of CEF: escaped, and cut to ArcSight's maximum length.

use super::super::buffer::EventBuffer;
use crate::record::token::pieces;

/// A value that is written in pieces.
pub(super) struct Limited {
    header: bool,
    /// Maximum length in characters.
    max: usize,
    written: usize,
    /// Offset of the last allowed character. If more follow, an ellipsis replaces it.
    last: usize,
    cut: bool,
}

impl Limited {
    /// A field of the header, before the extensions.
    pub(super) fn header(max: usize) -> Self {
        Limited { header: true, max, written: 0, last: 0, cut: false }
    }

    /// The value of an extension key.
    pub(super) fn extension(max: usize) -> Self {
        Limited { header: false, ..Limited::header(max) }
    }

    /// Appends the content of a JSON string.
    pub(super) fn escaped(&mut self, json: &str, out: &mut EventBuffer) {
        pieces(json, |piece| self.plain(piece, out));
    }

    /// Appends plain text.
    pub(super) fn plain(&mut self, text: &str, out: &mut EventBuffer) {
        if text.len() < self.max - self.written && text.bytes().all(is_plain) {
            self.written += text.len();
            return out.put(text);
        }
        for character in text.chars() {
            if self.cut {
                return;
            }
            if self.written == self.max {
                self.cut = true;
                out.bytes.truncate(self.last);
                return out.put("…");
            }
            self.written += 1;
            if self.written == self.max {
                self.last = out.bytes.len();
            }
            self.character(character, out);
        }
    }

    fn character(&self, character: char, out: &mut EventBuffer) {
        match character {
            '\\' => out.put("\\\\"),
            '|' if self.header => out.put("\\|"),
            '=' if !self.header => out.put("\\="),
            '\n' if !self.header => out.put("\\n"),
            '\r' if !self.header => out.put("\\r"),
            // Unicode aware readers treat these as line ends.
            '\u{85}' | '\u{2028}' | '\u{2029}' => out.put(if self.header { " " } else { "\\n" }),
            // CEF has no escape for other control characters.
            control if control.is_control() => out.put(" "),
            other => out.put(other.encode_utf8(&mut [0; 4])),
        }
    }
}

/// Whether the byte is written as it is and is one character.
fn is_plain(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && !matches!(byte, b'\\' | b'|' | b'=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(mut limited: Limited, parts: &[&str]) -> String {
        let mut out = EventBuffer::new();
        out.put("k=");
        for part in parts {
            limited.plain(part, &mut out);
        }
        String::from_utf8(out.bytes).unwrap()
    }

    #[test]
    fn special_characters_are_escaped() {
        let text = "a|b=c\\d\ne\rf\tg\u{1b}\u{85}ü";
        assert_eq!(written(Limited::header(50), &[text]), "k=a\\|b=c\\\\d e f g  ü");
        assert_eq!(written(Limited::extension(50), &[text]), "k=a|b\\=c\\\\d\\ne\\rf g \\nü");
    }

    #[test]
    fn f102_no_unicode_line_end_is_in_a_value() {
        let ends = "a\u{b}b\u{c}c\u{1c}d\u{1d}e\u{1e}f\u{85}g\u{2028}h\u{2029}i";
        assert_eq!(written(Limited::header(50), &[ends]), "k=a b c d e f g h i");
        assert_eq!(written(Limited::extension(50), &[ends]), "k=a b c d e f\\ng\\nh\\ni");
    }

    #[test]
    fn long_values_end_in_an_ellipsis() {
        for (parts, expected) in [
            (&["abcde"][..], "k=abcde"),
            (&["abcdef"], "k=abcd…"),
            (&["abcde", ""], "k=abcde"),
            (&["abc", "de", "f", "g"], "k=abcd…"),
            (&["äöüß", "="], "k=äöüß\\="),
            (&["äöüß", "==", "x"], "k=äöüß…"),
            (&["ab", "cdefgh", "i"], "k=abcd…"),
        ] {
            assert_eq!(written(Limited::extension(5), parts), expected, "{parts:?}");
        }
    }
}
