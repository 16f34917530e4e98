//! The events of the last hour, in memory of a fixed size. It has no thread and no timer: the supervisor adds a sample
//! when it wakes up anyway, and so does who asks.

use crate::clock;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One sample covers so much time.
const SAMPLE_S: u64 = 10;
const SAMPLES_OF_MINUTE: usize = 60 / SAMPLE_S as usize;
const MINUTES: usize = 60;
/// An hour, and its beginning.
const SAMPLES_MAX: usize = MINUTES * SAMPLES_OF_MINUTE + 1;

/// What happened in the last hour, of one counter.
#[derive(Debug, Default, PartialEq)]
pub(in crate::agent) struct Recent {
    /// Events a second.
    pub rate_minute: f64,
    pub rate_hour: f64,
    /// Events in each minute, oldest first.
    pub minutes: Vec<u64>,
}

/// The last hour of some counters.
pub(in crate::agent) struct History {
    begun: Instant,
    series: Mutex<Vec<Series>>,
}

/// Values of a counter at the end of each [`SAMPLE_S`]; the last one is of now.
#[derive(Clone)]
struct Series {
    values: Vec<u64>,
    /// Number of the last sample since the beginning.
    last: u64,
}

impl History {
    /// Of so many counters, which are 0 now.
    pub(in crate::agent) fn new(counters: usize) -> History {
        let series = Series { values: vec![0, 0], last: 1 };
        History { begun: clock::monotonic(), series: Mutex::new(vec![series; counters]) }
    }

    /// Adds the values that all counters have now.
    pub(in crate::agent) fn sample(&self, counters: impl Iterator<Item = u64>) {
        self.sample_at(self.begun.elapsed(), counters);
    }

    fn sample_at(&self, since: Duration, counters: impl Iterator<Item = u64>) {
        let number = since.as_secs() / SAMPLE_S + 1;
        let mut all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for (series, value) in all.iter_mut().zip(counters) {
            series.add(number, value);
        }
    }

    /// What the counter with this number did.
    pub(in crate::agent) fn recent(&self, counter: usize) -> Recent {
        let since = self.begun.elapsed();
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(counter).map_or_else(Recent::default, |series| series.recent(since))
    }
}

impl Series {
    fn add(&mut self, number: u64, value: u64) {
        let newest = self.values.last().copied().unwrap_or(0);
        // A counter that was not asked for a while counts as unchanged until now.
        let missed = number.saturating_sub(self.last).min(SAMPLES_MAX as u64) as usize;
        self.values.extend(std::iter::repeat_n(newest, missed));
        if let Some(last) = self.values.last_mut() {
            *last = value;
        }
        self.last = self.last.max(number);
        let surplus = self.values.len().saturating_sub(SAMPLES_MAX);
        self.values.drain(..surplus);
    }

    fn recent(&self, since: Duration) -> Recent {
        let newest = self.values.len().saturating_sub(1);
        let grown = |from: usize, to: usize| self.values[to].saturating_sub(self.values[from]);
        let rate = |samples: usize| {
            let from = newest.saturating_sub(samples);
            // The last sample is not over yet.
            let running = since.as_secs_f64() - (self.last.saturating_sub(1) * SAMPLE_S) as f64;
            let whole = (newest - from).saturating_sub(1) as u64 * SAMPLE_S;
            grown(from, newest) as f64 / (whole as f64 + running.clamp(0.0, SAMPLE_S as f64)).max(1.0)
        };
        let mut minutes = Vec::new();
        let mut to = newest;
        while to > 0 {
            let from = to.saturating_sub(SAMPLES_OF_MINUTE);
            minutes.push(grown(from, to));
            to = from;
        }
        minutes.reverse();
        Recent { rate_minute: rate(SAMPLES_OF_MINUTE), rate_hour: rate(SAMPLES_MAX - 1), minutes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(history: &History, at_s: u64) -> Recent {
        history.series.lock().unwrap()[0].recent(Duration::from_secs(at_s))
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let history = History::new(1);
        for second in 0..3 * 3_600 {
            history.sample_at(Duration::from_secs(second), std::iter::once(second * 5));
        }
        assert_eq!(history.series.lock().unwrap()[0].values.len(), SAMPLES_MAX);
        let recent = recent(&history, 3 * 3_600);
        assert_eq!(recent.minutes.len(), 60);
        assert!(recent.minutes[..59].iter().all(|count| *count == 300), "{recent:?}");
        assert!(
            (4.8..5.2).contains(&recent.rate_minute) && (4.9..5.1).contains(&recent.rate_hour),
            "{recent:?}"
        );
    }

    #[test]
    fn a_start_has_few_minutes() {
        let history = History::new(1);
        history.sample_at(Duration::from_secs(4), std::iter::once(40));
        assert_eq!(recent(&history, 4), Recent { rate_minute: 10.0, rate_hour: 10.0, minutes: vec![40] });
        history.sample_at(Duration::from_secs(90), std::iter::once(40));
        let recent = recent(&history, 90);
        assert_eq!((recent.minutes, recent.rate_minute), (vec![40, 0], 0.0));
    }

    #[test]
    fn a_long_pause_needs_no_more_memory() {
        let history = History::new(1);
        history.sample_at(Duration::from_secs(30), std::iter::once(7));
        history.sample_at(Duration::from_secs(86_400 * 365), std::iter::once(19));
        assert_eq!(history.series.lock().unwrap()[0].values.len(), SAMPLES_MAX);
        let recent = recent(&history, 86_400 * 365);
        assert_eq!((recent.minutes.last(), recent.minutes.iter().sum()), (Some(&12), 12_u64));
    }
}
