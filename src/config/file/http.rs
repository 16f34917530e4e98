//! How a server is spoken to: the keys that are the same for every server.

use std::time::Duration;

use toml::de::DeValue;

use super::{HOUR, SEC, address, belongs_to, credentials};
use crate::config::raw::{ConfigValue, Table};
use crate::config::reference;
use crate::config::remote::*;
use crate::config::words::ensure;

const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

/// Asks for every key. `None` where the server's address or the credentials for it are missing or wrong.
pub(super) fn read(table: &mut Table, base: Option<url::Url>, auth: Option<Auth>) -> Option<HttpConfig> {
    let timeouts = timeouts(table);
    let proxy = proxy(table);
    let tls = tls(table);
    let headers = headers(table);
    let user_agent = table.checked("user_agent", crate::NAME, check_user_agent);
    let mut body_bytes_max = HttpConfig::BODY_BYTES_MAX;
    table.size("body_bytes_max", 64 << 10..=1 << 30, &mut body_bytes_max);
    let defaults = HttpConfig::new(base?, auth?);
    Some(HttpConfig {
        timeouts,
        proxy,
        tls,
        headers,
        user_agent: user_agent.unwrap_or(defaults.user_agent),
        body_bytes_max,
        ..defaults
    })
}

fn timeouts(table: &mut Table) -> Timeouts {
    let range = SEC / 10..=HOUR;
    let mut whole = Timeouts::DEFAULT;
    table.duration("timeout", range.clone(), &mut whole);
    let mut timeouts = Timeouts::within(whole);
    let mut part = |key, slot: &mut Duration| {
        table.duration(key, range.clone(), slot);
        if *slot > whole {
            let message =
                "is longer than `timeout`, which ends the whole exchange; raise `timeout`, or lower this";
            table.refuse(&[key], message);
        }
    };
    part("connect_timeout", &mut timeouts.connect);
    part("first_byte_timeout", &mut timeouts.first_byte);
    part("idle_timeout", &mut timeouts.idle);
    timeouts
}

/// Either its URL alone, or a table.
fn proxy(table: &mut Table) -> Option<ProxyConfig> {
    const EXAMPLE: &str = "http://proxy.example.com:3128";
    let found = table.any("proxy")?;
    let entries = match found.value {
        DeValue::Table(entries) => entries,
        DeValue::String(url) => {
            let url = address::proxy(&url).map_err(|message| table.error("proxy", message)).ok()?;
            return Some(ProxyConfig { url, auth: None, no_proxy: Vec::new() });
        }
        _ => {
            let message = format!("is neither a string nor a table; write `proxy = \"{EXAMPLE}\"`");
            table.error("proxy", message);
            return None;
        }
    };
    let mut table = Table::new(format!("{}.", found.key), found.span, entries, found.problems);
    let url = table.required("url", EXAMPLE, address::proxy);
    let auth = credentials::pair(&mut table);
    let no_proxy = table.texts("no_proxy", "localhost").unwrap_or_default();
    if let Err(message) = check_hosts(&no_proxy) {
        table.error("no_proxy", message);
    }
    table.finish(belongs_to);
    Some(ProxyConfig { url: url?, auth, no_proxy })
}

fn check_hosts(hosts: &[String]) -> Result<(), String> {
    let hint = "write hosts, domains and networks, as in [\"localhost\", \".example.com\", \"10.0.0.0/8\"]";
    for host in hosts {
        ensure(!host.contains('@'), format!("holds an `@`; {hint}"))?;
        ensure(!host.contains("://"), format!("holds a URL; {hint}"))?;
    }
    Ok(())
}

pub(super) const TLS_KEYS: [&str; 4] = ["ca_file", "client_certificate", "client_key", "tls_version_min"];

pub(super) fn tls(table: &mut Table) -> TlsConfig {
    let ca_file = table.path("ca_file", "/etc/ssl/company-ca.pem");
    let certificate = table.path("client_certificate", "/etc/confluence-audit-agent/client.pem");
    let key = table.path("client_key", "/etc/confluence-audit-agent/client.key");
    table.problems.secret_files.borrow_mut().extend(key.clone());
    let both = [("client_certificate", "client_key"), ("client_key", "client_certificate")];
    for (there, lacking) in both {
        if !table.has(lacking) && !table.has_like(lacking) {
            let message = format!("needs `{lacking}`; add it, or remove this");
            table.refuse(&[there], &message);
        }
    }
    let mut version_min = TlsVersion::default();
    table.choice("tls_version_min", &TLS_VERSIONS, &mut version_min);
    TlsConfig { ca_file, client_certificate: certificate.zip(key), version_min }
}

fn headers(table: &mut Table) -> Vec<(String, Reference)> {
    let Some(found) = table.any("headers") else {
        return Vec::new();
    };
    let DeValue::Table(entries) = &found.value else {
        found.error("is no table; write `headers = { X-Name = \"value\" }`");
        return Vec::new();
    };
    let mut headers: Vec<(String, Reference)> = Vec::new();
    for (name, value) in entries.clone() {
        let key = format!("{}.{}", found.key, name.get_ref());
        if let Err(message) = check_header(name.get_ref(), &headers) {
            found.problems.error(&name.span(), key, message);
            continue;
        }
        let (name, span) = (name.into_inner().into_owned(), value.span());
        let value = ConfigValue { value: value.into_inner(), span, key, problems: found.problems };
        if let Some(value) = reference::read(value) {
            if is_likely_secret(&name) {
                value.warn_inline();
            }
            headers.push((name, value.value));
        }
    }
    headers
}

fn check_header(name: &str, others: &[(String, Reference)]) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let message = "is no name of a header; write letters, digits and `-`, as in `X-Name`";
    ensure(!name.is_empty() && name.bytes().all(fits), message)?;
    let own = [
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
    ];
    let hint = match name.to_ascii_lowercase().as_str() {
        "authorization" => Some("write the keys for credentials of this table"),
        "proxy-authorization" => {
            Some("write `proxy = { url = \"…\", user = \"…\", password = { file = \"/path\" } }`")
        }
        "user-agent" => Some("write `user_agent`"),
        name => own.contains(&name).then_some("remove it"),
    };
    if let Some(hint) = hint {
        return Err(format!("is a header that the agent writes itself; {hint}"));
    }
    let twice = others.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    ensure(!twice, "is given twice (case is ignored); keep one")
}

fn is_likely_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let words = ["auth", "cookie", "key", "pass", "secret", "token"];
    words.iter().any(|word| name.contains(word))
}

fn check_user_agent(name: &str) -> Result<(), String> {
    let fits = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    ensure(fits, "holds a character that no header may; write printable ASCII")
}
