//! The state of one delivery: parts that are still to be sent, and events whose refusal is not proven yet.

use super::PendingEvent;
use super::circuit::{Circuit, Permit};

/// Events that are sent in one request.
pub(super) struct RequestPart {
    pub events: Vec<PendingEvent>,
    /// Sequence number of a refused request that consisted of these events and those of the next part.
    pub refused_together: Option<u64>,
}

/// An event that was refused alone, or by item.
pub(super) struct PendingRefusal {
    pub event: PendingEvent,
    pub reason: String,
    /// Other events were accepted in the same response, or in one that was sent after an earlier refusal of
    /// this event.
    pub proven: bool,
    /// The server responds for each event, so several can be sent again together.
    pub by_item: bool,
}

/// What one delivery still has to do.
pub(super) struct DeliveryWork {
    /// A stack: the last part is sent next.
    pub parts: Vec<RequestPart>,
    /// Refused events that may not be at fault.
    pub unproven: Vec<PendingRefusal>,
    /// The permit of a probe. The delivery keeps it to its end; no other request is sent meanwhile.
    pub permit: Option<Permit>,
}

impl RequestPart {
    pub(super) fn whole(events: Vec<PendingEvent>) -> RequestPart {
        RequestPart { events, refused_together: None }
    }
}

impl DeliveryWork {
    /// Keeps the permit of a probe after a refusal that does not open the circuit.
    pub(super) fn keep_probe(&mut self, permit: Permit) {
        self.permit = Some(permit).filter(Permit::is_probe);
    }

    /// All events of one half were accepted after both halves had been refused together. If the other half is
    /// a single event, that event is suspect.
    pub(super) fn suspect_other_half(&mut self, refused_together: Option<u64>) {
        if let (Some(refused), Some(other)) = (refused_together, self.parts.last_mut())
            && let [event] = &mut other.events[..]
        {
            event.note_refusal(refused);
        }
    }

    /// Whether all unproven refusals lack an accepted event that was sent after them.
    pub(super) fn awaits_proof(&self, circuit: &Circuit) -> bool {
        let is_proven = |refusal: &PendingRefusal| {
            circuit.accepted_recently() && refusal.event.first_refused < circuit.last_accepted()
        };
        !self.unproven.is_empty() && !self.unproven.iter().any(is_proven)
    }

    /// Sends proven refusals once more. The server may have recovered before it accepted the others; if they
    /// are refused again, they are poison.
    pub(super) fn requeue_proven(&mut self, circuit: &Circuit) {
        let (again, unproven): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unproven)
            .into_iter()
            .partition(|refusal| refusal.event.first_refused < circuit.last_accepted());
        self.unproven = unproven;
        let (by_item, alone): (Vec<_>, Vec<_>) = again.into_iter().partition(|refusal| refusal.by_item);
        let event = |refusal: PendingRefusal| refusal.event;
        let by_item: Vec<PendingEvent> = by_item.into_iter().map(event).collect();
        let alone = alone.into_iter().map(|refusal| vec![refusal.event]);
        let parts = [by_item].into_iter().chain(alone).map(RequestPart::whole);
        self.parts.extend(parts.filter(|part| !part.events.is_empty()));
    }

    pub(super) fn into_events(self) -> Vec<PendingEvent> {
        let unproven = self.unproven.into_iter().map(|refusal| refusal.event);
        let parts = self.parts.into_iter().rev().flat_map(|part| part.events);
        unproven.chain(parts).collect()
    }
}
