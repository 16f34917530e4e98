//! `[[source]]`: which Confluence, and its audit files.

use super::{DAY, GIB, HOUR, KIB, KnownTables, SEC, ZERO, api, belongs_to, name};
use crate::config::checked::*;
use crate::config::home::{self, HomeFound};
use crate::config::raw::Table;
use crate::config::typed::{absolute, keys};
use crate::config::words::ensure;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Files,
    Api,
    /// Both, of the same Confluence.
    Auto,
}

const TYPES: [(&str, bool); 2] = [("data_center", false), ("cloud", true)];
const MODES: [(&str, Mode); 3] = [("files", Mode::Files), ("api", Mode::Api), ("auto", Mode::Auto)];
const STARTS: [(&str, StartAt); 2] = [("beginning", StartAt::Beginning), ("end", StartAt::End)];
const NODES: [(&str, bool); 2] = [("own", false), ("all", true)];

/// `None` when something without which there is no source is missing or wrong; that has been reported then.
pub(super) fn read(mut table: Table, seen: &mut KnownTables<String>) -> Option<SourceConfig> {
    let source = source(&mut table, seen);
    table.finish(belongs_to);
    source
}

pub(super) fn keys() -> Vec<&'static str> {
    Table::keys_asked(|table| {
        source(table, &mut KnownTables::new());
    })
}

fn source(table: &mut Table, seen: &mut KnownTables<String>) -> Option<SourceConfig> {
    let name = name(table, "source", "wiki", &mut seen.names);
    let cloud = table.word("type", &TYPES);
    if !table.had("type") {
        table.error("type", "is missing; add `type = \"data_center\"` or `type = \"cloud\"`");
    }
    let cloud = cloud.unwrap_or(table.has("site"));
    let (mode, contradicts) = mode(table, cloud);
    let wants_files = mode != Mode::Api;

    let before = table.asked.len();
    let location = location(table, wants_files, seen);
    let mut files = FilesConfig::new(FileLocation::Files(Vec::new()));
    files_keys(table, &mut files);
    let file_keys = table.asked[before..].to_vec();

    let before = table.asked.len();
    let api = api::read(table, cloud, mode != Mode::Files);
    let api_keys = table.asked[before..].to_vec();
    if !contradicts {
        misplaced(table, cloud, mode, &file_keys, &api_keys);
    }
    if let Some(api) = &api {
        let key = if cloud { "site" } else { "url" };
        reject_duplicate(table, key, &[api.http.base.to_string()], seen);
    }

    let before = table.asked.len();
    let mut fallback = FallbackConfig::default();
    fallback_keys(table, &mut fallback);
    if mode != Mode::Auto {
        let message = "is for `mode = \"auto\"`, where an API is the fallback for files; add what is missing for that, or remove it";
        table.refuse(&table.asked[before..], message);
    }
    if let Some(location) = location {
        files.location = location;
    } else if wants_files {
        return None;
    }
    let (site, files) = (name.clone(), wants_files.then_some(files));
    Some(SourceConfig { name: name?, site, files, api, fallback })
}

fn fallback_keys(table: &mut Table, fallback: &mut FallbackConfig) {
    keys!(table, fallback;
        duration probe_interval(SEC..=DAY);
        duration file_lag_timeout(SEC..=DAY);
        duration file_error_timeout(ZERO..=DAY);
        duration file_recovery_timeout(ZERO..=DAY);
    );
    table.choice("nodes", &NODES, &mut fallback.all_nodes);
}

/// Every key that concerns files, but for the location.
fn files_keys(table: &mut Table, files: &mut FilesConfig) {
    keys!(table, files;
        choice start_at(&STARTS);
        size record_bytes_max(KIB..=GIB);
        duration sweep_interval(SEC / 10..=HOUR);
        duration rotate_grace(ZERO..=DAY);
        count open_files_max(1..=1000);
        count deleted_files_max(0..=1000);
        size deleted_bytes_max(0..=1024 * GIB);
        duration deleted_age_max(ZERO..=365 * DAY);
        duration missing_files_retention(HOUR..=3650 * DAY);
        count missing_files_max(0..=100_000);
        flag notify;
        size read_bytes(4 * KIB..=64 << 20);
    );
}

/// What `mode` says, or the other keys where it says nothing; and whether they contradict it, which has been reported
/// then.
fn mode(table: &mut Table, cloud: bool) -> (Mode, bool) {
    let typed = table.word("mode", &MODES);
    if cloud {
        if typed.is_some_and(|typed| typed != Mode::Api) {
            let message = "reads audit files, and Cloud has none; write `mode = \"api\"`, or leave it out";
            table.error("mode", message);
        }
        return (Mode::Api, false);
    }
    let url = table.has("url") || table.has_like("url");
    let files = table.has("home") || table.has("files");
    let mode = match (typed, url, files) {
        // One message instead of one for each key that is missing and one for each that is too many.
        (Some(Mode::Api), false, true) => {
            let key = if table.has("home") { "home" } else { "files" };
            table.error("mode", format!(
                "polls the audit API, and there is `{key}` and no `url`; to read the audit files, write `mode = \"files\"`; to poll \
                 the API, replace `{key}` by `url` and a token; for both, write `mode = \"auto\"` and add them"
            ));
            return (Mode::Files, true);
        }
        (Some(typed), ..) => typed,
        (None, true, true) => Mode::Auto,
        (None, true, false) => Mode::Api,
        (None, false, _) => Mode::Files,
    };
    (mode, false)
}

/// Reports keys that the mode has no use for.
fn misplaced(table: &Table, cloud: bool, mode: Mode, file_keys: &[&str], api_keys: &[&str]) {
    match mode {
        Mode::Auto => {}
        Mode::Files if table.had("mode") => {
            let message = "is for the audit API, which `mode = \"files\"` does not use; remove it, or write `mode = \"auto\"`";
            table.refuse(api_keys, message);
        }
        Mode::Files => {
            let message = "is for the audit API, and there is no address; add `url = \"https://confluence.example.com\"`, or remove this";
            // One message will do where `url` alone is missing.
            let first = api_keys.iter().position(|key| table.had(key));
            table.refuse(first.map_or(&[], |at| &api_keys[at..=at]), message);
        }
        Mode::Api => {
            let message = match cloud {
                true => "is for audit files, and Cloud has none; remove it",
                false => {
                    "is for audit files, which are not read here; remove it, or write `mode = \"auto\"` and `home`"
                }
            };
            for key in file_keys {
                let of_start = "is for audit files; an API begins at `start`, as in `start = \"30d\"`";
                table.refuse(&[key], if *key == "start_at" { of_start } else { message });
            }
        }
    }
}

/// Where a source reads: homes and patterns must not be another source's.
fn location(table: &mut Table, wanted: bool, seen: &mut KnownTables<String>) -> Option<FileLocation> {
    let dir = table.text("home", home::DEFAULT_HOME);
    let patterns = table.texts("files", "/srv/confluence/log/audit/*.audit.log");
    if !wanted {
        return None;
    }
    let key = if patterns.is_some() { "files" } else { "home" };
    let location = match (dir, patterns) {
        (Some(_), Some(_)) => {
            Err("conflicts with `home`, which finds the files itself; keep one of the two".into())
        }
        (Some(dir), None) => {
            let dir = absolute(&dir).and_then(|dir| home::check(&dir).map(|()| dir));
            dir.map(|dir| FileLocation::Home { dir, found: HomeFound::Setting })
        }
        (None, Some(patterns)) => check_patterns(&patterns).map(|()| FileLocation::Files(patterns)),
        (None, None) if table.had("home") || table.had("files") => return None,
        (None, None) => {
            let (dir, found) = home::find();
            Ok(FileLocation::Home { dir, found })
        }
    };
    let location = location.map_err(|message| table.error(key, message)).ok()?;
    match &location {
        FileLocation::Home { dir, .. } => {
            reject_duplicate(table, "files", &[dir.to_string_lossy().into_owned()], seen)
        }
        FileLocation::Files(patterns) => reject_duplicate(table, "files", patterns, seen),
    }
    Some(location)
}

/// Reports that another source takes its events from one of the same locations.
fn reject_duplicate(table: &Table, key: &str, locations: &[String], seen: &mut KnownTables<String>) {
    let table_path = table.key("").trim_end_matches('.').to_string();
    let (what, hint) = match key {
        "files" => ("reads the same files", "give each source its own `home` or `files`"),
        _ => ("polls the same API", "remove one of the two"),
    };
    for location in locations {
        let other = seen.locations.iter().find(|(other, _)| other == location);
        if let Some((_, other)) = other.filter(|(_, other)| *other != table_path) {
            let span = table.place_of(key).unwrap_or(&table.span);
            let message = format!("{what} as `{other}` ({location}), so each event would come twice; {hint}");
            table.problems.error(span, &table_path, message);
        }
        seen.locations.push((location.clone(), table_path.clone()));
    }
}

/// Says what is wrong with glob patterns.
pub(crate) fn check_patterns(patterns: &[String]) -> Result<(), String> {
    ensure(!patterns.is_empty(), "names no file; write at least one pattern, or `home` instead")?;
    for pattern in patterns {
        glob::Pattern::new(pattern).map_err(|error| {
            let (reason, at) = (error.msg, error.pos + 1);
            format!("`{pattern}` is no pattern: {reason} at character {at}; quote a character as in `[[]`")
        })?;
        absolute(pattern)?;
    }
    Ok(())
}
