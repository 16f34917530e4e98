use super::commit::{CommitMessage, NewBatch, Settings, SourceProgress, run};
use super::flow_control::FlowControl;
use crate::checkpoint::Store;
use crate::ledger::{Limits, SharedLedger};
use crate::metrics::StateMetrics;
use crate::position::{ApiCursor, LedgerPosition, Progress, SinkMark};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

fn mark(length: u64) -> Option<SinkMark> {
    Some(SinkMark {
        sink: "out".to_owned(),
        path: "/out".into(),
        dev: 1,
        ino: 2,
        rotation: 0,
        length,
        deleted: Default::default(),
    })
}

/// Sends and delivers a batch. Returns whether a commit is due, and its output length and position.
fn deliver(
    (source, batches): &mut (SourceProgress, Sender<NewBatch>),
    number: u64,
    at_ms: i64,
    positions_pending: bool,
) -> (bool, u64, Option<i64>) {
    let progress = Progress {
        api: (!positions_pending).then(|| ApiCursor { at_ms, ..ApiCursor::default() }),
        positions_pending,
        ..Progress::default()
    };
    batches.send(NewBatch { progress, bytes: 1 }).unwrap();
    source.mark_final(0, number, mark(10 + number));
    let commit = source.commit().unwrap();
    let position = commit.progress.api.map(|cursor| cursor.at_ms);
    (source.dirty, commit.marks[0].length, position)
}

/// Otherwise nothing would be stored as long as messages keep coming.
#[test]
fn a_due_commit_does_not_wait_for_the_queue_to_be_empty() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap().store;
    let ledger =
        SharedLedger::open(&dir.path().join("ledger"), &LedgerPosition::default(), Limits::NONE).unwrap().0;
    let ledger = (ledger, dir.path().join("ledger"));
    let ((batches, new_batches), (messages, received)) = (channel(), channel());
    for number in 0..50 {
        let api = Some(ApiCursor { at_ms: number as i64, ..ApiCursor::default() });
        let progress = Progress { api, ..Progress::default() };
        batches.send(NewBatch { progress, bytes: 1 }).unwrap();
        messages
            .send(CommitMessage::Final { source_index: 0, pipeline: 0, number, mark: mark(number) })
            .unwrap();
    }
    messages.send(CommitMessage::Finish).unwrap();
    let flow = Arc::new(FlowControl::new(1));
    let sources = vec![SourceProgress::new("s", ledger, vec![mark(0)], Vec::new(), new_batches, flow)];
    let settings =
        Settings { interval: Duration::ZERO, uncommitted_bytes_max: 1, metrics: StateMetrics::default() };
    run(Some(store), sources, settings, received).unwrap();
    let stored = Store::open(dir.path()).unwrap().store.load("s").unwrap();
    assert_eq!((stored.commits, stored.api.unwrap().at_ms), (50, 49));
}

#[test]
fn f84_the_output_length_is_committed_with_the_positions() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = SharedLedger::open(dir.path(), &LedgerPosition::default(), Limits::NONE).unwrap().0;
    let ledger = (ledger, dir.path().to_owned());
    let flow = Arc::new(FlowControl::new(1));
    let (batches, new_batches) = channel();
    let source = SourceProgress::new("s", ledger, vec![mark(9)], Vec::new(), new_batches, flow);
    let mut source = (source, batches);
    assert_eq!(deliver(&mut source, 0, 100, false), (true, 10, Some(100)));
    source.0.on_committed();
    // While positions are pending, the old length stays: after a kill, the ids behind it are read from the output.
    assert_eq!(deliver(&mut source, 1, 0, true), (false, 10, None));
    assert_eq!(deliver(&mut source, 2, 0, true), (false, 10, None));
    // The next positions include what was pending, and the new length.
    assert_eq!(deliver(&mut source, 3, 300, false), (true, 13, Some(300)));
    // A commit that is due for another reason keeps the old length as well.
    assert_eq!(deliver(&mut source, 4, 0, true), (true, 13, Some(300)));
    source.0.on_committed();
    assert_eq!(deliver(&mut source, 5, 500, false), (true, 15, Some(500)));
}
