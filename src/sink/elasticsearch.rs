//! Elasticsearch and OpenSearch: `_bulk` with `create`, each event under its own id, into a data stream or an index.

pub mod answer;
pub mod hosts;
pub mod place;
pub mod product;

use super::answer::{Answer, Outcome, of_status, server_message};
use super::http::{encoded, size};
use super::remote::{Peer, PendingEvent};
use crate::config::{ElasticsearchConfig, Target};
use crate::http::{self, HeaderMap, HttpError};
use crate::record::EventId;
use answer::BulkError;
use hosts::Hosts;
use product::Support;
use reqwest::Method;
use reqwest::header::HeaderValue;
use std::cell::Cell;

/// What is needed of an answer: with it a thousand events that were taken are 66 KB, and 25 KB without the ids. Those show that the
/// answer is to this request; to read and compare one takes 0.2 µs.
const FILTER: &str = "filter_path=errors,items.*._id,items.*.status,items.*.error.type,items.*.error.reason,items.*.error.caused_by.reason";
/// Before and behind the id, and what follows the event.
const ACTION: (&[u8], &[u8]) = (b"{\"create\":{\"_id\":\"", b"\"}}\n");
const ID_BYTES: usize = 32;

pub const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What makes a data stream, or an index, what events can be written to.
pub const SETUP: &str = "run `confluence-audit-agent setup elasticsearch`";

/// The sink of type `elasticsearch`.
pub struct Elasticsearch {
    config: ElasticsearchConfig,
    hosts: Hosts,
    /// With its query.
    bulk: String,
    /// The server takes `require_data_stream`: then nothing makes a plain index in place of the data stream.
    strict: Cell<bool>,
    /// It has been told that it may.
    told_of_index: Cell<bool>,
    /// It has been looked at what the server is, and that events find their place, or events have been taken.
    ready: Cell<bool>,
    /// Held while it is looked.
    looking: tokio::sync::Mutex<()>,
}

impl Elasticsearch {
    pub fn new(config: ElasticsearchConfig) -> Elasticsearch {
        Elasticsearch {
            hosts: Hosts::new(&config),
            bulk: format!("/{}/_bulk?{FILTER}", config.target.name()),
            config,
            strict: Cell::new(false),
            told_of_index: Cell::new(false),
            ready: Cell::new(false),
            looking: tokio::sync::Mutex::default(),
        }
    }

    /// Looks what the server is, and that there is a data stream: a bulk request to none would make a plain index of that name
    /// where no template says otherwise, with whatever types the first events suggest. Credentials that may write and not
    /// look are no fault, and warned of where nothing else keeps the index from being made. Says what is one.
    async fn prepare(&self) -> Result<(), Outcome> {
        let _one = self.looking.lock().await;
        if self.ready.get() {
            return Ok(());
        }
        let product = product::of(&self.hosts.get("/").await?)?;
        if let Some(product) = &product {
            let host = self.hosts.current().host_str().unwrap_or_default().to_owned();
            match product.support() {
                Support::Yes => tracing::info!(host, server = %product, "connected"),
                Support::Untested => {
                    tracing::warn!(host, server = %product, "connected to a version that this agent was not made for")
                }
                Support::TooOld => {
                    let reason = format!(
                        "{product} has no data streams; Elasticsearch 7.17 or newer, or OpenSearch, is needed"
                    );
                    return Err(Outcome::Misconfigured { reason });
                }
            }
            self.strict.set(product.requires_data_streams());
        }
        match &self.config.target {
            Target::DataStream(name) => self.data_stream(name).await?,
            Target::Index(_) => self.is_own(None).await?,
        }
        self.ready.set(product.is_some());
        Ok(())
    }

    async fn data_stream(&self, name: &str) -> Result<(), Outcome> {
        let path = format!("/_data_stream/{name}");
        let found = self.hosts.get(&path).await?;
        match (found.status, of_status(&found, crate::clock::now_ms())) {
            (200..=299, _) => return self.is_own(Some(&found)).await,
            (404, _) => {}
            (_, Answer::All(outcome @ Outcome::Retry { .. })) => return Err(outcome),
            _ => {
                self.report_index(name, "whether it is there may not be asked");
                return Ok(());
            }
        }
        // Another template may fit the name, and nobody would notice.
        if place::has_template(&self.config, &self.hosts).await == Some(false) {
            let reason = format!(
                "the data stream `{name}` does not exist, and the index template `{}` that would make it does neither; {SETUP}",
                self.config.template
            );
            return Err(Outcome::Misconfigured { reason });
        }
        let made = self
            .hosts
            .ask(Method::PUT, &path, || Ok((HeaderMap::new(), Vec::new())))
            .await?;
        let fault = BulkError::of(&made.body);
        match (made.status, &fault) {
            (200..=299, _) => {
                tracing::info!(data_stream = name, "the data stream is created");
                match self.hosts.get(&path).await {
                    Ok(found) if found.status == 200 => self.is_own(Some(&found)).await,
                    _ => Ok(()),
                }
            }
            // Another source's sink was faster.
            (400, Some(fault)) if fault.is_already_there() => Ok(()),
            (400, Some(fault)) if fault.reason.contains("no matching index template") => {
                let reason = format!(
                    "the data stream `{name}` does not exist, and no index template makes it; {SETUP}"
                );
                Err(Outcome::Misconfigured { reason })
            }
            (400, Some(fault)) => {
                let reason = format!(
                    "the data stream `{name}` cannot be made: {}; {SETUP}",
                    fault.described(&made)
                );
                Err(Outcome::Misconfigured { reason })
            }
            (401 | 403, Some(fault)) if !fault.is_block() => {
                self.report_index(name, "it is not there, and may not be made");
                Ok(())
            }
            _ => match of_status(&made, crate::clock::now_ms()) {
                Answer::All(Outcome::Retry { reason, after }) => Err(Outcome::Retry { reason, after }),
                _ => Err(Outcome::retry(server_message(&made))),
            },
        }
    }

    async fn is_own(&self, found: Option<&http::Answer>) -> Result<(), Outcome> {
        match place::fault(&self.config, &self.hosts, found).await? {
            Some(reason) => Err(Outcome::Misconfigured { reason }),
            None => Ok(()),
        }
    }

    fn report_index(&self, name: &str, reason: &str) {
        if !self.strict.get() && !self.told_of_index.replace(true) {
            tracing::warn!(
                data_stream = name,
                reason,
                "without an index template the events would make a plain index in place of the data stream; {SETUP}, or grant `indices:admin/data_stream/get` (in Elasticsearch `view_index_metadata`)"
            );
        }
    }

    fn body(&self, events: &[PendingEvent]) -> Vec<u8> {
        let line = ACTION.0.len() + ID_BYTES + ACTION.1.len();
        let mut body = Vec::with_capacity(size(events) + events.len() * line);
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

impl Peer for Elasticsearch {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        if !self.ready.get()
            && let Err(outcome) = self.prepare().await
        {
            return Answer::All(outcome);
        }
        let strict = match self.strict.get() && matches!(self.config.target, Target::DataStream(_)) {
            true => "&require_data_stream=true",
            false => "",
        };
        let path = format!("{}{strict}", self.bulk);
        let make = || encoded("application/x-ndjson", self.body(events), self.config.compression);
        match self.hosts.try_to_ask(Method::POST, &path, make).await {
            Ok(Ok(answer)) => {
                let ids: Vec<EventId> = events.iter().map(PendingEvent::id).collect();
                let answer = answer::of(&answer, &ids, &self.config, crate::clock::now_ms());
                // Somebody has to act, so what is there may be another thing next time.
                let is_wrong = |outcome: &Outcome| matches!(outcome, Outcome::Misconfigured { .. });
                self.ready.set(match &answer {
                    Answer::All(outcome) => self.ready.get() && !is_wrong(outcome),
                    Answer::Each(outcomes) => !outcomes.iter().any(is_wrong),
                    Answer::Halve { .. } | Answer::Suspect { .. } => self.ready.get(),
                });
                answer
            }
            // It tells of each event at most so much: of fewer, less.
            Ok(Err(error @ HttpError::TooLarge { .. })) if events.len() > 1 => Answer::Halve {
                reason: crate::telemetry::chain(&error),
                too_large: true,
            },
            Ok(Err(error)) => Answer::All(Outcome::of_error(&error)),
            Err(outcome) => Answer::All(outcome),
        }
    }

    fn changed(&self) -> bool {
        self.hosts.changed()
    }
}
