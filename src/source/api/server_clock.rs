//! The server's clock. The host's clock may be wrong or be changed, and windows must not depend on it. Pure.

use std::time::Instant;

/// A `Date` header has whole seconds, so the real time may be this much later.
pub(super) const DATE_MS: i64 = 999;

/// The monotonic timer and the host's clock (milliseconds since 1970) at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub monotonic: Instant,
    pub ms: i64,
}

#[derive(Default)]
pub(super) struct ServerClock {
    /// The latest time that the last `Date` header may mean, in milliseconds since 1970, and when it was received.
    learned: Option<(i64, Now)>,
}

impl ServerClock {
    /// Updates the clock from a `Date` header; an invalid one is ignored.
    pub(super) fn learn(&mut self, date: Option<&str>, now: Now) {
        let parsed = date.and_then(|date| jiff::fmt::rfc2822::parse(date.trim()).ok());
        if let Some(date) = parsed {
            self.learned = Some((date.timestamp().as_millisecond() + DATE_MS, now));
        }
    }

    /// The present in milliseconds since 1970. Before the first `Date` header it is the host's.
    pub(super) fn present_ms(&self, now: Now) -> i64 {
        match self.learned {
            Some((date_ms, at)) => {
                date_ms + now.monotonic.saturating_duration_since(at.monotonic).as_millis() as i64
            }
            None => now.ms,
        }
    }

    /// The server's clock in milliseconds since 1970, if it is known.
    pub(super) fn server_ms(&self, now: Now) -> Option<i64> {
        self.learned.map(|_| self.present_ms(now))
    }

    /// The later of both clocks: a `Date` may come from a cache, and the host's clock may be wrong.
    pub(super) fn latest_present_ms(&self, now: Now) -> i64 {
        self.present_ms(now).max(now.ms)
    }

    /// The earlier of both clocks. An old `Date` from a cache lowers this one only, unless the host's clock is behind
    /// as well.
    pub(super) fn earliest_present_ms(&self, now: Now) -> i64 {
        (self.present_ms(now) - DATE_MS).min(now.ms)
    }

    /// How far the server's clock was ahead of the host's at the last response, in milliseconds.
    pub(super) fn difference_ms(&self) -> Option<i64> {
        self.learned.map(|(date_ms, at)| date_ms - at.ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn f29_the_servers_clock_counts_and_the_hosts_may_jump() {
        let begun = Now { monotonic: crate::clock::monotonic(), ms: 5_000_000 };
        let mut clock = ServerClock::default();
        assert_eq!((clock.present_ms(begun), clock.difference_ms()), (5_000_000, None));
        clock.learn(Some("garbage"), begun);
        assert_eq!(clock.difference_ms(), None);
        clock.learn(Some("Thu, 01 Jan 1970 00:00:10 GMT"), begun);
        for ms in [5_000_000, -1_000_000_000_000, 1_000_000_000_000_000] {
            let monotonic = begun.monotonic + Duration::from_secs(3);
            assert_eq!(clock.present_ms(Now { monotonic, ms }), 13_999);
        }
        assert_eq!(clock.difference_ms(), Some(10_999 - 5_000_000));
    }
}
