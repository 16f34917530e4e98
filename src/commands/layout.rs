//! Layout of text in 80 columns, for terminals, mails and tickets.

use std::io::{self, Write};

const COLUMNS: usize = 80;

/// Splits a message into lines. It begins at column `indent`, each clause begins a line there, and
/// continuation lines are indented by two more. Text in backticks is not split, even if it exceeds the line,
/// so that paths and commands can be copied.
pub(super) fn clauses(text: &str, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for (number, clause) in unquoted_parts(text, "; ").into_iter().enumerate() {
        let mut line = " ".repeat(if number == 0 { 0 } else { indent });
        let mut used = indent;
        for (at, word) in unquoted_parts(clause, " ").into_iter().enumerate() {
            let width = word.chars().count();
            if at > 0 && used + 1 + width > COLUMNS {
                lines.push(std::mem::replace(&mut line, " ".repeat(indent + 2)));
                used = indent + 2;
            } else if at > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += width;
        }
        lines.push(line);
    }
    lines
}

/// Splits a text at separators outside of backticks.
fn unquoted_parts<'t>(text: &'t str, separator: &str) -> Vec<&'t str> {
    let (mut parts, mut begin, mut quoted) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == '`' {
            quoted = !quoted;
        } else if !quoted && at >= begin && text[at..].starts_with(separator) {
            parts.push(&text[begin..at]);
            begin = at + separator.len();
        }
    }
    parts.push(&text[begin..]);
    parts
}

/// Prints rows below their headings, two columns apart. Numbers are right-aligned. The last column is not
/// padded.
pub(super) fn table<const N: usize>(
    heads: [&str; N],
    rows: &[[String; N]],
    indent: usize,
    out: &mut impl Write,
) -> io::Result<()> {
    // A dash replaces a missing number.
    let is_number =
        |text: &str| text == "-" || !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut widths = heads.map(|head| head.chars().count());
    let mut numbers = [true; N];
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            widths[at] = widths[at].max(cell.chars().count());
            numbers[at] &= is_number(cell);
        }
    }
    let line = |cells: [&str; N]| {
        let mut line = " ".repeat(indent);
        for (at, cell) in cells.into_iter().enumerate() {
            let room = " ".repeat(widths[at] - cell.chars().count());
            match (numbers[at], at + 1 == N) {
                (true, _) => line.extend([&room, cell]),
                (false, true) => line.push_str(cell),
                (false, false) => line.extend([cell, &room]),
            }
            if at + 1 < N {
                line.push_str("  ");
            }
        }
        line
    };
    writeln!(out, "{}", line(heads))?;
    for row in rows {
        writeln!(out, "{}", line(row.each_ref().map(String::as_str)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_right_aligned_and_words_left_aligned() {
        let mut out = Vec::new();
        let rows = [
            ["5", "one", "/a"].map(String::from),
            ["1000", "three", "/b c"].map(String::from),
            ["-", "no", "/d"].map(String::from),
        ];
        table(["LEFT", "NAME", "FILE"], &rows, 2, &mut out).unwrap();
        let expected = "  LEFT  NAME   FILE\n     5  one    /a\n  1000  three  /b c\n     -  no     /d\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
