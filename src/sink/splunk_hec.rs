//! Splunk's HTTP Event Collector: envelopes one behind the other, codes for each fault, and acknowledgements where the token
//! has them.

use super::answer::{Answer, Outcome, of_status, server_message, words};
use super::http::{Link, encoded, size};
use super::remote::{Peer, PendingEvent};
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

/// An indexer acknowledges when its replicas have the events: seldom before a second, mostly within some.
const ASK_FROM: Duration = Duration::from_secs(1);
/// As Splunk asks its clients to.
const ASK_EVERY: Duration = Duration::from_secs(10);

/// The sink of type `splunk_hec`.
pub struct SplunkHec {
    config: SplunkHecConfig,
    link: Link,
    events: Url,
    acknowledgements: Url,
    /// Acknowledgements are counted within a channel. Each client has one of its own.
    channel: String,
    /// What stands between an event's time and the event.
    envelope: Vec<u8>,
}

/// What the collector says.
#[derive(Debug, Default, Deserialize)]
struct HecAnswer {
    code: Option<u32>,
    #[serde(rename = "invalid-event-number")]
    invalid_event: Option<usize>,
    #[serde(rename = "ackId")]
    ack_id: Option<u64>,
}

#[derive(Deserialize)]
struct Acknowledged {
    acks: HashMap<String, bool>,
}

impl SplunkHec {
    pub fn new(config: SplunkHecConfig) -> SplunkHec {
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
        SplunkHec {
            link: Link::new(&config.http),
            events: below(&config.http.base, "/services/collector/event"),
            acknowledgements: below(
                &config.http.base,
                &format!("/services/collector/ack?channel={channel}"),
            ),
            channel,
            envelope,
            config,
        }
    }

    fn body(&self, events: &[PendingEvent]) -> Vec<u8> {
        let around = self.envelope.len() + 100;
        let mut body = Vec::with_capacity(size(events) + events.len() * around);
        for event in events {
            let ms = event.time_ms().max(0);
            // Writing into memory does not fail.
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

    /// Sends a request without any event: the collector looks at the token first, and misses the data then.
    pub async fn probe(&self) -> Answer {
        let headers = self.headers_with_channel(HeaderMap::new());
        match self
            .link
            .send(Method::POST, &self.events, headers, Vec::new())
            .await
        {
            Ok(answer) => classify(&answer, clock::now_ms()),
            Err(error) => Answer::All(Outcome::of_error(&error)),
        }
    }

    /// Whether the token acknowledges, or why not.
    pub async fn probe_acknowledgement(&self) -> Result<(), String> {
        match self.ask(0, None).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(match classify(&answer, clock::now_ms()) {
                Answer::All(Outcome::Misconfigured { reason } | Outcome::Retry { reason, .. }) => reason,
                _ => server_message(&answer),
            }),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Asks what became of what was taken under an id.
    async fn ask(&self, id: u64, cookies: Option<&HeaderValue>) -> Result<http::Answer, HttpError> {
        let mut headers = self.headers_with_channel(HeaderMap::new());
        if let Some(cookies) = cookies {
            headers.insert(COOKIE, cookies.clone());
        }
        let question = format!("{{\"acks\":[{id}]}}").into_bytes();
        self.link
            .send(Method::POST, &self.acknowledgements, headers, question)
            .await
    }

    /// Waits until the indexer says that what it took under this id is safe.
    async fn acknowledged(&self, limit: Duration, id: u64, cookies: Option<HeaderValue>) -> Outcome {
        let by = Instant::now() + limit;
        let mut pause = ASK_FROM;
        let mut fault = None;
        while Instant::now() < by {
            sleep(pause.min(by - Instant::now())).await;
            pause = (pause * 2).min(ASK_EVERY);
            let answer = self.ask(id, cookies.as_ref()).await;
            let answer = match answer {
                Ok(answer) => answer,
                // The events may be safe all the same: whoever sends them again at once has them twice.
                Err(error) => match Outcome::of_error(&error) {
                    Outcome::Retry { reason, .. } => {
                        fault = Some(reason);
                        continue;
                    }
                    other => return other,
                },
            };
            match acknowledgement(&answer, id, clock::now_ms()) {
                Outcome::Retry { reason, .. } => fault = Some(reason).filter(|reason| !reason.is_empty()),
                other => return other,
            }
        }
        let last = fault.map_or(String::new(), |fault| format!(": {fault}"));
        Outcome::retry(format!(
            "no acknowledgement within {limit:?}, so the events are sent again{last}; see whether indexing is blocked, and whether a load balancer sends the questions to another indexer than the events"
        ))
    }
}

impl Peer for SplunkHec {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        let (headers, body) = match encoded("application/json", self.body(events), self.config.compression) {
            Ok(encoded) => encoded,
            Err(outcome) => return Answer::All(outcome),
        };
        let headers = self.headers_with_channel(headers);
        let answer = match self.link.send(Method::POST, &self.events, headers, body).await {
            Ok(answer) => answer,
            Err(error) => return Answer::All(Outcome::of_error(&error)),
        };
        match (classify(&answer, clock::now_ms()), self.config.acknowledge) {
            (Answer::All(Outcome::Delivered), Some(limit)) => {
                let said: HecAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
                Answer::All(match said.ack_id {
                    Some(id) => self.acknowledged(limit, id, cookies(&answer.headers)).await,
                    None => Outcome::Misconfigured {
                        reason: "Splunk takes the events and promises no acknowledgement; turn on indexer acknowledgement for the token, or write `acknowledge = false`".into(),
                    },
                })
            }
            (answer, _) => answer,
        }
    }

    fn changed(&self) -> bool {
        self.link.changed()
    }
}

/// What a load balancer knows its indexer by: the questions must reach the same one.
fn cookies(headers: &HeaderMap) -> Option<HeaderValue> {
    let pairs = headers.get_all(SET_COOKIE).iter();
    let pairs: Vec<&str> = pairs
        .filter_map(|cookie| cookie.to_str().ok()?.split(';').next())
        .collect();
    let mut value = HeaderValue::from_str(&pairs.join("; ")).ok()?;
    value.set_sensitive(true);
    (!pairs.is_empty()).then_some(value)
}

/// What the answer to the question for an id says of its events. `Retry`: not yet, with what is wrong, if something is.
fn acknowledgement(answer: &http::Answer, id: u64, now_ms: i64) -> Outcome {
    if (200..300).contains(&answer.status) {
        let said = serde_json::from_slice::<Acknowledged>(&answer.body);
        return match said {
            Ok(said) if said.acks.get(&id.to_string()) == Some(&true) => Outcome::Delivered,
            Ok(_) => Outcome::retry(""),
            // That a success is all it says, even in Splunk's own words, is no acknowledgement.
            Err(_) => Outcome::retry(format!(
                "no acknowledgement is answered ({})",
                server_message(answer)
            )),
        };
    }
    match classify(answer, now_ms) {
        Answer::All(outcome @ Outcome::Misconfigured { .. }) => outcome,
        _ => Outcome::retry(server_message(answer)),
    }
}

/// By Splunk's own codes, then by the status.
pub fn classify(answer: &http::Answer, now_ms: i64) -> Answer {
    let said: HecAnswer = serde_json::from_slice(&answer.body).unwrap_or_default();
    let misconfigured = |remedy: &str| {
        Answer::All(Outcome::Misconfigured {
            reason: format!("{remedy} ({})", words(answer)),
        })
    };
    match (answer.status, said.code) {
        (200..=299, Some(0)) => Answer::All(Outcome::Delivered),
        (200..=299, _) => misconfigured("what answers is no event collector; correct `url`"),
        (_, Some(1 | 22)) => misconfigured("the token is disabled; enable it in Splunk"),
        (_, Some(2 | 3 | 16)) => {
            misconfigured("the token does not arrive; see whether a proxy removes the header `Authorization`")
        }
        (_, Some(4 | 21)) => misconfigured("Splunk does not know the token; correct `token`"),
        (_, Some(7)) => misconfigured(
            "the token may not write into this index, or there is none of the name; correct `index`, or the token's allowed indexes",
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
        // Those before the one that is named may have been taken all the same: they carry their ids.
        (400, Some(5 | 6 | 12 | 13 | 15)) => match said.invalid_event {
            Some(at) => Answer::Suspect {
                at,
                reason: server_message(answer),
            },
            None => Answer::Halve {
                reason: server_message(answer),
                too_large: false,
            },
        },
        (403, _) => misconfigured("the token is refused; correct `token`"),
        (404, _) => misconfigured(
            "there is no event collector at this address; correct `url`, and see that it is turned on in Splunk",
        ),
        _ => of_status(answer, now_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Answer as Reply;

    fn class(status: u16, body: &str) -> String {
        let answer = Reply {
            status,
            body: body.into(),
            ..Reply::default()
        };
        match classify(&answer, 0) {
            Answer::All(Outcome::Delivered) => "delivered".into(),
            Answer::All(Outcome::Retry { .. }) => "retry".into(),
            Answer::All(Outcome::Misconfigured { reason }) => format!("misconfigured: {reason}"),
            Answer::Suspect { at, .. } => format!("suspect {at}"),
            Answer::Halve { too_large, .. } => format!("halve, too large: {too_large}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_code_has_its_class() {
        let table = [
            (200, r#"{"text":"Success","code":0}"#, "delivered"),
            (200, r#"{"text":"Success","code":0,"ackId":7}"#, "delivered"),
            (
                200,
                "<html>Log in</html>",
                "misconfigured: what answers is no event collector",
            ),
            (200, "", "misconfigured: what answers is no event collector"),
            (
                403,
                r#"{"text":"Token disabled","code":1}"#,
                "misconfigured: the token is disabled",
            ),
            (
                401,
                r#"{"text":"Token is required","code":2}"#,
                "misconfigured: the token does not arrive",
            ),
            (
                401,
                r#"{"text":"Invalid authorization","code":3}"#,
                "misconfigured: the token does not arrive",
            ),
            (
                403,
                r#"{"text":"Invalid token","code":4}"#,
                "misconfigured: Splunk does not know the token",
            ),
            (400, r#"{"text":"No data","code":5}"#, "halve, too large: false"),
            (
                400,
                r#"{"text":"Invalid data format","code":6,"invalid-event-number":3}"#,
                "suspect 3",
            ),
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
            (
                400,
                r#"{"text":"Event field is required","code":12,"invalid-event-number":0}"#,
                "suspect 0",
            ),
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
            (
                503,
                r#"{"text":"HEC is unhealthy, queues are full","code":18}"#,
                "retry",
            ),
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
            let answer = Reply {
                status,
                body: body.into(),
                ..Reply::default()
            };
            acknowledgement(&answer, 7, 0)
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
            assert!(
                matches!(of(status, r#"{"code":0}"#), Outcome::Retry { .. }),
                "{status}"
            );
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
