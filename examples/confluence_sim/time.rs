//! The simulated clock, and the forms in which Confluence writes a time.

use confluence_audit_agent::clock;
use jiff::Timestamp;

/// What the simulated server takes for the time. It has no influence on anything that waits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clock {
    /// The real one, so many milliseconds ahead (or, below 0, behind).
    Real { ahead_ms: i64 },
    /// Stands until it is set or advanced.
    Set(i64),
}

impl Clock {
    pub fn now_ms(self) -> i64 {
        match self {
            Clock::Real { ahead_ms } => clock::now_ms() + ahead_ms,
            Clock::Set(ms) => ms,
        }
    }

    pub fn advanced(self, by_ms: i64) -> Clock {
        match self {
            Clock::Real { ahead_ms } => Clock::Real {
                ahead_ms: ahead_ms + by_ms,
            },
            Clock::Set(ms) => Clock::Set(ms + by_ms),
        }
    }
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// As Java writes an instant: three digits of fraction, or none.
pub fn iso(ms: i64) -> String {
    let digits = if ms.rem_euclid(1_000) == 0 { 0 } else { 3 };
    format!("{:.digits$}", timestamp(ms))
}

/// Milliseconds of an ISO-8601 instant with a zone.
pub fn parse_iso(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

/// As HTTP headers have it.
pub fn http_date(ms: i64) -> String {
    timestamp(ms).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}
