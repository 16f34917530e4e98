//! `[[sink]]`.

use std::path::PathBuf;

use super::{FORMATS, GIB, KIB, Seen, absolute, belongs_to, name, set};
use crate::config::checked::*;
use crate::config::raw::{Found, Problems, Table};

/// `None` when something without which there is no sink is missing or wrong; that has been reported then.
/// In `seen` the place is a file, or `None` for stdout.
pub fn table(
    mut table: Table,
    several_sources: bool,
    seen: &mut Seen<Option<PathBuf>>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SinkConfig> {
    let name = name(&mut table, "sink", "local", &mut seen.names, problems);
    let is_file = table.choice("type", &[("stdout", false), ("file", true)], &[], problems);
    if is_file.is_none() && !table.had("type") {
        problems.add(
            &table.span,
            table.key("type"),
            "is missing; add `type = \"file\"` or `type = \"stdout\"`",
        );
    }
    let format = table
        .choice("format", &FORMATS, &[], problems)
        .map_or(FormatKind::Ecs, |found| found.value);
    let path = table.text("path", "/var/log/confluence-audit-agent/events.ndjson", problems);
    let path_span = path.as_ref().map_or(&table.span, |path| &path.span).clone();
    let path = path.and_then(|path| absolute_path(path, several_sources, problems));

    let mut file = FileSinkConfig::new(path.clone().unwrap_or_default());
    set(
        &mut file.rotate_bytes,
        table.size("rotate_bytes", KIB..=1024 * GIB, problems),
    );
    set(&mut file.rotate_daily, table.flag("rotate_daily", problems));
    set(&mut file.keep, table.count("keep", 1..=100_000, problems));

    let own = table.key("");
    let own = own.trim_end_matches('.').to_string();
    let kind = match is_file.map(|found| found.value) {
        Some(true) => {
            if path.is_none() && !table.had("path") {
                let message = "is missing; add `path = \"/var/log/confluence-audit-agent/events.ndjson\"`";
                problems.add(&table.span, table.key("path"), message);
            }
            path.map(|_| SinkKind::File(file))
        }
        Some(false) => {
            for key in ["path", "rotate_bytes", "rotate_daily", "keep"] {
                if let Some(span) = table.place_of(key) {
                    let message =
                        "has no meaning for `type = \"stdout\"`; remove it, or write `type = \"file\"`";
                    problems.add(span, table.key(key), message);
                }
            }
            Some(SinkKind::Stdout)
        }
        None => None,
    };
    let output = match &kind {
        Some(SinkKind::File(file)) => Some(Some(file.path.clone())),
        Some(SinkKind::Stdout) => Some(None),
        None => None,
    };
    if let Some(output) = output {
        if let Some((_, other)) = seen.places.iter().find(|(there, _)| *there == output) {
            let message = format!("writes to the same place as `{other}`; give each sink its own");
            problems.add(&path_span, own.clone(), message);
        }
        seen.places.push((output, own));
    }
    *keys = table.finish(belongs_to, problems);
    Some(SinkConfig {
        name: name?,
        format,
        kind: kind?,
    })
}

fn absolute_path(path: Found<String>, several_sources: bool, problems: &mut Problems) -> Option<PathBuf> {
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
