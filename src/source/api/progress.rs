//! The progress of an API for the checkpoint, where its cursor starts, and clock rollbacks.

use super::page::Route;
use super::server_clock::{DATE_MS, Now};
use super::state::Api;
use crate::config::Start;
use crate::position::{ApiCursor, Progress};
use std::time::{Duration, Instant};

/// A smaller difference of the server's clock may be that its `Date` has no fraction.
const STEP_MS: i64 = 2 * DATE_MS;
/// A server's clock that is further behind than a day is taken for a wrong `Date`, or each poll would read all that
/// time.
const BEHIND_MS_MAX: i64 = 86_400_000;

impl Api {
    /// The changes since the last call. They may be checkpointed once every row of [`Api::ingest_page`] is delivered.
    pub fn progress(&mut self) -> Progress {
        if let Some(cursor) = &mut self.cursor.windows.cursor {
            if self.endpoint.route_known {
                cursor.legacy = self.endpoint.route == Route::Legacy;
            }
            cursor.answered |= self.cursor.answered;
        }
        // After a restart deferred windows are polled again, so the stored cursor stays before them.
        let cursor_max_ms = self.cursor_max_ms();
        let held = self
            .cursor
            .windows
            .cursor
            .map(|cursor| ApiCursor { at_ms: cursor.at_ms.min(cursor_max_ms), ..cursor });
        let cursor = held.filter(|cursor| self.cursor.saved != Some(*cursor));
        // Before the first response the server's clock is unknown, and the start may still change.
        let api = cursor.filter(|_| self.cursor.answered || self.cursor.start_is_fixed);
        self.cursor.saved = api.or(self.cursor.saved);
        let settings_changed = std::mem::take(&mut self.checks.audit_settings_changed);
        let audit_settings = self.checks.audit_settings.clone().filter(|_| settings_changed);
        let agent_user = self.checks.self_activity().take_changes();
        let (api, api_other_nodes) = match self.for_other_nodes {
            true => (None, api),
            false => (api, None),
        };
        Progress { api, api_other_nodes, audit_settings, agent_user, ..Progress::default() }
    }

    /// The stored cursor must not be later than this.
    pub(super) fn cursor_max_ms(&self) -> i64 {
        let retried = self.poll.retried.as_ref().map(|retried| retried.cursor_max_ms);
        let holds = retried.into_iter().chain(self.poll.deferred.cursor_max_ms());
        holds.min().unwrap_or(i64::MAX)
    }

    /// The cursor, in milliseconds since 1970; `None` before the start is set.
    pub fn cursor_ms(&self) -> Option<i64> {
        self.cursor.windows.cursor.map(|cursor| cursor.at_ms)
    }

    /// Sets the start of an API that was never polled and whose files have events of this time range: their oldest
    /// event, so that gaps between them are found, but not before the look-back of a poll.
    pub fn start_between(&mut self, oldest_ms: i64, newest_ms: i64) {
        if self.cursor.windows.cursor.is_none() {
            let retention_ms = self.look_back_max().as_millis() as i64;
            let begin_ms = oldest_ms.max(newest_ms.saturating_sub(retention_ms));
            self.cursor.windows.begin(begin_ms);
            self.config.start = Start::At(begin_ms);
            self.cursor.start_is_fixed = true;
        }
    }

    /// Sets the start of an API that was never polled to the present: its files were read before, or are not to be read
    /// from the beginning.
    pub fn start_at_present(&mut self) {
        if self.cursor.windows.cursor.is_none() {
            self.config.start = Start::Ago(Duration::ZERO);
        }
    }

    /// Whether polls have covered everything up to the moment `begun`.
    pub fn has_polled_to(&self, begun: Instant, now: Now) -> bool {
        let since_ms = now.monotonic.saturating_duration_since(begun).as_millis() as i64;
        let begun_ms = self.clock.present_ms(now) - since_ms;
        self.has_read_all() && self.cursor.polled_to_ms.is_some_and(|to_ms| to_ms >= begun_ms)
    }

    /// The latest time that a poll with this lag may have requested by now.
    pub fn poll_end_bound_ms(&self, now: Now, lag: Duration) -> i64 {
        // The server's clock is known to a second, so the present may have been assumed later by that.
        self.clock.latest_present_ms(now) + DATE_MS - lag.as_millis() as i64
    }

    /// The longest look-back of a poll, which covers rows that became visible since the last late-rows poll and were
    /// late by as much.
    pub(super) fn look_back_max(&self) -> Duration {
        (2 * self.config.late_rows_interval).max(self.config.overlap)
    }

    /// If the present is before everything that the next poll would read, the clock was set back. Then the cursor goes
    /// back to the end of the last poll that reached the present, because no poll has read the time since. The later of
    /// both clocks decides, so that the host's clock alone cannot cause it, and only after a first response.
    pub(super) fn detect_clock_rollback(&mut self, now: Now) {
        if !self.cursor.answered || !self.is_ahead(now) {
            return;
        }
        let present_ms = self.clock.latest_present_ms(now);
        let since = match self.cursor.reached_present {
            Some(at) => now.monotonic.saturating_duration_since(at) + self.config.overlap,
            None => self.look_back_max(),
        };
        let to_ms = present_ms - (since + self.poll.role.lag()).as_millis() as i64;
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        tracing::warn!(
            source = self.source,
            cursor = %time(self.cursor.windows.cursor.map_or(0, |cursor| cursor.at_ms)),
            resumes_at = %time(to_ms),
            "the server's clock was ahead and has been corrected; the cursor is set back"
        );
        self.cursor.windows.set_back(to_ms);
        self.cursor.polled_to_ms = None;
    }

    /// A poll has reached the present. If the server's clock alone is behind, new rows are stamped before the cursor:
    /// the next poll starts where this one began by that clock.
    pub(super) fn note_server_clock(&mut self, now: Now) {
        let (Some(begun), Some(server_ms)) = (self.poll.begun, self.clock.server_ms(now)) else {
            return;
        };
        let ms_since = |at: Instant| now.monotonic.saturating_duration_since(at).as_millis() as i64;
        let begun_ms = server_ms - ms_since(begun);
        let stepped_back = self.poll.begun_server_ms.is_some_and(|before_ms| begun_ms < before_ms - STEP_MS);
        // It was set back after the poll before this one had begun.
        let since_ms = match self.cursor.reached_present.filter(|_| stepped_back) {
            Some(at) => begun_ms - ms_since(at) + ms_since(begun),
            None => begun_ms,
        };
        self.cursor.unread_from_ms = Some(since_ms - self.poll.role.lag().as_millis() as i64);
    }

    /// Where the next poll has to start, if that is before the cursor: see [`Api::note_server_clock`].
    pub(super) fn unread_before_cursor_ms(&self) -> Option<i64> {
        let (from_ms, cursor_ms) = (self.cursor.unread_from_ms?, self.cursor_ms()?);
        let is_before = (STEP_MS..=BEHIND_MS_MAX).contains(&cursor_ms.saturating_sub(from_ms));
        is_before.then(|| from_ms - self.config.overlap.as_millis() as i64)
    }

    /// Whether the cursor is ahead of the present by more than `overlap`.
    pub(super) fn is_ahead(&self, now: Now) -> bool {
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let cursor = self.cursor.windows.cursor;
        cursor.is_some_and(|cursor| cursor.at_ms - overlap_ms > self.clock.latest_present_ms(now))
    }
}
