//! `type = "elasticsearch"`.

use url::Url;

use super::remote::{auth, compression, warn_clear_text};
use crate::config::checked::FormatKind;
use crate::config::file::address;
use crate::config::file::http::Http;
use crate::config::file::namespace;
use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::reference::warn_inline;
use crate::config::{Auth, Compression, ElasticsearchConfig, Target};

pub const KEYS: [&str; 9] = [
    "hosts",
    "api_key",
    "token",
    "user",
    "password",
    "data_stream",
    "index",
    "template",
    "pipeline",
];

const EXAMPLE: &str = "https://elastic.example.com:9200";
/// Of Elasticsearch, for the name of an index.
const INDEX_BYTES_MAX: usize = 255;

/// `own_namespace` is that of the events.
pub fn table(
    table: &mut Table,
    format: FormatKind,
    own_namespace: &str,
    problems: &mut Problems,
) -> Option<ElasticsearchConfig> {
    let hosts = hosts(table, problems);
    let api_key = table.reference("api_key", problems);
    let other = auth(table, problems);
    let auth = match api_key {
        Some(api_key) => {
            warn_inline(&api_key, problems);
            for key in ["token", "user", "password"] {
                if let Some(span) = table.place_of(key) {
                    let message = "is not used: `api_key` stands beside it and wins; remove one of the two";
                    problems.warn(span, table.key(key), message);
                }
            }
            Auth::Scheme("ApiKey", api_key.value)
        }
        None => other,
    };
    let http = Http::read(table, problems);
    let compression = compression(table, Compression::None, problems);
    if let (Compression::Zstd, Some(span)) = (compression, table.place_of("compression")) {
        let message = "is \"zstd\", which neither Elasticsearch nor OpenSearch reads; write \"gzip\"";
        problems.add(span, table.key("compression"), message);
    }
    let target = target(table, own_namespace, problems);
    let template = table.text("template", ElasticsearchConfig::TEMPLATE, problems);
    let pipeline = table.text("pipeline", "audit-enrichment", problems);
    if format == FormatKind::Cef {
        let message = "is \"cef\", which is no JSON; write \"ecs\"";
        let span = table.place_of("format").unwrap_or(&table.span);
        problems.add(span, table.key("format"), message);
    } else if let (Some(Target::DataStream(_)), true) = (&target, format != FormatKind::Ecs) {
        let message =
            "has no `@timestamp`, which a data stream needs; write `format = \"ecs\"`, or name an `index`";
        let span = table.place_of("format").unwrap_or(&table.span);
        problems.add(span, table.key("format"), message);
    }
    let hosts = hosts?;
    let first = hosts.first()?;
    if let Some(open) = hosts.iter().find(|url| address::clear_text(url).is_some()) {
        warn_clear_text(table, "hosts", open, &auth, problems);
    }
    Some(ElasticsearchConfig {
        http: http.config(first.clone(), auth),
        hosts,
        target: target?,
        compression,
        template: template.map_or(ElasticsearchConfig::TEMPLATE.into(), |found| found.value),
        pipeline: pipeline.map(|found| found.value),
    })
}

fn hosts(table: &mut Table, problems: &mut Problems) -> Option<Vec<Url>> {
    let found = table.texts("hosts", EXAMPLE, problems);
    if found.is_none() && !table.had("hosts") && !table.has_like("hosts") {
        let message = format!("is missing; add `hosts = [\"{EXAMPLE}\"]`");
        problems.add(&table.span, table.key("hosts"), message);
    }
    let ConfigValue { value, span, key } = found?;
    let mut urls: Vec<Url> = Vec::new();
    for text in &value {
        let url = address::server(text, EXAMPLE).and_then(|mut url| {
            if url.query().is_some() {
                return Err("has a query; end it before the `?`".into());
            }
            let path = url.path().trim_end_matches('/').to_owned();
            url.set_path(&path);
            match urls.first() {
                Some(first) if first.scheme() != url.scheme() => {
                    Err("mixes `http://` and `https://`; write the same for all".into())
                }
                _ if urls.contains(&url) => Err(format!("names `{url}` twice; remove one")),
                _ => Ok(url),
            }
        });
        match url {
            Ok(url) => urls.push(url),
            Err(message) => {
                problems.add(&span, key, message);
                return None;
            }
        }
    }
    if urls.is_empty() {
        problems.add(&span, key, format!("is empty; write `hosts = [\"{EXAMPLE}\"]`"));
        return None;
    }
    Some(urls)
}

fn target(table: &mut Table, own_namespace: &str, problems: &mut Problems) -> Option<Target> {
    let mut stream = table.table("data_stream", problems);
    let chosen = namespace(&mut stream, problems);
    if let (Some(chosen), Some(span)) = (&chosen, stream.place_of("namespace"))
        && chosen != own_namespace
        && !table.has("index")
    {
        let message = format!(
            "is another than that of the events, `{own_namespace}`, and Elastic's own templates refuse events of another; \
             set `namespace` in `[event]` instead"
        );
        problems.warn(span, stream.key("namespace"), message);
    }
    stream.finish(|_| None, problems);
    let index = table.text("index", "confluence-audit", problems);
    if let (true, Some(span)) = (table.had("index"), table.place_of("data_stream")) {
        let message = "is not used: `index` stands beside it and wins; remove one of the two";
        problems.warn(span, table.key("data_stream"), message);
    }
    if table.had("index") {
        let index = index?;
        return match check_index(&index.value) {
            Ok(()) => Some(Target::Index(index.value)),
            Err(message) => {
                problems.add(&index.span, index.key, message);
                None
            }
        };
    }
    let namespace = chosen.as_deref().unwrap_or(own_namespace);
    Some(Target::DataStream(format!("{}{namespace}", Target::DATA_STREAMS)))
}

/// Elasticsearch's rule.
fn check_index(name: &str) -> Result<(), String> {
    let fits = |c: char| !c.is_uppercase() && !c.is_whitespace() && !"\\/*?\"<>|,#:".contains(c);
    if name.len() <= INDEX_BYTES_MAX && !name.starts_with(['-', '_', '+', '.']) && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "`{name}` cannot be the name of an index; write at most {INDEX_BYTES_MAX} bytes without upper case, blanks and \\/*?\"<>|,#:, a letter or digit first"
    ))
}

#[cfg(test)]
mod tests {
    use super::check_index;

    #[test]
    fn an_index_has_a_name_that_elasticsearch_takes() {
        for name in [
            "a",
            "confluence-audit",
            "audit_2026.1",
            "журнал",
            &"x".repeat(255),
        ] {
            check_index(name).unwrap();
        }
        for name in [
            "Audit",
            "a b",
            "a*",
            "a/b",
            "a,b",
            "_all",
            "-a",
            "+a",
            ".",
            "..",
            ".a",
            "a:b",
            &"x".repeat(256),
        ] {
            assert!(check_index(name).is_err(), "{name}");
        }
    }
}
