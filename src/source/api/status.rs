//! What a source says of itself: to the checkpoint, to the log, to whoever drives it.

use super::deferred::Deferred;
use super::page::Route;
use super::{Api, ApiTotal};
use crate::notice::Notice;
use crate::position::{ApiCursor, Progress};

impl Api {
    /// What happened to the agent itself, as events.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// What has changed since the last call; it may be checkpointed once every row handed out is delivered.
    pub fn progress(&mut self) -> Progress {
        let legacy = self.endpoint.route == Route::Legacy;
        if let Some(cursor) = self.windows.cursor.as_mut().filter(|_| self.endpoint.route_known) {
            cursor.legacy = legacy;
        }
        if let Some(cursor) = self.windows.cursor.as_mut().filter(|_| self.begun) {
            cursor.answered = true;
        }
        // A window that is set aside is asked for again after a restart.
        let hold_ms = self.hold_ms();
        let held = self.windows.cursor.map(|cursor| ApiCursor { at_ms: cursor.at_ms.min(hold_ms), ..cursor });
        let cursor = held.filter(|cursor| self.saved_cursor != Some(*cursor));
        // Before the first answer the server's clock is not known, and where to begin may still change.
        let api = cursor.filter(|_| self.begun || self.begin_is_sure);
        self.saved_cursor = api.or(self.saved_cursor);
        let coverage = self.coverage.clone().filter(|_| self.coverage_changed);
        self.coverage_changed = false;
        let agent_user = self.own().changes();
        let (api, api_other_nodes) = if self.for_other_nodes { (None, api) } else { (api, None) };
        Progress { api, api_other_nodes, coverage, agent_user, ..Progress::default() }
    }

    /// Whether the last poll has reached the present.
    pub fn caught_up(&self) -> bool {
        self.poll_is_over() && self.trouble.is_none() && self.has_read_all()
    }

    /// Whether no window was set aside that is still to be read.
    pub(super) fn has_read_all(&self) -> bool {
        self.deferred.is_empty() && self.retried.is_none()
    }

    /// The checkpoint's cursor does not go beyond this.
    pub(super) fn hold_ms(&self) -> i64 {
        let retried = self.retried.as_ref().map(|retried| retried.hold_ms);
        let holds = retried.into_iter().chain(self.deferred.hold_ms());
        holds.min().unwrap_or(i64::MAX)
    }

    /// Whether the last poll has ended, well or not.
    pub fn poll_is_over(&self) -> bool {
        self.next_poll.is_some() && self.reading.is_none() && !self.windows.polling()
    }

    /// Why the source cannot do its work at the moment, if so.
    pub fn health(&self) -> Option<&str> {
        let trouble = self.trouble.as_ref().map(|trouble| trouble.message.as_str());
        trouble.or(self.deferred_health.as_deref())
    }

    /// Whether a run that waits for no more than `failures_max` faults has nothing more to wait for: all has been
    /// read, or a person has to act, or it is tried for too long.
    pub fn is_drained(&self, failures_max: u32) -> bool {
        let hopeless = |deferred: &Deferred| {
            deferred.needs_a_person || deferred.reading.attempts.failures > failures_max
        };
        self.needs_a_person()
            || self.failures > failures_max
            || self.poll_is_over() && self.deferred.iter().all(hopeless)
    }

    /// Whether a person has to act before it can.
    pub fn needs_a_person(&self) -> bool {
        self.slow_failures > 0
    }

    pub fn total(&self) -> &ApiTotal {
        &self.total
    }
}
