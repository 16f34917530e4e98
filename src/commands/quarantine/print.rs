//! The commands `quarantine list` and `quarantine show`.

use super::{QuarantineFailure, each, events, exit_code, open, print_error, time, unknown};
use crate::cli::EventSelection;
use crate::exit;
use crate::quarantine::Entry;
use crate::telemetry::escape::escape;
use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::path::Path;

/// Maximum length of a reason in the list, for a line of 80 columns. `show` prints all of it.
const REASON_CHARS_MAX: usize = 76;
/// Length of an id in the list, enough for the other commands.
const ID_CHARS: usize = 12;

/// Prints two lines per event, the second with the reason. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn list(
    state_dir: &Path,
    selection: &EventSelection,
    json: bool,
    out: &mut impl Write,
) -> io::Result<u8> {
    exit_code(list_all(state_dir, selection, json, out))
}

fn list_all(
    state_dir: &Path,
    selection: &EventSelection,
    json: bool,
    out: &mut impl Write,
) -> Result<u8, QuarantineFailure> {
    let directory = match open(state_dir)? {
        Ok(directory) => directory,
        Err(code) => return Ok(code),
    };
    let (mut seen, mut sinks, mut damaged) = (HashSet::new(), BTreeMap::new(), 0);
    if let Some(directory) = &directory {
        damaged = each(directory, selection, &mut |_, entry| {
            let key = (entry.event_id(), entry.sink.clone(), entry.source.clone());
            if !seen.insert(key) {
                return Ok(());
            }
            match json {
                true => write_json(&entry, out)?,
                false if seen.len() == 1 => {
                    writeln!(
                        out,
                        "{:<12}  {:<20}  {:<20}  {:<10}  SOURCE",
                        "ID", "HAPPENED", "SET ASIDE", "SINK"
                    )?;
                    write_line(&entry, out)?;
                }
                false => write_line(&entry, out)?,
            }
            *sinks.entry(entry.sink).or_insert(0) += 1;
            Ok(())
        })?;
    }
    if json {
        return Ok(exit::OK);
    }
    let filtered = selection.sink.is_some() || selection.source.is_some() || !selection.id.is_empty();
    match (seen.is_empty(), filtered, damaged) {
        (true, true, _) => writeln!(out, "no such event is in quarantine")?,
        (true, false, 0) => writeln!(out, "the quarantine is empty")?,
        (true, false, _) => writeln!(out, "no event in quarantine can be read")?,
        (false, ..) => {
            let sinks: Vec<String> =
                sinks.iter().map(|(sink, count)| format!("{} {count}", escape(sink))).collect();
            writeln!(out, "\n{}: {}", events(seen.len() as u64), sinks.join(", "))?;
        }
    }
    Ok(exit::OK)
}

fn write_line(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    let mut reason: String = entry.reason.chars().take(REASON_CHARS_MAX).collect();
    if reason.len() < entry.reason.len() {
        reason.push('…');
    }
    writeln!(
        out,
        "{}  {:<20}  {:<20}  {:<10}  {}",
        escape(entry.id.get(..ID_CHARS).unwrap_or(&entry.id)),
        time(entry.time_ms),
        time(entry.at_ms),
        escape(&entry.sink),
        escape(&entry.source),
    )?;
    writeln!(out, "    {}", escape(&reason))
}

/// Prints an entry without its event.
fn write_json(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    let line = serde_json::json!({
        "id": entry.id,
        "sink": entry.sink,
        "source": entry.source,
        "format": entry.format,
        "time_ms": entry.time_ms,
        "at_ms": entry.at_ms,
        "reason": entry.reason,
        "event_bytes": entry.event.len(),
    });
    writeln!(out, "{line}")
}

/// Prints complete events. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn show(state_dir: &Path, ids: &[String], raw: bool, out: &mut impl Write) -> io::Result<u8> {
    exit_code(show_all(state_dir, ids, raw, out))
}

fn show_all(
    state_dir: &Path,
    ids: &[String],
    raw: bool,
    out: &mut impl Write,
) -> Result<u8, QuarantineFailure> {
    let directory = match open(state_dir)? {
        Ok(directory) => directory,
        Err(code) => return Ok(code),
    };
    let selection = EventSelection { id: ids.to_vec(), ..EventSelection::default() };
    let mut seen = HashSet::new();
    if let Some(directory) = &directory {
        each(directory, &selection, &mut |position, entry| {
            let key = (entry.id.clone(), entry.sink.clone(), entry.source.clone());
            let first = seen.is_empty();
            if !seen.insert(key) {
                return Ok(());
            }
            if raw {
                out.write_all(entry.event.as_bytes())?;
                return Ok(out.write_all(b"\n")?);
            }
            if !first {
                writeln!(out)?;
            }
            for (what, value) in [
                ("id", entry.id.as_str()),
                ("sink", &entry.sink),
                ("source", &entry.source),
                ("format", &entry.format),
                ("happened", &time(entry.time_ms)),
                ("set aside", &time(entry.at_ms)),
                ("reason", &entry.reason),
                ("file", &directory.path.join(position.name).to_string_lossy()),
            ] {
                writeln!(out, "{what:<10} {}", escape(value))?;
            }
            for line in pretty(&entry.event).lines() {
                writeln!(out, "{}", escape(line))?;
            }
            Ok(())
        })?;
    }
    if directory.is_none() {
        print_error("the quarantine is empty");
    }
    let code = unknown(ids, seen.iter().map(|(id, ..)| id.as_str()));
    Ok(code.unwrap_or(exit::OK))
}

/// Indents JSON, changing only the white space between tokens. Other text is returned unchanged.
fn pretty(event: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(event).is_err() {
        return event.to_owned();
    }
    let mut out = String::with_capacity(event.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    let mut chars = event.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_text {
            out.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => (in_text, _) = (true, out.push(c)),
            '{' | '[' => {
                out.push(c);
                while chars.next_if(|c| c.is_ascii_whitespace()).is_some() {}
                if let Some(close) = chars.next_if(|c| matches!(c, '}' | ']')) {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_not_changed() {
        let event = r#"{"b":1.50,"a":{"x":[1,{"y":"z, \"{q}\\"}],"none":{}, "empty":[ ]},"long":12345678901234567890123}"#;
        let expect = r#"{
  "b": 1.50,
  "a": {
    "x": [
      1,
      {
        "y": "z, \"{q}\\"
      }
    ],
    "none": {},
    "empty": []
  },
  "long": 12345678901234567890123
}"#;
        assert_eq!(pretty(event), expect);
        let cef = "CEF:0|Atlassian|Confluence|8|1|a,b|3|msg={";
        assert_eq!(pretty(cef), cef);
    }
}
