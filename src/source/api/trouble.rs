//! The faults of an API, and the level at which each is logged: debug what heals with the next request, warning what
//! has lasted, error what a person has to fix. Pure.

use std::time::{Duration, Instant};
use tracing::Level;

/// A pause that is longer than two polls and than this is worth a warning by itself.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// So many messages of one trouble are kept.
const TEXTS_MAX: usize = 16;

/// Requests fail, one after another.
pub(super) struct Trouble {
    since: Instant,
    failures: u32,
    /// The last one's cause and remedy.
    pub message: String,
    /// What has been logged above debug.
    logged: Vec<(Level, String)>,
}

/// What went wrong, and how long the next request waits.
#[derive(Default)]
pub(super) struct Faults {
    pub not_before: Option<Instant>,
    /// In a row, of whatever windows but those that are set aside.
    pub failures: u32,
    /// Faults in a row that a person has to fix.
    pub slow_failures: u32,
    pub restart_failures: u32,
    /// What keeps the source from its work.
    pub trouble: Option<Trouble>,
    /// The message about the windows that are set aside.
    pub deferred_health: Option<String>,
    /// The last message that was logged of a window that cannot be read.
    pub logged_of_window: Option<String>,
    /// That a page which called itself the last was not has been logged, or that it was.
    pub logged_last_page: [bool; 2],
    /// Many answers 404 have come: the version decides which route is used.
    pub version_wanted: bool,
}

impl Trouble {
    pub(super) fn new(now: Instant) -> Trouble {
        Trouble { since: now, failures: 0, message: String::new(), logged: Vec::new() }
    }

    /// One more request has failed. Returns the level at which that is logged.
    pub(super) fn failed(
        &mut self,
        message: String,
        needs_a_person: bool,
        pause: Duration,
        poll_interval: Duration,
        now: Instant,
    ) -> Level {
        self.failures += 1;
        let lasted = self.failures > 1 && now.saturating_duration_since(self.since) >= poll_interval;
        let level = if needs_a_person {
            Level::ERROR
        } else if lasted || pause >= LONG_PAUSE.max(2 * poll_interval) {
            Level::WARN
        } else {
            Level::DEBUG
        };
        self.message = message;
        // Levels are ordered by how much is said at them.
        let known = |(at, text): &(Level, String)| *at <= level && *text == self.message;
        if level == Level::DEBUG || self.logged.len() >= TEXTS_MAX || self.logged.iter().any(known) {
            return Level::DEBUG;
        }
        self.logged.push((level, self.message.clone()));
        level
    }

    /// Whether any of it was logged above debug.
    pub(super) fn was_logged(&self) -> bool {
        !self.logged.is_empty()
    }

    pub(super) fn lasted(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f79_a_fault_is_told_as_loudly_as_it_deserves() {
        let begun = crate::clock::monotonic();
        let second = Duration::from_secs(1);
        let minute = 60 * second;
        let mut trouble = Trouble::new(begun);
        let mut at = |s: u32, text: &str, person, pause| {
            trouble.failed(text.into(), person, pause, minute, begun + s * second)
        };
        assert_eq!(at(0, "503", false, second), Level::DEBUG);
        assert_eq!(at(30, "503", false, second), Level::DEBUG);
        assert_eq!(at(60, "503", false, second), Level::WARN);
        assert_eq!(at(90, "503", false, second), Level::DEBUG, "said once");
        assert_eq!(at(95, "502", false, second), Level::WARN);
        assert_eq!(at(99, "503", false, second), Level::DEBUG);
        assert_eq!(at(100, "401", true, second), Level::ERROR);
        assert_eq!(at(101, "401", true, second), Level::DEBUG);
        assert!(trouble.was_logged());
        // The server asks for silence that is longer than polls are apart.
        let mut trouble = Trouble::new(begun);
        let level = trouble.failed("429".into(), false, 5 * minute, minute, begun);
        assert_eq!(level, Level::WARN);
        let mut trouble = Trouble::new(begun);
        let level = trouble.failed("429".into(), false, 30 * second, second, begun);
        assert_eq!((level, trouble.was_logged()), (Level::DEBUG, false));
    }
}
