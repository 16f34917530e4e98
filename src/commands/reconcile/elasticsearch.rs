//! Asks Elasticsearch or OpenSearch for the events that were delivered, by their ids.

use crate::commands::progress::Progress;
use crate::commands::verify::{VerifyFailure, load};
use crate::config::ElasticsearchConfig;
use crate::evidence::export::{Export, Recogniser};
use crate::evidence::ledgers::SourceLedger;
use crate::evidence::row::Row;
use crate::evidence::sort::Sorter;
use crate::http::{HeaderMap, HttpError};
use crate::ledger::EntryKind;
use crate::record::EventId;
use crate::sink::elasticsearch::JSON;
use crate::sink::elasticsearch::hosts::Hosts;
use crate::sink::outcome::{Outcome, RequestOutcome, of_status, server_message};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::json;
use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::time::Duration;

/// Ids that one request asks for: an answer has one or two megabytes.
const IDS: usize = 500;
/// An index may hold an id more than once, in several of the indices behind a data stream.
const HITS_PER_ID: usize = 3;
/// What is needed of an answer. Without `_shards` a part of the index could be missing unnoticed.
const FILTER: &str = "filter_path=timed_out,_shards.failed,hits.hits._id,hits.hits._source";
/// Events that were delivered a moment ago may not be searchable yet. So many missing ones are asked for again.
const AGAIN_MAX: usize = 10_000;
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Whether all of an index has answered.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Completeness {
    timed_out: bool,
    #[serde(rename = "_shards")]
    shards: Shards,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Shards {
    failed: u64,
}

/// The events of the ledgers that the index holds. The inner `Err`: why it cannot be asked.
pub(super) fn ask(
    config: &ElasticsearchConfig,
    ledgers: &[SourceLedger],
    times: Range<i64>,
) -> Result<Result<(Export, Sorter), String>, VerifyFailure> {
    let (entries, loaded) = load(ledgers)?;
    let entries = entries.finish().map_err(VerifyFailure::Temporary)?;
    let is_asked_for =
        |row: &Row| row.kind != EntryKind::Loss as u8 && row.time().is_none_or(|ms| times.contains(&ms));
    let entries = entries.filter(|row| row.as_ref().map_or(true, is_asked_for));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(VerifyFailure::Temporary)?;
    let index = Index { hosts: Hosts::new(config), path: format!("/{}", config.target.name()) };
    let asked = runtime.block_on(index.ask(entries, loaded.events));
    match asked {
        Ok(found) => Ok(Ok(found)),
        Err(AskError::Io(error)) => Err(VerifyFailure::Temporary(error)),
        Err(AskError::Server(reason)) => Ok(Err(reason)),
    }
}

enum AskError {
    /// Of a temporary file.
    Io(io::Error),
    Server(String),
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> AskError {
        AskError::Io(error)
    }
}

struct Index {
    hosts: Hosts,
    /// Begins with a slash.
    path: String,
}

impl Index {
    async fn ask(
        &self,
        entries: impl Iterator<Item = io::Result<Row>>,
        count: u64,
    ) -> Result<(Export, Sorter), AskError> {
        // Without the right to do so, what was delivered a moment ago is asked for again.
        let _ = self.hosts.send(Method::POST, &format!("{}/_refresh", self.path), no_body).await;
        let mut found = Found::default();
        let mut progress = Progress::of_events("asking for events", count);
        let mut ids = Vec::with_capacity(IDS);
        for row in entries {
            let id = row?.id;
            if ids.last() != Some(&id) {
                ids.push(id);
            }
            if ids.len() == IDS {
                self.page(&ids, &mut found).await?;
                progress.add(IDS as u64);
                ids.clear();
            }
        }
        self.page(&ids, &mut found).await?;
        progress.finish();
        let missing = std::mem::take(&mut found.missing);
        if !missing.is_empty() && missing.len() < AGAIN_MAX {
            tokio::time::sleep(AGAIN_AFTER).await;
            for ids in missing.chunks(IDS) {
                self.page(ids, &mut found).await?;
            }
        }
        Ok((found.export, found.rows))
    }

    /// Asks for ids; for fewer at a time if the answer is too long.
    async fn page(&self, ids: &[u128], found: &mut Found) -> Result<(), AskError> {
        let mut open = vec![ids];
        while let Some(ids) = open.pop() {
            if ids.is_empty() {
                continue;
            }
            match self.search(ids).await? {
                Some(body) => found.add(ids, &body)?,
                None => {
                    let (first, second) = ids.split_at(ids.len() / 2);
                    open.extend([second, first]);
                }
            }
        }
        Ok(())
    }

    /// The answer; `None`: it is too long.
    async fn search(&self, ids: &[u128]) -> Result<Option<Vec<u8>>, AskError> {
        let texts: Vec<String> = ids.iter().map(|id| EventId(*id).to_string()).collect();
        let query = json!({
            "size": (ids.len() * HITS_PER_ID).min(10_000),
            "query": {"ids": {"values": texts}},
        });
        let body = query.to_string().into_bytes();
        let make = || Ok((HeaderMap::from_iter([(CONTENT_TYPE, JSON)]), body.clone()));
        let path = format!("{}/_search?{FILTER}", self.path);
        let answer = match self.hosts.try_send(Method::POST, &path, make).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(HttpError::TooLarge { .. })) if ids.len() > 1 => return Ok(None),
            Ok(Err(error)) => return Err(AskError::Server(Outcome::of_error(&error).reason().to_owned())),
            Err(outcome) => return Err(AskError::Server(outcome.reason().to_owned())),
        };
        if answer.status != 200 {
            let reason = match of_status(&answer, crate::clock::now_ms()) {
                RequestOutcome::All(outcome) => outcome.reason().to_owned(),
                _ => server_message(&answer),
            };
            let right = "it needs the right to search (`read`) besides the right to write";
            return Err(AskError::Server(match answer.status {
                401 | 403 => format!("{reason}; {right}"),
                _ => reason,
            }));
        }
        let completeness: Completeness = serde_json::from_slice(&answer.body).unwrap_or_default();
        if completeness.timed_out || completeness.shards.failed > 0 {
            return Err(AskError::Server("a part of the index did not answer; try again".to_owned()));
        }
        Ok(Some(answer.body))
    }
}

fn no_body() -> Result<(HeaderMap, Vec<u8>), Outcome> {
    Ok((HeaderMap::new(), Vec::new()))
}

/// What the index holds.
#[derive(Default)]
struct Found {
    export: Export,
    rows: Sorter,
    /// Ids that were asked for and not found, up to a number.
    missing: Vec<u128>,
}

impl Found {
    fn add(&mut self, asked: &[u128], body: &[u8]) -> io::Result<()> {
        let mut found = HashSet::new();
        let rows = &mut self.rows;
        self.export.read_items(body, &mut Recogniser::new(None), &mut |row, _| {
            found.insert(row.id);
            rows.push(row)
        })?;
        let missing = asked.iter().filter(|id| !found.contains(id));
        self.missing.extend(missing.take(AGAIN_MAX.saturating_sub(self.missing.len())));
        Ok(())
    }
}
