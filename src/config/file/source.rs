//! `[[source]]`: which Confluence, and its audit files.

use std::time::Duration;

use super::{DAY, GIB, HOUR, KIB, KnownTables, SEC, api, belongs_to, name};
use crate::config::checked::*;
use crate::config::home::{self, HomeFound};
use crate::config::raw::Table;
use crate::config::typed::absolute;

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
pub fn read(mut table: Table, seen: &mut KnownTables<String>) -> Option<SourceConfig> {
    let source = source(&mut table, seen);
    table.finish(belongs_to);
    source
}

pub fn keys() -> Vec<&'static str> {
    Table::keys_asked(|table| {
        source(table, &mut KnownTables::new());
    })
}

fn source(table: &mut Table, seen: &mut KnownTables<String>) -> Option<SourceConfig> {
    let name = name(table, "source", "wiki", &mut seen.names);
    let cloud = table.word("type", &TYPES);
    if !table.had("type") {
        table.error(
            "type",
            "is missing; add `type = \"data_center\"` or `type = \"cloud\"`",
        );
    }
    let cloud = cloud.map_or(table.has("site"), |found| found.value);
    let (mode, contradicts) = mode(table, cloud);
    let wants_files = mode != Mode::Api;

    let before = table.asked.len();
    let place = place(table, wants_files, seen);
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
        let way_out = "so each event would come twice; remove one of the two";
        let key = if cloud { "site" } else { "url" };
        only_here(
            table,
            key,
            "polls the same API",
            api.http.base.as_str(),
            way_out,
            seen,
        );
    }

    let before = table.asked.len();
    let mut fallback = FallbackConfig::default();
    fallback_keys(table, &mut fallback);
    if mode != Mode::Auto {
        let message = "is for `mode = \"auto\"`, where an API stands in for files; add what is missing for that, or remove it";
        table.refuse(&table.asked[before..], message);
    }
    let files = if wants_files {
        Some(FilesConfig {
            place: place?,
            ..files
        })
    } else {
        None
    };
    let name = name?;
    Some(SourceConfig {
        site: Some(name.clone()),
        name,
        files,
        api,
        fallback,
    })
}

fn fallback_keys(table: &mut Table, fallback: &mut FallbackConfig) {
    table.duration("probe_interval", SEC..=DAY, &mut fallback.probe_interval);
    table.duration("file_lag_timeout", SEC..=DAY, &mut fallback.file_lag_timeout);
    table.duration(
        "file_error_timeout",
        Duration::ZERO..=DAY,
        &mut fallback.file_error_timeout,
    );
    table.duration(
        "file_recovery_timeout",
        Duration::ZERO..=DAY,
        &mut fallback.file_recovery_timeout,
    );
    table.choice("nodes", &NODES, &mut fallback.all_nodes);
}

/// Every key that concerns files, but for the place.
fn files_keys(table: &mut Table, files: &mut FilesConfig) {
    table.choice("start_at", &STARTS, &mut files.start_at);
    table.size("record_bytes_max", KIB..=GIB, &mut files.record_bytes_max);
    table.duration("sweep_interval", SEC / 10..=HOUR, &mut files.sweep_interval);
    table.duration("rotate_grace", Duration::ZERO..=DAY, &mut files.rotate_grace);
    table.count("open_files_max", 1..=1000, &mut files.open_files_max);
    table.count("deleted_files_max", 0..=1000, &mut files.deleted_files_max);
    table.size("deleted_bytes_max", 0..=1024 * GIB, &mut files.deleted_bytes_max);
    table.duration(
        "deleted_age_max",
        Duration::ZERO..=365 * DAY,
        &mut files.deleted_age_max,
    );
    table.duration(
        "missing_files_retention",
        HOUR..=3650 * DAY,
        &mut files.missing_files_retention,
    );
    table.count("missing_files_max", 0..=100_000, &mut files.missing_files_max);
    table.flag("notify", &mut files.notify);
    table.size("read_bytes", 4 * KIB..=64 << 20, &mut files.read_bytes);
}

/// What `mode` says, or the other keys where it says nothing; and whether they contradict it, which has been reported then.
fn mode(table: &mut Table, cloud: bool) -> (Mode, bool) {
    let typed = table.word("mode", &MODES);
    if cloud {
        if let Some(typed) = typed.filter(|typed| typed.value != Mode::Api) {
            typed.error("reads audit files, and Cloud has none; write `mode = \"api\"`, or leave it out");
        }
        return (Mode::Api, false);
    }
    let url = table.has("url") || table.has_like("url");
    let files = table.has("home") || table.has("files");
    let mode = match (typed, url, files) {
        // One message instead of one for each key that is missing and one for each that is too many.
        (Some(typed), false, true) if typed.value == Mode::Api => {
            let place = if table.has("home") { "home" } else { "files" };
            typed.error(format!(
                "polls the audit API, and there is `{place}` and no `url`; to read the audit files, write `mode = \"files\"`; to poll \
                 the API, replace `{place}` by `url` and a token; for both, write `mode = \"auto\"` and add them"
            ));
            return (Mode::Files, true);
        }
        (Some(typed), ..) => typed.value,
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
fn place(table: &mut Table, wanted: bool, seen: &mut KnownTables<String>) -> Option<FileLocation> {
    let dir = table.text("home", home::DEFAULT_HOME);
    let patterns = table.texts("files", "/srv/confluence/log/audit/*.audit.log");
    if !wanted {
        return None;
    }
    let place = match (dir, patterns) {
        (Some(_), Some(patterns)) => {
            patterns.error("stands beside `home`, which finds the files itself; keep one of the two");
            return None;
        }
        (Some(dir), None) => {
            let dir = dir.parse(|dir| absolute(dir))?.check(|dir| home::check(dir))?;
            FileLocation::Home {
                dir: dir.value,
                found: HomeFound::Setting,
            }
        }
        (None, Some(patterns)) => {
            FileLocation::Files(patterns.check(|patterns| check_patterns(patterns))?.value)
        }
        (None, None) if table.had("home") || table.had("files") => return None,
        (None, None) => {
            let (dir, found) = home::find();
            FileLocation::Home { dir, found }
        }
    };
    let same = match &place {
        FileLocation::Home { dir, .. } => vec![dir.to_string_lossy().into_owned()],
        FileLocation::Files(patterns) => patterns.clone(),
    };
    let way_out = "so each event would come twice; give each source its own `home` or `files`";
    for same in same {
        only_here(table, "files", "reads the same files", &same, way_out, seen);
    }
    Some(place)
}

/// Reports at a key that another source takes its events from the same place.
fn only_here(
    table: &Table,
    key: &str,
    what: &str,
    place: &str,
    way_out: &str,
    seen: &mut KnownTables<String>,
) {
    let own = table.key("").trim_end_matches('.').to_string();
    let other = seen.places.iter().find(|(other, _)| other == place);
    if let Some((_, other)) = other.filter(|(_, other)| *other != own) {
        let span = table.place_of(key).unwrap_or(&table.span);
        table
            .problems
            .error(span, &own, format!("{what} as `{other}` ({place}), {way_out}"));
    }
    seen.places.push((place.to_string(), own));
}

/// Says what is wrong with glob patterns.
pub fn check_patterns(patterns: &[String]) -> Result<(), String> {
    if patterns.is_empty() {
        return Err("names no file; write at least one pattern, or `home` instead".into());
    }
    for pattern in patterns {
        if let Err(error) = glob::Pattern::new(pattern) {
            return Err(format!(
                "`{pattern}` is no pattern: {} at character {}; quote a character as in `[[]`",
                error.msg,
                error.pos + 1
            ));
        }
        absolute(pattern)?;
    }
    Ok(())
}
