//! `type = "http"`.

use toml::de::DeValue;

use super::remote::{auth, compression, url, warn_clear_text};
use crate::config::file::http::Http;
use crate::config::raw::{Problems, Table};
use crate::config::{Compression, FormatKind, HttpBody, HttpSinkConfig};

pub const KEYS: [&str; 7] = ["url", "method", "body", "success", "token", "user", "password"];

const BODIES: [(&str, HttpBody); 2] = [("ndjson", HttpBody::Ndjson), ("array", HttpBody::Array)];

pub fn table(table: &mut Table, format: FormatKind, problems: &mut Problems) -> Option<HttpSinkConfig> {
    let url = url(table, "url", "https://collector.example.com/audit", problems);
    let auth = auth(table, problems);
    let http = Http::read(table, problems);
    let method = method(table, problems);
    let body = table.choice("body", &BODIES, &[], problems);
    if let Some(body) = &body
        && body.value == HttpBody::Array
        && format == FormatKind::Cef
    {
        let message =
            "makes a JSON array, and `format = \"cef\"` is no JSON; write \"ndjson\", or another format";
        problems.add(&body.span, body.key.clone(), message);
    }
    let success = success(table, problems);
    let compression = compression(table, Compression::None, problems);
    let url = url?;
    warn_clear_text(table, "url", &url, &auth, problems);
    Some(HttpSinkConfig {
        http: http.config(url, auth),
        method,
        body: body.map_or(HttpBody::Ndjson, |found| found.value),
        success,
        compression,
    })
}

fn method(table: &mut Table, problems: &mut Problems) -> reqwest::Method {
    let Some(found) = table.text("method", "POST", problems) else {
        return reqwest::Method::POST;
    };
    let is_word = found.value.bytes().all(|byte| byte.is_ascii_uppercase());
    match reqwest::Method::from_bytes(found.value.as_bytes()) {
        Ok(method) if is_word => method,
        _ => {
            let message = format!("`{}` is no method; write \"POST\" or \"PUT\"", found.value);
            problems.add(&found.span, found.key, message);
            reqwest::Method::POST
        }
    }
}

fn success(table: &mut Table, problems: &mut Problems) -> Option<Vec<u16>> {
    let wanted = "an array of statuses, as in `success = [200, 202]`";
    let found = table.read("success", wanted, problems, |value| {
        let DeValue::Array(values) = value else {
            return Err(None);
        };
        let statuses = values.iter().map(|value| match value.get_ref() {
            DeValue::Integer(number) if number.radix() == 10 => number.as_str().parse().ok(),
            _ => None,
        });
        let statuses: Option<Vec<u16>> = statuses.collect();
        statuses
            .filter(|statuses| !statuses.is_empty() && statuses.iter().all(|s| (200..300).contains(s)))
            .ok_or_else(|| {
                Some("holds what is no status from 200 to 299; others never mean that events are safe".into())
            })
    })?;
    Some(found.value)
}
