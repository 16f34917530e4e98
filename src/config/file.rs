//! From a configuration file's tables to a `Config`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checked::*;
use super::errors::ConfigErrors;
use super::home::{self, HomeFound};
use super::raw::{Found, Problems, Span, Table};

const SEC: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub const FORMATS: [(&str, FormatKind); 2] = [("ecs", FormatKind::Ecs), ("raw", FormatKind::Raw)];
pub const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
pub const LOG_LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// The keys of each kind of table, as the reading functions ask for them.
#[derive(Debug, Default)]
pub struct Keys {
    pub root: Vec<&'static str>,
    pub log: Vec<&'static str>,
    pub event: Vec<&'static str>,
    pub source: Vec<&'static str>,
    pub sink: Vec<&'static str>,
}

/// Reads the text of a configuration file. `file` stands in the messages. A missing `[[sink]]` is an error
/// unless `sinks_follow`: then an option gives one.
pub fn read(file: &Path, text: &str, sinks_follow: bool) -> Result<Config, ConfigErrors> {
    let mut problems = Problems::new(file, text);
    let config = Table::parse(&mut problems).map(|root| root_table(root, sinks_follow, &mut problems).0);
    let errors = problems.into_errors();
    match config {
        Some(config) if errors.is_empty() => Ok(config),
        _ => Err(ConfigErrors(errors)),
    }
}

fn root_table(mut root: Table, sinks_follow: bool, problems: &mut Problems) -> (Config, Keys) {
    let mut config = Config::default();
    let mut keys = Keys::default();
    if let Some(dir) = root.text("state_dir", "/var/lib/confluence-audit-agent", problems) {
        set(
            &mut config.state_dir,
            absolute(dir, problems).map(|dir| dir.value),
        );
    }
    set(
        &mut config.grace,
        root.duration("grace", Duration::ZERO..=HOUR, problems),
    );
    set(
        &mut config.unpersisted_bytes_max,
        root.size("unpersisted_bytes_max", 0..=1024 * GIB, problems),
    );
    let interval = root.duration("checkpoint_interval", SEC / 10..=HOUR, problems);
    set(&mut config.checkpoint_interval, interval);
    keys.log = log_table(root.table("log", problems), &mut config.log, problems);
    keys.event = event_table(root.table("event", problems), &mut config.event, problems);

    let sources = root.tables("source", problems);
    if sources.as_ref().is_none_or(Vec::is_empty) {
        let message =
            "is missing; add a `[[source]]` table with `name = \"wiki\"` and `type = \"data_center\"`";
        problems.add(&(0..0), "source", message);
    }
    let mut places = Vec::new();
    let mut names = Vec::new();
    for table in sources.unwrap_or_default() {
        if let Some(source) = source_table(table, &mut names, &mut places, &mut keys.source, problems) {
            config.sources.push(source);
        }
    }

    let several = names.len() > 1;
    let sinks = root.tables("sink", problems);
    if sinks.as_ref().is_none_or(Vec::is_empty) && !sinks_follow {
        let message =
            "is missing; add a `[[sink]]` table with `name = \"local\"` and `type = \"file\"` or \"stdout\"";
        problems.add(&(0..0), "sink", message);
    }
    let mut names = Vec::new();
    let mut outputs = Vec::new();
    for table in sinks.unwrap_or_default() {
        if let Some(sink) = sink_table(table, several, &mut names, &mut outputs, &mut keys.sink, problems) {
            config.sinks.push(sink);
        }
    }
    keys.root = root.finish(belongs_to, problems);
    (config, keys)
}

fn log_table(mut table: Table, log: &mut LogConfig, problems: &mut Problems) -> Vec<&'static str> {
    set(
        &mut log.format,
        table
            .choice("format", &LOG_FORMATS, &[], problems)
            .map(|found| found.value),
    );
    set(
        &mut log.level,
        table
            .choice("level", &LOG_LEVELS, &[], problems)
            .map(|found| found.value),
    );
    table.finish(belongs_to, problems)
}

fn event_table(mut table: Table, event: &mut EventConfig, problems: &mut Problems) -> Vec<&'static str> {
    set(
        &mut event.tags,
        table
            .texts("tags", "confluence-audit", problems)
            .map(|found| found.value),
    );
    if let Some(namespace) = table.text("namespace", "default", problems) {
        // Elasticsearch's rule for data streams, whose names this becomes a part of.
        let fits = |c: char| !c.is_uppercase() && !c.is_whitespace() && !"\\/*?\"<>|,#:-".contains(c);
        if namespace.value.len() <= 100 && namespace.value.chars().all(fits) {
            event.namespace = namespace.value;
        } else {
            let message = format!(
                "`{}` cannot be a data stream's namespace; write at most 100 bytes without upper case, blanks and \\/*?\"<>|,#:-",
                namespace.value
            );
            problems.add(&namespace.span, namespace.key, message);
        }
    }
    set(
        &mut event.preserve_original,
        table.flag("preserve_original", problems),
    );
    table.finish(belongs_to, problems)
}

/// `None` when something without which there is no source is missing or wrong; that has been reported then.
fn source_table(
    mut table: Table,
    names: &mut Vec<(String, Span)>,
    places: &mut Vec<(Vec<String>, String)>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SourceConfig> {
    let name = name(&mut table, "source", "wiki", names, problems);
    let kind = table.choice("type", &[("data_center", ())], &["cloud"], problems);
    if kind.is_none() && !table.had("type") {
        problems.add(
            &table.span,
            table.key("type"),
            "is missing; add `type = \"data_center\"`",
        );
    }
    table.choice("mode", &[("files", ())], &["api", "auto"], problems);
    let place = place(&mut table, places, problems);

    let mut files = FilesConfig::new(Place::Files(Vec::new()));
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
        &mut files.retention,
        table.duration("retention", HOUR..=3650 * DAY, problems),
    );
    set(
        &mut files.entries_vanished_max,
        table.count("entries_vanished_max", 0..=100_000, problems),
    );
    set(&mut files.notify, table.flag("notify", problems));
    let read_bytes = table.size("read_bytes", 4 * KIB..=64 << 20, problems);
    set(&mut files.read_bytes, read_bytes.map(|bytes| bytes as usize));
    *keys = table.finish(belongs_to, problems);

    files.place = place?;
    let name = name?;
    Some(SourceConfig {
        site: Some(name.clone()),
        name,
        files,
    })
}

/// Where a source reads. `seen` holds the places of the sources before, with their names.
fn place(table: &mut Table, seen: &mut Vec<(Vec<String>, String)>, problems: &mut Problems) -> Option<Place> {
    let dir = table.text("home", home::DEFAULT_HOME, problems);
    let patterns = table.texts("files", "/srv/confluence/log/audit/*.audit.log", problems);
    let span = patterns
        .as_ref()
        .map_or(&table.span, |patterns| &patterns.span)
        .clone();
    let place = match (dir, patterns) {
        (Some(_), Some(patterns)) => {
            let message = "stands beside `home`, which finds the files itself; keep one of the two";
            problems.add(&patterns.span, patterns.key, message);
            return None;
        }
        (Some(dir), None) => Place::Home {
            dir: absolute(dir, problems)?.value,
            found: HomeFound::Setting,
        },
        (None, Some(patterns)) => {
            if let Err(message) = check_patterns(&patterns.value) {
                problems.add(&patterns.span, patterns.key, message);
                return None;
            }
            Place::Files(patterns.value)
        }
        (None, None) if table.had("home") || table.had("files") => return None,
        (None, None) => {
            let (dir, found) = home::find();
            Place::Home { dir, found }
        }
    };
    let same = match &place {
        Place::Home { dir, .. } => vec![dir.to_string_lossy().into_owned()],
        Place::Files(patterns) => patterns.clone(),
    };
    let own = table.key("");
    let own = own.trim_end_matches('.');
    if let Some((_, other)) = seen
        .iter()
        .find(|(there, _)| there.iter().any(|place| same.contains(place)))
    {
        let message = format!(
            "reads the same files as `{other}` ({}), so each event would come twice; give each source its own `home` or `files`",
            same.join(", ")
        );
        problems.add(&span, own, message);
    }
    seen.push((same, own.to_string()));
    Some(place)
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

fn sink_table(
    mut table: Table,
    several_sources: bool,
    names: &mut Vec<(String, Span)>,
    outputs: &mut Vec<(Option<PathBuf>, String)>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SinkConfig> {
    let name = name(&mut table, "sink", "local", names, problems);
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
    let path = path.and_then(|path| sink_path(path, several_sources, problems));

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
        if let Some((_, other)) = outputs.iter().find(|(there, _)| *there == output) {
            let message = format!("writes to the same place as `{other}`; give each sink its own");
            problems.add(&path_span, own.clone(), message);
        }
        outputs.push((output, own));
    }
    *keys = table.finish(belongs_to, problems);
    Some(SinkConfig {
        name: name?,
        format,
        kind: kind?,
    })
}

fn sink_path(path: Found<String>, several_sources: bool, problems: &mut Problems) -> Option<PathBuf> {
    if let Err(message) = check_sink_path(&path.value, several_sources) {
        problems.add(&path.span, path.key, message);
        return None;
    }
    absolute(path, problems).map(|path| path.value)
}

/// Says what is wrong with a file sink's path, but for its being absolute.
pub fn check_sink_path(path: &str, several_sources: bool) -> Result<(), String> {
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

/// The name of a source or sink; the table's keys are told with it from here on.
fn name(
    table: &mut Table,
    kind: &str,
    example: &str,
    seen: &mut Vec<(String, Span)>,
    problems: &mut Problems,
) -> Option<String> {
    let Some(name) = table.text("name", example, problems) else {
        if !table.had("name") {
            problems.add(
                &table.span,
                table.key("name"),
                format!("is missing; add `name = \"{example}\"`"),
            );
        }
        seen.push((String::new(), table.span.clone()));
        return None;
    };
    if let Err(message) = check_name(&name.value) {
        problems.add(&name.span, name.key, message);
        seen.push((String::new(), table.span.clone()));
        return None;
    }
    if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name.value) {
        let message = format!(
            "the {kind} in line {} is called `{}` too; give each a name of its own",
            problems.line(first),
            name.value
        );
        problems.add(&name.span, name.key, message);
    }
    table.rename(format_args!("{kind}.{}", name.value));
    seen.push((name.value.clone(), name.span));
    Some(name.value)
}

fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(fits);
    if first && name.len() <= 64 && name.bytes().all(|byte| fits(byte) || b"_.-".contains(&byte)) {
        return Ok(());
    }
    Err(format!(
        "`{name}` cannot be a name; write at most 64 of a-z, 0-9, `_`, `.` and `-`, a letter or digit first"
    ))
}

fn absolute(path: Found<String>, problems: &mut Problems) -> Option<Found<PathBuf>> {
    let value = PathBuf::from(&path.value);
    if value.is_absolute() {
        return Some(Found {
            value,
            span: path.span,
            key: path.key,
        });
    }
    let message = format!("`{}` is relative; write the whole path, from `/` on", path.value);
    problems.add(&path.span, path.key, message);
    None
}

/// The table of a key that people put somewhere else.
fn belongs_to(key: &str) -> Option<&'static str> {
    match key {
        "home"
        | "files"
        | "mode"
        | "start_at"
        | "record_bytes_max"
        | "sweep_interval"
        | "rotate_grace"
        | "open_files_max"
        | "deleted_files_max"
        | "deleted_bytes_max"
        | "deleted_age_max"
        | "retention"
        | "entries_vanished_max"
        | "notify"
        | "read_bytes" => Some("[[source]]"),
        "path" | "rotate_bytes" | "rotate_daily" | "keep" => Some("[[sink]]"),
        "level" => Some("[log]"),
        "tags" | "namespace" | "preserve_original" => Some("[event]"),
        _ => None,
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

#[cfg(test)]
mod tests;
