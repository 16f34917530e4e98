//! The reader thread of a source: it reads the files, drives the API, and passes records and rows to the [`Ingest`].

use super::api_driver::ApiDriver;
use super::checkpoint_publisher::CheckpointPublisher;
use super::flow_control::FlowControl;
use super::ingest::Ingest;
use super::lifecycle::{Lifecycle, RESTART};
use super::summary::SourceTotal;
use crate::clock;
use crate::metrics::{SourceMetrics, seconds};
use crate::notice::{FILE_TAMPERED, GAP, Notice};
use crate::position::Loss;
use crate::source::failover::FileActivity;
use crate::source::files::wake::DirectoryWatch;
use crate::source::files::{AuditFiles, ReadStatus};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// The sweep interval without notifications. An event is found at most this late.
const SWEEP_WITHOUT_NOTIFICATION: Duration = Duration::from_secs(1);
/// Lines that are written in quick succession are read together. A line after a pause is read at once. If another line
/// follows within this time, the next read is delayed by it.
const COALESCE: Duration = Duration::from_millis(10);
/// How long to wait for capacity before files and API are checked again.
const CAPACITY_WAIT: Duration = Duration::from_secs(1);

/// The reader of one source. At least one of `files` and `api` is `Some`.
pub(super) struct Reader {
    pub source: String,
    pub files: Option<FileInput>,
    pub api: Option<ApiDriver>,
    pub flow: Arc<FlowControl>,
    pub metrics: SourceMetrics,
    /// `None`: a dry run.
    pub checkpoint_publisher: Option<CheckpointPublisher>,
    /// `None`: no sink gets these events, or it is a single run.
    pub lifecycle: Option<Lifecycle>,
    /// End when everything that exists now has been read.
    pub once: bool,
}

/// The files of a source, and how changes to them are noticed.
pub(super) struct FileInput {
    files: AuditFiles,
    watch: Option<DirectoryWatch>,
    /// Receives the files that are likely to grow, to watch them.
    growing: UnboundedSender<Vec<PathBuf>>,
    growing_now: Vec<PathBuf>,
    sweep_interval: Duration,
    next_sweep: Instant,
    coalesce: Coalesce,
}

/// State for reading lines together: see [`COALESCE`].
#[derive(Default)]
struct Coalesce {
    /// When the last records were read.
    last: Option<Instant>,
    found: bool,
    read_at_once: bool,
}

impl Reader {
    /// Reads until stopped, or with `once` until everything has been read.
    pub(super) fn run(mut self, mut ingest: Ingest) -> SourceTotal {
        let mut restart_wanted = false;
        if let Some(lifecycle) = &self.lifecycle {
            lifecycle.send_started(&mut ingest);
        }
        while !self.flow.stopped() {
            let next_sweep = self.sweep(&mut ingest);
            if let Some(lifecycle) = &mut self.lifecycle {
                let health = || self.flow.health.get();
                lifecycle.send_heartbeat_if_due(clock::monotonic(), health, &mut ingest);
            }
            if !self.flow.wait_for_capacity(next_sweep.unwrap_or(clock::monotonic() + CAPACITY_WAIT)) {
                continue;
            }
            let now = clock::monotonic();
            if let Some(publisher) = &mut self.checkpoint_publisher {
                publisher.publish_if_due(now, &mut ingest);
            }
            let (status, activity) = self.read(now, &mut ingest);
            let files = self.files.as_ref().map(|input| &input.files);
            let api_due = self.api.as_mut().map(|api| api.drive(files, activity, &mut ingest));
            let publisher_due = self.checkpoint_publisher.as_ref().map(CheckpointPublisher::due);
            let heartbeat_due = self.lifecycle.as_ref().map(Lifecycle::due);
            let due = next_sweep.into_iter().chain(api_due).chain(publisher_due).chain(heartbeat_due);
            let until = due.min().unwrap_or(now);
            // Before the first response of the API the source counts as starting.
            if files.is_some() || self.api.as_ref().is_some_and(ApiDriver::has_response) {
                self.report_health();
            }
            if ingest.awaits_replay() && ingest.held.is_empty() && self.has_replayed() {
                ingest.end_replay();
            }
            let files = self.files.as_ref().map(|input| &input.files);
            if status == ReadStatus::More {
                continue;
            }
            if self.once && self.nothing_left_to_read() && ingest.held.is_empty() {
                break;
            }
            // Also while a file is retried: it may be one that a new process could read.
            if files.is_some_and(|files| files.mount_namespace_is_stale(now)) {
                restart_wanted = true;
                break;
            }
            if let ReadStatus::IdleUntil(at) = status {
                self.flow.sleep(at.min(until));
                continue;
            }
            if let Some(input) = &mut self.files
                && input.coalesce.wait(now, until, &self.flow)
            {
                continue;
            }
            self.flow.sleep(until);
        }
        ingest.release_held_searches(true);
        self.flush(&mut ingest);
        if let Some(publisher) = self.checkpoint_publisher.as_mut().filter(|_| !self.once) {
            publisher.publish_at_stop(&mut ingest);
        }
        if let Some(lifecycle) = &self.lifecycle {
            let reason = self.flow.stop_reason();
            lifecycle.send_stopped(reason.as_deref().unwrap_or(RESTART), &mut ingest);
        }
        let mut api = self.api.as_ref().map(ApiDriver::total);
        if let Some(api) = &mut api {
            api.dropped += ingest.dropped;
        }
        let api_trouble = self.api.as_ref().and_then(ApiDriver::problem);
        SourceTotal {
            files: self.files.as_ref().map_or_else(Vec::new, |input| input.files.totals()),
            api,
            events: ingest.events(),
            unreadable: ingest.unreadable,
            problem: self.health().or(api_trouble).map(str::to_owned),
            restart_wanted,
        }
    }

    /// Sweeps the directories if that is due. Returns when the next sweep is due; `None` without files.
    fn sweep(&mut self, ingest: &mut Ingest) -> Option<Instant> {
        let input = self.files.as_mut()?;
        let now = clock::monotonic();
        if self.flow.start_sweep_if_due() || now >= input.next_sweep {
            input.files.sweep(now, clock::now_ms());
            input.next_sweep = now + input.update_watches();
            input.files.measure_backlog();
            self.flush(ingest);
        }
        self.files.as_ref().map(|input| input.next_sweep)
    }

    /// Reads a block of the files.
    fn read(&mut self, now: Instant, ingest: &mut Ingest) -> (ReadStatus, FileActivity) {
        let Some(input) = &mut self.files else {
            return (ReadStatus::Idle, FileActivity::AtEnd);
        };
        ingest.read_at_ms = clock::now_ms();
        let (events, suppressed, read_at_ms) = (ingest.events(), ingest.suppressed, ingest.read_at_ms);
        let status = input.files.read(now, read_at_ms, self.once, &mut |found| ingest.ingest_record(found));
        if status == ReadStatus::More && ingest.events() > events {
            (input.coalesce.last, input.coalesce.found) = (Some(now), true);
        }
        let activity = if input.files.health().is_some() {
            FileActivity::Unusable
        } else if ingest.events() > events || ingest.suppressed > suppressed {
            FileActivity::Growing
        } else if status != ReadStatus::More && input.files.all_at_end() {
            FileActivity::AtEnd
        } else {
            FileActivity::Unfinished
        };
        if status != ReadStatus::More {
            input.files.measure_backlog();
        }
        self.flush(ingest);
        (status, activity)
    }

    fn report_health(&self) {
        let problem = self.health();
        self.flow.health.report_pass(problem);
        self.metrics.healthy.set(i64::from(problem.is_none()));
        if problem.is_none() {
            self.metrics.last_success.set(seconds(clock::now_ms()));
        }
    }

    /// Why events are not delivered, if so.
    fn health(&self) -> Option<&str> {
        let files = self.files.as_ref().map(|input| &input.files);
        match &self.api {
            Some(api) => api.health(files),
            None => files.and_then(AuditFiles::health),
        }
    }

    /// Whether everything that an earlier process delivered and did not checkpoint has been read again.
    fn has_replayed(&mut self) -> bool {
        self.files.as_mut().is_none_or(|input| input.files.has_replayed())
            && self.api.as_ref().is_none_or(ApiDriver::has_replayed)
    }

    /// Whether everything that exists now was read, or cannot be read.
    fn nothing_left_to_read(&self) -> bool {
        let is_read = |files: &AuditFiles| {
            files.nothing_left_to_read() && !files.has_unterminated_record() || files.health().is_some()
        };
        self.api.as_ref().is_none_or(ApiDriver::nothing_left_to_read)
            && self.files.as_ref().is_none_or(|input| is_read(&input.files))
    }

    /// Flushes what was read from the files. Tampering and losses become events.
    fn flush(&mut self, ingest: &mut Ingest) {
        let Some(FileInput { files, .. }) = &mut self.files else {
            return;
        };
        for rewritten in files.take_rewritten() {
            let (path, at_ms) = (&rewritten.path, clock::now_ms());
            let copy = rewritten.copy.as_ref().map_or_else(String::new, |copy| {
                format!("what was read of it is in `{copy}`, of which the rest is read; ")
            });
            let message = format!(
                "the audit file `{path}` was truncated or rewritten: it had been read to byte {}, holds other bytes before it now, \
                 and has {}; {copy}it is read from its beginning",
                rewritten.offset, rewritten.size
            );
            let occasion = format!("{path} {} {}", rewritten.truncations, rewritten.offset);
            ingest.encode_notice(&Notice::new(FILE_TAMPERED, &self.source, &occasion, at_ms, message));
        }
        let progress = files.progress();
        for loss in &progress.losses {
            ingest.record_loss(loss);
            let Loss { at_ms, path, from, to, reason, .. } = loss;
            let path = path.display();
            let message = if to > from {
                format!("bytes {from} to {to} of the audit file `{path}` were not delivered: {reason}")
            } else {
                format!(
                    "what follows byte {from} of the audit file `{path}` was not delivered, if anything did: {reason}"
                )
            };
            let filled = if self.api.is_some() { "; the audit API is asked for what it held" } else { "" };
            let message = message + filled;
            let occasion = format!("{path} {from} {to} {at_ms}");
            ingest.encode_notice(&Notice::new(GAP, &self.source, &occasion, *at_ms, message));
        }
        ingest.flush(progress);
    }
}

impl FileInput {
    pub(super) fn new(
        files: AuditFiles,
        watch: Option<DirectoryWatch>,
        growing: UnboundedSender<Vec<PathBuf>>,
        sweep_interval: Duration,
    ) -> FileInput {
        FileInput {
            files,
            watch,
            growing,
            growing_now: Vec::new(),
            sweep_interval,
            next_sweep: clock::monotonic(),
            coalesce: Coalesce::default(),
        }
    }

    /// Watches the directories and files that the sweep found. Returns how long until the next sweep.
    fn update_watches(&mut self) -> Duration {
        let Some(watch) = &mut self.watch else {
            return self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION);
        };
        let watched = watch.set(self.files.watched());
        let growing = self.files.growing();
        if watched && growing != self.growing_now {
            // Fails only if the receiver has ended, because the process is about to end.
            let _ = self.growing.send(growing.clone());
            self.growing_now = growing;
        }
        if watched { self.sweep_interval } else { self.sweep_interval.min(SWEEP_WITHOUT_NOTIFICATION) }
    }
}

impl Coalesce {
    /// Waits briefly for more lines if some were read just now. `false`: none were, and it did not wait.
    fn wait(&mut self, now: Instant, until: Instant, flow: &FlowControl) -> bool {
        if self.last.is_none_or(|last| now.duration_since(last) >= 2 * COALESCE) {
            return false;
        }
        if std::mem::take(&mut self.found) && self.read_at_once {
            flow.sleep_until_stop(now + COALESCE);
            self.read_at_once = false;
        } else {
            self.read_at_once = true;
            flow.sleep(until.min(now + COALESCE));
        }
        true
    }
}
