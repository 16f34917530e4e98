//! One request's events, sent until each has a final outcome.

use super::circuit::{Circuit, Permit};
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

/// What is left of the events of one answer.
#[derive(Default)]
struct Left {
    /// How many are there now.
    taken: usize,
    again: Vec<Event>,
    fault: Option<Fault>,
    refused: Vec<(Event, String)>,
    too_large: Vec<(Event, String)>,
}

impl<P: Peer> Delivery<'_, P> {
    /// Returns the events that were refused while nothing proves that others are taken: they are to be sent together with
    /// more.
    pub async fn deliver(&self, events: Vec<Event>) -> Result<Vec<Event>, SinkError> {
        // What is still to be sent; the next part is the last one.
        let mut parts = vec![events];
        let mut unproven = Vec::new();
        self.sending.set(self.sending.get() + 1);
        while let Some(mut events) = parts.pop() {
            let permit = self.circuit.enter(|| self.peer.changed()).await;
            crate::failpoint::hit("before_send");
            let answer = self.peer.send(&events).await;
            crate::failpoint::hit("after_send");
            let answer = match answer {
                // A server that counts in its own way.
                Answer::Suspect { at, why } if at >= events.len() => Answer::Halve {
                    why,
                    too_large: false,
                },
                other => other,
            };
            let outcomes = match answer {
                Answer::Halve { why, too_large } if events.len() > 1 => {
                    if too_large {
                        self.learn_limit(&events, &why);
                    }
                    self.circuit.worked(permit);
                    let second = events.split_off(events.len() / 2);
                    parts.extend([second, events]);
                    continue;
                }
                Answer::Suspect { at, .. } if events.len() > 1 => {
                    self.circuit.worked(permit);
                    let mut after = events.split_off(at + 1);
                    let suspect = events.split_off(at);
                    if at == 0 {
                        // Where each is refused, the rest is not sent again and again.
                        parts.push(after.split_off(after.len() / 2));
                    }
                    // Those before it first: that they are taken proves that it is its own fault.
                    parts.extend([after, suspect, events]);
                    parts.retain(|part| !part.is_empty());
                    continue;
                }
                Answer::Halve { why, .. } | Answer::Suspect { why, .. } => {
                    vec![Outcome::Poison { why }]
                }
                Answer::All(outcome) => vec![outcome; events.len()],
                Answer::Each(outcomes) if outcomes.len() == events.len() => outcomes,
                Answer::Each(outcomes) => {
                    let (sent, got) = (events.len(), outcomes.len());
                    let why = format!("the answer tells of {got} events where {sent} were sent");
                    vec![Outcome::retry(why); sent]
                }
            };
            let mut left = self.settle(events, outcomes);
            unproven.extend(self.set_aside(&mut left)?);
            match left.fault {
                Some(fault) => self.failed(permit, fault)?,
                None => {
                    if left.taken > 0 {
                        self.recovered();
                    }
                    self.circuit.worked(permit);
                }
            }
            if !left.again.is_empty() {
                parts.push(left.again);
            }
        }
        self.sending.set(self.sending.get() - 1);
        self.sent.notify_waiters();
        // What others are about to send may prove it.
        while !unproven.is_empty() && !self.circuit.has_witness() && self.sending.get() > 0 {
            self.sent.notified().await;
        }
        // What was taken after them may prove it by now.
        let mut left = Left {
            refused: unproven,
            ..Left::default()
        };
        let unproven = self.set_aside(&mut left)?;
        let no_proof = unproven.first().map(|(_, why)| Fault {
            why: format!(
                "events are refused, and none is taken that would prove it is their own fault: {why}"
            ),
            after: None,
            slow: true,
        });
        if let Some(fault) = left.fault.or(no_proof) {
            let permit = self.circuit.enter(|| self.peer.changed()).await;
            self.failed(permit, fault)?;
        }
        let unproven = unproven.into_iter().map(|(event, _)| event);
        Ok(left.again.into_iter().chain(unproven).collect())
    }

    fn settle(&self, events: Vec<Event>, outcomes: Vec<Outcome>) -> Left {
        let is_there = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered | Outcome::Duplicate);
        let mut left = Left {
            taken: outcomes.iter().filter(is_there).count(),
            ..Left::default()
        };
        self.circuit.took(left.taken);
        for (event, outcome) in events.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered | Outcome::Duplicate => event.done(self.report),
                Outcome::Retry { why, after } => left.send_again(event, why, after, false),
                Outcome::Misconfigured { why } => left.send_again(event, why, None, true),
                Outcome::Poison { why } => left.refused.push((event, why)),
                Outcome::TooLarge { why } => left.too_large.push((event, why)),
            }
        }
        left
    }

    /// Refused events go into quarantine, or end the sink. Returns those that may not be at fault.
    fn set_aside(&self, left: &mut Left) -> Result<Vec<(Event, String)>, SinkError> {
        let (mut poison, unproven): (Vec<_>, Vec<_>) = std::mem::take(&mut left.refused)
            .into_iter()
            .partition(|_| self.settings.refusals_believed || self.circuit.is_own_fault());
        // No server takes these.
        poison.append(&mut left.too_large);
        let Some((event, why)) = poison.first() else {
            return Ok(unproven);
        };
        let (id, sink, count) = (event.id(), &self.settings.sink, poison.len());
        if self.settings.on_poison == OnPoison::Stop {
            return Err(SinkError::Poison { id, why: why.clone() });
        }
        let refused: Vec<Refused> = poison
            .iter()
            .map(|(event, why)| Refused {
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
                poison.into_iter().for_each(|(event, _)| event.done(self.report));
            }
            Err(error) => {
                let why = format!("refused events cannot be put into quarantine: {error}");
                for (event, _) in poison {
                    left.send_again(event, why.clone(), None, true);
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
