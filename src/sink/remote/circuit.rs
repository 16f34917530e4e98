//! Circuit breaker: when a server is contacted again after a failure. While it fails, one request at a time
//! probes it.

use crate::delay::back_off;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How often changed credentials are looked for while the operator has to act.
pub(super) const CREDENTIAL_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Additional back-off steps for faults that the operator has to fix. The first retry follows after 30 to 60
/// seconds, later ones more slowly. So delivery resumes soon after the fix, and no account is locked.
const OPERATOR_BACKOFF_STEPS: u32 = 6;

/// Partial success: while some events are accepted, the back-off for the others does not exceed this many
/// failures.
const PARTIAL_SUCCESS_FAILURES_MAX: u32 = 2;

/// After this many refused requests in a row the circuit opens. Bisecting a request of 10,000 events down to
/// one takes 15. More refusals are not the fault of a single event.
pub(crate) const REFUSED_IN_A_ROW_MAX: u32 = 16;

/// Poison budget after one accepted event. More refusals in a row are not the fault of the events.
const POISON_BUDGET_MIN: usize = 10;
/// Poison budget after many accepted events.
const POISON_BUDGET_MAX: usize = 1000;

/// A failure that lasts longer than this is a warning. One that the next request resolves is not.
const WARN_AFTER: Duration = Duration::from_secs(5);
/// A pause of this length is a warning by itself.
const WARN_PAUSE: Duration = Duration::from_secs(60);

/// State that the requests of one sink of one source share.
#[derive(Default)]
pub(super) struct Circuit {
    /// Failures in a row.
    failures: Cell<u32>,
    /// Do not send before this time. `None`: the circuit is closed.
    retry_at: Cell<Option<Instant>>,
    /// The operator has to act.
    operator_needed: Cell<bool>,
    probing: Cell<bool>,
    state_changed: Notify,
    last_reason: RefCell<Option<String>>,
    /// Time of the first failure in the row.
    failing_since: Cell<Option<Instant>>,
    /// The last reason that was logged as a warning or error.
    reported: RefCell<Option<String>>,
    /// How many more refusals are accepted as the fault of the events.
    poison_budget: Cell<usize>,
    /// Sequence number of the last request or refusal.
    last_sequence: Cell<u64>,
    /// Sequence number of the latest request with accepted events. 0: none.
    last_accepted: Cell<u64>,
    /// Requests refused in a row, since the last accepted event or since the circuit opened.
    refused_in_a_row: Cell<u32>,
    /// Sequence number of the latest refusal.
    last_refused: Cell<u64>,
    /// When unproven refusals are sent again, and why they were refused. `None`: there are none, or they may
    /// be sent now.
    unproven: RefCell<Option<(Instant, String)>>,
}

/// Permission to send one request.
#[must_use]
#[derive(Debug)]
pub(super) struct Permit {
    probe: bool,
}

impl Permit {
    /// Permission outside of the circuit: the request is not a probe.
    pub(super) const REGULAR: Permit = Permit { probe: false };

    /// While a probe is in flight no other request is sent.
    pub(super) fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Circuit {
    /// Waits until a request may be sent. Changed credentials end the wait for the operator.
    pub(super) async fn enter(&self, credentials_changed: impl Fn() -> bool) -> Permit {
        loop {
            if self.retry_at.get().is_none() {
                return Permit { probe: false };
            }
            if !self.probing.replace(true) {
                break;
            }
            self.state_changed.notified().await;
        }
        while let Some(remaining) = self.remaining_pause() {
            sleep(remaining.min(CREDENTIAL_CHECK_INTERVAL)).await;
            if self.operator_needed.get() && credentials_changed() {
                break;
            }
        }
        Permit { probe: true }
    }

    /// Time until the server is contacted again. `None`: now.
    pub(super) fn remaining_pause(&self) -> Option<Duration> {
        let remaining = self.retry_at.get()?.saturating_duration_since(Instant::now());
        Some(remaining).filter(|remaining| !remaining.is_zero())
    }

    pub(super) fn is_open(&self) -> bool {
        self.retry_at.get().is_some()
    }

    /// Whether the operator has to act: the server refuses everything, or refusals are unproven.
    pub(super) fn needs_operator(&self) -> bool {
        self.is_open() && self.operator_needed.get() || self.unproven.borrow().is_some()
    }

    /// Takes the next sequence number.
    pub(super) fn next_sequence(&self) -> u64 {
        self.last_sequence.set(self.last_sequence.get() + 1);
        self.last_sequence.get()
    }

    /// Sequence number of the latest request with accepted events. 0: none.
    pub(super) fn last_accepted(&self) -> u64 {
        self.last_accepted.get()
    }

    /// The server has responded: closes the circuit.
    pub(super) fn on_success(&self, _permit: Permit) {
        self.probing.set(false);
        self.retry_at.set(None);
        self.state_changed.notify_waiters();
    }

    /// The request failed: opens the circuit. Returns whether the failure or its reason is new.
    pub(super) fn on_failure(
        &self,
        permit: Permit,
        reason: &str,
        after: Option<Duration>,
        operator_needed: bool,
        random: f64,
    ) -> bool {
        // Requests that were in flight together fail together. That counts as one failure.
        if !permit.probe && self.is_open() {
            // The longest delay that the server asked for applies to all of them.
            let retry_at = after.map(|after| Instant::now() + back_off(1, Some(after), random));
            self.retry_at.set(self.retry_at.get().max(retry_at));
            return false;
        }
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        self.failing_since.set(self.failing_since.get().or(Some(Instant::now())));
        let steps = if operator_needed { failures + OPERATOR_BACKOFF_STEPS } else { failures };
        self.retry_at.set(Some(Instant::now() + back_off(steps, after, random)));
        self.operator_needed.set(operator_needed);
        self.probing.set(false);
        self.refused_in_a_row.set(0);
        self.state_changed.notify_waiters();
        self.is_new(reason)
    }

    fn is_new(&self, reason: &str) -> bool {
        let mut previous = self.last_reason.borrow_mut();
        let new = previous.as_deref() != Some(reason);
        *previous = Some(reason.to_owned());
        new
    }

    /// Whether the last failure is logged as a warning or error: it lasts, or the operator has to act. Once
    /// for each reason.
    pub(super) fn should_report(&self, reason: &str) -> bool {
        let is_lasting =
            self.failing_since.get().is_some_and(|failing_since| failing_since.elapsed() >= WARN_AFTER)
                && self.failures.get() > 1;
        let is_long_pause = self.remaining_pause().is_some_and(|wait| wait >= WARN_PAUSE);
        let mut reported = self.reported.borrow_mut();
        let is_new = (self.operator_needed.get() || is_lasting || is_long_pause)
            && reported.as_deref() != Some(reason);
        if is_new {
            *reported = Some(reason.to_owned());
        }
        is_new
    }

    /// Whether a failure was logged as a warning or error. Resets that.
    pub(super) fn take_reported(&self) -> bool {
        self.reported.take().is_some()
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.get()
    }

    /// A request was refused, and its events may not be at fault. Returns whether the circuit has to open.
    pub(super) fn on_refused(&self) -> bool {
        self.last_refused.set(self.next_sequence());
        self.refused_in_a_row.set(self.refused_in_a_row.get() + 1);
        self.refused_in_a_row.get() >= REFUSED_IN_A_ROW_MAX
    }

    /// Delays events that were refused while no other event was accepted. Other events are still sent.
    /// Returns whether the fault or its reason is new, and the delay.
    pub(super) fn delay_unproven(&self, reason: &str, random: f64) -> (bool, Duration) {
        let now = Instant::now();
        if let Some(retry_at) = self.unproven_due().filter(|retry_at| *retry_at > now) {
            return (self.is_new(reason), retry_at - now);
        }
        self.failures.set(self.failures.get() + 1);
        let wait = back_off(self.failures.get() + OPERATOR_BACKOFF_STEPS, None, random);
        self.unproven.replace(Some((now + wait, reason.to_owned())));
        (self.is_new(reason), wait)
    }

    /// When unproven refusals are sent again, if they are delayed.
    pub(super) fn unproven_due(&self) -> Option<Instant> {
        self.unproven.borrow().as_ref().map(|(retry_at, _)| *retry_at)
    }

    /// Why unproven refusals were refused, while they are delayed.
    pub(super) fn unproven_reason(&self) -> Option<String> {
        self.unproven.borrow().as_ref().map(|(_, reason)| reason.clone())
    }

    /// Unproven refusals may be sent again now.
    pub(super) fn clear_unproven_delay(&self) {
        self.unproven.take();
    }

    /// Events of a request with the sequence number `sent` were accepted. Refusals in the same response are
    /// proven.
    pub(super) fn on_accepted(&self, events: usize, sent: u64) {
        if events == 0 {
            return;
        }
        self.last_accepted.set(self.last_accepted.get().max(sent));
        self.refused_in_a_row.set(0);
        if sent > self.last_refused.get() {
            self.unproven.take();
        }
        let poison_budget = (self.poison_budget.get() + events).clamp(POISON_BUDGET_MIN, POISON_BUDGET_MAX);
        self.poison_budget.set(poison_budget.max(events));
        self.failures.set(self.failures.get().min(PARTIAL_SUCCESS_FAILURES_MAX));
    }

    /// Delivery works: events were accepted and none has to be sent again. Returns whether it failed before.
    pub(super) fn recovered(&self) -> bool {
        self.failures.set(0);
        self.failing_since.set(None);
        self.last_reason.take().is_some()
    }

    /// Whether a refusal counts as the event's own fault. Uses up the poison budget: without it a wrong
    /// setting, under which everything is refused, would put all events into quarantine.
    pub(super) fn spend_poison_budget(&self) -> bool {
        let poison_budget = self.poison_budget.get();
        self.poison_budget.set(poison_budget.saturating_sub(1));
        poison_budget > 0
    }

    /// Whether the poison budget covers one more refusal.
    pub(super) fn accepted_recently(&self) -> bool {
        self.poison_budget.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
    }

    #[test]
    fn one_request_at_a_time_probes_a_failing_server() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            let (first, second) = (circuit.enter(|| false).await, circuit.enter(|| false).await);
            assert!(circuit.on_failure(first, "down", None, false, 1.0));
            // This one was in flight as well.
            assert!(!circuit.on_failure(second, "down", None, false, 1.0));
            assert_eq!((circuit.failures(), circuit.remaining_pause()), (1, Some(Duration::from_secs(1))));
            let begun = Instant::now();
            let probe = circuit.enter(|| false).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(1));
            let other = tokio::time::timeout(Duration::from_secs(3600), circuit.enter(|| false));
            assert!(other.await.is_err());
            assert!(!circuit.on_failure(probe, "down", Some(Duration::from_secs(40)), false, 0.0));
            let begun = Instant::now();
            let probe = circuit.enter(|| false).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(40));
            circuit.on_success(probe);
            assert!(!circuit.is_open());
            assert_eq!((circuit.recovered(), circuit.failures(), circuit.recovered()), (true, 0, false));
        });
    }

    #[test]
    fn f79_a_transient_failure_is_not_logged_and_a_lasting_one_is_logged_once() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            for _ in 0..5 {
                let permit = circuit.enter(|| false).await;
                circuit.on_failure(permit, "status 503", None, false, 1.0);
                assert!(!circuit.should_report("status 503"));
                let permit = circuit.enter(|| false).await;
                circuit.on_success(permit);
                assert!(circuit.recovered() && !circuit.take_reported());
            }
            let (begun, mut reported) = (Instant::now(), Vec::new());
            for _ in 0..8 {
                let permit = circuit.enter(|| false).await;
                circuit.on_failure(permit, "status 503", None, false, 1.0);
                if circuit.should_report("status 503") {
                    reported.push(begun.elapsed());
                }
            }
            assert_eq!(reported, [Duration::from_secs(7)], "after 1, 2 and 4 seconds");
            assert!(circuit.recovered() && circuit.take_reported());
            // A fault that the operator has to fix is logged at once.
            let permit = circuit.enter(|| false).await;
            circuit.on_failure(permit, "status 401", None, true, 1.0);
            assert!(circuit.should_report("status 401"));
        });
    }

    #[test]
    fn no_request_is_sent_before_the_latest_time_that_the_server_asked_for() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            let mut permits = Vec::new();
            for _ in 0..4 {
                permits.push(circuit.enter(|| false).await);
            }
            let begun = Instant::now();
            for (permit, after_s) in permits.into_iter().zip([None, Some(90), Some(5), None]) {
                circuit.on_failure(permit, "status 429", after_s.map(Duration::from_secs), false, 0.0);
            }
            let probe = circuit.enter(|| false).await;
            assert_eq!((begun.elapsed().as_secs(), circuit.failures()), (90, 1));
            circuit.on_success(probe);
        });
    }

    #[test]
    fn faults_for_the_operator_are_retried_slowly_and_at_once_after_the_fix() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            let begun = Instant::now();
            let mut requests = 0;
            while begun.elapsed() < Duration::from_secs(3600) {
                let permit = circuit.enter(|| false).await;
                requests += 1;
                circuit.on_failure(permit, "status 401", None, true, 0.0);
            }
            assert!((5..=15).contains(&requests), "{requests}");
            let state_changed = Cell::new(false);
            let begun = Instant::now();
            let permit = circuit.enter(|| state_changed.replace(true)).await;
            assert!(begun.elapsed() <= 2 * CREDENTIAL_CHECK_INTERVAL);
            circuit.on_success(permit);
        });
    }

    #[test]
    fn an_event_is_poison_only_if_others_are_accepted() {
        let circuit = Circuit::default();
        assert!(!circuit.spend_poison_budget());
        let spent = || (0..5000).filter(|_| circuit.spend_poison_budget()).count();
        for (accepted, expect) in [(0, 0), (1, POISON_BUDGET_MIN), (50, 50), (1000, 1000)] {
            circuit.on_accepted(accepted, 1);
            assert_eq!(spent(), expect);
        }
        for _ in 0..1000 {
            circuit.on_accepted(1, 1);
        }
        assert_eq!(spent(), POISON_BUDGET_MAX);
    }
}
