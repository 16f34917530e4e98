//! `type = "file"`.

use std::path::PathBuf;

use super::{GIB, KIB, absolute, set};
use crate::config::checked::*;
use crate::config::raw::{ConfigValue, Problems, Span, Table};

pub const KEYS: [&str; 7] = [
    "path",
    "rotate_bytes",
    "rotate_daily",
    "rotated_files_max",
    "compression",
    "mode",
    "group",
];

/// The owner writes, nobody else does, and nobody executes.
const MODES: [(&str, u32); 3] = [("0600", 0o600), ("0640", 0o640), ("0644", 0o644)];

const EXAMPLE: &str = "/var/log/confluence-audit-agent/events.ndjson";

/// The sink, and where its path stands.
pub fn table(
    table: &mut Table,
    several_sources: bool,
    problems: &mut Problems,
) -> Option<(FileSinkConfig, Span)> {
    let path = table.text("path", EXAMPLE, problems);
    if path.is_none() && !table.had("path") {
        let message = format!("is missing; add `path = \"{EXAMPLE}\"`");
        problems.add(&table.span, table.key("path"), message);
    }
    let span = path.as_ref().map_or(&table.span, |path| &path.span).clone();
    let path = path.and_then(|path| absolute_path(path, several_sources, problems));
    let mut file = FileSinkConfig::new(path.clone().unwrap_or_default());
    set(
        &mut file.rotate_bytes,
        table.size("rotate_bytes", KIB..=1024 * GIB, problems),
    );
    set(&mut file.rotate_daily, table.flag("rotate_daily", problems));
    set(
        &mut file.rotated_files_max,
        table.count("rotated_files_max", 1..=100_000, problems),
    );
    file.compression = super::remote::compression(table, file.compression, problems);
    file.mode = table
        .choice("mode", &MODES, &[], problems)
        .map(|found| found.value);
    file.group = group(table, file.mode, problems);
    path.map(|_| (file, span))
}

fn group(table: &mut Table, mode: Option<u32>, problems: &mut Problems) -> Option<String> {
    let group = table.text("group", "splunk", problems)?;
    // What no tool that makes groups accepts.
    if group
        .value
        .contains(|c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c))
    {
        let message = "is no name of a group; write a name without blanks, or the group's number as a string";
        problems.add(&group.span, group.key, message);
        return None;
    }
    if mode.is_none_or(|mode| mode & 0o040 == 0) {
        let message = "may not read the file: `mode` is \"0600\"; add `mode = \"0640\"`";
        problems.warn(&group.span, group.key, message);
    }
    Some(group.value)
}

fn absolute_path(
    path: ConfigValue<String>,
    several_sources: bool,
    problems: &mut Problems,
) -> Option<PathBuf> {
    if let Err(message) = check_path(&path.value, several_sources) {
        problems.add(&path.span, path.key, message);
        return None;
    }
    absolute(path, problems).map(|path| path.value)
}

/// Says what is wrong with a file sink's path, but for its being absolute.
pub fn check_path(path: &str, several_sources: bool) -> Result<(), String> {
    if path.ends_with('/') {
        return Err(format!("`{path}` names a directory; write the file's name too"));
    }
    let rest = path.replace(SOURCE_PLACEHOLDER, "");
    if rest.contains(['{', '}']) {
        return Err(format!(
            "`{path}` has braces; only `{SOURCE_PLACEHOLDER}` can be replaced"
        ));
    }
    if several_sources && rest.len() == path.len() {
        return Err(format!(
            "`{path}` would be shared by several sources, each needs an output of its own; put `{SOURCE_PLACEHOLDER}` into it, as in \"/var/log/confluence-audit-agent/{SOURCE_PLACEHOLDER}.ndjson\""
        ));
    }
    Ok(())
}
