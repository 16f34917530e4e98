//! The pages of a window, one after the other, and what becomes of the window.

use super::deferred::{Deferred, Retried};
use super::page::{Page, Route};
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::window::Window;
use super::window_reader::{After, WindowReader};

impl Api {
    pub(super) fn retry(&mut self, deferred: Deferred) {
        let route = self.endpoint.route;
        let reading = deferred.reading;
        self.poll.reading = Some(match reading.route == route {
            true => reading,
            false => reading.restarted(route),
        });
        self.poll.retried = Some(Retried {
            hold_ms: deferred.hold_ms,
            fresh: deferred.fresh,
            reason: deferred.reason,
            logged: deferred.logged,
        });
    }

    pub(super) fn look_at_page(&mut self, page: Page, now: Now) -> ApiStep {
        let Some(reading) = &self.poll.reading else {
            return ApiStep::Again;
        };
        if reading.leads_back(&page) {
            if reading.only_makes_sure() {
                self.client.recycle(page.body);
                self.last_page_was_last();
                self.window_read(now);
                return ApiStep::Again;
            }
            let what = "the audit API gave the same page twice, so its pages have no end";
            return self.window_failed(what.to_owned(), now);
        }
        match reading.repeated(&page) {
            Some(repeated) => {
                self.cursor.answered = true;
                ApiStep::Page { page, repeated }
            }
            // Rows came into the window while it was read by offsets.
            None => {
                let what = "the pages of the audit API keep shifting while they are read";
                self.restart_shorter(what, now)
            }
        }
    }

    /// Every row of the page has been handed on.
    pub(super) fn page_read(&mut self, page: Page, now: Now) {
        let Some(reading) = &mut self.poll.reading else {
            return;
        };
        let made_sure = reading.only_makes_sure();
        let rows = reading.window.rows();
        let after = reading.page_read(&page, self.poll.rows_asked);
        let (outside, too_large) = (reading.window.outside > 0, reading.window.too_large());
        let is_empty = page.is_empty();
        self.client.recycle(page.body);
        self.poll.page_size.page_came();
        if made_sure && is_empty {
            self.last_page_was_last();
        } else if made_sure {
            self.last_page_was_not(rows);
        }
        if outside {
            let what = "the audit API gives events of other times than were asked for; see that no proxy or cache answers in its place";
            self.window_failed(what.to_owned(), now);
            return;
        }
        match after {
            After::End => self.window_read(now),
            After::More if too_large => {
                let what = "the windows of the audit API cannot be made short enough";
                self.restart_shorter(what, now);
            }
            After::More => {}
            After::DeadEnd(reason) => {
                let what = format!(
                    "a page of the audit API without new events is not the last one, and nothing leads on from it: {reason}. What lies behind it \
                     cannot be read; see that no proxy changes the answers"
                );
                self.window_failed(what, now);
            }
        }
    }

    /// The window has been read to its end.
    pub(super) fn window_read(&mut self, now: Now) {
        let Some(reading) = self.poll.reading.take() else {
            return;
        };
        let window = reading.window;
        self.poll.page_size.window_came();
        if let Some(retried) = self.poll.retried.take() {
            self.retried_window_read(window, reading.route, retried, now);
            return;
        }
        (self.poll.broken_windows, self.poll.deferred_windows) = (0, 0);
        if window.live {
            self.cursor.asked_to_ms = Some(window.to_ms);
            if !self.is_ahead(now) {
                self.cursor.reached_present = self.poll.begun;
            }
        }
        let past_ms = self.clock.bounds_ms(now).1;
        self.cursor.windows.finish(&window, past_ms - self.poll.role.lag().as_millis() as i64);
        let (rows, present_ms) = (self.total.rows, self.clock.present_ms(now));
        if let Some(backfill) = &mut self.poll.backfill {
            backfill.report(&self.source, &self.cursor.windows, rows, present_ms, now);
        }
    }

    fn retried_window_read(&mut self, window: Window, route: Route, retried: Retried, now: Now) {
        // What failed may have been the same for all.
        self.poll.deferred.wake(now.monotonic);
        if retried.logged {
            tracing::info!(
                source = self.source,
                from = %time(window.from_ms),
                to = %time(window.to_ms),
                "the part of the audit log that was set aside has been read"
            );
        }
        // What became visible in it meanwhile is before the place where reading went on.
        if retried.fresh {
            let kept_ms = self.kept().as_millis() as i64;
            self.poll.deferred.push(Deferred::second_look(&window, kept_ms, route, now.monotonic));
        }
        self.describe_deferred();
    }

    /// The window cannot be read as a whole: its parts are read, each by itself.
    pub(super) fn restart_shorter(&mut self, what: &str, now: Now) -> ApiStep {
        match self.shorten(now) {
            true => ApiStep::Again,
            false => self.window_failed(what.to_owned(), now),
        }
    }

    /// Restarts with a shorter window. `false`: it cannot be shorter, and stays.
    pub(super) fn shorten(&mut self, now: Now) -> bool {
        let Some(reading) = self.poll.reading.take() else {
            return true;
        };
        let Some(retried) = &self.poll.retried else {
            let shorter = self.cursor.windows.halve(&reading.window);
            self.poll.attempts = reading.attempts;
            self.poll.reading = (!shorter).then_some(reading);
            return shorter;
        };
        let Window { from_ms, to_ms, live, .. } = reading.window;
        let middle_ms = from_ms + reading.window.half_ms();
        if middle_ms >= to_ms {
            self.poll.reading = Some(reading);
            return false;
        }
        let part = |window| WindowReader::new(window, reading.route, reading.attempts);
        self.poll.deferred.push(Deferred {
            reading: part(Window::new(middle_ms, to_ms, live)),
            due: now.monotonic,
            hold_ms: retried.hold_ms,
            fresh: retried.fresh,
            reason: retried.reason.clone(),
            needs_a_person: false,
            logged: retried.logged,
        });
        self.poll.reading = Some(part(Window::new(from_ms, middle_ms, false)));
        true
    }

    /// More rows came after a page that called itself the last.
    fn last_page_was_not(&mut self, rows: usize) {
        let logged = std::mem::replace(&mut self.faults.logged_last_page, [true; 2]);
        if !logged[0] {
            tracing::warn!(
                source = self.source,
                rows,
                "the audit API contradicts itself: a page says that it is the last one (`lastPage`), is full and names a cursor, and more \
                 events stand behind it; they are read. See that no proxy changes the answers"
            );
        }
    }

    pub(super) fn last_page_was_last(&mut self) {
        if !std::mem::replace(&mut self.faults.logged_last_page[1], true) {
            tracing::info!(
                source = self.source,
                "the audit API contradicts itself: a page says that it is the last one (`lastPage`), is full and names a cursor; one more \
                 request shows that nothing stands behind it"
            );
        }
    }
}

pub(super) fn time(ms: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default()
}
