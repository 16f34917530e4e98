//! Any server that takes events by HTTP: for other pipelines and own receivers. Also what all sinks by HTTP share.

use super::answer::{Answer, Outcome, of_status, server_message};
use super::compress::compress;
use super::remote::{Peer, PendingEvent};
use crate::config::{Compression, HttpBody, HttpConfig, HttpSinkConfig};
use crate::http::{self, Client, HeaderMap, HttpError};
use crate::secret::Secret;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use std::cell::RefCell;
use url::Url;

/// A client that several requests may use at once.
pub struct Link(RefCell<Client>);

impl Link {
    pub fn new(config: &HttpConfig) -> Link {
        Link(RefCell::new(Client::new(config)))
    }

    /// Lets requests go below `base` too.
    pub fn allow(&self, base: &Url) {
        self.0.borrow_mut().allow(base.clone());
    }

    /// As [`Client::conceal`].
    pub fn conceal(&self, secrets: Vec<Secret>) {
        self.0.borrow_mut().conceal(secrets);
    }

    /// Sends a body and waits for the whole answer.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<http::Answer, HttpError> {
        let exchange = self.0.borrow_mut().exchange(method, url, headers, body)?;
        let result = exchange.run().await;
        self.0.borrow_mut().note(&result);
        result
    }

    pub fn changed(&self) -> bool {
        self.0.borrow().credentials_changed()
    }
}

/// Headers for a body of this kind, and the body as it is sent.
pub fn encoded(
    content_type: &'static str,
    body: Vec<u8>,
    how: Compression,
) -> Result<(HeaderMap, Vec<u8>), Outcome> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = how.encoding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    match compress(body, how) {
        Ok(body) => Ok((headers, body)),
        Err(error) => Err(Outcome::retry(format!("cannot compress: {error}"))),
    }
}

/// Events in one JSON array.
pub fn array<'a>(events: impl Iterator<Item = &'a [u8]>, room: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(room + 2);
    body.push(b'[');
    for (at, event) in events.enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.push(b']');
    body
}

/// How many bytes events have, each with an LF.
pub fn size(events: &[PendingEvent]) -> usize {
    events.iter().map(|event| event.bytes().len() + 1).sum()
}

/// The sink of type `http`.
pub struct Http {
    config: HttpSinkConfig,
    link: Link,
}

impl Http {
    pub fn new(config: HttpSinkConfig) -> Http {
        Http {
            link: Link::new(&config.http),
            config,
        }
    }

    fn is_success(&self, status: u16) -> bool {
        let named = self.config.success.as_ref();
        named.is_none_or(|named| named.contains(&status))
    }

    fn body(&self, events: &[PendingEvent]) -> (&'static str, Vec<u8>) {
        let texts = events.iter().map(PendingEvent::bytes);
        match self.config.body {
            HttpBody::Array => ("application/json", array(texts, size(events))),
            HttpBody::Ndjson => {
                let mut body = Vec::with_capacity(size(events));
                for text in texts {
                    body.extend_from_slice(text);
                    body.push(b'\n');
                }
                ("application/x-ndjson", body)
            }
        }
    }
}

impl Peer for Http {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        let (content_type, body) = self.body(events);
        let (headers, body) = match encoded(content_type, body, self.config.compression) {
            Ok(encoded) => encoded,
            Err(outcome) => return Answer::All(outcome),
        };
        let (method, url) = (self.config.method.clone(), &self.config.http.base);
        match self.link.send(method, url, headers, body).await {
            Ok(answer) if (200..300).contains(&answer.status) && !self.is_success(answer.status) => {
                let reason = format!("{}; it is not among `success`", server_message(&answer));
                Answer::All(Outcome::Misconfigured { reason })
            }
            Ok(answer) => of_status(&answer, crate::clock::now_ms()),
            Err(error) => Answer::All(Outcome::of_error(&error)),
        }
    }

    fn changed(&self) -> bool {
        self.link.changed()
    }
}
