//! What all sinks that reach a server have in common: batches, retries, poison events. A sink of its own is a [`Peer`]: it
//! sends events in one request and says what became of each.

mod circuit;
mod deliver;
mod request_builder;
#[cfg(test)]
mod tests;
mod work;

pub use circuit::REFUSED_IN_A_ROW_MAX;
pub use request_builder::PendingEvent;

use super::answer::Answer;
use super::{Message, Report, SinkError};
use crate::config::{BatchConfig, OnPoison};
use crate::record::EventId;
use crate::telemetry::heartbeat;
use circuit::Circuit;
use deliver::Delivery;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use request_builder::RequestBuilder;
use std::cell::Cell;
use std::io;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// A server, and how it is spoken to.
pub trait Peer {
    /// Sends these events in one request.
    fn send(&self, events: &[PendingEvent]) -> impl Future<Output = Answer>;

    /// Whether something by which it was refused is another now: credentials, certificates.
    fn changed(&self) -> bool;
}

/// How a sink of one source works.
#[derive(Clone, Debug)]
pub struct Settings {
    pub sink: String,
    pub source: String,
    pub batch: BatchConfig,
    /// Requests on their way at once.
    pub concurrency: usize,
    pub on_poison: OnPoison,
    /// Do not wait for a server for ever.
    pub once: bool,
    /// A refusal is the event's own fault although no other event was taken: for events that are kept anyway.
    pub refusals_believed: bool,
}

/// An event that a server refuses.
#[derive(Debug)]
pub struct Refused {
    pub id: EventId,
    pub time_ms: i64,
    pub reason: String,
    /// As it was sent, without a line end.
    pub event: Vec<u8>,
}

/// Keeps refused events safe, or says why it cannot.
pub type Quarantine<'a> = &'a dyn Fn(&[Refused]) -> io::Result<()>;

/// However small the requests are that a server takes: smaller ones than this are found by halving each time.
pub const BYTES_MIN: usize = 16 * 1024;

/// A request of so many bytes was refused as too large, so the next ones are half as large at most. Returns whether that is new.
pub fn lower(bytes_max: &Cell<usize>, refused_bytes: usize) -> bool {
    let limit = (refused_bytes / 2).max(BYTES_MIN);
    limit < bytes_max.replace(limit.min(bytes_max.get()))
}

/// Delivers until told to end and everything is delivered.
pub async fn run<P: Peer>(
    peer: P,
    settings: Settings,
    mut messages: UnboundedReceiver<Message>,
    report: &dyn Fn(Report),
    quarantine: Quarantine<'_>,
) -> Result<(), SinkError> {
    let circuit = Circuit::default();
    let delivery = Delivery {
        peer: &peer,
        circuit: &circuit,
        settings: &settings,
        bytes_max: Cell::new(usize::MAX),
        sending: Cell::default(),
        sent: Notify::default(),
        report,
        quarantine,
    };
    let mut intake = RequestBuilder::new(settings.batch);
    let mut requests = FuturesUnordered::new();
    let mut ended = false;
    loop {
        let now = Instant::now();
        // While the server fails nothing new is begun, but by the one request that tries.
        let free = match circuit.is_open() {
            true => requests.is_empty(),
            false => requests.len() < settings.concurrency,
        };
        let changed = free && circuit.is_slow() && peer.changed();
        if changed {
            circuit.clear_doubt();
        }
        let refused_due = circuit.doubt().unwrap_or(now);
        let due = intake.due(refused_due);
        let due = due.map(|due| due.max(now + circuit.waits().unwrap_or_default()));
        if free && due.is_some_and(|due| due <= now || changed) {
            let events = intake.take(delivery.bytes_max.get(), refused_due <= now);
            if !events.is_empty() {
                requests.push(delivery.deliver(events));
                continue;
            }
        }
        // Nothing comes any more that could prove it.
        if settings.once
            && ended
            && requests.is_empty()
            && intake.has_only_refused()
            && let Some(reason) = circuit.doubt_why()
        {
            return Err(SinkError::GaveUp { reason });
        }
        if ended && intake.is_empty() && requests.is_empty() {
            return Ok(());
        }
        let wake = due.filter(|_| free).map(|due| match circuit.is_slow() {
            true => due.min(now + circuit::LOOK),
            false => due,
        });
        heartbeat::waiting();
        tokio::select! {
            biased;
            Some(done) = requests.next(), if !requests.is_empty() => intake.put_back(done?, report),
            message = messages.recv(), if !ended && !intake.is_full() => {
                heartbeat::working();
                match message {
                    Some(Message::Batch(batch)) => intake.add(batch, Instant::now(), report),
                    Some(Message::Synced(_) | Message::Committed { .. }) => {}
                    Some(Message::End) | None => {
                        ended = true;
                        intake.end();
                    }
                }
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
}
