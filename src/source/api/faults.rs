//! Backs off and retries after failed requests, at the same position. A window that keeps failing is deferred, so that
//! other windows are read.

use super::deferred::Deferred;
use super::endpoint::NotFound;
use super::outage::Outage;
use super::page::Route;
use super::response::{Cadence, ResponseClass};
use super::server_clock::Now;
use super::state::{Api, ApiStep};
use crate::delay::{self, random};
use crate::http::Response;
use std::time::{Duration, Instant};
use tracing::Level;

/// While an operator must act, how often to check for changed credentials.
const CREDENTIALS_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// The first pause after a fault that an operator must fix. Retrying often may lock accounts.
const SLOW_FIRST: Duration = Duration::from_secs(60);
/// Each further pause.
const SLOW: Duration = Duration::from_secs(15 * 60);
/// If the API has worked before, a 404 or a login page may come from a proxy while Confluence restarts. This many
/// retries with this pause, and up to half more of jitter, span the two minutes of a restart.
const RESTART_FAILURES_MAX: u32 = 3;
const RESTART_PAUSE: Duration = Duration::from_secs(30);

/// After this many failures without progress a window is deferred.
pub(super) const DEFERRED_AFTER: u32 = 3;
/// After this many refusals in a row that the page's cursor may cause, the window is restarted.
const REFUSALS_MAX: u32 = 2;

/// Whether a request was refused because of its cursor or offset.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CursorFault {
    No,
    Perhaps,
    /// The server says that the cursor is not valid.
    Yes,
}

impl Api {
    pub(super) fn backing_off_until(&mut self, now: Instant) -> Option<Instant> {
        let at = self.faults.not_before.filter(|at| now < *at)?;
        if self.faults.operator_failures > 0 && self.client.credentials_changed() {
            tracing::info!(source = self.source, "credentials have changed; retrying at once");
            return None;
        }
        Some(self.capped_for_credentials(at, now))
    }

    pub(super) fn failed(&mut self, class: ResponseClass, response: Option<&Response>, now: Now) -> ApiStep {
        match &class {
            ResponseClass::TooLarge { .. } if self.poll.page_size.halve() => {
                tracing::info!(
                    source = self.source,
                    page_size = self.poll.page_size.rows(),
                    "a response was too large; requesting fewer rows"
                );
                return ApiStep::Again;
            }
            // Without a response, the version has already been checked.
            ResponseClass::NotFound { .. } if response.is_some() => {
                match self.endpoint.not_found(self.cursor.saved) {
                    NotFound::AskVersion => {
                        self.faults.version_wanted = true;
                        return ApiStep::Again;
                    }
                    NotFound::Wait => {}
                    NotFound::Missing => self.fall_back_from_legacy(),
                }
            }
            _ => self.fall_back_from_legacy(),
        }
        let requested = response.and_then(|response| delay::requested_delay(&response.headers, now.ms));
        let failures = self.count_failure(now);
        let cursor_fault = self.cursor_fault(&class, response);
        if cursor_fault != CursorFault::No && self.is_refused(cursor_fault, now) {
            return ApiStep::Again;
        }
        if self.poll.retried.is_some() {
            return self.deferred_failed_again(&class, requested, now);
        }
        let restarting = self.cursor.answered
            && class.may_be_restart()
            && self.faults.operator_failures == 0
            && self.faults.restart_failures < RESTART_FAILURES_MAX;
        // A server that is starting returns 404 for a while, too.
        let starting = matches!(class, ResponseClass::NotFound { .. }) && self.endpoint.may_be_starting();
        let mut needs_operator = starting && self.endpoint.is_starting_too_long();
        let mut pause = if restarting {
            self.faults.restart_failures += 1;
            RESTART_PAUSE.mul_f64(1.0 + random() / 2.0)
        } else if class.cadence() == Cadence::Slow && !starting {
            needs_operator = true;
            self.faults.operator_failures += 1;
            slow_pause(self.faults.operator_failures)
        } else {
            self.faults.failures += 1;
            delay::back_off(self.faults.failures.max(failures), requested, random())
        };
        if class == ResponseClass::RateLimited {
            self.metrics.count_throttled(pause);
        }
        self.report(class.message(), needs_operator, pause, now);
        if let Some(attempts) = self.window_at_fault(&class) {
            self.defer(class.message(), now.monotonic + pause, needs_operator, now);
            // The window may be the cause and not the server, so the next window is requested soon.
            if attempts.has_rows() {
                pause = pause.min(delay::back_off(1, requested, random()));
                self.faults.failures = 0;
            }
        }
        let at = now.monotonic + pause;
        self.faults.not_before = Some(at);
        ApiStep::Wait(self.capped_for_credentials(at, now.monotonic))
    }

    /// Counts a failure of the current window. Returns its failures since it last made progress.
    fn count_failure(&mut self, now: Now) -> u32 {
        let Some(reader) = &mut self.poll.reader else {
            return 0;
        };
        reader.attempts.failures += 1;
        reader.attempts.failing_since.get_or_insert(now.monotonic);
        reader.attempts.failures
    }

    fn fall_back_from_legacy(&mut self) {
        if self.endpoint.reject_legacy() {
            self.poll.reader = self.poll.reader.take().map(|reader| reader.restarted(Route::Auditing));
        }
    }

    /// A deferred window has failed again. That does not delay other windows.
    fn deferred_failed_again(
        &mut self,
        class: &ResponseClass,
        requested: Option<Duration>,
        now: Now,
    ) -> ApiStep {
        let failures = self.poll.reader.as_ref().map_or(1, |reader| reader.attempts.failures);
        let slow = class.cadence() == Cadence::Slow;
        let pause = match slow {
            true => slow_pause(failures),
            false => delay::back_off(failures, requested, random()),
        };
        self.defer(class.message(), now.monotonic + pause, slow, now);
        if class.concerns_account() {
            self.faults.operator_failures += 1;
            let pause = slow_pause(self.faults.operator_failures);
            self.report(class.message(), true, pause, now);
            self.faults.not_before = Some(now.monotonic + pause);
        } else if requested.is_some() {
            self.faults.not_before = Some(now.monotonic + delay::back_off(1, requested, random()));
        }
        ApiStep::Again
    }

    fn cursor_fault(&self, class: &ResponseClass, response: Option<&Response>) -> CursorFault {
        let Some(reader) = self.poll.reader.as_ref().filter(|reader| reader.is_later_page()) else {
            return CursorFault::No;
        };
        // A request after the claimed last page may be refused with any status.
        let end = reader.verifies_last_page() && reader.attempts.failures >= DEFERRED_AFTER;
        match response {
            Some(response) if says_cursor_is_invalid(response) => CursorFault::Yes,
            Some(response) if matches!(response.status, 400 | 405..=422) => CursorFault::Perhaps,
            _ if matches!(class, ResponseClass::NotAPage { .. }) => CursorFault::Perhaps,
            _ if end && !class.concerns_account() => CursorFault::Perhaps,
            _ => CursorFault::No,
        }
    }

    /// Restarts the window if its cursor or offset is refused. `true`: the window was complete, as the server claimed.
    fn is_refused(&mut self, cursor_fault: CursorFault, now: Now) -> bool {
        let Some(reader) = &mut self.poll.reader else {
            return false;
        };
        if reader.verifies_last_page() {
            self.log_last_page_confirmed();
            self.recovered(now);
            self.window_read(now);
            return true;
        }
        reader.attempts.refusals += 1;
        if cursor_fault == CursorFault::Perhaps && reader.attempts.refusals < REFUSALS_MAX {
            return false;
        }
        reader.attempts.refusals = 0;
        tracing::debug!(source = self.source, "the cursor or offset is refused; the window is restarted");
        // A cursor that expires, or an offset that is too large, would fail again, unless the window has fewer pages. A
        // window that is about to be deferred is shortened when it is retried.
        let shorter = cursor_fault == CursorFault::Yes || reader.is_at_offset();
        let deferred_now = reader.attempts.failures >= DEFERRED_AFTER && self.poll.retried.is_none();
        if (!shorter || deferred_now || !self.shorten(now))
            && let Some(reader) = &mut self.poll.reader
        {
            *reader = reader.restarted(self.endpoint.route);
        }
        false
    }

    /// While an operator must act, wakes up earlier to check for changed credentials.
    fn capped_for_credentials(&self, at: Instant, now: Instant) -> Instant {
        if self.faults.operator_failures > 0 { at.min(now + CREDENTIALS_CHECK_INTERVAL) } else { at }
    }

    fn report(&mut self, message: String, needs_operator: bool, pause: Duration, now: Now) {
        let now = now.monotonic;
        let outage = self.faults.outage.get_or_insert_with(|| Outage::new(now));
        let level = outage.failed(message, needs_operator, pause, self.config.poll_interval, now);
        let (source, message) = (&self.source, &outage.message);
        let again_in_s = pause.as_secs();
        match level {
            Level::ERROR => tracing::error!(source, "{message}"),
            Level::WARN => tracing::warn!(source, "{message}"),
            _ => tracing::debug!(source, again_in_s, "{message}"),
        }
    }

    pub(super) fn recovered(&mut self, now: Now) {
        let others_failed =
            self.faults.failures > 1 || self.faults.operator_failures > 0 || self.faults.restart_failures > 0;
        if others_failed && self.poll.retried.is_none() {
            self.poll.deferred.wake(now.monotonic);
        }
        (self.faults.failures, self.faults.operator_failures, self.faults.restart_failures) = (0, 0, 0);
        self.faults.not_before = None;
        self.poll.answered_since = true;
        if let Some(outage) = self.faults.outage.take() {
            let (source, seconds) = (&self.source, outage.lasted(now.monotonic).as_secs());
            match outage.was_logged() {
                true => tracing::info!(source, seconds, "the audit API answers again"),
                false => tracing::debug!(source, seconds, "the audit API answers again"),
            }
        }
        if self.endpoint.response_received() && self.endpoint.route == Route::Legacy {
            tracing::info!(
                source = self.source,
                "this Confluence is older than 7.5: its audit log is read from `/rest/api/audit`"
            );
        }
    }

    /// Why events are not delivered at the moment, if so.
    pub fn health(&self) -> Option<&str> {
        let outage = self.faults.outage.as_ref().map(|outage| outage.message.as_str());
        outage.or(self.faults.deferred_health.as_deref())
    }

    /// Whether a run that accepts `failures_max` failures in a row may end: everything was read, an operator must act,
    /// or there were more failures.
    pub fn is_drained(&self, failures_max: u32) -> bool {
        let hopeless =
            |deferred: &Deferred| deferred.needs_operator || deferred.reader.attempts.failures > failures_max;
        self.needs_operator()
            || self.faults.failures > failures_max
            || self.poll_is_over() && self.poll.deferred.iter().all(hopeless)
    }

    /// Whether an operator must act before polling can succeed.
    pub fn needs_operator(&self) -> bool {
        self.faults.operator_failures > 0
    }
}

fn slow_pause(failures: u32) -> Duration {
    if failures <= 1 { SLOW_FIRST } else { SLOW }
}

/// Whether the response text says that the cursor is invalid, in the words of known servers.
fn says_cursor_is_invalid(response: &Response) -> bool {
    let text = String::from_utf8_lossy(&response.body).to_ascii_lowercase();
    let wrong = ["invalid", "not valid", "expired", "malformed", "unknown", "no longer"];
    matches!(response.status, 400 | 405..=422 | 500)
        && text.contains("cursor")
        && wrong.iter().any(|word| text.contains(word))
}
