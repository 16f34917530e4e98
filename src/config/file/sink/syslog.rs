//! `type = "syslog"`.

use std::time::Duration;

use super::set;
use crate::config::file::http::tls;
use crate::config::raw::{ConfigValue, Problems, Table};
use crate::config::{Framing, RemoteSinkConfig, SyslogConfig, Transport};

pub const KEYS: [&str; 11] = [
    "address",
    "transport",
    "framing",
    "facility",
    "app_name",
    "connect_timeout",
    "timeout",
    "ca_file",
    "client_certificate",
    "client_key",
    "tls_version_min",
];

const EXAMPLE: &str = "syslog.example.com:6514";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Tls,
    Udp,
}

const TRANSPORTS: [(&str, Kind); 3] = [("tcp", Kind::Tcp), ("tls", Kind::Tls), ("udp", Kind::Udp)];
const FRAMINGS: [(&str, Framing); 2] = [
    ("octet_counting", Framing::OctetCounting),
    ("newline", Framing::Newline),
];
/// As RFC 5424 numbers them.
const FACILITIES: [(&str, u8); 24] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("ntp", 12),
    ("audit", 13),
    ("alert", 14),
    ("clock", 15),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

pub fn table(table: &mut Table, problems: &mut Problems) -> Option<SyslogConfig> {
    let address = required(table, "address", EXAMPLE, problems);
    let address = address.and_then(|address| {
        let parsed = host_port(&address.value, EXAMPLE);
        parsed
            .map_err(|message| problems.add(&address.span, address.key, message))
            .ok()
    });
    let kind = table.choice("transport", &TRANSPORTS, &[], problems);
    if kind.is_none() && !table.had("transport") && !table.has_like("transport") {
        let message = "is missing; add `transport = \"tls\"`, or \"tcp\" or \"udp\"";
        problems.add(&table.span, table.key("transport"), message);
    }
    let tls = tls(table, problems);
    if let Some(kind) = kind.as_ref().filter(|kind| kind.value != Kind::Tls) {
        for key in ["ca_file", "client_certificate", "client_key", "tls_version_min"] {
            if let Some(span) = table.place_of(key) {
                let message = "is for TLS; write `transport = \"tls\"`, or remove it";
                problems.add(span, table.key(key), message);
            }
        }
        if kind.value == Kind::Udp {
            let message = "loses events without anyone knowing: a datagram is not acknowledged; write \"tls\" or \"tcp\"";
            problems.warn(&kind.span, kind.key.clone(), message);
        }
    }
    let framing = table.choice("framing", &FRAMINGS, &[], problems);
    if let (Some(framing), Some(Kind::Udp)) = (&framing, kind.as_ref().map(|kind| kind.value)) {
        let message = "is for streams, and over UDP each message has its own datagram; remove it";
        problems.add(&framing.span, framing.key.clone(), message);
    }
    let facility = table.choice("facility", &FACILITIES, &[], problems);
    let app_name = table
        .text("app_name", "confluence-audit", problems)
        .and_then(|name| app_name(name, problems));
    let range = Duration::from_millis(100)..=Duration::from_secs(3600);
    let connect_timeout = table.duration("connect_timeout", range.clone(), problems);
    let timeout = table.duration("timeout", range, problems);
    let ((host, port), kind) = (address?, kind?.value);
    let transport = match kind {
        Kind::Tcp => Transport::Tcp,
        Kind::Tls => Transport::Tls(tls),
        Kind::Udp => Transport::Udp,
    };
    let mut config = SyslogConfig::new(host, port, transport);
    set(&mut config.framing, framing.map(|found| found.value));
    set(&mut config.facility, facility.map(|found| found.value));
    set(&mut config.app_name, app_name);
    set(&mut config.connect_timeout, connect_timeout);
    set(&mut config.timeout, timeout);
    Some(config)
}

/// The default in which it is unlike other sinks: over one connection events arrive in order.
pub fn remote(mut config: RemoteSinkConfig) -> RemoteSinkConfig {
    config.concurrency = 1;
    config
}

pub fn check_order(table: &Table, concurrency: Option<usize>, problems: &mut Problems) {
    if let (Some(span), Some(2..)) = (table.place_of("concurrency"), concurrency) {
        let message = "is always 1 for syslog, which sends over one connection, in order; remove it";
        problems.add(span, table.key("concurrency"), message);
    }
}

/// A text without which there is no sink.
pub fn required(
    table: &mut Table,
    key: &'static str,
    example: &str,
    problems: &mut Problems,
) -> Option<ConfigValue<String>> {
    let found = table.text(key, example, problems);
    if found.is_none() && !table.had(key) && !table.has_like(key) {
        let message = format!("is missing; add `{key} = \"{example}\"`");
        problems.add(&table.span, table.key(key), message);
    }
    found
}

/// `host:port`; an IPv6 address stands in brackets, and comes without them.
pub fn host_port(text: &str, example: &str) -> Result<(String, u16), String> {
    let text = text.trim();
    if text.contains("://") {
        return Err(format!(
            "is a URL; write host and port alone, as in \"{example}\""
        ));
    }
    if text.contains('@') {
        return Err(format!(
            "holds an `@`; write host and port alone, as in \"{example}\""
        ));
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
        return Err(format!("`{text}` has no port; write it as in \"{example}\""));
    };
    let port = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(format!("`{port}` is no port; write 1 to 65535 after the host")),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_err())
        || bare.is_none() && host.contains(':')
    {
        return Err(format!(
            "`{host}` is no IPv6 address in brackets; write it as in \"[2001:db8::1]:{port}\""
        ));
    }
    let host = bare.unwrap_or(host);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.is_empty() || !host.bytes().all(fits) {
        return Err(format!("`{host}` is no host; write it as in \"{example}\""));
    }
    Ok((host.to_string(), port))
}

fn app_name(name: ConfigValue<String>, problems: &mut Problems) -> Option<String> {
    if name.value.len() <= 48 && name.value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(name.value);
    }
    let message =
        "cannot stand in a syslog header; write at most 48 printable ASCII characters without blanks";
    problems.add(&name.span, name.key, message);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("siem.example.com:6514", "siem.example.com", 6514),
            (" 10.0.0.1:514 ", "10.0.0.1", 514),
            ("[::1]:601", "::1", 601),
            ("host_1:1", "host_1", 1),
        ] {
            assert_eq!(host_port(text, EXAMPLE), Ok((host.to_string(), port)), "{text}");
        }
        for text in [
            "siem",
            "siem:",
            "siem:0",
            "siem:70000",
            ":514",
            "::1:514",
            "::1",
            "[siem]:514",
            "tcp://siem:514",
            "user:secret@siem:514",
            "si em:514",
            "",
        ] {
            let message = host_port(text, EXAMPLE).unwrap_err();
            assert!(!message.contains("secret"), "{message}");
        }
    }
}
