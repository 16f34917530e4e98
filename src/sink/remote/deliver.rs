//! Delivery of the events of one request: sends them until each has a final outcome.

use super::circuit::Permit;
use super::settle::{Delivery, RequestSequence, RetryReason};
use super::work::{DeliveryWork, PendingRefusal, RequestPart};
use super::{DeliverySettings, Destination, PendingEvent, Report, SinkError, lower_limit};
use crate::clock;
use crate::delay::random;
use crate::sink::ONCE_FAILURES_MAX;
use crate::sink::outcome::{Outcome, RequestOutcome};

impl<P: Destination> Delivery<'_, P> {
    /// Returns the events that were refused while no other event was accepted. They are sent again together
    /// with later events.
    pub(super) async fn deliver(&self, events: Vec<PendingEvent>) -> Result<Vec<PendingEvent>, SinkError> {
        let mut work =
            DeliveryWork { parts: vec![RequestPart::whole(events)], unproven: Vec::new(), permit: None };
        loop {
            self.active.set(self.active.get() + 1);
            while let Some(part) = work.parts.pop() {
                if let Some(reason) = self.send(part, &mut work).await? {
                    self.active.set(self.active.get() - 1);
                    self.idle_notify.notify_waiters();
                    return self.give_up(work, &reason);
                }
            }
            self.active.set(self.active.get() - 1);
            self.idle_notify.notify_waiters();
            // Another delivery in flight may prove the refusals. A probe is alone in flight.
            while work.awaits_proof(self.circuit) && self.active.get() > 0 && work.permit.is_none() {
                self.idle_notify.notified().await;
            }
            if work.unproven.is_empty() || work.awaits_proof(self.circuit) {
                break;
            }
            work.requeue_proven(self.circuit);
        }
        let Some(PendingRefusal { reason, .. }) = work.unproven.first() else {
            if let Some(permit) = work.permit {
                self.circuit.on_success(permit);
            }
            return Ok(Vec::new());
        };
        let reason = reason.clone();
        if work.permit.is_some() {
            return self.give_up(work, &reason);
        }
        self.delay_unproven(&reason);
        Ok(work.into_events())
    }

    /// Sends one part and applies its outcome. Returns the reason if the circuit has to open.
    async fn send(&self, part: RequestPart, work: &mut DeliveryWork) -> Result<Option<String>, SinkError> {
        let RequestPart { events, refused_together } = part;
        let permit = match work.permit.take() {
            Some(permit) => permit,
            None => self.circuit.enter(|| self.destination.credentials_changed()).await,
        };
        crate::failpoint::hit("before_send");
        let sequence = RequestSequence {
            accepted_before: self.circuit.last_accepted(),
            begun: self.circuit.next_sequence(),
            sent: self.circuit.next_sequence(),
        };
        let began = clock::monotonic();
        let outcome = self.destination.send(&events).await;
        crate::failpoint::hit("after_send");
        let count = events.len();
        (self.report)(Report::Request {
            class: outcome.class(),
            bytes: events.iter().map(|event| event.bytes().len() as u64 + 1).sum(),
            duration: clock::monotonic().saturating_duration_since(began),
        });
        let (outcomes, by_item) = match outcome {
            // The server counts its items in another way.
            RequestOutcome::Suspect { at, reason } if count > 1 && at >= count => {
                return Ok(self.halve(events, reason, permit, work));
            }
            RequestOutcome::Suspect { at, reason } if count > 1 => {
                return Ok(self.isolate(events, at, reason, permit, work));
            }
            RequestOutcome::Halve { reason, too_large } if count > 1 => {
                if too_large {
                    self.learn_limit(&events, &reason);
                }
                return Ok(self.halve(events, reason, permit, work));
            }
            RequestOutcome::Halve { reason, .. } | RequestOutcome::Suspect { reason, .. } => {
                (vec![Outcome::Poison { reason }], false)
            }
            RequestOutcome::All(outcome) => (vec![outcome; count], false),
            RequestOutcome::Each(outcomes) if outcomes.len() == count => (outcomes, true),
            RequestOutcome::Each(outcomes) => {
                let got = outcomes.len();
                let reason = format!("the response has {got} items for {count} events");
                (vec![Outcome::retry(reason); count], false)
            }
        };
        let mut unsettled = self.settle(events, outcomes, &sequence, by_item);
        let unproven = self.quarantine_poison(&mut unsettled)?;
        if unsettled.accepted == count && unsettled.proofs > 0 {
            work.suspect_other_half(refused_together);
        }
        let is_unproven = !unproven.is_empty() && unsettled.proofs == 0;
        let reason = unproven.first().map(|refusal| refusal.reason.clone());
        work.unproven.extend(unproven);
        match unsettled.fault {
            Some(fault) => self.failed(permit, fault)?,
            None if is_unproven => work.keep_probe(permit),
            None => {
                if unsettled.accepted > 0 {
                    self.recovered();
                }
                self.circuit.on_success(permit);
            }
        }
        if !unsettled.retry.is_empty() {
            work.parts.push(RequestPart::whole(unsettled.retry));
        }
        Ok(reason.filter(|_| is_unproven && self.is_refusal_limit_reached()))
    }

    /// Counts a refused request. Returns whether the limit is reached. Events from the quarantine are all
    /// tried, so there is no limit.
    fn is_refusal_limit_reached(&self) -> bool {
        !self.settings.quarantine_unproven && self.circuit.on_refused()
    }

    /// Sends a refused request again in two halves.
    fn halve(
        &self,
        mut events: Vec<PendingEvent>,
        reason: String,
        permit: Permit,
        work: &mut DeliveryWork,
    ) -> Option<String> {
        let refused_together = Some(self.circuit.next_sequence());
        let second = events.split_off(events.len() / 2);
        work.keep_probe(permit);
        work.parts.push(RequestPart::whole(second));
        work.parts.push(RequestPart { events, refused_together });
        self.is_refusal_limit_reached().then_some(reason)
    }

    /// Isolates the suspect of a refused request: it is sent alone, and so are the events before it and after
    /// it.
    fn isolate(
        &self,
        mut events: Vec<PendingEvent>,
        at: usize,
        reason: String,
        permit: Permit,
        work: &mut DeliveryWork,
    ) -> Option<String> {
        let refused = self.circuit.next_sequence();
        let mut after = events.split_off(at + 1);
        let mut suspect = events.split_off(at);
        suspect.iter_mut().for_each(|event| event.note_refusal(refused));
        work.keep_probe(permit);
        // If the first event is the suspect, the rest is halved: where each event is refused, it is not sent
        // over and over.
        let rest = after.split_off(if at == 0 { after.len() / 2 } else { after.len() });
        // The events before the suspect first: if they are accepted, its refusal is proven.
        let parts = [rest, after, suspect, events].map(RequestPart::whole);
        work.parts.extend(parts.into_iter().filter(|part| !part.events.is_empty()));
        self.is_refusal_limit_reached().then_some(reason)
    }

    /// Everything is refused, so the events are not at fault. Opens the circuit and returns all events that
    /// are left.
    fn give_up(&self, mut work: DeliveryWork, reason: &str) -> Result<Vec<PendingEvent>, SinkError> {
        let permit = work.permit.take().unwrap_or(Permit::REGULAR);
        let reason = format!("all events are refused, so the configuration may be at fault: {reason}");
        let fault = RetryReason { reason, after: None, operator_needed: true };
        self.failed(permit, fault)?;
        Ok(work.into_events())
    }

    /// Reports events whose refusal is not proven. They do not hold up other events.
    fn delay_unproven(&self, reason: &str) {
        let DeliverySettings { sink, source, .. } = self.settings;
        let (is_new, wait) = self.circuit.delay_unproven(reason, random());
        if is_new {
            tracing::error!(
                sink,
                source,
                reason,
                ?wait,
                "events are refused; they are kept and sent again when other events are accepted"
            );
            (self.report)(Report::Health(Some(format!("sink {sink}: {reason}"))));
        }
    }

    fn recovered(&self) {
        if self.circuit.recovered() {
            let DeliverySettings { sink, source, .. } = self.settings;
            match self.circuit.take_reported() {
                true => tracing::info!(sink, source, "events are delivered again"),
                false => tracing::debug!(sink, source, "events are delivered again"),
            }
            (self.report)(Report::Health(None));
        }
    }

    /// Limits the size of later requests to half of one that was too large.
    fn learn_limit(&self, events: &[PendingEvent], reason: &str) {
        let bytes: usize = events.iter().map(|event| event.bytes().len() + 1).sum();
        if lower_limit(&self.bytes_max, bytes) {
            let sink = &self.settings.sink;
            tracing::warn!(
                sink,
                bytes,
                reason,
                "a request was refused as too large; smaller ones are sent from now on; lower `batch_bytes` to avoid this"
            );
        }
    }

    fn failed(&self, permit: Permit, fault: RetryReason) -> Result<(), SinkError> {
        let RetryReason { reason, after, operator_needed } = fault;
        let DeliverySettings { sink, source, .. } = self.settings;
        if self.circuit.on_failure(permit, &reason, after, operator_needed, random()) {
            (self.report)(Report::Health(Some(format!("sink {sink}: {reason}"))));
        }
        let wait = self.circuit.remaining_pause().unwrap_or_default();
        match self.circuit.should_report(&reason) {
            true if operator_needed => tracing::error!(
                sink,
                source,
                reason,
                ?wait,
                "events are not accepted until the operator acts; reading pauses meanwhile and nothing is lost"
            ),
            true => tracing::warn!(sink, source, reason, ?wait, "events are not accepted; retrying"),
            false => tracing::debug!(sink, source, reason, ?wait, "events are not accepted; retrying"),
        }
        if self.settings.once && (operator_needed || self.circuit.failures() > ONCE_FAILURES_MAX) {
            return Err(SinkError::GaveUp { reason });
        }
        Ok(())
    }
}
