//! The sink of type `sentinel`: Microsoft Sentinel by the Logs Ingestion API of Azure Monitor.

mod assertion;
mod login;
mod managed;
mod token;

pub(crate) use token::Tokens;

use super::http::{SharedClient, compressed_body, events_bytes, json_array};
use super::outcome::{Outcome, RequestOutcome, of_status, server_message_without_hint};
use super::remote::{Destination, PendingEvent};
use crate::clock;
use crate::config::{Compression, SentinelConfig};
use crate::http::{self, HeaderMap, below};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use std::cell::Cell;
use url::Url;

const API_VERSION: &str = "2023-01-01";

/// Azure replaces `TimeGenerated` if it is outside of this range around the time of arrival.
const PAST_MS: i64 = 2 * 86_400_000;
const FUTURE_MS: i64 = 86_400_000;

/// The sink of type `sentinel`.
pub(crate) struct SentinelSink {
    config: SentinelConfig,
    client: SharedClient,
    url: Url,
    tokens: Tokens,
    times_warned: Cell<bool>,
}

impl SentinelSink {
    pub(crate) fn new(config: SentinelConfig) -> SentinelSink {
        let (rule, stream) = (&config.dcr_immutable_id, &config.stream);
        let path = format!("/dataCollectionRules/{rule}/streams/{stream}?api-version={API_VERSION}");
        SentinelSink {
            client: SharedClient::new(&config.http),
            tokens: Tokens::new(&config),
            url: below(&config.http.base, &path),
            times_warned: Cell::new(false),
            config,
        }
    }

    /// Gets a token. The error is the outcome without one.
    pub(crate) async fn authenticate(&self) -> Result<(), Outcome> {
        self.tokens.get().await.map(drop)
    }

    /// Sends invalid JSON, so nothing is stored whatever the response is.
    pub(crate) async fn probe(&self) -> RequestOutcome {
        match compressed_body("application/json", b"[".to_vec(), Compression::None) {
            Ok((headers, body)) => self.post(headers, body).await,
            Err(outcome) => RequestOutcome::All(outcome),
        }
    }

    /// Sends a body with a token. A refused token may be revoked or belong to an old secret, so a new one is
    /// tried once.
    async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> RequestOutcome {
        let mut retried = false;
        loop {
            let token = match self.tokens.get().await {
                Ok(token) => token,
                Err(outcome) => return RequestOutcome::All(outcome),
            };
            let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) else {
                return RequestOutcome::All(Outcome::retry("the token is not valid text for a header"));
            };
            bearer.set_sensitive(true);
            self.client.redact(self.tokens.secret().into_iter().collect());
            let mut headers = headers.clone();
            headers.insert(AUTHORIZATION, bearer);
            let response = match self.client.send(Method::POST, &self.url, headers, body.clone()).await {
                Ok(response) => response,
                Err(error) => return RequestOutcome::All(Outcome::of_error(&error)),
            };
            if response.status == 401 {
                self.tokens.invalidate(&token).await;
                if !std::mem::replace(&mut retried, true) {
                    continue;
                }
            }
            return classify(&response, &self.config.stream, clock::now_ms());
        }
    }

    fn report_times(&self, events: &[PendingEvent]) {
        let now_ms = clock::now_ms();
        let is_in_range =
            |event: &PendingEvent| (now_ms - PAST_MS..=now_ms + FUTURE_MS).contains(&event.time_ms());
        if !self.times_warned.get() && !events.iter().all(is_in_range) {
            self.times_warned.set(true);
            tracing::warn!(
                "events are older than two days, or more than a day ahead: Azure sets their `TimeGenerated` to the time of arrival; the time of the event is in `CreationDate`"
            );
        }
    }
}

impl Destination for SentinelSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        self.report_times(events);
        let body = json_array(events.iter().map(PendingEvent::bytes), events_bytes(events));
        if body.len() > SentinelConfig::BODY_BYTES_MAX {
            let reason = format!("{} bytes exceed the limit of Azure, 1 MiB per request", body.len());
            return match events.len() {
                1 => RequestOutcome::All(Outcome::TooLarge { reason }),
                _ => RequestOutcome::Halve { reason, too_large: true },
            };
        }
        match compressed_body("application/json", body, self.config.compression) {
            Ok((headers, body)) => self.post(headers, body).await,
            Err(outcome) => RequestOutcome::All(outcome),
        }
    }

    fn credentials_changed(&self) -> bool {
        self.client.credentials_changed() || self.tokens.changed()
    }
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ErrorDetail {
    code: String,
    message: String,
}

/// Classifies a response of the ingestion endpoint.
pub(crate) fn classify(response: &http::Response, stream: &str, now_ms: i64) -> RequestOutcome {
    let misconfigured = |remedy: &str| {
        RequestOutcome::All(Outcome::Misconfigured {
            reason: format!("{remedy} ({})", server_message_without_hint(response)),
        })
    };
    let fault = serde_json::from_slice::<ErrorBody>(&response.body).unwrap_or_default().error;
    match response.status {
        204 => RequestOutcome::All(Outcome::Delivered),
        200..=299 => misconfigured("the server is not an ingestion endpoint; correct `endpoint`"),
        400 if fault.code == "InvalidStream" || fault.message.contains(stream) => misconfigured(
            "the data collection rule has no such stream; correct `stream` to a name in its `streamDeclarations`",
        ),
        401 => misconfigured(
            "Azure does not accept the token, not even a new one; see `scope` and `login_host`, which must match the cloud of the endpoint, and this host's clock",
        ),
        403 => misconfigured(
            "the application lacks the role Monitoring Metrics Publisher on the data collection rule; assign it there, and allow up to 30 minutes until it is in effect",
        ),
        404 => misconfigured(
            "there is no such data collection rule at this endpoint; correct `dcr_immutable_id` and `endpoint`, which must be in the same region",
        ),
        _ => of_status(response, now_ms),
    }
}

#[cfg(test)]
mod tests;
