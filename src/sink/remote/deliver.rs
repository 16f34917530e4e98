//! One request's events, sent until each has a final outcome.

use super::circuit::{Circuit, Permit};
use super::work::{DeliveryWork, Refusal, RequestPart};
use super::{Peer, PendingEvent, Quarantine, Refused, Report, Settings, SinkError, lower};
use crate::config::OnPoison;
use crate::delay::random;
use crate::sink::ONCE_FAILURES_MAX;
use crate::sink::answer::{Answer, Outcome};
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::Notify;

/// What the requests of one sink of one source share.
pub struct Delivery<'a, P> {
    pub peer: &'a P,
    pub circuit: &'a Circuit,
    pub settings: &'a Settings,
    /// Larger requests were refused.
    pub bytes_max: Cell<usize>,
    /// Requests of which something is still to be sent.
    pub sending: Cell<usize>,
    /// Woken when one of them has sent all.
    pub sent: Notify,
    pub report: &'a dyn Fn(Report),
    pub quarantine: Quarantine<'a>,
}

/// Why events are to be sent again.
struct RetryReason {
    reason: String,
    after: Option<Duration>,
    /// A person has to act.
    slow: bool,
}

/// When a request was sent, as the circuit counts.
struct RequestTimes {
    /// When the latest request was sent of which it was known before that events were taken.
    taken_before: u64,
    begun: u64,
    sent: u64,
}

/// What is left of the events of one answer.
#[derive(Default)]
struct AnswerRest {
    /// How many are there now.
    taken: usize,
    again: Vec<PendingEvent>,
    fault: Option<RetryReason>,
    refused: Vec<Refusal>,
    too_large: Vec<Refusal>,
}

impl<P: Peer> Delivery<'_, P> {
    /// Returns the events that were refused while nothing proves that others are taken: they are to be sent together with
    /// more.
    pub async fn deliver(&self, events: Vec<PendingEvent>) -> Result<Vec<PendingEvent>, SinkError> {
        let mut work = DeliveryWork {
            parts: vec![RequestPart::whole(events)],
            unproven: Vec::new(),
            permit: None,
        };
        loop {
            self.sending.set(self.sending.get() + 1);
            while let Some(part) = work.parts.pop() {
                if let Some(reason) = self.send(part, &mut work).await? {
                    self.sending.set(self.sending.get() - 1);
                    self.sent.notify_waiters();
                    return self.give_up(work, &reason);
                }
            }
            self.sending.set(self.sending.get() - 1);
            self.sent.notify_waiters();
            // What others are about to send may prove it. While this one tries alone there are none.
            while work.wants_proof(self.circuit) && self.sending.get() > 0 && work.permit.is_none() {
                self.sent.notified().await;
            }
            if work.unproven.is_empty() || work.wants_proof(self.circuit) {
                break;
            }
            work.send_proven_again(self.circuit);
        }
        let Some(Refusal { reason, .. }) = work.unproven.first() else {
            if let Some(permit) = work.permit {
                self.circuit.worked(permit);
            }
            return Ok(Vec::new());
        };
        let reason = reason.clone();
        if work.permit.is_some() {
            return self.give_up(work, &reason);
        }
        self.doubt(&reason);
        Ok(work.into_events())
    }

    /// Sends one part and sees to what the answer says of its events. Returns why the server is to be left alone, if it is.
    async fn send(&self, part: RequestPart, work: &mut DeliveryWork) -> Result<Option<String>, SinkError> {
        let RequestPart { events, halved } = part;
        let permit = match work.permit.take() {
            Some(permit) => permit,
            None => self.circuit.enter(|| self.peer.changed()).await,
        };
        crate::failpoint::hit("before_send");
        let moments = RequestTimes {
            taken_before: self.circuit.taken(),
            begun: self.circuit.now(),
            sent: self.circuit.now(),
        };
        let answer = self.peer.send(&events).await;
        crate::failpoint::hit("after_send");
        let count = events.len();
        let (outcomes, named) = match answer {
            // A server that counts in its own way.
            Answer::Suspect { at, reason } if count > 1 && at >= count => {
                return Ok(self.halve(events, reason, permit, work));
            }
            Answer::Suspect { at, reason } if count > 1 => {
                return Ok(self.divide(events, at, reason, permit, work));
            }
            Answer::Halve { reason, too_large } if count > 1 => {
                if too_large {
                    self.learn_limit(&events, &reason);
                }
                return Ok(self.halve(events, reason, permit, work));
            }
            Answer::Halve { reason, .. } | Answer::Suspect { reason, .. } => {
                (vec![Outcome::Poison { reason }], false)
            }
            Answer::All(outcome) => (vec![outcome; count], false),
            Answer::Each(outcomes) if outcomes.len() == count => (outcomes, true),
            Answer::Each(outcomes) => {
                let got = outcomes.len();
                let reason = format!("the answer tells of {got} events where {count} were sent");
                (vec![Outcome::retry(reason); count], false)
            }
        };
        let mut left = self.settle(events, outcomes, &moments, named);
        let unproven = self.set_aside(&mut left)?;
        if left.taken == count {
            work.accuse_other_half(halved);
        }
        let is_doubtful = !unproven.is_empty() && left.taken == 0;
        let reason = unproven.first().map(|refusal| refusal.reason.clone());
        work.unproven.extend(unproven);
        match left.fault {
            Some(fault) => self.failed(permit, fault)?,
            None if is_doubtful => work.keep(permit),
            None => {
                if left.taken > 0 {
                    self.recovered();
                }
                self.circuit.worked(permit);
            }
        }
        if !left.again.is_empty() {
            work.parts.push(RequestPart::whole(left.again));
        }
        Ok(reason.filter(|_| is_doubtful && self.is_to_rest()))
    }

    /// A request was refused. Returns whether that was one too many; events that were set aside before are tried to the last.
    fn is_to_rest(&self) -> bool {
        !self.settings.refusals_believed && self.circuit.refused()
    }

    /// A request was refused for a fault of some event: each half tells more.
    fn halve(
        &self,
        mut events: Vec<PendingEvent>,
        reason: String,
        permit: Permit,
        work: &mut DeliveryWork,
    ) -> Option<String> {
        let halved = Some(self.circuit.now());
        let second = events.split_off(events.len() / 2);
        work.keep(permit);
        work.parts.push(RequestPart::whole(second));
        work.parts.push(RequestPart { events, halved });
        self.is_to_rest().then_some(reason)
    }

    /// A request was refused for a fault of this event. It is sent alone, and so are those before and after it.
    fn divide(
        &self,
        mut events: Vec<PendingEvent>,
        at: usize,
        reason: String,
        permit: Permit,
        work: &mut DeliveryWork,
    ) -> Option<String> {
        let refused = self.circuit.now();
        let mut after = events.split_off(at + 1);
        let mut suspect = events.split_off(at);
        suspect.iter_mut().for_each(|event| event.note_refusal(refused));
        work.keep(permit);
        // Where each is refused, the rest is not sent again and again.
        let rest = after.split_off(if at == 0 { after.len() / 2 } else { after.len() });
        // Those before it first: that they are taken proves that it is its own fault.
        let parts = [rest, after, suspect, events].map(RequestPart::whole);
        work.parts
            .extend(parts.into_iter().filter(|part| !part.events.is_empty()));
        self.is_to_rest().then_some(reason)
    }

    /// Everything is refused: that is no fault of the events. What is left waits with those that were refused.
    fn give_up(&self, mut work: DeliveryWork, reason: &str) -> Result<Vec<PendingEvent>, SinkError> {
        let permit = work.permit.take().unwrap_or(Permit::FREE);
        let reason =
            format!("events are refused, and none is taken that would prove it is their own fault: {reason}");
        let fault = RetryReason {
            reason,
            after: None,
            slow: true,
        };
        self.failed(permit, fault)?;
        Ok(work.into_events())
    }

    /// Some events are refused, and nothing tells yet whether they are at fault. They hold up no others.
    fn doubt(&self, reason: &str) {
        let Settings { sink, source, .. } = self.settings;
        let (is_new, wait) = self.circuit.doubts(reason, random());
        if is_new {
            tracing::error!(
                sink,
                source,
                reason,
                ?wait,
                "events are refused; they wait until others are taken, which proves that it is their own fault"
            );
            (self.report)(Report::Trouble(Some(format!("sink {sink}: {reason}"))));
        }
    }

    fn settle(
        &self,
        events: Vec<PendingEvent>,
        outcomes: Vec<Outcome>,
        moments: &RequestTimes,
        named: bool,
    ) -> AnswerRest {
        let is_there = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered | Outcome::Duplicate);
        let mut left = AnswerRest {
            taken: outcomes.iter().filter(is_there).count(),
            ..AnswerRest::default()
        };
        self.circuit.took(left.taken, moments.sent);
        // Where others are taken by the same answer, they are as good as sent after it.
        let refused = match left.taken {
            0 => self.circuit.now(),
            _ => moments.begun,
        };
        let is_proven = left.taken > 0;
        let refusal = |mut event: PendingEvent, reason| {
            let proven = is_proven || (1..moments.taken_before).contains(&event.refused);
            event.note_refusal(refused);
            Refusal {
                event,
                reason,
                proven,
                named,
            }
        };
        for (event, outcome) in events.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered | Outcome::Duplicate => event.done(self.report),
                Outcome::Retry { reason, after } => left.send_again(event, reason, after, false),
                Outcome::Misconfigured { reason } => left.send_again(event, reason, None, true),
                Outcome::Poison { reason } => left.refused.push(refusal(event, reason)),
                Outcome::TooLarge { reason } => left.too_large.push(refusal(event, reason)),
            }
        }
        left
    }

    /// Refused events go into quarantine, or end the sink. Returns those that may not be at fault.
    fn set_aside(&self, left: &mut AnswerRest) -> Result<Vec<Refusal>, SinkError> {
        let (mut poison, unproven): (Vec<_>, Vec<_>) = std::mem::take(&mut left.refused)
            .into_iter()
            .partition(|refusal| {
                self.settings.refusals_believed || refusal.proven && self.circuit.is_own_fault()
            });
        // No server takes these.
        poison.append(&mut left.too_large);
        let Some(Refusal { event, reason, .. }) = poison.first() else {
            return Ok(unproven);
        };
        let (id, sink, count) = (event.id(), &self.settings.sink, poison.len());
        if self.settings.on_poison == OnPoison::Stop {
            return Err(SinkError::Poison {
                id,
                reason: reason.clone(),
            });
        }
        let refused: Vec<Refused> = poison
            .iter()
            .map(|Refusal { event, reason, .. }| Refused {
                id: event.id(),
                time_ms: event.time_ms(),
                reason: reason.clone(),
                event: event.bytes().to_vec(),
            })
            .collect();
        match (self.quarantine)(&refused) {
            Ok(()) => {
                tracing::error!(
                    sink,
                    source = self.settings.source,
                    events = count,
                    id = %String::from_utf8_lossy(&id.hex()),
                    reason,
                    "events are refused and are in quarantine; see `confluence-audit-agent quarantine list`"
                );
                (self.report)(Report::Quarantined(count as u64));
                poison
                    .into_iter()
                    .for_each(|refusal| refusal.event.done(self.report));
            }
            Err(error) => {
                let reason = format!("refused events cannot be put into quarantine: {error}");
                for refusal in poison {
                    left.send_again(refusal.event, reason.clone(), None, true);
                }
            }
        }
        Ok(unproven)
    }

    fn recovered(&self) {
        if self.circuit.recovered() {
            let Settings { sink, source, .. } = self.settings;
            match self.circuit.take_reported() {
                true => tracing::info!(sink, source, "events get through again"),
                false => tracing::debug!(sink, source, "events get through again"),
            }
            (self.report)(Report::Trouble(None));
        }
    }

    /// What was too large will be so the next time.
    fn learn_limit(&self, events: &[PendingEvent], reason: &str) {
        let bytes: usize = events.iter().map(|event| event.bytes().len() + 1).sum();
        if lower(&self.bytes_max, bytes) {
            let sink = &self.settings.sink;
            tracing::warn!(
                sink,
                bytes,
                reason,
                "a request is refused as too large; smaller ones are sent from now on, lower `batch_bytes`"
            );
        }
    }

    fn failed(&self, permit: Permit, fault: RetryReason) -> Result<(), SinkError> {
        let RetryReason { reason, after, slow } = fault;
        let Settings { sink, source, .. } = self.settings;
        if self.circuit.failed(permit, &reason, after, slow, random()) {
            (self.report)(Report::Trouble(Some(format!("sink {sink}: {reason}"))));
        }
        let wait = self.circuit.waits().unwrap_or_default();
        match self.circuit.should_report(&reason) {
            true if slow => tracing::error!(
                sink,
                source,
                reason,
                ?wait,
                "events are not taken until a person acts; reading pauses meanwhile and nothing is lost"
            ),
            true => tracing::warn!(sink, source, reason, ?wait, "events are not taken; trying again"),
            false => tracing::debug!(sink, source, reason, ?wait, "events are not taken; trying again"),
        }
        if self.settings.once && (slow || self.circuit.failures() > ONCE_FAILURES_MAX) {
            return Err(SinkError::GaveUp { reason });
        }
        Ok(())
    }
}

impl AnswerRest {
    fn send_again(&mut self, event: PendingEvent, reason: String, after: Option<Duration>, slow: bool) {
        self.again.push(event);
        match &mut self.fault {
            Some(fault) => {
                fault.after = fault.after.max(after);
                // What passes by itself is tried soon, and the rest with it.
                fault.slow &= slow;
            }
            none => *none = Some(RetryReason { reason, after, slow }),
        }
    }
}
