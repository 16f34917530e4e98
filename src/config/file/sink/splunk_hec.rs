//! `type = "splunk_hec"`.

use url::Url;

use super::remote::{gzip_at_most, url, wants_json, warn_clear_text};
use super::{Context, SEC};
use crate::config::file::address::no_query;
use crate::config::file::http::Http;
use crate::config::raw::Table;
use crate::config::{Auth, Compression, PeerConfig, SplunkHecConfig};

const EXAMPLE: &str = "https://splunk.example.com:8088";

pub fn read(table: &mut Table, context: &Context) -> Option<PeerConfig> {
    let url = url(table, "url", EXAMPLE).and_then(|url| url.check(is_base));
    let token = table.reference("token");
    table.require("token", "{ file = \"/path\" }");
    let http = Http::read(table);
    let mut text = |key, example| table.text(key, example).map(|found| found.value);
    let index = text("index", "audit");
    let source = text("source", "confluence");
    let sourcetype = text("sourcetype", "confluence:audit");
    let host = text("host", "wiki.example.com");
    let (mut acknowledge, mut timeout) = (false, SplunkHecConfig::ACKNOWLEDGE_TIMEOUT);
    table.flag("acknowledge", &mut acknowledge);
    table.duration("acknowledge_timeout", SEC..=3600 * SEC, &mut timeout);
    let compression = gzip_at_most(table, Compression::None);
    wants_json(table, context.format);
    let (url, token) = (url?.value, token?);
    token.warn_inline();
    let auth = Auth::Scheme("Splunk", token.value);
    warn_clear_text(table, "url", &url, &auth);
    Some(PeerConfig::SplunkHec(Box::new(SplunkHecConfig {
        http: http.config(url, auth),
        index,
        source,
        sourcetype,
        host,
        acknowledge: acknowledge.then_some(timeout),
        compression,
    })))
}

/// A proxy before Splunk may have a path of its own; the collector's is added to it.
fn is_base(url: &Url) -> Result<(), String> {
    if url.path().contains("/services/collector") {
        return Err(format!(
            "names the collector's path, which the agent adds itself; end it before, as in \"{EXAMPLE}\""
        ));
    }
    no_query(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

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
