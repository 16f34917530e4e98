//! When a server is asked again after a fault, and by whom: while it fails, one request at a time tries.

use crate::delay::back_off;
use std::cell::{Cell, RefCell};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

/// How often it is looked, while a person has to act, whether credentials have changed.
pub const LOOK: Duration = Duration::from_secs(1);

/// What a person has to correct is tried again in half a minute to a minute, then ever more slowly: often enough to be well soon
/// after, and no reason to lock an account.
const SLOW_FROM: u32 = 6;

/// While some events are taken, the wait for the others grows as after so many failures in a row.
const FAILURES_BEFORE_TAKEN_MAX: u32 = 2;

/// So many requests are refused in a row, and then the server is left alone: halving a request of 10,000 events down to the one
/// at fault takes 15. Beyond that it is no fault of one event.
pub const REFUSED_IN_A_ROW_MAX: u32 = 16;

/// So many events may be refused after one that was taken; more in a row are no fault of theirs.
const REFUSED_MIN: usize = 10;
/// The same after many that were taken.
const REFUSED_MAX: usize = 1000;

/// A fault that lasts longer is worth a warning: what the next request heals is not.
const LASTS: Duration = Duration::from_secs(5);
/// So is a pause like this by itself.
const LONG_PAUSE: Duration = Duration::from_secs(60);

/// Shared by the requests of one sink of one source.
#[derive(Default)]
pub struct Circuit {
    /// In a row.
    failures: Cell<u32>,
    /// Not before then is the server asked again. `None`: it works.
    until: Cell<Option<Instant>>,
    /// A person has to act.
    slow: Cell<bool>,
    probing: Cell<bool>,
    changed: Notify,
    reason: RefCell<Option<String>>,
    /// The first of the failures.
    since: Cell<Option<Instant>>,
    /// The last reason that was logged for people to see.
    told: RefCell<Option<String>>,
    /// How many refusals are believed to be the events' own fault.
    credit: Cell<usize>,
    /// Counts what happens, so that it is known what was before what.
    moments: Cell<u64>,
    /// When the latest request was sent of which events were taken.
    taken: Cell<u64>,
    /// Requests that were refused since then, or since the server was left alone.
    refused: Cell<u32>,
    /// The latest of them.
    refused_at: Cell<u64>,
    /// Not before then are events sent again that were refused and may not be at fault, and why they were. `None`: there are
    /// none, or at once.
    doubt: RefCell<Option<(Instant, String)>>,
}

/// The right to send one request.
#[must_use]
#[derive(Debug)]
pub struct Permit {
    probe: bool,
}

impl Permit {
    /// Of a request that may be sent at any time.
    pub const FREE: Permit = Permit { probe: false };

    /// Nobody else may send while this one is held.
    pub fn is_probe(&self) -> bool {
        self.probe
    }
}

impl Circuit {
    /// Waits until a request may be sent.
    pub async fn enter(&self, credentials_changed: impl Fn() -> bool) -> Permit {
        loop {
            if self.until.get().is_none() {
                return Permit { probe: false };
            }
            if !self.probing.replace(true) {
                break;
            }
            self.changed.notified().await;
        }
        while let Some(left) = self.waits() {
            sleep(left.min(LOOK)).await;
            if self.slow.get() && credentials_changed() {
                break;
            }
        }
        Permit { probe: true }
    }

    /// How long the server is to be left alone.
    pub fn waits(&self) -> Option<Duration> {
        let left = self.until.get()?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    pub fn is_open(&self) -> bool {
        self.until.get().is_some()
    }

    /// A person has to act, or so it seems.
    pub fn is_slow(&self) -> bool {
        self.is_open() && self.slow.get() || self.doubt.borrow().is_some()
    }

    /// The next moment.
    pub fn now(&self) -> u64 {
        self.moments.set(self.moments.get() + 1);
        self.moments.get()
    }

    /// When the latest request was sent of which events were taken. 0: never.
    pub fn taken(&self) -> u64 {
        self.taken.get()
    }

    /// The server has answered.
    pub fn worked(&self, _permit: Permit) {
        self.probing.set(false);
        self.until.set(None);
        self.changed.notify_waiters();
    }

    /// It has not. Returns whether that, or its reason, is new.
    pub fn failed(
        &self,
        permit: Permit,
        reason: &str,
        after: Option<Duration>,
        slow: bool,
        random: f64,
    ) -> bool {
        // Requests that were on their way together fail together: that is one failure.
        if !permit.probe && self.is_open() {
            // But none of them is sent again before the server's time.
            let until = after.map(|after| Instant::now() + back_off(1, Some(after), random));
            self.until.set(self.until.get().max(until));
            return false;
        }
        let failures = self.failures.get() + 1;
        self.failures.set(failures);
        self.since.set(self.since.get().or(Some(Instant::now())));
        let steps = if slow { failures + SLOW_FROM } else { failures };
        self.until
            .set(Some(Instant::now() + back_off(steps, after, random)));
        self.slow.set(slow);
        self.probing.set(false);
        self.refused.set(0);
        self.changed.notify_waiters();
        self.is_new(reason)
    }

    fn is_new(&self, reason: &str) -> bool {
        let mut last = self.reason.borrow_mut();
        let new = last.as_deref() != Some(reason);
        *last = Some(reason.to_owned());
        new
    }

    /// Whether people have to be told of the last failure, once for each reason: it lasts, or a person has to act.
    pub fn should_report(&self, reason: &str) -> bool {
        let lasts = self.since.get().is_some_and(|since| since.elapsed() >= LASTS) && self.failures.get() > 1;
        let pauses = self.waits().is_some_and(|wait| wait >= LONG_PAUSE);
        let mut told = self.told.borrow_mut();
        let is_new = (self.slow.get() || lasts || pauses) && told.as_deref() != Some(reason);
        if is_new {
            *told = Some(reason.to_owned());
        }
        is_new
    }

    /// Whether people were told that it fails; from now on they were not.
    pub fn take_reported(&self) -> bool {
        self.told.take().is_some()
    }

    pub fn failures(&self) -> u32 {
        self.failures.get()
    }

    /// A request was refused that may be no fault of its events. Returns whether the server is to be left alone.
    pub fn refused(&self) -> bool {
        self.refused_at.set(self.now());
        self.refused.set(self.refused.get() + 1);
        self.refused.get() >= REFUSED_IN_A_ROW_MAX
    }

    /// Events were refused while nothing proves that others are taken; they wait, and others do not. Returns whether that, or
    /// its reason, is new, and how long they wait.
    pub fn doubts(&self, reason: &str, random: f64) -> (bool, Duration) {
        let now = Instant::now();
        if let Some(until) = self.doubt().filter(|until| *until > now) {
            return (self.is_new(reason), until - now);
        }
        self.failures.set(self.failures.get() + 1);
        let wait = back_off(self.failures.get() + SLOW_FROM, None, random);
        self.doubt.replace(Some((now + wait, reason.to_owned())));
        (self.is_new(reason), wait)
    }

    /// When such events are sent again, if they are to wait.
    pub fn doubt(&self) -> Option<Instant> {
        self.doubt.borrow().as_ref().map(|(until, _)| *until)
    }

    /// Why they were refused, while they wait.
    pub fn doubt_why(&self) -> Option<String> {
        self.doubt.borrow().as_ref().map(|(_, reason)| reason.clone())
    }

    /// They are sent again at once.
    pub fn clear_doubt(&self) {
        self.doubt.take();
    }

    /// Events were taken of a request that was sent then: what is refused beside them is refused for its own faults.
    pub fn took(&self, events: usize, sent: u64) {
        if events == 0 {
            return;
        }
        self.taken.set(self.taken.get().max(sent));
        self.refused.set(0);
        if sent > self.refused_at.get() {
            self.doubt.take();
        }
        let credit = (self.credit.get() + events).clamp(REFUSED_MIN, REFUSED_MAX);
        self.credit.set(credit.max(events));
        self.failures
            .set(self.failures.get().min(FAILURES_BEFORE_TAKEN_MAX));
    }

    /// Events were taken, and none is to be sent again: the sink works. Returns whether it did not before.
    pub fn recovered(&self) -> bool {
        self.failures.set(0);
        self.since.set(None);
        self.reason.take().is_some()
    }

    /// Whether a refusal is the event's own fault. Without a limit a wrong setting, under which everything is refused, would
    /// set everything aside.
    pub fn is_own_fault(&self) -> bool {
        let credit = self.credit.get();
        self.credit.set(credit.saturating_sub(1));
        credit > 0
    }

    /// Whether one more refusal would be believed.
    pub fn accepted_recently(&self) -> bool {
        self.credit.get() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
    }

    #[test]
    fn while_it_fails_one_request_at_a_time_tries() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            let (first, second) = (circuit.enter(|| false).await, circuit.enter(|| false).await);
            assert!(circuit.failed(first, "down", None, false, 1.0));
            // It was on its way as well.
            assert!(!circuit.failed(second, "down", None, false, 1.0));
            assert_eq!(
                (circuit.failures(), circuit.waits()),
                (1, Some(Duration::from_secs(1)))
            );
            let begun = Instant::now();
            let probe = circuit.enter(|| false).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(1));
            let other = tokio::time::timeout(Duration::from_secs(3600), circuit.enter(|| false));
            assert!(other.await.is_err());
            assert!(!circuit.failed(probe, "down", Some(Duration::from_secs(40)), false, 0.0));
            let begun = Instant::now();
            let probe = circuit.enter(|| false).await;
            assert_eq!(begun.elapsed(), Duration::from_secs(40));
            circuit.worked(probe);
            assert!(!circuit.is_open());
            assert_eq!(
                (circuit.recovered(), circuit.failures(), circuit.recovered()),
                (true, 0, false)
            );
        });
    }

    #[test]
    fn f79_what_the_next_request_heals_is_not_told_and_what_lasts_is_told_once() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            for _ in 0..5 {
                let permit = circuit.enter(|| false).await;
                circuit.failed(permit, "status 503", None, false, 1.0);
                assert!(!circuit.should_report("status 503"));
                let permit = circuit.enter(|| false).await;
                circuit.worked(permit);
                assert!(circuit.recovered() && !circuit.take_reported());
            }
            let (begun, mut told) = (Instant::now(), Vec::new());
            for _ in 0..8 {
                let permit = circuit.enter(|| false).await;
                circuit.failed(permit, "status 503", None, false, 1.0);
                if circuit.should_report("status 503") {
                    told.push(begun.elapsed());
                }
            }
            assert_eq!(told, [Duration::from_secs(7)], "after 1, 2 and 4 seconds");
            assert!(circuit.recovered() && circuit.take_reported());
            // What a person has to mend is told at once.
            let permit = circuit.enter(|| false).await;
            circuit.failed(permit, "status 401", None, true, 1.0);
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
                circuit.failed(permit, "status 429", after_s.map(Duration::from_secs), false, 0.0);
            }
            let probe = circuit.enter(|| false).await;
            assert_eq!((begun.elapsed().as_secs(), circuit.failures()), (90, 1));
            circuit.worked(probe);
        });
    }

    #[test]
    fn what_a_person_has_to_correct_is_tried_seldom_and_at_once_when_corrected() {
        runtime().block_on(async {
            let circuit = Circuit::default();
            let begun = Instant::now();
            let mut requests = 0;
            while begun.elapsed() < Duration::from_secs(3600) {
                let permit = circuit.enter(|| false).await;
                requests += 1;
                circuit.failed(permit, "status 401", None, true, 0.0);
            }
            assert!((5..=15).contains(&requests), "{requests}");
            let changed = Cell::new(false);
            let begun = Instant::now();
            let permit = circuit.enter(|| changed.replace(true)).await;
            assert!(begun.elapsed() <= 2 * LOOK);
            circuit.worked(permit);
        });
    }

    #[test]
    fn an_event_is_at_fault_only_where_others_are_taken() {
        let circuit = Circuit::default();
        assert!(!circuit.is_own_fault());
        let believed = || (0..5000).filter(|_| circuit.is_own_fault()).count();
        for (taken, expect) in [(0, 0), (1, REFUSED_MIN), (50, 50), (1000, 1000)] {
            circuit.took(taken, 1);
            assert_eq!(believed(), expect);
        }
        for _ in 0..1000 {
            circuit.took(1, 1);
        }
        assert_eq!(believed(), REFUSED_MAX);
    }
}
