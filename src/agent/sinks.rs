//! Starts the sink threads of a source.

use super::build_context::{AgentError, BuildContext};
use super::commit::CommitMessage;
use super::flow_control::FlowControl;
use super::ledger_entry;
use super::running::SinkThread;
use super::sink_pipeline::SinkPipeline;
use super::threads::{EndedWith, spawn};
use super::unfinished::Unfinished;
use crate::access;
use crate::checkpoint::SourceState;
use crate::clock;
use crate::config::{
    Config, DestinationConfig, FileSinkConfig, FormatKind, RemoteSinkConfig, SinkConfig, SinkKind,
    SourceConfig,
};
use crate::enrich::Enrichment;
use crate::evidence::export::Recogniser;
use crate::evidence::row::Row;
use crate::format::{Agent, Context, Format};
use crate::ledger;
use crate::metrics::{SinkMetrics, seconds};
use crate::position::SinkMark;
use crate::quarantine::{self, Entry};
use crate::record::EventId;
use crate::sink::remote::{DeliverySettings, Refused};
use crate::sink::{self, Inbox, Message, Report, SinkError, file::OutputFile};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// The index of a sink among the sources and their pipelines.
#[derive(Clone, Copy)]
pub(super) struct SinkIndex {
    pub source_index: usize,
    pub pipeline: usize,
}

/// Starts the thread of one sink of one source.
pub(super) fn start(
    common: &BuildContext,
    index: SinkIndex,
    source: &SourceConfig,
    sink: &SinkConfig,
    state: &SourceState,
    flow: &Arc<FlowControl>,
) -> Result<(SinkThread, SinkPipeline, Option<SinkMark>), AgentError> {
    let metrics = common.metrics.sink(&source.name, &sink.name);
    let unfinished = Unfinished::default();
    let sends_requests = matches!(sink.kind, SinkKind::Remote(_)) && !common.mode.dry_run;
    let shared = (metrics.clone(), unfinished.clone());
    let report = reporter(index, flow.clone(), common.commits.clone(), shared, sends_requests);
    let stage = format!("sink {}", sink.name);
    let (mut mark, mut already_in_output) = (None, HashMap::new());
    // Why the channels have no limit: see `Inbox`.
    let inbox = match &sink.kind {
        SinkKind::File(file) if !common.mode.dry_run => {
            let (messages, receiver) = channel();
            let output;
            (output, already_in_output, mark) = open_output(source, sink, file, state)?;
            let (own, once) = (messages.clone(), common.mode.once);
            spawn(stage, &common.ended, move || {
                EndedWith::Sink(sink::file::run(output, once, receiver, own, report))
            })?;
            Inbox::Thread(messages)
        }
        SinkKind::Remote(remote) if !common.mode.dry_run => {
            let (messages, receiver) = unbounded_channel();
            let remote = Remote {
                destination: remote.destination.clone(),
                settings: settings(common, source, sink, remote),
                state_dir: common.config.state_dir.clone(),
                format: sink.format,
            };
            spawn(stage, &common.ended, move || EndedWith::Sink(remote.run(receiver, &report)))?;
            Inbox::Task(messages)
        }
        // A dry run prints what the sink would receive.
        SinkKind::File(_) | SinkKind::Remote(_) | SinkKind::Stdout => {
            let (messages, receiver) = channel();
            spawn(stage, &common.ended, move || EndedWith::Sink(sink::stdout::run(receiver, report)))?;
            Inbox::Thread(messages)
        }
    };
    let format = Format::new(sink.format, &context(common.config, &common.agent, &common.enrichment, source));
    let mut pipeline = SinkPipeline::new(format, inbox.clone(), flow.clone(), already_in_output);
    if let SinkKind::Remote(remote) = &sink.kind {
        pipeline.needs_header = matches!(remote.destination, DestinationConfig::Syslog(_));
    }
    pipeline.heartbeat = sink.heartbeat;
    pipeline.unfinished = unfinished.clone();
    let sent = pipeline.sent_events.clone();
    let (sink, source) = (sink.name.clone(), source.name.clone());
    let thread = SinkThread { sink, source, inbox, metrics, unfinished, sent };
    Ok((thread, pipeline, mark))
}

/// Handles the reports of a sink.
fn reporter(
    index: SinkIndex,
    flow: Arc<FlowControl>,
    commits: Sender<CommitMessage>,
    (metrics, unfinished): (SinkMetrics, Unfinished),
    sends_requests: bool,
) -> impl Fn(Report) {
    let SinkIndex { source_index, pipeline } = index;
    move |report| match report {
        Report::Written(buffer) => {
            if !sends_requests {
                metrics.sent_bytes.inc_by(buffer.len() as u64);
            }
            flow.written(buffer);
        }
        Report::Acknowledged(times) => metrics.delivery_delay.observe(&times, clock::now_ms()),
        Report::Request { class, bytes, duration } => metrics.observe_request(class, bytes, duration),
        Report::Final { number, events, mark } => {
            metrics.events.inc_by(events);
            // A batch without events says nothing about the server.
            if events > 0 {
                metrics.last_success.set(seconds(clock::now_ms()));
            }
            // Fails only if the commit thread has ended, and that ends the process.
            let _ = commits.send(CommitMessage::Final { source_index, pipeline, number, mark });
            // After that, or a stop that waits for nothing more could commit without it.
            unfinished.finished(number, events > 0);
        }
        Report::Health(problem) => {
            unfinished.set_failing(problem.is_some());
            metrics.set_blocked(problem.is_some());
            flow.health.set_sink_problem(pipeline, problem.as_deref());
        }
        Report::Quarantined(ids) => {
            metrics.quarantined_in_run.inc_by(ids.len() as u64);
            let _ = commits.send(CommitMessage::Quarantined { source_index, ids });
        }
    }
}

type OpenedOutput = (OutputFile, HashMap<EventId, ledger::Entry>, Option<SinkMark>);

/// Opens the output file. Also returns the events that it contains after the checkpoint's mark, by their ids.
fn open_output(
    source: &SourceConfig,
    sink: &SinkConfig,
    file: &FileSinkConfig,
    state: &SourceState,
) -> Result<OpenedOutput, AgentError> {
    let known = state.marks.iter().find(|mark| mark.sink == sink.name);
    let path = file.path_for(&source.name);
    let failed = |error: io::Error| AgentError::Output {
        sink: sink.name.clone(),
        path: path.display().to_string(),
        source: explained(error, &path),
    };
    let rows = RefCell::new((Recogniser::new(source.site.as_deref()), HashMap::new()));
    let id_of = |event: &[u8]| {
        let id = sink.format.id_of(event)?;
        let (recogniser, rows) = &mut *rows.borrow_mut();
        let row = recogniser.row(event).unwrap_or(Row { id: id.0, ..Row::default() });
        rows.insert(id, ledger_entry::of_output(&row, event));
        Some(id)
    };
    let (output, ids) = OutputFile::open(&sink.name, &source.name, file, known, &id_of).map_err(failed)?;
    let mut events = rows.into_inner().1;
    events.retain(|id, _| ids.contains(id));
    let mark = match known {
        // Those events are replayed. The checkpoint keeps the old length until all of them were read again.
        Some(known) if !events.is_empty() => known.clone(),
        _ => output.mark().map_err(failed)?,
    };
    Ok((output, events, Some(mark)))
}

fn settings(
    common: &BuildContext,
    source: &SourceConfig,
    sink: &SinkConfig,
    remote: &RemoteSinkConfig,
) -> DeliverySettings {
    DeliverySettings {
        sink: sink.name.clone(),
        source: source.name.clone(),
        batch: remote.batch,
        concurrency: remote.concurrency,
        on_poison: remote.on_poison,
        once: common.mode.once,
        quarantine_unproven: false,
    }
}

/// What the thread of a sink with a server needs.
struct Remote {
    destination: DestinationConfig,
    settings: DeliverySettings,
    state_dir: PathBuf,
    format: FormatKind,
}

impl Remote {
    fn run(self, messages: UnboundedReceiver<Message>, report: &dyn Fn(Report)) -> Result<(), SinkError> {
        let put = |refused: &[Refused]| {
            let at_ms = clock::now_ms();
            let entries: Vec<Entry> = refused
                .iter()
                .map(|refused| Entry {
                    id: String::from_utf8_lossy(&refused.id.hex()).into_owned(),
                    sink: self.settings.sink.clone(),
                    source: self.settings.source.clone(),
                    format: self.format.as_str().to_owned(),
                    time_ms: refused.time_ms,
                    severity: refused.header_fields.severity,
                    action: refused.header_fields.action().to_owned(),
                    at_ms,
                    reason: refused.reason.clone(),
                    event: String::from_utf8_lossy(&refused.event).into_owned(),
                })
                .collect();
            quarantine::put(&self.state_dir, at_ms, &entries)
        };
        sink::deliver(self.destination, self.settings.clone(), messages, report, &put)
    }
}

/// Adds the user without permission and the remedy to a permission error.
fn explained(error: io::Error, path: &std::path::Path) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::new(error.kind(), access::denied_message_own("write", path))
        }
        _ => error,
    }
}

/// What the events of a source have in common.
pub(crate) fn context(
    config: &Config,
    agent: &Agent,
    enrichment: &Enrichment,
    source: &SourceConfig,
) -> Context {
    let event = &config.event;
    let forwarded = event.tags.iter().any(|tag| tag == "forwarded");
    Context {
        tags: Some(event.tags.clone()),
        namespace: event.namespace.clone(),
        site: source.site.clone(),
        agent: agent.clone(),
        host: (!forwarded).then(|| enrichment.host.clone()),
        cloud: enrichment.cloud.clone(),
        geo: enrichment.geo.clone(),
        preserve_original_event: event.preserve_original_event,
    }
}
