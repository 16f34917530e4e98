//! `type = "syslog"`.

use super::remote::RemoteKeys;
use super::{Context, SEC};
use crate::config::file::http::{TLS_KEYS, tls};
use crate::config::raw::Table;
use crate::config::typed::keys;
use crate::config::words::ensure;
use crate::config::{DestinationConfig, Framing, SyslogConfig, Transport};

const EXAMPLE: &str = "syslog.example.com:6514";

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Tcp,
    Tls,
    Udp,
}

const TRANSPORTS: [(&str, Kind); 3] = [("tcp", Kind::Tcp), ("tls", Kind::Tls), ("udp", Kind::Udp)];
const FRAMINGS: [(&str, Framing); 2] =
    [("octet_counting", Framing::OctetCounting), ("newline", Framing::Newline)];
/// In the order of their numbers in RFC 5424.
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

pub(super) fn read(table: &mut Table, _: &Context, common: &RemoteKeys) -> Option<DestinationConfig> {
    let address = table.required("address", EXAMPLE, |address| host_port(address, EXAMPLE));
    let complete = address.is_some();
    let kind = table.word("transport", &TRANSPORTS);
    if !table.had("transport") && !table.has_like("transport") {
        table.error("transport", "is missing; add `transport = \"tls\"`, or \"tcp\" or \"udp\"");
    }
    let tls = tls(table);
    if kind.is_some_and(|kind| kind != Kind::Tls) {
        table.refuse(&TLS_KEYS, "is for TLS; write `transport = \"tls\"`, or remove it");
    }
    let transport = match kind {
        Some(Kind::Tcp) => Transport::Tcp,
        Some(Kind::Tls) => Transport::Tls(tls),
        Some(Kind::Udp) | None => Transport::Udp,
    };
    let (host, port) = address.unwrap_or_default();
    let mut config = SyslogConfig::new(host, port, transport);
    table.choice("framing", &FRAMINGS, &mut config.framing);
    if kind == Some(Kind::Udp) {
        let message =
            "loses events without anyone knowing: a datagram is not acknowledged; write \"tls\" or \"tcp\"";
        table.warn(&["transport"], message);
        let message = "is for streams, and over UDP each message has its own datagram; remove it";
        table.refuse(&["framing"], message);
    }
    let numbered = FACILITIES.iter().zip(0u8..).map(|(name, number)| (*name, number));
    table.choice("facility", &numbered.collect::<Vec<_>>(), &mut config.facility);
    if let Some(name) = table.checked("app_name", "confluence-audit", check_app_name) {
        config.app_name = name;
    }
    keys!(table, config;
        duration connect_timeout(SEC / 10..=3600 * SEC);
        duration timeout(SEC / 10..=3600 * SEC);
    );
    if common.concurrency.is_some_and(|concurrency| concurrency > 1) {
        let message = "is always 1 for syslog, which sends over one connection, in order; remove it";
        table.refuse(&["concurrency"], message);
    }
    (complete && kind.is_some()).then_some(DestinationConfig::Syslog(config))
}

/// `host:port`; an IPv6 address is in brackets, and is returned without them.
pub(super) fn host_port(text: &str, example: &str) -> Result<(String, u16), String> {
    let text = text.trim();
    let hint = format!("write host and port alone, as in \"{example}\"");
    ensure(!text.contains("://"), format!("is a URL; {hint}"))?;
    ensure(!text.contains('@'), format!("holds an `@`; {hint}"))?;
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.ends_with(':')) else {
        return Err(format!("`{text}` has no port; write it as in \"{example}\""));
    };
    let number = port.parse().ok().filter(|port| *port > 0);
    let number = number.ok_or_else(|| format!("`{port}` is no port; write 1 to 65535 after the host"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = bare.map_or(!host.contains(':'), |bare| bare.parse::<std::net::Ipv6Addr>().is_ok());
    let message =
        format!("`{host}` is no IPv6 address in brackets; write it as in \"[2001:db8::1]:{number}\"");
    ensure(good, message)?;
    let host = bare.unwrap_or(host);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    let message = format!("`{host}` is no host; write it as in \"{example}\"");
    ensure(!host.is_empty() && host.bytes().all(fits), message)?;
    Ok((host.to_string(), number))
}

fn check_app_name(name: &str) -> Result<(), String> {
    let good = name.len() <= 48 && name.bytes().all(|byte| byte.is_ascii_graphic());
    let message =
        "cannot stand in a syslog header; write at most 48 printable ASCII characters without blanks";
    ensure(good, message)
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
