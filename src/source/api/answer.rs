//! What an answer of an audit API means, and what an administrator has to do about it.

use crate::telemetry::chain;
use std::fmt::Display;

use url::Url;

use crate::config::Product;
use crate::http::{HttpError, RedirectKind, Response};

/// Each answer is of one class.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum AnswerClass {
    /// JSON with status 200; whether it is a page is for the page's parser to say.
    Ok,
    /// 429.
    RateLimited,
    /// 502 to 504, a 5xx with `Retry-After`, or too many searches at once.
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
    /// Each further try prolongs the lock.
    Captcha,
    /// Logged in, and not allowed.
    Permission {
        product: Product,
    },
    /// A scoped token without the scope.
    Scope,
    NotFound {
        product: Product,
    },
    /// HTML where JSON belongs, or a redirect to another server or a login.
    LoginPage {
        what: String,
    },
    /// Refused by something before Confluence that guards it.
    Firewall {
        status: u16,
    },
    /// Nothing that an audit API says.
    Protocol {
        what: String,
    },
    /// JSON with status 200 that is no page of events.
    NoPage {
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
    /// A file or a setting on this side.
    Credential {
        what: String,
    },
}

/// How the next request is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cadence {
    /// At the poll interval.
    Normal,
    /// After a back-off: it passes by itself.
    BackOff,
    /// A person has to act, and trying often does harm: a minute, then 15.
    Slow,
}

/// `result` is of a request to an audit API of `product`.
pub(crate) fn classify(result: &Result<Response, HttpError>, product: &Product) -> AnswerClass {
    match result {
        Ok(answer) => classify_answer(answer, product),
        Err(error) => classify_error(error),
    }
}

/// An answer with status 200 and JSON that is no page: the parser's reason.
pub(crate) fn not_a_page(reason: impl Display) -> AnswerClass {
    let what = format!("the answer is no page of audit events: {reason}");
    AnswerClass::NoPage { what }
}

/// `path` (relative) below `base`, whose context path is kept.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn classify_answer(answer: &Response, product: &Product) -> AnswerClass {
    let has = |name, value: &str| answer.header(name).is_some_and(|text| text.contains(value));
    let product = || product.clone();
    let anonymous = answer.header("x-ausername").is_some_and(is_anonymous);
    match answer.status {
        429 => AnswerClass::RateLimited,
        status @ 500.. if overloaded(answer) => AnswerClass::Overloaded { status },
        status @ 500.. => AnswerClass::Server { status },
        407 => AnswerClass::Unreachable { what: answer.proxy_credentials_remedy() },
        401 | 403
            if has("x-seraph-loginreason", "AUTHENTICATION_DENIED")
                || has("x-authentication-denied-reason", "") =>
        {
            AnswerClass::Captcha
        }
        401 if has("x-failure-category", "FAILURE_CLIENT_SCOPE_CHECK") => AnswerClass::Scope,
        401 => AnswerClass::Authentication { product: product() },
        200 | 403 | 404 if anonymous => AnswerClass::Authentication { product: product() },
        403 if is_html(answer) && !is_of_confluence(answer) => AnswerClass::Firewall { status: 403 },
        403 => AnswerClass::Permission { product: product() },
        404 => AnswerClass::NotFound { product: product() },
        200 => classify_content(answer),
        status => AnswerClass::Protocol { what: format!("status {status}, which no audit API answers") },
    }
}

fn is_html(answer: &Response) -> bool {
    let declared = answer.header("content-type").is_some_and(|kind| kind.contains("html"));
    declared || answer.body.trim_ascii_start().starts_with(b"<")
}

/// Confluence tells who is logged in, or in which request, on whatever it answers, and Atlassian's own edge marks
/// what it answers. Their pages name what they are pages of.
fn is_of_confluence(answer: &Response) -> bool {
    let headers = [
        "x-ausername",
        "x-aaccountid",
        "x-arequestid",
        "x-asen",
        "x-confluence-request-time",
        "x-seraph-loginreason",
        "atl-traceid",
    ];
    let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    headers.iter().any(|name| answer.headers.contains_key(*name))
        || ["confluence", "atlassian", "ajs-", "not permitted to perform this operation"]
            .iter()
            .any(|word| text.contains(word))
}

/// Whether `X-AUSERNAME` says that nobody is logged in. A user may have a name like that.
pub(crate) fn is_anonymous(user: &str) -> bool {
    user.trim().eq_ignore_ascii_case("anonymous")
}

fn classify_content(answer: &Response) -> AnswerClass {
    let kind = answer
        .header("content-type")
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    if kind == "application/json" || kind.ends_with("+json") {
        AnswerClass::Ok
    } else if kind.contains("html") {
        AnswerClass::LoginPage { what: "an HTML page came instead of JSON".into() }
    } else {
        AnswerClass::Protocol {
            what: match answer.media_type() {
                none if none.is_empty() => "an answer with no content type came instead of JSON".into(),
                kind => format!("`{kind}` came instead of JSON"),
            },
        }
    }
}

fn overloaded(answer: &Response) -> bool {
    matches!(answer.status, 502..=504)
        || answer.headers.contains_key("retry-after")
        // Data Center refuses searches beyond a number at once with a plain 500.
        || String::from_utf8_lossy(&answer.body).to_ascii_lowercase().contains("concurrent")
}

fn classify_error(error: &HttpError) -> AnswerClass {
    let what = chain(error);
    match error {
        HttpError::Credential(_)
        | HttpError::NoHeader { .. }
        | HttpError::Setting(_)
        | HttpError::File { .. }
        | HttpError::NoPem { .. }
        | HttpError::Build(_)
        | HttpError::Foreign { .. } => AnswerClass::Credential { what },
        HttpError::Redirect { kind: RedirectKind::Login | RedirectKind::OtherOrigin, .. } => {
            AnswerClass::LoginPage { what }
        }
        HttpError::Redirect { .. } => AnswerClass::Protocol { what },
        HttpError::Timeout { .. } => AnswerClass::Timeout { what },
        HttpError::TooLarge { bytes_max } => AnswerClass::TooLarge { bytes_max: *bytes_max },
        HttpError::Unreachable { .. }
        | HttpError::Tls { .. }
        | HttpError::Proxy { .. }
        | HttpError::Broken { .. } => AnswerClass::Unreachable { what },
    }
}

impl AnswerClass {
    /// A word for logs and status.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            AnswerClass::Ok => "ok",
            AnswerClass::RateLimited => "rate_limited",
            AnswerClass::Overloaded { .. } => "overloaded",
            AnswerClass::Server { .. } => "server_error",
            AnswerClass::Authentication { .. } => "authentication",
            AnswerClass::Captcha => "captcha",
            AnswerClass::Permission { .. } => "permission",
            AnswerClass::Scope => "scope",
            AnswerClass::NotFound { .. } => "not_found",
            AnswerClass::LoginPage { .. } => "login_page",
            AnswerClass::Firewall { .. } => "firewall",
            AnswerClass::Protocol { .. } | AnswerClass::NoPage { .. } => "protocol",
            AnswerClass::Unreachable { .. } => "unreachable",
            AnswerClass::Timeout { .. } => "timeout",
            AnswerClass::TooLarge { .. } => "too_large",
            AnswerClass::Credential { .. } => "credential",
        }
    }

    pub(crate) fn cadence(&self) -> Cadence {
        match self {
            AnswerClass::Ok => Cadence::Normal,
            AnswerClass::Authentication { .. }
            | AnswerClass::Captcha
            | AnswerClass::Permission { .. }
            | AnswerClass::Scope
            | AnswerClass::NotFound { .. }
            | AnswerClass::LoginPage { .. }
            | AnswerClass::Firewall { .. }
            | AnswerClass::Credential { .. } => Cadence::Slow,
            _ => Cadence::BackOff,
        }
    }

    /// Whether it is said of whoever asks, whatever is asked for: no other request would fare better.
    pub(crate) fn concerns_the_account(&self) -> bool {
        matches!(
            self,
            AnswerClass::Authentication { .. }
                | AnswerClass::Captcha
                | AnswerClass::Scope
                | AnswerClass::Credential { .. }
        )
    }

    /// Whether a proxy says so while the server behind it restarts, too: then it passes by itself.
    pub(crate) fn comes_of_a_restart_too(&self) -> bool {
        matches!(self, AnswerClass::NotFound { .. } | AnswerClass::LoginPage { .. })
    }

    /// Cause and remedy, for an administrator.
    pub(crate) fn message(&self) -> String {
        match self {
            AnswerClass::Ok => "answers".into(),
            AnswerClass::RateLimited => "rate limit reached (status 429); the agent asks again when the server says, but after 15 minutes at the latest, or where it does not say after a pause that grows. If it lasts, raise `poll_interval`, or exempt the agent's user from the limit".into(),
            AnswerClass::Overloaded { status } => format!("the server is overloaded or being restarted (status {status}); the agent tries again later. If it lasts, look at the server and the proxy before it"),
            AnswerClass::Server { status } => format!("the server failed (status {status}); the agent tries again later. If it lasts, look into the server's log"),
            AnswerClass::Authentication { product } => authentication(product).into(),
            AnswerClass::Captcha => "Confluence demands a CAPTCHA of the agent's user after failed logins, and each further try prolongs that; correct the credentials, then log in once with a browser as this user, or let an administrator reset the failed logins. A Personal Access Token is not subject to it".into(),
            AnswerClass::Permission { product } => permission(product).into(),
            AnswerClass::Scope => "the token lacks the scope `read:audit-log:confluence` (status 401, scope check failed); make a new token with this scope".into(),
            AnswerClass::NotFound { product } => not_found(product).into(),
            AnswerClass::LoginPage { what } => format!("{what}: a single sign-on or a proxy asks for a login. Let it pass requests to the audit API that carry a token, or see whether the token is still valid; and see that `url` is Confluence's own address"),
            AnswerClass::Firewall { status } => format!("a web application firewall or a proxy before Confluence refuses the request (status {status} with an HTML page that is not Confluence's); let requests to the audit API pass there. It says nothing of the permissions of the agent's user"),
            AnswerClass::Protocol { what } | AnswerClass::NoPage { what } => format!("{what}; see that `url` is Confluence's own base URL, context path included, and that no proxy changes its answers"),
            AnswerClass::Unreachable { what } | AnswerClass::Timeout { what } | AnswerClass::Credential { what } => what.clone(),
            AnswerClass::TooLarge { bytes_max } => format!("the answer is longer than {bytes_max} bytes; the agent asks for fewer events. If it lasts, lower `page_size`"),
        }
    }
}

fn authentication(product: &Product) -> &'static str {
    match product {
        Product::DataCenter => {
            "the credentials are not accepted (status 401 or an anonymous answer): wrong, revoked or expired; make a new Personal Access Token (Confluence 7.9 or later) as an administrator. The agent takes it up from its file without a restart"
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
