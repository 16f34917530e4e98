//! What becomes of a request that failed: tried again at a rate that does no harm, at the place where it was, and
//! nothing moved on. A window that fails again and again is set aside, so that others are read.

use super::answer::{AnswerClass, Cadence};
use super::deferred::Deferred;
use super::endpoint::NotFound;
use super::page::Route;
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use super::trouble::Trouble;
use crate::delay::{self, random};
use crate::http::Response;
use std::time::{Duration, Instant};
use tracing::Level;

/// While a person has to act, credentials that have changed are noticed this soon.
const CREDENTIALS_LOOKED_AT: Duration = Duration::from_secs(5);
/// After faults that a person has to fix: first this long, then [`SLOW`]. Trying often locks accounts.
const SLOW_FIRST: Duration = Duration::from_secs(60);
const SLOW: Duration = Duration::from_secs(15 * 60);
/// Where the API has answered well, a page that a proxy shows during a restart as well is first taken for that: so many
/// tries with such pauses (and up to half more, by chance) span the two minutes of a restart.
const RESTART_FAILURES_MAX: u32 = 3;
const RESTART_PAUSE: Duration = Duration::from_secs(30);

/// A window that fails so often without coming further is set aside.
pub(super) const DEFERRED_AFTER: u32 = 3;
/// A page that is refused so often in a row for what may be its cursor's fault: the window is restarted.
const REFUSALS_MAX: u32 = 2;

/// Whether a request was refused because of the place in the window that it named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    No,
    Perhaps,
    /// The server says that the cursor is not valid.
    Yes,
}

impl Api {
    pub(super) fn held_back(&mut self, now: Instant) -> Option<Instant> {
        let at = self.faults.not_before.filter(|at| now < *at)?;
        if self.faults.slow_failures > 0 && self.client.credentials_changed() {
            tracing::info!(source = self.source, "credentials have changed; trying again at once");
            return None;
        }
        Some(self.until_credentials(at, now))
    }

    pub(super) fn failed(&mut self, class: AnswerClass, answer: Option<&Response>, now: Now) -> ApiStep {
        match &class {
            AnswerClass::TooLarge { .. } if self.poll.page_size.halve() => {
                tracing::info!(
                    source = self.source,
                    page_size = self.poll.page_size.rows(),
                    "an answer was too large; asking for fewer rows"
                );
                return ApiStep::Again;
            }
            // `None`: the version has decided already.
            AnswerClass::NotFound { .. } if answer.is_some() => {
                match self.endpoint.not_found(self.cursor.saved) {
                    NotFound::AskVersion => {
                        self.faults.version_wanted = true;
                        return ApiStep::Again;
                    }
                    NotFound::Wait => {}
                    NotFound::Missing => self.leave_legacy(),
                }
            }
            _ => self.leave_legacy(),
        }
        let asked = answer.and_then(|answer| delay::requested_delay(&answer.headers, now.ms));
        let failures = self.count_failure(now);
        let refusal = self.refusal(&class, answer);
        if refusal != Refusal::No && self.is_refused(refusal, now) {
            return ApiStep::Again;
        }
        if self.poll.retried.is_some() {
            return self.retry_failed(&class, asked, now);
        }
        let restarting = self.cursor.answered
            && class.comes_of_a_restart_too()
            && self.faults.slow_failures == 0
            && self.faults.restart_failures < RESTART_FAILURES_MAX;
        // A server that is starting for the first time says the same for a while.
        let starting = matches!(class, AnswerClass::NotFound { .. }) && self.endpoint.may_be_starting();
        let mut needs_a_person = starting && self.endpoint.is_starting_for_long();
        let mut pause = if restarting {
            self.faults.restart_failures += 1;
            RESTART_PAUSE.mul_f64(1.0 + random() / 2.0)
        } else if class.cadence() == Cadence::Slow && !starting {
            needs_a_person = true;
            self.faults.slow_failures += 1;
            slow_pause(self.faults.slow_failures)
        } else {
            self.faults.failures += 1;
            delay::back_off(self.faults.failures.max(failures), asked, random())
        };
        self.report(class.message(), needs_a_person, pause, now);
        if let Some(attempts) = self.of_failing_window(&class) {
            self.set_aside(class.message(), now.monotonic + pause, needs_a_person, now);
            // It may be the window and not the server: what follows it is asked for soon.
            if attempts.has_come_far() {
                pause = pause.min(delay::back_off(1, asked, random()));
                self.faults.failures = 0;
            }
        }
        let at = now.monotonic + pause;
        self.faults.not_before = Some(at);
        ApiStep::Wait(self.until_credentials(at, now.monotonic))
    }

    /// Returns how often the window has failed since it last came further.
    fn count_failure(&mut self, now: Now) -> u32 {
        let Some(reading) = &mut self.poll.reading else {
            return 0;
        };
        reading.attempts.failures += 1;
        reading.attempts.failing_since.get_or_insert(now.monotonic);
        reading.attempts.failures
    }

    fn leave_legacy(&mut self) {
        if self.endpoint.not_legacy_either() {
            self.poll.reading = self.poll.reading.take().map(|reading| reading.restarted(Route::Auditing));
        }
    }

    /// A window that was set aside has failed once more: others are not held up by that.
    fn retry_failed(&mut self, class: &AnswerClass, asked: Option<Duration>, now: Now) -> ApiStep {
        let failures = self.poll.reading.as_ref().map_or(1, |reading| reading.attempts.failures);
        let slow = class.cadence() == Cadence::Slow;
        let pause = match slow {
            true => slow_pause(failures),
            false => delay::back_off(failures, asked, random()),
        };
        self.set_aside(class.message(), now.monotonic + pause, slow, now);
        if class.concerns_the_account() {
            self.faults.slow_failures += 1;
            let pause = slow_pause(self.faults.slow_failures);
            self.report(class.message(), true, pause, now);
            self.faults.not_before = Some(now.monotonic + pause);
        } else if asked.is_some() {
            self.faults.not_before = Some(now.monotonic + delay::back_off(1, asked, random()));
        }
        ApiStep::Again
    }

    fn refusal(&self, class: &AnswerClass, answer: Option<&Response>) -> Refusal {
        let Some(reading) = self.poll.reading.as_ref().filter(|reading| reading.is_later_page()) else {
            return Refusal::No;
        };
        // Behind what the server has called the end, a further page may be refused with any status.
        let end = reading.only_makes_sure() && reading.attempts.failures >= DEFERRED_AFTER;
        match answer {
            Some(answer) if says_cursor_is_invalid(answer) => Refusal::Yes,
            Some(answer) if matches!(answer.status, 400 | 405..=422) => Refusal::Perhaps,
            _ if matches!(class, AnswerClass::NoPage { .. }) => Refusal::Perhaps,
            _ if end && !class.concerns_the_account() => Refusal::Perhaps,
            _ => Refusal::No,
        }
    }

    /// Restarts the window if the place in it is at fault. `true`: it is at its end, as the server had said.
    fn is_refused(&mut self, refusal: Refusal, now: Now) -> bool {
        let Some(reading) = &mut self.poll.reading else {
            return false;
        };
        if reading.only_makes_sure() {
            self.last_page_was_last();
            self.recovered(now);
            self.window_read(now);
            return true;
        }
        reading.attempts.refusals += 1;
        if refusal == Refusal::Perhaps && reading.attempts.refusals < REFUSALS_MAX {
            return false;
        }
        reading.attempts.refusals = 0;
        tracing::debug!(source = self.source, "the place in the window is refused; the window is begun anew");
        // A cursor that expires, or an offset that is too far, will do so again, unless there are fewer pages. A
        // window that is about to be set aside is made shorter when its turn comes.
        let shorter = refusal == Refusal::Yes || reading.is_at_offset();
        let deferred_now = reading.attempts.failures >= DEFERRED_AFTER && self.poll.retried.is_none();
        if (!shorter || deferred_now || !self.shorten(now))
            && let Some(reading) = &mut self.poll.reading
        {
            *reading = reading.restarted(self.endpoint.route);
        }
        false
    }

    /// While a person has to act, changed credentials are looked for in between.
    fn until_credentials(&self, at: Instant, now: Instant) -> Instant {
        if self.faults.slow_failures > 0 { at.min(now + CREDENTIALS_LOOKED_AT) } else { at }
    }

    fn report(&mut self, message: String, needs_a_person: bool, pause: Duration, now: Now) {
        let now = now.monotonic;
        let trouble = self.faults.trouble.get_or_insert_with(|| Trouble::new(now));
        let level = trouble.failed(message, needs_a_person, pause, self.config.poll_interval, now);
        let (source, message) = (&self.source, &trouble.message);
        let again_in_s = pause.as_secs();
        match level {
            Level::ERROR => tracing::error!(source, "{message}"),
            Level::WARN => tracing::warn!(source, "{message}"),
            _ => tracing::debug!(source, again_in_s, "{message}"),
        }
    }

    pub(super) fn recovered(&mut self, now: Now) {
        let others_failed =
            self.faults.failures > 1 || self.faults.slow_failures > 0 || self.faults.restart_failures > 0;
        if others_failed && self.poll.retried.is_none() {
            self.poll.deferred.wake(now.monotonic);
        }
        (self.faults.failures, self.faults.slow_failures, self.faults.restart_failures) = (0, 0, 0);
        self.faults.not_before = None;
        self.poll.answered_since = true;
        if let Some(trouble) = self.faults.trouble.take() {
            let (source, seconds) = (&self.source, trouble.lasted(now.monotonic).as_secs());
            match trouble.was_logged() {
                true => tracing::info!(source, seconds, "the audit API answers again"),
                false => tracing::debug!(source, seconds, "the audit API answers again"),
            }
        }
        if self.endpoint.answered() && self.endpoint.route == Route::Legacy {
            tracing::info!(
                source = self.source,
                "this Confluence is older than 7.5: its audit log is read from `/rest/api/audit`"
            );
        }
    }
    /// Why the source cannot do its work at the moment, if so.
    pub fn health(&self) -> Option<&str> {
        let trouble = self.faults.trouble.as_ref().map(|trouble| trouble.message.as_str());
        trouble.or(self.faults.deferred_health.as_deref())
    }

    /// Whether a run that waits for no more than `failures_max` faults has nothing more to wait for: all has been
    /// read, or a person has to act, or it is tried for too long.
    pub fn is_drained(&self, failures_max: u32) -> bool {
        let hopeless = |deferred: &Deferred| {
            deferred.needs_a_person || deferred.reading.attempts.failures > failures_max
        };
        self.needs_a_person()
            || self.faults.failures > failures_max
            || self.poll_is_over() && self.poll.deferred.iter().all(hopeless)
    }

    /// Whether a person has to act before it can.
    pub fn needs_a_person(&self) -> bool {
        self.faults.slow_failures > 0
    }
}

fn slow_pause(failures: u32) -> Duration {
    if failures <= 1 { SLOW_FIRST } else { SLOW }
}

/// As a server or the plugin's own checks put it. A path or a query that is repeated in the text says nothing.
fn says_cursor_is_invalid(answer: &Response) -> bool {
    let text = String::from_utf8_lossy(&answer.body).to_ascii_lowercase();
    let wrong = ["invalid", "not valid", "expired", "malformed", "unknown", "no longer"];
    matches!(answer.status, 400 | 405..=422 | 500)
        && text.contains("cursor")
        && wrong.iter().any(|word| text.contains(word))
}
