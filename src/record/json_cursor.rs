//! Steps through JSON that is known to be valid, in one pass and without a tree.

use std::borrow::Cow;

use super::scan;
use super::token::{self, Token};

/// A position in valid JSON. On invalid text the results are meaningless, but it terminates and does not panic.
pub(crate) struct JsonCursor<'a> {
    text: &'a str,
    pub(super) position: usize,
}

impl<'a> JsonCursor<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        JsonCursor { text, position: 0 }
    }

    /// Offset of the next value in bytes.
    pub(crate) fn value_start(&mut self) -> usize {
        self.skip_space();
        self.position
    }

    /// First byte of the next value, 0 at the end.
    pub(crate) fn peek(&mut self) -> u8 {
        self.skip_space();
        self.text.as_bytes().get(self.position).copied().unwrap_or(0)
    }

    /// Skips one byte: an opening bracket or brace.
    pub(crate) fn enter(&mut self) {
        self.skip_space();
        self.position += 1;
    }

    /// Whether another element or member follows. Skips the comma before it or the closing bracket.
    pub(crate) fn more(&mut self) -> bool {
        if self.peek() == b',' {
            self.position += 1;
        }
        match self.peek() {
            b']' | b'}' => {
                self.position += 1;
                false
            }
            0 => false,
            _ => true,
        }
    }

    /// The next member's name. Its value is next.
    pub(crate) fn key(&mut self) -> Cow<'a, str> {
        self.skip_space();
        let start = self.position + 1;
        let (end, plain) = scan::string_bounds(self.text.as_bytes(), self.position);
        self.position = end;
        if self.peek() == b':' {
            self.position += 1;
        }
        let key = self.text.get(start..end.saturating_sub(1)).unwrap_or("");
        if plain { Cow::Borrowed(key) } else { token::decoded(key) }
    }

    /// The next value as it is written.
    pub(crate) fn value(&mut self) -> &'a str {
        self.skip_space();
        let start = self.position;
        // Almost all values are strings.
        match self.text.as_bytes().get(start) {
            Some(b'"') => self.position = scan::string_end(self.text.as_bytes(), start),
            _ => self.skip(),
        }
        self.text.get(start..self.position).unwrap_or("")
    }

    pub(crate) fn token(&mut self) -> Token<'a> {
        Token::new(self.value())
    }

    /// Skips the next value.
    pub(crate) fn skip(&mut self) {
        self.skip_space();
        let bytes = self.text.as_bytes();
        match bytes.get(self.position) {
            Some(b'"') => self.position = scan::string_end(bytes, self.position),
            Some(b'{' | b'[') => {
                let mut depth = 0_usize;
                while let Some(&byte) = bytes.get(self.position) {
                    match byte {
                        b'"' => {
                            self.position = scan::string_end(bytes, self.position);
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ => {}
                    }
                    self.position += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => {
                let start = self.position;
                while let Some(byte) = bytes.get(self.position)
                    && !matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n')
                {
                    self.position += 1;
                }
                // Always advance, also on invalid text.
                self.position = self.position.max(start + 1);
            }
        }
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\r' | b'\n') = self.text.as_bytes().get(self.position) {
            self.position += 1;
        }
    }
}
