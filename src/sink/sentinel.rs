//! Microsoft Sentinel, by the Logs Ingestion API of Azure Monitor.

mod assertion;
mod login;
mod managed;
mod token;

pub use token::Tokens;

use super::answer::{Answer, Outcome, of_status, words};
use super::http::{Link, array, encoded, size};
use super::remote::{Peer, PendingEvent};
use crate::clock;
use crate::config::{Compression, SentinelConfig};
use crate::http::{self, HeaderMap, below};
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use serde::Deserialize;
use std::cell::Cell;
use url::Url;

const API_VERSION: &str = "2023-01-01";

/// Outside of these, counted from the arrival, Azure replaces `TimeGenerated`.
const PAST_MS: i64 = 2 * 86_400_000;
const FUTURE_MS: i64 = 86_400_000;

/// The sink of type `sentinel`.
pub struct Sentinel {
    config: SentinelConfig,
    link: Link,
    url: Url,
    tokens: Tokens,
    told_of_times: Cell<bool>,
}

impl Sentinel {
    pub fn new(config: SentinelConfig) -> Sentinel {
        let (rule, stream) = (&config.dcr_immutable_id, &config.stream);
        let path = format!("/dataCollectionRules/{rule}/streams/{stream}?api-version={API_VERSION}");
        Sentinel {
            link: Link::new(&config.http),
            tokens: Tokens::new(&config),
            url: below(&config.http.base, &path),
            told_of_times: Cell::new(false),
            config,
        }
    }

    /// Where records are sent.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether there is a token, or why there is none.
    pub async fn authenticate(&self) -> Result<(), Outcome> {
        self.tokens.get().await.map(drop)
    }

    /// Sends what Azure cannot read as records, so nothing is stored, whatever the answer is.
    pub async fn probe(&self) -> Answer {
        match encoded("application/json", b"[".to_vec(), Compression::None) {
            Ok((headers, body)) => self.post(headers, body).await,
            Err(outcome) => Answer::All(outcome),
        }
    }

    /// A token that is refused may have been revoked, or be the old secret's: a new one is tried, once.
    async fn post(&self, headers: HeaderMap, body: Vec<u8>) -> Answer {
        let mut second = false;
        loop {
            let token = match self.tokens.get().await {
                Ok(token) => token,
                Err(outcome) => return Answer::All(outcome),
            };
            let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) else {
                return Answer::All(Outcome::retry("the token that was given is no text for a header"));
            };
            bearer.set_sensitive(true);
            self.link.conceal(self.tokens.proof().into_iter().collect());
            let mut headers = headers.clone();
            headers.insert(AUTHORIZATION, bearer);
            let answer = match self
                .link
                .send(Method::POST, &self.url, headers, body.clone())
                .await
            {
                Ok(answer) => answer,
                Err(error) => return Answer::All(Outcome::of_error(&error)),
            };
            if answer.status == 401 {
                self.tokens.drop_if(&token).await;
                if !std::mem::replace(&mut second, true) {
                    continue;
                }
            }
            return classify(&answer, &self.config.stream, clock::now_ms());
        }
    }

    fn report_times(&self, events: &[PendingEvent]) {
        let now_ms = clock::now_ms();
        let is_kept =
            |event: &PendingEvent| (now_ms - PAST_MS..=now_ms + FUTURE_MS).contains(&event.time_ms());
        if !self.told_of_times.get() && !events.iter().all(is_kept) {
            self.told_of_times.set(true);
            tracing::warn!(
                "events are older than two days, or more than a day ahead: Azure sets their `TimeGenerated` to the time of arrival; when they happened stands in `CreationDate`"
            );
        }
    }
}

impl Peer for Sentinel {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        self.report_times(events);
        let body = array(events.iter().map(PendingEvent::bytes), size(events));
        if body.len() > SentinelConfig::BODY_BYTES_MAX {
            let reason = format!(
                "{} bytes, and Azure takes less than 1 MiB in one request",
                body.len()
            );
            return match events.len() {
                1 => Answer::All(Outcome::TooLarge { reason }),
                _ => Answer::Halve {
                    reason,
                    too_large: true,
                },
            };
        }
        match encoded("application/json", body, self.config.compression) {
            Ok((headers, body)) => self.post(headers, body).await,
            Err(outcome) => Answer::All(outcome),
        }
    }

    fn changed(&self) -> bool {
        self.link.changed() || self.tokens.changed()
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

/// What an answer of the ingestion endpoint means.
pub fn classify(answer: &http::Answer, stream: &str, now_ms: i64) -> Answer {
    let misconfigured = |remedy: &str| {
        Answer::All(Outcome::Misconfigured {
            reason: format!("{remedy} ({})", words(answer)),
        })
    };
    let fault = serde_json::from_slice::<ErrorBody>(&answer.body)
        .unwrap_or_default()
        .error;
    match answer.status {
        204 => Answer::All(Outcome::Delivered),
        200..=299 => misconfigured("what answers is no ingestion endpoint; correct `endpoint`"),
        400 if fault.code == "InvalidStream" || fault.message.contains(stream) => misconfigured(
            "the data collection rule has no such stream; correct `stream` to a name in its `streamDeclarations`",
        ),
        401 => misconfigured(
            "Azure does not accept the token, not even a new one; see `scope` and `login_host`, which must be of the endpoint's cloud, and this host's clock",
        ),
        403 => misconfigured(
            "the application lacks the role Monitoring Metrics Publisher on the data collection rule; assign it there, and allow up to 30 minutes until it is in effect",
        ),
        404 => misconfigured(
            "there is no such data collection rule at this endpoint; correct `dcr_immutable_id` and `endpoint`, which must be of one region",
        ),
        _ => of_status(answer, now_ms),
    }
}

#[cfg(test)]
mod tests;
