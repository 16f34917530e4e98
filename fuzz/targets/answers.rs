//! The answers of servers: nothing counts as delivered that the server did not say so of, each event of a request has
//! its outcome, and no secret of the request is in a message.

use super::input::Input;
use super::readers::json::{self, Json};
use crate::config::{Auth, Compression, ElasticsearchConfig, HttpConfig, Product, Reference, Target};
use crate::delay::{back_off, requested_delay};
use crate::http::{HeaderMap, Response, Secrets};
use crate::record::EventId;
use crate::secret::Secret;
use crate::sink::elasticsearch::bulk_response;
use crate::sink::outcome::{Outcome, RequestOutcome, of_status};
use crate::sink::sentinel;
use crate::source::api::response::{ResponseClass, classify};
use reqwest::header::HeaderValue;
use std::time::Duration;

const SECRET: &str = "s3cret-Token";
const STATUSES: [u16; 24] = [
    200, 201, 202, 204, 301, 302, 400, 401, 402, 403, 404, 405, 407, 408, 409, 413, 415, 422, 425, 429, 500,
    502, 503, 504,
];
const HEADERS: [&str; 10] = [
    "retry-after",
    "content-type",
    "x-ausername",
    "x-seraph-loginreason",
    "x-authentication-denied-reason",
    "x-failure-category",
    "x-ratelimit-reset",
    "x-ratelimit-remaining",
    "ratelimit-reset",
    "date",
];

/// A response: its status, some headers, and the rest is its body.
pub(crate) fn response(input: &mut Input) -> Response {
    let status = STATUSES[input.below(STATUSES.len())];
    let mut headers = HeaderMap::new();
    for _ in 0..input.below(3) {
        let name = HEADERS[input.below(HEADERS.len())];
        if let Ok(value) = HeaderValue::from_bytes(input.bytes()) {
            headers.append(name, value);
        }
    }
    let mut secrets = Secrets::default();
    secrets.add([Secret::new(SECRET)]);
    Response { status, headers, body: input.0.to_vec(), secrets, via: None }
}

/// What an operator reads is short, on one line, and without secrets.
pub(crate) fn check_reason(reason: &str) {
    assert!(!reason.to_ascii_lowercase().contains(&SECRET.to_ascii_lowercase()), "{reason}");
    assert!(reason.chars().count() < 1500, "{} characters", reason.chars().count());
}

/// What each class of outcome may follow from.
pub(crate) fn check_outcome(outcome: &RequestOutcome, response: &Response, sent: usize) {
    match outcome {
        RequestOutcome::All(outcome) => {
            check_reason(outcome.reason());
            let is_success = (200..300).contains(&response.status);
            assert!(is_success || *outcome != Outcome::Delivered, "{response:?}");
            assert!(*outcome != Outcome::Duplicate);
        }
        RequestOutcome::Each(outcomes) => {
            assert_eq!(outcomes.len(), sent);
            outcomes.iter().for_each(|outcome| check_reason(outcome.reason()));
        }
        RequestOutcome::Halve { reason, .. } => {
            check_reason(reason);
            assert!(response.status >= 400, "{response:?}");
        }
        RequestOutcome::Suspect { reason, .. } => {
            check_reason(reason);
            assert!(response.status >= 400, "{response:?}");
        }
    }
}

fn elasticsearch() -> ElasticsearchConfig {
    let host = url::Url::parse("https://e:9200").unwrap_or_else(|error| panic!("{error}"));
    let key = Reference::Inline(Secret::new(SECRET));
    ElasticsearchConfig {
        http: HttpConfig::new(host.clone(), Auth::Scheme("ApiKey", key)),
        hosts: vec![host],
        target: Target::DataStream("logs-atlassian_confluence.audit-default".to_owned()),
        compression: Compression::None,
        template: "confluence-audit".to_owned(),
        pipeline: None,
    }
}

pub(super) fn bulk_answer(data: &[u8]) {
    let mut input = Input(data);
    let sent: Vec<EventId> = (1..=input.below(5)).map(|at| EventId(at as u128)).collect();
    let response = response(&mut input);
    let outcome = bulk_response::classify(&response, &sent, &elasticsearch(), 0);
    check_outcome(&outcome, &response, sent.len());
    match &outcome {
        RequestOutcome::All(outcome) => assert!(*outcome != Outcome::Delivered, "{response:?}"),
        RequestOutcome::Each(outcomes) => check_items(&response, outcomes, &sent),
        RequestOutcome::Halve { .. } | RequestOutcome::Suspect { .. } => {}
    }
    check_outcome(&of_status(&response, 0), &response, sent.len());
    check_outcome(&sentinel::classify(&response, "Custom-Confluence", 0), &response, sent.len());
}

/// What a strict reader finds in the items must be what each outcome says.
fn check_items(response: &Response, outcomes: &[Outcome], sent: &[EventId]) {
    let text = String::from_utf8_lossy(&response.body);
    // Half a surrogate pair, where nothing is read, is refused by the strict reader alone.
    let Ok(json) = json::read_repeated(&text) else {
        return;
    };
    let items = json.get("items").map_or(&[][..], Json::elements);
    assert_eq!(items.len(), sent.len(), "{text}");
    for ((item, outcome), sent) in items.iter().zip(outcomes).zip(sent) {
        let result = item.get("create").unwrap_or(&Json::Null);
        let status = result.get("status").and_then(Json::number);
        let is_ours = matches!(result.get("_id"), None | Some(Json::Null))
            || result.get("_id").and_then(Json::text) == Some(&*sent.to_string());
        assert!(is_ours, "{text}");
        let has_error = !matches!(result.get("error"), None | Some(Json::Null));
        match outcome {
            Outcome::Delivered => assert!(!has_error && matches!(status, Some("200" | "201")), "{text}"),
            Outcome::Duplicate => assert!(has_error && status == Some("409"), "{text}"),
            _ => {}
        }
    }
}

pub(super) fn api_answer(data: &[u8]) {
    let mut input = Input(data);
    let product = match input.flag() {
        false => Product::DataCenter,
        true => Product::Cloud {
            scoped: input.flag(),
            cloud_id: None,
            gateway: url::Url::parse("https://api.example").unwrap_or_else(|error| panic!("{error}")),
        },
    };
    let response = response(&mut input);
    let delay = back_off(1, requested_delay(&response.headers, 1_767_323_045_678), 0.5);
    assert!(delay <= Duration::from_secs(15 * 60), "{delay:?}");
    let class = classify(&Ok(response.clone()), &product);
    assert!(class != ResponseClass::Ok || response.status == 200, "{response:?}");
    check_reason(&class.message());
}
