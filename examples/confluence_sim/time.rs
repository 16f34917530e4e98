//! The simulated clock, and the time formats of Confluence.

use confluence_audit_agent::clock;
use jiff::Timestamp;
use std::time::Instant;

/// The clock of the simulated server. It does not affect waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clock {
    /// The real clock, plus these milliseconds.
    Real { ahead_ms: i64 },
    /// Stands still until it is set or advanced.
    Set(i64),
    /// Runs this many times as fast as real time, from `begun_ms` at `begun`.
    Fast { begun: Instant, begun_ms: i64, speed: i64 },
}

impl Clock {
    pub fn now_ms(self) -> i64 {
        match self {
            Clock::Real { ahead_ms } => clock::now_ms() + ahead_ms,
            Clock::Set(ms) => ms,
            Clock::Fast { begun, begun_ms, speed } => {
                let passed = clock::monotonic().saturating_duration_since(begun);
                begun_ms + (passed.as_nanos() as i64).saturating_mul(speed) / 1_000_000
            }
        }
    }

    pub fn advanced(self, by_ms: i64) -> Clock {
        match self {
            Clock::Real { ahead_ms } => Clock::Real { ahead_ms: ahead_ms + by_ms },
            Clock::Set(ms) => Clock::Set(ms + by_ms),
            Clock::Fast { begun, begun_ms, speed } => {
                Clock::Fast { begun, begun_ms: begun_ms + by_ms, speed }
            }
        }
    }
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The notation of Java: three digits of fraction, or none.
pub fn iso(ms: i64) -> String {
    let digits = if ms.rem_euclid(1_000) == 0 { 0 } else { 3 };
    format!("{:.digits$}", timestamp(ms))
}

/// Milliseconds of an ISO-8601 instant with a zone.
pub fn parse_iso(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// The notation of HTTP headers.
pub fn http_date(ms: i64) -> String {
    timestamp(ms).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
