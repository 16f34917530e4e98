//! Decides which windows are deferred after failures, and logs them.

use super::deferred::Deferred;
use super::faults::DEFERRED_AFTER;
use super::pages::time;
use super::response::{Cadence, ResponseClass};
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window_reader::Attempts;
use crate::delay::{self, random};
use std::time::Instant;

/// Like [`DEFERRED_AFTER`], for rate limits and overload: these are transient and rarely caused by the window.
const DEFERRED_AFTER_RATE_LIMITS: u32 = 5;
/// Broken paging counts as this many failures, because retrying it soon is no use.
const FAILURES_OF_BROKEN_PAGING: u32 = 4;
/// After this many windows with broken paging in a row, the poll ends.
const BROKEN_WINDOWS_MAX: u32 = 3;

impl Api {
    /// The window has broken paging or rows of other times. It is deferred, and the next window is read.
    pub(super) fn window_failed(&mut self, what: String, now: Now) -> ApiStep {
        let Some(reader) = self.poll.reader.take() else {
            return ApiStep::Again;
        };
        let mut restarted_reader = reader.restarted(self.endpoint.route);
        restarted_reader.attempts.failures =
            FAILURES_OF_BROKEN_PAGING.max(restarted_reader.attempts.failures + 1);
        restarted_reader.attempts.failing_since.get_or_insert(now.monotonic);
        let pause =
            delay::back_off(restarted_reader.attempts.failures, None, random()).max(self.poll.interval);
        self.poll.reader = Some(restarted_reader);
        let mut at = now.monotonic + pause;
        if self.poll.retried.is_some() {
            self.defer(what, at, true, now);
            at = now.monotonic + delay::DELAY_MIN;
        } else {
            self.defer(what, at, true, now);
            self.poll.broken_windows += 1;
            if self.poll.broken_windows < BROKEN_WINDOWS_MAX {
                at = now.monotonic + delay::DELAY_MIN;
            } else {
                // Paging is broken in general, not in single windows, so the poll ends.
                self.cursor.windows.abandon();
                self.poll.next = Some(at);
            }
        }
        self.faults.not_before = Some(at);
        ApiStep::Wait(at)
    }

    /// The attempts of the current window, if the failure may be specific to it so that other windows may succeed.
    pub(super) fn window_at_fault(&self, class: &ResponseClass) -> Option<Attempts> {
        let attempts = self.poll.reader.as_ref()?.attempts;
        if class.concerns_account() {
            return None;
        }
        let enough = match class {
            // The window before was deferred as well and got no further page.
            _ if self.poll.deferred_windows > 0 && attempts.has_rows() => 1,
            ResponseClass::RateLimited | ResponseClass::Overloaded { .. } => DEFERRED_AFTER_RATE_LIMITS,
            _ if class.cadence() == Cadence::Slow => 1,
            _ => DEFERRED_AFTER,
        };
        // Without any row of the window, the server may be the cause. More so if another window failed the same way.
        let at_fault = if attempts.has_rows() {
            attempts.failures >= enough
        } else if self.poll.deferred.is_empty() || self.poll.answered_since {
            class.cadence() != Cadence::Slow && attempts.failures >= enough
        } else {
            class.cadence() != Cadence::Slow && attempts.failures >= 2 * enough
        };
        at_fault.then_some(attempts)
    }

    pub(super) fn defer(&mut self, reason: String, due: Instant, needs_operator: bool, now: Now) {
        let Some(reader) = self.poll.reader.take() else {
            return;
        };
        let retried = self.poll.retried.take();
        let others_work = self.faults.failures == 0 && self.faults.operator_failures == 0;
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let mut deferred = match retried {
            Some(retried) => Deferred {
                cursor_max_ms: retried.cursor_max_ms,
                may_get_late_rows: retried.may_get_late_rows,
                logged: retried.logged,
                reader,
                due,
                reason,
                needs_operator,
            },
            None => {
                self.cursor.windows.defer(&reader.window);
                self.poll.answered_since = false;
                self.poll.deferred_windows += 1;
                let cursor_ms = self.cursor.windows.cursor.map_or(i64::MIN, |cursor| cursor.at_ms);
                Deferred {
                    cursor_max_ms: reader.window.from_ms.max(cursor_ms),
                    may_get_late_rows: self.cursor.windows.is_fresh(&reader.window, overlap_ms),
                    logged: false,
                    reader,
                    due,
                    reason,
                    needs_operator,
                }
            }
        };
        // While every request fails, the server may be the cause, and that is logged elsewhere.
        let since = deferred.reader.attempts.failing_since;
        let lasted = since.is_some_and(|since| now.monotonic - since >= self.config.poll_interval);
        if (needs_operator || others_work && lasted) && !deferred.logged {
            deferred.logged = true;
            self.log_deferred(&deferred, needs_operator);
        }
        tracing::debug!(
            source = self.source,
            failures = deferred.reader.attempts.failures,
            again_in_s = due.saturating_duration_since(now.monotonic).as_secs(),
            "a window is deferred"
        );
        self.poll.deferred.push(deferred);
        self.update_deferred_health();
    }

    fn log_deferred(&mut self, deferred: &Deferred, needs_operator: bool) {
        if self.faults.last_deferred_log.as_ref() == Some(&deferred.reason) {
            return;
        }
        let window = &deferred.reader.window;
        let (from, to) = (time(window.from_ms), time(window.to_ms));
        let (source, reason) = (&self.source, &deferred.reason);
        if needs_operator {
            tracing::error!(source, %from, %to, "a part of the audit log cannot be read: {reason}; it is retried, and newer events are read meanwhile");
        } else {
            tracing::warn!(source, %from, %to, "a part of the audit log cannot be read: {reason}; it is retried, and newer events are read meanwhile");
        }
        self.faults.last_deferred_log = Some(deferred.reason.clone());
    }

    pub(super) fn update_deferred_health(&mut self) {
        if self.poll.deferred.is_empty() {
            self.faults.last_deferred_log = None;
        }
        let failed = |deferred: &&Deferred| !deferred.reason.is_empty();
        self.faults.deferred_health = self.poll.deferred.iter().find(failed).map(|deferred| {
            let window = &deferred.reader.window;
            let (from, to) = (time(window.from_ms), time(window.to_ms));
            format!("the audit log from {from} to {to} is not read yet: {}", deferred.reason)
        });
    }
}
