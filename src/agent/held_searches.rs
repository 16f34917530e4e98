//! Searches of the audit log that files brought and that may be the agent's own. A file has the user's key and not
//! the name, so such a record waits until the API tells the name, or for a minute.

use super::ledger_entry::RecordPlace;
use super::sink_pipeline::LONG_RECORD_BYTES;
use crate::clock;
use crate::position::Progress;
use crate::record::{EventId, Record};
use crate::source::api::self_activity::{SearchedBy, SelfActivity, SharedSelfActivity, is_search};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Further searches are delivered at once.
const HELD_MAX: usize = 100;
/// The API is asked so often who made a search, with such pauses: a row may become visible late.
const REQUESTS_MAX: u32 = 3;
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// Searches no longer wait when so many events wait with them for the ledger.
const WITHHELD_MAX: usize = 50_000;
/// How long a search waits at most: from when it was read, and from the last request.
const HELD_FOR: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Searches of longer ago do not wait: the agent of today may not have made them.
const AGE_MAX_MS: i64 = 86_400_000;

/// Those of one source. While one waits, the checkpoint learns nothing: the position is behind the search.
#[derive(Default)]
pub struct HeldSearches {
    self_activity: SharedSelfActivity,
    /// Leave out the agent's own searches.
    pub drop_self_polls: bool,
    searches: Vec<HeldSearch>,
    withheld: Option<Progress>,
}

pub struct HeldSearch {
    pub body: Vec<u8>,
    pub id: EventId,
    pub time_ms: i64,
    pub place: RecordPlace,
    pub path_json: String,
    pub offset: u64,
    pub unterminated: bool,
    pub since: Instant,
    pub requests: u32,
    pub requested_at: Option<Instant>,
}

impl HeldSearches {
    pub fn new(self_activity: SharedSelfActivity, drop_self_polls: bool) -> HeldSearches {
        HeldSearches { self_activity, drop_self_polls, ..HeldSearches::default() }
    }

    fn self_activity(&self) -> MutexGuard<'_, SelfActivity> {
        self.self_activity.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By whom the search was made, if the record is one.
    pub fn searched_by(&self, record: &Record) -> SearchedBy {
        match is_search(record) {
            true => self.self_activity().searched_by(record),
            false => SearchedBy::Other,
        }
    }

    /// The API does not tell who made this search: others of the same user do not wait, unless a row tells after all.
    pub fn give_up(&self, record: &Record) {
        self.self_activity().author_not_reported(record);
    }

    /// Whether a search of an unknown user is worth waiting for.
    pub fn may_hold(&self, body: &[u8], time_ms: i64, read_at_ms: i64) -> bool {
        self.searches.len() < HELD_MAX
            && body.len() <= LONG_RECORD_BYTES
            && time_ms >= read_at_ms.saturating_sub(AGE_MAX_MS)
    }

    pub fn push(&mut self, search: HeldSearch) {
        self.searches.push(search);
    }

    pub fn is_empty(&self) -> bool {
        self.searches.is_empty()
    }

    /// Whether so many events wait with the searches that these must not wait any longer.
    pub fn withholds_too_many(&self) -> bool {
        self.withheld.as_ref().is_some_and(|withheld| withheld.entries.len() > WITHHELD_MAX)
    }

    pub fn contains(&self, id: EventId) -> bool {
        self.searches.iter().any(|search| search.id == id)
    }

    pub fn take(&mut self) -> Vec<HeldSearch> {
        std::mem::take(&mut self.searches)
    }

    /// The time of a search whose author is to be asked for now. Counts the request.
    pub fn next_author(&mut self, now: Instant) -> Option<i64> {
        let due = |search: &&mut HeldSearch| search.next_request().is_some_and(|at| at <= now);
        let search = self.searches.iter_mut().find(due)?;
        search.requests += 1;
        search.requested_at = Some(now);
        Some(search.time_ms)
    }

    /// When to look at the searches again. `may_ask`: the API is free for a request.
    pub fn due(&self, may_ask: bool) -> Option<Instant> {
        let due = |search: &HeldSearch| {
            let request = search.next_request().filter(|_| may_ask);
            request.map_or(search.ends(), |at| at.min(search.ends()))
        };
        self.searches.iter().map(due).min()
    }

    /// Withholds progress from the checkpoint while a search waits.
    pub fn pass_progress(&mut self, mut progress: Progress) -> Progress {
        if let Some(mut withheld) = self.withheld.take() {
            withheld.merge(progress);
            progress = withheld;
        }
        if self.searches.is_empty() {
            return progress;
        }
        self.withheld = Some(progress);
        Progress { withheld: true, ..Progress::default() }
    }
}

impl HeldSearch {
    /// When to ask by whom it was made; `None`: not any more.
    fn next_request(&self) -> Option<Instant> {
        let at = self.requested_at.map_or(self.since, |at| at + REQUEST_INTERVAL);
        (self.requests < REQUESTS_MAX).then_some(at)
    }

    fn ends(&self) -> Instant {
        match self.requested_at.filter(|_| self.requests >= REQUESTS_MAX) {
            Some(at) => at + LAST_ANSWER,
            None => self.since + HELD_FOR,
        }
    }

    /// Whether it has waited for long enough.
    pub fn is_over(&self) -> bool {
        clock::monotonic() >= self.ends()
    }
}
