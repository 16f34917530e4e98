//! The sink of type `splunk_hec`: Splunk's HTTP Event Collector. Sends concatenated envelopes, classifies
//! Splunk's error codes, and waits for indexer acknowledgement if configured.

#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/hec.rs"]
pub(crate) mod fuzz;

use super::http::{SharedClient, compressed_body, events_bytes};
use super::outcome::{Outcome, RequestOutcome, of_status, server_message, server_message_without_hint};
use super::remote::{Destination, PendingEvent};
use crate::clock;
use crate::config::SplunkHecConfig;
use crate::http::{self, HeaderMap, HttpError, below};
use crate::telemetry::chain;
use reqwest::Method;
use reqwest::header::{COOKIE, HeaderValue, SET_COOKIE};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::Write;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use url::Url;
use uuid::Uuid;

/// First poll for an acknowledgement. An indexer acknowledges when its replicas have the events: rarely
/// within a second, mostly within a few.
const ACK_POLL_MIN: Duration = Duration::from_secs(1);
/// The interval that Splunk's documentation asks for.
const ACK_POLL_MAX: Duration = Duration::from_secs(10);

/// The sink of type `splunk_hec`.
pub(crate) struct SplunkHecSink {
    config: SplunkHecConfig,
    client: SharedClient,
    events: Url,
    acknowledgements: Url,
    /// Acknowledgement ids are counted per channel. Each client uses its own channel.
    channel: String,
    /// The part of an envelope between the event's time and the event.
    envelope: Vec<u8>,
}

/// The JSON body of the collector's response.
#[derive(Debug, Default, Deserialize)]
struct HecResponse {
    code: Option<u32>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct AckResponse {
    acks: HashMap<String, bool>,
}

impl SplunkHecSink {
    pub(crate) fn new(config: SplunkHecConfig) -> SplunkHecSink {
        let mut envelope = Vec::new();
        let members = [
            ("host", &config.host),
            ("source", &config.source),
            ("sourcetype", &config.sourcetype),
            ("index", &config.index),
        ];
        for (name, value) in members {
            if let Some(value) = value {
                envelope.extend(format!(",\"{name}\":{}", serde_json::Value::from(value.as_str())).bytes());
            }
        }
        envelope.extend(b",\"event\":");
        let channel = Uuid::new_v4().to_string();
        SplunkHecSink {
            client: SharedClient::new(&config.http),
            events: below(&config.http.base, "/services/collector/event"),
            acknowledgements: below(&config.http.base, &format!("/services/collector/ack?channel={channel}")),
            channel,
            envelope,
            config,
        }
    }

    fn body(&self, events: &[PendingEvent]) -> Vec<u8> {
        let overhead = self.envelope.len() + 100;
        let mut body = Vec::with_capacity(events_bytes(events) + events.len() * overhead);
        for event in events {
            let ms = event.time_ms().max(0);
            // Writing to memory does not fail.
            let _ = write!(body, "{{\"time\":{}.{:03}", ms / 1000, ms % 1000);
            body.extend_from_slice(&self.envelope);
            body.extend_from_slice(event.bytes());
            body.extend_from_slice(b",\"fields\":{\"event_id\":\"");
            body.extend_from_slice(&event.id().hex());
            body.extend_from_slice(b"\"}}\n");
        }
        body
    }

    fn headers_with_channel(&self, mut headers: HeaderMap) -> HeaderMap {
        if let (Some(_), Ok(channel)) = (self.config.acknowledge, HeaderValue::from_str(&self.channel)) {
            headers.insert("x-splunk-request-channel", channel);
        }
        headers
    }

    /// Sends a request without events. The collector checks the token before it reports the missing data.
    pub(crate) async fn probe(&self) -> RequestOutcome {
        let headers = self.headers_with_channel(HeaderMap::new());
        match self.client.send(Method::POST, &self.events, headers, Vec::new()).await {
            Ok(response) => classify(&response, clock::now_ms()),
            Err(error) => RequestOutcome::All(Outcome::of_error(&error)),
        }
    }

    /// Checks that the token has indexer acknowledgement. The error is the reason.
    pub(crate) async fn probe_acknowledgement(&self) -> Result<(), String> {
        match self.poll(0, None).await {
            Ok(response) if response.status == 200 => Ok(()),
            Ok(response) => Err(match classify(&response, clock::now_ms()) {
                RequestOutcome::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => {
                    reason
                }
                _ => server_message(&response),
            }),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Polls the state of an acknowledgement id.
    async fn poll(&self, id: u64, cookies: Option<&HeaderValue>) -> Result<http::Response, HttpError> {
        let mut headers = self.headers_with_channel(HeaderMap::new());
        if let Some(cookies) = cookies {
            headers.insert(COOKIE, cookies.clone());
        }
        let body = format!("{{\"acks\":[{id}]}}").into_bytes();
        self.client.send(Method::POST, &self.acknowledgements, headers, body).await
    }

    /// Waits until the indexer has acknowledged the id.
    async fn acknowledged(&self, limit: Duration, id: u64, cookies: Option<HeaderValue>) -> Outcome {
        let deadline = Instant::now() + limit;
        let mut pause = ACK_POLL_MIN;
        let mut fault = None;
        while Instant::now() < deadline {
            sleep(pause.min(deadline - Instant::now())).await;
            pause = (pause * 2).min(ACK_POLL_MAX);
            let response = self.poll(id, cookies.as_ref()).await;
            let response = match response {
                Ok(response) => response,
                // The events may be indexed all the same. Sending them again at once would create duplicates.
                Err(error) => match Outcome::of_error(&error) {
                    Outcome::Retry { reason, .. } => {
                        fault = Some(reason);
                        continue;
                    }
                    other => return other,
                },
            };
            match acknowledgement(&response, id, clock::now_ms()) {
                Outcome::Retry { reason, .. } => fault = Some(reason).filter(|reason| !reason.is_empty()),
                other => return other,
            }
        }
        let last = fault.map_or(String::new(), |fault| format!(": {fault}"));
        Outcome::retry(format!(
            "no acknowledgement within {limit:?}, so the events are sent again{last}; see whether indexing is blocked, and whether a load balancer sends these requests to another indexer than the events"
        ))
    }
}

impl Destination for SplunkHecSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        let (headers, body) =
            match compressed_body("application/json", self.body(events), self.config.compression) {
                Ok(compressed_body) => compressed_body,
                Err(outcome) => return RequestOutcome::All(outcome),
            };
        let headers = self.headers_with_channel(headers);
        let response = match self.client.send(Method::POST, &self.events, headers, body).await {
            Ok(response) => response,
            Err(error) => return RequestOutcome::All(Outcome::of_error(&error)),
        };
        match (classify(&response, clock::now_ms()), self.config.acknowledge) {
            (RequestOutcome::All(Outcome::Delivered), Some(limit)) => {
                let body: HecResponse = serde_json::from_slice(&response.body).unwrap_or_default();
                RequestOutcome::All(match body.ack_id {
                    Some(id) => self.acknowledged(limit, id, cookies(&response.headers)).await,
                    None => Outcome::Misconfigured {
                        reason: "Splunk accepted the events without an acknowledgement id; turn on indexer acknowledgement for the token, or write `acknowledge = false`".into(),
                    },
                })
            }
            (response, _) => response,
        }
    }

    fn credentials_changed(&self) -> bool {
        self.client.credentials_changed()
    }
}

/// The cookies by which a load balancer selects the indexer. The polls must reach the same one.
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let pairs = headers.get_all(SET_COOKIE).iter();
    let pairs: Vec<&str> = pairs.filter_map(|cookie| cookie.to_str().ok()?.split(';').next()).collect();
    let mut value = HeaderValue::from_str(&pairs.join("; ")).ok()?;
    value.set_sensitive(true);
    (!pairs.is_empty()).then_some(value)
}

/// The outcome of a poll. `Retry`: not acknowledged yet; the reason is empty if there is no fault.
fn acknowledgement(response: &http::Response, id: u64, now_ms: i64) -> Outcome {
    if (200..300).contains(&response.status) {
        let body = serde_json::from_slice::<AckResponse>(&response.body);
        return match body {
            Ok(body) if body.acks.get(&id.to_string()) == Some(&true) => Outcome::Delivered,
            Ok(_) => Outcome::retry(""),
            // A success without `acks`, even from Splunk itself, is not an acknowledgement.
            Err(_) => Outcome::retry(format!(
                "the response contains no acknowledgement ({})",
                server_message(response)
            )),
        };
    }
    match classify(response, now_ms) {
        RequestOutcome::All(outcome @ Outcome::Misconfigured { .. }) => outcome,
        _ => Outcome::retry(server_message(response)),
    }
}

/// Classifies a response by Splunk's codes, then by the HTTP status.
pub(crate) fn classify(response: &http::Response, now_ms: i64) -> RequestOutcome {
    let body: HecResponse = serde_json::from_slice(&response.body).unwrap_or_default();
    let misconfigured = |remedy: &str| {
        RequestOutcome::All(Outcome::Misconfigured {
            reason: format!("{remedy} ({})", server_message_without_hint(response)),
        })
    };
    match (response.status, body.code) {
        (200..=299, Some(0)) => RequestOutcome::All(Outcome::Delivered),
        (200..=299, _) => misconfigured("the server is not an event collector; correct `url`"),
        (_, Some(1 | 22)) => misconfigured("the token is disabled; enable it in Splunk"),
        (_, Some(2 | 3 | 16)) => {
            misconfigured("the token does not arrive; see whether a proxy removes the header `Authorization`")
        }
        (_, Some(4 | 21)) => misconfigured("Splunk does not know the token; correct `token`"),
        (_, Some(7)) => misconfigured(
            "the token may not write to this index, or the index does not exist; correct `index`, or the token's allowed indexes",
        ),
        (_, Some(10)) => {
            misconfigured("the token has indexer acknowledgement turned on; write `acknowledge = true`")
        }
        (_, Some(11)) => {
            misconfigured("Splunk does not accept the channel; see whether a proxy changes headers")
        }
        (_, Some(14)) => misconfigured(
            "the token has no indexer acknowledgement; turn it on in Splunk, or write `acknowledge = false`",
        ),
        // Events before the named one may have been accepted. They are sent again with the same ids.
        (400, Some(5 | 6 | 12 | 13 | 15)) => match body.invalid_event {
            Some(at) => RequestOutcome::Suspect { at, reason: server_message(response) },
            None => RequestOutcome::Halve { reason: server_message(response), too_large: false },
        },
        (403, _) => misconfigured("the token is refused; correct `token`"),
        (404, _) => misconfigured(
            "there is no event collector at this URL; correct `url`, and see whether HEC is enabled in Splunk",
        ),
        _ => of_status(response, now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(status: u16, body: &str) -> String {
        let response = http::Response { status, body: body.into(), ..http::Response::default() };
        match classify(&response, 0) {
            RequestOutcome::All(Outcome::Delivered) => "delivered".into(),
            RequestOutcome::All(Outcome::Retry { .. }) => "retry".into(),
            RequestOutcome::All(Outcome::Misconfigured { reason }) => format!("misconfigured: {reason}"),
            RequestOutcome::Suspect { at, .. } => format!("suspect {at}"),
            RequestOutcome::Halve { too_large, .. } => format!("halve, too large: {too_large}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_code_has_its_class() {
        let table = [
            (200, r#"{"text":"Success","code":0}"#, "delivered"),
            (200, r#"{"text":"Success","code":0,"ackId":7}"#, "delivered"),
            (200, "<html>Log in</html>", "misconfigured: the server is not an event collector"),
            (200, "", "misconfigured: the server is not an event collector"),
            (403, r#"{"text":"Token disabled","code":1}"#, "misconfigured: the token is disabled"),
            (401, r#"{"text":"Token is required","code":2}"#, "misconfigured: the token does not arrive"),
            (401, r#"{"text":"Invalid authorization","code":3}"#, "misconfigured: the token does not arrive"),
            (403, r#"{"text":"Invalid token","code":4}"#, "misconfigured: Splunk does not know the token"),
            (400, r#"{"text":"No data","code":5}"#, "halve, too large: false"),
            (400, r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#, "suspect 3"),
            (
                400,
                r#"{"text":"Invalid data format","code":6,"invalid-event-number":-1}"#,
                "halve, too large: false",
            ),
            (
                400,
                r#"{"text":"Incorrect index","code":7,"invalid-event-number":0}"#,
                "misconfigured: the token may not",
            ),
            (500, r#"{"text":"Internal server error","code":8}"#, "retry"),
            (503, r#"{"text":"Server is busy","code":9}"#, "retry"),
            (
                400,
                r#"{"text":"Data channel is missing","code":10}"#,
                "misconfigured: the token has indexer acknowledgement turned on",
            ),
            (
                400,
                r#"{"text":"Invalid data channel","code":11}"#,
                "misconfigured: Splunk does not accept the channel",
            ),
            (400, r#"{"text":"Event field is required","code":12,"invalid-event-number":0}"#, "suspect 0"),
            (
                400,
                r#"{"text":"Event field cannot be blank","code":13,"invalid-event-number":19}"#,
                "suspect 19",
            ),
            (
                400,
                r#"{"text":"ACK is disabled","code":14}"#,
                "misconfigured: the token has no indexer acknowledgement",
            ),
            (
                400,
                r#"{"text":"Error in handling indexed fields","code":15,"invalid-event-number":1}"#,
                "suspect 1",
            ),
            (503, r#"{"text":"Server is shutting down","code":23}"#, "retry"),
            (503, r#"{"text":"HEC is unhealthy, queues are full","code":18}"#, "retry"),
            (429, r#"{"text":"Queues at capacity","code":26}"#, "retry"),
            (413, "", "halve, too large: true"),
            (
                404,
                r#"{"text":"The requested URL was not found on this server.","code":404}"#,
                "misconfigured: there is no event collector",
            ),
            (502, "<html>Bad Gateway</html>", "retry"),
        ];
        for (status, body, expect) in table {
            let class = class(status, body);
            assert!(class.starts_with(expect), "{status} {body}: {class}");
        }
    }

    #[test]
    fn only_an_acknowledgement_delivers() {
        let of = |status: u16, body: &str| {
            let response = http::Response { status, body: body.into(), ..http::Response::default() };
            acknowledgement(&response, 7, 0)
        };
        for status in 200..300 {
            assert_eq!(of(status, r#"{"acks":{"7":true}}"#), Outcome::Delivered);
            for body in [r#"{"acks":{"7":false}}"#, r#"{"acks":{"8":true}}"#] {
                assert_eq!(of(status, body), Outcome::retry(""), "{status} {body}");
            }
            for body in [r#"{"text":"Success","code":0}"#, "<html>", ""] {
                let Outcome::Retry { reason, .. } = of(status, body) else {
                    panic!("{status} {body}");
                };
                assert!(reason.contains(&format!("status {status}")), "{reason}");
            }
        }
        let disabled = r#"{"text":"ACK is disabled","code":14}"#;
        assert!(matches!(of(400, disabled), Outcome::Misconfigured { .. }));
        for status in [400, 413, 500, 503] {
            assert!(matches!(of(status, r#"{"code":0}"#), Outcome::Retry { .. }), "{status}");
        }
    }

    #[test]
    fn cookies_go_back_without_their_attributes() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookies(&headers), None);
        for cookie in ["AWSELB=abc; Path=/; Max-Age=60", "other=1"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        assert_eq!(cookies(&headers).unwrap(), "AWSELB=abc; other=1");
    }
}
