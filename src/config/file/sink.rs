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

use super::{FORMATS, GIB, KIB, KnownTables, SEC, ZERO, belongs_to, name};
use crate::config::checked::*;
use crate::config::raw::{Span, Table};
use crate::config::{DestinationConfig, RemoteSinkConfig};
use remote::RemoteKeys;

pub(crate) use file::check_path;

/// Reads the keys that a type of sink has in addition to those of all.
#[derive(Clone, Copy)]
enum Reader {
    Local(fn(&mut Table, &Context) -> Option<SinkKind>),
    /// Of what reaches a server.
    Remote(fn(&mut Table, &Context, &RemoteKeys) -> Option<DestinationConfig>),
}

const TYPES: [(&str, Reader); 8] = [
    ("elasticsearch", Reader::Remote(elasticsearch::read)),
    ("file", Reader::Local(file::read)),
    ("http", Reader::Remote(http::read)),
    ("kafka", Reader::Remote(kafka::read)),
    ("sentinel", Reader::Remote(sentinel::read)),
    ("splunk_hec", Reader::Remote(splunk_hec::read)),
    ("stdout", Reader::Local(|_, _| Some(SinkKind::Stdout))),
    ("syslog", Reader::Remote(syslog::read)),
];

/// What a sink's own keys are read with.
struct Context<'c> {
    format: FormatKind,
    several_sources: bool,
    /// Of the events.
    namespace: &'c str,
}

/// `None` when something without which there is no sink is missing or wrong; that has been reported then.
/// In `seen` the location is a file, or `None` for stdout.
pub(super) fn read(
    mut table: Table,
    several_sources: bool,
    event: &EventConfig,
    seen: &mut KnownTables<Option<PathBuf>>,
) -> Option<SinkConfig> {
    let (name, kind, format, heartbeat) = head(&mut table, &mut seen.names);
    let guessed = || {
        let mut types = TYPES.iter().map(|(_, reader)| *reader);
        types.find(|reader| keys_of(*reader).iter().any(|key| table.has(key)))
    };
    // Without a type nothing can be said of other keys.
    let reader = kind.or_else(guessed)?;
    let context = Context { format, several_sources, namespace: &event.namespace };
    let sink = own_keys(&mut table, reader, &context);
    match &sink {
        Some(SinkKind::Stdout) => reject_duplicate(&table, None, seen),
        Some(SinkKind::File(file)) => reject_duplicate(&table, Some(file.path.clone()), seen),
        Some(SinkKind::Remote(_)) | None => {}
    }
    table.finish(is_for);
    kind?;
    let kind = sink?;
    Some(SinkConfig { name: name?, format, heartbeat: heartbeat.unwrap_or(kind.has_heartbeat()), kind })
}

/// What the keys of all types say: name, type, format, and `heartbeat` if it is there.
type Head = (Option<String>, Option<Reader>, FormatKind, Option<bool>);

fn head(table: &mut Table, seen: &mut Vec<(String, Span)>) -> Head {
    let name = name(table, "sink", "local", seen);
    let words = TYPES.map(|(name, reader)| (name, (name, reader)));
    let kind = table.word("type", &words);
    if !table.had("type") {
        let message = "is missing; add `type = \"file\"`, or where else events are to go";
        table.error("type", message);
    }
    let mut format = match kind {
        Some(("sentinel", _)) => FormatKind::Sentinel,
        _ => FormatKind::Ecs,
    };
    table.choice("format", &FORMATS, &mut format);
    let heartbeat = table.read("heartbeat", "`true` or `false`", |value| value.as_bool().ok_or(None));
    (name, kind.map(|(_, reader)| reader), format, heartbeat)
}

fn own_keys(table: &mut Table, reader: Reader, context: &Context) -> Option<SinkKind> {
    match reader {
        Reader::Local(read) => read(table, context),
        Reader::Remote(read) => {
            let common = RemoteKeys::read(table);
            let destination = read(table, context, &common)?;
            Some(SinkKind::Remote(Box::new(common.over(RemoteSinkConfig::new(destination)))))
        }
    }
}

/// The keys that a type has in addition to those of all.
fn keys_of(reader: Reader) -> Vec<&'static str> {
    let context = Context { format: FormatKind::Ecs, several_sources: false, namespace: "" };
    Table::keys_asked(|table| {
        own_keys(table, reader, &context);
    })
}

pub(super) fn keys() -> Vec<&'static str> {
    let mut keys = Table::keys_asked(|table| {
        head(table, &mut Vec::new());
    });
    keys.extend(TYPES.iter().flat_map(|(_, reader)| keys_of(*reader)));
    keys
}

/// Which types of sinks an unknown key is for, or which other table.
fn is_for(key: &str) -> Option<String> {
    let types = TYPES.iter().filter(|(_, reader)| keys_of(*reader).contains(&key));
    let types: Vec<String> = types.map(|(name, _)| format!("`type = \"{name}\"`")).collect();
    match types.is_empty() {
        true => belongs_to(key),
        false => Some(format!("it is for {}", types.join(" and "))),
    }
}

/// No two sinks write to the same place.
fn reject_duplicate(table: &Table, output: Option<PathBuf>, seen: &mut KnownTables<Option<PathBuf>>) {
    let table_path = table.key("").trim_end_matches('.').to_string();
    if let Some((_, other)) = seen.locations.iter().find(|(there, _)| *there == output) {
        let other = match *other == table_path {
            // Of one name, which is reported too.
            true => "another sink of this name".to_owned(),
            false => format!("`{other}`"),
        };
        let message = format!("writes to the same place as {other}; give each sink its own");
        let span = table.place_of("path").unwrap_or(&table.span);
        table.problems.error(span, &table_path, message);
    }
    seen.locations.push((output, table_path));
}
