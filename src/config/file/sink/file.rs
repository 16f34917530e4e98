//! `type = "file"`.

use super::remote::COMPRESSIONS;
use super::{Context, GIB, KIB};
use crate::config::checked::*;
use crate::config::raw::Table;
use crate::config::typed::{absolute, keys};
use crate::config::words::ensure;

/// The owner writes, nobody else does, and nobody executes.
const MODES: [(&str, u32); 3] = [("0600", 0o600), ("0640", 0o640), ("0644", 0o644)];

pub(super) fn read(table: &mut Table, context: &Context) -> Option<SinkKind> {
    const EXAMPLE: &str = "/var/log/confluence-audit-agent/events.ndjson";
    let path = table.required("path", EXAMPLE, |path| {
        check_path(path, context.several_sources)?;
        absolute(path)
    });
    let complete = path.is_some();
    let mut file = FileSinkConfig::new(path.unwrap_or_default());
    keys!(table, file;
        size rotate_bytes(KIB..=1024 * GIB);
        flag rotate_daily;
        count rotated_files_max(1..=100_000);
        choice compression(&COMPRESSIONS);
        choice mode(&MODES);
    );
    file.group = table.checked("group", "splunk", check_group);
    if file.group.is_some() && file.mode.is_none_or(|mode| mode & 0o040 == 0) {
        table.warn(&["group"], "may not read the file: `mode` is \"0600\"; add `mode = \"0640\"`");
    }
    complete.then_some(SinkKind::File(file))
}

/// What tools that make groups accept.
fn check_group(group: &str) -> Result<(), String> {
    let bad = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
    let message = "is no name of a group; write a name without blanks, or the group's number as a string";
    ensure(!group.contains(bad), message)
}

/// Says what is wrong with a file sink's path, but for its being absolute.
pub(crate) fn check_path(path: &str, several_sources: bool) -> Result<(), String> {
    ensure(!path.ends_with('/'), format!("`{path}` names a directory; write the file's name too"))?;
    let rest = path.replace(SOURCE_PLACEHOLDER, "");
    let message = format!("`{path}` has braces; only `{SOURCE_PLACEHOLDER}` can be replaced");
    ensure(!rest.contains(['{', '}']), message)?;
    let message = format!(
        "`{path}` would be shared by several sources, each needs an output of its own; put `{SOURCE_PLACEHOLDER}` into it, as in \"/var/log/confluence-audit-agent/{SOURCE_PLACEHOLDER}.ndjson\""
    );
    ensure(!several_sources || rest.len() < path.len(), message)
}
