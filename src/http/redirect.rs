//! Which URLs are the server's own, and what a redirect away from them says. None is followed.

use url::Url;

use super::{HttpError, Secrets};

/// Where a redirect points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedirectKind {
    /// A login page, of Confluence or of a single sign-on.
    Login,
    /// Another scheme, host or port.
    OtherOrigin,
    /// Only from `http` to `https`.
    ToHttps,
    /// Another path of the same server.
    SameOrigin,
}

/// Whether `url` has the scheme, host and port of `base` and its path lies below. Userinfo would become credentials
/// of its own, so no such URL is.
pub fn is_below(url: &Url, base: &Url) -> bool {
    let rest = url.path().strip_prefix(base.path().trim_end_matches('/'));
    same_origin(url, base)
        && url.username().is_empty()
        && url.password().is_none()
        && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// `path`, which begins with a slash and may have a query, below a base, which may have a path of its own.
pub fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = path
        .split_once('?')
        .map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// A URL as it may be told: without userinfo, query and fragment.
pub fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // These fail where a URL has no host; then there is no userinfo either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// The redirect with which `url` was answered, as an error. Of its target nothing is told but the origin, and not that where it
/// holds a secret.
pub fn error(status: u16, location: &str, url: &Url, secrets: &Secrets) -> HttpError {
    let Ok(to) = url.join(location) else {
        let to = "no URL".into();
        return HttpError::Redirect {
            status,
            to,
            kind: RedirectKind::OtherOrigin,
        };
    };
    let host = to.host_str().unwrap_or_default();
    let host = match secrets.concealed(host) == host {
        true => host,
        false => "***",
    };
    let port = to.port().map_or(String::new(), |port| format!(":{port}"));
    HttpError::Redirect {
        status,
        kind: kind(&to, url),
        to: secrets.concealed(&format!("{}://{host}{port}", to.scheme())),
    }
}

fn kind(to: &Url, url: &Url) -> RedirectKind {
    // Data Center: /login.action; Cloud: id.atlassian.com/login; the rest is what single sign-on products use.
    let words = [
        "login",
        "logon",
        "signin",
        "saml",
        "sso",
        "oauth",
        "authorize",
        "openid",
    ];
    let path = to.path().to_ascii_lowercase();
    if words.iter().any(|word| path.contains(word)) {
        RedirectKind::Login
    } else if same_origin(to, url) {
        RedirectKind::SameOrigin
    } else if url.scheme() == "http" && to.scheme() == "https" && to.host() == url.host() {
        RedirectKind::ToHttps
    } else {
        RedirectKind::OtherOrigin
    }
}
