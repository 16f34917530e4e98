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

use super::http::KEYS as KEYS_OF_HTTP;
use super::{FORMATS, GIB, KIB, KnownTables, absolute, belongs_to, name, set};
use crate::config::checked::*;
use crate::config::raw::{Problems, Span, Table};
use crate::config::{PeerConfig, RemoteSinkConfig};
use remote::Common;

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

/// The keys that a type has beside those of all.
fn keys_of(kind: Type) -> Vec<&'static str> {
    let by_http = [&KEYS_OF_HTTP[..], &["compression"]].concat();
    match kind {
        Type::Stdout => Vec::new(),
        Type::File => file::KEYS.to_vec(),
        Type::Http => [&remote::KEYS[..], &by_http, &http::KEYS].concat(),
        Type::Elasticsearch => [&remote::KEYS[..], &by_http, &elasticsearch::KEYS].concat(),
        Type::Kafka => [&remote::KEYS[..], &kafka::KEYS].concat(),
        Type::Syslog => [&remote::KEYS[..], &syslog::KEYS].concat(),
        Type::Sentinel => [&remote::KEYS[..], &by_http, &sentinel::KEYS].concat(),
        Type::SplunkHec => [&remote::KEYS[..], &by_http, &splunk_hec::KEYS].concat(),
    }
}

/// The types that have a key which not all have.
pub fn types_of(key: &str) -> impl Iterator<Item = &'static str> {
    let has = move |kind: &Type| keys_of(*kind).contains(&key);
    TYPES
        .iter()
        .filter(move |(_, kind)| has(kind))
        .map(|(name, _)| *name)
}

/// `None` when something without which there is no sink is missing or wrong; that has been reported then.
/// In `seen` the place is a file, or `None` for stdout.
pub fn table(
    mut table: Table,
    several_sources: bool,
    event: &EventConfig,
    seen: &mut KnownTables<Option<PathBuf>>,
    keys: &mut Vec<&'static str>,
    problems: &mut Problems,
) -> Option<SinkConfig> {
    let name = name(&mut table, "sink", "local", &mut seen.names, problems);
    let kind = table
        .choice("type", &TYPES, &[], problems)
        .map(|found| found.value);
    if kind.is_none() && !table.had("type") {
        problems.add(
            &table.span,
            table.key("type"),
            "is missing; add `type = \"file\"`, or where else events are to go",
        );
    }
    let usual = match kind {
        Some(Type::Sentinel) => FormatKind::Sentinel,
        _ => FormatKind::Ecs,
    };
    let format = table
        .choice("format", &FORMATS, &[], problems)
        .map_or(usual, |found| found.value);
    let has_key_of = |kind: &Type| keys_of(*kind).iter().any(|key| table.has(key));
    let guessed = TYPES.iter().map(|(_, kind)| *kind).find(has_key_of);
    let config = match kind.or(guessed) {
        // Nothing can be said of other keys.
        None => return None,
        Some(Type::File) => {
            let file = file::table(&mut table, several_sources, problems);
            let output = file
                .as_ref()
                .map(|(file, span)| (Some(file.path.clone()), span.clone()));
            place(&table, output, seen, problems);
            file.map(|(file, _)| SinkKind::File(file))
        }
        Some(Type::Stdout) => {
            place(&table, Some((None, table.span.clone())), seen, problems);
            Some(SinkKind::Stdout)
        }
        Some(Type::Http) => {
            let common = Common::read(&mut table, problems);
            http::table(&mut table, format, problems)
                .map(|peer| common.over(RemoteSinkConfig::new(PeerConfig::Http(Box::new(peer)))))
                .map(|config| SinkKind::Remote(Box::new(config)))
        }
        Some(Type::Kafka) => {
            let common = Common::read(&mut table, problems);
            kafka::table(&mut table, problems)
                .map(|peer| kafka::remote(RemoteSinkConfig::new(PeerConfig::Kafka(peer))))
                .map(|config| SinkKind::Remote(Box::new(common.over(config))))
        }
        Some(Type::Syslog) => {
            let common = Common::read(&mut table, problems);
            let peer = syslog::table(&mut table, problems);
            syslog::check_order(&table, common.concurrency(), problems);
            peer.map(|peer| syslog::remote(RemoteSinkConfig::new(PeerConfig::Syslog(peer))))
                .map(|config| SinkKind::Remote(Box::new(common.over(config))))
        }
        Some(Type::Sentinel) => {
            let common = Common::read(&mut table, problems);
            sentinel::table(&mut table, &common, format, problems)
                .map(|peer| common.over(sentinel::defaults(peer)))
                .map(|config| SinkKind::Remote(Box::new(config)))
        }
        Some(Type::SplunkHec) => {
            let common = Common::read(&mut table, problems);
            splunk_hec::table(&mut table, format, problems)
                .map(|peer| common.over(RemoteSinkConfig::new(PeerConfig::SplunkHec(Box::new(peer)))))
                .map(|config| SinkKind::Remote(Box::new(config)))
        }
        Some(Type::Elasticsearch) => {
            let common = Common::read(&mut table, problems);
            elasticsearch::table(&mut table, format, &event.namespace, problems)
                .map(|peer| common.over(RemoteSinkConfig::new(PeerConfig::Elasticsearch(Box::new(peer)))))
                .map(|config| SinkKind::Remote(Box::new(config)))
        }
    };
    let for_others = |key: &str| {
        let types: Vec<String> = types_of(key).map(|name| format!("`type = \"{name}\"`")).collect();
        match types.is_empty() {
            true => belongs_to(key),
            false => Some(format!("it is for {}", types.join(" and "))),
        }
    };
    for key in table.finish(for_others, problems) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    kind?;
    Some(SinkConfig {
        name: name?,
        format,
        kind: config?,
    })
}

/// No two sinks write to the same place.
fn place(
    table: &Table,
    output: Option<(Option<PathBuf>, Span)>,
    seen: &mut KnownTables<Option<PathBuf>>,
    problems: &mut Problems,
) {
    let Some((output, span)) = output else { return };
    let own = table.key("").trim_end_matches('.').to_string();
    if let Some((_, other)) = seen.places.iter().find(|(there, _)| *there == output) {
        let other = match *other == own {
            // Of one name, which is told too.
            true => "another sink of this name".to_owned(),
            false => format!("`{other}`"),
        };
        let message = format!("writes to the same place as {other}; give each sink its own");
        problems.add(&span, own.clone(), message);
    }
    seen.places.push((output, own));
}
