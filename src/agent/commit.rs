//! The commit thread: it receives which batches are final, advances the watermark of each source, and commits.

use super::flow_control::FlowControl;
use super::sync::mpsc::{Receiver, RecvTimeoutError};
use crate::ack::Watermark;
use crate::checkpoint::{Commit, Store, StoreError};
use crate::clock;
use crate::ledger::{EntryKind, SharedLedger};
use crate::metrics::{StateMetrics, seconds};
use crate::position::{LedgerPosition, Progress, SinkMark};
use crate::record::EventId;
use crate::sink::{Inbox, Message};
use crate::telemetry::heartbeat;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) enum CommitMessage {
    /// A sink has a final outcome for each of a batch's events.
    Final { source_index: usize, pipeline: usize, number: u64, mark: Option<SinkMark> },
    /// A sink put these events of a source into quarantine. Comes before their batch is final.
    Quarantined { source_index: usize, ids: Vec<EventId> },
    /// The last message: commit what is final, close the store, and end.
    Finish,
}

/// A batch of a source. It is sent to the commit thread before it is sent to the sinks, on a channel of its own for
/// each source: the thread receives it with the first outcome of a sink, so it is not woken for each batch.
pub struct NewBatch {
    pub progress: Progress,
    pub bytes: u64,
}

pub(super) struct Settings {
    pub interval: Duration,
    pub uncommitted_bytes_max: u64,
    pub metrics: StateMetrics,
}

/// The progress of a source that is delivered and not committed yet.
pub(super) struct SourceProgress {
    name: String,
    ledger: SharedLedger,
    ledger_dir: PathBuf,
    flow: Arc<FlowControl>,
    new_batches: Receiver<NewBatch>,
    watermark: Watermark<NewBatch, Option<SinkMark>>,
    ready: Progress,
    /// Events in quarantine that are not in the ledger yet.
    pub(super) quarantined: HashSet<EventId>,
    marks: Vec<Option<SinkMark>>,
    /// The latest marks. They are committed only together with the positions, which may still be pending.
    newest_marks: Vec<Option<SinkMark>>,
    sinks: Vec<Inbox>,
    /// The ledger as of the commit that is being stored.
    position_to_store: Option<LedgerPosition>,
    pub(super) dirty: bool,
    pub(super) uncommitted_bytes: u64,
    pub(super) last_commit: Option<Instant>,
}

impl SourceProgress {
    /// `marks` are the committed marks of the sinks, in order.
    pub(super) fn new(
        name: &str,
        (ledger, ledger_dir): (SharedLedger, PathBuf),
        marks: Vec<Option<SinkMark>>,
        sinks: Vec<Inbox>,
        new_batches: Receiver<NewBatch>,
        flow: Arc<FlowControl>,
    ) -> SourceProgress {
        let source = SourceProgress {
            name: name.to_owned(),
            ledger,
            ledger_dir,
            flow,
            new_batches,
            watermark: Watermark::new(marks.len()),
            ready: Progress::default(),
            quarantined: HashSet::new(),
            newest_marks: marks.clone(),
            marks,
            sinks,
            position_to_store: None,
            dirty: false,
            uncommitted_bytes: 0,
            last_commit: None,
        };
        source.notify_outputs();
        source
    }

    /// A sink has a final outcome for each event of batch `number`.
    pub(super) fn mark_final(&mut self, pipeline: usize, number: u64, mark: Option<SinkMark>) {
        while let Ok(batch) = self.new_batches.try_recv() {
            self.watermark.push(batch);
        }
        self.watermark.mark_final(pipeline, number, mark);
        self.advance();
    }

    fn advance(&mut self) {
        for (NewBatch { mut progress, bytes }, marks) in self.watermark.advance() {
            self.uncommitted_bytes += bytes;
            for (newest, mark) in self.newest_marks.iter_mut().zip(marks) {
                if mark.is_some() {
                    *newest = mark;
                }
            }
            if progress.positions_pending {
                continue;
            }
            let mut entries = std::mem::take(&mut progress.entries);
            if !self.quarantined.is_empty() {
                for entry in &mut entries {
                    let may_be = entry.kind == EntryKind::Delivered;
                    if may_be && self.quarantined.remove(&EventId(entry.id)) {
                        entry.kind = EntryKind::Quarantined;
                    }
                }
            }
            self.ledger.append(&entries);
            self.ready.merge(progress);
            self.marks.clone_from(&self.newest_marks);
            self.dirty = true;
        }
    }

    /// When to commit: an interval after the last commit, or at once if that has passed.
    pub(super) fn due(&self, settings: &Settings, now: Instant) -> Option<Instant> {
        self.dirty.then(|| self.last_commit.map_or(now, |last| last + settings.interval))
    }

    /// Makes the ledger durable. The result says so to the checkpoint.
    pub(super) fn commit(&mut self) -> Result<Commit, StoreError> {
        let ledger =
            self.ledger.commit().map_err(|error| StoreError::io("write", &self.ledger_dir, error))?;
        self.position_to_store.clone_from(&ledger);
        Ok(Commit {
            source: self.name.clone(),
            progress: self.ready.clone(),
            marks: self.marks.iter().flatten().cloned().collect(),
            ledger,
        })
    }

    pub(super) fn on_committed(&mut self) {
        self.ready = Progress::default();
        (self.dirty, self.uncommitted_bytes) = (false, 0);
        self.flow.set_paused(false);
        if let Some(position) = self.position_to_store.take()
            && let Err(error) = self.ledger.set_stored(position)
        {
            let dir = self.ledger_dir.display();
            tracing::warn!(%dir, %error, "an old segment of the ledger cannot be removed; it is removed at the next start");
        }
        self.notify_outputs();
    }

    fn notify_outputs(&self) {
        for (sink, mark) in self.sinks.iter().zip(&self.marks) {
            if let Some(SinkMark { rotation, .. }) = *mark {
                sink.send(Message::Committed { rotation });
            }
        }
    }
}

/// Runs until [`CommitMessage::Finish`]. A dry run has no store.
pub(super) fn run(
    mut store: Option<Store>,
    mut sources: Vec<SourceProgress>,
    settings: Settings,
    messages: Receiver<CommitMessage>,
) -> Result<(), StoreError> {
    let mut full = None;
    loop {
        heartbeat::waiting();
        let now = clock::monotonic();
        let due = sources.iter().filter_map(|source| source.due(&settings, now)).min();
        let message = match due {
            None => messages.recv().unwrap_or(CommitMessage::Finish),
            // Before further messages: while they keep coming, the store would wait for ever.
            Some(at) if at <= now => {
                heartbeat::working();
                commit_due(&mut store, &mut sources, &settings, &mut full)?;
                continue;
            }
            Some(at) => match messages.recv_timeout(at.saturating_duration_since(now)) {
                Ok(message) => message,
                Err(RecvTimeoutError::Disconnected) => CommitMessage::Finish,
                Err(RecvTimeoutError::Timeout) => {
                    heartbeat::working();
                    commit_due(&mut store, &mut sources, &settings, &mut full)?;
                    continue;
                }
            },
        };
        heartbeat::working();
        match message {
            CommitMessage::Final { source_index, pipeline, number, mark } => {
                crate::failpoint::hit("after_ack");
                sources[source_index].mark_final(pipeline, number, mark);
            }
            CommitMessage::Quarantined { source_index, ids } => sources[source_index].quarantined.extend(ids),
            CommitMessage::Finish => break,
        }
    }
    for source in &mut sources {
        source.last_commit = None;
    }
    commit_due(&mut store, &mut sources, &settings, &mut full)?;
    if let Some(path) = full {
        return Err(StoreError::StorageFull { path });
    }
    store.map_or(Ok(()), Store::close)?;
    for source in &sources {
        if let Err(error) = source.ledger.sign_checkpoint() {
            tracing::error!(source = source.name, %error, "the ledger cannot be signed at the stop");
        }
    }
    Ok(())
}

pub(super) fn commit_due(
    store: &mut Option<Store>,
    sources: &mut [SourceProgress],
    settings: &Settings,
    full: &mut Option<PathBuf>,
) -> Result<(), StoreError> {
    let now = clock::monotonic();
    let mut due: Vec<&mut SourceProgress> =
        sources.iter_mut().filter(|source| source.due(settings, now).is_some_and(|at| at <= now)).collect();
    if due.is_empty() {
        return Ok(());
    }
    let commits: Result<Vec<Commit>, StoreError> = due.iter_mut().map(|source| source.commit()).collect();
    crate::failpoint::hit("ledger_synced");
    let result = match (store, commits) {
        (Some(store), Ok(commits)) => store.commit(&commits),
        (_, commits) => commits.map(drop),
    };
    for source in due {
        source.last_commit = Some(now);
        match &result {
            Ok(()) => source.on_committed(),
            Err(_) => source.flow.set_paused(source.uncommitted_bytes > settings.uncommitted_bytes_max),
        }
    }
    match result {
        Ok(()) => {
            settings.metrics.last_commit.set(seconds(clock::now_ms()));
            if full.take().is_some() {
                tracing::info!("positions are stored again");
            }
            Ok(())
        }
        Err(StoreError::StorageFull { path }) => {
            settings.metrics.failed_commits.inc();
            if full.replace(path.clone()).is_none() {
                tracing::error!(
                    path = %path.display(), uncommitted_bytes_max = settings.uncommitted_bytes_max,
                    "no space left to store positions; delivery continues for a while, then reading pauses until there is space"
                );
            }
            Ok(())
        }
        Err(other) => Err(other),
    }
}
