//! The outcome of each event by the response to a bulk request.

use super::SETUP;
use crate::config::{Auth, ElasticsearchConfig, Target};
use crate::http;
use crate::record::EventId;
use crate::sink::outcome::{Outcome, RequestOutcome, excerpt, of_status, server_message};
use serde::Deserialize;
use std::borrow::Cow;

#[derive(Deserialize)]
struct BulkBody<'a> {
    #[serde(borrow)]
    items: Vec<BulkItem<'a>>,
}

#[derive(Deserialize)]
struct BulkItem<'a> {
    #[serde(borrow)]
    create: CreateResult<'a>,
}

#[derive(Deserialize)]
struct CreateResult<'a> {
    /// Absent if a proxy has removed it. Ids of events contain no characters that JSON escapes.
    #[serde(rename = "_id")]
    id: Option<&'a str>,
    status: u16,
    #[serde(borrow)]
    error: Option<BulkError<'a>>,
}

/// An error object of the server.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct BulkError<'a> {
    #[serde(borrow, default, rename = "type")]
    pub kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub reason: Cow<'a, str>,
    #[serde(borrow)]
    caused_by: Option<BulkErrorCause<'a>>,
}

#[derive(Debug, Deserialize)]
struct BulkErrorCause<'a> {
    #[serde(borrow, default)]
    reason: Cow<'a, str>,
}

#[derive(Deserialize)]
struct RequestError<'a> {
    #[serde(borrow)]
    error: BulkError<'a>,
}

impl BulkError<'_> {
    /// Type, reason and cause in one text. Secrets of `response` are redacted.
    pub(crate) fn described(&self, response: &http::Response) -> String {
        let mut text = format!("{}: {}", self.kind, self.reason);
        if let Some(cause) = self.caused_by.as_ref().filter(|cause| !cause.reason.is_empty()) {
            text += &format!(": {}", cause.reason);
        }
        excerpt(&response.redacted(&text))
    }

    /// The error of a whole request. `None` if the body is not Elasticsearch's, for example a proxy's error
    /// page.
    pub(crate) fn parse(body: &[u8]) -> Option<BulkError<'_>> {
        let error: RequestError = serde_json::from_slice(body).ok()?;
        Some(error.error)
    }

    pub(crate) fn is_already_exists(&self) -> bool {
        self.kind == "resource_already_exists_exception" && self.reason.starts_with("data_stream")
    }

    /// Writes are blocked because a disk is full or the index is under maintenance. The block is lifted by
    /// the cluster or its operator.
    pub(crate) fn is_block(&self) -> bool {
        self.kind.ends_with("_block_exception")
    }

    /// The index or the cluster is at fault, not the event.
    fn is_index_fault(&self) -> bool {
        let kinds = [
            // The limit of shards is reached, so no index can be created.
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

/// The outcomes of the events that were sent, compared by their ids.
pub(crate) fn classify(
    response: &http::Response,
    sent: &[EventId],
    config: &ElasticsearchConfig,
    now_ms: i64,
) -> RequestOutcome {
    if (200..300).contains(&response.status) {
        return items(response, sent, config);
    }
    let outcome = match (response.status, BulkError::parse(&response.body)) {
        (400..=404, Some(fault)) if !fault.kind.is_empty() => {
            outcome(response, response.status, &fault, config)
        }
        (401, _) => outcome(response, 401, &BulkError::default(), config),
        _ => return of_status(response, now_ms),
    };
    match outcome {
        Outcome::Poison { reason } => RequestOutcome::Halve { reason, too_large: false },
        other => RequestOutcome::All(other),
    }
}

/// A response has one item per event, in the order of the request. Another number of items, or another id,
/// means that it is not the response to this request.
fn items(response: &http::Response, sent: &[EventId], config: &ElasticsearchConfig) -> RequestOutcome {
    let items = match serde_json::from_slice::<BulkBody>(&response.body) {
        Ok(bulk) => bulk.items,
        Err(error) => {
            let (error, message) = (response.redacted(&error.to_string()), server_message(response));
            let reason = format!("this is not the response to a bulk request ({error}): {message}");
            return RequestOutcome::All(Outcome::retry(reason));
        }
    };
    if items.len() != sent.len() {
        let (described, sent) = (items.len(), sent.len());
        let reason = format!("the response has {described} items for {sent} events");
        return RequestOutcome::All(Outcome::retry(reason));
    }
    let is_other = |(item, sent): (&BulkItem, &EventId)| {
        let id = item.create.id;
        id.is_some_and(|id| id.as_bytes() != sent.hex())
    };
    if let Some(at) = items.iter().zip(sent).position(is_other) {
        let reason = format!(
            "the response is not to this request: its item {} has another id than the event that was sent; see what is between the agent and the server",
            at + 1
        );
        return RequestOutcome::All(Outcome::retry(reason));
    }
    let outcomes = items.into_iter().map(|item| match item.create {
        CreateResult { status: 200 | 201, error: None, .. } => Outcome::Delivered,
        CreateResult { status, error, .. } => outcome(response, status, &error.unwrap_or_default(), config),
    });
    RequestOutcome::Each(outcomes.collect())
}

/// `status` is the status of the event, or of the whole response.
fn outcome(
    response: &http::Response,
    status: u16,
    fault: &BulkError,
    config: &ElasticsearchConfig,
) -> Outcome {
    if status == 409 && fault.kind == "version_conflict_engine_exception" {
        return Outcome::Duplicate;
    }
    let target = config.target.name();
    let described = match fault.kind.is_empty() {
        true => format!("status {status}"),
        false => format!("status {status}, {}", fault.described(response)),
    };
    let misconfigured = |remedy: String| Outcome::Misconfigured { reason: format!("{described}; {remedy}") };
    match status {
        // Transient: until space is freed or the block is lifted.
        _ if fault.is_block() => {
            Outcome::retry(format!("{described}; free disk space there, or lift the block"))
        }
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
            Target::Index(_) => format!("create the index `{target}`, or allow the credentials to create it"),
        }),
        400 if fault.is_index_fault() => misconfigured(SETUP.into()),
        400 | 413 | 422 => Outcome::Poison { reason: described },
        402 | 405..=407 | 410..=412 | 414..=421 => misconfigured("correct the configuration".into()),
        _ => Outcome::retry(described),
    }
}

#[cfg(test)]
mod tests;
