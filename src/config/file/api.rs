//! The keys of `[[source]]` that concern an audit API.

use std::time::Duration;

use super::http::Http;
use super::{DAY, SEC, address, credentials, set};
use crate::clock;
use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::remote::*;

const GATEWAY: &str = "https://api.atlassian.com";

/// The keys that only an API has beside those of [how a server is spoken to](super::http::KEYS). `url` stands first: where it
/// is, an API is wanted.
pub const KEYS: [&str; 16] = [
    "url",
    "site",
    "personal_access_token",
    "user",
    "token",
    "scoped",
    "cloud_id",
    "gateway",
    "start",
    "token_expires",
    "token_name",
    "poll_interval",
    "page_size",
    "overlap",
    "late_rows_interval",
    "drop_self_polls",
];

/// Asks for every key, so that each is known. `None` when the source has no API, or when something without which there is
/// none is missing or wrong; that has been reported then, what is missing only if an API is `wanted`.
pub fn table(table: &mut Table, cloud: bool, wanted: bool, problems: &mut Problems) -> Option<ApiConfig> {
    let base = base(table, cloud, wanted, problems);
    let auth = credentials::auth(table, cloud, wanted, problems);
    let product = product(table, cloud, problems);
    let start = start(table, problems);
    let token = TokenConfig {
        expires_ms: table.time("token_expires", problems),
        name: table
            .text("token_name", "audit agent", problems)
            .map(|name| name.value),
    };
    let poll_interval = table.duration("poll_interval", SEC / 10..=DAY, problems);
    let page_size = table.count("page_size", 1..=1000, problems);
    let overlap = table.duration("overlap", Duration::ZERO..=7 * DAY, problems);
    let late_rows_interval = table.duration("late_rows_interval", Duration::ZERO..=30 * DAY, problems);
    let http = Http::read(table, problems);
    let drop_self_polls = table.flag("drop_self_polls", problems);
    if cloud && let Some(span) = table.place_of("token_name") {
        let message = "is for Data Center: Cloud tells nothing about tokens; write `token_expires`";
        problems.add(span, table.key("token_name"), message);
    }

    let mut api = ApiConfig::new(product?, http.config(base?, auth?));
    set(&mut api.start, start);
    set(&mut api.poll_interval, poll_interval);
    set(&mut api.page_size, page_size);
    set(&mut api.overlap, overlap);
    // What is read again now and then is no shorter than what is read again each time.
    api.late_rows_interval = late_rows_interval.unwrap_or(api.late_rows_interval.max(api.overlap));
    if api.late_rows_interval < api.overlap
        && let Some(span) = table.place_of("late_rows_interval")
    {
        let message = "is shorter than `overlap`, which is read again by each poll; write more than that";
        problems.add(span, table.key("late_rows_interval"), message);
    }
    set(&mut api.drop_self_polls, drop_self_polls);
    api.token = token;
    Some(api)
}

/// `url` of a Data Center, `site` of a Cloud.
fn base(table: &mut Table, cloud: bool, wanted: bool, problems: &mut Problems) -> Option<url::Url> {
    let url = table.text("url", "https://confluence.example.com", problems);
    let site = table.text("site", "acme.atlassian.net", problems);
    let (key, other, example) = if cloud {
        ("site", "url", "acme.atlassian.net")
    } else {
        ("url", "site", "https://confluence.example.com")
    };
    if let Some(span) = table.place_of(other).filter(|_| wanted) {
        let kind = if cloud { "Data Center" } else { "Cloud" };
        let message = format!("is for {kind}; write `{key}`, as in `{key} = \"{example}\"`");
        problems.add(span, table.key(other), message);
        return None;
    }
    if wanted && !table.had(key) && !table.has_like(key) {
        let message = format!("is missing; add `{key} = \"{example}\"`");
        problems.add(&table.span, table.key(key), message);
    }
    let found = if cloud { site? } else { url? };
    let read = if cloud {
        address::site
    } else {
        address::data_center
    };
    known(read(&found.value), found, problems)
}

fn product(table: &mut Table, cloud: bool, problems: &mut Problems) -> Option<Product> {
    let scoped = table.flag("scoped", problems).unwrap_or(false);
    let cloud_id = table.text("cloud_id", "1a2b3c4d-0000-4000-8000-123456789abc", problems);
    let gateway = gateway(table, problems);
    if !cloud {
        for key in ["scoped", "cloud_id", "gateway"] {
            if let Some(span) = table.place_of(key) {
                problems.add(span, table.key(key), "is for `type = \"cloud\"`; remove it");
            }
        }
        return Some(Product::DataCenter);
    }
    if let Some(id) = &cloud_id {
        // It becomes a part of an address.
        let fits = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
        if id.value.len() != 36 || !id.value.bytes().all(fits) {
            let message = "is no cloud id; write it as it stands at `https://SITE/_edge/tenant_info`, or remove it: it is looked up";
            problems.add(&id.span, id.key.clone(), message);
        } else if !scoped {
            let message = "has a meaning for scoped tokens only; add `scoped = true`, or remove it";
            problems.add(&id.span, id.key.clone(), message);
        }
    }
    Some(Product::Cloud {
        scoped,
        cloud_id: cloud_id.map(|id| id.value),
        gateway: gateway?,
    })
}

/// Where scoped tokens are used; Atlassian's government cloud has another place for them.
fn gateway(table: &mut Table, problems: &mut Problems) -> Option<url::Url> {
    let Some(found) = table.text("gateway", GATEWAY, problems) else {
        return address::gateway(GATEWAY).ok();
    };
    known(address::gateway(&found.value), found, problems)
}

/// The address that was found, or what is wrong with it told.
fn known(
    read: Result<url::Url, String>,
    found: ConfigValue<String>,
    problems: &mut Problems,
) -> Option<url::Url> {
    match read {
        Ok(url) => {
            if let Some(message) = address::clear_text(&url) {
                problems.warn(&found.span, found.key, message);
            }
            Some(url)
        }
        Err(message) => {
            problems.add(&found.span, found.key, message);
            None
        }
    }
}

fn start(table: &mut Table, problems: &mut Problems) -> Option<Start> {
    let found = table.start("start", problems)?;
    match found.value {
        Start::At(ms) if ms > clock::now_ms() => {
            let message = "lies in the future: nothing that is older will be read; write when the first events are wanted from";
            problems.warn(&found.span, found.key, message);
        }
        Start::Ago(ago) if ago > 3650 * DAY => {
            problems.add(
                &found.span,
                found.key,
                "is more than ten years; write at most \"3650d\"",
            );
            return None;
        }
        _ => {}
    }
    Some(found.value)
}

#[cfg(test)]
#[path = "api_tests.rs"]
mod tests;
