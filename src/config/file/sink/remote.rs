//! What all sinks that reach a server have in common.

use std::time::Duration;

use url::Url;

use super::{KIB, SEC, ZERO};
use crate::config::file::{address, credentials};
use crate::config::raw::Table;
use crate::config::{Auth, Compression, FormatKind, OnPoison, RemoteSinkConfig};

const ON_POISON: [(&str, OnPoison); 2] = [("quarantine", OnPoison::Quarantine), ("stop", OnPoison::Stop)];
pub(super) const COMPRESSIONS: [(&str, Compression); 3] =
    [("none", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)];

/// What the keys say that all have.
#[derive(Default)]
pub(super) struct RemoteKeys {
    pub bytes: Option<u64>,
    events: Option<usize>,
    wait: Option<Duration>,
    pub concurrency: Option<usize>,
    on_poison: Option<OnPoison>,
}

impl RemoteKeys {
    pub(super) fn read(table: &mut Table) -> RemoteKeys {
        let mut common = RemoteKeys::default();
        table.size("batch_bytes", KIB..=64 << 20, &mut common.bytes);
        table.count("batch_events", 1..=100_000, &mut common.events);
        table.duration("batch_wait", ZERO..=600 * SEC, &mut common.wait);
        table.count("concurrency", 1..=16, &mut common.concurrency);
        table.choice("on_poison", &ON_POISON, &mut common.on_poison);
        common
    }

    /// Over the defaults of a sink.
    pub(super) fn over(self, mut config: RemoteSinkConfig) -> RemoteSinkConfig {
        config.batch.bytes = self.bytes.map_or(config.batch.bytes, |bytes| bytes as usize);
        config.batch.events = self.events.unwrap_or(config.batch.events);
        config.batch.wait = self.wait.or(config.batch.wait);
        config.concurrency = self.concurrency.unwrap_or(config.concurrency);
        config.on_poison = self.on_poison.unwrap_or(config.on_poison);
        config
    }
}

/// `compression`, where zstd is not known.
pub(super) fn gzip_at_most(table: &mut Table, default: Compression) -> Compression {
    let mut found = default;
    table.choice("compression", &COMPRESSIONS, &mut found);
    if found == Compression::Zstd {
        table.refuse(&["compression"], "is not known there; write \"gzip\" or \"none\"");
    }
    found
}

/// Reports that a format which is no JSON cannot be sent there.
pub(super) fn wants_json(table: &Table, format: FormatKind) {
    if format == FormatKind::Cef {
        let message = "is no JSON, which alone can be sent there; remove it, or write \"raw\"";
        table.refuse(&["format"], message);
    }
}

/// A server's address that must be there.
pub(super) fn url(table: &mut Table, key: &'static str, example: &str) -> Option<Url> {
    table.required(key, example, |text| address::server(text, example))
}

/// `token`, or `user` and `password`, or neither.
pub(super) fn auth(table: &mut Table) -> Auth {
    let token = table.reference("token");
    let basic = credentials::pair(table);
    if let Some(token) = token {
        token.warn_inline();
        let message = "is not used: `token` is given too and wins; remove one of the two";
        table.warn(&["user", "password"], message);
        return Auth::Bearer(token.value);
    }
    basic.map_or(Auth::None, |(user, password)| Auth::Basic { user, password })
}

/// Warns of a secret that is sent for everybody on the way to read.
pub(super) fn warn_clear_text(table: &Table, key: &str, url: &Url, auth: &Auth) {
    if let (Some(message), true) = (address::clear_text(url), *auth != Auth::None) {
        table.warn(&[key], message);
    }
}
