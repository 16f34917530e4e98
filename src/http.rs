//! Asks a server, one request after another: for audit APIs, and for whatever else is reached by HTTP.
//!
//! No request leaves the configured origin, no redirect is followed, and no header is logged. What an answer means is
//! not decided here.

mod build;
mod client;
mod conceal;
mod error;
mod redirect;
#[cfg(test)]
mod tests;

pub use client::{Client, Exchange};
pub use conceal::Secrets;
pub use error::{HttpError, Phase, TlsProblem, UnreachableCause, find, tls_problem};
pub use redirect::{RedirectKind, below};
pub use reqwest::header::HeaderMap;

/// What a server said: whole, and not longer than `body_bytes_max`.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// Hand it back with [`Client::recycle`] when it has been read.
    pub body: Vec<u8>,
    /// Those of the request. What the body says is told by [`Answer::text`] and [`Answer::told`] only.
    pub secrets: Secrets,
}

impl Answer {
    /// A header's text; `None` if it is missing or no plain text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as it may be told: without what the request carried that nobody may see.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.secrets.conceal(&self.body)).into_owned()
    }

    /// The same of a text that was read from the body.
    pub fn told(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.secrets.conceal(text.as_bytes())).into_owned()
    }
}
