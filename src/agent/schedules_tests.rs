//! The protocol between reader, sinks and commit thread under schedules that a test chooses: shuttle runs one thread at
//! a time and picks the next one at each lock, channel and condition. No wait times out, so that a lost wake-up is a
//! deadlock, which it reports.
//!
//! The files are those of the agent, compiled once more with the locks and channels of shuttle. A failure prints the
//! schedule; `shuttle::replay` repeats it. `SCHEDULES=…` is the number of schedules of each test.

mod sync {
    pub(super) use shuttle::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
}

#[allow(clippy::duplicate_mod, unreachable_pub, dead_code, reason = "the file is that of the agent")]
#[path = "commit.rs"]
mod commit;
#[allow(clippy::duplicate_mod, unreachable_pub, dead_code, reason = "the file is that of the agent")]
#[path = "flow_control.rs"]
mod flow_control;
#[allow(clippy::duplicate_mod, unreachable_pub, dead_code, reason = "the file is that of the agent")]
#[path = "unfinished.rs"]
mod unfinished;

use super::health;
use crate::clock;
use crate::ledger::SharedLedger;
use crate::metrics::StateMetrics;
use crate::position::{LedgerPosition, Progress, SinkMark};
use crate::sink::{Inbox, Message};
use commit::{CommitMessage, NewBatch, Settings, SourceProgress};
use flow_control::FlowControl;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::thread;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use sync::Mutex;
use sync::mpsc::{Receiver, Sender, channel};
use unfinished::Unfinished;

const BATCHES: u64 = 4;
const SINKS: usize = 2;
const BATCH_BYTES: usize = 8;
/// A debug build needs more than the 32 KiB that shuttle gives a thread.
const STACK_BYTES: usize = 1024 * 1024;
/// One batch for both sinks, and no second one before one of them has written it.
const IN_FLIGHT_BYTES_MAX: usize = 2 * BATCH_BYTES;

/// Half of the schedules are random; the other half changes the priority of a thread at few points, which finds faults
/// that need a certain order.
fn check(test: fn()) {
    let schedules = std::env::var("SCHEDULES").map_or(3_000, |text| text.parse().expect("a number"));
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    shuttle::Runner::new(RandomScheduler::new(schedules / 2), config.clone()).run(test);
    shuttle::Runner::new(PctScheduler::new(3, schedules / 2), config).run(test);
}

fn far() -> Instant {
    clock::monotonic() + Duration::from_secs(3_600)
}

fn mark(rotation: u64) -> SinkMark {
    SinkMark {
        sink: "out".to_owned(),
        path: "/out".into(),
        dev: 1,
        ino: 2,
        rotation,
        length: 0,
        deleted: Default::default(),
    }
}

/// A source with two sinks, and the threads that belong to it.
struct Source {
    flow: Arc<FlowControl>,
    new_batches: Sender<NewBatch>,
    sinks: Vec<Sink>,
    to_sinks: Vec<Sender<Vec<u8>>>,
    unfinished: Vec<Unfinished>,
    commits: Sender<CommitMessage>,
    commit_thread: thread::JoinHandle<()>,
    finals: Arc<Finals>,
}

/// Which batches are final, by sink. They are set before it is reported.
type Finals = [[AtomicBool; BATCHES as usize]; SINKS];

struct Sink {
    index: usize,
    batches: Receiver<Vec<u8>>,
    flow: Arc<FlowControl>,
    commits: Sender<CommitMessage>,
    committed: std::sync::mpsc::Receiver<Message>,
    unfinished: Unfinished,
    finals: Arc<Finals>,
    last_committed: Option<u64>,
}

impl Source {
    fn start() -> Source {
        let flow = Arc::new(FlowControl::new(IN_FLIGHT_BYTES_MAX));
        let ((new_batches, of_reader), (commits, received)) = (channel(), channel());
        let finals = Arc::new(Finals::default());
        let (mut sinks, mut to_sinks, mut unfinished, mut inboxes) = (vec![], vec![], vec![], vec![]);
        for index in 0..SINKS {
            let ((to_sink, batches), (inbox, committed)) = (channel(), std::sync::mpsc::channel());
            let (flow, commits, finals) = (flow.clone(), commits.clone(), finals.clone());
            let of_sink = Unfinished::default();
            to_sinks.push(to_sink);
            inboxes.push(Inbox::Thread(inbox));
            unfinished.push(of_sink.clone());
            let unfinished = of_sink;
            let last_committed = None;
            sinks.push(Sink { index, batches, flow, commits, committed, unfinished, finals, last_committed });
        }
        let nowhere = Path::new("/nonexistent/ledger");
        let ledger = SharedLedger::open_read_only(nowhere, &LedgerPosition::default()).unwrap();
        let marks = vec![None; SINKS];
        let source =
            SourceProgress::new("s", (ledger, nowhere.into()), marks, inboxes, of_reader, flow.clone());
        let settings =
            Settings { interval: Duration::ZERO, uncommitted_bytes_max: 1, metrics: StateMetrics::default() };
        let commit_thread = thread::spawn(move || {
            commit::run(None, vec![source], settings, received).unwrap();
        });
        Source { flow, new_batches, sinks, to_sinks, unfinished, commits, commit_thread, finals }
    }
}

/// Sends batches as the reader and the encoder do, until all are sent or the source is stopped. Returns their number.
fn read(
    flow: &FlowControl,
    new_batches: &Sender<NewBatch>,
    to_sinks: &[Sender<Vec<u8>>],
    unfinished: &[Unfinished],
) -> u64 {
    let mut number = 0;
    while number < BATCHES && !flow.stopped() {
        if !flow.wait_for_capacity(far()) {
            continue;
        }
        new_batches.send(NewBatch { progress: Progress::default(), bytes: 1 }).unwrap();
        for (to_sink, unfinished) in to_sinks.iter().zip(unfinished) {
            unfinished.sent(number, true);
            let mut buffer = flow.buffer();
            assert!(buffer.is_empty(), "a buffer is used twice");
            buffer.resize(BATCH_BYTES, number as u8);
            flow.sent(buffer.len());
            to_sink.send(buffer).unwrap();
        }
        number += 1;
    }
    number
}

impl Sink {
    /// Writes batches and reports them; the second sink has two requests in flight, and the later one ends first.
    fn run(mut self) -> Sink {
        let mut held = VecDeque::new();
        while let Ok(buffer) = self.batches.recv() {
            held.push_front(u64::from(buffer[0]));
            self.flow.written(buffer);
            if held.len() > self.index {
                self.report(&mut held);
            }
        }
        self.report(&mut held);
        self
    }

    fn report(&mut self, held: &mut VecDeque<u64>) {
        for number in held.drain(..) {
            self.finals[self.index][number as usize].store(true, Ordering::SeqCst);
            let (pipeline, mark) = (self.index, Some(mark(number)));
            let message = CommitMessage::Final { source_index: 0, pipeline, number, mark };
            self.commits.send(message).unwrap();
            self.unfinished.finished(number, true);
        }
        self.check_committed();
    }

    /// What is committed is final for all sinks, and so is all before it.
    fn check_committed(&mut self) {
        while let Ok(message) = self.committed.try_recv() {
            let Message::Committed { rotation } = message else { panic!("another message") };
            for number in 0..=rotation {
                let is_final =
                    |sink: &[AtomicBool; BATCHES as usize]| sink[number as usize].load(Ordering::SeqCst);
                assert!(self.finals.iter().all(is_final), "{rotation} is committed before {number} is final");
            }
            assert!(self.last_committed <= Some(rotation), "the checkpoint went back");
            self.last_committed = Some(rotation);
        }
    }
}

/// Stops once no sink has anything unfinished, as the supervisor does, and judges what was committed.
fn finish(source: Source, sinks: Vec<thread::JoinHandle<Sink>>, sent: u64) {
    while source.unfinished.iter().any(Unfinished::has_awaited) {
        thread::yield_now();
    }
    source.commits.send(CommitMessage::Finish).unwrap();
    source.commit_thread.join().unwrap();
    for sink in sinks {
        let mut sink = sink.join().unwrap();
        sink.check_committed();
        assert_eq!(sink.last_committed, sent.checked_sub(1), "not all that was sent is committed");
    }
    let are_final = |sink: &[AtomicBool]| sink.iter().filter(|batch| batch.load(Ordering::SeqCst)).count();
    assert!(source.finals.iter().all(|sink| are_final(sink) as u64 == sent));
}

/// Runs the source; `meanwhile` is done by another thread.
fn run_source(meanwhile: fn(&FlowControl)) {
    let mut source = Source::start();
    let sinks =
        std::mem::take(&mut source.sinks).into_iter().map(|sink| thread::spawn(|| sink.run())).collect();
    let flow = source.flow.clone();
    let other = thread::spawn(move || meanwhile(&flow));
    let sent = read(&source.flow, &source.new_batches, &source.to_sinks, &source.unfinished);
    source.to_sinks.clear();
    other.join().unwrap();
    finish(source, sinks, sent);
}

/// Nobody waits for ever, a checkpoint never covers what a sink has not finished, and the last one covers all.
#[test]
fn schedules_of_reader_sinks_and_commit_thread() {
    check(|| run_source(|_| {}));
}

#[test]
fn schedules_of_a_pause_for_a_full_disk() {
    check(|| {
        run_source(|flow| {
            flow.set_paused(true);
            thread::yield_now();
            flow.set_paused(false);
        });
    });
}

/// Also a reader that waits for a full disk ends.
#[test]
fn schedules_of_a_stop() {
    check(|| {
        run_source(|flow| {
            flow.set_paused(true);
            flow.stop("test");
        });
    });
}

/// A notification is never lost, whether the reader sleeps, is about to, or waits for capacity.
#[test]
fn schedules_of_notifications() {
    check(|| {
        let flow = Arc::new(FlowControl::new(IN_FLIGHT_BYTES_MAX));
        let pages = Arc::new(Mutex::new(0));
        let others: Vec<_> = [1, 2]
            .map(|of_this| {
                let (flow, pages) = (flow.clone(), pages.clone());
                thread::spawn(move || {
                    for _ in 0..of_this {
                        *pages.lock().unwrap() += 1;
                        flow.wake(false);
                    }
                })
            })
            .into();
        let mut seen = 0;
        while seen < 3 {
            flow.sleep(far());
            seen += std::mem::take(&mut *pages.lock().unwrap());
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// The first change of a directory is seen at once, also by a reader that is about to sleep.
#[test]
fn schedules_of_a_sweep() {
    check(|| {
        let flow = Arc::new(FlowControl::new(IN_FLIGHT_BYTES_MAX));
        let of_other = flow.clone();
        let other = thread::spawn(move || {
            of_other.sent(1);
            of_other.written(vec![0]);
            of_other.wake(true);
        });
        while !flow.start_sweep_if_due() {
            flow.sleep(far());
        }
        other.join().unwrap();
    });
}

/// A part of a long event is sent when nothing else is in flight, and its buffer is the reader's again.
#[test]
fn schedules_of_a_long_event() {
    check(|| {
        let flow = Arc::new(FlowControl::new(IN_FLIGHT_BYTES_MAX));
        let (to_sink, parts) = channel::<Option<Vec<u8>>>();
        let of_sink = flow.clone();
        let sink = thread::spawn(move || {
            let mut held = Vec::new();
            // It sends what it holds when it is told to.
            while let Ok(part) = parts.recv() {
                match part {
                    Some(buffer) => held.push(buffer),
                    None => held.drain(..).for_each(|buffer| of_sink.written(buffer)),
                }
            }
            held.len()
        });
        for part in 0..3 {
            to_sink.send(None).unwrap();
            flow.wait_until_drained();
            let mut buffer = flow.buffer();
            buffer.resize(3 + part, 0);
            flow.sent(buffer.len());
            to_sink.send(Some(buffer)).unwrap();
        }
        drop(to_sink);
        assert_eq!(sink.join().unwrap(), 1, "the last part");
    });
}
