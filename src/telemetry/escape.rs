//! Text from elsewhere, made safe for a terminal and a log.

use std::borrow::Cow;
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Replaces what could move a cursor, colour a terminal, start a new line or turn the reading direction:
/// control characters, line separators, bidi controls and invisible tags. Data is never escaped, only what
/// people are shown.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The same for the name of a file or directory, which may be any bytes: those that are no UTF-8 are written as `\xff`.
pub(crate) fn escape_path(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        out.push_str(&escape(chunk.valid()));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out
}

/// Whether a character must not reach a terminal as it is.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// For HTML, in text and in attributes.
pub(crate) fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// One word of a command that people may paste into a shell: quoted where a shell would read more into it.
pub(crate) fn shell_word(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,~".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('~') {
        return Cow::Borrowed(text);
    }
    Cow::Owned(format!("'{}'", text.replace('\'', "'\\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_for_a_shell_stays_one_word() {
        for (input, expected) in [
            ("/var/lib/x-1.2", "/var/lib/x-1.2"),
            ("/srv/my wiki", "'/srv/my wiki'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("~root", "'~root'"),
            ("$(id)", "'$(id)'"),
        ] {
            assert_eq!(shell_word(input), expected);
        }
    }

    #[test]
    fn f34_escape() {
        let table = [
            ("plain, ümläut, 日本語, 👩‍🚀", "plain, ümläut, 日本語, 👩‍🚀"),
            ("\x1b[2J\x1b]0;owned\x07", "\\u{1b}[2J\\u{1b}]0;owned\\u{7}"),
            ("one\ntwo\r\nthree\tfour", "one\\ntwo\\r\\nthree\\tfour"),
            ("\u{202e}txt.exe\u{2066}", "\\u{202e}txt.exe\\u{2066}"),
            ("\u{9b}31m\u{7f}\0", "\\u{9b}31m\\u{7f}\\u{0}"),
            ("a\u{2028}b\u{feff}c\u{e0041}", "a\\u{2028}b\\u{feff}c\\u{e0041}"),
        ];
        for (input, expected) in table {
            assert_eq!(escape(input), expected, "{input:?}");
        }
        assert!(matches!(escape("borrowed"), Cow::Borrowed(_)));
    }

    #[test]
    fn f114_a_name_that_is_no_text() {
        let name = std::ffi::OsStr::from_bytes(b"/a\x1b/\xff\xc3b\xc3\xbc");
        assert_eq!(escape_path(Path::new(name)), "/a\\u{1b}/\\xff\\xc3b\u{fc}");
    }
}
