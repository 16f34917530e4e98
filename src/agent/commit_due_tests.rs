//! When the commit thread commits, what goes to the ledger, and what sinks learn of it.

use super::commit::{CommitMessage, NewBatch, Settings, SourceProgress, commit_due, run};
use super::flow_control::FlowControl;
use crate::checkpoint::{Store, StoreError};
use crate::clock;
use crate::ledger::{Entry, EntryInput, EntryKind, LedgerReader, Limits, SharedLedger};
use crate::metrics::StateMetrics;
use crate::position::{LedgerPosition, Progress, SinkMark};
use crate::record::EventId;
use crate::sink::{Inbox, Message};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

struct Source {
    progress: SourceProgress,
    batches: Sender<NewBatch>,
    flow: Arc<FlowControl>,
    /// What its sink receives.
    sink: Receiver<Message>,
}

fn mark(rotation: u64) -> Option<SinkMark> {
    let (sink, path) = ("out".to_owned(), "/out".into());
    Some(SinkMark { sink, path, dev: 1, ino: 2, rotation, length: 7, deleted: Default::default() })
}

fn source(ledger_dir: &Path, marks: Vec<Option<SinkMark>>) -> Source {
    let ledger = SharedLedger::open(ledger_dir, &LedgerPosition::default(), Limits::NONE).unwrap().0;
    let ((batches, new_batches), (inbox, sink)) = (channel(), channel());
    let flow = Arc::new(FlowControl::new(1));
    let ledger = (ledger, ledger_dir.to_owned());
    let progress =
        SourceProgress::new("s", ledger, marks, vec![Inbox::Thread(inbox)], new_batches, flow.clone());
    Source { progress, batches, flow, sink }
}

fn settings() -> Settings {
    Settings {
        interval: Duration::from_secs(600),
        uncommitted_bytes_max: 100,
        metrics: StateMetrics::default(),
    }
}

fn entry(id: u128, kind: EntryKind) -> Entry {
    let (input, digest) = (EntryInput::File, [7; 32]);
    Entry { kind, input, flags: 0, file: 1, time_ms: 5, id, offset: 0, length: 1, digest }
}

impl Source {
    /// A batch of the source that is final at once.
    fn deliver(&mut self, number: u64, bytes: u64, entries: Vec<Entry>) {
        self.batches.send(NewBatch { progress: Progress { entries, ..Progress::default() }, bytes }).unwrap();
        self.progress.mark_final(0, number, None);
    }

    fn is_paused(&self) -> bool {
        !self.flow.wait_for_capacity(clock::monotonic())
    }
}

/// The rotations that a sink was told since the last call.
fn committed_rotations(sink: &Receiver<Message>) -> Vec<u64> {
    let messages = sink.try_iter().map(|message| match message {
        Message::Committed { rotation } => rotation,
        _ => panic!("another message"),
    });
    messages.collect()
}

/// Only a delivered event was refused by a sink; a gap with the same id was not.
#[test]
fn an_event_in_quarantine_is_in_the_ledger_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), vec![None]);
    source.progress.quarantined.extend([EventId(2), EventId(3)]);
    source.deliver(
        0,
        1,
        vec![entry(1, EntryKind::Delivered), entry(2, EntryKind::Delivered), entry(3, EntryKind::Loss)],
    );
    source.deliver(1, 1, vec![entry(2, EntryKind::Delivered)]);
    source.progress.commit().unwrap();
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    let kinds: Vec<_> = reader.entries(0..9).map(|entry| entry.unwrap().1.unwrap().kind).collect();
    let expected = [EntryKind::Delivered, EntryKind::Quarantined, EntryKind::Loss, EntryKind::Delivered];
    assert_eq!(kinds, expected);
}

/// A sink removes no rotated file that the checkpoint still needs.
#[test]
fn a_sink_learns_the_rotation_that_is_committed() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), vec![mark(3)]);
    assert_eq!(committed_rotations(&source.sink), [3], "what the checkpoint has at the start");
    source.batches.send(NewBatch { progress: Progress::default(), bytes: 1 }).unwrap();
    source.progress.mark_final(0, 0, mark(4));
    assert!(committed_rotations(&source.sink).is_empty(), "not committed yet");
    commit_due(&mut None, std::slice::from_mut(&mut source.progress), &settings(), &mut None).unwrap();
    assert_eq!(committed_rotations(&source.sink), [4]);
}

/// The first commit is due at once, the next one an interval after it. Without news there is none.
#[test]
fn a_commit_is_due_an_interval_after_the_last_one() {
    let dir = tempfile::tempdir().unwrap();
    let (mut source, settings) = (source(dir.path(), vec![None]), settings());
    let now = clock::monotonic();
    assert_eq!(source.progress.due(&settings, now), None);
    source.deliver(0, 1, Vec::new());
    assert_eq!(source.progress.due(&settings, now), Some(now));
    commit_due(&mut None, std::slice::from_mut(&mut source.progress), &settings, &mut None).unwrap();
    assert!(settings.metrics.last_commit.get() > 0.0);
    assert_eq!(source.progress.due(&settings, now), None);
    let committed = source.progress.last_commit.unwrap();
    assert!(committed >= now);
    source.deliver(1, 1, Vec::new());
    assert_eq!(source.progress.due(&settings, now), Some(committed + settings.interval));
    // It is not due yet: nothing is committed, not even the time of the last commit changes.
    commit_due(&mut None, std::slice::from_mut(&mut source.progress), &settings, &mut None).unwrap();
    assert!(source.progress.dirty);
    assert_eq!(source.progress.last_commit, Some(committed));
}

/// While positions cannot be stored, delivery goes on for a while. Then reading pauses, until they are stored.
#[test]
fn reading_pauses_when_too_much_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (mut source, settings) = (source(dir.path(), vec![None]), settings());
    // The segment of the ledger cannot be created: its name is a directory's.
    let segment = dir.path().join("entries/0000000000000000");
    std::fs::create_dir(&segment).unwrap();
    let commit = |source: &mut Source| {
        source.progress.last_commit = None;
        commit_due(&mut None, std::slice::from_mut(&mut source.progress), &settings, &mut None)
    };
    for (number, bytes, paused) in [(0, 60, false), (1, 40, false), (2, 1, true)] {
        source.deliver(number, bytes, vec![entry(number.into(), EntryKind::Delivered)]);
        assert!(matches!(commit(&mut source), Err(StoreError::Io { .. })), "{number}");
        assert_eq!(source.is_paused(), paused, "after batch {number}");
        assert!(source.progress.dirty);
    }
    std::fs::remove_dir(&segment).unwrap();
    commit(&mut source).unwrap();
    assert!(!source.is_paused() && !source.progress.dirty);
    assert_eq!(source.progress.uncommitted_bytes, 0);
    // The bytes are counted from here again.
    source.deliver(3, 100, vec![entry(3, EntryKind::Delivered)]);
    assert_eq!(source.progress.uncommitted_bytes, 100);
    assert_eq!(LedgerReader::open(dir.path()).unwrap().unwrap().size(), 3);
}

/// The marks of a batch whose sink has none leave the older ones.
#[test]
fn a_mark_stays_until_there_is_a_newer_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut source = source(dir.path(), vec![mark(3), None]);
    source.batches.send(NewBatch { progress: Progress::default(), bytes: 1 }).unwrap();
    source.progress.mark_final(0, 0, None);
    assert!(!source.progress.dirty, "the second sink has not delivered it");
    source.progress.mark_final(1, 0, mark(9));
    assert_eq!(source.progress.commit().unwrap().marks, [mark(3).unwrap(), mark(9).unwrap()]);
}

/// The first batch is committed at once. What follows waits for the interval, but messages do not.
#[test]
fn a_stop_commits_what_waits_for_the_interval() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state")).unwrap().store;
    let source = source(&dir.path().join("ledger"), vec![None]);
    let (messages, received) = channel();
    for number in 0..20 {
        source.batches.send(NewBatch { progress: Progress::default(), bytes: 1 }).unwrap();
        messages.send(CommitMessage::Final { source_index: 0, pipeline: 0, number, mark: None }).unwrap();
    }
    messages.send(CommitMessage::Finish).unwrap();
    let (ended, end) = channel();
    std::thread::spawn(move || ended.send(run(Some(store), vec![source.progress], settings(), received)));
    end.recv_timeout(Duration::from_secs(60)).unwrap().unwrap();
    let stored = Store::open(&dir.path().join("state")).unwrap().store.load("s").unwrap();
    assert_eq!(stored.commits, 2);
}
