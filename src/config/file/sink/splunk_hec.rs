//! `type = "splunk_hec"`.

use std::time::Duration;

use url::Url;

use super::remote::{gzip_at_most, missing, url, wants_json, warn_clear_text};
use crate::config::file::http::Http;
use crate::config::raw::{Problems, Table};
use crate::config::reference::warn_inline;
use crate::config::{Auth, Compression, FormatKind, SplunkHecConfig};

pub const KEYS: [&str; 8] = [
    "url",
    "token",
    "index",
    "source",
    "sourcetype",
    "host",
    "acknowledge",
    "acknowledge_timeout",
];

const EXAMPLE: &str = "https://splunk.example.com:8088";

pub fn table(table: &mut Table, format: FormatKind, problems: &mut Problems) -> Option<SplunkHecConfig> {
    let url = url(table, "url", EXAMPLE, problems);
    let url = url.filter(|url| is_base(table, url, problems));
    let token = table.reference("token", problems);
    missing(table, "token", "{ file = \"/path\" }", problems);
    let http = Http::read(table, problems);
    let mut text = |key, example| table.text(key, example, problems).map(|found| found.value);
    let index = text("index", "audit");
    let source = text("source", "confluence");
    let sourcetype = text("sourcetype", "confluence:audit");
    let host = text("host", "wiki.example.com");
    let acknowledge = table.flag("acknowledge", problems).unwrap_or(false);
    let range = Duration::from_secs(1)..=Duration::from_secs(3600);
    let timeout = table.duration("acknowledge_timeout", range, problems);
    let compression = gzip_at_most(table, Compression::None, problems);
    wants_json(table, format, problems);
    let (url, token) = (url?, token?);
    warn_inline(&token, problems);
    let auth = Auth::Scheme("Splunk", token.value);
    warn_clear_text(table, "url", &url, &auth, problems);
    Some(SplunkHecConfig {
        http: http.config(url, auth),
        index,
        source,
        sourcetype,
        host,
        acknowledge: acknowledge.then(|| timeout.unwrap_or(SplunkHecConfig::ACKNOWLEDGE_TIMEOUT)),
        compression,
    })
}

/// A proxy before Splunk may have a path of its own; the collector's is added to it.
fn is_base(table: &Table, url: &Url, problems: &mut Problems) -> bool {
    let message = if url.path().contains("/services/collector") {
        format!("names the collector's path, which the agent adds itself; end it before, as in \"{EXAMPLE}\"")
    } else if url.query().is_some() {
        "has a query; end it before the `?`".into()
    } else {
        return true;
    };
    if let Some(span) = table.place_of("url") {
        problems.add(span, table.key("url"), message);
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Reference, RemoteSinkConfig, SinkKind};

    #[test]
    fn every_value_reaches_its_place() {
        let text = r#"
            [[source]]
            name = "wiki"
            type = "data_center"
            [[sink]]
            name = "out"
            type = "splunk_hec"
            url = "https://s.example.com/hec"
            token = { env = "T" }
            index = "i"
            source = "s"
            sourcetype = "t"
            host = "h"
            acknowledge = true
            acknowledge_timeout = "7s"
            compression = "gzip"
            batch_bytes = "2KiB"
        "#;
        let config = crate::config::file::read(Path::new("x.toml"), text, false).unwrap();
        let SinkKind::Remote(remote) = &config.sinks[0].kind else {
            panic!()
        };
        let RemoteSinkConfig { peer, batch, .. } = &**remote;
        let crate::config::PeerConfig::SplunkHec(found) = peer else {
            panic!()
        };
        let text = |text: &str| Some(text.to_owned());
        let expected = SplunkHecConfig {
            http: crate::config::HttpConfig::new(
                Url::parse("https://s.example.com/hec").unwrap(),
                Auth::Scheme("Splunk", Reference::Env("T".into())),
            ),
            index: text("i"),
            source: text("s"),
            sourcetype: text("t"),
            host: text("h"),
            acknowledge: Some(Duration::from_secs(7)),
            compression: Compression::Gzip,
        };
        assert_eq!((&**found, batch.bytes), (&expected, 2048));
        assert_eq!(config.warnings, []);
    }
}
