//! Holds searches of the audit log that were read from files and may be the agent's own. A file contains the user's key
//! but not the name, so such a record is held until the API returns the name, for a minute at most.

use super::ledger_entry::RecordPlace;
use super::sink_pipeline::LONG_RECORD_BYTES;
use crate::clock;
use crate::position::Progress;
use crate::record::{EventId, Record};
use crate::source::api::self_activity::{SearchedBy, SelfActivity, SharedSelfActivity, is_search};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Searches beyond this number are delivered at once.
const HELD_MAX: usize = 100;
/// How often and at which interval the API is asked for the author: a row may become visible late.
const REQUESTS_MAX: u32 = 3;
const REQUEST_INTERVAL: Duration = Duration::from_secs(1);
/// Searches are no longer held when so many events wait with them for the ledger.
const PENDING_MAX: usize = 50_000;
/// How long a search is held at most, after it was read and after the last request.
const HELD_FOR: Duration = Duration::from_secs(60);
const HELD_AFTER_LAST_REQUEST: Duration = Duration::from_secs(10);
/// Older searches are delivered at once: they are probably not of this agent's user.
const AGE_MAX_MS: i64 = 86_400_000;

/// The held searches of one source. While there is one, its positions stay pending: the position is past the search.
#[derive(Default)]
pub struct HeldSearches {
    self_activity: SharedSelfActivity,
    /// Do not deliver the agent's own searches.
    pub drop_self_polls: bool,
    searches: Vec<HeldSearch>,
    pending_progress: Option<Progress>,
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

    /// Who made the search. `Other` if the record is not a search.
    pub fn searched_by(&self, record: &Record) -> SearchedBy {
        match is_search(record) {
            true => self.self_activity().searched_by(record),
            false => SearchedBy::Other,
        }
    }

    /// The API did not return the author of this search. Further searches of this user are not held.
    pub fn give_up(&self, record: &Record) {
        self.self_activity().author_not_found(record);
    }

    /// Whether a search of an unknown user may be held.
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
    pub fn has_too_many_pending(&self) -> bool {
        self.pending_progress.as_ref().is_some_and(|pending| pending.entries.len() > PENDING_MAX)
    }

    pub fn contains(&self, id: EventId) -> bool {
        self.searches.iter().any(|search| search.id == id)
    }

    pub fn take(&mut self) -> Vec<HeldSearch> {
        std::mem::take(&mut self.searches)
    }

    /// The time of a search whose author is to be requested now, in milliseconds since 1970. Counts the request.
    pub fn next_author_request(&mut self, now: Instant) -> Option<i64> {
        let due = |search: &&mut HeldSearch| search.next_request().is_some_and(|at| at <= now);
        let search = self.searches.iter_mut().find(due)?;
        search.requests += 1;
        search.requested_at = Some(now);
        Some(search.time_ms)
    }

    /// When the next request is due or the next search expires. `may_request`: the API can make a request.
    pub fn due(&self, may_request: bool) -> Option<Instant> {
        let due = |search: &HeldSearch| {
            let request = search.next_request().filter(|_| may_request);
            request.map_or(search.expires_at(), |at| at.min(search.expires_at()))
        };
        self.searches.iter().map(due).min()
    }

    /// Withholds progress from the checkpoint while a search is held.
    pub fn pass_progress(&mut self, mut progress: Progress) -> Progress {
        if let Some(mut pending) = self.pending_progress.take() {
            pending.merge(progress);
            progress = pending;
        }
        if self.searches.is_empty() {
            return progress;
        }
        self.pending_progress = Some(progress);
        Progress { positions_pending: true, ..Progress::default() }
    }
}

impl HeldSearch {
    /// When to request its author; `None`: no further request.
    fn next_request(&self) -> Option<Instant> {
        let at = self.requested_at.map_or(self.since, |at| at + REQUEST_INTERVAL);
        (self.requests < REQUESTS_MAX).then_some(at)
    }

    fn expires_at(&self) -> Instant {
        match self.requested_at.filter(|_| self.requests >= REQUESTS_MAX) {
            Some(at) => at + HELD_AFTER_LAST_REQUEST,
            None => self.since + HELD_FOR,
        }
    }

    /// Whether it is to be delivered without a known author.
    pub fn has_expired(&self) -> bool {
        clock::monotonic() >= self.expires_at()
    }
}
