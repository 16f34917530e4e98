//! `type = "elasticsearch"`.

use url::Url;

use super::Context;
use super::remote::{COMPRESSIONS, RemoteKeys, auth, warn_clear_text};
use crate::config::checked::FormatKind;
use crate::config::file::address;
use crate::config::file::http;
use crate::config::file::namespace;
use crate::config::raw::Table;
use crate::config::words::ensure;
use crate::config::{Auth, Compression, DestinationConfig, ElasticsearchConfig, Target};

const EXAMPLE: &str = "https://elastic.example.com:9200";
/// Of Elasticsearch, for the name of an index.
const INDEX_BYTES_MAX: usize = 255;

pub(super) fn read(table: &mut Table, context: &Context, _: &RemoteKeys) -> Option<DestinationConfig> {
    let hosts = hosts(table);
    let api_key = table.reference("api_key");
    let mut auth = auth(table);
    if let Some(api_key) = api_key {
        api_key.warn_inline();
        let message = "is not used: `api_key` is given too and wins; remove one of the two";
        table.warn(&["token", "user", "password"], message);
        auth = Auth::Scheme("ApiKey", api_key.value);
    }
    let first = hosts.as_ref().and_then(|hosts| hosts.first().cloned());
    let http = http::read(table, first, Some(auth));
    let mut compression = Compression::None;
    table.choice("compression", &COMPRESSIONS, &mut compression);
    if compression == Compression::Zstd {
        let message = "is \"zstd\", which neither Elasticsearch nor OpenSearch reads; write \"gzip\"";
        table.refuse(&["compression"], message);
    }
    let target = target(table, context.namespace);
    let template = table.text("template", ElasticsearchConfig::TEMPLATE);
    let pipeline = table.text("pipeline", "audit-enrichment");
    match (&target, context.format) {
        (_, FormatKind::Cef) => table.error("format", "is \"cef\", which is no JSON; write \"ecs\""),
        (_, FormatKind::Ecs) | (Some(Target::Index(_)) | None, _) => {}
        (Some(Target::DataStream(_)), _) => table.error(
            "format",
            "has no `@timestamp`, which a data stream needs; write `format = \"ecs\"`, or name an `index`",
        ),
    }
    let (http, hosts) = (http?, hosts?);
    if let Some(open) = hosts.iter().find(|url| address::clear_text(url).is_some()) {
        warn_clear_text(table, "hosts", open, &http.auth);
    }
    Some(DestinationConfig::Elasticsearch(Box::new(ElasticsearchConfig {
        http,
        hosts,
        target: target?,
        compression,
        template: template.unwrap_or(ElasticsearchConfig::TEMPLATE.into()),
        pipeline,
    })))
}

fn hosts(table: &mut Table) -> Option<Vec<Url>> {
    let hosts = table.texts("hosts", EXAMPLE);
    table.require("hosts", &format!("[\"{EXAMPLE}\"]"));
    parse_hosts(&hosts?).map_err(|message| table.error("hosts", message)).ok()
}

fn parse_hosts(hosts: &[String]) -> Result<Vec<Url>, String> {
    ensure(!hosts.is_empty(), format!("is empty; write `hosts = [\"{EXAMPLE}\"]`"))?;
    let mut urls: Vec<Url> = Vec::new();
    for text in hosts {
        let url = address::base(text, EXAMPLE)?;
        let same = urls.first().is_none_or(|first| first.scheme() == url.scheme());
        ensure(same, "mixes `http://` and `https://`; write the same for all")?;
        ensure(!urls.contains(&url), format!("names `{url}` twice; remove one"))?;
        urls.push(url);
    }
    Ok(urls)
}

/// `own_namespace` is that of the events.
fn target(table: &mut Table, own_namespace: &str) -> Option<Target> {
    let mut stream = table.table("data_stream");
    let chosen = namespace(&mut stream);
    if chosen.as_ref().is_some_and(|chosen| chosen != own_namespace) && !table.has("index") {
        let message = format!(
            "is another than that of the events, `{own_namespace}`, and Elastic's own templates refuse events of another; \
             set `namespace` in `[event]` instead"
        );
        stream.warn(&["namespace"], &message);
    }
    stream.finish(|_| None);
    let index = table.checked("index", "confluence-audit", check_index);
    if table.had("index") {
        let message = "is not used: `index` is given too and wins; remove one of the two";
        table.warn(&["data_stream"], message);
        return index.map(Target::Index);
    }
    let namespace = chosen.as_deref().unwrap_or(own_namespace);
    Some(Target::DataStream(format!("{}{namespace}", Target::DATA_STREAMS)))
}

/// Elasticsearch's rule.
fn check_index(name: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_uppercase() && !c.is_whitespace() && !"\\/*?\"<>|,#:".contains(c);
    let good =
        name.len() <= INDEX_BYTES_MAX && !name.starts_with(['-', '_', '+', '.']) && name.chars().all(fits);
    let message = format!(
        "`{name}` cannot be the name of an index; write at most {INDEX_BYTES_MAX} bytes without upper case, blanks and \\/*?\"<>|,#:, a letter or digit first"
    );
    ensure(good, message)
}

#[cfg(test)]
mod tests {
    use super::check_index;

    #[test]
    fn an_index_has_a_name_that_elasticsearch_takes() {
        for name in ["a", "confluence-audit", "audit_2026.1", "журнал", &"x".repeat(255)] {
            check_index(name).unwrap();
        }
        for name in
            ["Audit", "a b", "a*", "a/b", "a,b", "_all", "-a", "+a", ".", "..", ".a", "a:b", &"x".repeat(256)]
        {
            assert!(check_index(name).is_err(), "{name}");
        }
    }
}
