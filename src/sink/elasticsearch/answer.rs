//! What the answer to a bulk request says of each event.

use super::SETUP;
use crate::config::{Auth, ElasticsearchConfig, Target};
use crate::http;
use crate::record::EventId;
use crate::sink::answer::{Answer, Outcome, excerpt, of_status, server_message};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct Bulk<'a> {
    #[serde(borrow)]
    items: Vec<BulkItem<'a>>,
}

#[derive(Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    create: Created<'a>,
}

#[derive(Deserialize)]
struct Created<'a> {
    /// Where it is returned, which a proxy may have left out. Ids of events hold nothing that JSON escapes.
    #[serde(rename = "_id")]
    id: Option<&'a str>,
    status: u16,
    #[serde(borrow)]
    error: Option<BulkError<'a>>,
}

/// What is wrong, in the server's words.
#[derive(Debug, Default, Deserialize)]
pub struct BulkError<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub reason: Cow<'a, str>,
    #[serde(borrow)]
    caused_by: Option<Cause<'a>>,
}

#[derive(Debug, Deserialize)]
struct Cause<'a> {
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Refusal<'a> {
    #[serde(borrow)]
    error: BulkError<'a>,
}

impl BulkError<'_> {
    /// In the words of the answer in which it stands.
    pub fn described(&self, answer: &http::Answer) -> String {
        let mut text = format!("{}: {}", self.kind, self.reason);
        if let Some(cause) = self.caused_by.as_ref().filter(|cause| !cause.reason.is_empty()) {
            text += &format!(": {}", cause.reason);
        }
        excerpt(&answer.concealed(&text))
    }

    /// Of a whole request. `None` where a proxy answers in words of its own.
    pub fn of(body: &[u8]) -> Option<BulkError<'_>> {
        let refusal: Refusal = serde_json::from_slice(body).ok()?;
        Some(refusal.error)
    }

    pub fn is_already_there(&self) -> bool {
        self.kind == "resource_already_exists_exception" && self.reason.starts_with("data_stream")
    }

    /// Writing is blocked: a disk is full, or somebody works on the index. Who blocked it lifts it.
    pub fn is_block(&self) -> bool {
        self.kind.ends_with("_block_exception")
    }

    /// A fault of the index or the cluster, whatever the event.
    fn is_nobodys(&self) -> bool {
        let kinds = [
            // No more shards are allowed, so no index can be made.
            "validation_exception",
            "invalid_index_name_exception",
            "index_closed_exception",
            "invalid_index_template_exception",
            "invalid_alias_name_exception",
        ];
        let reasons = [
            "pipeline with id [",
            "no write index is defined",
            "only write ops with an op_type of create are allowed",
            "unrecognized parameter",
            "no matching index template",
        ];
        kinds.contains(&&*self.kind) || reasons.iter().any(|reason| self.reason.contains(reason))
    }
}

/// What became of the events that were sent, by their ids.
pub fn of(answer: &http::Answer, sent: &[EventId], config: &ElasticsearchConfig, now_ms: i64) -> Answer {
    if (200..300).contains(&answer.status) {
        return items(answer, sent, config);
    }
    let outcome = match (answer.status, BulkError::of(&answer.body)) {
        (400..=404, Some(fault)) if !fault.kind.is_empty() => outcome(answer, answer.status, &fault, config),
        (401, _) => outcome(answer, 401, &BulkError::default(), config),
        _ => return of_status(answer, now_ms),
    };
    match outcome {
        Outcome::Poison { reason } => Answer::Halve {
            reason,
            too_large: false,
        },
        other => Answer::All(other),
    }
}

/// Each event has its own line in the answer, in the order in which they were sent: as many as were sent and each with its id, or
/// the answer is none to this request.
fn items(answer: &http::Answer, sent: &[EventId], config: &ElasticsearchConfig) -> Answer {
    let items = match serde_json::from_slice::<Bulk>(&answer.body) {
        Ok(bulk) => bulk.items,
        Err(error) => {
            let (error, said) = (answer.concealed(&error.to_string()), server_message(answer));
            let reason = format!("the answer is none to a bulk request ({error}): {said}");
            return Answer::All(Outcome::retry(reason));
        }
    };
    if items.len() != sent.len() {
        let (told, sent) = (items.len(), sent.len());
        let reason = format!("the answer tells of {told} events where {sent} were sent");
        return Answer::All(Outcome::retry(reason));
    }
    let is_other = |(item, sent): (&BulkItem, &EventId)| {
        let id = item.create.id;
        id.is_some_and(|id| id.as_bytes() != sent.hex())
    };
    if let Some(at) = items.iter().zip(sent).position(is_other) {
        let reason = format!(
            "the answer is not to this request: its item {} has another id than the event that was sent there; see what stands before the server",
            at + 1
        );
        return Answer::All(Outcome::retry(reason));
    }
    let outcomes = items.into_iter().map(|item| match item.create {
        Created {
            status: 200 | 201,
            error: None,
            ..
        } => Outcome::Delivered,
        Created { status, error, .. } => outcome(answer, status, &error.unwrap_or_default(), config),
    });
    Answer::Each(outcomes.collect())
}

/// `status` is that of the event, or of the whole answer.
fn outcome(answer: &http::Answer, status: u16, fault: &BulkError, config: &ElasticsearchConfig) -> Outcome {
    if status == 409 && fault.kind == "version_conflict_engine_exception" {
        return Outcome::Duplicate;
    }
    let target = config.target.name();
    let told = match fault.kind.is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}, {}", fault.described(answer)),
    };
    let misconfigured = |remedy: String| Outcome::Misconfigured {
        reason: format!("{told}; {remedy}"),
    };
    match status {
        // Freed or lifted, it passes.
        _ if fault.is_block() => Outcome::retry(format!("{told}; free disk space there, or lift the block")),
        401 => misconfigured(match config.http.auth {
            Auth::None => "set `api_key`, or `user` and `password`".into(),
            Auth::Scheme(..) => "correct `api_key`: it is the key's `encoded` form".into(),
            _ => "correct the credentials".into(),
        }),
        403 => misconfigured(format!(
            "the credentials need `create_doc` and `auto_configure` on `{target}` (OpenSearch: the action groups `index` and `create_index`)"
        )),
        404 => misconfigured(match config.target {
            Target::DataStream(_) => SETUP.into(),
            Target::Index(_) => format!("create the index `{target}`, or let the credentials do it"),
        }),
        400 if fault.is_nobodys() => misconfigured(SETUP.into()),
        400 | 413 | 422 => Outcome::Poison { reason: told },
        402 | 405..=407 | 410..=412 | 414..=421 => misconfigured("correct the configuration".into()),
        _ => Outcome::retry(told),
    }
}

#[cfg(test)]
mod tests;
