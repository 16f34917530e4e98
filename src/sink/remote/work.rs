//! What one delivery has still to do: parts to be sent, and events whose refusal is not proven yet.

use super::PendingEvent;
use super::circuit::{Circuit, Permit};

/// Events that are sent in one request.
pub struct RequestPart {
    pub events: Vec<PendingEvent>,
    /// When a request was refused that held these events and those of the next part, and no others.
    pub halved: Option<u64>,
}

/// An event that was refused alone, or by its name.
pub struct Refusal {
    pub event: PendingEvent,
    pub reason: String,
    /// In the answer to this request others were taken, or they were in one that was sent after an earlier refusal.
    pub proven: bool,
    /// The server answers for each event: several may be sent again together.
    pub named: bool,
}

/// What one delivery has still to do.
pub struct DeliveryWork {
    /// The last one is sent next.
    pub parts: Vec<RequestPart>,
    /// Refused, and nothing proves yet that it is their own fault.
    pub unproven: Vec<Refusal>,
    /// Of a request that tries while the server fails: it goes on to its end, and nobody else sends meanwhile.
    pub permit: Option<Permit>,
}

impl RequestPart {
    pub fn whole(events: Vec<PendingEvent>) -> RequestPart {
        RequestPart { events, halved: None }
    }
}

impl DeliveryWork {
    /// After a refusal that may be no fault of the events. Whoever tries alone goes on alone.
    pub fn keep(&mut self, permit: Permit) {
        self.permit = Some(permit).filter(Permit::is_probe);
    }

    /// All of one half were taken after both halves together had been refused: where the other half is one event, it is at fault.
    pub fn accuse_other_half(&mut self, halved: Option<u64>) {
        if let (Some(refused), Some(other)) = (halved, self.parts.last_mut())
            && let [event] = &mut other.events[..]
        {
            event.note_refusal(refused);
        }
    }

    /// Whether some were refused, and none was taken that was sent after that.
    pub fn wants_proof(&self, circuit: &Circuit) -> bool {
        let is_proven =
            |refusal: &Refusal| circuit.accepted_recently() && refusal.event.refused < circuit.taken();
        !self.unproven.is_empty() && !self.unproven.iter().any(is_proven)
    }

    /// Refused once more, they are at fault: the server may have been well again when it took the others.
    pub fn send_proven_again(&mut self, circuit: &Circuit) {
        let (again, unproven): (Vec<_>, Vec<_>) = std::mem::take(&mut self.unproven)
            .into_iter()
            .partition(|refusal| refusal.event.refused < circuit.taken());
        self.unproven = unproven;
        let (named, alone): (Vec<_>, Vec<_>) = again.into_iter().partition(|refusal| refusal.named);
        let event = |refusal: Refusal| refusal.event;
        let named: Vec<PendingEvent> = named.into_iter().map(event).collect();
        let alone = alone.into_iter().map(|refusal| vec![refusal.event]);
        let parts = [named].into_iter().chain(alone).map(RequestPart::whole);
        self.parts.extend(parts.filter(|part| !part.events.is_empty()));
    }

    pub fn into_events(self) -> Vec<PendingEvent> {
        let unproven = self.unproven.into_iter().map(|refusal| refusal.event);
        let parts = self.parts.into_iter().rev().flat_map(|part| part.events);
        unproven.chain(parts).collect()
    }
}
