//! Windows that keep failing: deferred, so that newer windows are read, and retried on their own schedule. Pure.
//!
//! While a window is deferred, the stored cursor stays before it, so that it is polled again after a restart.

use super::page::Route;
use super::window::Window;
use super::window_reader::{Attempts, WindowReader};
use std::time::Instant;

/// Bounds memory, because each may hold the ids of its rows so far.
const WINDOWS_MAX: usize = 8;

/// A deferred window.
pub(super) struct Deferred {
    pub reader: WindowReader,
    /// When it is retried.
    pub due: Instant,
    /// The stored cursor must not be later than this, in milliseconds since 1970.
    pub cursor_max_ms: i64,
    /// It ended near the present, so rows of it may become visible late.
    pub may_get_late_rows: bool,
    /// Why it failed the last time. Empty: it has not failed.
    pub reason: String,
    /// Retrying does not help before an operator acts.
    pub needs_operator: bool,
    /// Its deferral was logged.
    pub logged: bool,
}

impl Deferred {
    /// The last `retention_ms` of a window that was deferred and is complete now. Rows that became visible meanwhile
    /// may be before the position where reading resumed. So it is read once more, and the ids of its rows are kept
    /// until then.
    pub(super) fn reread(window: &Window, retention_ms: i64, route: Route, due: Instant) -> Deferred {
        let from_ms = window.from_ms.max(window.to_ms - retention_ms);
        Deferred {
            reader: WindowReader::new(Window::new(from_ms, window.to_ms, false), route, Attempts::default()),
            due,
            cursor_max_ms: from_ms,
            may_get_late_rows: false,
            reason: String::new(),
            needs_operator: false,
            logged: false,
        }
    }
}

/// What is kept of a deferred window while it is retried.
pub(super) struct Retried {
    pub cursor_max_ms: i64,
    pub may_get_late_rows: bool,
    pub reason: String,
    pub logged: bool,
}

/// The deferred windows of one source.
#[derive(Default)]
pub(super) struct DeferredWindows(Vec<Deferred>);

impl DeferredWindows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Deferred> {
        self.0.iter()
    }

    /// Adds a window. It is joined with an adjacent one if no row of either was read, and with the newest one beyond
    /// [`WINDOWS_MAX`]. Rows that were read of them are deduplicated by id.
    pub(super) fn push(&mut self, mut next: Deferred) {
        let newest = || (0..self.0.len()).max_by_key(|at| self.0[*at].reader.window.to_ms);
        let joined = match self.0.len() < WINDOWS_MAX {
            true => self.0.iter().position(|known| is_joined(known, &next)),
            false => newest(),
        };
        if let Some(at) = joined {
            next = join(self.0.swap_remove(at), next);
        }
        self.0.push(next);
    }

    /// Removes the one that has been due for longest.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Deferred> {
        let due = |deferred: &Deferred| deferred.due <= now;
        let oldest = (0..self.0.len()).filter(|at| due(&self.0[*at])).min_by_key(|at| self.0[*at].due);
        oldest.map(|at| self.0.remove(at))
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|deferred| deferred.due).min()
    }

    /// The server has recovered: retries all of them now.
    pub(super) fn wake(&mut self, now: Instant) {
        for deferred in &mut self.0 {
            deferred.due = deferred.due.min(now);
        }
    }

    pub(super) fn cursor_max_ms(&self) -> Option<i64> {
        self.0.iter().map(|deferred| deferred.cursor_max_ms).min()
    }

    /// Their time ranges, which polls skip meanwhile.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|deferred| {
            let window = &deferred.reader.window;
            (window.from_ms, window.to_ms)
        })
    }
}

/// It has failed, and no row of it was ever read.
fn has_no_rows(deferred: &Deferred) -> bool {
    let attempts = deferred.reader.attempts;
    attempts.failures > 0 && !attempts.has_rows()
}

fn is_joined(known: &Deferred, next: &Deferred) -> bool {
    let (one, other) = (&known.reader.window, &next.reader.window);
    has_no_rows(known)
        && has_no_rows(next)
        && one.from_ms <= other.to_ms
        && other.from_ms <= one.to_ms
        && known.reader.route == next.reader.route
}

fn join(known: Deferred, next: Deferred) -> Deferred {
    let (one, other) = (&known.reader.window, &next.reader.window);
    let window = Window::new(
        one.from_ms.min(other.from_ms),
        one.to_ms.max(other.to_ms),
        one.ends_at_present || other.ends_at_present,
    );
    let route: Route = next.reader.route;
    let mut reader = WindowReader::new(window, route, Attempts::default());
    reader.attempts.join(known.reader.attempts, next.reader.attempts);
    Deferred {
        reader,
        due: known.due.max(next.due),
        cursor_max_ms: known.cursor_max_ms.min(next.cursor_max_ms),
        may_get_late_rows: known.may_get_late_rows || next.may_get_late_rows,
        reason: next.reason,
        needs_operator: known.needs_operator || next.needs_operator,
        logged: known.logged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EventId;
    use std::time::Duration;

    fn deferred(from_ms: i64, to_ms: i64, rows: u128, due: Instant) -> Deferred {
        let mut window = Window::new(from_ms, to_ms, false);
        for row in 0..rows {
            window.row(EventId(row), None);
        }
        let mut reader = WindowReader::new(window, Route::Auditing, Attempts::default());
        reader.attempts = Attempts::failed(rows as usize);
        Deferred {
            reader,
            due,
            cursor_max_ms: from_ms,
            may_get_late_rows: false,
            reason: String::new(),
            needs_operator: false,
            logged: false,
        }
    }

    #[test]
    fn f76_adjacent_windows_without_rows_are_joined() {
        let now = crate::clock::monotonic();
        let mut windows = DeferredWindows::default();
        windows.push(deferred(0, 10, 0, now));
        windows.push(deferred(20, 30, 5, now + Duration::from_secs(1)));
        windows.push(deferred(10, 20, 0, now));
        let ranges: Vec<_> = windows.ranges().collect();
        assert_eq!(ranges, [(20, 30), (0, 20)]);
        assert_eq!((windows.cursor_max_ms(), windows.due()), (Some(0), Some(now)));
        assert_eq!(windows.pop_due(now).unwrap().reader.window.to_ms, 20);
        assert!(windows.pop_due(now).is_none());
        windows.wake(now);
        assert_eq!(windows.pop_due(now).unwrap().reader.window.rows(), 5);
    }

    #[test]
    fn f76_a_reread_keeps_the_ids_of_its_range() {
        let now = crate::clock::monotonic();
        for (retention_ms, from_ms) in [(40, 60), (500, 0)] {
            let mut windows = DeferredWindows::default();
            let window = Window::new(0, 100, true);
            windows.push(Deferred::reread(&window, retention_ms, Route::Auditing, now));
            assert_eq!(windows.cursor_max_ms(), Some(from_ms));
            assert!(windows.ranges().eq([(from_ms, 100)]));
            let looked = windows.pop_due(now).unwrap();
            assert!(!looked.may_get_late_rows && !looked.reader.window.ends_at_present);
        }
    }

    #[test]
    fn f76_the_number_of_deferred_windows_is_bounded() {
        let now = crate::clock::monotonic();
        let mut windows = DeferredWindows::default();
        for n in 0..100 {
            windows.push(deferred(n * 10, n * 10 + 10, 5, now));
        }
        assert_eq!(windows.ranges().count(), WINDOWS_MAX);
        assert_eq!(windows.cursor_max_ms(), Some(0));
        let covered: i64 = windows.ranges().map(|(from_ms, to_ms)| to_ms - from_ms).sum();
        assert_eq!(covered, 1000);
    }
}
