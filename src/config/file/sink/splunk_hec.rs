//! `type = "splunk_hec"`.

use url::Url;

use super::remote::{RemoteKeys, gzip_at_most, url, wants_json, warn_clear_text};
use super::{Context, SEC};
use crate::config::file::address::no_query;
use crate::config::file::http;
use crate::config::raw::Table;
use crate::config::words::ensure;
use crate::config::{Auth, Compression, DestinationConfig, SplunkHecConfig};

const EXAMPLE: &str = "https://splunk.example.com:8088";

pub(super) fn read(table: &mut Table, context: &Context, _: &RemoteKeys) -> Option<DestinationConfig> {
    let url = url(table, "url", EXAMPLE);
    if let Some(Err(message)) = url.as_ref().map(check_base) {
        table.error("url", message);
    }
    let token = table.reference("token");
    table.require("token", "{ file = \"/path\" }");
    let auth = token.map(|token| {
        token.warn_inline();
        Auth::Scheme("Splunk", token.value)
    });
    let http = http::read(table, url, auth);
    let index = table.text("index", "audit");
    let source = table.text("source", "confluence");
    let sourcetype = table.text("sourcetype", "confluence:audit");
    let host = table.text("host", "wiki.example.com");
    let (mut acknowledge, mut timeout) = (false, SplunkHecConfig::ACKNOWLEDGE_TIMEOUT);
    table.flag("acknowledge", &mut acknowledge);
    table.duration("acknowledge_timeout", SEC..=3600 * SEC, &mut timeout);
    let compression = gzip_at_most(table, Compression::None);
    wants_json(table, context.format);
    let http = http?;
    warn_clear_text(table, "url", &http.base, &http.auth);
    Some(DestinationConfig::SplunkHec(Box::new(SplunkHecConfig {
        http,
        index,
        source,
        sourcetype,
        host,
        acknowledge: acknowledge.then_some(timeout),
        compression,
    })))
}

/// A proxy before Splunk may have a path of its own; the collector's is added to it.
fn check_base(url: &Url) -> Result<(), String> {
    let message = format!(
        "names the collector's path, which the agent adds itself; end it before, as in \"{EXAMPLE}\""
    );
    ensure(!url.path().contains("/services/collector"), message)?;
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
        let SinkKind::Remote(remote) = &config.sinks[0].kind else { panic!() };
        let RemoteSinkConfig { destination, batch, .. } = &**remote;
        let crate::config::DestinationConfig::SplunkHec(found) = destination else { panic!() };
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
