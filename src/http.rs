//! The HTTP client, used for the audit APIs and all other HTTP servers.
//!
//! No request leaves the configured base URLs, no redirect is followed, and no header is logged. The callers
//! decide what a response means.

mod build;
mod client;
mod error;
mod proxy;
mod redact;
mod redirect;
#[cfg(test)]
mod tests;

pub(crate) use client::Client;
pub(crate) use error::{HttpError, Phase, RedirectKind, TlsProblem, find, tls_problem};
pub(crate) use proxy::ActiveProxy;
pub(crate) use redact::Secrets;
pub(crate) use redirect::below;
pub(crate) use reqwest::header::HeaderMap;

/// How much of a body is searched for secrets and then logged. A log line is shorter.
const LOGGED_BYTES_MAX: usize = 64 << 10;
/// Maximum length of a media type in messages.
const MEDIA_TYPE_CHARS_MAX: usize = 40;

/// A complete response. Its body has at most `body_bytes_max` bytes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// Return it with [`Client::recycle`] after use.
    pub body: Vec<u8>,
    /// The secrets of the request. Use [`Response::text`] or [`Response::redacted`] to log anything of the
    /// body.
    pub secrets: Secrets,
    /// The proxy in use.
    pub via: Option<ActiveProxy>,
}

impl Response {
    /// The text of a header. `None` if it is missing or not plain text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The beginning of the body without secrets, for logs and errors.
    pub(crate) fn text(&self) -> String {
        let body = &self.body[..self.body.len().min(LOGGED_BYTES_MAX)];
        String::from_utf8_lossy(&self.secrets.redact(body)).into_owned()
    }

    /// A text of the response without secrets, for logs and errors.
    pub(crate) fn redacted(&self, text: &str) -> String {
        self.secrets.redacted(text)
    }

    /// The remedy for status 407.
    pub(crate) fn proxy_credentials_remedy(&self) -> String {
        match &self.via {
            Some(via) => {
                format!("the proxy {via} requires a user and a password; set or correct those of the proxy")
            }
            None => "a proxy requires a user and a password; set or correct those of the proxy".into(),
        }
    }

    /// The media type of the body without secrets, for logs and errors. Empty if there is none.
    pub(crate) fn media_type(&self) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
        let kind = self.redacted(self.header("content-type").unwrap_or_default().trim());
        kind.chars().take_while(|c| is_token(*c)).take(MEDIA_TYPE_CHARS_MAX).collect()
    }
}
