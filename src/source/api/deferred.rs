//! Windows that fail again and again: set aside, so that what is newer is read, and tried again at times of their
//! own. Pure.
//!
//! While there is one the checkpoint's cursor stays before it: after a restart it is asked for again.

use super::page::Route;
use super::window::Window;
use super::window_reader::{Attempts, WindowReader};
use std::time::Instant;

/// Each may hold the ids of its rows so far.
const WINDOWS_MAX: usize = 8;

pub(super) struct Deferred {
    pub reading: WindowReader,
    /// When it is tried again.
    pub due: Instant,
    /// The checkpoint's cursor does not go beyond this.
    pub hold_ms: i64,
    /// Rows of it may become visible late: it ended at the present.
    pub fresh: bool,
    /// What went wrong the last time.
    pub reason: String,
    /// Waiting does not heal it.
    pub needs_a_person: bool,
    /// That it is set aside has been logged.
    pub logged: bool,
}

impl Deferred {
    /// The end of a window that was set aside and has been read now. Rows of it that became visible meanwhile are
    /// before the place where reading went on, so it is read once more, and the ids of its rows are kept until then.
    pub(super) fn second_look(window: &Window, kept_ms: i64, route: Route, due: Instant) -> Deferred {
        let from_ms = window.from_ms.max(window.to_ms - kept_ms);
        Deferred {
            reading: WindowReader::new(Window::new(from_ms, window.to_ms, false), route, Attempts::default()),
            due,
            hold_ms: from_ms,
            fresh: false,
            reason: String::new(),
            needs_a_person: false,
            logged: false,
        }
    }
}

/// Of a window that was set aside, while it is tried again.
pub(super) struct Retried {
    pub hold_ms: i64,
    pub fresh: bool,
    pub reason: String,
    pub logged: bool,
}

/// Those of one source.
#[derive(Default)]
pub(super) struct DeferredWindows(Vec<Deferred>);

impl DeferredWindows {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Deferred> {
        self.0.iter()
    }

    /// Two that follow each other and of which nothing came are one; beyond [`WINDOWS_MAX`] the two newest are: what
    /// has been read of them is known by its ids, which are kept from the oldest window on.
    pub(super) fn push(&mut self, mut next: Deferred) {
        let newest = || (0..self.0.len()).max_by_key(|at| self.0[*at].reading.window.to_ms);
        let joined = match self.0.len() < WINDOWS_MAX {
            true => self.0.iter().position(|known| is_joined(known, &next)),
            false => newest(),
        };
        if let Some(at) = joined {
            next = join(self.0.swap_remove(at), next);
        }
        self.0.push(next);
    }

    /// The first one that is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Deferred> {
        let due = |deferred: &Deferred| deferred.due <= now;
        let oldest = (0..self.0.len()).filter(|at| due(&self.0[*at])).min_by_key(|at| self.0[*at].due);
        oldest.map(|at| self.0.remove(at))
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().map(|deferred| deferred.due).min()
    }

    /// The server works again: none waits any longer.
    pub(super) fn wake(&mut self, now: Instant) {
        for deferred in &mut self.0 {
            deferred.due = deferred.due.min(now);
        }
    }

    pub(super) fn hold_ms(&self) -> Option<i64> {
        self.0.iter().map(|deferred| deferred.hold_ms).min()
    }

    /// Time ranges that no other window asks for meanwhile.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.0.iter().map(|deferred| {
            let window = &deferred.reading.window;
            (window.from_ms, window.to_ms)
        })
    }
}

/// It was tried, and no row of it has ever come.
fn came_to_nothing(deferred: &Deferred) -> bool {
    let attempts = deferred.reading.attempts;
    attempts.failures > 0 && !attempts.has_come_far()
}

fn is_joined(known: &Deferred, next: &Deferred) -> bool {
    let (one, other) = (&known.reading.window, &next.reading.window);
    came_to_nothing(known)
        && came_to_nothing(next)
        && one.from_ms <= other.to_ms
        && other.from_ms <= one.to_ms
        && known.reading.route == next.reading.route
}

fn join(known: Deferred, next: Deferred) -> Deferred {
    let (one, other) = (&known.reading.window, &next.reading.window);
    let window =
        Window::new(one.from_ms.min(other.from_ms), one.to_ms.max(other.to_ms), one.live || other.live);
    let route: Route = next.reading.route;
    let mut reading = WindowReader::new(window, route, Attempts::default());
    reading.attempts.join(known.reading.attempts, next.reading.attempts);
    Deferred {
        reading,
        due: known.due.max(next.due),
        hold_ms: known.hold_ms.min(next.hold_ms),
        fresh: known.fresh || next.fresh,
        reason: next.reason,
        needs_a_person: known.needs_a_person || next.needs_a_person,
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
        let mut reading = WindowReader::new(window, Route::Auditing, Attempts::default());
        reading.attempts = Attempts::failed(rows as usize);
        Deferred {
            reading,
            due,
            hold_ms: from_ms,
            fresh: false,
            reason: String::new(),
            needs_a_person: false,
            logged: false,
        }
    }

    #[test]
    fn f76_windows_of_which_nothing_came_are_one_and_others_keep_their_place() {
        let now = crate::clock::monotonic();
        let mut windows = DeferredWindows::default();
        windows.push(deferred(0, 10, 0, now));
        windows.push(deferred(20, 30, 5, now + Duration::from_secs(1)));
        windows.push(deferred(10, 20, 0, now));
        let ranges: Vec<_> = windows.ranges().collect();
        assert_eq!(ranges, [(20, 30), (0, 20)]);
        assert_eq!((windows.hold_ms(), windows.due()), (Some(0), Some(now)));
        assert_eq!(windows.take_due(now).unwrap().reading.window.to_ms, 20);
        assert!(windows.take_due(now).is_none());
        windows.wake(now);
        assert_eq!(windows.take_due(now).unwrap().reading.window.rows(), 5);
    }

    #[test]
    fn f76_the_second_look_holds_the_ids_of_what_it_asks_for() {
        let now = crate::clock::monotonic();
        for (kept_ms, from_ms) in [(40, 60), (500, 0)] {
            let mut windows = DeferredWindows::default();
            let window = Window::new(0, 100, true);
            windows.push(Deferred::second_look(&window, kept_ms, Route::Auditing, now));
            assert_eq!(windows.hold_ms(), Some(from_ms));
            assert!(windows.ranges().eq([(from_ms, 100)]));
            let looked = windows.take_due(now).unwrap();
            assert!(!looked.fresh && !looked.reading.window.live);
        }
    }

    #[test]
    fn f76_many_windows_become_few() {
        let now = crate::clock::monotonic();
        let mut windows = DeferredWindows::default();
        for n in 0..100 {
            windows.push(deferred(n * 10, n * 10 + 10, 5, now));
        }
        assert_eq!(windows.ranges().count(), WINDOWS_MAX);
        assert_eq!(windows.hold_ms(), Some(0));
        let covered: i64 = windows.ranges().map(|(from_ms, to_ms)| to_ms - from_ms).sum();
        assert_eq!(covered, 1000);
    }
}
