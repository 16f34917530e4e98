//! What all sinks that reach a server have in common.

use std::time::Duration;

use url::Url;

use super::{KIB, SEC};
use crate::config::file::{address, credentials};
use crate::config::raw::{ConfigValue, Table};
use crate::config::{Auth, Compression, FormatKind, OnPoison, PeerConfig, RemoteSinkConfig, SinkKind};

const ON_POISON: [(&str, OnPoison); 2] = [("quarantine", OnPoison::Quarantine), ("stop", OnPoison::Stop)];
const COMPRESSIONS: [(&str, Compression); 3] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
];

/// What the keys say that all have.
#[derive(Default)]
pub struct Common {
    pub bytes: Option<u64>,
    events: Option<usize>,
    wait: Option<Duration>,
    pub concurrency: Option<usize>,
    on_poison: Option<OnPoison>,
}

/// Reads them, and then the server's own keys.
pub fn remote(
    table: &mut Table,
    read_peer: impl FnOnce(&mut Table, &Common) -> Option<PeerConfig>,
) -> Option<SinkKind> {
    let mut common = Common::default();
    table.size("batch_bytes", KIB..=64 << 20, &mut common.bytes);
    table.count("batch_events", 1..=100_000, &mut common.events);
    table.duration("batch_wait", Duration::ZERO..=600 * SEC, &mut common.wait);
    table.count("concurrency", 1..=16, &mut common.concurrency);
    table.choice("on_poison", &ON_POISON, &mut common.on_poison);
    let mut config = RemoteSinkConfig::new(read_peer(table, &common)?);
    config.batch.bytes = common.bytes.map_or(config.batch.bytes, |bytes| bytes as usize);
    config.batch.events = common.events.unwrap_or(config.batch.events);
    config.batch.wait = common.wait.unwrap_or(config.batch.wait);
    config.concurrency = common.concurrency.unwrap_or(config.concurrency);
    config.on_poison = common.on_poison.unwrap_or(config.on_poison);
    Some(SinkKind::Remote(Box::new(config)))
}

pub fn compression(table: &mut Table, slot: &mut Compression) {
    table.choice("compression", &COMPRESSIONS, slot);
}

/// As [`compression`], where zstd is not known.
pub fn gzip_at_most(table: &mut Table, default: Compression) -> Compression {
    let mut found = default;
    compression(table, &mut found);
    if found == Compression::Zstd {
        table.refuse(&["compression"], "is not known there; write \"gzip\" or \"none\"");
    }
    found
}

/// Reports that a format which is no JSON cannot be sent there.
pub fn wants_json(table: &Table, format: FormatKind) {
    if format == FormatKind::Cef {
        table.refuse(
            &["format"],
            "is no JSON, which alone can be sent there; remove it, or write \"raw\"",
        );
    }
}

/// A server's address that must be there.
pub fn url<'t>(table: &mut Table<'t>, key: &'static str, example: &str) -> Option<ConfigValue<'t, Url>> {
    table
        .required_text(key, example)?
        .parse(|text| address::server(text, example))
}

/// `token`, or `user` and `password`, or neither.
pub fn auth(table: &mut Table) -> Auth {
    let token = table.reference("token");
    let basic = credentials::pair(table);
    if let Some(token) = token {
        token.warn_inline();
        let message = "is not used: `token` stands beside it and wins; remove one of the two";
        table.warn(&["user", "password"], message);
        return Auth::Bearer(token.value);
    }
    basic.map_or(Auth::None, |(user, password)| Auth::Basic { user, password })
}

/// Warns of a secret that is sent for everybody on the way to read.
pub fn warn_clear_text(table: &Table, key: &'static str, url: &Url, auth: &Auth) {
    if let (Some(message), true) = (address::clear_text(url), *auth != Auth::None) {
        table.warn(&[key], message);
    }
}
