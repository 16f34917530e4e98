//! Which window is set aside, and what is said of it.

use super::answer::{AnswerClass, Cadence};
use super::deferred::Deferred;
use super::faults::DEFERRED_AFTER;
use super::pages::time;
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window_reader::Attempts;
use crate::delay::{self, random};
use std::time::Instant;

/// The same where a rate limit is reached or the server is overloaded: mostly that is no matter of the window, and
/// passes.
const DEFERRED_AFTER_RATE_LIMITS: u32 = 5;
/// A window whose pages lead nowhere has failed as if it had been tried so often.
const FAILURES_OF_BROKEN_PAGING: u32 = 4;
/// So many such windows in a row end the poll.
const BROKEN_WINDOWS_MAX: u32 = 3;

impl Api {
    /// The pages of the window lead nowhere, or are not of it: it is restarted later, and what follows it is read.
    pub(super) fn window_failed(&mut self, what: String, now: Now) -> ApiStep {
        let Some(reading) = self.poll.reading.take() else {
            return ApiStep::Again;
        };
        let mut anew = reading.restarted(self.endpoint.route);
        anew.attempts.failures = FAILURES_OF_BROKEN_PAGING.max(anew.attempts.failures + 1);
        anew.attempts.failing_since.get_or_insert(now.monotonic);
        let pause = delay::back_off(anew.attempts.failures, None, random()).max(self.poll.interval);
        self.poll.reading = Some(anew);
        let mut at = now.monotonic + pause;
        if self.poll.retried.is_some() {
            self.set_aside(what, at, true, now);
            at = now.monotonic + delay::DELAY_MIN;
        } else {
            self.set_aside(what, at, true, now);
            self.poll.broken_windows += 1;
            if self.poll.broken_windows < BROKEN_WINDOWS_MAX {
                at = now.monotonic + delay::DELAY_MIN;
            } else {
                // No matter of single windows: the poll is over.
                self.cursor.windows.abandon();
                self.poll.next = Some(at);
            }
        }
        self.faults.not_before = Some(at);
        ApiStep::Wait(at)
    }

    /// What was tried of the window, if others may be well although it fails.
    pub(super) fn of_failing_window(&self, class: &AnswerClass) -> Option<Attempts> {
        let attempts = self.poll.reading.as_ref()?.attempts;
        if class.concerns_the_account() {
            return None;
        }
        let enough = match class {
            // No further page of the window before came either.
            _ if self.poll.deferred_windows > 0 && attempts.has_come_far() => 1,
            AnswerClass::RateLimited | AnswerClass::Overloaded { .. } => DEFERRED_AFTER_RATE_LIMITS,
            _ if class.cadence() == Cadence::Slow => 1,
            _ => DEFERRED_AFTER,
        };
        // Of a window of which nothing came it is less sure; still less if nothing came of another one either.
        let at_fault = if attempts.has_come_far() {
            attempts.failures >= enough
        } else if self.poll.deferred.is_empty() || self.poll.answered_since {
            class.cadence() != Cadence::Slow && attempts.failures >= enough
        } else {
            class.cadence() != Cadence::Slow && attempts.failures >= 2 * enough
        };
        at_fault.then_some(attempts)
    }

    pub(super) fn set_aside(&mut self, reason: String, due: Instant, needs_a_person: bool, now: Now) {
        let Some(reading) = self.poll.reading.take() else {
            return;
        };
        let retried = self.poll.retried.take();
        let others_work = self.faults.failures == 0 && self.faults.slow_failures == 0;
        let overlap_ms = self.config.overlap.as_millis() as i64;
        let mut deferred = match retried {
            Some(retried) => Deferred {
                hold_ms: retried.hold_ms,
                fresh: retried.fresh,
                logged: retried.logged,
                reading,
                due,
                reason,
                needs_a_person,
            },
            None => {
                self.cursor.windows.set_aside(&reading.window);
                self.poll.answered_since = false;
                self.poll.deferred_windows += 1;
                let cursor_ms = self.cursor.windows.cursor.map_or(i64::MIN, |cursor| cursor.at_ms);
                Deferred {
                    hold_ms: reading.window.from_ms.max(cursor_ms),
                    fresh: self.cursor.windows.is_fresh(&reading.window, overlap_ms),
                    logged: false,
                    reading,
                    due,
                    reason,
                    needs_a_person,
                }
            }
        };
        // While nothing gets through it may be the server.
        let since = deferred.reading.attempts.failing_since;
        let lasted = since.is_some_and(|since| now.monotonic - since >= self.config.poll_interval);
        if (needs_a_person || others_work && lasted) && !deferred.logged {
            deferred.logged = true;
            self.log_of_window(&deferred, needs_a_person);
        }
        tracing::debug!(
            source = self.source,
            failures = deferred.reading.attempts.failures,
            again_in_s = due.saturating_duration_since(now.monotonic).as_secs(),
            "a window is set aside"
        );
        self.poll.deferred.push(deferred);
        self.describe_deferred();
    }

    fn log_of_window(&mut self, deferred: &Deferred, needs_a_person: bool) {
        if self.faults.logged_of_window.as_ref() == Some(&deferred.reason) {
            return;
        }
        let window = &deferred.reading.window;
        let (from, to) = (time(window.from_ms), time(window.to_ms));
        let (source, reason) = (&self.source, &deferred.reason);
        if needs_a_person {
            tracing::error!(source, %from, %to, "a part of the audit log cannot be read: {reason}; it is tried again, and what is newer is read meanwhile");
        } else {
            tracing::warn!(source, %from, %to, "a part of the audit log cannot be read: {reason}; it is tried again, and what is newer is read meanwhile");
        }
        self.faults.logged_of_window = Some(deferred.reason.clone());
    }

    pub(super) fn describe_deferred(&mut self) {
        if self.poll.deferred.is_empty() {
            self.faults.logged_of_window = None;
        }
        let failed = |deferred: &&Deferred| !deferred.reason.is_empty();
        self.faults.deferred_health = self.poll.deferred.iter().find(failed).map(|deferred| {
            let window = &deferred.reading.window;
            let (from, to) = (time(window.from_ms), time(window.to_ms));
            format!("the audit log from {from} to {to} is not read yet: {}", deferred.reason)
        });
    }
}
