//! The windows of a poll and the cursor. Pure.
//!
//! A poll reads everything from a look-back before the cursor to the present, in windows with fixed ends, oldest first.
//! The cursor advances when a window is complete, and never past a time for which rows may still become visible.

use crate::position::ApiCursor;
use crate::record::EventId;
use std::collections::HashMap;

/// A window with more rows is halved. This bounds what is read again after an interruption.
pub(crate) const ROWS_MAX: usize = 20_000;
/// The length of the first window. It grows while windows have few rows.
const FIRST_SPAN_MS: i64 = 3_600_000;
const SPAN_MS_MAX: i64 = 10 * 365 * 86_400_000;
/// How often windows in a row may be halved.
const RESTARTS_MAX: u32 = 40;

/// Tolerance for rows outside a window, because a server may round its ends.
const OUTSIDE_MS: i64 = 1_000;

/// The windows of a source.
pub(crate) struct Windows {
    /// `None`: it was never polled.
    pub cursor: Option<ApiCursor>,
    span_ms: i64,
    /// Where the next window of this poll starts. `None`: no poll is running.
    next_from_ms: Option<i64>,
    restarts: u32,
    /// Time of the newest row so far: the server's clock is at least there.
    newest_row_ms: i64,
    /// When the poll started, by the later of both clocks.
    poll_started_ms: i64,
    /// Time ranges of deferred windows, which are retried separately and skipped by the poll, in any order.
    pub deferred: Vec<(i64, i64)>,
}

/// One time range, both ends included.
#[derive(Debug, Default)]
pub(crate) struct Window {
    pub from_ms: i64,
    pub to_ms: i64,
    /// It ends at the present.
    pub ends_at_present: bool,
    rows: usize,
    /// Rows with times outside the window.
    pub outside: usize,
    newest_ms: Option<i64>,
    oldest_ms: Option<i64>,
    /// How often each id has occurred: identical rows are separate events.
    twins: HashMap<EventId, u32>,
}

impl Window {
    pub(crate) fn new(from_ms: i64, to_ms: i64, ends_at_present: bool) -> Window {
        Window { from_ms, to_ms, ends_at_present, ..Window::default() }
    }

    /// Counts a row. Returns its id among its twins.
    pub(crate) fn row(&mut self, id: EventId, time_ms: Option<i64>) -> EventId {
        self.rows += 1;
        let asked_for = self.from_ms - OUTSIDE_MS..=self.to_ms + OUTSIDE_MS;
        self.outside += usize::from(time_ms.is_some_and(|time| !asked_for.contains(&time)));
        if let Some(time_ms) = time_ms.map(|time| time.clamp(self.from_ms, self.to_ms)) {
            self.newest_ms = self.newest_ms.max(Some(time_ms));
            self.oldest_ms = Some(self.oldest_ms.map_or(time_ms, |oldest| oldest.min(time_ms)));
        }
        self.twin(id)
    }

    /// The id among identical rows, without counting a row.
    pub(crate) fn twin(&mut self, id: EventId) -> EventId {
        let count = self.twins.entry(id).or_default();
        *count += 1;
        id.twin(*count - 1)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Half of its length. If it has too many rows, half of the range at its end that was read.
    pub(crate) fn half_ms(&self) -> i64 {
        let read_from_ms = self.oldest_ms.filter(|_| self.too_large());
        ((self.to_ms - read_from_ms.unwrap_or(self.from_ms)) / 2).max(1)
    }

    pub(crate) fn too_large(&self) -> bool {
        self.rows > ROWS_MAX && self.to_ms > self.from_ms + 1
    }
}

impl Windows {
    pub(crate) fn new(cursor: Option<ApiCursor>) -> Windows {
        Windows {
            cursor,
            span_ms: FIRST_SPAN_MS,
            next_from_ms: None,
            restarts: 0,
            poll_started_ms: i64::MIN,
            newest_row_ms: i64::MIN,
            deferred: Vec::new(),
        }
    }

    /// Sets the cursor if it was never polled.
    pub(crate) fn begin(&mut self, start_ms: i64) -> ApiCursor {
        *self.cursor.get_or_insert(ApiCursor {
            at_ms: start_ms,
            start_ms,
            legacy: false,
            warned: None,
            answered: false,
        })
    }

    /// Starts a poll at `lookback_ms` before the cursor, or at `start_ms` if it was never polled. However long the poll
    /// takes, the cursor does not pass `present_ms`, because windows that were read first may have late rows since.
    pub(crate) fn begin_poll(&mut self, start_ms: i64, lookback_ms: i64, present_ms: i64) {
        self.poll_started_ms = present_ms;
        let cursor = self.begin(start_ms);
        let start_ms = cursor.start_ms.min(cursor.at_ms);
        self.next_from_ms = Some((cursor.at_ms - lookback_ms).max(start_ms));
        self.restarts = 0;
    }

    /// Lets the poll start at this time, if that is earlier.
    pub(crate) fn begin_earlier(&mut self, from_ms: i64) {
        self.next_from_ms = self.next_from_ms.map(|next_from_ms| next_from_ms.min(from_ms));
    }

    /// The clock was ahead and has been corrected: moves the cursor back to `to_ms`.
    pub(crate) fn set_back(&mut self, to_ms: i64) {
        if let Some(cursor) = &mut self.cursor {
            cursor.at_ms = to_ms;
            cursor.start_ms = cursor.start_ms.min(to_ms);
        }
        self.newest_row_ms = i64::MIN;
        self.abandon();
    }

    /// The next window of the poll. It ends at `present_ms` at most, the later of both clocks. `None`: the poll is
    /// over.
    pub(crate) fn next(&self, present_ms: i64) -> Option<Window> {
        let mut from_ms = self.next_from_ms?;
        let mut until_ms = i64::MAX;
        let mut deferred = self.deferred.clone();
        deferred.sort_unstable();
        for (skip_from_ms, skip_to_ms) in deferred {
            if skip_from_ms > from_ms {
                until_ms = skip_from_ms;
                break;
            }
            from_ms = from_ms.max(skip_to_ms);
        }
        let cursor_ms = self.cursor.map_or(from_ms, |cursor| cursor.at_ms);
        let end_ms = present_ms.max(cursor_ms).max(from_ms);
        let to_ms = from_ms.saturating_add(self.span_ms).min(end_ms).min(until_ms);
        Some(Window::new(from_ms, to_ms, to_ms == end_ms))
    }

    /// The window was deferred: the poll continues after it.
    pub(crate) fn defer(&mut self, window: &Window) {
        self.restarts = 0;
        self.next_from_ms = (!window.ends_at_present).then_some(window.to_ms);
    }

    /// Whether the window's end is so close to the start of the poll that rows of it may become visible late.
    pub(crate) fn is_fresh(&self, window: &Window, overlap_ms: i64) -> bool {
        window.ends_at_present || window.to_ms.saturating_add(overlap_ms) >= self.poll_started_ms
    }

    /// The window is complete. `past_ms`: the earlier of both clocks. After it, and after the newest row, rows may
    /// still become visible, so the cursor does not pass that.
    pub(crate) fn finish(&mut self, window: &Window, past_ms: i64) {
        let Some(cursor) = &mut self.cursor else { return };
        self.restarts = 0;
        self.newest_row_ms = self.newest_row_ms.max(window.newest_ms.unwrap_or(i64::MIN));
        if window.ends_at_present {
            // Not to its end, because another node's clock may be slightly behind.
            let newest_ms = window.newest_ms.unwrap_or(cursor.at_ms);
            cursor.at_ms = cursor.at_ms.max(newest_ms.min(self.poll_started_ms));
            self.next_from_ms = None;
        } else {
            let to_ms = window.to_ms.min(past_ms.max(self.newest_row_ms));
            cursor.at_ms = cursor.at_ms.max(to_ms.min(self.poll_started_ms));
            self.next_from_ms = Some(window.to_ms);
        }
        if window.rows < ROWS_MAX / 8 {
            self.span_ms = self.span_ms.saturating_mul(4).min(SPAN_MS_MAX);
        } else if window.rows > ROWS_MAX / 2 {
            self.span_ms = (self.span_ms / 2).max(1);
        }
    }

    /// The window cannot be read as a whole: the next one starts at the same time with [`Window::half_ms`] as its
    /// length. `false`: it was halved too often.
    pub(crate) fn halve(&mut self, window: &Window) -> bool {
        self.restarts += 1;
        self.span_ms = window.half_ms();
        self.restarts <= RESTARTS_MAX
    }

    /// Ends the poll. The next one starts at the cursor again.
    pub(crate) fn abandon(&mut self) {
        self.next_from_ms = None;
    }

    /// Whether a poll has windows left.
    pub(crate) fn polling(&self) -> bool {
        self.next_from_ms.is_some()
    }

    /// The fraction of the time from the start to the present that was read, 0 to 1.
    pub(crate) fn done(&self, present_ms: i64) -> f64 {
        let Some(cursor) = self.cursor else { return 0.0 };
        let all = (present_ms - cursor.start_ms).max(1) as f64;
        ((cursor.at_ms - cursor.start_ms) as f64 / all).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn windows_follow_each_other_oldest_first_and_reach_the_present() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 5, i64::MAX);
        let (mut at, mut count) = (0, 0);
        while let Some(mut window) = windows.next(100 * HOUR) {
            assert_eq!(window.from_ms, at);
            assert!(window.to_ms > at && window.to_ms <= 100 * HOUR);
            at = window.to_ms;
            window.row(EventId(count), Some(at - 1));
            windows.finish(&window, 100 * HOUR);
            count += 1;
        }
        assert_eq!(at, 100 * HOUR);
        assert!(count < 6, "windows with few rows grow");
        assert_eq!(windows.cursor.unwrap().at_ms, 100 * HOUR - 1);
        // Idle: one window per poll, however long nothing happens.
        for hours in [101, 200, 2000] {
            windows.begin_poll(0, 5, i64::MAX);
            let window = windows.next(hours * HOUR).unwrap();
            assert_eq!((window.from_ms, window.to_ms), (100 * HOUR - 6, hours * HOUR));
            windows.finish(&window, hours * HOUR);
            assert!(windows.next(hours * HOUR).is_none());
        }
    }

    #[test]
    fn f76_a_poll_continues_after_a_deferred_window() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 5, i64::MAX);
        windows.span_ms = 20;
        let first = windows.next(100).unwrap();
        windows.defer(&first);
        windows.deferred = vec![(40, 50), (0, 20)];
        let mut requested = Vec::new();
        while let Some(window) = windows.next(100) {
            requested.push((window.from_ms, window.to_ms));
            windows.finish(&window, 100);
        }
        assert_eq!(requested, [(20, 40), (50, 100)]);
        // The next poll skips it as well, however far it looks back.
        windows.begin_poll(0, 1000, i64::MAX);
        assert_eq!(windows.next(110).unwrap().from_ms, 20);
        let last = windows.next(110).unwrap();
        windows.defer(&Window::new(last.from_ms, 110, true));
        assert!(!windows.polling());
    }

    #[test]
    fn f37_the_cursor_does_not_pass_the_start_of_a_long_poll() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 5, HOUR);
        let window = windows.next(HOUR).unwrap();
        assert!(window.ends_at_present);
        // The server failed for a day. Late rows may have become visible in the window that was read first.
        let first = Window::new(0, HOUR, false);
        windows.finish(&first, HOUR);
        let mut last = windows.next(24 * HOUR).unwrap();
        last.row(EventId(1), Some(23 * HOUR));
        windows.finish(&last, 24 * HOUR);
        assert_eq!(windows.cursor.unwrap().at_ms, HOUR);
    }

    #[test]
    fn a_window_with_too_many_rows_is_halved() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 0, i64::MAX);
        let mut window = windows.next(HOUR).unwrap();
        for row in 0..=ROWS_MAX as u128 {
            window.row(EventId(row), None);
        }
        assert!(window.too_large() && windows.halve(&window));
        let half = windows.next(HOUR).unwrap();
        assert_eq!((half.from_ms, half.to_ms, half.ends_at_present), (0, HOUR / 2, false));
        assert_eq!(windows.cursor.unwrap().at_ms, 0);
    }

    #[test]
    fn a_window_with_far_too_many_rows_becomes_as_short_as_they_are_dense() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 0, i64::MAX);
        let mut window = windows.next(HOUR).unwrap();
        for row in 0..=ROWS_MAX as i64 {
            window.row(EventId(row as u128), Some(HOUR - row));
        }
        assert!(windows.halve(&window));
        assert_eq!(windows.next(HOUR).unwrap().to_ms, ROWS_MAX as i64 / 2);
    }

    #[test]
    fn twins_are_as_many_events() {
        let mut window = Window::default();
        let ids: Vec<EventId> = (0..3).map(|_| window.row(EventId(7), Some(1))).collect();
        assert_eq!(ids, [EventId(7), EventId(7).twin(1), EventId(7).twin(2)]);
    }

    #[test]
    fn f29_a_clock_rollback_neither_stops_nor_skips() {
        let cursor =
            ApiCursor { at_ms: 1000 * HOUR, start_ms: 0, legacy: false, warned: None, answered: false };
        let mut windows = Windows::new(Some(cursor));
        for present in [500 * HOUR, -500 * HOUR] {
            windows.begin_poll(0, HOUR, i64::MAX);
            let window = windows.next(present).unwrap();
            assert_eq!((window.from_ms, window.to_ms), (999 * HOUR, 1000 * HOUR));
            windows.finish(&window, present);
            assert_eq!(windows.cursor, Some(cursor));
        }
        // If both clocks agree, reading resumes from there.
        windows.set_back(500 * HOUR);
        windows.begin_poll(0, HOUR, 501 * HOUR);
        let mut window = windows.next(501 * HOUR).unwrap();
        assert_eq!((window.from_ms, window.to_ms), (499 * HOUR, 501 * HOUR));
        window.row(EventId(1), Some(500 * HOUR + 7));
        windows.finish(&window, 501 * HOUR);
        assert_eq!(windows.cursor.unwrap().at_ms, 500 * HOUR + 7);
    }

    #[test]
    fn f29_a_clock_that_is_ahead_does_not_move_the_cursor_ahead() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 0, i64::MAX);
        // One clock says 10 hours, the other a thousand; the newest row is an hour before the first.
        while let Some(mut window) = windows.next(1000 * HOUR) {
            if (window.from_ms..=window.to_ms).contains(&(9 * HOUR)) {
                window.row(EventId(1), Some(9 * HOUR));
            }
            windows.finish(&window, 10 * HOUR);
        }
        assert!(windows.cursor.unwrap().at_ms <= 10 * HOUR);
    }

    #[test]
    fn the_shortest_window_is_not_halved() {
        let mut window = Window::new(5, 6, false);
        for row in 0..=ROWS_MAX as u128 {
            window.row(EventId(row), Some(5));
        }
        assert!(!window.too_large());
        window.row(EventId(0), Some(5000));
        assert_eq!(window.outside, 1);
    }

    fn with_rows(from_ms: i64, to_ms: i64, rows: usize) -> Window {
        Window { rows, ..Window::new(from_ms, to_ms, false) }
    }

    #[test]
    fn a_window_is_too_large_with_too_many_rows_if_it_can_be_halved() {
        for (to_ms, rows, too_large) in [
            (100, ROWS_MAX, false),
            (100, ROWS_MAX + 1, true),
            (6, ROWS_MAX + 1, false),
            (7, ROWS_MAX + 1, true),
        ] {
            assert_eq!(with_rows(5, to_ms, rows).too_large(), too_large, "to {to_ms}, {rows} rows");
        }
        // A window that failed for another reason is halved by its length, and never becomes empty.
        assert_eq!(with_rows(1_000, 3_000, 9).half_ms(), 1_000);
        assert_eq!(with_rows(7, 8, 9).half_ms(), 1);
        assert_eq!(with_rows(7, 7, 9).half_ms(), 1);
        let mut few = with_rows(1_000, 3_000, 1);
        few.row(EventId(1), Some(2_900));
        assert_eq!(few.half_ms(), 1_000, "where its rows are counts only if there are too many");
    }

    #[test]
    fn rows_of_other_times_are_counted_with_a_tolerance() {
        let mut window = Window::new(50_000, 60_000, false);
        for time in [50_000 - OUTSIDE_MS, 55_000, 60_000 + OUTSIDE_MS] {
            window.row(EventId(1), Some(time));
        }
        window.row(EventId(1), None);
        assert_eq!((window.rows(), window.outside), (4, 0));
        window.row(EventId(1), Some(50_000 - OUTSIDE_MS - 1));
        window.row(EventId(1), Some(60_000 + OUTSIDE_MS + 1));
        assert_eq!((window.rows(), window.outside), (6, 2));
    }

    #[test]
    fn windows_become_longer_with_few_rows_and_shorter_with_many() {
        for (rows, span_ms) in [
            (0, 400),
            (ROWS_MAX / 8 - 1, 400),
            (ROWS_MAX / 8, 100),
            (ROWS_MAX / 2, 100),
            (ROWS_MAX / 2 + 1, 50),
        ] {
            let mut windows = Windows::new(None);
            windows.begin_poll(0, 0, i64::MAX);
            windows.span_ms = 100;
            windows.finish(&with_rows(0, 100, rows), 100);
            assert_eq!(windows.span_ms, span_ms, "{rows} rows");
        }
    }

    #[test]
    fn a_window_is_halved_a_limited_number_of_times_in_a_row() {
        let mut windows = Windows::new(None);
        let window = with_rows(0, 1 << 50, 0);
        let count = |windows: &mut Windows| (0..100).take_while(|_| windows.halve(&window)).count();
        windows.begin_poll(0, 0, i64::MAX);
        assert_eq!(count(&mut windows), RESTARTS_MAX as usize);
        windows.begin_poll(0, 0, i64::MAX);
        assert_eq!(count(&mut windows), RESTARTS_MAX as usize, "after the start of a poll");
        windows.finish(&window, 1 << 50);
        assert_eq!(count(&mut windows), RESTARTS_MAX as usize, "after a complete window");
        windows.defer(&window);
        assert_eq!(count(&mut windows), RESTARTS_MAX as usize, "after a deferred window");
    }

    #[test]
    fn a_window_near_the_start_of_the_poll_may_get_late_rows() {
        let mut windows = Windows::new(None);
        windows.begin_poll(0, 0, 1_000);
        let fresh = |to_ms, ends_at_present| windows.is_fresh(&Window::new(0, to_ms, ends_at_present), 100);
        assert!(!fresh(899, false) && fresh(900, false) && fresh(901, false));
        assert!(fresh(899, true), "its end is the present");
    }

    #[test]
    fn an_abandoned_poll_has_no_windows_left() {
        let mut windows = Windows::new(None);
        assert!(!windows.polling() && windows.next(HOUR).is_none());
        windows.begin_poll(0, 0, i64::MAX);
        assert!(windows.polling() && windows.next(HOUR).is_some());
        windows.abandon();
        assert!(!windows.polling() && windows.next(HOUR).is_none());
    }

    #[test]
    fn the_fraction_that_was_read() {
        let mut windows = Windows::new(None);
        assert_eq!(windows.done(100), 0.0);
        windows.begin(1_000);
        for (at_ms, present_ms, done) in [
            (1_000, 2_000, 0.0),
            (1_250, 2_000, 0.25),
            (2_000, 2_000, 1.0),
            (2_500, 2_000, 1.0),
            (1_000, 1_000, 0.0),
        ] {
            windows.cursor.as_mut().unwrap().at_ms = at_ms;
            assert_eq!(windows.done(present_ms), done, "at {at_ms} of {present_ms}");
        }
    }

    /// A poll looks back, but not to before the start of the source.
    #[test]
    fn a_poll_starts_before_the_cursor() {
        let cursor = ApiCursor { at_ms: 5_000, start_ms: 1_000, ..ApiCursor::default() };
        for (lookback_ms, from_ms) in [(0, 5_000), (300, 4_700), (4_000, 1_000), (9_000, 1_000)] {
            let mut windows = Windows::new(Some(cursor));
            windows.begin_poll(7, lookback_ms, i64::MAX);
            assert_eq!(windows.next(6_000).unwrap().from_ms, from_ms, "{lookback_ms}");
        }
        let mut windows = Windows::new(Some(cursor));
        windows.set_back(400);
        assert_eq!(windows.cursor.map(|cursor| (cursor.start_ms, cursor.at_ms)), Some((400, 400)));
    }
}
