//! The keys of `[[source]]` that concern an audit API.

use std::time::Duration;

use url::Url;

use super::http::Http;
use super::{DAY, SEC, address, credentials};
use crate::clock;
use crate::config::raw::{ConfigValue, Table};
use crate::config::remote::*;

const GATEWAY: &str = "https://api.atlassian.com";

/// Asks for every key, so that each is known. `None` when the source has no API, or when something without which there is
/// none is missing or wrong; that has been reported then, what is missing only if an API is `wanted`.
pub fn read(table: &mut Table, cloud: bool, wanted: bool) -> Option<ApiConfig> {
    let base = base(table, cloud, wanted);
    let auth = credentials::auth(table, cloud, wanted);
    let product = product(table, cloud);
    let start = start(table);
    let expires_ms = table.time("token_expires");
    let name = table.text("token_name", "audit agent").map(|name| name.value);
    if cloud {
        let message = "is for Data Center: Cloud tells nothing about tokens; write `token_expires`";
        table.refuse(&["token_name"], message);
    }
    let (mut poll_interval, mut page_size, mut overlap, mut late_rows_interval) = (None, None, None, None);
    let mut drop_self_polls = false;
    table.duration("poll_interval", SEC / 10..=DAY, &mut poll_interval);
    table.count("page_size", 1..=1000, &mut page_size);
    table.duration("overlap", Duration::ZERO..=7 * DAY, &mut overlap);
    table.duration(
        "late_rows_interval",
        Duration::ZERO..=30 * DAY,
        &mut late_rows_interval,
    );
    table.flag("drop_self_polls", &mut drop_self_polls);
    let http = Http::read(table);

    let defaults = ApiConfig::new(product?, http.config(base?, auth?));
    let overlap = overlap.unwrap_or(defaults.overlap);
    // What is read again now and then is no shorter than what is read again each time.
    let late_rows_interval = late_rows_interval.unwrap_or(defaults.late_rows_interval.max(overlap));
    if late_rows_interval < overlap {
        let message = "is shorter than `overlap`, which is read again by each poll; write more than that";
        table.refuse(&["late_rows_interval"], message);
    }
    Some(ApiConfig {
        start: start.unwrap_or(defaults.start),
        poll_interval: poll_interval.unwrap_or(defaults.poll_interval),
        page_size: page_size.unwrap_or(defaults.page_size),
        overlap,
        late_rows_interval,
        drop_self_polls,
        token: TokenConfig { expires_ms, name },
        ..defaults
    })
}

/// `url` of a Data Center, `site` of a Cloud.
fn base(table: &mut Table, cloud: bool, wanted: bool) -> Option<Url> {
    const URL: &str = "https://confluence.example.com";
    const SITE: &str = "acme.atlassian.net";
    let url = table.text("url", URL);
    let site = table.text("site", SITE);
    let (key, other, kind, example) = match cloud {
        true => ("site", "url", "Data Center", SITE),
        false => ("url", "site", "Cloud", URL),
    };
    if wanted && table.had(other) {
        let message = format!("is for {kind}; write `{key}`, as in `{key} = \"{example}\"`");
        table.refuse(&[other], &message);
        return None;
    }
    if wanted {
        table.require(key, &format!("\"{example}\""));
    }
    match cloud {
        true => encrypted(site?, address::site),
        false => encrypted(url?, address::data_center),
    }
}

/// An address, with a warning where it is not encrypted.
fn encrypted(found: ConfigValue<String>, parse: fn(&str) -> Result<Url, String>) -> Option<Url> {
    let url = found.parse(|text| parse(text))?;
    if let Some(message) = address::clear_text(&url.value) {
        url.warn(message);
    }
    Some(url.value)
}

fn product(table: &mut Table, cloud: bool) -> Option<Product> {
    let mut scoped = false;
    table.flag("scoped", &mut scoped);
    let cloud_id = table.text("cloud_id", "1a2b3c4d-0000-4000-8000-123456789abc");
    // Atlassian's government cloud has another.
    let gateway = match table.text("gateway", GATEWAY) {
        Some(found) => encrypted(found, address::gateway),
        None => address::gateway(GATEWAY).ok(),
    };
    if !cloud {
        table.refuse(
            &["scoped", "cloud_id", "gateway"],
            "is for `type = \"cloud\"`; remove it",
        );
        return Some(Product::DataCenter);
    }
    // It becomes a part of an address.
    let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let cloud_id = cloud_id.and_then(|id| {
        id.check(|id| match id.len() == 36 && id.bytes().all(fits) {
            false => Err("is no cloud id; write it as it stands at `https://SITE/_edge/tenant_info`, or remove it: it is looked up"),
            true if !scoped => Err("has a meaning for scoped tokens only; add `scoped = true`, or remove it"),
            true => Ok(()),
        })
    });
    Some(Product::Cloud {
        scoped,
        cloud_id: cloud_id.map(|id| id.value),
        gateway: gateway?,
    })
}

fn start(table: &mut Table) -> Option<Start> {
    let found = table.start("start")?.check(|start| match start {
        Start::Ago(ago) if *ago > 3650 * DAY => Err("is more than ten years; write at most \"3650d\""),
        _ => Ok(()),
    })?;
    if matches!(found.value, Start::At(ms) if ms > clock::now_ms()) {
        found.warn("lies in the future: nothing that is older will be read; write when the first events are wanted from");
    }
    Some(found.value)
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
