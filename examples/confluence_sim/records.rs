//! Reads rows from a folder of records.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use serde_json::Value;

use super::rows::Row;

/// The rows in the order of files and lines, and the positions without a record.
#[derive(Debug, Default)]
pub struct Loaded {
    pub rows: Vec<Row>,
    /// `file:line: why`.
    pub skipped: Vec<String>,
}

/// Reads a file, or all of a folder by name: `.jsonl`, `.ndjson` and `.log` hold a record a line, `.json` a record, a list of
/// them or a whole answer. Lines, entities and records of Cloud may be mixed.
pub fn load(place: &Path) -> io::Result<Loaded> {
    let mut loaded = Loaded::default();
    let mut open = vec![place.to_owned()];
    let mut files = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    for path in files {
        let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        // Events of the agent are not records.
        let made = path.to_string_lossy().ends_with(".ecs.jsonl");
        if !["jsonl", "ndjson", "log", "json"].contains(&kind) || made {
            continue;
        }
        let bytes = fs::read(&path)?;
        let text = String::from_utf8_lossy(&bytes);
        let whole: Option<Value> = (kind == "json").then(|| serde_json::from_str(&text).ok()).flatten();
        let texts: Vec<String> = match &whole {
            Some(value) => records_of(value).iter().map(Value::to_string).collect(),
            None => text.trim_start_matches('\u{feff}').lines().map(str::to_owned).collect(),
        };
        for (number, text) in texts.iter().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
            match Row::from_json(text) {
                Ok(row) => loaded.rows.push(row),
                Err(why) => loaded.skipped.push(format!("{}:{}: {why}", path.display(), number + 1)),
            }
        }
    }
    if loaded.rows.is_empty() {
        let why = format!("no audit record in `{}`", place.display());
        return Err(io::Error::new(ErrorKind::NotFound, why));
    }
    Ok(loaded)
}

fn records_of(value: &Value) -> &[Value] {
    let list = value.get("entities").or_else(|| value.get("results")).unwrap_or(value);
    list.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}
