//! The one place that asks what time it is.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the wall clock. It stamps events and names files; it measures nothing.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn now_ms() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_millis() as i64,
        Err(before) => -(before.duration().as_millis() as i64),
    }
}

/// Time that has passed is measured on this clock; steps of the wall clock do not reach it.
#[allow(clippy::disallowed_methods, reason = "the one place")]
pub fn monotonic() -> std::time::Instant {
    std::time::Instant::now()
}
