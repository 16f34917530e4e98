//! The keys of `[[source]]` that concern an audit API.

use url::Url;

use super::{DAY, SEC, ZERO, address, credentials, http};
use crate::clock;
use crate::config::raw::Table;
use crate::config::remote::*;
use crate::config::words::ensure;

const GATEWAY: &str = "https://api.atlassian.com";

/// Asks for every key, so that each is known. `None` when the source has no API, or when something without which there
/// is none is missing or wrong; that has been reported then, what is missing only if an API is `wanted`.
pub(super) fn read(table: &mut Table, cloud: bool, wanted: bool) -> Option<ApiConfig> {
    let base = base(table, cloud, wanted);
    let auth = credentials::auth(table, cloud, wanted);
    let product = product(table, cloud);
    let start = start(table);
    let expires_ms = table.time("token_expires");
    let name = table.text("token_name", "audit agent");
    if cloud {
        let message = "is for Data Center: Cloud reports nothing about tokens; write `token_expires`";
        table.refuse(&["token_name"], message);
    }
    let (mut poll_interval, mut page_size, mut overlap, mut late_rows) = (None, None, None, None);
    let mut drop_self_polls = false;
    table.duration("poll_interval", SEC / 10..=DAY, &mut poll_interval);
    table.count("page_size", 1..=1000, &mut page_size);
    table.duration("overlap", ZERO..=7 * DAY, &mut overlap);
    table.duration("late_rows_interval", ZERO..=30 * DAY, &mut late_rows);
    table.flag("drop_self_polls", &mut drop_self_polls);
    let http = http::read(table, base, auth);

    let defaults = ApiConfig::new(product?, http?);
    let overlap = overlap.unwrap_or(defaults.overlap);
    // What is read again now and then is no shorter than what is read again each time.
    let late_rows_interval = late_rows.unwrap_or(defaults.late_rows_interval.max(overlap));
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
    let url = match cloud {
        true => address::site(&site?),
        false => address::data_center(&url?),
    };
    let url = url.map_err(|message| table.error(key, message)).ok()?;
    warn_clear_text(table, key, &url);
    Some(url)
}

fn warn_clear_text(table: &Table, key: &str, url: &Url) {
    if let Some(message) = address::clear_text(url) {
        table.warn(&[key], message);
    }
}

fn product(table: &mut Table, cloud: bool) -> Option<Product> {
    let mut scoped = false;
    table.flag("scoped", &mut scoped);
    let cloud_id = table.text("cloud_id", "1a2b3c4d-0000-4000-8000-123456789abc");
    // Atlassian's government cloud has another.
    let gateway = table.parsed("gateway", GATEWAY, address::gateway);
    if let Some(gateway) = &gateway {
        warn_clear_text(table, "gateway", gateway);
    }
    if !cloud {
        table.refuse(&["scoped", "cloud_id", "gateway"], "is for `type = \"cloud\"`; remove it");
        return Some(Product::DataCenter);
    }
    if let Some(Err(message)) = cloud_id.as_ref().map(|id| check_cloud_id(id, scoped)) {
        table.error("cloud_id", message);
    }
    let gateway = match table.had("gateway") {
        true => gateway?,
        false => address::gateway(GATEWAY).ok()?,
    };
    Some(Product::Cloud { scoped, cloud_id, gateway })
}

/// It becomes a part of an address.
fn check_cloud_id(id: &str, scoped: bool) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let message = "is no cloud id; write it as `https://SITE/_edge/tenant_info` shows it, or remove it: it is looked up";
    ensure(id.len() == 36 && id.bytes().all(fits), message)?;
    ensure(scoped, "has a meaning for scoped tokens only; add `scoped = true`, or remove it")
}

fn start(table: &mut Table) -> Option<Start> {
    let start = table.start("start")?;
    match start {
        Start::At(ms) if ms > clock::now_ms() => {
            let message = "is in the future: nothing that is older will be read; write when the first events are wanted from";
            table.warn(&["start"], message);
        }
        Start::Ago(ago) if ago > 3650 * DAY => {
            table.error("start", "is more than ten years; write at most \"3650d\"");
            return None;
        }
        _ => {}
    }
    Some(start)
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
