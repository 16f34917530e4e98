//! `[[source]]`: which Confluence, and its audit files.

use std::path::Path;
use std::time::Duration;

use super::{DAY, GIB, HOUR, KIB, KnownTables, SEC, absolute, api, belongs_to, http, name, set};
use crate::config::checked::*;
use crate::config::home::{self, HomeFound};
use crate::config::raw::{Problems, Span, Table};

/// The keys that only files have.
const FILES_KEYS: [&str; 14] = [
    "home",
    "files",
    "start_at",
    "record_bytes_max",
    "sweep_interval",
    "rotate_grace",
    "open_files_max",
    "deleted_files_max",
    "deleted_bytes_max",
    "deleted_age_max",
    "missing_files_retention",
    "missing_files_max",
    "notify",
    "read_bytes",
];

pub const FALLBACK_KEYS: [&str; 5] = [
    "probe_interval",
    "file_lag_timeout",
    "file_error_timeout",
    "file_recovery_timeout",
    "nodes",
];

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Files,
    Api,
    /// Both, of the same Confluence.
    Auto,
}

/// `None` when something without which there is no source is missing or wrong; that has been reported then.
pub fn table(
    mut table: Table,
    seen: &mut KnownTables<String>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SourceConfig> {
    let name = name(&mut table, "source", "wiki", &mut seen.names, problems);
    let types = [("data_center", false), ("cloud", true)];
    let cloud = table.choice("type", &types, &[], problems);
    if cloud.is_none() && !table.had("type") {
        problems.add(
            &table.span,
            table.key("type"),
            "is missing; add `type = \"data_center\"` or `type = \"cloud\"`",
        );
    }
    let cloud = cloud.map_or(table.has("site"), |found| found.value);
    let (mode, contradicts) = mode(&mut table, cloud, problems);
    let wants_files = mode != Mode::Api;
    let place = place(&mut table, wants_files, seen, problems);
    let files = files(&mut table, problems);
    let api = api::table(&mut table, cloud, mode != Mode::Files, problems);
    if !contradicts {
        misplaced(&table, cloud, mode, problems);
    }
    if let Some(api) = &api {
        let span = table
            .place_of(if cloud { "site" } else { "url" })
            .unwrap_or(&table.span);
        let message = "so each event would come twice; remove one of the two";
        only_here(
            "polls the same API",
            api.http.base.as_str(),
            message,
            span,
            &table,
            seen,
            problems,
        );
    }
    let mut fallback = FallbackConfig::default();
    set(
        &mut fallback.probe_interval,
        table.duration("probe_interval", SEC..=DAY, problems),
    );
    set(
        &mut fallback.file_lag_timeout,
        table.duration("file_lag_timeout", SEC..=DAY, problems),
    );
    set(
        &mut fallback.file_error_timeout,
        table.duration("file_error_timeout", Duration::ZERO..=DAY, problems),
    );
    set(
        &mut fallback.file_recovery_timeout,
        table.duration("file_recovery_timeout", Duration::ZERO..=DAY, problems),
    );
    let nodes = [("own", false), ("all", true)];
    set(
        &mut fallback.all_nodes,
        table
            .choice("nodes", &nodes, &[], problems)
            .map(|found| found.value),
    );
    for key in FALLBACK_KEYS {
        if let Some(span) = table.place_of(key).filter(|_| mode != Mode::Auto) {
            let message = "is for `mode = \"auto\"`, where an API stands in for files; add what is missing for that, or remove it";
            problems.add(span, table.key(key), message);
        }
    }
    *keys = table.finish(belongs_to, problems);

    let files = wants_files.then_some(FilesConfig {
        place: place?,
        ..files
    });
    let name = name?;
    Some(SourceConfig {
        site: Some(name.clone()),
        name,
        files,
        api,
        fallback,
    })
}

/// What `mode` says, or the other keys where it says nothing; and whether they contradict it, which has been reported then.
fn mode(table: &mut Table, cloud: bool, problems: &mut Problems) -> (Mode, bool) {
    let modes = [("files", Mode::Files), ("api", Mode::Api), ("auto", Mode::Auto)];
    let typed = table.choice("mode", &modes, &[], problems);
    if cloud {
        if let Some(typed) = typed.filter(|typed| typed.value != Mode::Api) {
            let message = "reads audit files, and Cloud has none; write `mode = \"api\"`, or leave it out";
            problems.add(&typed.span, typed.key, message);
        }
        return (Mode::Api, false);
    }
    let url = table.has("url") || table.has_like("url");
    let files = table.has("home") || table.has("files");
    let mode = match (typed, url, files) {
        // One message instead of one for each key that is missing and one for each that is too many.
        (Some(typed), false, true) if typed.value == Mode::Api => {
            let place = if table.has("home") { "home" } else { "files" };
            let message = format!(
                "polls the audit API, and there is `{place}` and no `url`; to read the audit files, write `mode = \"files\"`; to poll \
                 the API, replace `{place}` by `url` and a token; for both, write `mode = \"auto\"` and add them"
            );
            problems.add(&typed.span, typed.key, message);
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
fn misplaced(table: &Table, cloud: bool, mode: Mode, problems: &mut Problems) {
    let present = |keys: &'static [&'static str]| {
        let place = |key: &&'static str| table.place_of(key).map(|span| (*key, span.clone()));
        keys.iter().filter_map(place)
    };
    if mode == Mode::Files {
        // One message will do where `url` alone is missing.
        let typed = table.had("mode");
        let keys = present(&api::KEYS)
            .chain(present(&http::KEYS))
            .take(if typed { usize::MAX } else { 1 });
        for (key, span) in keys {
            let message = if typed {
                "is for the audit API, which `mode = \"files\"` does not use; remove it, or write `mode = \"auto\"`"
            } else {
                "is for the audit API, and there is no address; add `url = \"https://confluence.example.com\"`, or remove this"
            };
            problems.add(&span, table.key(key), message);
        }
    }
    if mode == Mode::Api {
        for (key, span) in present(&FILES_KEYS) {
            let message = match (key, cloud) {
                ("start_at", _) => "is for audit files; an API begins at `start`, as in `start = \"30d\"`",
                (_, true) => "is for audit files, and Cloud has none; remove it",
                (_, false) => {
                    "is for audit files, which are not read here; remove it, or write `mode = \"auto\"` and `home`"
                }
            };
            problems.add(&span, table.key(key), message);
        }
    }
}

/// Reads every key that concerns files, but for the place.
fn files(table: &mut Table, problems: &mut Problems) -> FilesConfig {
    let mut files = FilesConfig::new(FileLocation::Files(Vec::new()));
    let starts = [("beginning", StartAt::Beginning), ("end", StartAt::End)];
    set(
        &mut files.start_at,
        table
            .choice("start_at", &starts, &[], problems)
            .map(|found| found.value),
    );
    let record_bytes_max = table.size("record_bytes_max", KIB..=GIB, problems);
    set(
        &mut files.record_bytes_max,
        record_bytes_max.map(|bytes| bytes as usize),
    );
    set(
        &mut files.sweep_interval,
        table.duration("sweep_interval", SEC / 10..=HOUR, problems),
    );
    set(
        &mut files.rotate_grace,
        table.duration("rotate_grace", Duration::ZERO..=DAY, problems),
    );
    set(
        &mut files.open_files_max,
        table.count("open_files_max", 1..=1000, problems),
    );
    set(
        &mut files.deleted_files_max,
        table.count("deleted_files_max", 0..=1000, problems),
    );
    set(
        &mut files.deleted_bytes_max,
        table.size("deleted_bytes_max", 0..=1024 * GIB, problems),
    );
    set(
        &mut files.deleted_age_max,
        table.duration("deleted_age_max", Duration::ZERO..=365 * DAY, problems),
    );
    set(
        &mut files.missing_files_retention,
        table.duration("missing_files_retention", HOUR..=3650 * DAY, problems),
    );
    set(
        &mut files.missing_files_max,
        table.count("missing_files_max", 0..=100_000, problems),
    );
    set(&mut files.notify, table.flag("notify", problems));
    let read_bytes = table.size("read_bytes", 4 * KIB..=64 << 20, problems);
    set(&mut files.read_bytes, read_bytes.map(|bytes| bytes as usize));
    files
}

/// Where a source reads: homes and patterns must not be another source's.
fn place(
    table: &mut Table,
    wanted: bool,
    seen: &mut KnownTables<String>,
    problems: &mut Problems,
) -> Option<FileLocation> {
    let dir = table.text("home", home::DEFAULT_HOME, problems);
    let patterns = table.texts("files", "/srv/confluence/log/audit/*.audit.log", problems);
    let span = patterns
        .as_ref()
        .map_or(&table.span, |patterns| &patterns.span)
        .clone();
    if !wanted {
        return Some(FileLocation::Files(Vec::new()));
    }
    let place = match (dir, patterns) {
        (Some(_), Some(patterns)) => {
            let message = "stands beside `home`, which finds the files itself; keep one of the two";
            problems.add(&patterns.span, patterns.key, message);
            return None;
        }
        (Some(dir), None) => {
            let dir = absolute(dir, problems)?;
            if let Err(message) = home::check(&dir.value) {
                problems.add(&dir.span, dir.key, message);
                return None;
            }
            FileLocation::Home {
                dir: dir.value,
                found: HomeFound::Setting,
            }
        }
        (None, Some(patterns)) => {
            if let Err(message) = check_patterns(&patterns.value) {
                problems.add(&patterns.span, patterns.key, message);
                return None;
            }
            FileLocation::Files(patterns.value)
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
    let message = "so each event would come twice; give each source its own `home` or `files`";
    for same in same {
        only_here(
            "reads the same files",
            &same,
            message,
            &span,
            table,
            seen,
            problems,
        );
    }
    Some(place)
}

/// Reports that another source takes its events from the same place.
fn only_here(
    what: &str,
    place: &str,
    way_out: &str,
    span: &Span,
    table: &Table,
    seen: &mut KnownTables<String>,
    problems: &mut Problems,
) {
    let own = table.key("");
    let own = own.trim_end_matches('.');
    let other = seen.places.iter().find(|(other, _)| other == place);
    if let Some((_, other)) = other.filter(|(_, other)| other != own) {
        problems.add(span, own, format!("{what} as `{other}` ({place}), {way_out}"));
    }
    seen.places.push((place.to_string(), own.to_string()));
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
        if !Path::new(pattern).is_absolute() {
            return Err(format!(
                "`{pattern}` is relative; write the whole path, from `/` on"
            ));
        }
    }
    Ok(())
}
