//! The sink of type `elasticsearch`: Elasticsearch and OpenSearch. Uses `_bulk` with `create`, and each
//! event's id as document id, for a data stream or an index.

pub(crate) mod bulk_response;
pub(crate) mod hosts;
pub(crate) mod product;
pub(crate) mod target;

use super::http::{compressed_body, events_bytes};
use super::outcome::{Outcome, RequestOutcome, of_status, server_message};
use super::remote::{Destination, PendingEvent};
use crate::config::{ElasticsearchConfig, Target};
use crate::http::{self, HeaderMap, HttpError};
use crate::record::EventId;
use bulk_response::BulkError;
use hosts::Hosts;
use product::Support;
use reqwest::Method;
use reqwest::header::HeaderValue;
use std::cell::Cell;

/// The parts of a response that are needed. With them the response to 1,000 accepted events has 66 KB, or 25
/// KB without ids. The ids show that the response is to this request; comparing one takes 0.2 µs.
const FILTER: &str = "filter_path=errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";
/// The action line before an event: the parts before and after the id.
const ACTION: (&[u8], &[u8]) = (b"{\"create\":{\"_id\":\"", b"\"}}\n");
const ID_BYTES: usize = 32;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The command that creates the data stream or index.
pub(crate) const SETUP: &str = "run `confluence-audit-agent setup elasticsearch`";

/// The sink of type `elasticsearch`.
pub(crate) struct ElasticsearchSink {
    config: ElasticsearchConfig,
    hosts: Hosts,
    /// Path and query of a bulk request.
    bulk: String,
    /// The server supports `require_data_stream`, so it never creates a plain index instead of the data
    /// stream.
    requires_data_stream: Cell<bool>,
    /// The warning about a plain index was logged.
    index_warned: Cell<bool>,
    /// The product and the target were checked, or events were accepted.
    checked: Cell<bool>,
    /// Locked during the check.
    check_lock: tokio::sync::Mutex<()>,
}

impl ElasticsearchSink {
    pub(crate) fn new(config: ElasticsearchConfig) -> ElasticsearchSink {
        ElasticsearchSink {
            hosts: Hosts::new(&config),
            bulk: format!("/{}/_bulk?{FILTER}", config.target.name()),
            config,
            requires_data_stream: Cell::new(false),
            index_warned: Cell::new(false),
            checked: Cell::new(false),
            check_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Checks the product and that the data stream exists. Without it and without a template, a bulk request
    /// would create a plain index with mappings guessed from the first events. Credentials that may write but
    /// not read the state are accepted. That is logged as a warning if nothing else prevents the index. The
    /// error is the outcome for all events.
    async fn prepare(&self) -> Result<(), Outcome> {
        let _guard = self.check_lock.lock().await;
        if self.checked.get() {
            return Ok(());
        }
        let product = product::identify(&self.hosts.get("/").await?)?;
        if let Some(product) = &product {
            let host = self.hosts.current().host_str().unwrap_or_default().to_owned();
            match product.support() {
                Support::Yes => tracing::info!(host, server = %product, "connected"),
                Support::Untested => {
                    tracing::warn!(host, server = %product, "connected to a version that this agent was not tested with")
                }
                Support::TooOld => {
                    let reason = format!(
                        "{product} has no data streams; Elasticsearch 7.17 or newer, or OpenSearch, is needed"
                    );
                    return Err(Outcome::Misconfigured { reason });
                }
            }
            self.requires_data_stream.set(product.requires_data_streams());
        }
        match &self.config.target {
            Target::DataStream(name) => self.data_stream(name).await?,
            Target::Index(_) => self.check_target(None).await?,
        }
        self.checked.set(product.is_some());
        Ok(())
    }

    async fn data_stream(&self, name: &str) -> Result<(), Outcome> {
        let path = format!("/_data_stream/{name}");
        let stream = self.hosts.get(&path).await?;
        match (stream.status, of_status(&stream, crate::clock::now_ms())) {
            (200..=299, _) => return self.check_target(Some(&stream)).await,
            (404, _) => {}
            (_, RequestOutcome::All(outcome @ Outcome::Retry { .. })) => return Err(outcome),
            _ => {
                self.report_index(name, "the credentials may not check whether it exists");
                return Ok(());
            }
        }
        // Another template may match the name unnoticed.
        if target::has_template(&self.config, &self.hosts).await == Some(false) {
            let reason = format!(
                "the data stream `{name}` does not exist, and neither does its index template `{}`; {SETUP}",
                self.config.template
            );
            return Err(Outcome::Misconfigured { reason });
        }
        let created = self.hosts.send(Method::PUT, &path, || Ok((HeaderMap::new(), Vec::new()))).await?;
        let fault = BulkError::parse(&created.body);
        match (created.status, &fault) {
            (200..=299, _) => {
                tracing::info!(data_stream = name, "the data stream was created");
                match self.hosts.get(&path).await {
                    Ok(stream) if stream.status == 200 => self.check_target(Some(&stream)).await,
                    _ => Ok(()),
                }
            }
            // The sink of another source has created it meanwhile.
            (400, Some(fault)) if fault.is_already_exists() => Ok(()),
            (400, Some(fault)) if fault.reason.contains("no matching index template") => {
                let reason = format!(
                    "the data stream `{name}` does not exist, and no index template matches it; {SETUP}"
                );
                Err(Outcome::Misconfigured { reason })
            }
            (400, Some(fault)) => {
                let reason = format!(
                    "the data stream `{name}` cannot be created: {}; {SETUP}",
                    fault.described(&created)
                );
                Err(Outcome::Misconfigured { reason })
            }
            (401 | 403, Some(fault)) if !fault.is_block() => {
                self.report_index(name, "it does not exist, and the credentials may not create it");
                Ok(())
            }
            _ => match of_status(&created, crate::clock::now_ms()) {
                RequestOutcome::All(Outcome::Retry { reason, after }) => {
                    Err(Outcome::Retry { reason, after })
                }
                _ => Err(Outcome::retry(server_message(&created))),
            },
        }
    }

    async fn check_target(&self, stream: Option<&http::Response>) -> Result<(), Outcome> {
        match target::target_fault(&self.config, &self.hosts, stream).await? {
            Some(reason) => Err(Outcome::Misconfigured { reason }),
            None => Ok(()),
        }
    }

    fn report_index(&self, name: &str, reason: &str) {
        if !self.requires_data_stream.get() && !self.index_warned.replace(true) {
            tracing::warn!(
                data_stream = name,
                reason,
                "without an index template the events would create a plain index instead of the data stream; {SETUP}, or grant `indices:admin/data_stream/get` (in Elasticsearch `view_index_metadata`)"
            );
        }
    }

    fn body(&self, events: &[PendingEvent]) -> Vec<u8> {
        let line = ACTION.0.len() + ID_BYTES + ACTION.1.len();
        let mut body = Vec::with_capacity(events_bytes(events) + events.len() * line);
        for event in events {
            body.extend_from_slice(ACTION.0);
            body.extend_from_slice(&event.id().hex());
            body.extend_from_slice(ACTION.1);
            body.extend_from_slice(event.bytes());
            body.push(b'\n');
        }
        body
    }
}

impl Destination for ElasticsearchSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        if !self.checked.get()
            && let Err(outcome) = self.prepare().await
        {
            return RequestOutcome::All(outcome);
        }
        let requires_data_stream =
            match self.requires_data_stream.get() && matches!(self.config.target, Target::DataStream(_)) {
                true => "&require_data_stream=true",
                false => "",
            };
        let path = format!("{}{requires_data_stream}", self.bulk);
        let body = || compressed_body("application/x-ndjson", self.body(events), self.config.compression);
        match self.hosts.try_send(Method::POST, &path, body).await {
            Ok(Ok(response)) => {
                let ids: Vec<EventId> = events.iter().map(PendingEvent::id).collect();
                let response = bulk_response::classify(&response, &ids, &self.config, crate::clock::now_ms());
                // The operator has to act, so the target may be another one next time.
                let is_wrong = |outcome: &Outcome| matches!(outcome, Outcome::Misconfigured { .. });
                self.checked.set(match &response {
                    RequestOutcome::All(outcome) => self.checked.get() && !is_wrong(outcome),
                    RequestOutcome::Each(outcomes) => !outcomes.iter().any(is_wrong),
                    RequestOutcome::Halve { .. } | RequestOutcome::Suspect { .. } => self.checked.get(),
                });
                response
            }
            // The response has a limited size for each event, so fewer events have a smaller response.
            Ok(Err(error @ HttpError::TooLarge { .. })) if events.len() > 1 => {
                RequestOutcome::Halve { reason: crate::telemetry::chain(&error), too_large: true }
            }
            Ok(Err(error)) => RequestOutcome::All(Outcome::of_error(&error)),
            Err(outcome) => RequestOutcome::All(outcome),
        }
    }

    fn credentials_changed(&self) -> bool {
        self.hosts.credentials_changed()
    }
}
