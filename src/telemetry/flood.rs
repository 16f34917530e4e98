//! Sums up warnings and errors that repeat, so that a flood of them neither fills the journal nor hides
//! behind the journal's own rate limit.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use tracing::Level;

/// Each call site writes one line in this time, and one summary of its suppressed lines.
const INTERVAL: Duration = Duration::from_secs(10);

/// Messages may contain what others choose, so only this many are counted separately.
const CALL_SITES_MAX: usize = 200;

/// Suppressed lines, by call site.
pub(super) struct Flood<K> {
    call_sites: HashMap<K, CallSite>,
}

impl<K> Default for Flood<K> {
    fn default() -> Flood<K> {
        Flood { call_sites: HashMap::new() }
    }
}

struct CallSite {
    /// When the last line of this call site was written.
    written: Instant,
    suppressed: u64,
    level: Level,
    target: &'static str,
    /// Message of the last line written.
    message: String,
}

/// Written instead of the suppressed lines.
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
        self.call_sites.len() >= CALL_SITES_MAX
    }

    /// Whether a line of this call site is written now. If not, it is counted. Call `take_due(now)` before.
    pub(super) fn admit(
        &mut self,
        call_site: K,
        level: Level,
        target: &'static str,
        message: &str,
        now: Instant,
    ) -> bool {
        if let Some(call_site) = self.call_sites.get_mut(&call_site) {
            if now.saturating_duration_since(call_site.written) < INTERVAL {
                call_site.suppressed += 1;
                return false;
            }
            call_site.written = now;
            call_site.message = message.to_string();
            return true;
        }
        let new = CallSite { written: now, suppressed: 0, level, target, message: message.to_string() };
        self.call_sites.insert(call_site, new);
        true
    }

    /// The summaries that are due at `now`; all if it is `None`.
    pub(super) fn take_due(&mut self, now: Option<Instant>) -> Vec<Summary> {
        let mut due = Vec::new();
        for call_site in self.call_sites.values_mut() {
            let is_due = now.is_none_or(|now| now.saturating_duration_since(call_site.written) >= INTERVAL);
            if call_site.suppressed > 0 && is_due {
                due.push(Summary {
                    level: call_site.level,
                    target: call_site.target,
                    message: call_site.message.clone(),
                    repeated: std::mem::take(&mut call_site.suppressed),
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

    fn say(flood: &mut Flood<u32>, call_site: u32, message: &str, now: Instant) -> bool {
        flood.admit(call_site, Level::WARN, "target", message, now)
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
        assert!(say(&mut flood, 2, "b", start), "another call site is not suppressed");
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
