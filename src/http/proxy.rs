//! Selects the proxy for a server: the configured one, or the one of the environment with the rules of curl.

use std::fmt;
use std::net::IpAddr;

use url::{Host, Url};

use crate::config::HttpConfig;
use crate::secret::Secret;

/// The first variable that is set and not empty is used, as in curl.
const FOR_HTTP: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const FOR_HTTPS: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// A proxy and the place of its configuration. Contains no credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ActiveProxy {
    pub proxy: String,
    /// The environment variable. `None`: the configuration key `proxy`.
    pub variable: Option<&'static str>,
}

impl fmt::Display for ActiveProxy {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        match self.variable {
            Some(variable) => write!(out, "`{}` (`{variable}`)", self.proxy),
            None => write!(out, "`{}` (key `proxy`)", self.proxy),
        }
    }
}

impl ActiveProxy {
    /// The setting that lists hosts which are reached directly.
    pub(crate) fn exceptions(&self) -> &'static str {
        match self.variable {
            Some(_) => "the environment variable `NO_PROXY`",
            None => "`no_proxy`",
        }
    }
}

/// The proxies of one client.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<(Url, Option<&'static str>)>,
    https: Option<(Url, Option<&'static str>)>,
    no_proxy: Vec<NoProxyRule>,
}

impl Proxies {
    pub(super) fn of(config: &HttpConfig) -> Proxies {
        Proxies::with_variables(config, |name| std::env::var(name).ok())
    }

    fn with_variables(config: &HttpConfig, variable: impl Fn(&str) -> Option<String>) -> Proxies {
        if let Some(proxy) = &config.proxy {
            return Proxies {
                http: Some((proxy.url.clone(), None)),
                https: Some((proxy.url.clone(), None)),
                no_proxy: proxy.no_proxy.iter().filter_map(|text| NoProxyRule::parse(text)).collect(),
            };
        }
        // For a CGI program `HTTP_PROXY` may be a header of the request.
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
        let no_proxy = first(&NO_PROXY).map(|(text, _)| text).unwrap_or_default();
        Proxies {
            http: proxy(&FOR_HTTP),
            https: proxy(&FOR_HTTPS),
            no_proxy: no_proxy.split([',', ' ', '\t']).filter_map(NoProxyRule::parse).collect(),
        }
    }

    /// The proxy for a URL.
    pub(super) fn choose(&self, url: &Url) -> Option<&Url> {
        self.find(url).map(|(proxy, _)| proxy)
    }

    /// Same as [`Proxies::choose`], for messages.
    pub(super) fn via(&self, url: &Url) -> Option<ActiveProxy> {
        let (proxy, variable) = self.find(url)?;
        let port = proxy.port().map_or(String::new(), |port| format!(":{port}"));
        let host = proxy.host_str().unwrap_or_default();
        Some(ActiveProxy { proxy: format!("{}://{host}{port}", proxy.scheme()), variable: *variable })
    }

    /// The passwords in URLs of the environment.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let urls = self.http.iter().chain(&self.https).map(|(url, _)| url);
        urls.filter_map(|url| Some(Secret::new(url.password()?))).collect()
    }

    fn find(&self, url: &Url) -> Option<&(Url, Option<&'static str>)> {
        let proxy = match url.scheme() {
            "https" => self.https.as_ref(),
            _ => self.http.as_ref(),
        }?;
        (!self.no_proxy.iter().any(|rule| rule.matches(url))).then_some(proxy)
    }
}

/// Parses a proxy URL. The default scheme is `http`. `None` for schemes other than `http` and `https`, which
/// are not supported.
fn proxy_url(text: &str) -> Option<Url> {
    let url = match text.contains("://") {
        true => Url::parse(text),
        false => Url::parse(&format!("http://{text}")),
    };
    url.ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A rule for hosts that are reached without a proxy.
#[derive(Debug, Clone, PartialEq)]
enum NoProxyRule {
    All,
    Network {
        address: IpAddr,
        bits: u8,
        port: Option<u16>,
    },
    /// A domain in lower case, with all its subdomains.
    Domain {
        name: String,
        port: Option<u16>,
    },
}

impl NoProxyRule {
    /// `None` if the rule is empty or invalid.
    fn parse(text: &str) -> Option<NoProxyRule> {
        let text = text.trim();
        if text == "*" {
            return Some(NoProxyRule::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = address_of(address)?;
            let bits = bits.parse().ok().filter(|bits| *bits <= bits_of(&address))?;
            return Some(NoProxyRule::Network { address, bits, port: None });
        }
        let network = |address: IpAddr, port| NoProxyRule::Network { bits: bits_of(&address), address, port };
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
        let name = host.trim_start_matches('.').trim_end_matches('.').to_ascii_lowercase();
        (!name.is_empty()).then_some(NoProxyRule::Domain { name, port })
    }

    fn matches(&self, url: &Url) -> bool {
        let is_port = |port: &Option<u16>| port.is_none_or(|port| url.port_or_known_default() == Some(port));
        match (self, url.host()) {
            (NoProxyRule::All, _) => true,
            (_, None) => false,
            (NoProxyRule::Network { address, bits, port }, Some(host)) => {
                let address_of_host = match host {
                    Host::Ipv4(address_of_host) => IpAddr::from(address_of_host),
                    Host::Ipv6(address_of_host) => IpAddr::from(address_of_host),
                    Host::Domain(_) => return false,
                };
                is_port(port) && is_in_network(address_of_host, *address, *bits)
            }
            (NoProxyRule::Domain { name, port }, Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                let above = host.strip_suffix(name.as_str());
                is_port(port) && above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }
            (NoProxyRule::Domain { .. }, Some(_)) => false,
        }
    }
}

/// Parses an address; IPv6 with or without brackets.
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

fn is_in_network(address_of_host: IpAddr, network: IpAddr, bits: u8) -> bool {
    let number = |address: IpAddr| match address {
        // Shifted, so that prefix bits are counted from the same side.
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    };
    let differs = number(address_of_host) ^ number(network);
    address_of_host.is_ipv4() == network.is_ipv4() && (bits == 0 || differs >> (128 - u32::from(bits)) == 0)
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
        Proxies::with_variables(&config, |name| found(name).map(|(_, value)| value.to_string()))
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
                let proxies =
                    of(&[("HTTP_PROXY", "http://p:1"), ("https_proxy", "http://p:1"), (name, no_proxy)]);
                assert_eq!(proxies.choose(&url(to)).is_none(), is_direct, "{no_proxy}: {to}");
            }
            // The same rules in the configuration, one per entry.
            let mut config = HttpConfig::new(url(to), Auth::None);
            config.proxy = Some(ProxyConfig {
                url: url("http://p:1"),
                auth: None,
                no_proxy: no_proxy.split([',', ' ', '\t']).map(String::from).collect(),
            });
            let proxies = Proxies::with_variables(&config, |_| None);
            assert_eq!(proxies.choose(&url(to)).is_none(), is_direct, "{no_proxy}: {to}");
        }
    }

    #[test]
    fn f100_a_proxy_of_the_environment_is_named_by_its_variable() {
        for (variables, http, https) in [
            (&[("http_proxy", "p:3128")][..], Some("http_proxy"), None),
            (&[("HTTP_PROXY", "http://p:3128")], Some("HTTP_PROXY"), None),
            (&[("HTTP_PROXY", "http://q"), ("http_proxy", "http://p:3128")], Some("http_proxy"), None),
            (&[("https_proxy", "p:3128")], None, Some("https_proxy")),
            (&[("HTTPS_PROXY", "p:3128")], None, Some("HTTPS_PROXY")),
            (&[("ALL_PROXY", "p:3128")], Some("ALL_PROXY"), Some("ALL_PROXY")),
            (&[("all_proxy", "p:3128"), ("https_proxy", "")], Some("all_proxy"), Some("all_proxy")),
            (&[("HTTP_PROXY", "p:3128"), ("REQUEST_METHOD", "GET")], None, None),
            (&[("ALL_PROXY", "socks5://p:3128")], None, None),
            (&[], None, None),
        ] {
            let proxies = of(variables);
            for (to, variable) in [("http://w/", http), ("https://w/", https)] {
                let via = proxies.via(&url(to));
                assert_eq!(via.as_ref().and_then(|via| via.variable), variable, "{variables:?}");
                assert!(via.is_none_or(|via| via.proxy == "http://p:3128"), "{variables:?}");
            }
        }
        let proxies = of(&[("HTTP_PROXY", "http://agent:hunter2@p:3128/x")]);
        let via = proxies.via(&url("http://w/")).unwrap().to_string();
        assert_eq!(via, "`http://p:3128` (`HTTP_PROXY`)");
        assert_eq!(proxies.secrets(), [Secret::new("hunter2")]);
    }
}
