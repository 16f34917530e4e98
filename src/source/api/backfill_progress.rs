//! Logs the progress of a backfill.

use super::server_clock::Now;
use super::window::Windows;
use std::time::{Duration, Instant};

const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The progress of one poll.
pub(super) struct BackfillProgress {
    begun: Now,
    logged: Instant,
    windows: u64,
    /// Rows, and the fraction of the whole time range, when the poll started.
    rows: u64,
    done: f64,
}

impl BackfillProgress {
    pub(super) fn new(windows: &Windows, rows: u64, present_ms: i64, now: Now) -> BackfillProgress {
        BackfillProgress {
            begun: now,
            logged: now.monotonic,
            windows: 0,
            rows,
            done: windows.done(present_ms),
        }
    }

    /// A window is complete: logs the progress if the interval has passed.
    pub(super) fn report(&mut self, source: &str, windows: &Windows, rows: u64, present_ms: i64, now: Now) {
        self.windows += 1;
        if now.monotonic.saturating_duration_since(self.logged) < LOG_INTERVAL {
            return;
        }
        self.logged = now.monotonic;
        let seconds = now.monotonic.saturating_duration_since(self.begun.monotonic).as_secs_f64();
        let done = windows.done(present_ms);
        let estimate = estimate(self.windows, seconds, self.done, done);
        let rows = rows - self.rows;
        let at_ms = windows.cursor.map_or(0, |cursor| cursor.at_ms);
        tracing::info!(
            source,
            window = self.windows,
            windows_about = estimate.map(|(windows, _)| windows),
            done_percent = (done * 1000.0).round() / 10.0,
            at = %jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default(),
            rows,
            rows_per_second = (rows as f64 / seconds).round(),
            seconds_left = estimate.map(|(_, seconds)| seconds),
            "backfill in progress"
        );
    }
}

/// All windows of a poll, and the seconds until its end: an estimate, because the length of windows depends on their
/// number of rows. `before`, `done`: the fraction of the time range at the start of the poll and now. `None`: it has not
/// grown. It even shrinks where nothing is read, because the range ends at the present.
fn estimate(windows: u64, seconds: f64, before: f64, done: f64) -> Option<(f64, f64)> {
    let here = done - before;
    let scaled = |all: f64, left: f64| (all * left / here).round();
    (here > 0.0).then(|| (scaled(windows as f64, 1.0 - before), scaled(seconds, 1.0 - done)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A poll near the present that waits for a slow sink reported that it would take 47 million years.
    #[test]
    fn nothing_is_estimated_from_no_progress() {
        assert_eq!(estimate(10, 60.0, 0.5, 0.75), Some((20.0, 60.0)));
        assert_eq!(estimate(1, 30.0, 0.0, 1.0), Some((1.0, 0.0)));
        assert_eq!((estimate(1, 30.0, 0.998, 0.998), estimate(1, 30.0, 0.998, 0.997)), (None, None));
    }
}
