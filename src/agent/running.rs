//! A running agent: its threads, and the channels to and from them.

use super::build_context::Mode;
use super::commit::CommitMessage;
use super::flow_control::FlowControl;
use super::run_marker::{Failure, RunMarker};
use super::summary::{Delivered, SourceTotal};
use super::threads::ThreadEnded;
use super::unfinished::Unfinished;
use crate::metrics::{Metrics, SinkMetrics};
use crate::sink::Inbox;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::UnboundedReceiver;

/// The threads of a running agent.
pub(super) struct Running {
    pub flows: Vec<Arc<FlowControl>>,
    pub sinks: Vec<SinkThread>,
    pub readers: Vec<(String, Option<SourceTotal>)>,
    pub commits: Sender<CommitMessage>,
    pub ended: UnboundedReceiver<ThreadEnded>,
    pub readers_left: usize,
    pub sinks_left: usize,
    pub mode: Mode,
    /// The process ends in order so that a new process continues.
    pub restart_wanted: bool,
    /// The reader of standard output has closed it.
    pub stdout_closed: bool,
    pub state_dir: PathBuf,
    pub metrics: Arc<Metrics>,
    /// `None`: nobody is told how the run ends.
    pub run_marker: Option<RunMarker>,
    /// Why the run fails, if it does.
    pub failure: Option<(Failure, String)>,
    /// Called each time that the supervisor wakes up for the service manager.
    pub on_tick: Box<dyn Fn()>,
}

pub(super) struct SinkThread {
    pub sink: String,
    pub source: String,
    pub inbox: Inbox,
    pub metrics: SinkMetrics,
    pub unfinished: Unfinished,
    /// Events that were sent to it.
    pub sent: Arc<AtomicU64>,
}

impl SinkThread {
    pub(super) fn delivered(self) -> Delivered {
        let quarantined = self.metrics.quarantined_in_run.get();
        Delivered {
            sink: self.sink,
            source: self.source,
            events: self.metrics.events.get().saturating_sub(quarantined),
            quarantined,
        }
    }
}
