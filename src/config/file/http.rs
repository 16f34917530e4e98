//! How a server is spoken to: the keys that are the same for every server.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{HOUR, SEC, absolute, address, belongs_to, credentials, set};
use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::reference::{self, warn_inline};
use crate::config::remote::*;

const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

pub const KEYS: [&str; 12] = [
    "timeout",
    "connect_timeout",
    "first_byte_timeout",
    "idle_timeout",
    "proxy",
    "ca_file",
    "client_certificate",
    "client_key",
    "tls_version_min",
    "headers",
    "user_agent",
    "body_bytes_max",
];

/// Headers that the agent writes itself, and where what is wanted by writing them is set.
const OWN_HEADERS: [(&str, &str); 10] = [
    ("authorization", "write the keys for credentials of this table"),
    (
        "proxy-authorization",
        "write `proxy = { url = \"…\", user = \"…\", password = { file = \"/path\" } }`",
    ),
    ("user-agent", "write `user_agent`"),
    ("host", "remove it"),
    ("accept", "remove it"),
    ("accept-encoding", "remove it"),
    ("connection", "remove it"),
    ("content-length", "remove it"),
    ("content-type", "remove it"),
    ("transfer-encoding", "remove it"),
];

/// What is known of a server besides its address and the credentials for it.
pub struct Http {
    timeouts: Timeouts,
    proxy: Option<ProxyConfig>,
    tls: TlsConfig,
    headers: Vec<(String, Reference)>,
    user_agent: Option<String>,
    body_bytes_max: Option<u64>,
}

impl Http {
    pub fn read(table: &mut Table, problems: &mut Problems) -> Http {
        Http {
            timeouts: timeouts(table, problems),
            proxy: proxy(table, problems),
            tls: tls(table, problems),
            headers: headers(table, problems),
            user_agent: user_agent(table, problems),
            body_bytes_max: table.size("body_bytes_max", 64 << 10..=1 << 30, problems),
        }
    }

    /// Where those keys mean something else than who the agent is in TLS.
    pub fn take_client_certificate(&mut self) -> Option<(PathBuf, PathBuf)> {
        self.tls.client_certificate.take()
    }

    pub fn config(self, base: url::Url, auth: Auth) -> HttpConfig {
        let mut config = HttpConfig::new(base, auth);
        config.timeouts = self.timeouts;
        config.proxy = self.proxy;
        config.tls = self.tls;
        config.headers = self.headers;
        set(&mut config.user_agent, self.user_agent);
        set(
            &mut config.body_bytes_max,
            self.body_bytes_max.map(|bytes| bytes as usize),
        );
        config
    }
}

fn timeouts(table: &mut Table, problems: &mut Problems) -> Timeouts {
    let range = SEC / 10..=HOUR;
    let whole = table.duration("timeout", range.clone(), problems);
    let mut timeouts = Timeouts::within(whole.unwrap_or(Timeouts::DEFAULT));
    let whole = timeouts.whole;
    let mut part = |key, slot: &mut Duration| {
        let part = table.duration(key, range.clone(), problems);
        if let (Some(part), Some(span)) = (part, table.place_of(key))
            && part > whole
        {
            let message =
                "is longer than `timeout`, which ends the whole exchange; raise `timeout`, or lower this";
            problems.add(span, table.key(key), message);
        }
        set(slot, part);
    };
    part("connect_timeout", &mut timeouts.connect);
    part("first_byte_timeout", &mut timeouts.first_byte);
    part("idle_timeout", &mut timeouts.idle);
    timeouts
}

/// Either its URL alone, or a table.
fn proxy(table: &mut Table, problems: &mut Problems) -> Option<ProxyConfig> {
    const EXAMPLE: &str = "http://proxy.example.com:3128";
    let found = table.any("proxy")?;
    let entries = match found.value {
        DeValue::String(text) => {
            let url = ConfigValue {
                value: text.into_owned(),
                span: found.span,
                key: found.key,
            };
            return Some(ProxyConfig {
                url: proxy_url(url, problems)?,
                auth: None,
                no_proxy: Vec::new(),
            });
        }
        DeValue::Table(entries) => entries,
        _ => {
            let message = format!("is neither a string nor a table; write `proxy = \"{EXAMPLE}\"`");
            problems.add(&found.span, found.key, message);
            return None;
        }
    };
    let mut table = Table::new(format!("{}.", found.key), found.span, entries);
    let url = table.text("url", EXAMPLE, problems);
    if !table.had("url") && !table.has_like("url") {
        let message = format!("is missing; add `url = \"{EXAMPLE}\"`");
        problems.add(&table.span, table.key("url"), message);
    }
    let auth = credentials::pair(&mut table, problems);
    let no_proxy = table.texts("no_proxy", "localhost", problems);
    if let Some(hosts) = &no_proxy
        && let Some(host) = hosts
            .value
            .iter()
            .find(|host| host.contains("://") || host.contains('@'))
    {
        let kind = if host.contains('@') {
            "holds an `@`"
        } else {
            "holds a URL"
        };
        let message = format!(
            "{kind}; write hosts, domains and networks, as in [\"localhost\", \".example.com\", \"10.0.0.0/8\"]"
        );
        problems.add(&hosts.span, hosts.key.clone(), message);
    }
    table.finish(belongs_to, problems);
    Some(ProxyConfig {
        url: proxy_url(url?, problems)?,
        auth,
        no_proxy: no_proxy.map(|hosts| hosts.value).unwrap_or_default(),
    })
}

fn proxy_url(found: ConfigValue<String>, problems: &mut Problems) -> Option<url::Url> {
    address::proxy(&found.value)
        .map_err(|message| problems.add(&found.span, found.key, message))
        .ok()
}

pub fn tls(table: &mut Table, problems: &mut Problems) -> TlsConfig {
    let mut path = |table: &mut Table, key, example| -> Option<PathBuf> {
        let path = table.text(key, example, problems)?;
        absolute(path, problems).map(|path| path.value)
    };
    let ca_file = path(table, "ca_file", "/etc/ssl/company-ca.pem");
    let certificate = path(
        table,
        "client_certificate",
        "/etc/confluence-audit-agent/client.pem",
    );
    let key = path(table, "client_key", "/etc/confluence-audit-agent/client.key");
    problems.secret_files.extend(key.clone());
    for (there, lacking) in [
        ("client_certificate", "client_key"),
        ("client_key", "client_certificate"),
    ] {
        if let Some(span) = table
            .place_of(there)
            .filter(|_| !table.has(lacking) && !table.has_like(lacking))
        {
            let message = format!("has no `{lacking}` beside it; add it, or remove this");
            problems.add(span, table.key(there), message);
        }
    }
    TlsConfig {
        ca_file,
        client_certificate: certificate.zip(key),
        version_min: table
            .choice("tls_version_min", &TLS_VERSIONS, &[], problems)
            .map_or_else(TlsVersion::default, |found| found.value),
    }
}

fn headers(table: &mut Table, problems: &mut Problems) -> Vec<(String, Reference)> {
    let Some(found) = table.any("headers") else {
        return Vec::new();
    };
    let DeValue::Table(entries) = found.value else {
        let message = "is no table; write `headers = { X-Name = \"value\" }`";
        problems.add(&found.span, found.key, message);
        return Vec::new();
    };
    let mut headers: Vec<(String, Reference)> = Vec::new();
    for (name, value) in entries {
        let key = format!("{}.{}", found.key, name.get_ref());
        if let Err(message) = check_header(name.get_ref(), &headers) {
            problems.add(&name.span(), key, message);
            continue;
        }
        let name = name.into_inner().into_owned();
        let span = value.span();
        if let Some(value) = reference::read(value.into_inner(), &span, &key, problems) {
            let value = ConfigValue { value, span, key };
            if sounds_secret(&name) {
                warn_inline(&value, problems);
            }
            headers.push((name, value.value));
        }
    }
    headers
}

fn check_header(name: &str, others: &[(String, Reference)]) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return Err("is no name of a header; write letters, digits and `-`, as in `X-Name`".into());
    }
    if let Some((_, way_out)) = OWN_HEADERS.iter().find(|(own, _)| name.eq_ignore_ascii_case(own)) {
        return Err(format!("is a header that the agent writes itself; {way_out}"));
    }
    if others.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
        return Err("stands here twice, for upper and lower case do not count; keep one".into());
    }
    Ok(())
}

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["auth", "cookie", "key", "pass", "secret", "token"];
    words.iter().any(|word| name.contains(word))
}

fn user_agent(table: &mut Table, problems: &mut Problems) -> Option<String> {
    let found = table.text("user_agent", crate::NAME, problems)?;
    if found.value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Some(found.value);
    }
    let message = "holds a character that no header may; write printable ASCII";
    problems.add(&found.span, found.key, message);
    None
}
