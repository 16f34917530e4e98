//! Checks which URLs may be requested, and classifies redirects. No redirect is followed.

use url::Url;

use super::{HttpError, RedirectKind, Secrets};

/// Whether `url` has the scheme, host and port of `base` and a path below it. URLs with userinfo are
/// rejected: it would be sent as credentials.
pub(super) fn is_below(url: &Url, base: &Url) -> bool {
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

/// Appends `path`, which begins with a slash and may have a query, to the path of `base`.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url.set_query(query);
    url
}

/// A URL for messages: without userinfo, query and fragment.
pub(super) fn without_secrets(url: &Url) -> String {
    let mut url = url.clone();
    // These fail for URLs without a host, which have no userinfo.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// The error for a redirect of `url`. It contains only the origin of the target, and not even that if the
/// host contains a secret.
pub(super) fn error(status: u16, location: &str, url: &Url, secrets: &Secrets) -> HttpError {
    let Ok(to) = url.join(location) else {
        let to = "an invalid URL".into();
        return HttpError::Redirect { status, to, kind: RedirectKind::OtherOrigin };
    };
    let host = to.host_str().unwrap_or_default();
    let host = match secrets.redacted(host) == host {
        true => host,
        false => "***",
    };
    let port = to.port().map_or(String::new(), |port| format!(":{port}"));
    HttpError::Redirect {
        status,
        kind: kind(&to, url),
        to: secrets.redacted(&format!("{}://{host}{port}", to.scheme())),
    }
}

fn kind(to: &Url, url: &Url) -> RedirectKind {
    // Data Center: /login.action. Cloud: id.atlassian.com/login. The other words are those of single sign-on
    // products.
    let words = ["login", "logon", "signin", "saml", "sso", "oauth", "authorize", "openid"];
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
