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
        let here = (done - self.done).max(f64::EPSILON);
        let rows = rows - self.rows;
        let at_ms = windows.cursor.map_or(0, |cursor| cursor.at_ms);
        tracing::info!(
            source,
            window = self.windows,
            // An estimate, because the length of windows depends on their number of rows.
            windows_about = (self.windows as f64 * (1.0 - self.done) / here).round(),
            done_percent = (done * 1000.0).round() / 10.0,
            at = %jiff::Timestamp::from_millisecond(at_ms).unwrap_or_default(),
            rows,
            rows_per_second = (rows as f64 / seconds).round(),
            seconds_left = (seconds * (1.0 - done) / here).round(),
            "backfill in progress"
        );
    }
}
