//! Asks a server, one request after another: for audit APIs, and for whatever else is reached by HTTP.
//!
//! No request leaves the configured origin, no redirect is followed, and no header is logged. What an answer means is
//! not decided here.

mod build;
mod client;
mod conceal;
mod error;
mod proxy;
mod redirect;
#[cfg(test)]
mod tests;

pub use client::{Client, HttpCall};
pub use conceal::Secrets;
pub use error::{HttpError, Phase, ProxyProblem, TlsProblem, UnreachableCause, find, tls_problem};
pub use proxy::Via;
pub use redirect::{RedirectKind, below};
pub use reqwest::header::HeaderMap;

/// No more of a body is looked through for what may be told: a line in a log is shorter.
const TOLD_BYTES_MAX: usize = 64 << 10;
/// Longer names of media types exist, and tell nobody more.
const MEDIA_TYPE_CHARS_MAX: usize = 40;

/// What a server said: whole, and not longer than `body_bytes_max`.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// Hand it back with [`Client::recycle`] when it has been read.
    pub body: Vec<u8>,
    /// Those of the request. What the body says is told by [`Response::text`] and [`Response::told`] only.
    pub secrets: Secrets,
    /// The proxy that was asked.
    pub via: Option<Via>,
}

impl Response {
    /// A header's text; `None` if it is missing or no plain text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The beginning of the body as it may be told: without what the request carried that nobody may see.
    pub fn text(&self) -> String {
        let body = &self.body[..self.body.len().min(TOLD_BYTES_MAX)];
        String::from_utf8_lossy(&self.secrets.conceal(body)).into_owned()
    }

    /// The same of a text that was read from the answer.
    pub fn concealed(&self, text: &str) -> String {
        self.secrets.concealed(text)
    }

    /// What 407 asks for.
    pub fn proxy_wants_credentials(&self) -> String {
        match &self.via {
            Some(via) => {
                format!("the proxy {via} wants a user and a password; set or correct those of the proxy")
            }
            None => "a proxy wants a user and a password; set or correct those of the proxy".into(),
        }
    }

    /// What kind of content it says to have, as it may be told. Empty if it says none.
    pub fn media_type(&self) -> String {
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
        let kind = self.concealed(self.header("content-type").unwrap_or_default().trim());
        kind.chars()
            .take_while(|c| is_token(*c))
            .take(MEDIA_TYPE_CHARS_MAX)
            .collect()
    }
}
