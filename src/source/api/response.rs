//! Classifies the responses of an audit API, with cause and remedy for each class.

use crate::telemetry::chain;
use std::fmt::Display;

use url::Url;

use crate::config::Product;
use crate::http::{HttpError, RedirectKind, Response};

/// The class of a response or of a failed request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ResponseClass {
    /// JSON with status 200. The parser decides whether it is a page.
    Ok,
    /// 429.
    RateLimited,
    /// 502 to 504, a 5xx with `Retry-After`, or too many concurrent searches.
    Overloaded {
        status: u16,
    },
    /// Any other 5xx.
    Server {
        status: u16,
    },
    /// Wrong, expired or no credentials.
    Authentication {
        product: Product,
    },
    /// A CAPTCHA is required after failed logins. Each retry prolongs that.
    Captcha,
    /// Logged in, but without permission.
    Permission {
        product: Product,
    },
    /// A scoped token without the scope.
    Scope,
    NotFound {
        product: Product,
    },
    /// HTML instead of JSON, or a redirect to another server or a login.
    LoginPage {
        what: String,
    },
    /// Refused by a firewall or proxy in front of Confluence.
    Firewall {
        status: u16,
    },
    /// A response that no audit API sends.
    Protocol {
        what: String,
    },
    /// JSON with status 200 that is not a page of events.
    NotAPage {
        what: String,
    },
    Unreachable {
        what: String,
    },
    Timeout {
        what: String,
    },
    TooLarge {
        bytes_max: usize,
    },
    /// A file or a setting of the agent is wrong.
    Credential {
        what: String,
    },
}

/// How the next request is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cadence {
    /// At the poll interval.
    Normal,
    /// After a back-off: the failure is transient.
    BackOff,
    /// An operator must act, and frequent retries do harm: after a minute, then every 15.
    Slow,
}

/// `result` is of a request to an audit API of `product`.
pub(crate) fn classify(result: &Result<Response, HttpError>, product: &Product) -> ResponseClass {
    match result {
        Ok(response) => classify_response(response, product),
        Err(error) => classify_error(error),
    }
}

/// The class of JSON with status 200 that is not a page. `reason`: the parser's error.
pub(crate) fn not_a_page(reason: impl Display) -> ResponseClass {
    let what = format!("the response is no page of audit events: {reason}");
    ResponseClass::NotAPage { what }
}

/// `path` (relative) below `base`, whose context path is kept.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn classify_response(response: &Response, product: &Product) -> ResponseClass {
    let has = |name, value: &str| response.header(name).is_some_and(|text| text.contains(value));
    let product = || product.clone();
    let anonymous = response.header("x-ausername").is_some_and(is_anonymous);
    match response.status {
        429 => ResponseClass::RateLimited,
        status @ 500.. if overloaded(response) => ResponseClass::Overloaded { status },
        status @ 500.. => ResponseClass::Server { status },
        407 => ResponseClass::Unreachable { what: response.proxy_credentials_remedy() },
        401 | 403
            if has("x-seraph-loginreason", "AUTHENTICATION_DENIED")
                || has("x-authentication-denied-reason", "") =>
        {
            ResponseClass::Captcha
        }
        401 if has("x-failure-category", "FAILURE_CLIENT_SCOPE_CHECK") => ResponseClass::Scope,
        401 => ResponseClass::Authentication { product: product() },
        200 | 403 | 404 if anonymous => ResponseClass::Authentication { product: product() },
        403 if is_html(response) && !is_of_confluence(response) => ResponseClass::Firewall { status: 403 },
        403 => ResponseClass::Permission { product: product() },
        404 => ResponseClass::NotFound { product: product() },
        200 => classify_content(response),
        status => ResponseClass::Protocol { what: format!("status {status}, which no audit API answers") },
    }
}

fn is_html(response: &Response) -> bool {
    let declared = response.header("content-type").is_some_and(|kind| kind.contains("html"));
    declared || response.body.trim_ascii_start().starts_with(b"<")
}

/// Whether the response comes from Confluence or Atlassian's edge: both add headers to every response, and their HTML
/// pages contain their names.
fn is_of_confluence(response: &Response) -> bool {
    let headers = [
        "x-ausername",
        "x-aaccountid",
        "x-arequestid",
        "x-asen",
        "x-confluence-request-time",
        "x-seraph-loginreason",
        "atl-traceid",
    ];
    let text = String::from_utf8_lossy(&response.body).to_ascii_lowercase();
    headers.iter().any(|name| response.headers.contains_key(*name))
        || ["confluence", "atlassian", "ajs-", "not permitted to perform this operation"]
            .iter()
            .any(|word| text.contains(word))
}

/// Whether `X-AUSERNAME` says that nobody is logged in. Compares the whole name, because a user's may contain the word.
pub(crate) fn is_anonymous(user: &str) -> bool {
    user.trim().eq_ignore_ascii_case("anonymous")
}

fn classify_content(response: &Response) -> ResponseClass {
    let kind = response
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        ResponseClass::Ok
    } else if kind.contains("html") {
        ResponseClass::LoginPage { what: "an HTML page came instead of JSON".into() }
    } else {
        ResponseClass::Protocol {
            what: match response.media_type() {
                none if none.is_empty() => "a response with no content type came instead of JSON".into(),
                kind => format!("`{kind}` came instead of JSON"),
            },
        }
    }
}

fn overloaded(response: &Response) -> bool {
    matches!(response.status, 502..=504)
        || response.headers.contains_key("retry-after")
        // Data Center refuses too many concurrent searches with a plain 500.
        || String::from_utf8_lossy(&response.body).to_ascii_lowercase().contains("concurrent")
}

fn classify_error(error: &HttpError) -> ResponseClass {
    let what = chain(error);
    match error {
        HttpError::Credential(_)
        | HttpError::NoHeader { .. }
        | HttpError::Setting(_)
        | HttpError::File { .. }
        | HttpError::NoPem { .. }
        | HttpError::Build(_)
        | HttpError::Foreign { .. } => ResponseClass::Credential { what },
        HttpError::Redirect { kind: RedirectKind::Login | RedirectKind::OtherOrigin, .. } => {
            ResponseClass::LoginPage { what }
        }
        HttpError::Redirect { .. } => ResponseClass::Protocol { what },
        HttpError::Timeout { .. } => ResponseClass::Timeout { what },
        HttpError::TooLarge { bytes_max } => ResponseClass::TooLarge { bytes_max: *bytes_max },
        HttpError::Unreachable { .. }
        | HttpError::Tls { .. }
        | HttpError::Proxy { .. }
        | HttpError::Broken { .. } => ResponseClass::Unreachable { what },
    }
}

impl ResponseClass {
    /// The name for `check` and the documents.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            ResponseClass::Ok => "ok",
            ResponseClass::RateLimited => "rate_limited",
            ResponseClass::Overloaded { .. } => "overloaded",
            ResponseClass::Server { .. } => "server_error",
            ResponseClass::Authentication { .. } => "authentication",
            ResponseClass::Captcha => "captcha",
            ResponseClass::Permission { .. } => "permission",
            ResponseClass::Scope => "scope",
            ResponseClass::NotFound { .. } => "not_found",
            ResponseClass::LoginPage { .. } => "login_page",
            ResponseClass::Firewall { .. } => "firewall",
            ResponseClass::Protocol { .. } | ResponseClass::NotAPage { .. } => "protocol",
            ResponseClass::Unreachable { .. } => "unreachable",
            ResponseClass::Timeout { .. } => "timeout",
            ResponseClass::TooLarge { .. } => "too_large",
            ResponseClass::Credential { .. } => "credential",
        }
    }

    pub(crate) fn cadence(&self) -> Cadence {
        match self {
            ResponseClass::Ok => Cadence::Normal,
            ResponseClass::Authentication { .. }
            | ResponseClass::Captcha
            | ResponseClass::Permission { .. }
            | ResponseClass::Scope
            | ResponseClass::NotFound { .. }
            | ResponseClass::LoginPage { .. }
            | ResponseClass::Firewall { .. }
            | ResponseClass::Credential { .. } => Cadence::Slow,
            _ => Cadence::BackOff,
        }
    }

    /// Whether it concerns the account, so that every other request would fail as well.
    pub(crate) fn concerns_account(&self) -> bool {
        matches!(
            self,
            ResponseClass::Authentication { .. }
                | ResponseClass::Captcha
                | ResponseClass::Scope
                | ResponseClass::Credential { .. }
        )
    }

    /// Whether a proxy also responds like this while the server behind it restarts. Then the failure is transient.
    pub(crate) fn may_be_restart(&self) -> bool {
        matches!(self, ResponseClass::NotFound { .. } | ResponseClass::LoginPage { .. })
    }

    /// Cause and remedy, for an administrator.
    pub(crate) fn message(&self) -> String {
        match self {
            ResponseClass::Ok => "answers".into(),
            ResponseClass::RateLimited => "rate limit reached (status 429); the agent retries when the server says, after 15 minutes at the latest, or else with growing pauses. If it lasts, raise `poll_interval`, or exempt the agent's user from the limit".into(),
            ResponseClass::Overloaded { status } => format!("the server is overloaded or being restarted (status {status}); the agent retries with growing pauses. If it lasts, check the server and the proxy in front of it"),
            ResponseClass::Server { status } => format!("the server failed (status {status}); the agent retries with growing pauses. If it lasts, check the server's log"),
            ResponseClass::Authentication { product } => authentication(product).into(),
            ResponseClass::Captcha => "Confluence demands a CAPTCHA of the agent's user after failed logins, and each retry prolongs that; correct the credentials, then log in once with a browser as this user, or let an administrator reset the failed logins. A Personal Access Token is not subject to it".into(),
            ResponseClass::Permission { product } => permission(product).into(),
            ResponseClass::Scope => "the token lacks the scope `read:audit-log:confluence` (status 401, scope check failed); make a new token with this scope".into(),
            ResponseClass::NotFound { product } => not_found(product).into(),
            ResponseClass::LoginPage { what } => format!("{what}: a single sign-on or a proxy asks for a login. Let it pass requests to the audit API that carry a token, or check that the token is still valid; and check that `url` is Confluence's own address"),
            ResponseClass::Firewall { status } => format!("a web application firewall or a proxy in front of Confluence refuses the request (status {status} with an HTML page that is not Confluence's); let requests to the audit API pass there. The permissions of the agent's user are not the cause"),
            ResponseClass::Protocol { what } | ResponseClass::NotAPage { what } => format!("{what}; check that `url` is Confluence's own base URL with its context path, and that no proxy changes its responses"),
            ResponseClass::Unreachable { what } | ResponseClass::Timeout { what } | ResponseClass::Credential { what } => what.clone(),
            ResponseClass::TooLarge { bytes_max } => format!("the response is longer than {bytes_max} bytes; the agent requests fewer events. If it lasts, lower `page_size`"),
        }
    }
}

fn authentication(product: &Product) -> &'static str {
    match product {
        Product::DataCenter => {
            "the credentials are not accepted (status 401 or an anonymous response): wrong, revoked or expired; make a new Personal Access Token (Confluence 7.9 or later) as an administrator. The agent reads it from its file without a restart"
        }
        Product::Cloud { scoped: false, .. } => {
            "the credentials are not accepted: wrong, revoked or expired; `user` is the e-mail address of the account that made the API token. A token with scopes needs `scoped = true`"
        }
        Product::Cloud { scoped: true, .. } => {
            "the credentials are not accepted: wrong, revoked or expired; `user` is the e-mail address of the account that made the API token. A token without scopes needs `scoped = false`"
        }
    }
}

fn permission(product: &Product) -> &'static str {
    match product {
        Product::DataCenter => {
            "logged in, but not allowed to read the audit log (status 403): give the agent's user the global permission Confluence Administrator or System Administrator. If it has that, Basic authentication is switched off: use `personal_access_token`"
        }
        Product::Cloud { .. } => {
            "logged in, but not allowed to read the audit log (status 403): make the agent's user a Confluence administrator. A free plan has no audit log"
        }
    }
}

fn not_found(product: &Product) -> &'static str {
    match product {
        Product::DataCenter => {
            "there is no audit API at this address (status 404): `url` lacks the context path or has a wrong one, Confluence is older than 7.5, or its app Audit log is disabled"
        }
        Product::Cloud { scoped: false, .. } => {
            "there is no Confluence at this site (status 404); correct `site`"
        }
        Product::Cloud { scoped: true, .. } => {
            "there is no Confluence with this cloud id (status 404); correct `cloud_id`, or leave it out and let the agent look it up"
        }
    }
}

#[cfg(test)]
mod tests;
