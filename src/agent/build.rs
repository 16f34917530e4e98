//! Builds the stages of an agent from its configuration and its checkpoint, and starts their threads.

use super::api_driver::ApiDriver;
use super::api_requests::ApiRequests;
use super::build_context::{AgentError, BuildContext, Mode};
use super::checkpoint_publisher::CheckpointPublisher;
use super::commit::{self, Settings, SourceProgress};
use super::encoder::Encoder;
use super::fallback::Fallback;
use super::flow_control::FlowControl;
use super::held_searches::HeldSearches;
use super::ingest::Ingest;
use super::lifecycle::{self, Lifecycle};
use super::node_filter::NodeFilter;
use super::open_ledger::{self, OpenedLedger};
use super::reader::{FileInput, Reader};
use super::running::{Running, SinkThread};
use super::samplers;
use super::sinks::{self, SinkIndex};
use super::state_store::StateStore;
use super::threads::{EndedWith, ThreadEnded, spawn};
use crate::checkpoint::{Commit, SourceState};
use crate::clock;
use crate::config::{Config, FilesConfig, SinkKind, SourceConfig, StartAt};
use crate::enrich::Enrichment;
use crate::format::Agent;
use crate::metrics::Metrics;
use crate::notice::Notice;
use crate::quarantine::{self, Tally};
use crate::record::IdHasher;
use crate::sink;
use crate::source::api::Api;
use crate::source::files::AuditFiles;
use crate::source::files::wake::{Change, DirectoryWatch, Wake, watch_growing_files};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// File descriptors that the process and each source use for other things than audit files, with a reserve.
const OTHER_DESCRIPTORS: u64 = 18;
const OTHER_DESCRIPTORS_OF_SOURCE: u64 = 12;

/// Enough for one block's events that are being written and the next block's, so that neither side waits for the other.
/// A third block would only take memory.
const IN_FLIGHT_BYTES_MAX: usize = 768 * 1024;

pub(super) fn build(config: &Config, mode: Mode) -> Result<Running, AgentError> {
    let is_first_run = !config.state_dir.join("meta.json").exists();
    let (mut state_store, agent_id) = StateStore::open(config, mode)?;
    if !mode.dry_run {
        report_quarantine(&config.state_dir);
    }
    // Cannot grow: each thread sends one message, at its end.
    let (ended, ended_here) = unbounded_channel();
    // No limit: neither a reader nor a sink may wait for a slow disk of the checkpoint. It has one small message for
    // each batch and sink. The watchdog ends a process whose commit hangs.
    let (commits, to_commit) = channel();
    let enrichment = Enrichment::gather(&config.enrich);
    let agent = describe_agent(agent_id, &enrichment);
    let metrics = Arc::new(Metrics::new());
    let begun = match mode.once || mode.dry_run {
        true => None,
        false => lifecycle::begin(config, is_first_run, &agent),
    };
    let (run_marker, process) = begun.unzip();
    let common = BuildContext { config, mode, agent, enrichment, ended, commits, metrics, process };
    let (mut sinks, mut sources, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for (number, source) in config.sources.iter().enumerate() {
        let (threads, progress, reader) = build_source(&common, number, source, &mut state_store)?;
        sinks.extend(threads);
        sources.push(progress);
        readers.push(reader);
    }
    samplers::sample_sinks(&common, &sinks);
    samplers::sample_state(&common);
    let settings = Settings {
        interval: config.checkpoint_interval,
        uncommitted_bytes_max: config.uncommitted_bytes_max,
        metrics: common.metrics.state.clone(),
    };
    if let Some(marker) = &run_marker {
        marker.begin();
    }
    let store = state_store.store;
    spawn("checkpoint".to_owned(), &common.ended, move || {
        EndedWith::Commit(commit::run(store, sources, settings, to_commit))
    })?;
    if mode.dry_run || config.sinks.iter().any(|sink| sink.kind == SinkKind::Stdout) {
        watch_stdout(mode, common.ended.clone())?;
    }
    let flows = readers.iter().map(|(reader, _)| reader.flow.clone()).collect();
    let names = readers.iter().map(|(reader, _)| (reader.source.clone(), None)).collect();
    for (source_index, (reader, ingest)) in readers.into_iter().enumerate() {
        spawn(format!("source {}", reader.source), &common.ended, move || {
            let total = reader.run(ingest);
            EndedWith::Reader { source_index, total }
        })?;
    }
    Ok(Running {
        flows,
        readers_left: config.sources.len(),
        sinks_left: sinks.len(),
        sinks,
        readers: names,
        commits: common.commits,
        ended: ended_here,
        mode,
        restart_wanted: false,
        stdout_closed: false,
        state_dir: config.state_dir.clone(),
        metrics: common.metrics,
        run_marker,
        failure: None,
        on_tick: Box::new(|| {}),
    })
}

/// The running sinks of a source, its progress for the commit thread, and its reader.
type SourceParts = (Vec<SinkThread>, SourceProgress, (Reader, Ingest));

/// The agent's fields in its events.
pub(crate) fn describe_agent(id: String, enrichment: &Enrichment) -> Agent {
    Agent {
        id,
        ephemeral_id: uuid::Uuid::new_v4().to_string(),
        name: enrichment.host.name.clone().unwrap_or_else(|| crate::NAME.to_owned()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Starts the sinks of a source, and builds its reader.
fn build_source(
    common: &BuildContext,
    source_index: usize,
    source: &SourceConfig,
    state_store: &mut StateStore,
) -> Result<SourceParts, AgentError> {
    let state = state_store.load(&source.name)?;
    let opened = open_ledger::open(common, &source.name, &state)?;
    let flow = Arc::new(FlowControl::new(in_flight_bytes_max(common.config)));
    let metrics = common.metrics.source(&source.name);
    let (mut threads, mut pipelines, mut marks) = (Vec::new(), Vec::new(), Vec::new());
    let sinks = &common.config.sinks;
    // A dry run prints the events of the first sink only, because two sinks would mix on standard output.
    let sinks_used = if common.mode.dry_run { 1 } else { sinks.len() };
    for (pipeline, sink) in sinks.iter().take(sinks_used).enumerate() {
        let index = SinkIndex { source_index, pipeline };
        let (thread, pipeline, mark) = sinks::start(common, index, source, sink, &state, &flow)?;
        threads.push(thread);
        pipelines.push(pipeline);
        marks.push(mark);
    }
    // Commits the output marks before the first event is written, so that a replay finds where its events begin.
    state_store.commit(Commit {
        source: source.name.clone(),
        marks: marks.iter().flatten().cloned().collect(),
        ledger: opened.commit()?,
        ..Commit::default()
    })?;
    opened.mark_stored()?;
    let inboxes = threads.iter().map(|thread| thread.inbox.clone()).collect();
    // No limit, as above.
    let (batches, new_batches) = channel();
    let progress = SourceProgress::new(
        &source.name,
        (opened.ledger.clone(), opened.dir.clone()),
        marks,
        inboxes,
        new_batches,
        flow.clone(),
    );
    let api = source.api.as_ref().map(|config| {
        Api::new(&source.name, config.clone(), state.api)
            .with_audit_settings(state.audit_settings.clone())
            .with_agent_user(state.agent_user.clone())
            .with_metrics(common.metrics.api(&source.name))
    });
    let checkpoint_publisher = (!common.mode.dry_run).then(|| {
        let interval = common.config.ledger.seal_interval;
        CheckpointPublisher::new(&source.name, opened.ledger.clone(), interval, metrics.clone())
    });
    let lifecycle = common
        .process
        .clone()
        .map(|process| Lifecycle::new(process, &source.name, metrics.clone(), source.files.is_some()));
    samplers::sample_ledger(common, &metrics, &opened.ledger);
    let encoder = Encoder::new(pipelines, batches, metrics.clone());
    let ingest = ingest(source, &state, encoder, opened, api.as_ref());
    let api = api.map(|api| api_driver(common, source, api, &state, &flow));
    let reader = Reader {
        source: source.name.clone(),
        api: api.transpose()?,
        files: source.files.as_ref().map(|files| file_input(common, source, files, state, &flow)),
        flow,
        metrics,
        checkpoint_publisher,
        lifecycle,
        once: common.mode.once,
    };
    Ok((threads, progress, (reader, ingest)))
}

fn ingest(
    source: &SourceConfig,
    state: &SourceState,
    encoder: Encoder,
    opened: OpenedLedger,
    api: Option<&Api>,
) -> Ingest {
    let ids = IdHasher::new(source.site.as_deref());
    let OpenedLedger { ledger, problems, .. } = opened;
    let both_inputs = api.zip(source.api.as_ref()).filter(|_| source.files.is_some());
    let node_filter = both_inputs.map(|_| {
        let (nodes, all_nodes) = (state.nodes.clone().unwrap_or_default(), source.fallback.all_nodes);
        NodeFilter::new(&source.name, nodes, all_nodes, ledger.times())
    });
    let held = both_inputs
        .map(|(api, config)| HeldSearches::new(api.shared_self_activity(), config.drop_self_polls));
    let mut ingest = Ingest::new(encoder, ids, ledger, node_filter, held.unwrap_or_default());
    let at_ms = clock::now_ms();
    for (number, (action, message)) in problems.into_iter().enumerate() {
        let occasion = format!("{at_ms} {number}");
        ingest.encode_notice(&Notice::new(action, &source.name, &occasion, at_ms, message));
    }
    ingest
}

/// Reports when the reader of standard output closes it. The thread waits without a deadline, and ends with the
/// process.
fn watch_stdout(mode: Mode, ended: UnboundedSender<ThreadEnded>) -> Result<(), AgentError> {
    if sink::stdout::is_null() && !mode.dry_run {
        tracing::warn!(
            "standard output is `/dev/null`, or was closed: events that go there are gone, and count as delivered"
        );
    }
    // A run that ends by itself notices a closed output when it writes.
    if mode.once {
        return Ok(());
    }
    let stage = "stdout".to_owned();
    std::thread::Builder::new().name(stage.clone()).spawn(move || {
        // If the descriptor cannot be watched, the next write fails instead.
        if sink::stdout::wait_closed().is_ok_and(|closed| closed) {
            let what = EndedWith::StdoutClosed;
            let _ = ended.send(ThreadEnded { stage, what });
        }
    })?;
    Ok(())
}

/// Logs how many events are in quarantine, and removes temporary files of a killed agent.
fn report_quarantine(state_dir: &Path) {
    let mut tally = Tally::default();
    let counted =
        quarantine::remove_temporary(state_dir).and_then(|left| Ok((left, tally.count(state_dir)?)));
    let events = match counted {
        Ok((left, events)) => {
            for (path, error) in left.iter().chain(&tally.failed) {
                let path = path.display().to_string();
                tracing::error!(path, %error, "an entry of the quarantine cannot be read; it is skipped");
            }
            events
        }
        // Logged again, with the consequence, when an event has to be quarantined.
        Err(error) => {
            tracing::error!(%error, "the quarantine cannot be read");
            0
        }
    };
    if events > 0 {
        tracing::warn!(
            events,
            "events are in quarantine, refused by their server; see `confluence-audit-agent quarantine list`"
        );
    }
}

fn api_driver(
    common: &BuildContext,
    source: &SourceConfig,
    mut api: Api,
    state: &SourceState,
    flow: &Arc<FlowControl>,
) -> Result<ApiDriver, AgentError> {
    let starts_at_end = |files: &FilesConfig| state.next_key == 0 && files.start_at == StartAt::End;
    if source.files.as_ref().is_some_and(starts_at_end) {
        api.start_at_present();
    }
    let has_files = source.files.is_some();
    let requests = match has_files {
        true => ApiRequests::thread(&source.name, flow.clone(), &common.ended)?,
        false => ApiRequests::inline(flow.clone())?,
    };
    let fallback = has_files.then(|| {
        Fallback::new(
            &source.name,
            source.fallback,
            state,
            (flow.clone(), common.metrics.source(&source.name)),
        )
    });
    let other_nodes =
        (has_files && source.fallback.all_nodes).then(|| api.for_other_nodes(state.api_other_nodes));
    Ok(ApiDriver::new(requests, api, other_nodes, fallback, common.mode.once))
}

fn file_input(
    common: &BuildContext,
    source: &SourceConfig,
    files: &FilesConfig,
    state: SourceState,
    flow: &Arc<FlowControl>,
) -> FileInput {
    let woken = flow.clone();
    let wake: Wake = Arc::new(move |change| woken.wake(change == Change::Names));
    // Grows by one list for each change of the growing files at most, which are few and rare.
    let (growing, growing_files) = unbounded_channel();
    let mut files = files.clone();
    let (follow, sweep_interval) = (files.notify && !common.mode.once, files.sweep_interval);
    files.open_files_max = files.open_files_max.min(descriptors_for_files(common.config.sources.len()));
    if follow {
        tokio::spawn(watch_growing_files(growing_files, wake.clone()));
    }
    let (next_key, first_run) = (state.next_key, state.next_key == 0);
    let files = AuditFiles::new(&source.name, files, state.files, next_key, first_run)
        .with_metrics(common.metrics.source(&source.name));
    let watch = follow.then(|| DirectoryWatch::new(&source.name, wake));
    FileInput::new(files, watch, growing, sweep_interval)
}

/// How many bytes may be in flight to the sinks of one source before its reader waits.
fn in_flight_bytes_max(config: &Config) -> usize {
    let remote = config.sinks.iter().map(|sink| match &sink.kind {
        SinkKind::Remote(remote) => remote.in_flight_bytes_max(),
        SinkKind::Stdout | SinkKind::File(_) => 0,
    });
    // The bytes of each sink count separately.
    IN_FLIGHT_BYTES_MAX + remote.max().unwrap_or(0) * config.sinks.len()
}

/// How many audit files each source may keep open, so that sinks and store have enough file descriptors.
fn descriptors_for_files(sources: usize) -> usize {
    let sources = sources as u64;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let others = OTHER_DESCRIPTORS + sources * OTHER_DESCRIPTORS_OF_SOURCE;
    let left = limit.unwrap_or(u64::MAX).saturating_sub(others) / sources;
    usize::try_from(left).unwrap_or(usize::MAX).max(1)
}
