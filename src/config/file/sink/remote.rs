//! What all sinks that reach a server have in common.

use std::time::Duration;

use super::{KIB, set};
use crate::config::file::address::{self, clear_text};
use crate::config::file::credentials;
use crate::config::raw::{Problems, Table};
use crate::config::{Auth, Compression, FormatKind, OnPoison, RemoteSinkConfig};
use url::Url;

pub const KEYS: [&str; 5] = [
    "batch_bytes",
    "batch_events",
    "batch_wait",
    "concurrency",
    "on_poison",
];

const ON_POISON: [(&str, OnPoison); 2] = [("quarantine", OnPoison::Quarantine), ("stop", OnPoison::Stop)];
const COMPRESSIONS: [(&str, Compression); 3] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("zstd", Compression::Zstd),
];

/// What stands in the common keys.
pub struct Common {
    bytes: Option<u64>,
    events: Option<usize>,
    wait: Option<Duration>,
    concurrency: Option<usize>,
    on_poison: Option<OnPoison>,
}

impl Common {
    pub fn read(table: &mut Table, problems: &mut Problems) -> Common {
        let wait = Duration::ZERO..=Duration::from_secs(600);
        Common {
            bytes: table.size("batch_bytes", KIB..=64 << 20, problems),
            events: table.count("batch_events", 1..=100_000, problems),
            wait: table.duration("batch_wait", wait, problems),
            concurrency: table.count("concurrency", 1..=16, problems),
            on_poison: table
                .choice("on_poison", &ON_POISON, &[], problems)
                .map(|found| found.value),
        }
    }

    pub fn concurrency(&self) -> Option<usize> {
        self.concurrency
    }

    /// Says where `batch_bytes` is more than a server takes; `message` says what it takes.
    pub fn at_most(&self, bytes: usize, message: &str, table: &Table, problems: &mut Problems) {
        if let (Some(stated), Some(span)) = (self.bytes, table.place_of("batch_bytes"))
            && stated > bytes as u64
        {
            problems.add(span, table.key("batch_bytes"), message);
        }
    }

    /// Over the defaults of a sink.
    pub fn over(self, mut config: RemoteSinkConfig) -> RemoteSinkConfig {
        set(&mut config.batch.bytes, self.bytes.map(|bytes| bytes as usize));
        set(&mut config.batch.events, self.events);
        set(&mut config.batch.wait, self.wait);
        set(&mut config.concurrency, self.concurrency);
        set(&mut config.on_poison, self.on_poison);
        config
    }
}

pub fn compression(table: &mut Table, default: Compression, problems: &mut Problems) -> Compression {
    table
        .choice("compression", &COMPRESSIONS, &[], problems)
        .map_or(default, |found| found.value)
}

/// As [`compression`], where zstd is not known.
pub fn gzip_at_most(table: &mut Table, default: Compression, problems: &mut Problems) -> Compression {
    let found = compression(table, default, problems);
    if let (Compression::Zstd, Some(span)) = (found, table.place_of("compression")) {
        let message = "is not known there; write \"gzip\" or \"none\"";
        problems.add(span, table.key("compression"), message);
    }
    found
}

/// Says that a format which is no JSON cannot be sent there.
pub fn wants_json(table: &Table, format: FormatKind, problems: &mut Problems) {
    if let (FormatKind::Cef, Some(span)) = (format, table.place_of("format")) {
        let message = "is no JSON, which alone can be sent there; remove it, or write \"raw\"";
        problems.add(span, table.key("format"), message);
    }
}

/// Says that a key which has been asked for must be there.
pub fn missing(table: &Table, key: &'static str, example: &str, problems: &mut Problems) {
    if !table.had(key) && !table.has_like(key) {
        let message = format!("is missing; add `{key} = {example}`");
        problems.add(&table.span, table.key(key), message);
    }
}

/// A server's address that must be there.
pub fn url(table: &mut Table, key: &'static str, example: &str, problems: &mut Problems) -> Option<Url> {
    let found = table.text(key, example, problems);
    missing(table, key, &format!("\"{example}\""), problems);
    let found = found?;
    match address::server(&found.value, example) {
        Ok(url) => Some(url),
        Err(message) => {
            problems.add(&found.span, found.key, message);
            None
        }
    }
}

/// `token`, or `user` and `password`, or neither.
pub fn auth(table: &mut Table, problems: &mut Problems) -> Auth {
    let token = table.reference("token", problems);
    let basic = credentials::pair(table, problems);
    if token.is_some() {
        for key in ["user", "password"] {
            if let Some(span) = table.place_of(key) {
                let message = "is not used: `token` stands beside it and wins; remove one of the two";
                problems.warn(span, table.key(key), message);
            }
        }
    }
    match (token, basic) {
        (Some(token), _) => {
            crate::config::reference::warn_inline(&token, problems);
            Auth::Bearer(token.value)
        }
        (None, Some((user, password))) => Auth::Basic { user, password },
        (None, None) => Auth::None,
    }
}

/// Warns of a secret that is sent for everybody on the way to read.
pub fn warn_clear_text(table: &Table, key: &'static str, url: &Url, auth: &Auth, problems: &mut Problems) {
    if let (Some(message), Some(span)) = (clear_text(url), table.place_of(key))
        && *auth != Auth::None
    {
        problems.warn(span, table.key(key), message);
    }
}
