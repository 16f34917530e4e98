//! `[[sink]]`.

mod elasticsearch;
mod file;
mod http;
mod kafka;
mod remote;
mod sentinel;
mod splunk_hec;
mod syslog;

use std::path::PathBuf;

use super::{FORMATS, GIB, KIB, KnownTables, SEC, belongs_to, name};
use crate::config::checked::*;
use crate::config::raw::{Span, Table};
use remote::remote;

pub use file::check_path;

#[derive(Clone, Copy, PartialEq)]
enum Type {
    Stdout,
    File,
    Http,
    Elasticsearch,
    Kafka,
    Syslog,
    Sentinel,
    SplunkHec,
}

const TYPES: [(&str, Type); 8] = [
    ("elasticsearch", Type::Elasticsearch),
    ("file", Type::File),
    ("http", Type::Http),
    ("kafka", Type::Kafka),
    ("sentinel", Type::Sentinel),
    ("splunk_hec", Type::SplunkHec),
    ("stdout", Type::Stdout),
    ("syslog", Type::Syslog),
];

/// What a sink's own keys are read with.
struct Context<'c> {
    format: FormatKind,
    several_sources: bool,
    /// Of the events.
    namespace: &'c str,
}

/// `None` when something without which there is no sink is missing or wrong; that has been reported then.
/// In `seen` the place is a file, or `None` for stdout.
pub fn read(
    mut table: Table,
    several_sources: bool,
    event: &EventConfig,
    seen: &mut KnownTables<Option<PathBuf>>,
) -> Option<SinkConfig> {
    let (name, kind, format) = head(&mut table, &mut seen.names);
    let guessed = || {
        let mut types = TYPES.iter().map(|(_, kind)| *kind);
        types.find(|kind| keys_of(*kind).iter().any(|key| table.has(key)))
    };
    // Without a type nothing can be said of other keys.
    let likely = kind.or_else(guessed)?;
    let sink = own_keys(
        &mut table,
        likely,
        &Context {
            format,
            several_sources,
            namespace: &event.namespace,
        },
    );
    match &sink {
        Some(SinkKind::Stdout) => only_here(&table, None, seen),
        Some(SinkKind::File(file)) => only_here(&table, Some(file.path.clone()), seen),
        Some(SinkKind::Remote(_)) | None => {}
    }
    table.finish(is_for);
    kind?;
    Some(SinkConfig {
        name: name?,
        format,
        kind: sink?,
    })
}

/// The keys of all types: name, type and format.
fn head(table: &mut Table, seen: &mut Vec<(String, Span)>) -> (Option<String>, Option<Type>, FormatKind) {
    let name = name(table, "sink", "local", seen);
    let kind = table.word("type", &TYPES).map(|found| found.value);
    if !table.had("type") {
        table.error(
            "type",
            "is missing; add `type = \"file\"`, or where else events are to go",
        );
    }
    let mut format = match kind {
        Some(Type::Sentinel) => FormatKind::Sentinel,
        _ => FormatKind::Ecs,
    };
    table.choice("format", &FORMATS, &mut format);
    (name, kind, format)
}

/// The keys that a type has beside those of all.
fn own_keys(table: &mut Table, kind: Type, context: &Context) -> Option<SinkKind> {
    match kind {
        Type::Stdout => Some(SinkKind::Stdout),
        Type::File => file::read(table, context),
        Type::Http => remote(table, |table, _| http::read(table, context)),
        Type::Elasticsearch => remote(table, |table, _| elasticsearch::read(table, context)),
        Type::Kafka => remote(table, |table, _| kafka::read(table)),
        Type::Syslog => remote(table, syslog::read),
        Type::Sentinel => remote(table, |table, batch| sentinel::read(table, context, batch)),
        Type::SplunkHec => remote(table, |table, _| splunk_hec::read(table, context)),
    }
}

fn keys_of(kind: Type) -> Vec<&'static str> {
    let context = Context {
        format: FormatKind::Ecs,
        several_sources: false,
        namespace: "",
    };
    Table::keys_asked(|table| {
        own_keys(table, kind, &context);
    })
}

pub fn keys() -> Vec<&'static str> {
    let mut keys = Table::keys_asked(|table| {
        head(table, &mut Vec::new());
    });
    keys.extend(TYPES.iter().flat_map(|(_, kind)| keys_of(*kind)));
    keys
}

/// Which types of sinks an unknown key is for, or which other table.
fn is_for(key: &str) -> Option<String> {
    let types = TYPES.iter().filter(|(_, kind)| keys_of(*kind).contains(&key));
    let types: Vec<String> = types.map(|(name, _)| format!("`type = \"{name}\"`")).collect();
    match types.is_empty() {
        true => belongs_to(key),
        false => Some(format!("it is for {}", types.join(" and "))),
    }
}

/// No two sinks write to the same place.
fn only_here(table: &Table, output: Option<PathBuf>, seen: &mut KnownTables<Option<PathBuf>>) {
    let own = table.key("").trim_end_matches('.').to_string();
    if let Some((_, other)) = seen.places.iter().find(|(there, _)| *there == output) {
        let other = match *other == own {
            // Of one name, which is reported too.
            true => "another sink of this name".to_owned(),
            false => format!("`{other}`"),
        };
        let message = format!("writes to the same place as {other}; give each sink its own");
        let span = table.place_of("path").unwrap_or(&table.span);
        table.problems.error(span, &own, message);
    }
    seen.places.push((output, own));
}
