//! Processes the pages of a window, and completes, restarts or defers the window.

use super::deferred::{Deferred, Retried};
use super::page::{Page, Route};
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window::Window;
use super::window_reader::{PageOutcome, WindowReader};

impl Api {
    pub(super) fn retry(&mut self, deferred: Deferred) {
        let route = self.endpoint.route;
        let reader = deferred.reader;
        self.poll.reader = Some(match reader.route == route {
            true => reader,
            false => reader.restarted(route),
        });
        self.poll.retried = Some(Retried {
            cursor_max_ms: deferred.cursor_max_ms,
            may_get_late_rows: deferred.may_get_late_rows,
            reason: deferred.reason,
            logged: deferred.logged,
        });
    }

    pub(super) fn check_page(&mut self, page: Page, now: Now) -> ApiStep {
        let Some(reader) = &self.poll.reader else {
            return ApiStep::Again;
        };
        if reader.is_loop(&page) {
            if reader.verifies_last_page() {
                self.client.recycle(page.body);
                self.log_last_page_confirmed();
                self.window_read(now);
                return ApiStep::Again;
            }
            let what = "the audit API returned the same page twice, so its paging does not end";
            return self.window_failed(what.to_owned(), now);
        }
        match reader.repeated(&page) {
            Some(repeated) => {
                self.cursor.answered = true;
                ApiStep::Page { page, repeated }
            }
            // Rows were inserted into the window while it was read by offsets.
            None => {
                let what = "the pages of the audit API keep shifting while they are read";
                self.restart_shorter(what, now)
            }
        }
    }

    /// Every row of the page was passed on.
    pub(super) fn page_read(&mut self, page: Page, now: Now) {
        let Some(reader) = &mut self.poll.reader else {
            return;
        };
        let verified = reader.verifies_last_page();
        let rows = reader.window.rows();
        let after = reader.page_read(&page, self.poll.rows_asked);
        let (outside, too_large) = (reader.window.outside > 0, reader.window.too_large());
        let is_empty = page.is_empty();
        self.client.recycle(page.body);
        self.poll.page_size.page_received();
        if verified && is_empty {
            self.log_last_page_confirmed();
        } else if verified {
            self.log_last_page_wrong(rows);
        }
        if outside {
            let what = "the audit API returns events of other times than were requested; check that no proxy or cache responds in its place";
            self.window_failed(what.to_owned(), now);
            return;
        }
        match after {
            PageOutcome::End => self.window_read(now),
            PageOutcome::More if too_large => {
                let what = "the windows of the audit API cannot be made short enough";
                self.restart_shorter(what, now);
            }
            PageOutcome::More => {}
            PageOutcome::DeadEnd(reason) => {
                let what = format!(
                    "a page of the audit API without new events is not the last one, and no next page follows: {reason}. Events after it \
                     cannot be read; check that no proxy changes the responses"
                );
                self.window_failed(what, now);
            }
        }
    }

    /// The window has been read to its end.
    pub(super) fn window_read(&mut self, now: Now) {
        let Some(reader) = self.poll.reader.take() else {
            return;
        };
        let window = reader.window;
        self.poll.page_size.window_received();
        if let Some(retried) = self.poll.retried.take() {
            self.retried_window_read(window, reader.route, retried, now);
            return;
        }
        (self.poll.broken_windows, self.poll.deferred_windows) = (0, 0);
        if window.ends_at_present {
            self.cursor.polled_to_ms = Some(window.to_ms);
            self.note_server_clock(now);
            if !self.is_ahead(now) {
                self.cursor.reached_present = self.poll.begun;
            }
        }
        let past_ms = self.clock.earliest_present_ms(now);
        self.cursor.windows.finish(&window, past_ms - self.poll.role.lag().as_millis() as i64);
        if !self.cursor.windows.polling() && self.cursor.answered && self.is_ahead(now) {
            // This poll began before it was known that the clock was set back. The next one sets the cursor back.
            self.poll.next = None;
        }
        let (rows, present_ms) = (self.total.rows, self.clock.present_ms(now));
        if let Some(backfill) = &mut self.poll.backfill {
            backfill.report(&self.source, &self.cursor.windows, rows, present_ms, now);
        }
    }

    fn retried_window_read(&mut self, window: Window, route: Route, retried: Retried, now: Now) {
        // The other deferred windows may have had the same cause.
        self.poll.deferred.wake(now.monotonic);
        if retried.logged {
            tracing::info!(
                source = self.source,
                from = %time(window.from_ms),
                to = %time(window.to_ms),
                "the deferred part of the audit log has been read"
            );
        }
        // Rows that became visible meanwhile may be before the position where reading resumed.
        if retried.may_get_late_rows {
            let retention_ms = self.look_back_max().as_millis() as i64;
            self.poll.deferred.push(Deferred::reread(&window, retention_ms, route, now.monotonic));
        }
        self.update_deferred_health();
    }

    /// Restarts with a shorter window, because this one cannot be read as a whole. If it cannot be shorter, defers it.
    pub(super) fn restart_shorter(&mut self, what: &str, now: Now) -> ApiStep {
        match self.shorten(now) {
            true => ApiStep::Again,
            false => self.window_failed(what.to_owned(), now),
        }
    }

    /// Restarts with a shorter window. `false`: it cannot be shorter, and is unchanged.
    pub(super) fn shorten(&mut self, now: Now) -> bool {
        let Some(reader) = self.poll.reader.take() else {
            return true;
        };
        let Some(retried) = &self.poll.retried else {
            let shorter = self.cursor.windows.halve(&reader.window);
            self.poll.attempts = reader.attempts;
            self.poll.reader = (!shorter).then_some(reader);
            return shorter;
        };
        let Window { from_ms, to_ms, ends_at_present, .. } = reader.window;
        let middle_ms = from_ms + reader.window.half_ms();
        if middle_ms >= to_ms {
            self.poll.reader = Some(reader);
            return false;
        }
        let part = |window| WindowReader::new(window, reader.route, reader.attempts);
        self.poll.deferred.push(Deferred {
            reader: part(Window::new(middle_ms, to_ms, ends_at_present)),
            due: now.monotonic,
            cursor_max_ms: retried.cursor_max_ms,
            may_get_late_rows: retried.may_get_late_rows,
            reason: retried.reason.clone(),
            needs_operator: false,
            logged: retried.logged,
        });
        self.poll.reader = Some(part(Window::new(from_ms, middle_ms, false)));
        true
    }

    /// Logs that more rows followed a page that claimed to be the last one.
    fn log_last_page_wrong(&mut self, rows: usize) {
        let logged = std::mem::replace(&mut self.faults.logged_last_page, [true; 2]);
        if !logged[0] {
            tracing::warn!(
                source = self.source,
                rows,
                "the audit API contradicts itself: a page says that it is the last one (`lastPage`), is full and names a cursor, and more \
                 events follow it; they are read. Check that no proxy changes the responses"
            );
        }
    }

    pub(super) fn log_last_page_confirmed(&mut self) {
        if !std::mem::replace(&mut self.faults.logged_last_page[1], true) {
            tracing::info!(
                source = self.source,
                "the audit API contradicts itself: a page says that it is the last one (`lastPage`), is full and names a cursor; one more \
                 request shows that nothing follows it"
            );
        }
    }
}

pub(super) fn time(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default()
}
