//! By which proxy a server is reached: the configured one, or that of the environment, as curl reads it.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::config::HttpConfig;
use crate::secret::Secret;

/// The first that is set and not empty says it, as with curl.
const FOR_HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const FOR_HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A proxy, and where it is configured. Shows no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    pub proxy: String,
    /// A variable of the environment; `None`: the key `proxy`.
    pub variable: Option<&'static str>,
}

impl fmt::Display for Via {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.variable {
            Some(variable) => write!(out, "`{}` (`{variable}`)", self.proxy),
            None => write!(out, "`{}` (key `proxy`)", self.proxy),
        }
    }
}

impl Via {
    /// Where hosts are listed that are reached without it.
    pub fn exceptions(&self) -> &'static str {
        match self.variable {
            Some(_) => "the environment variable `NO_PROXY`",
            None => "`no_proxy`",
        }
    }
}

/// The proxies of one client.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<(Url, Option<&'static str>)>,
    https: Option<(Url, Option<&'static str>)>,
    direct: Vec<Direct>,
}

impl Proxies {
    pub fn of(config: &HttpConfig) -> Proxies {
        Proxies::with(config, |name| std::env::var(name).ok())
    }

    fn with(config: &HttpConfig, variable: impl Fn(&str) -> Option<String>) -> Proxies {
        if let Some(proxy) = &config.proxy {
            return Proxies {
                http: Some((proxy.url.clone(), None)),
                https: Some((proxy.url.clone(), None)),
                direct: proxy
                    .no_proxy
                    .iter()
                    .filter_map(|text| Direct::parse(text))
                    .collect(),
            };
        }
        // The server of a CGI request may set `HTTP_PROXY` by a header of its caller.
        let is_cgi = variable("REQUEST_METHOD").is_some();
        let first = |names: &[&'static str]| {
            names
                .iter()
                .filter(|name| !(is_cgi && **name == "HTTP_PROXY"))
                .find_map(|name| Some((variable(name).filter(|text| !text.is_empty())?, *name)))
        };
        let proxy = |names| {
            let (text, name) = first(names)?;
            Some((proxy_url(&text)?, Some(name)))
        };
        let direct = first(&NO_PROXY).map(|(text, _)| text).unwrap_or_default();
        Proxies {
            http: proxy(&FOR_HTTP),
            https: proxy(&FOR_HTTPS),
            direct: direct.split([',', ' ', '\t']).filter_map(Direct::parse).collect(),
        }
    }

    /// The proxy for a URL, if there is one.
    pub fn choose(&self, url: &Url) -> Option<&Url> {
        self.find(url).map(|(proxy, _)| proxy)
    }

    /// The same, to be told.
    pub fn via(&self, url: &Url) -> Option<Via> {
        let (proxy, variable) = self.find(url)?;
        let port = proxy.port().map_or(String::new(), |port| format!(":{port}"));
        let host = proxy.host_str().unwrap_or_default();
        Some(Via {
            proxy: format!("{}://{host}{port}", proxy.scheme()),
            variable: *variable,
        })
    }

    /// The passwords that stand in URLs of the environment, and what their header holds.
    pub fn secrets(&self) -> Vec<Secret> {
        let urls = self.http.iter().chain(&self.https).map(|(url, _)| url);
        urls.filter_map(|url| Some(Secret::new(url.password()?)))
            .collect()
    }

    fn find(&self, url: &Url) -> Option<&(Url, Option<&'static str>)> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        (!self.direct.iter().any(|direct| direct.is(url))).then_some(proxy)
    }
}

/// Without a scheme it is `http`. Of another kind than `http` and `https` it is none that the agent could use.
fn proxy_url(text: &str) -> Option<Url> {
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    url.ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// What is reached without a proxy.
#[derive(Debug, Clone, PartialEq)]
enum Direct {
    All,
    Network {
        address: IpAddr,
        bits: u8,
        port: Option<u16>,
    },
    /// With all names below it. In lower case.
    Domain {
        name: String,
        port: Option<u16>,
    },
}

impl Direct {
    /// `None` if it names nothing.
    fn parse(text: &str) -> Option<Direct> {
        let text = text.trim();
        if text == "*" {
            return Some(Direct::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = address_of(address)?;
            let bits = bits.parse().ok().filter(|bits| *bits <= bits_of(&address))?;
            return Some(Direct::Network {
                address,
                bits,
                port: None,
            });
        }
        let network = |address: IpAddr, port| Direct::Network {
            bits: bits_of(&address),
            address,
            port,
        };
        if let Some(address) = address_of(text) {
            return Some(network(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text, None),
        };
        if let Some(address) = address_of(host) {
            return Some(network(address, port));
        }
        let name = host
            .trim_start_matches('.')
            .trim_end_matches('.')
            .to_ascii_lowercase();
        (!name.is_empty()).then_some(Direct::Domain { name, port })
    }

    fn is(&self, url: &Url) -> bool {
        let is_port = |port: &Option<u16>| port.is_none_or(|port| url.port_or_known_default() == Some(port));
        match (self, url.host()) {
            (Direct::All, _) => true,
            (_, None) => false,
            (Direct::Network { address, bits, port }, Some(host)) => {
                let own = match host {
                    Host::Ipv4(own) => IpAddr::from(own),
                    Host::Ipv6(own) => IpAddr::from(own),
                    Host::Domain(_) => return false,
                };
                is_port(port) && is_within(own, *address, *bits)
            }
            (Direct::Domain { name, port }, Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                let above = host.strip_suffix(name.as_str());
                is_port(port) && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (Direct::Domain { .. }, Some(_)) => false,
        }
    }
}

/// IPv6 with or without its brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    inner.unwrap_or(text).parse().ok()
}

fn bits_of(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn is_within(own: IpAddr, network: IpAddr, bits: u8) -> bool {
    let number = |address: IpAddr| match address {
        // At the upper end, so that bits count from the same side.
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let differs = number(own) ^ number(network);
    own.is_ipv4() == network.is_ipv4() && (bits == 0 || differs >> (128 - u32::from(bits)) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, ProxyConfig};

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn of(variables: &[(&str, &str)]) -> Proxies {
        let config = HttpConfig::new(url("http://wiki.example.com/"), Auth::None);
        let found = |name: &str| variables.iter().find(|(key, _)| *key == name);
        Proxies::with(&config, |name| found(name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn f100_exceptions_are_read_as_curl_reads_them() {
        for (no_proxy, to, is_direct) in [
            ("*", "http://127.0.0.1:9302/", true),
            ("*", "https://wiki.example.com/", true),
            ("*", "http://[::1]/", true),
            ("other, *", "http://127.0.0.1/", true),
            ("127.0.0.1", "http://127.0.0.1:9302/", true),
            ("127.0.0.1", "http://127.0.0.2/", false),
            ("127.0.0.0/8", "http://127.9.9.9/", true),
            ("10.0.0.0/9", "http://10.127.0.1/", true),
            ("10.0.0.0/9", "http://10.128.0.1/", false),
            ("0.0.0.0/0", "http://192.0.2.1/", true),
            ("0.0.0.0/0", "http://[2001:db8::1]/", false),
            ("10.0.0.0/33", "http://10.0.0.0/", false),
            ("::1", "http://[::1]:81/", true),
            ("[::1]", "http://[::1]/", true),
            ("2001:db8::/32", "http://[2001:db8:1::2]/", true),
            ("2001:db8::/32", "http://[2001:db9::2]/", false),
            ("127.0.0.1:9302", "http://127.0.0.1:9302/", true),
            ("127.0.0.1:9302", "http://127.0.0.1:9303/", false),
            ("[::1]:81", "http://[::1]:81/", true),
            ("[::1]:81", "http://[::1]/", false),
            ("wiki.example.com:443", "https://wiki.example.com/", true),
            ("wiki.example.com:443", "http://wiki.example.com/", false),
            ("example.com", "http://wiki.example.com/", true),
            (".example.com", "http://example.com/", true),
            ("Example.COM.", "http://wiki.example.com/", true),
            ("example.com", "http://notexample.com/", false),
            ("ample.com", "http://example.com/", false),
            ("0.1", "http://127.0.0.1/", false),
            ("a b\tlocalhost", "http://localhost/", true),
            (",, ,", "http://localhost/", false),
            ("", "http://localhost/", false),
        ] {
            for name in NO_PROXY {
                let proxies = of(&[
                    ("HTTP_PROXY", "http://p:1"),
                    ("https_proxy", "http://p:1"),
                    (name, no_proxy),
                ]);
                assert_eq!(proxies.choose(&url(to)).is_none(), is_direct, "{no_proxy}: {to}");
            }
            // The same in the configuration, one entry each.
            let mut config = HttpConfig::new(url(to), Auth::None);
            config.proxy = Some(ProxyConfig {
                url: url("http://p:1"),
                auth: None,
                no_proxy: no_proxy.split([',', ' ', '\t']).map(String::from).collect(),
            });
            let proxies = Proxies::with(&config, |_| None);
            assert_eq!(proxies.choose(&url(to)).is_none(), is_direct, "{no_proxy}: {to}");
        }
    }

    #[test]
    fn f100_a_proxy_of_the_environment_is_told_by_its_variable() {
        for (variables, http, https) in [
            (&[("http_proxy", "p:3128")][..], Some("http_proxy"), None),
            (&[("HTTP_PROXY", "http://p:3128")], Some("HTTP_PROXY"), None),
            (
                &[("HTTP_PROXY", "http://q"), ("http_proxy", "http://p:3128")],
                Some("http_proxy"),
                None,
            ),
            (&[("https_proxy", "p:3128")], None, Some("https_proxy")),
            (&[("HTTPS_PROXY", "p:3128")], None, Some("HTTPS_PROXY")),
            (&[("ALL_PROXY", "p:3128")], Some("ALL_PROXY"), Some("ALL_PROXY")),
            (
                &[("all_proxy", "p:3128"), ("https_proxy", "")],
                Some("all_proxy"),
                Some("all_proxy"),
            ),
            (&[("HTTP_PROXY", "p:3128"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("ALL_PROXY", "socks5://p:3128")], None, None),
            (&[], None, None),
        ] {
            let proxies = of(variables);
            for (to, variable) in [("http://w/", http), ("https://w/", https)] {
                let via = proxies.via(&url(to));
                assert_eq!(
                    via.as_ref().and_then(|via| via.variable),
                    variable,
                    "{variables:?}"
                );
                assert!(
                    via.is_none_or(|via| via.proxy == "http://p:3128"),
                    "{variables:?}"
                );
            }
        }
        let proxies = of(&[("HTTP_PROXY", "http://agent:hunter2@p:3128/x")]);
        let via = proxies.via(&url("http://w/")).unwrap().to_string();
        assert_eq!(via, "`http://p:3128` (`HTTP_PROXY`)");
        assert_eq!(proxies.secrets(), [Secret::new("hunter2")]);
    }
}
