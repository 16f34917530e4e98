//! How a server is spoken to: the keys that are the same for every server.

use std::time::Duration;

use toml::de::DeValue;

use super::{HOUR, SEC, address, belongs_to, credentials};
use crate::config::raw::{ConfigValue, Table};
use crate::config::reference;
use crate::config::remote::*;

const TLS_VERSIONS: [(&str, TlsVersion); 2] = [("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)];

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
    pub tls: TlsConfig,
    headers: Vec<(String, Reference)>,
    user_agent: Option<String>,
    body_bytes_max: usize,
}

impl Http {
    pub fn read(table: &mut Table) -> Http {
        let mut http = Http {
            timeouts: timeouts(table),
            proxy: proxy(table),
            tls: tls(table),
            headers: headers(table),
            user_agent: user_agent(table),
            body_bytes_max: HttpConfig::BODY_BYTES_MAX,
        };
        table.size("body_bytes_max", 64 << 10..=1 << 30, &mut http.body_bytes_max);
        http
    }

    pub fn config(self, base: url::Url, auth: Auth) -> HttpConfig {
        let defaults = HttpConfig::new(base, auth);
        HttpConfig {
            timeouts: self.timeouts,
            proxy: self.proxy,
            tls: self.tls,
            headers: self.headers,
            user_agent: self.user_agent.unwrap_or(defaults.user_agent),
            body_bytes_max: self.body_bytes_max,
            ..defaults
        }
    }
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
    let DeValue::Table(entries) = &found.value else {
        let url = found.parse(|value| match value.as_str() {
            Some(url) => address::proxy(url),
            None => Err(format!(
                "is neither a string nor a table; write `proxy = \"{EXAMPLE}\"`"
            )),
        });
        return Some(ProxyConfig {
            url: url?.value,
            auth: None,
            no_proxy: Vec::new(),
        });
    };
    let mut table = Table::new(
        format!("{}.", found.key),
        found.span,
        entries.clone(),
        found.problems,
    );
    let url = table.required_text("url", EXAMPLE);
    let auth = credentials::pair(&mut table);
    let no_proxy = table
        .texts("no_proxy", "localhost")
        .and_then(|hosts| hosts.check(|hosts| check_hosts(hosts)));
    table.finish(belongs_to);
    Some(ProxyConfig {
        url: url?.parse(|url| address::proxy(url))?.value,
        auth,
        no_proxy: no_proxy.map(|hosts| hosts.value).unwrap_or_default(),
    })
}

fn check_hosts(hosts: &[String]) -> Result<(), String> {
    let Some(host) = hosts
        .iter()
        .find(|host| host.contains("://") || host.contains('@'))
    else {
        return Ok(());
    };
    let kind = if host.contains('@') {
        "holds an `@`"
    } else {
        "holds a URL"
    };
    Err(format!(
        "{kind}; write hosts, domains and networks, as in [\"localhost\", \".example.com\", \"10.0.0.0/8\"]"
    ))
}

pub const TLS_KEYS: [&str; 4] = ["ca_file", "client_certificate", "client_key", "tls_version_min"];

pub fn tls(table: &mut Table) -> TlsConfig {
    let mut path = |key, example| table.path(key, example).map(|path| path.value);
    let ca_file = path("ca_file", "/etc/ssl/company-ca.pem");
    let certificate = path("client_certificate", "/etc/confluence-audit-agent/client.pem");
    let key = path("client_key", "/etc/confluence-audit-agent/client.key");
    table.problems.secret_files.borrow_mut().extend(key.clone());
    let both = [
        ("client_certificate", "client_key"),
        ("client_key", "client_certificate"),
    ];
    for (there, lacking) in both {
        if !table.has(lacking) && !table.has_like(lacking) {
            let message = format!("has no `{lacking}` beside it; add it, or remove this");
            table.refuse(&[there], &message);
        }
    }
    let mut version_min = TlsVersion::default();
    table.choice("tls_version_min", &TLS_VERSIONS, &mut version_min);
    TlsConfig {
        ca_file,
        client_certificate: certificate.zip(key),
        version_min,
    }
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
        let value = ConfigValue {
            value: value.into_inner(),
            span,
            key,
            problems: found.problems,
        };
        if let Some(value) = reference::read(value) {
            if sounds_secret(&name) {
                value.warn_inline();
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

fn user_agent(table: &mut Table) -> Option<String> {
    let found = table.text("user_agent", crate::NAME)?.check(|name| {
        match name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            true => Ok(()),
            false => Err("holds a character that no header may; write printable ASCII"),
        }
    })?;
    Some(found.value)
}
