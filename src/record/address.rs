//! Extracts hosts and IP addresses from texts.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// The host of a URL in lower case, without user, port and brackets.
pub(crate) fn host(url: &str) -> Option<Cow<'_, str>> {
    let colon = memchr::memchr(b':', url.as_bytes())?;
    let rest = url[colon..].strip_prefix("://")?;
    let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?' | b'#' | b'\\'));
    let authority = &rest[..end.unwrap_or(rest.len())];
    let host_port = match memchr::memrchr(b'@', authority.as_bytes()) {
        Some(at) => &authority[at + 1..],
        None => authority,
    };
    let host = match host_port.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?.0,
        None => match memchr::memchr(b':', host_port.as_bytes()) {
            Some(colon) => &host_port[..colon],
            None => host_port,
        },
    };
    if host.is_empty() {
        return None;
    }
    if host.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Some(Cow::Borrowed(host));
    }
    Some(Cow::Owned(host.to_lowercase()))
}

/// The addresses in `source`, a list if there are proxies. Each is returned as written, without port, brackets and
/// zone id, and parsed. What is not an address is skipped.
pub(crate) fn addresses(source: &str) -> impl Iterator<Item = (&str, IpAddr)> {
    source.split([',', ';', ' ', '\t']).filter_map(address)
}

fn address(text: &str) -> Option<(&str, IpAddr)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (inside, behind) = rest.split_once(']')?;
        if !behind.is_empty() {
            port(behind.strip_prefix(':')?)?;
        }
        return v6(inside);
    }
    let colons = memchr::memchr_iter(b':', text.as_bytes()).take(2).count();
    match colons {
        0 => Some((text, IpAddr::V4(text.parse().ok()?))),
        1 => {
            let (address, behind) = text.split_once(':')?;
            port(behind)?;
            Some((address, IpAddr::V4(address.parse().ok()?)))
        }
        _ => v6(text),
    }
}

fn v6(text: &str) -> Option<(&str, IpAddr)> {
    let address = text.split('%').next()?;
    Some((address, IpAddr::V6(address.parse::<Ipv6Addr>().ok()?)))
}

fn port(text: &str) -> Option<u16> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f69_source_chain() {
        for (source, expected) in [
            ("81.2.69.143", &["81.2.69.143"][..]),
            ("1.2.3.4, 192.168.22.33", &["1.2.3.4", "192.168.22.33"]),
            ("unknown, 1.2.3.4:8080,10.0.0.1", &["1.2.3.4", "10.0.0.1"]),
            ("2001:DB8::1", &["2001:DB8::1"]),
            ("[2001:db8::1]:443, [::1]", &["2001:db8::1", "::1"]),
            ("fe80::1%eth0, [fe80::2%25eth0]:80", &["fe80::1", "fe80::2"]),
            ("::ffff:10.1.2.3", &["::ffff:10.1.2.3"]),
            ("unknown", &[]),
            ("", &[]),
            (" , ,,", &[]),
            ("256.1.1.1", &[]),
            ("1.2.3", &[]),
            ("1.2.3.4:99999", &[]),
            ("[1.2.3.4]", &[]),
            ("[::1", &[]),
            ("[::1]443", &[]),
        ] {
            let found: Vec<&str> = addresses(source).map(|(text, _)| text).collect();
            assert_eq!(found, expected, "{source}");
        }
    }

    #[test]
    fn hosts() {
        for (url, expected) in [
            ("http://confluence.internal:8090", Some("confluence.internal")),
            ("https://Wiki.Example.COM/confluence", Some("wiki.example.com")),
            ("https://user:pw@wiki.example.com:443/?a=b@c", Some("wiki.example.com")),
            ("http://[2001:DB8::1]:8090/", Some("2001:db8::1")),
            ("http://WÜRZBURG.example", Some("würzburg.example")),
            ("https://wiki.example.com?x", Some("wiki.example.com")),
            ("wiki.example.com", None),
            ("http://", None),
            ("http://:8090/", None),
            ("http://[::1", None),
            ("", None),
        ] {
            assert_eq!(host(url).as_deref(), expected, "{url}");
        }
    }
}
