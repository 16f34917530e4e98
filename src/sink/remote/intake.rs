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

/// One event. It is gone when its outcome is final, and not before: there is no other way than [`Event::done`].
pub struct Event {
    piece: Rc<Piece>,
    at: u32,
}

struct Piece {
    bytes: Vec<u8>,
    events: Vec<Written>,
    group: Rc<Group>,
    /// Came in parts: its memory is not the reader's.
    long: Option<Rc<()>>,
}

/// The events of one numbered batch, those of the unnumbered ones before it included.
#[derive(Default)]
struct Group {
    number: Cell<Option<u64>>,
    left: Cell<u64>,
    events: Cell<u64>,
}

impl Event {
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

    fn written(&self) -> &Written {
        &self.piece.events[self.at as usize]
    }

    /// Its outcome is final.
    pub fn done(self, report: &dyn Fn(Report)) {
        let group = self.piece.group.clone();
        if let Some(piece) = Rc::into_inner(self.piece)
            && piece.long.is_none()
        {
            report(Report::Written(piece.bytes));
        }
        group.left.set(group.left.get() - 1);
        group.settle(report);
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

/// What has come in and is in no request yet.
pub struct Intake {
    limits: BatchConfig,
    open: VecDeque<Event>,
    open_bytes: usize,
    /// When the first of the open events came in.
    since: Option<Instant>,
    /// The beginning of an event that goes on.
    carry: Vec<u8>,
    group: Rc<Group>,
    /// The reader waits for room: do not wait for more events.
    hurry: bool,
    long: Rc<()>,
}

impl Intake {
    pub fn new(limits: BatchConfig) -> Intake {
        Intake {
            limits,
            open: VecDeque::new(),
            open_bytes: 0,
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
        self.open_bytes += bytes.len();
        let (count, group) = (events.len() as u32, self.group.clone());
        let piece = Rc::new(Piece {
            bytes,
            events,
            group,
            long,
        });
        self.open.extend((0..count).map(|at| Event {
            piece: piece.clone(),
            at,
        }));
    }

    /// An event that came in parts is on its way: its memory is counted nowhere else, so no more is to be taken in.
    pub fn is_full(&self) -> bool {
        Rc::strong_count(&self.long) > 1
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// When a request is due, if no more comes in. `None` if there is nothing to send.
    pub fn due(&self) -> Option<Instant> {
        let since = self.since?;
        let full = self.open_bytes >= self.limits.bytes || self.open.len() >= self.limits.events;
        Some(if full || self.hurry {
            since
        } else {
            since + self.limits.wait
        })
    }

    /// A request's worth of events, at least one if there is any. `bytes_max` where a server takes less than was configured.
    pub fn take(&mut self, bytes_max: usize) -> Vec<Event> {
        let bytes_max = self.limits.bytes.min(bytes_max);
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(event) = self.open.front() {
            bytes += event.bytes().len() + 1;
            if !taken.is_empty() && (bytes > bytes_max || taken.len() >= self.limits.events) {
                break;
            }
            self.open_bytes -= event.bytes().len() + 1;
            taken.extend(self.open.pop_front());
        }
        if self.open.is_empty() {
            (self.since, self.hurry) = (None, false);
        }
        taken
    }

    /// Events that are to be sent again, together with what comes.
    pub fn put_back(&mut self, events: Vec<Event>, now: Instant) {
        self.since.get_or_insert(now);
        for event in events.into_iter().rev() {
            self.open_bytes += event.bytes().len() + 1;
            self.open.push_front(event);
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
            let mut intake = Intake::new(limits);
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
                prop_assert!(intake.due().is_some());
                let events = intake.take(usize::MAX);
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
}
