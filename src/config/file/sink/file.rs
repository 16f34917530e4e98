//! `type = "file"`.

use super::{Context, GIB, KIB};
use crate::config::checked::*;
use crate::config::raw::Table;
use crate::config::typed::absolute;

/// The owner writes, nobody else does, and nobody executes.
const MODES: [(&str, u32); 3] = [("0600", 0o600), ("0640", 0o640), ("0644", 0o644)];

pub fn read(table: &mut Table, context: &Context) -> Option<SinkKind> {
    let path = table.required_text("path", "/var/log/confluence-audit-agent/events.ndjson");
    let path = path.and_then(|path| {
        let path = path.check(|path| check_path(path, context.several_sources))?;
        path.parse(|path| absolute(path))
    });
    let mut file = FileSinkConfig::new(path.as_ref().map(|path| path.value.clone()).unwrap_or_default());
    table.size("rotate_bytes", KIB..=1024 * GIB, &mut file.rotate_bytes);
    table.flag("rotate_daily", &mut file.rotate_daily);
    table.count("rotated_files_max", 1..=100_000, &mut file.rotated_files_max);
    super::remote::compression(table, &mut file.compression);
    table.choice("mode", &MODES, &mut file.mode);
    file.group = group(table, file.mode);
    path.map(|_| SinkKind::File(file))
}

fn group(table: &mut Table, mode: Option<u32>) -> Option<String> {
    // What no tool that makes groups accepts.
    let bad = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
    let group = table
        .text("group", "splunk")?
        .check(|group| match group.contains(bad) {
            true => {
                Err("is no name of a group; write a name without blanks, or the group's number as a string")
            }
            false => Ok(()),
        })?;
    if mode.is_none_or(|mode| mode & 0o040 == 0) {
        group.warn("may not read the file: `mode` is \"0600\"; add `mode = \"0640\"`");
    }
    Some(group.value)
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
