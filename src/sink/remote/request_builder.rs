//! Builds requests from the reader's batches without copying. A batch is final when the last of its events
//! is.

use super::Report;
use crate::config::BatchConfig;
use crate::record::EventId;
use crate::sink::{Batch, BatchEvent};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// Limit for copies of unproven refusals. Up to this size their buffers are returned to the reader, so they
/// hold up nothing. If more is refused in a row, the events are mostly not at fault, and reading pauses. As
/// large as one record can be.
const SPILLED_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One event. Its batch becomes final through [`PendingEvent::done`]; there is no other way.
pub(crate) struct PendingEvent {
    chunk: Rc<Chunk>,
    index: u32,
    /// Sequence number of its first refusal, alone or by item. 0: never refused.
    pub first_refused: u64,
}

struct Chunk {
    bytes: Vec<u8>,
    events: Vec<BatchEvent>,
    progress: Rc<BatchProgress>,
    /// Whether the buffer is returned to the reader.
    is_reader_buffer: bool,
    /// Set if the event arrived in several batches. While such an event is here, no more input is taken.
    long_event: Cell<Option<Rc<()>>>,
}

/// The events up to one numbered batch, with those of the unnumbered batches before it.
#[derive(Default)]
struct BatchProgress {
    number: Cell<Option<u64>>,
    pending: Cell<u64>,
    events: Cell<u64>,
}

impl PendingEvent {
    pub(crate) fn id(&self) -> EventId {
        self.entry().id
    }

    pub(crate) fn time_ms(&self) -> i64 {
        self.entry().time_ms
    }

    /// Whether it is an event of the agent itself, which always has an action of this kind.
    pub(crate) fn is_about_agent(&self) -> bool {
        self.entry().header_fields.action().starts_with("agent.")
    }

    /// The encoded event without its LF.
    pub(crate) fn bytes(&self) -> &[u8] {
        let at = self.index as usize;
        let from = at.checked_sub(1).map_or(0, |before| self.chunk.events[before].end);
        &self.chunk.bytes[from as usize..self.entry().end as usize - 1]
    }

    /// Stores the sequence number of the first refusal.
    pub(crate) fn note_refusal(&mut self, refused: u64) {
        if self.first_refused == 0 {
            self.first_refused = refused;
        }
    }

    /// Its id, time and header fields.
    pub(crate) fn entry(&self) -> &BatchEvent {
        &self.chunk.events[self.index as usize]
    }

    /// The event has its final outcome.
    pub(crate) fn done(self, report: &dyn Fn(Report)) {
        let progress = self.chunk.progress.clone();
        self.release(report);
        progress.pending.set(progress.pending.get() - 1);
        progress.report_if_final(report);
    }

    /// Copies the event, so that neither the reader nor the builder waits for its buffer.
    fn spill(self, report: &dyn Fn(Report)) -> PendingEvent {
        self.chunk.long_event.take();
        if !self.chunk.is_reader_buffer {
            return self;
        }
        let bytes = [self.bytes(), b"\n"].concat();
        let end = bytes.len() as u32;
        let chunk = Rc::new(Chunk {
            bytes,
            events: vec![BatchEvent { end, ..*self.entry() }],
            progress: self.chunk.progress.clone(),
            is_reader_buffer: false,
            long_event: Cell::default(),
        });
        let first_refused = self.first_refused;
        self.release(report);
        PendingEvent { chunk, index: 0, first_refused }
    }

    fn release(self, report: &dyn Fn(Report)) {
        if let Some(chunk) = Rc::into_inner(self.chunk)
            && chunk.is_reader_buffer
        {
            report(Report::Written(chunk.bytes));
        }
    }
}

impl BatchProgress {
    fn report_if_final(&self, report: &dyn Fn(Report)) {
        if let (0, Some(number)) = (self.pending.get(), self.number.get()) {
            report(Report::Final { number, events: self.events.get(), mark: None });
        }
    }
}

/// Events that wait to be sent.
#[derive(Default)]
struct Queue {
    events: VecDeque<PendingEvent>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, event: PendingEvent) {
        self.bytes += event.bytes().len() + 1;
        self.events.push_back(event);
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Removes as many events as the limits allow, at least one if there is any.
    fn take(&mut self, bytes_max: usize, events_max: usize) -> Vec<PendingEvent> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(event) = self.events.front() {
            let len = event.bytes().len() + 1;
            bytes += len;
            if !taken.is_empty() && (bytes > bytes_max || taken.len() >= events_max) {
                break;
            }
            self.bytes -= len;
            taken.extend(self.events.pop_front());
        }
        taken
    }
}

/// Collects the reader's batches and cuts them into requests.
pub(super) struct RequestBuilder {
    limits: BatchConfig,
    /// Not sent yet.
    queued: Queue,
    /// Refused while no other event was accepted.
    refused: Queue,
    /// Whether the next request is taken from `refused`.
    refused_next: bool,
    /// When the oldest event of `queued` arrived.
    oldest: Option<Instant>,
    /// The beginning of an event that continues in the next batch.
    partial: Vec<u8>,
    progress: Rc<BatchProgress>,
    /// The reader waits for its buffers: send without waiting for more events.
    flush_now: bool,
    /// Cloned by each event that arrived in several batches; see [`RequestBuilder::is_blocked`].
    long_events: Rc<()>,
}

impl RequestBuilder {
    pub(super) fn new(limits: BatchConfig) -> RequestBuilder {
        RequestBuilder {
            limits,
            queued: Queue::default(),
            refused: Queue::default(),
            refused_next: false,
            oldest: None,
            partial: Vec::new(),
            progress: Rc::default(),
            flush_now: false,
            long_events: Rc::default(),
        }
    }

    /// Sends what has arrived without waiting for more events.
    pub(super) fn flush(&mut self) {
        self.flush_now = true;
    }

    /// Adds the events of a batch.
    pub(super) fn push_batch(&mut self, batch: Batch, now: Instant, report: &dyn Fn(Report)) {
        let Batch { number, bytes, mut events, keep_output_position: _ } = batch;
        let progress = self.progress.clone();
        progress.pending.set(progress.pending.get() + events.len() as u64);
        progress.events.set(progress.events.get() + events.len() as u64);
        let whole = events.last().map_or(0, |event| event.end as usize);
        self.flush_now |= number.is_none();
        if self.partial.is_empty() && whole == bytes.len() {
            self.push(bytes, events, None, now, report);
        } else {
            // An event in several batches is copied: the reader waits for its buffers before it sends the
            // next part.
            let mut from = 0;
            if !self.partial.is_empty() && !events.is_empty() {
                let first = events.remove(0);
                from = first.end;
                self.partial.extend_from_slice(&bytes[..from as usize]);
                let long = std::mem::take(&mut self.partial);
                let end = long.len() as u32;
                let token = Some(self.long_events.clone());
                self.push(long, vec![BatchEvent { end, ..first }], token, now, report);
            }
            events.iter_mut().for_each(|event| event.end -= from);
            let between = bytes[from as usize..whole].to_vec();
            let token = Some(self.long_events.clone());
            self.push(between, events, token, now, report);
            self.partial.extend_from_slice(&bytes[whole..]);
            report(Report::Written(bytes));
        }
        if number.is_some() {
            progress.number.set(number);
            self.progress = Rc::default();
            progress.report_if_final(report);
        }
    }

    fn push(
        &mut self,
        bytes: Vec<u8>,
        events: Vec<BatchEvent>,
        long_event: Option<Rc<()>>,
        now: Instant,
        report: &dyn Fn(Report),
    ) {
        if events.is_empty() {
            if long_event.is_none() {
                report(Report::Written(bytes));
            }
            return;
        }
        self.oldest.get_or_insert(now);
        let (count, progress) = (events.len() as u32, self.progress.clone());
        let chunk = Rc::new(Chunk {
            bytes,
            events,
            progress,
            is_reader_buffer: long_event.is_none(),
            long_event: Cell::new(long_event),
        });
        for index in 0..count {
            let chunk = chunk.clone();
            self.queued.push(PendingEvent { chunk, index, first_refused: 0 });
        }
    }

    /// No more input follows.
    pub(super) fn finish_input(&mut self) {
        self.flush_now = true;
    }

    /// An event that arrived in several batches is in flight. Its memory is not counted elsewhere, so no more
    /// input is taken.
    pub(super) fn is_blocked(&self) -> bool {
        Rc::strong_count(&self.long_events) > 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.refused.is_empty()
    }

    /// When the next request is due if no more events arrive. `None` if there is nothing to send. `in_flight`:
    /// whether a request is in flight.
    pub(super) fn next_due(&self, refused_due: Instant, in_flight: bool) -> Option<Instant> {
        let full = self.queued.bytes >= self.limits.bytes || self.queued.events.len() >= self.limits.events;
        // If the builder is full or blocked, no more events arrive. Events that may prove refusals are sent
        // at once.
        let at_once = full || self.flush_now || self.is_blocked() || !self.refused.is_empty();
        let wait = match (at_once, self.limits.wait) {
            (true, _) => Duration::ZERO,
            (false, Some(wait)) => wait,
            (false, None) if in_flight => BatchConfig::BUSY_WAIT,
            (false, None) => Duration::ZERO,
        };
        let open = self.oldest.map(|oldest| oldest + wait);
        let refused = (!self.refused.is_empty()).then_some(refused_due);
        open.into_iter().chain(refused).min()
    }

    /// Whether only unproven refusals are left.
    pub(super) fn has_only_refused(&self) -> bool {
        self.queued.is_empty() && !self.refused.is_empty()
    }

    /// The events of the next request, at least one if there is any. `bytes_max`: the learned limit of the
    /// server. `refused`: whether unproven refusals may be sent.
    pub(super) fn next_request(&mut self, bytes_max: usize, refused: bool) -> Vec<PendingEvent> {
        // New and refused events take turns: a request with refused events only proves nothing.
        let refused = refused && !self.refused.is_empty() && (self.refused_next || self.queued.is_empty());
        self.refused_next = !refused;
        let queue = match refused {
            true => &mut self.refused,
            false => &mut self.queued,
        };
        let taken = queue.take(self.limits.bytes.min(bytes_max), self.limits.events);
        self.flush_now &= !self.queued.is_empty();
        if self.queued.is_empty() {
            self.oldest = None;
        }
        taken
    }

    /// Takes back unproven refusals. They wait for other events to be accepted and hold up none of them.
    pub(super) fn defer_refused(&mut self, events: Vec<PendingEvent>, report: &dyn Fn(Report)) {
        if events.is_empty() {
            return;
        }
        // Events that arrived after them are tried first.
        self.refused_next &= !self.refused.is_empty();
        for event in events {
            let event = match self.refused.bytes < SPILLED_BYTES_MAX {
                true => event.spill(report),
                false => event,
            };
            self.refused.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::HeaderFields;
    use proptest::prelude::*;
    use std::cell::RefCell;

    proptest! {
        /// However the batches are cut, each event comes out whole and in order. Each number is final exactly
        /// when all events before it and in it are.
        #[test]
        fn events_come_out_as_they_went_in(
            sizes in prop::collection::vec(0usize..40, 1..60),
            cuts in prop::collection::vec((1usize..80, any::<bool>()), 1..60),
            bytes_max in 1usize..200,
            events_max in 1usize..9,
        ) {
            let texts: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(at, &size)| {
                let mut text = format!("{at}:").into_bytes();
                text.resize(text.len() + size, b'x');
                text.push(b'\n');
                text
            }).collect();
            let all: Vec<u8> = texts.concat();
            let ends: Vec<usize> = texts.iter().scan(0, |sum, text| { *sum += text.len(); Some(*sum) }).collect();
            let limits = BatchConfig { bytes: bytes_max, events: events_max, wait: Some(Duration::ZERO) };
            let mut builder = RequestBuilder::new(limits);
            let reports = RefCell::new(Vec::new());
            let report = |r: Report| reports.borrow_mut().push(r);
            let (mut from, mut number, mut cut) = (0, 0, cuts.iter().cycle());
            let mut numbers = Vec::new();
            let now = Instant::now();
            while from < all.len() {
                let (len, numbered) = cut.next().unwrap();
                let mut to = (from + len).min(all.len());
                let numbered = *numbered || to == all.len();
                if numbered {
                    // A numbered batch ends with a whole event.
                    to = *ends.iter().find(|end| **end >= to).unwrap();
                }
                let events = ends.iter().enumerate().filter(|(_, end)| (from + 1..=to).contains(*end));
                let events: Vec<BatchEvent> = events
                    .map(|(at, end)| BatchEvent { end: (end - from) as u32, id: EventId(at as u128), time_ms: at as i64, header_fields: HeaderFields::default() })
                    .collect();
                let batch = Batch { number: numbered.then_some(number), bytes: all[from..to].to_vec(), events, keep_output_position: false };
                if numbered {
                    numbers.push((number, to));
                    number += 1;
                }
                builder.push_batch(batch, now, &report);
                from = to;
            }
            let (mut at, mut sent) = (0, 0);
            while !builder.is_empty() {
                prop_assert!(builder.next_due(now, false).is_some());
                let events = builder.next_request(usize::MAX, true);
                prop_assert!(!events.is_empty() && events.len() <= events_max);
                let bytes: usize = events.iter().map(|event| event.bytes().len() + 1).sum();
                prop_assert!(bytes <= bytes_max || events.len() == 1);
                for event in events {
                    prop_assert_eq!(event.bytes(), &texts[at][..texts[at].len() - 1]);
                    prop_assert_eq!((event.id().0, event.time_ms()), (at as u128, at as i64));
                    event.done(&report);
                    sent += texts[at].len();
                    at += 1;
                    let finals: Vec<u64> = reports.borrow().iter()
                        .filter_map(|r| match r { Report::Final { number, .. } => Some(*number), _ => None }).collect();
                    let expect: Vec<u64> = numbers.iter().filter(|(_, to)| *to <= sent).map(|(n, _)| *n).collect();
                    prop_assert_eq!(finals, expect);
                }
            }
            prop_assert_eq!(at, texts.len());
            prop_assert!(!builder.is_blocked());
            let (mut returned, mut counted) = (0, 0);
            for report in reports.into_inner() {
                match report {
                    Report::Written(bytes) => returned += bytes.len(),
                    Report::Final { events, .. } => counted += events,
                    _ => {}
                }
            }
            // All bytes that the reader counts as in flight are returned.
            prop_assert_eq!((returned, counted), (all.len(), texts.len() as u64));
        }
    }

    /// As before a long event: the events of the batch before it are final when the batch with the number comes.
    #[test]
    fn events_that_are_final_before_their_number_comes_are_counted() {
        let reports = RefCell::new(Vec::new());
        let report = |report: Report| {
            if let Report::Final { number, events, .. } = report {
                reports.borrow_mut().push((number, events));
            }
        };
        let (now, mut builder) = (Instant::now(), RequestBuilder::new(BatchConfig::default()));
        let event =
            |end, id| BatchEvent { end, id: EventId(id), time_ms: 0, header_fields: HeaderFields::default() };
        for (number, events) in [(None, vec![event(2, 1), event(4, 2)]), (Some(7), vec![event(2, 3)])] {
            let bytes = b"x\n".repeat(events.len());
            builder.push_batch(Batch { number, bytes, events, keep_output_position: false }, now, &report);
            builder.next_request(usize::MAX, true).into_iter().for_each(|event| event.done(&report));
        }
        assert_eq!(reports.into_inner(), [(7, 3)]);
    }

    #[test]
    fn unproven_refusals_hold_up_nothing_up_to_a_limit() {
        const MIB: usize = 1024 * 1024;
        let returned = Cell::new(0);
        let report = |report: Report| {
            if let Report::Written(bytes) = report {
                returned.set(returned.get() + bytes.len() / MIB);
            }
        };
        let (now, mut bytes) = (Instant::now(), vec![b'x'; MIB]);
        bytes[MIB - 1] = b'\n';
        let mut builder = RequestBuilder::new(BatchConfig::default());
        for number in 0..20 {
            let event = BatchEvent {
                end: MIB as u32,
                id: EventId(number),
                time_ms: 0,
                header_fields: HeaderFields::default(),
            };
            let batch = Batch {
                number: Some(number as u64),
                bytes: bytes.clone(),
                events: vec![event],
                keep_output_position: false,
            };
            builder.push_batch(batch, now, &report);
            // New and refused events take turns, so the new one is among the next two.
            let (first, second) =
                (builder.next_request(usize::MAX, true), builder.next_request(usize::MAX, true));
            assert!(first.iter().chain(&second).any(|event| event.id() == EventId(number)));
            let (again, new): (Vec<PendingEvent>, Vec<PendingEvent>) =
                first.into_iter().chain(second).partition(|event| event.id() < EventId(number));
            builder.defer_refused(again, &report);
            builder.defer_refused(new, &report);
        }
        assert_eq!(returned.get(), SPILLED_BYTES_MAX / MIB);
        while let Some(event) = builder.next_request(usize::MAX, true).pop() {
            event.done(&report);
        }
        assert_eq!(returned.get(), 20);
    }
}
