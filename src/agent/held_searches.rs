//! Records of audit log searches in files that may be the agent's own polls. A file contains the user's key, not the
//! name, so such a record is held until an API row reveals the name, for at most a minute.

use super::sink_pipeline::LONG_RECORD_BYTES;
use crate::clock;
use crate::position::Progress;
use crate::record::{EventId, Record};
use crate::source::api::self_activity::{SearchedBy, SelfActivity, SharedSelfActivity, is_search};
use crate::source::dedup::FromFile;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Searches beyond this number are delivered at once.
const HELD_MAX: usize = 100;
/// Delays of the requests for the author of a search. A row may become visible late.
const REQUESTS_MAX: u32 = 3;
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// How long a search is held at most: from when it was read, and from the last request.
const HELD_FOR: Duration = Duration::from_secs(60);
const LAST_ANSWER: Duration = Duration::from_secs(10);
/// Older searches are not held: this agent may not have made them.
const AGE_MAX_MS: i64 = 86_400_000;

/// Held searches of one source. While there is any, progress is withheld: the position is after the search.
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
    pub from: FromFile,
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

    /// The API does not reveal who made this search. Other searches of the same user are not held, unless a row reveals
    /// it later.
    pub fn give_up(&self, record: &Record) {
        self.self_activity().author_not_reported(record);
    }

    /// Whether a search of an unknown user is held.
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

    pub fn contains(&self, id: EventId) -> bool {
        self.searches.iter().any(|search| search.id == id)
    }

    pub fn take(&mut self) -> Vec<HeldSearch> {
        std::mem::take(&mut self.searches)
    }

    /// The time of a search whose author is requested now. Counts the request.
    pub fn next_author(&mut self, now: Instant) -> Option<i64> {
        let due = |search: &&mut HeldSearch| search.next_request().is_some_and(|at| at <= now);
        let search = self.searches.iter_mut().find(due)?;
        search.requests += 1;
        search.requested_at = Some(now);
        Some(search.time_ms)
    }

    /// When to check the searches again. `may_ask`: no request to the API is in flight.
    pub fn due(&self, may_ask: bool) -> Option<Instant> {
        let due = |search: &HeldSearch| {
            let request = search.next_request().filter(|_| may_ask);
            request.map_or(search.ends(), |at| at.min(search.ends()))
        };
        self.searches.iter().map(due).min()
    }

    /// Withholds progress from the checkpoint while a search is held.
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
    /// When to request its author. `None`: no more requests.
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

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        clock::monotonic() >= self.ends()
    }
}
