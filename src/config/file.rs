//! From a configuration file's tables to a `Config`.

mod address;
mod api;
mod credentials;
mod enrich;
mod http;
mod sink;
mod source;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checked::*;
use super::errors::ConfigErrors;
use super::raw::{ConfigValue, Problems, Span, Table};

pub use address::{clear_text, data_center};
pub use sink::check_path as check_sink_path;
pub use source::check_patterns;

const SEC: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;

pub const FORMATS: [(&str, FormatKind); 5] = [
    ("ecs", FormatKind::Ecs),
    ("raw", FormatKind::Raw),
    ("sentinel", FormatKind::Sentinel),
    ("cef", FormatKind::Cef),
    ("ocsf", FormatKind::Ocsf),
];
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
    pub enrich: Vec<&'static str>,
    pub source: Vec<&'static str>,
    pub sink: Vec<&'static str>,
}

/// The tables of one kind read so far, against which the next are held.
struct KnownTables<P> {
    /// Names, empty for those without a good one, and where they stand.
    names: Vec<(String, Span)>,
    /// What they read or write, and what they are called in messages.
    places: Vec<(P, String)>,
}

impl<P> Default for KnownTables<P> {
    fn default() -> KnownTables<P> {
        KnownTables {
            names: Vec::new(),
            places: Vec::new(),
        }
    }
}

/// Reads the text of a configuration file. `file` stands in the messages. A missing `[[sink]]` is an error
/// unless `sinks_follow`: then an option gives one.
pub fn read(file: &Path, text: &str, sinks_follow: bool) -> Result<Config, ConfigErrors> {
    let mut problems = Problems::new(file, text);
    let config = Table::parse(&mut problems).map(|root| root_table(root, sinks_follow, &mut problems).0);
    let secret_files = std::mem::take(&mut problems.secret_files);
    let (errors, warnings) = problems.into_parts();
    match config {
        Some(config) if errors.is_empty() => Ok(Config {
            warnings,
            secret_files,
            ..config
        }),
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
        &mut config.shutdown_timeout,
        root.duration("shutdown_timeout", Duration::ZERO..=HOUR, problems),
    );
    set(
        &mut config.uncommitted_bytes_max,
        root.size("uncommitted_bytes_max", 0..=1024 * GIB, problems),
    );
    let interval = root.duration("checkpoint_interval", SEC / 10..=HOUR, problems);
    set(&mut config.checkpoint_interval, interval);
    keys.log = log_table(root.table("log", problems), &mut config.log, problems);
    keys.event = event_table(root.table("event", problems), &mut config.event, problems);
    keys.enrich = enrich::table(root.table("enrich", problems), &mut config.enrich, problems);

    let sources = root.tables("source", problems);
    if lacks(&root, "source", sources.as_ref()) {
        let message =
            "is missing; add a `[[source]]` table with `name = \"wiki\"` and `type = \"data_center\"`";
        problems.add(&(0..0), "source", message);
    }
    let mut seen = KnownTables::default();
    for table in sources.unwrap_or_default() {
        if let Some(source) = source::table(table, &mut seen, &mut keys.source, problems) {
            config.sources.push(source);
        }
    }

    let several = seen.names.len() > 1;
    let sinks = root.tables("sink", problems);
    if lacks(&root, "sink", sinks.as_ref()) && !sinks_follow {
        let message =
            "is missing; add a `[[sink]]` table with `name = \"local\"` and `type = \"file\"` or \"stdout\"";
        problems.add(&(0..0), "sink", message);
    }
    let mut seen = KnownTables::default();
    for table in sinks.unwrap_or_default() {
        if let Some(sink) = sink::table(table, several, &config.event, &mut seen, &mut keys.sink, problems) {
            config.sinks.push(sink);
        }
    }
    keys.root = root.finish(belongs_to, problems);
    (config, keys)
}

/// Whether tables are missing; not if something there is wrong or misspelt, which is told then.
fn lacks(root: &Table, key: &str, tables: Option<&Vec<Table>>) -> bool {
    tables.map_or(!root.had(key) && !root.has_like(key), |tables| tables.is_empty())
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
    set(&mut event.namespace, namespace(&mut table, problems));
    set(
        &mut event.preserve_original_event,
        table.flag("preserve_original_event", problems),
    );
    table.finish(belongs_to, problems)
}

/// Elasticsearch's rule for data streams, whose names a namespace becomes a part of.
fn namespace(table: &mut Table, problems: &mut Problems) -> Option<String> {
    let namespace = table.text("namespace", "default", problems)?;
    let fits = |c: char| !c.is_uppercase() && !c.is_whitespace() && !"\\/*?\"<>|,#:-".contains(c);
    if namespace.value.len() <= 100 && namespace.value.chars().all(fits) {
        return Some(namespace.value);
    }
    let message = format!(
        "`{}` cannot be a data stream's namespace; write at most 100 bytes without upper case, blanks and \\/*?\"<>|,#:-",
        namespace.value
    );
    problems.add(&namespace.span, namespace.key, message);
    None
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
            // Names differ, so each is shown another.
            let example = match seen.len() {
                0 => example.to_owned(),
                before => format!("{example}-{}", before + 1),
            };
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

fn absolute(path: ConfigValue<String>, problems: &mut Problems) -> Option<ConfigValue<PathBuf>> {
    let value = PathBuf::from(&path.value);
    if value.is_absolute() {
        return Some(ConfigValue {
            value,
            span: path.span,
            key: path.key,
        });
    }
    let message = format!("`{}` is relative; write the whole path, from `/` on", path.value);
    problems.add(&path.span, path.key, message);
    None
}

/// Where a key belongs that people put somewhere else.
fn belongs_to(key: &str) -> Option<String> {
    Some(format!("it belongs in `{}`", table_of(key)?))
}

fn table_of(key: &str) -> Option<&'static str> {
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
        | "missing_files_retention"
        | "missing_files_max"
        | "notify"
        | "read_bytes" => Some("[[source]]"),
        key if api::KEYS.contains(&key)
            || http::KEYS.contains(&key)
            || source::FALLBACK_KEYS.contains(&key) =>
        {
            Some("[[source]]")
        }
        "level" => Some("[log]"),
        "tags" | "namespace" | "preserve_original_event" => Some("[event]"),
        key if enrich::KEYS.contains(&key) => Some("[enrich]"),
        key if sink::types_of(key).next().is_some() => Some("[[sink]]"),
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
