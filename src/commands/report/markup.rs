//! Pieces of HTML. Pure.

use super::DAY_MS;
use crate::commands::findings::{number, time};
pub(super) use crate::telemetry::escape::escape_html as escaped;
use std::fmt::Write;

/// A table in writing. Columns of text come first, then columns of numbers.
pub(super) struct Table<'a>(&'a mut String);

impl<'a> Table<'a> {
    pub(super) fn begin(out: &'a mut String, texts: &[&str], numbers: &[&str]) -> Table<'a> {
        out.push_str("<div class=\"wide\"><table><thead><tr>");
        // Writing to a string does not fail.
        for head in texts {
            let _ = write!(out, "<th scope=\"col\">{head}</th>");
        }
        for head in numbers {
            let _ = write!(out, "<th scope=\"col\" class=\"n\">{head}</th>");
        }
        out.push_str("</tr></thead><tbody>");
        Table(out)
    }

    pub(super) fn row(&mut self, texts: &[&str], numbers: &[u64]) {
        self.0.push_str("<tr>");
        for text in texts {
            let _ = write!(self.0, "<td>{}</td>", escaped(text));
        }
        for count in numbers {
            let _ = write!(self.0, "<td class=\"n\">{}</td>", number(*count));
        }
        self.0.push_str("</tr>");
    }

    /// The sum of all rows.
    pub(super) fn total(&mut self, texts: &[&str], numbers: &[u64]) {
        self.0.push_str("</tbody><tbody class=\"total\">");
        self.row(texts, numbers);
    }

    pub(super) fn end(self) {
        self.0.push_str("</tbody></table></div>");
    }
}

pub(super) fn heading(out: &mut String, text: &str) {
    let _ = write!(out, "<h2>{text}</h2>");
}

pub(super) fn paragraph(out: &mut String, text: &str) {
    let _ = write!(out, "<p>{}</p>", escaped(text));
}

pub(super) fn bad(out: &mut String, text: &str) {
    let _ = write!(out, "<p class=\"bad\">{}</p>", escaped(text));
}

/// Lines as they are, such as a command or a signed text.
pub(super) fn verbatim(out: &mut String, text: &str) {
    let lines: Vec<String> = text.trim_end().lines().map(escaped).collect();
    let _ = write!(out, "<pre>{}</pre>", lines.join("\n"));
}

pub(super) fn date(day: i64) -> String {
    time(day.saturating_mul(DAY_MS)).get(..10).unwrap_or_default().to_owned()
}
