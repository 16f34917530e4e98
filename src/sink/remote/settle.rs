//! Applies the outcome of a request to its events: final, in quarantine, or to be sent again.

use super::circuit::Circuit;
use super::work::PendingRefusal;
use super::{DeliverySettings, PendingEvent, Quarantine, Refused, Report, SinkError};
use crate::config::OnPoison;
use crate::sink::outcome::Outcome;
use std::cell::Cell;
use std::time::Duration;
use tokio::sync::Notify;

/// What the requests of one sink of one source share.
pub(super) struct Delivery<'a, P> {
    pub destination: &'a P,
    pub circuit: &'a Circuit,
    pub settings: &'a DeliverySettings,
    /// Request size learned from requests that were refused as too large.
    pub bytes_max: Cell<usize>,
    /// Number of deliveries that still have something to send.
    pub active: Cell<usize>,
    /// Notified when one of them has sent everything.
    pub idle_notify: Notify,
    pub report: &'a dyn Fn(Report),
    pub quarantine: Quarantine<'a>,
}

/// Why events have to be sent again.
pub(super) struct RetryReason {
    pub reason: String,
    pub after: Option<Duration>,
    /// The operator has to act.
    pub operator_needed: bool,
}

/// Sequence numbers of a request, as counted by the circuit.
pub(super) struct RequestSequence {
    /// Of the latest request with accepted events, when this request began.
    pub accepted_before: u64,
    pub begun: u64,
    pub sent: u64,
}

/// Events of a response without a final outcome.
#[derive(Default)]
pub(super) struct UnsettledEvents {
    /// Number of events that the server has now.
    pub accepted: usize,
    /// Number of those that show that it accepts audit events: the agent's own events have another form.
    pub proofs: usize,
    pub retry: Vec<PendingEvent>,
    pub fault: Option<RetryReason>,
    pub refused: Vec<PendingRefusal>,
    pub too_large: Vec<PendingRefusal>,
}

impl<P> Delivery<'_, P> {
    /// Applies the outcome of each event. `by_item`: the server has responded for each event.
    pub(super) fn settle(
        &self,
        events: Vec<PendingEvent>,
        outcomes: Vec<Outcome>,
        sequence: &RequestSequence,
        by_item: bool,
    ) -> UnsettledEvents {
        let is_there = |outcome: &&Outcome| matches!(outcome, Outcome::Delivered | Outcome::Duplicate);
        let mut unsettled = UnsettledEvents {
            accepted: outcomes.iter().filter(is_there).count(),
            ..UnsettledEvents::default()
        };
        let there = events.iter().zip(&outcomes).filter(|(_, outcome)| is_there(outcome));
        unsettled.proofs = there.filter(|(event, _)| !event.is_about_agent()).count();
        self.circuit.on_accepted(unsettled.proofs, sequence.sent);
        // Events that were accepted in the same response count as sent after the refusal.
        let refused = match unsettled.proofs {
            0 => self.circuit.next_sequence(),
            _ => sequence.begun,
        };
        let is_proven = unsettled.proofs > 0;
        let refusal = |mut event: PendingEvent, reason| {
            let proven = is_proven || (1..sequence.accepted_before).contains(&event.first_refused);
            event.note_refusal(refused);
            PendingRefusal { event, reason, proven, by_item }
        };
        let delivered = events.iter().zip(&outcomes).filter(|(_, outcome)| is_there(outcome));
        let times: Vec<i64> = delivered.map(|(event, _)| event.time_ms()).collect();
        if !times.is_empty() {
            (self.report)(Report::Acknowledged(times));
        }
        for (event, outcome) in events.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered | Outcome::Duplicate => event.done(self.report),
                Outcome::Retry { reason, after } => unsettled.push_retry(event, reason, after, false),
                Outcome::Misconfigured { reason } => unsettled.push_retry(event, reason, None, true),
                Outcome::Poison { reason } => unsettled.refused.push(refusal(event, reason)),
                Outcome::TooLarge { reason } => unsettled.too_large.push(refusal(event, reason)),
            }
        }
        unsettled
    }

    /// Puts poison events into quarantine, or stops the sink. Returns the events whose refusal is not proven.
    pub(super) fn quarantine_poison(
        &self,
        unsettled: &mut UnsettledEvents,
    ) -> Result<Vec<PendingRefusal>, SinkError> {
        let (mut poison, unproven): (Vec<_>, Vec<_>) =
            std::mem::take(&mut unsettled.refused).into_iter().partition(|refusal| {
                self.settings.quarantine_unproven || refusal.proven && self.circuit.spend_poison_budget()
            });
        // No server accepts these.
        poison.append(&mut unsettled.too_large);
        let Some(PendingRefusal { event, reason, .. }) = poison.first() else {
            return Ok(unproven);
        };
        let (id, sink, count) = (event.id(), &self.settings.sink, poison.len());
        if self.settings.on_poison == OnPoison::Stop {
            return Err(SinkError::Poison { id, reason: reason.clone() });
        }
        let refused: Vec<Refused> = poison
            .iter()
            .map(|PendingRefusal { event, reason, .. }| Refused {
                id: event.id(),
                time_ms: event.time_ms(),
                header_fields: event.entry().header_fields,
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
                    "events were refused and are in quarantine; see `confluence-audit-agent quarantine list`"
                );
                (self.report)(Report::Quarantined(refused.iter().map(|refused| refused.id).collect()));
                poison.into_iter().for_each(|refusal| refusal.event.done(self.report));
            }
            Err(error) => {
                let reason = format!("refused events cannot be written to the quarantine: {error}");
                for refusal in poison {
                    unsettled.push_retry(refusal.event, reason.clone(), None, true);
                }
            }
        }
        Ok(unproven)
    }
}

impl UnsettledEvents {
    fn push_retry(
        &mut self,
        event: PendingEvent,
        reason: String,
        after: Option<Duration>,
        operator_needed: bool,
    ) {
        self.retry.push(event);
        match &mut self.fault {
            Some(fault) => {
                fault.after = fault.after.max(after);
                // A transient fault is retried soon, and the other events with it.
                fault.operator_needed &= operator_needed;
            }
            none => *none = Some(RetryReason { reason, after, operator_needed }),
        }
    }
}
