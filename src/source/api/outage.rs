//! The failures of an API, and the level at which each is logged: debug if the next request may succeed, warn if it has
//! lasted, error if an operator must act. Pure.

use std::time::{Duration, Instant};
use tracing::Level;

/// A pause longer than this and than two poll intervals is logged as a warning at once.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// How many messages of one outage are kept to avoid repeats.
const TEXTS_MAX: usize = 16;

/// A series of failed requests.
pub(super) struct Outage {
    since: Instant,
    failures: u32,
    /// Cause and remedy of the last failure.
    pub message: String,
    /// Messages that were logged above debug.
    logged: Vec<(Level, String)>,
}

/// The failures of an API, and when the next request is due.
#[derive(Default)]
pub(super) struct Faults {
    pub not_before: Option<Instant>,
    /// Failures in a row, without those of deferred windows.
    pub failures: u32,
    /// Failures in a row that an operator must fix.
    pub operator_failures: u32,
    /// Failures in a row that may be a restart of the server.
    pub restart_failures: u32,
    /// The current outage.
    pub outage: Option<Outage>,
    /// The health message about deferred windows.
    pub deferred_health: Option<String>,
    /// The last logged reason of a deferred window.
    pub last_deferred_log: Option<String>,
    /// Whether it was logged that a claimed last page was not the last one, and that it was.
    pub logged_last_page: [bool; 2],
    /// After many responses with 404: read the version, to choose the route.
    pub version_wanted: bool,
}

impl Outage {
    pub(super) fn new(now: Instant) -> Outage {
        Outage { since: now, failures: 0, message: String::new(), logged: Vec::new() }
    }

    /// Counts a failed request. Returns the level at which it is to be logged.
    pub(super) fn failed(
        &mut self,
        message: String,
        needs_operator: bool,
        pause: Duration,
        poll_interval: Duration,
        now: Instant,
    ) -> Level {
        self.failures += 1;
        let lasted = self.failures > 1 && now.saturating_duration_since(self.since) >= poll_interval;
        let level = if needs_operator {
            Level::ERROR
        } else if lasted || pause >= LONG_PAUSE.max(2 * poll_interval) {
            Level::WARN
        } else {
            Level::DEBUG
        };
        self.message = message;
        // `tracing` orders levels by verbosity: ERROR is the smallest.
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
    fn f79_the_log_level_of_a_fault_follows_its_duration_and_remedy() {
        let begun = crate::clock::monotonic();
        let second = Duration::from_secs(1);
        let minute = 60 * second;
        let mut outage = Outage::new(begun);
        let mut at = |s: u32, text: &str, person, pause| {
            outage.failed(text.into(), person, pause, minute, begun + s * second)
        };
        assert_eq!(at(0, "503", false, second), Level::DEBUG);
        assert_eq!(at(30, "503", false, second), Level::DEBUG);
        assert_eq!(at(60, "503", false, second), Level::WARN);
        assert_eq!(at(90, "503", false, second), Level::DEBUG, "logged once");
        assert_eq!(at(95, "502", false, second), Level::WARN);
        assert_eq!(at(99, "503", false, second), Level::DEBUG);
        assert_eq!(at(100, "401", true, second), Level::ERROR);
        assert_eq!(at(101, "401", true, second), Level::DEBUG);
        assert!(outage.was_logged());
        // The server requests a pause longer than the poll interval.
        let mut outage = Outage::new(begun);
        let level = outage.failed("429".into(), false, 5 * minute, minute, begun);
        assert_eq!(level, Level::WARN);
        let mut outage = Outage::new(begun);
        let level = outage.failed("429".into(), false, 30 * second, second, begun);
        assert_eq!((level, outage.was_logged()), (Level::DEBUG, false));
    }
}
