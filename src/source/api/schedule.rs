//! Schedules polls, and chooses the next window.

use super::backfill_progress::BackfillProgress;
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window_reader::WindowReader;
use crate::config::Start;
use crate::source::failover::ApiRole;
use std::time::Duration;

impl Api {
    /// The configured poll interval.
    pub fn poll_interval(&self) -> Duration {
        self.config.poll_interval
    }

    /// Sets the role and the poll interval from the next step on. A shorter interval makes the next poll due at once.
    pub fn set_role(&mut self, role: ApiRole, interval: Duration) {
        if interval < self.poll.interval {
            self.poll.next = None;
        }
        (self.poll.interval, self.poll.role) = (interval, role);
    }

    /// Whether the rows of the current window are compared with the files: the files had been read to their end before
    /// each of its requests.
    pub fn compares(&self) -> bool {
        self.poll.window_role != ApiRole::Deliver
    }

    /// Chooses a deferred window that is due, else the next window of the poll. `Some`: none now, with the step to
    /// return.
    pub(super) fn choose_window(&mut self, now: Now) -> Option<ApiStep> {
        let in_order = self.cursor.windows.polling() || self.poll.next.is_none_or(|at| now.monotonic >= at);
        // While requests fail, only the next window of the poll is retried, to detect the recovery.
        let retries = self.faults.operator_failures == 0 && (self.faults.failures == 0 || !in_order);
        if retries && let Some(deferred) = self.poll.deferred.pop_due(now.monotonic) {
            self.retry(deferred);
            return None;
        }
        if !in_order {
            let due = self.poll.deferred.due().filter(|_| retries);
            let at = due.into_iter().chain(self.poll.next).min();
            return at.map(ApiStep::Wait);
        }
        if !self.cursor.windows.polling() {
            self.begin_poll(now);
        }
        self.cursor.windows.deferred.clear();
        self.cursor.windows.deferred.extend(self.poll.deferred.ranges());
        match self.cursor.windows.next(self.end_ms(now)) {
            Some(window) => {
                self.poll.reader = Some(WindowReader::new(window, self.endpoint.route, self.poll.attempts))
            }
            None => return Some(ApiStep::Again),
        }
        None
    }

    fn begin_poll(&mut self, now: Now) {
        self.detect_clock_rollback(now);
        self.poll.begun = Some(now.monotonic);
        self.poll.begun_server_ms = self.clock.server_ms(now);
        // The first poll looks back as far, because it is unknown when the previous process did.
        let for_late_rows = self.poll.next_late_rows_poll.is_none_or(|at| now.monotonic >= at);
        if for_late_rows {
            self.poll.next_late_rows_poll = Some(now.monotonic + self.config.late_rows_interval);
            self.endpoint.retry_auditing_route();
        }
        let lookback = if for_late_rows { self.look_back_max() } else { self.config.overlap };
        let start_ms = match self.config.start {
            Start::At(ms) => ms,
            Start::Ago(ago) => self.clock.present_ms(now) - ago.as_millis() as i64,
        };
        let begun_ms = self.clock.latest_present_ms(now);
        self.cursor.windows.begin_poll(start_ms, lookback.as_millis() as i64, begun_ms);
        if let Some(from_ms) = self.unread_before_cursor_ms() {
            self.cursor.windows.begin_earlier(from_ms);
        }
        self.poll.next = Some(now.monotonic + self.poll.interval);
        self.poll.backfill = Some(BackfillProgress::new(
            &self.cursor.windows,
            self.total.rows,
            self.clock.present_ms(now),
            now,
        ));
    }

    fn end_ms(&self, now: Now) -> i64 {
        self.clock.latest_present_ms(now) - self.poll.role.lag().as_millis() as i64
    }

    /// Whether the last poll has ended, complete or not.
    pub fn poll_is_over(&self) -> bool {
        self.poll.next.is_some() && self.poll.reader.is_none() && !self.cursor.windows.polling()
    }

    /// Whether the last poll has reached the present.
    pub fn caught_up(&self) -> bool {
        self.poll_is_over() && self.faults.outage.is_none() && self.has_read_all()
    }

    /// Whether no deferred window is left.
    pub(super) fn has_read_all(&self) -> bool {
        self.poll.deferred.is_empty() && self.poll.retried.is_none()
    }
}
