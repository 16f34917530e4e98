//! Events on their way to a server: batches from the reader are cut and joined into requests without a copy, and each
//! batch is final when the last of its events is.

use super::Report;
use crate::config::BatchConfig;
use crate::record::EventId;
use crate::sink::{Batch, Written};
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use tokio::time::Instant;

/// So much of what was refused without a witness holds up nothing: as much as one record may have. Where more is refused in a
/// row, it is mostly no fault of the events, and reading is to wait.
const APART_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One event. It is gone when its outcome is final, and not before: there is no other way than [`PendingEvent::done`].
pub struct PendingEvent {
    piece: Rc<Piece>,
    at: u32,
    /// When it was refused alone, or as good as alone, for the first time. 0: never.
    pub refused: u64,
}

struct Piece {
    bytes: Vec<u8>,
    events: Vec<Written>,
    group: Rc<Group>,
    /// Whether its memory goes back to the reader.
    of_reader: bool,
    /// Of an event that came in parts: nothing is taken in while it is here.
    long: Cell<Option<Rc<()>>>,
}

/// The events of one numbered batch, those of the unnumbered ones before it included.
#[derive(Default)]
struct Group {
    number: Cell<Option<u64>>,
    left: Cell<u64>,
    events: Cell<u64>,
}

impl PendingEvent {
    pub fn id(&self) -> EventId {
        self.written().id
    }

    pub fn time_ms(&self) -> i64 {
        self.written().time_ms
    }

    /// Without the LF at its end.
    pub fn bytes(&self) -> &[u8] {
        let at = self.at as usize;
        let from = at
            .checked_sub(1)
            .map_or(0, |before| self.piece.events[before].end);
        &self.piece.bytes[from as usize..self.written().end as usize - 1]
    }

    /// Keeps when it was first refused.
    pub fn note_refusal(&mut self, refused: u64) {
        if self.refused == 0 {
            self.refused = refused;
        }
    }

    fn written(&self) -> &Written {
        &self.piece.events[self.at as usize]
    }

    /// Its outcome is final.
    pub fn done(self, report: &dyn Fn(Report)) {
        let group = self.piece.group.clone();
        self.leave(report);
        group.left.set(group.left.get() - 1);
        group.settle(report);
    }

    /// The same event in memory for which neither the reader nor the intake waits.
    fn apart(self, report: &dyn Fn(Report)) -> PendingEvent {
        self.piece.long.take();
        if !self.piece.of_reader {
            return self;
        }
        let bytes = [self.bytes(), b"\n"].concat();
        let end = bytes.len() as u32;
        let piece = Rc::new(Piece {
            bytes,
            events: vec![Written {
                end,
                ..*self.written()
            }],
            group: self.piece.group.clone(),
            of_reader: false,
            long: Cell::default(),
        });
        let refused = self.refused;
        self.leave(report);
        PendingEvent {
            piece,
            at: 0,
            refused,
        }
    }

    fn leave(self, report: &dyn Fn(Report)) {
        if let Some(piece) = Rc::into_inner(self.piece)
            && piece.of_reader
        {
            report(Report::Written(piece.bytes));
        }
    }
}

impl Group {
    fn settle(&self, report: &dyn Fn(Report)) {
        if let (0, Some(number)) = (self.left.get(), self.number.get()) {
            report(Report::Final {
                number,
                events: self.events.get(),
                mark: None,
            });
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

    /// As many as these limits allow, at least one if there is any.
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

/// What has come in and is in no request.
pub struct RequestBuilder {
    limits: BatchConfig,
    /// In no request yet.
    open: Queue,
    /// Were refused while nothing proved that others are taken.
    refused: Queue,
    /// Whether the next request is one of `refused`.
    refused_next: bool,
    /// When the first of `open` came in.
    since: Option<Instant>,
    /// The beginning of an event that goes on.
    carry: Vec<u8>,
    group: Rc<Group>,
    /// The reader waits for room: do not wait for more events.
    hurry: bool,
    long: Rc<()>,
}

impl RequestBuilder {
    pub fn new(limits: BatchConfig) -> RequestBuilder {
        RequestBuilder {
            limits,
            open: Queue::default(),
            refused: Queue::default(),
            refused_next: false,
            since: None,
            carry: Vec::new(),
            group: Rc::default(),
            hurry: false,
            long: Rc::default(),
        }
    }

    pub fn add(&mut self, batch: Batch, now: Instant, report: &dyn Fn(Report)) {
        let Batch {
            number,
            bytes,
            mut events,
            behind: _,
        } = batch;
        let group = self.group.clone();
        group.left.set(group.left.get() + events.len() as u64);
        group.events.set(group.left.get());
        let whole = events.last().map_or(0, |event| event.end as usize);
        self.hurry |= number.is_none();
        if self.carry.is_empty() && whole == bytes.len() {
            self.push(bytes, events, None, now, report);
        } else {
            // An event in parts: the reader's buffers go back at once, for it waits for them.
            let mut from = 0;
            if !self.carry.is_empty() && !events.is_empty() {
                let first = events.remove(0);
                from = first.end;
                self.carry.extend_from_slice(&bytes[..from as usize]);
                let long = std::mem::take(&mut self.carry);
                let end = long.len() as u32;
                let token = Some(self.long.clone());
                self.push(long, vec![Written { end, ..first }], token, now, report);
            }
            events.iter_mut().for_each(|event| event.end -= from);
            let between = bytes[from as usize..whole].to_vec();
            let token = Some(self.long.clone());
            self.push(between, events, token, now, report);
            self.carry.extend_from_slice(&bytes[whole..]);
            report(Report::Written(bytes));
        }
        if number.is_some() {
            group.number.set(number);
            self.group = Rc::default();
            group.settle(report);
        }
    }

    fn push(
        &mut self,
        bytes: Vec<u8>,
        events: Vec<Written>,
        long: Option<Rc<()>>,
        now: Instant,
        report: &dyn Fn(Report),
    ) {
        if events.is_empty() {
            if long.is_none() {
                report(Report::Written(bytes));
            }
            return;
        }
        self.since.get_or_insert(now);
        let (count, group) = (events.len() as u32, self.group.clone());
        let piece = Rc::new(Piece {
            bytes,
            events,
            group,
            of_reader: long.is_none(),
            long: Cell::new(long),
        });
        for at in 0..count {
            let piece = piece.clone();
            self.open.push(PendingEvent {
                piece,
                at,
                refused: 0,
            });
        }
    }

    /// Nothing more comes to wait for.
    pub fn end(&mut self) {
        self.hurry = true;
    }

    /// An event that came in parts is on its way: its memory is counted nowhere else, so no more is to be taken in.
    pub fn is_full(&self) -> bool {
        Rc::strong_count(&self.long) > 1
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.refused.is_empty()
    }

    /// When a request is due, if no more comes in. `None` if there is nothing to send.
    pub fn due(&self, refused_due: Instant) -> Option<Instant> {
        let full = self.open.bytes >= self.limits.bytes || self.open.events.len() >= self.limits.events;
        // While it is full nothing comes to wait for. What may prove that refused events are at fault is worth to be sent at once.
        let open = self.since.map(|since| {
            if full || self.hurry || self.is_full() || !self.refused.is_empty() {
                since
            } else {
                since + self.limits.wait
            }
        });
        let refused = (!self.refused.is_empty()).then_some(refused_due);
        open.into_iter().chain(refused).min()
    }

    /// Whether nothing waits but what was refused.
    pub fn has_only_refused(&self) -> bool {
        self.open.is_empty() && !self.refused.is_empty()
    }

    /// A request's worth of events, at least one if there is any. `bytes_max` where a server takes less than was configured.
    /// `refused`: whether it may be of those that were refused.
    pub fn take(&mut self, bytes_max: usize, refused: bool) -> Vec<PendingEvent> {
        // They take turns: a request full of events that are refused proves nothing, however often it is sent.
        let refused = refused && !self.refused.is_empty() && (self.refused_next || self.open.is_empty());
        self.refused_next = !refused;
        let queue = match refused {
            true => &mut self.refused,
            false => &mut self.open,
        };
        let taken = queue.take(self.limits.bytes.min(bytes_max), self.limits.events);
        self.hurry &= !self.open.is_empty();
        if self.open.is_empty() {
            self.since = None;
        }
        taken
    }

    /// Events that were refused and may not be at fault. They wait for others to be taken, and hold up none of them.
    pub fn put_back(&mut self, events: Vec<PendingEvent>, report: &dyn Fn(Report)) {
        if events.is_empty() {
            return;
        }
        // What comes after them is tried first.
        self.refused_next &= !self.refused.is_empty();
        for event in events {
            let event = match self.refused.bytes < APART_BYTES_MAX {
                true => event.apart(report),
                false => event,
            };
            self.refused.push(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::RefCell;
    use std::time::Duration;

    proptest! {
        /// Whatever way batches are cut, each event comes out whole and in order, and each number is final exactly when all
        /// before and in it is.
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
            let limits = BatchConfig { bytes: bytes_max, events: events_max, wait: Duration::ZERO };
            let mut intake = RequestBuilder::new(limits);
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
                    // A numbered batch ends with an event.
                    to = *ends.iter().find(|end| **end >= to).unwrap();
                }
                let events = ends.iter().enumerate().filter(|(_, end)| (from + 1..=to).contains(*end));
                let events: Vec<Written> = events
                    .map(|(at, end)| Written { end: (end - from) as u32, id: EventId(at as u128), time_ms: at as i64 })
                    .collect();
                let batch = Batch { number: numbered.then_some(number), bytes: all[from..to].to_vec(), events, behind: false };
                if numbered {
                    numbers.push((number, to));
                    number += 1;
                }
                intake.add(batch, now, &report);
                from = to;
            }
            let (mut at, mut sent) = (0, 0);
            while !intake.is_empty() {
                prop_assert!(intake.due(now).is_some());
                let events = intake.take(usize::MAX, true);
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
            prop_assert!(!intake.is_full());
            let (mut returned, mut counted) = (0, 0);
            for report in reports.into_inner() {
                match report {
                    Report::Written(bytes) => returned += bytes.len(),
                    Report::Final { events, .. } => counted += events,
                    _ => {}
                }
            }
            // What the reader counts as on its way comes back to the byte.
            prop_assert_eq!((returned, counted), (all.len(), texts.len() as u64));
        }
    }

    #[test]
    fn refused_events_hold_up_nothing_unless_they_are_too_many() {
        const MIB: usize = 1024 * 1024;
        let returned = Cell::new(0);
        let report = |report: Report| {
            if let Report::Written(bytes) = report {
                returned.set(returned.get() + bytes.len() / MIB);
            }
        };
        let (now, mut bytes) = (Instant::now(), vec![b'x'; MIB]);
        bytes[MIB - 1] = b'\n';
        let mut intake = RequestBuilder::new(BatchConfig::default());
        for number in 0..20 {
            let event = Written {
                end: MIB as u32,
                id: EventId(number),
                time_ms: 0,
            };
            let batch = Batch {
                number: Some(number as u64),
                bytes: bytes.clone(),
                events: vec![event],
                behind: false,
            };
            intake.add(batch, now, &report);
            // They take turns, so it is among the next two.
            let (first, second) = (intake.take(usize::MAX, true), intake.take(usize::MAX, true));
            assert!(
                first
                    .iter()
                    .chain(&second)
                    .any(|event| event.id() == EventId(number))
            );
            let (again, new): (Vec<PendingEvent>, Vec<PendingEvent>) = first
                .into_iter()
                .chain(second)
                .partition(|event| event.id() < EventId(number));
            intake.put_back(again, &report);
            intake.put_back(new, &report);
        }
        assert_eq!(returned.get(), APART_BYTES_MAX / MIB);
        while let Some(event) = intake.take(usize::MAX, true).pop() {
            event.done(&report);
        }
        assert_eq!(returned.get(), 20);
    }
}
