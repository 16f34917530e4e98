//! `type = "http"`.

use reqwest::Method;
use toml::de::DeValue;

use super::Context;
use super::remote::{COMPRESSIONS, RemoteKeys, auth, url, warn_clear_text};
use crate::config::file::http;
use crate::config::raw::Table;
use crate::config::{Compression, DestinationConfig, FormatKind, HttpBody, HttpSinkConfig};

const BODIES: [(&str, HttpBody); 2] = [("ndjson", HttpBody::Ndjson), ("array", HttpBody::Array)];

pub(super) fn read(table: &mut Table, context: &Context, _: &RemoteKeys) -> Option<DestinationConfig> {
    let url = url(table, "url", "https://collector.example.com/audit");
    let auth = auth(table);
    let http = http::read(table, url, Some(auth));
    let method = table.parsed("method", "POST", parse_method);
    let (mut body, mut compression) = (HttpBody::Ndjson, Compression::None);
    table.choice("body", &BODIES, &mut body);
    if body == HttpBody::Array && context.format == FormatKind::Cef {
        let message =
            "makes a JSON array, and `format = \"cef\"` is no JSON; write \"ndjson\", or another format";
        table.refuse(&["body"], message);
    }
    let success = success(table);
    table.choice("compression", &COMPRESSIONS, &mut compression);
    let http = http?;
    warn_clear_text(table, "url", &http.base, &http.auth);
    Some(DestinationConfig::Http(Box::new(HttpSinkConfig {
        http,
        method: method.unwrap_or(Method::POST),
        body,
        success,
        compression,
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
    let wanted = "an array of statuses, as in `success = [200, 202]`";
    table.read("success", wanted, |value| {
        let values = value.as_array().ok_or(None)?.iter();
        let statuses: Option<Vec<u16>> = values.map(|value| status(value.get_ref())).collect();
        let good = |statuses: &Vec<u16>| {
            !statuses.is_empty() && statuses.iter().all(|status| (200..300).contains(status))
        };
        let message = "holds what is no status from 200 to 299; others never mean that events are safe";
        statuses.filter(good).ok_or(Some(message.into()))
    })
}
