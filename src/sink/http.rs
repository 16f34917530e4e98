//! The sink of type `http`: any server that accepts events by HTTP. Also contains what all HTTP based sinks
//! share.

use super::compress::compress;
use super::outcome::{Outcome, RequestOutcome, of_status, server_message};
use super::remote::{Destination, PendingEvent};
use crate::config::{Compression, HttpBody, HttpConfig, HttpSinkConfig};
use crate::http::{self, Client, HeaderMap, HttpError};
use crate::secret::Secret;
use reqwest::Method;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use std::cell::RefCell;
use url::Url;

/// An HTTP client that several concurrent requests share.
pub(crate) struct SharedClient(RefCell<Client>);

impl SharedClient {
    pub(crate) fn new(config: &HttpConfig) -> SharedClient {
        SharedClient(RefCell::new(Client::new(config)))
    }

    /// Also allows requests to URLs below `base`.
    pub(crate) fn allow(&self, base: &Url) {
        self.0.borrow_mut().allow(base.clone());
    }

    /// Same as [`Client::redact`].
    pub(crate) fn redact(&self, secrets: Vec<Secret>) {
        self.0.borrow_mut().redact(secrets);
    }

    /// Sends a body and waits for the complete response.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<http::Response, HttpError> {
        let call = self.0.borrow_mut().exchange(method, url, headers, body)?;
        let result = call.run().await;
        self.0.borrow_mut().note(&result);
        result
    }

    pub(crate) fn credentials_changed(&self) -> bool {
        self.0.borrow().credentials_changed()
    }
}

/// Headers for a body of this content type, and the compressed body.
pub(crate) fn compressed_body(
    content_type: &'static str,
    body: Vec<u8>,
    compression: Compression,
) -> Result<(HeaderMap, Vec<u8>), Outcome> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(encoding) = compression.encoding() {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    match compress(body, compression) {
        Ok(body) => Ok((headers, body)),
        Err(error) => Err(Outcome::retry(format!("cannot compress: {error}"))),
    }
}

/// Events as one JSON array. `capacity` is the expected size in bytes.
pub(crate) fn json_array<'a>(events: impl Iterator<Item = &'a [u8]>, capacity: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(capacity + 2);
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

/// Total size of the events in bytes, with an LF each.
pub(crate) fn events_bytes(events: &[PendingEvent]) -> usize {
    events.iter().map(|event| event.bytes().len() + 1).sum()
}

/// The sink of type `http`.
pub(crate) struct HttpSink {
    config: HttpSinkConfig,
    client: SharedClient,
}

impl HttpSink {
    pub(crate) fn new(config: HttpSinkConfig) -> HttpSink {
        HttpSink { client: SharedClient::new(&config.http), config }
    }

    fn is_success(&self, status: u16) -> bool {
        let accepted = self.config.success.as_ref();
        accepted.is_none_or(|accepted| accepted.contains(&status))
    }

    fn body(&self, events: &[PendingEvent]) -> (&'static str, Vec<u8>) {
        let texts = events.iter().map(PendingEvent::bytes);
        match self.config.body {
            HttpBody::Array => ("application/json", json_array(texts, events_bytes(events))),
            HttpBody::Ndjson => {
                let mut body = Vec::with_capacity(events_bytes(events));
                for text in texts {
                    body.extend_from_slice(text);
                    body.push(b'\n');
                }
                ("application/x-ndjson", body)
            }
        }
    }
}

impl Destination for HttpSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        let (content_type, body) = self.body(events);
        let (headers, body) = match compressed_body(content_type, body, self.config.compression) {
            Ok(compressed_body) => compressed_body,
            Err(outcome) => return RequestOutcome::All(outcome),
        };
        let (method, url) = (self.config.method.clone(), &self.config.http.base);
        match self.client.send(method, url, headers, body).await {
            Ok(response) if (200..300).contains(&response.status) && !self.is_success(response.status) => {
                let reason = format!("{}; this status is not in `success`", server_message(&response));
                RequestOutcome::All(Outcome::Misconfigured { reason })
            }
            Ok(response) => of_status(&response, crate::clock::now_ms()),
            Err(error) => RequestOutcome::All(Outcome::of_error(&error)),
        }
    }

    fn credentials_changed(&self) -> bool {
        self.client.credentials_changed()
    }
}
