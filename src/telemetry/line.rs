//! One line of the log, in the three ways it is written.

use std::borrow::Cow;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use tracing::Level;
use tracing::field::{Field, Visit};

use super::escape::{escape, is_unsafe};

/// A datagram must fit the socket's buffer, and nobody reads a longer line.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// One line to be: a message and fields, not yet escaped.
#[derive(Default)]
pub(super) struct LogLine {
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
}

pub(super) enum Value {
    /// Numbers and booleans: the same in text and JSON.
    Plain(String),
    Text(String),
}

impl LogLine {
    /// A hash of the message and of whom it concerns: one source's failure must not hide another's.
    pub(super) fn subject(&self) -> u64 {
        let mut hasher = std::hash::DefaultHasher::new();
        self.message.hash(&mut hasher);
        for (name, value) in &self.fields {
            if let ("source" | "sink", Value::Text(value)) = (*name, value) {
                (name, value).hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    /// `2026-11-21T10:00:00Z  INFO message key=value`
    pub(super) fn text(&self, now_ms: i64, level: Level) -> String {
        let time = jiff::Timestamp::from_second(now_ms.div_euclid(1000)).unwrap_or_default();
        format!("{time} {level:>5} {}\n", self.message_and_fields())
    }

    fn message_and_fields(&self) -> String {
        let mut out = escape(&cut(&self.message)).into_owned();
        for (name, value) in &self.fields {
            let _ = match value {
                Value::Plain(value) => write!(out, " {name}={value}"),
                Value::Text(value) if value.is_empty() || value.contains([' ', '"', '=']) => {
                    write!(out, " {name}=\"{}\"", escape(&cut(value).replace('"', "\\\"")))
                }
                Value::Text(value) => write!(out, " {name}={}", escape(&cut(value))),
            };
        }
        out
    }

    pub(super) fn json(&self, now_ms: i64, level: Level, target: &str) -> String {
        let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
        let mut out = format!("{{\"timestamp\":\"{time:.3}\",\"level\":\"{level}\",\"message\":");
        push_json(&mut out, &self.message);
        for (name, value) in &self.fields {
            let _ = write!(out, ",\"{name}\":");
            match value {
                Value::Plain(value) => out.push_str(value),
                Value::Text(value) => push_json(&mut out, value),
            }
        }
        out.push_str(",\"target\":");
        push_json(&mut out, target);
        out.push_str("}\n");
        out
    }

    /// The journal's native protocol, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: a datagram of `NAME=value`
    /// lines. Nothing here needs its binary form, because an escaped value holds no newself.
    pub(super) fn journal_entry(&self, level: Level, target: &str) -> String {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            _ => 7,
        };
        let mut out = format!(
            "PRIORITY={priority}\nSYSLOG_IDENTIFIER={}\nTARGET={target}\nMESSAGE={}\n",
            crate::NAME,
            self.message_and_fields()
        );
        for (name, value) in &self.fields {
            let (Value::Plain(value) | Value::Text(value)) = value;
            // A prefix keeps a field from taking the place of one of the journal's own.
            let name = name.to_ascii_uppercase().replace('.', "_");
            let _ = writeln!(out, "CAA_{name}={}", escape(&cut(value)));
        }
        out
    }
}

/// A JSON string that is also safe to look at: what JSON would let pass is written as `\u` too.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in cut(text).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = (0..=VALUE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// What is the text of a `Duration`, without digits that nobody reads: from ten seconds on whole ones.
fn round(text: &str) -> Option<String> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.parse().ok()?;
    let seconds = |number: f64| match number {
        10.0.. => format!("{}s", number.round()),
        _ => format!("{}s", (number * 10.0).round() / 10.0),
    };
    match unit {
        "s" => Some(seconds(number)),
        "ms" if number >= 950.0 => Some(seconds(number / 1000.0)),
        "ms" | "µs" | "ns" => Some(format!("{}{unit}", number.round())),
        _ => None,
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let text = format!("{value:?}");
            let text = round(&text).unwrap_or(text);
            self.fields.push((field.name(), Value::Text(text)));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), Value::Text(value.to_string())));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(chain, ": {error}");
            cause = error.source();
        }
        self.fields.push((field.name(), Value::Text(chain)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no words for what is not finite.
        let text = value.to_string();
        self.fields
            .push((field.name(), if value.is_finite() { Value::Plain(text) } else { Value::Text(text) }));
    }
}
