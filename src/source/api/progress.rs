//! What the checkpoint has to learn of an API, and where its cursor begins and goes back to.

use super::page::Route;
use super::server_clock::{DATE_MS, Now};
use super::state::Api;
use crate::config::Start;
use crate::position::{ApiCursor, Progress};
use std::time::{Duration, Instant};

impl Api {
    /// What has changed since the last call; it may be checkpointed once every row handed out is delivered.
    pub fn progress(&mut self) -> Progress {
        if let Some(cursor) = &mut self.cursor.windows.cursor {
            if self.endpoint.route_known {
                cursor.legacy = self.endpoint.route == Route::Legacy;
            }
            cursor.answered |= self.cursor.answered;
        }
        // A window that is set aside is asked for again after a restart.
        let hold_ms = self.hold_ms();
        let held =
            self.cursor.windows.cursor.map(|cursor| ApiCursor { at_ms: cursor.at_ms.min(hold_ms), ..cursor });
        let cursor = held.filter(|cursor| self.cursor.saved != Some(*cursor));
        // Before the first answer the server's clock is not known, and where to begin may still change.
        let api = cursor.filter(|_| self.cursor.answered || self.cursor.begin_is_sure);
        self.cursor.saved = api.or(self.cursor.saved);
        let coverage_changed = std::mem::take(&mut self.watch.coverage_changed);
        let coverage = self.watch.coverage.clone().filter(|_| coverage_changed);
        let agent_user = self.watch.self_activity().changes();
        let (api, api_other_nodes) = match self.for_other_nodes {
            true => (None, api),
            false => (api, None),
        };
        Progress { api, api_other_nodes, coverage, agent_user, ..Progress::default() }
    }

    /// The checkpoint's cursor does not go beyond this.
    pub(super) fn hold_ms(&self) -> i64 {
        let retried = self.poll.retried.as_ref().map(|retried| retried.hold_ms);
        let holds = retried.into_iter().chain(self.poll.deferred.hold_ms());
        holds.min().unwrap_or(i64::MAX)
    }

    /// How far it has been read; `None` before it has begun.
    pub fn cursor_ms(&self) -> Option<i64> {
        self.cursor.windows.cursor.map(|cursor| cursor.at_ms)
    }

    /// Where a source begins that never asked, and whose files brought events of this time: with them, so that a hole
    /// among them is found, but no further back than any poll looks.
    pub fn begin_between(&mut self, oldest_ms: i64, newest_ms: i64) {
        if self.cursor.windows.cursor.is_none() {
            let kept_ms = self.kept().as_millis() as i64;
            let begin_ms = oldest_ms.max(newest_ms.saturating_sub(kept_ms));
            self.cursor.windows.begin(begin_ms);
            self.config.start = Start::At(begin_ms);
            self.cursor.begin_is_sure = true;
        }
    }

    /// Where a source begins that never asked, and whose files have been read before or are not to be: what happens
    /// from now on.
    pub fn begin_at_present(&mut self) {
        if self.cursor.windows.cursor.is_none() {
            self.config.start = Start::Ago(Duration::ZERO);
        }
    }

    /// Whether a poll has reached what was the present at `begun`.
    pub fn has_asked_to(&self, begun: Instant, now: Now) -> bool {
        let since_ms = now.monotonic.saturating_duration_since(begun).as_millis() as i64;
        let begun_ms = self.clock.present_ms(now) - since_ms;
        self.has_read_all() && self.cursor.asked_to_ms.is_some_and(|to_ms| to_ms >= begun_ms)
    }

    /// A poll with this lag that was begun by now has asked for nothing later.
    pub fn asked_at_most_to_ms(&self, now: Now, lag: Duration) -> i64 {
        // The present is known to a second, and may have been thought to be later by so much.
        self.clock.bounds_ms(now).0 + DATE_MS - lag.as_millis() as i64
    }

    /// The longest look back: what became visible since the last reconciling read, and was late by as much.
    pub(super) fn kept(&self) -> Duration {
        (2 * self.config.late_rows_interval).max(self.config.overlap)
    }

    /// If the present lies before all that the next poll would look at, sets the cursor back to where the last poll
    /// that reached the present ended: what happened since is nowhere else asked for. By the later of both clocks, so
    /// that the host's alone does no such thing; and not before the server has told its own.
    pub(super) fn detect_clock_rollback(&mut self, now: Now) {
        if !self.cursor.answered || !self.is_ahead(now) {
            return;
        }
        let present_ms = self.clock.bounds_ms(now).0;
        let since = match self.cursor.reached_present {
            Some(at) => now.monotonic.saturating_duration_since(at) + self.config.overlap,
            None => self.kept(),
        };
        let to_ms = present_ms - (since + self.poll.role.lag()).as_millis() as i64;
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        tracing::warn!(
            source = self.source,
            had_read_to = %time(self.cursor.windows.cursor.map_or(0, |cursor| cursor.at_ms)),
            reads_on_from = %time(to_ms),
            "the server's clock was ahead and has been set right; the audit log is read on from where it was by then"
        );
        self.cursor.windows.set_back(to_ms);
        self.cursor.asked_to_ms = None;
    }

    /// Whether the cursor is ahead of the present by more than any poll looks back.
    pub(super) fn is_ahead(&self, now: Now) -> bool {
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let cursor = self.cursor.windows.cursor;
        cursor.is_some_and(|cursor| cursor.at_ms - overlap_ms > self.clock.bounds_ms(now).0)
    }
}
