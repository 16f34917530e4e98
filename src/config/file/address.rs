//! The addresses of servers. A message never repeats an address before its credentials are known not to be there.

use url::{Host, Url};

use crate::config::words::ensure;

/// The base URL of a Data Center: a context path is kept.
pub(crate) fn data_center(text: &str) -> Result<Url, String> {
    let mut url = parse(text)?;
    if let Some(host) = url.host_str().filter(|host| is_cloud(host)) {
        return Err(format!(
            "`{host}` is Confluence Cloud; write `type = \"cloud\"` and `site = \"{host}\"`"
        ));
    }
    let segments: Vec<&str> = url.path().split('/').collect();
    if segments.contains(&"rest") || segments.last().is_some_and(|last| last.ends_with(".action")) {
        return Err("is the address of one page; end it after the host or its context path, as in \"https://confluence.example.com/wiki\"".into());
    }
    let path = url.path().trim_end_matches('/').to_string();
    url.set_path(&path);
    Ok(url)
}

/// The base URL of a Cloud site, which is written as its host or as an address below it. The path is not kept: where
/// the API is, is known.
pub(super) fn site(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let mut url = if text.contains("://") { parse(text)? } else { parse(&format!("https://{text}"))? };
    let host = url.host_str().unwrap_or_default();
    if host == "api.atlassian.com" {
        return Err(
            "is where Atlassian's API is; write the site, as in \"acme.atlassian.net\", and `scoped = true` for a scoped token".into(),
        );
    }
    if !host.contains(['.', ':']) && !is_loopback(&url) {
        return Err(format!("`{host}` is no whole host name; did you mean \"{host}.atlassian.net\"?"));
    }
    let path = url.path().trim_end_matches('/');
    if !path.is_empty() && path != "/wiki" && !path.starts_with("/wiki/") {
        return Err("has a path, and the API of a Cloud site is always below `/wiki`; write the host alone, as in \"acme.atlassian.net\"".into());
    }
    url.set_path("");
    Ok(url)
}

/// Where scoped tokens of Cloud are used. Has no path.
pub(super) fn gateway(text: &str) -> Result<Url, String> {
    let url = parse(text)?;
    let message =
        "has a path, which the agent adds itself; end it after the host, as in \"https://api.atlassian.com\"";
    ensure(url.path() == "/", message).map(|()| url)
}

/// The base URL of a server that is no Confluence; its path is kept.
pub(crate) fn base(text: &str, example: &str) -> Result<Url, String> {
    let mut url = server(text, example)?;
    no_query(&url)?;
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Ok(url)
}

/// A proxy's URL, without path.
pub(super) fn proxy(text: &str) -> Result<Url, String> {
    let url = parse(text).map_err(|message| match message == CREDENTIALS {
        true => PROXY_CREDENTIALS.into(),
        false => message,
    })?;
    let message = "has a path, and a proxy has none; end it after the host and port";
    ensure(url.path() == "/", message).map(|()| url)
}

/// Says that what is sent can be read on the way, where it can.
pub(crate) fn clear_text(url: &Url) -> Option<&'static str> {
    (url.scheme() == "http" && !is_loopback(url))
        .then_some("is not encrypted: everybody on the way can read the credentials; write `https://`")
}

const CREDENTIALS: &str =
    "holds a user or a password; remove them, and write `user` and `token`, or `personal_access_token`";
const PROXY_CREDENTIALS: &str = "holds a user or a password; remove them, and write `proxy = { url = \"…\", user = \"…\", password = { file = \"/path\" } }`";

fn parse(text: &str) -> Result<Url, String> {
    let url = server(text, "https://confluence.example.com")?;
    no_query(&url).map(|()| url)
}

pub(super) fn no_query(url: &Url) -> Result<(), String> {
    ensure(url.query().is_none(), "has a query; end it before the `?`")
}

/// The address of a sink's server; a path is kept as it is, and a query too.
pub(super) fn server(text: &str, example: &str) -> Result<Url, String> {
    let text = text.trim();
    ensure(text.contains("://"), "has no scheme; begin it with `https://`")?;
    let url =
        Url::parse(text).map_err(|error| format!("is no URL: {error}; write it as in \"{example}\""))?;
    let known = matches!(url.scheme(), "http" | "https");
    ensure(known, format!("begins with `{}://`; write `https://`", url.scheme()))?;
    ensure(url.username().is_empty() && url.password().is_none(), CREDENTIALS)?;
    ensure(url.fragment().is_none(), "has a fragment; end it before the `#`")?;
    Ok(url)
}

fn is_cloud(host: &str) -> bool {
    host.ends_with(".atlassian.net") || host == "api.atlassian.com"
}

/// Whether it is on this host.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_center_keeps_its_context_path() {
        let table = [
            ("https://c.example.com", "https://c.example.com/"),
            ("https://c.example.com/", "https://c.example.com/"),
            ("https://c.example.com:8443/wiki//", "https://c.example.com:8443/wiki"),
            (" http://127.0.0.1:8090/a/b ", "http://127.0.0.1:8090/a/b"),
            ("HTTPS://C.example.com", "https://c.example.com/"),
        ];
        for (text, base) in table {
            assert_eq!(data_center(text).unwrap().as_str(), base, "{text}");
        }
    }

    #[test]
    fn a_cloud_site_is_its_host() {
        let table = [
            ("acme.atlassian.net", "https://acme.atlassian.net/"),
            ("acme.atlassian.net/wiki/", "https://acme.atlassian.net/"),
            ("https://acme.atlassian.net/wiki", "https://acme.atlassian.net/"),
            ("https://acme.atlassian.net/wiki/home", "https://acme.atlassian.net/"),
            ("wiki.acme.example", "https://wiki.acme.example/"),
            ("http://127.0.0.1:9/wiki", "http://127.0.0.1:9/"),
            ("http://localhost:9", "http://localhost:9/"),
        ];
        for (text, base) in table {
            assert_eq!(site(text).unwrap().as_str(), base, "{text}");
        }
        let message = site("acme").unwrap_err();
        assert!(message.ends_with("did you mean \"acme.atlassian.net\"?"), "{message}");
        for text in ["https://api.atlassian.com/ex/confluence/1", "acme.atlassian.net/jira", "a b.net", ""] {
            assert!(site(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_message_repeats_what_may_be_a_password() {
        let addresses = [
            "https://me:hunter2@c.example.com",
            "https://me:hunter2@c.example.com:port",
            "me:hunter2@c.example.com",
            "ftp://me:hunter2@c.example.com",
            "https://c.example.com?token=hunter2",
            "https://c.example.com/#hunter2",
            "https://hunter2@acme.atlassian.net/rest",
            "hunter2@acme.atlassian.net",
        ];
        for text in addresses {
            for read in [data_center, site, gateway, proxy] {
                let message = read(text).unwrap_err();
                assert!(!message.contains("hunter2"), "{text}: {message}");
            }
        }
        let message = proxy("http://me:hunter2@proxy:3128").unwrap_err();
        assert!(message.contains("proxy = {"), "{message}");
    }
}
