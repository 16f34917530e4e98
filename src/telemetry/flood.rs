//! Sums up warnings and errors that repeat, so that a flood of them neither fills the journal nor hides
//! behind the journal's own rate limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use tracing::Level;

/// Of each place in the program one line in this time, and one summary of what it would have said besides.
const INTERVAL: Duration = Duration::from_secs(10);

/// Messages may contain what others choose, so only this many are counted separately.
const PLACES_MAX: usize = 200;

/// What is held back, by the place in the program that says it.
pub(super) struct Flood<K> {
    places: HashMap<K, CallSite>,
}

impl<K> Default for Flood<K> {
    fn default() -> Flood<K> {
        Flood { places: HashMap::new() }
    }
}

struct CallSite {
    /// When the last line of this place was written.
    written: Instant,
    suppressed: u64,
    level: Level,
    target: &'static str,
    /// Message of the last line written.
    message: String,
}

/// What is written instead of the lines held back.
#[derive(Debug, PartialEq)]
pub(super) struct Summary {
    pub level: Level,
    pub target: &'static str,
    pub message: String,
    pub repeated: u64,
}

impl<K: Hash + Eq> Flood<K> {
    /// Whether no further call site is counted separately.
    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= PLACES_MAX
    }

    /// Whether what this place says now is written; if not, it is counted. `take_due(now)` comes before.
    pub(super) fn admit(
        &mut self,
        place: K,
        level: Level,
        target: &'static str,
        message: &str,
        now: Instant,
    ) -> bool {
        if let Some(place) = self.places.get_mut(&place) {
            if now.saturating_duration_since(place.written) < INTERVAL {
                place.suppressed += 1;
                return false;
            }
            place.written = now;
            place.message = message.to_string();
            return true;
        }
        let said = CallSite { written: now, suppressed: 0, level, target, message: message.to_string() };
        self.places.insert(place, said);
        true
    }

    /// The summaries whose time has come by `now`; `None` takes all.
    pub(super) fn take_due(&mut self, now: Option<Instant>) -> Vec<Summary> {
        let mut due = Vec::new();
        for place in self.places.values_mut() {
            let is_due = now.is_none_or(|now| now.saturating_duration_since(place.written) >= INTERVAL);
            if place.suppressed > 0 && is_due {
                due.push(Summary {
                    level: place.level,
                    target: place.target,
                    message: place.message.clone(),
                    repeated: std::mem::take(&mut place.suppressed),
                });
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn flood() -> (Flood<u32>, Instant) {
        (Flood::default(), clock::monotonic())
    }

    fn say(flood: &mut Flood<u32>, place: u32, message: &str, now: Instant) -> bool {
        flood.admit(place, Level::WARN, "target", message, now)
    }

    fn repeated(summaries: &[Summary]) -> Vec<u64> {
        summaries.iter().map(|summary| summary.repeated).collect()
    }

    #[test]
    fn first_passes_and_the_rest_of_the_interval_is_counted() {
        let (mut flood, start) = flood();
        assert!(say(&mut flood, 1, "a", start));
        for n in 1..1000 {
            assert!(!say(&mut flood, 1, "a", start + Duration::from_millis(n)));
        }
        assert!(say(&mut flood, 2, "b", start), "another place is not held back");
        assert_eq!(flood.take_due(Some(start + INTERVAL - Duration::from_millis(1))), []);
        assert_eq!(repeated(&flood.take_due(Some(start + INTERVAL))), [999]);
        assert_eq!(flood.take_due(None), [], "reported once");
    }

    #[test]
    fn a_place_speaks_again_after_its_interval() {
        let (mut flood, start) = flood();
        assert!(say(&mut flood, 1, "first", start));
        assert!(!say(&mut flood, 1, "second", start));
        let later = start + INTERVAL;
        assert_eq!(flood.take_due(Some(later))[0].message, "first");
        assert!(say(&mut flood, 1, "third", later));
        assert!(!say(&mut flood, 1, "fourth", later));
        let summary = flood.take_due(None).remove(0);
        assert_eq!((summary.message.as_str(), summary.repeated), ("third", 1));
    }

    /// A minute of a flood: no more than two lines an interval, and no event uncounted.
    #[test]
    fn counts_are_exact_over_many_intervals() {
        let (mut flood, start) = flood();
        let (mut written, mut summed, mut lines) = (0, 0, 0);
        for n in 0..100_000 {
            let now = start + Duration::from_micros(600 * n);
            let due = flood.take_due(Some(now));
            lines += due.len();
            summed += due.iter().map(|summary| summary.repeated).sum::<u64>();
            written += u64::from(say(&mut flood, 1, "a", now));
        }
        summed += flood.take_due(None).iter().map(|summary| summary.repeated).sum::<u64>();
        assert_eq!(written + summed, 100_000);
        assert!(lines as u64 + written <= 13, "{lines} summaries, {written} lines");
    }
}
