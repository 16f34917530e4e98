//! The common part of all sinks that deliver to a server: batching, retries and poison events. Each sink
//! implements [`Destination`], which sends events in one request and returns their outcomes.
//!
//! A server may refuse an event although the event is not at fault, for example with a wrong index. So a refusal is
//! *proven* only if other events were accepted in the same response, or in a later request. An event whose refusal is
//! proven is *poison*: it goes to the quarantine. An *unproven* refusal is deferred and sent again. A refused request
//! of several events is halved until the refused event is alone. If refusals stay unproven the *circuit* opens: only
//! one *probe* request at a time is sent.

mod circuit;
mod deliver;
mod request_builder;
mod settle;
#[cfg(test)]
mod tests;
mod work;

pub(crate) use circuit::REFUSED_IN_A_ROW_MAX;
pub(crate) use request_builder::PendingEvent;

use super::outcome::RequestOutcome;
use super::{HeaderFields, Message, Report, SinkError};
use crate::config::{BatchConfig, OnPoison};
use crate::record::EventId;
use crate::telemetry::heartbeat;
use circuit::Circuit;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use request_builder::RequestBuilder;
use settle::Delivery;
use std::cell::Cell;
use std::io;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until};

/// A server and the protocol to talk to it.
pub(crate) trait Destination {
    /// Sends these events in one request.
    fn send(&self, events: &[PendingEvent]) -> impl Future<Output = RequestOutcome>;

    /// Whether credentials or certificates have changed since they were refused.
    fn credentials_changed(&self) -> bool;
}

/// How one sink delivers the events of one source.
#[derive(Clone, Debug)]
pub struct DeliverySettings {
    pub sink: String,
    pub source: String,
    pub batch: BatchConfig,
    /// Maximum number of requests in flight.
    pub concurrency: usize,
    pub on_poison: OnPoison,
    /// `--once`: give up after repeated failures instead of waiting for the server.
    pub once: bool,
    /// Treat each refusal as a poison event, even if no other event was accepted. For events that are stored
    /// in the quarantine already.
    pub quarantine_unproven: bool,
}

/// An event that a server refuses.
#[derive(Debug)]
pub struct Refused {
    pub id: EventId,
    pub time_ms: i64,
    pub header_fields: HeaderFields,
    pub reason: String,
    /// The encoded event, without its LF.
    pub event: Vec<u8>,
}

/// Writes refused events to the quarantine.
pub(crate) type Quarantine<'a> = &'a dyn Fn(&[Refused]) -> io::Result<()>;

/// Lower bound of the learned request size. Smaller limits are found by halving each time.
pub(crate) const REQUEST_BYTES_MIN: usize = 16 * 1024;

/// Lowers the request size after a request was refused as too large: the next ones have half of that size at
/// most. Returns whether the limit has changed.
pub(crate) fn lower_limit(bytes_max: &Cell<usize>, refused_bytes: usize) -> bool {
    let limit = (refused_bytes / 2).max(REQUEST_BYTES_MIN);
    limit < bytes_max.replace(limit.min(bytes_max.get()))
}

/// Delivers until [`Message::End`] has arrived and everything before it is delivered.
pub(crate) async fn run<P: Destination>(
    destination: P,
    settings: DeliverySettings,
    mut messages: UnboundedReceiver<Message>,
    report: &dyn Fn(Report),
    quarantine: Quarantine<'_>,
) -> Result<(), SinkError> {
    let circuit = Circuit::default();
    let delivery = Delivery {
        destination: &destination,
        circuit: &circuit,
        settings: &settings,
        bytes_max: Cell::new(usize::MAX),
        active: Cell::default(),
        idle_notify: Notify::default(),
        report,
        quarantine,
    };
    let mut builder = RequestBuilder::new(settings.batch);
    let mut requests = FuturesUnordered::new();
    let mut ended = false;
    loop {
        let now = Instant::now();
        // While the circuit is open, only the probe request is in flight.
        let has_capacity = match circuit.is_open() {
            true => requests.is_empty(),
            false => requests.len() < settings.concurrency,
        };
        let credentials_changed =
            has_capacity && circuit.needs_operator() && destination.credentials_changed();
        if credentials_changed {
            circuit.clear_unproven_delay();
        }
        let refused_due = circuit.unproven_due().unwrap_or(now);
        let due = builder.next_due(refused_due, !requests.is_empty());
        let due = due.map(|due| due.max(now + circuit.remaining_pause().unwrap_or_default()));
        if has_capacity && due.is_some_and(|due| due <= now || credentials_changed) {
            let events = builder.next_request(delivery.bytes_max.get(), refused_due <= now);
            if !events.is_empty() {
                requests.push(delivery.deliver(events));
                continue;
            }
        }
        // No more events follow that could prove the refused ones to be poison.
        if settings.once
            && ended
            && requests.is_empty()
            && builder.has_only_refused()
            && let Some(reason) = circuit.unproven_reason()
        {
            return Err(SinkError::GaveUp { reason });
        }
        if ended && builder.is_empty() && requests.is_empty() {
            return Ok(());
        }
        let wake = due.filter(|_| has_capacity).map(|due| match circuit.needs_operator() {
            true => due.min(now + circuit::CREDENTIAL_CHECK_INTERVAL),
            false => due,
        });
        heartbeat::waiting();
        tokio::select! {
            biased;
            Some(done) = requests.next(), if !requests.is_empty() => builder.defer_refused(done?, report),
            message = messages.recv(), if !ended && !builder.is_blocked() => {
                heartbeat::working();
                match message {
                    Some(Message::Batch(batch)) => builder.push_batch(batch, Instant::now(), report),
                    Some(Message::Flush) => builder.flush(),
                    Some(Message::Synced(_) | Message::Committed { .. }) => {}
                    Some(Message::End) | None => {
                        ended = true;
                        builder.finish_input();
                    }
                }
            }
            () = sleep_until(wake.unwrap_or(now)), if wake.is_some() => {}
        }
    }
}
