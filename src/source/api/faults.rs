//! What becomes of a request that failed: said once, tried again at a rate that does no harm, and nothing moved on.

use super::answer::{Cadence, Class};
use super::page::Route;
use super::{Api, Now, Step};
use crate::delay::{self, random};
use crate::http::Answer;
use std::time::{Duration, Instant};

/// While a person has to act, credentials that have changed are noticed this soon.
const CREDENTIALS_LOOKED_AT: Duration = Duration::from_secs(5);
/// After faults that a person has to mend: first this long, then [`SLOW`]. Trying often locks accounts.
const SLOW_FIRST: Duration = Duration::from_secs(60);
const SLOW: Duration = Duration::from_secs(15 * 60);
/// After so many the window is begun anew.
const FAILURES_OF_A_PAGE: u32 = 3;
/// Where the API has answered well, a page that a proxy shows during a restart as well is first taken for that: so many tries
/// with such pauses (and up to half more, by chance) span the two minutes of a restart.
const RESTART_FAILURES_MAX: u32 = 3;
const RESTART_PAUSE: Duration = Duration::from_secs(30);

impl Api {
    pub(super) fn held_back(&mut self, now: Instant) -> Option<Instant> {
        let at = self.not_before.filter(|at| now < *at)?;
        if self.slow_failures > 0 && self.client.credentials_changed() {
            tracing::info!(
                source = self.source,
                "credentials have changed; trying again at once"
            );
            return None;
        }
        Some(self.until_credentials(at, now))
    }

    /// Rows came into the window while it was read by offsets: it is read again, in shorter ones.
    pub(super) fn shifted(&mut self, now: Now) -> Step {
        let Some(reading) = self.reading.take() else {
            return Step::Again;
        };
        if self.windows.halve(&reading.window) {
            return Step::Again;
        }
        self.end_poll(
            "pages keep shifting while they are read; the next poll tries again".to_owned(),
            now,
        )
    }

    /// Ends the poll; what was read of it stays known.
    pub(super) fn end_poll(&mut self, what: String, now: Now) -> Step {
        self.reading = None;
        self.windows.abandon();
        self.poll_failed = true;
        self.trouble(what);
        let at = now.monotonic + self.interval;
        self.next_poll = Some(at);
        Step::Wait(at)
    }

    pub(super) fn failed(&mut self, class: Class, answer: Option<&Answer>, now: Now) -> Step {
        match &class {
            Class::TooLarge { .. } if self.limit > 1 => {
                self.limit = (self.limit / 2).max(1);
                tracing::info!(
                    source = self.source,
                    page_size = self.limit,
                    "an answer was too large; asking for fewer rows"
                );
                return Step::Again;
            }
            // Older than 7.5, perhaps; not if it was read by the newer way before.
            Class::NotFound { .. } if self.endpoint.may_be_legacy(self.saved_cursor) => {
                self.endpoint.route = Route::Legacy;
                self.reading = None;
                return Step::Again;
            }
            _ if self.endpoint.not_legacy_either() => self.reading = None,
            _ => {}
        }
        self.trouble(class.message());
        let restarting = self.begun
            && class.comes_of_a_restart_too()
            && self.slow_failures == 0
            && self.restart_failures < RESTART_FAILURES_MAX;
        let pause = if restarting {
            self.restart_failures += 1;
            RESTART_PAUSE.mul_f64(1.0 + random() / 2.0)
        } else if class.cadence() == Cadence::Slow {
            self.slow_failures += 1;
            if self.slow_failures == 1 { SLOW_FIRST } else { SLOW }
        } else {
            let asked = answer.and_then(|answer| delay::asked_delay(&answer.headers, now.ms));
            self.failures += 1;
            // What the server refuses for good may be the page's cursor.
            if self.failures.is_multiple_of(FAILURES_OF_A_PAGE) {
                self.reading = None;
            }
            delay::back_off(self.failures, asked, random())
        };
        let at = now.monotonic + pause;
        self.not_before = Some(at);
        Step::Wait(self.until_credentials(at, now.monotonic))
    }

    /// While a person has to act, changed credentials are looked for in between.
    fn until_credentials(&self, at: Instant, now: Instant) -> Instant {
        if self.slow_failures > 0 {
            at.min(now + CREDENTIALS_LOOKED_AT)
        } else {
            at
        }
    }

    fn trouble(&mut self, what: String) {
        if self.health.as_deref() != Some(what.as_str()) {
            tracing::error!(source = self.source, "{what}");
            self.health = Some(what);
        }
    }

    pub(super) fn recovered(&mut self) {
        (self.failures, self.slow_failures, self.restart_failures) = (0, 0, 0);
        self.not_before = None;
        if !self.poll_failed && self.health.take().is_some() {
            tracing::info!(source = self.source, "the audit API answers again");
        }
        if !self.endpoint.route_known && self.endpoint.base.is_some() {
            self.endpoint.route_known = true;
            if self.endpoint.route == Route::Legacy {
                tracing::info!(
                    source = self.source,
                    "this Confluence is older than 7.5: its audit log is read from `/rest/api/audit`"
                );
            }
        }
    }
}
