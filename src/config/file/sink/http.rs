//! `type = "http"`.

use reqwest::Method;
use toml::de::DeValue;

use super::Context;
use super::remote::{auth, compression, url, warn_clear_text};
use crate::config::file::http::Http;
use crate::config::raw::Table;
use crate::config::{Compression, FormatKind, HttpBody, HttpSinkConfig, PeerConfig};

const BODIES: [(&str, HttpBody); 2] = [("ndjson", HttpBody::Ndjson), ("array", HttpBody::Array)];

pub fn read(table: &mut Table, context: &Context) -> Option<PeerConfig> {
    let url = url(table, "url", "https://collector.example.com/audit");
    let auth = auth(table);
    let http = Http::read(table);
    let method = table
        .text("method", "POST")
        .and_then(|found| found.parse(|method| parse_method(method)));
    let (mut body, mut compressed) = (HttpBody::Ndjson, Compression::None);
    table.choice("body", &BODIES, &mut body);
    if body == HttpBody::Array && context.format == FormatKind::Cef {
        let message =
            "makes a JSON array, and `format = \"cef\"` is no JSON; write \"ndjson\", or another format";
        table.refuse(&["body"], message);
    }
    let success = success(table);
    compression(table, &mut compressed);
    let url = url?.value;
    warn_clear_text(table, "url", &url, &auth);
    Some(PeerConfig::Http(Box::new(HttpSinkConfig {
        http: http.config(url, auth),
        method: method.map_or(Method::POST, |found| found.value),
        body,
        success,
        compression: compressed,
    })))
}

fn parse_method(method: &str) -> Result<Method, String> {
    let is_word = method.bytes().all(|byte| byte.is_ascii_uppercase());
    let known = Method::from_bytes(method.as_bytes()).ok().filter(|_| is_word);
    known.ok_or_else(|| format!("`{method}` is no method; write \"POST\" or \"PUT\""))
}

fn success(table: &mut Table) -> Option<Vec<u16>> {
    let status = |value: &DeValue| match value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
        _ => None,
    };
    let found = table.read(
        "success",
        "an array of statuses, as in `success = [200, 202]`",
        |value| {
            let values = value.as_array().ok_or(None)?.iter();
            let statuses: Option<Vec<u16>> = values.map(|value| status(value.get_ref())).collect();
            statuses
                .filter(|statuses| !statuses.is_empty() && statuses.iter().all(|s| (200..300).contains(s)))
                .ok_or_else(|| {
                    Some(
                        "holds what is no status from 200 to 299; others never mean that events are safe"
                            .into(),
                    )
                })
        },
    )?;
    Some(found.value)
}
