//! The only module that reads clocks.

use std::time::{SystemTime, UNIX_EPOCH};

/// Wall clock in milliseconds since 1970. For timestamps and file names; never to measure durations.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Monotonic clock, to measure durations. Changes of the wall clock do not affect it.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
