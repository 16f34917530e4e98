//! One request's events, sent until each has a final outcome.

use super::circuit::{Circuit, Permit};
use super::work::{Part, Refusal, Work};
use super::{Event, Peer, Quarantine, Refused, Report, Settings, SinkError, lower};
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
struct Fault {
    why: String,
    after: Option<Duration>,
    /// A person has to act.
    slow: bool,
}

/// When a request was sent, as the circuit counts.
struct Moments {
    /// When the latest request was sent of which it was known before that events were taken.
    taken_before: u64,
    begun: u64,
    sent: u64,
}

/// What is left of the events of one answer.
#[derive(Default)]
struct Left {
    /// How many are there now.
    taken: usize,
    again: Vec<Event>,
    fault: Option<Fault>,
    refused: Vec<Refusal>,
    too_large: Vec<Refusal>,
}

impl<P: Peer> Delivery<'_, P> {
    /// Returns the events that were refused while nothing proves that others are taken: they are to be sent together with
    /// more.
    pub async fn deliver(&self, events: Vec<Event>) -> Result<Vec<Event>, SinkError> {
        let mut work = Work {
            parts: vec![Part::whole(events)],
            unproven: Vec::new(),
            permit: None,
        };
        loop {
            self.sending.set(self.sending.get() + 1);
            while let Some(part) = work.parts.pop() {
                if let Some(why) = self.send(part, &mut work).await? {
                    self.sending.set(self.sending.get() - 1);
                    self.sent.notify_waiters();
                    return self.give_up(work, &why);
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
        let Some(Refusal { why, .. }) = work.unproven.first() else {
            if let Some(permit) = work.permit {
                self.circuit.worked(permit);
            }
            return Ok(Vec::new());
        };
        let why = why.clone();
        if work.permit.is_some() {
            return self.give_up(work, &why);
        }
        self.doubt(&why);
        Ok(work.into_events())
    }

    /// Sends one part and sees to what the answer says of its events. Returns why the server is to be left alone, if it is.
    async fn send(&self, part: Part, work: &mut Work) -> Result<Option<String>, SinkError> {
        let Part { events, halved } = part;
        let permit = match work.permit.take() {
            Some(permit) => permit,
            None => self.circuit.enter(|| self.peer.changed()).await,
        };
        crate::failpoint::hit("before_send");
        let moments = Moments {
            taken_before: self.circuit.taken(),
            begun: self.circuit.now(),
            sent: self.circuit.now(),
        };
        let answer = self.peer.send(&events).await;
        crate::failpoint::hit("after_send");
        let count = events.len();
        let (outcomes, named) = match answer {
            // A server that counts in its own way.
            Answer::Suspect { at, why } if count > 1 && at >= count => {
                return Ok(self.halve(events, why, permit, work));
            }
            Answer::Suspect { at, why } if count > 1 => {
                return Ok(self.divide(events, at, why, permit, work));
            }
            Answer::Halve { why, too_large } if count > 1 => {
                if too_large {
                    self.learn_limit(&events, &why);
                }
                return Ok(self.halve(events, why, permit, work));
            }
            Answer::Halve { why, .. } | Answer::Suspect { why, .. } => (vec![Outcome::Poison { why }], false),
            Answer::All(outcome) => (vec![outcome; count], false),
            Answer::Each(outcomes) if outcomes.len() == count => (outcomes, true),
            Answer::Each(outcomes) => {
                let got = outcomes.len();
                let why = format!("the answer tells of {got} events where {count} were sent");
                (vec![Outcome::retry(why); count], false)
            }
        };
        let mut left = self.settle(events, outcomes, &moments, named);
        let unproven = self.set_aside(&mut left)?;
        if left.taken == count {
            work.accuse_other_half(halved);
        }
        let is_doubtful = !unproven.is_empty() && left.taken == 0;
        let why = unproven.first().map(|refusal| refusal.why.clone());
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
            work.parts.push(Part::whole(left.again));
        }
        Ok(why.filter(|_| is_doubtful && self.is_to_rest()))
    }

    /// A request was refused. Returns whether that was one too many; events that were set aside before are tried to the last.
    fn is_to_rest(&self) -> bool {
        !self.settings.refusals_believed && self.circuit.refused()
    }

    /// A request was refused for a fault of some event: each half tells more.
    fn halve(&self, mut events: Vec<Event>, why: String, permit: Permit, work: &mut Work) -> Option<String> {
        let halved = Some(self.circuit.now());
        let second = events.split_off(events.len() / 2);
        work.keep(permit);
        work.parts.push(Part::whole(second));
        work.parts.push(Part { events, halved });
        self.is_to_rest().then_some(why)
    }

    /// A request was refused for a fault of this event. It is sent alone, and so are those before and after it.
    fn divide(
        &self,
        mut events: Vec<Event>,
        at: usize,
        why: String,
        permit: Permit,
        work: &mut Work,
    ) -> Option<String> {
        let refused = self.circuit.now();
        let mut after = events.split_off(at + 1);
        let mut suspect = events.split_off(at);
        suspect.iter_mut().for_each(|event| event.note_refusal(refused));
        work.keep(permit);
        // Where each is refused, the rest is not sent again and again.
        let rest = after.split_off(if at == 0 { after.len() / 2 } else { after.len() });
        // Those before it first: that they are taken proves that it is its own fault.
        let parts = [rest, after, suspect, events].map(Part::whole);
        work.parts
            .extend(parts.into_iter().filter(|part| !part.events.is_empty()));
        self.is_to_rest().then_some(why)
    }

    /// Everything is refused: that is no fault of the events. What is left waits with those that were refused.
    fn give_up(&self, mut work: Work, why: &str) -> Result<Vec<Event>, SinkError> {
        let permit = work.permit.take().unwrap_or(Permit::FREE);
        let why =
            format!("events are refused, and none is taken that would prove it is their own fault: {why}");
        let fault = Fault {
            why,
            after: None,
            slow: true,
        };
        self.failed(permit, fault)?;
        Ok(work.into_events())
    }

    /// Some events are refused, and nothing tells yet whether they are at fault. They hold up no others.
    fn doubt(&self, why: &str) {
        let Settings { sink, source, .. } = self.settings;
        let (is_new, wait) = self.circuit.doubts(why, random());
        if is_new {
            tracing::error!(
                sink,
                source,
                why,
                ?wait,
                "events are refused; they wait until others are taken, which proves that it is their own fault"
            );
            (self.report)(Report::Trouble(Some(format!("sink {sink}: {why}"))));
        }
    }

    fn settle(&self, events: Vec<Event>, outcomes: Vec<Outcome>, moments: &Moments, named: bool) -> Left {
        let is_there = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered | Outcome::Duplicate);
        let mut left = Left {
            taken: outcomes.iter().filter(is_there).count(),
            ..Left::default()
        };
        self.circuit.took(left.taken, moments.sent);
        // Where others are taken by the same answer, they are as good as sent after it.
        let refused = match left.taken {
            0 => self.circuit.now(),
            _ => moments.begun,
        };
        let is_proven = left.taken > 0;
        let refusal = |mut event: Event, why| {
            let proven = is_proven || (1..moments.taken_before).contains(&event.refused);
            event.note_refusal(refused);
            Refusal {
                event,
                why,
                proven,
                named,
            }
        };
        for (event, outcome) in events.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered | Outcome::Duplicate => event.done(self.report),
                Outcome::Retry { why, after } => left.send_again(event, why, after, false),
                Outcome::Misconfigured { why } => left.send_again(event, why, None, true),
                Outcome::Poison { why } => left.refused.push(refusal(event, why)),
                Outcome::TooLarge { why } => left.too_large.push(refusal(event, why)),
            }
        }
        left
    }

    /// Refused events go into quarantine, or end the sink. Returns those that may not be at fault.
    fn set_aside(&self, left: &mut Left) -> Result<Vec<Refusal>, SinkError> {
        let (mut poison, unproven): (Vec<_>, Vec<_>) = std::mem::take(&mut left.refused)
            .into_iter()
            .partition(|refusal| {
                self.settings.refusals_believed || refusal.proven && self.circuit.is_own_fault()
            });
        // No server takes these.
        poison.append(&mut left.too_large);
        let Some(Refusal { event, why, .. }) = poison.first() else {
            return Ok(unproven);
        };
        let (id, sink, count) = (event.id(), &self.settings.sink, poison.len());
        if self.settings.on_poison == OnPoison::Stop {
            return Err(SinkError::Poison { id, why: why.clone() });
        }
        let refused: Vec<Refused> = poison
            .iter()
            .map(|Refusal { event, why, .. }| Refused {
                id: event.id(),
                time_ms: event.time_ms(),
                why: why.clone(),
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
                    why,
                    "events are refused and are in quarantine; see `confluence-audit-agent quarantine list`"
                );
                (self.report)(Report::Quarantined(count as u64));
                poison
                    .into_iter()
                    .for_each(|refusal| refusal.event.done(self.report));
            }
            Err(error) => {
                let why = format!("refused events cannot be put into quarantine: {error}");
                for refusal in poison {
                    left.send_again(refusal.event, why.clone(), None, true);
                }
            }
        }
        Ok(unproven)
    }

    fn recovered(&self) {
        if self.circuit.recovered() {
            let Settings { sink, source, .. } = self.settings;
            match self.circuit.take_told() {
                true => tracing::info!(sink, source, "events get through again"),
                false => tracing::debug!(sink, source, "events get through again"),
            }
            (self.report)(Report::Trouble(None));
        }
    }

    /// What was too large will be so the next time.
    fn learn_limit(&self, events: &[Event], why: &str) {
        let bytes: usize = events.iter().map(|event| event.bytes().len() + 1).sum();
        if lower(&self.bytes_max, bytes) {
            let sink = &self.settings.sink;
            tracing::warn!(
                sink,
                bytes,
                why,
                "a request is refused as too large; smaller ones are sent from now on, lower `batch_bytes`"
            );
        }
    }

    fn failed(&self, permit: Permit, fault: Fault) -> Result<(), SinkError> {
        let Fault { why, after, slow } = fault;
        let Settings { sink, source, .. } = self.settings;
        if self.circuit.failed(permit, &why, after, slow, random()) {
            (self.report)(Report::Trouble(Some(format!("sink {sink}: {why}"))));
        }
        let wait = self.circuit.waits().unwrap_or_default();
        match self.circuit.is_to_be_told(&why) {
            true if slow => tracing::error!(
                sink,
                source,
                why,
                ?wait,
                "events are not taken until a person acts; reading pauses meanwhile and nothing is lost"
            ),
            true => tracing::warn!(sink, source, why, ?wait, "events are not taken; trying again"),
            false => tracing::debug!(sink, source, why, ?wait, "events are not taken; trying again"),
        }
        if self.settings.once && (slow || self.circuit.failures() > ONCE_FAILURES_MAX) {
            return Err(SinkError::GaveUp { why });
        }
        Ok(())
    }
}

impl Left {
    fn send_again(&mut self, event: Event, why: String, after: Option<Duration>, slow: bool) {
        self.again.push(event);
        match &mut self.fault {
            Some(fault) => {
                fault.after = fault.after.max(after);
                // What passes by itself is tried soon, and the rest with it.
                fault.slow &= slow;
            }
            none => *none = Some(Fault { why, after, slow }),
        }
    }
}
