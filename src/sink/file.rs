//! The sink of type `file`: a local file with one event per line, rotated by size and day. Each event is in
//! it exactly once.
//!
//! The checkpoint contains the file's length along with the position of the source. After a crash the source
//! replays from that position. Events after the checkpointed length are kept, and their replays are skipped.
//! So no torn line and no duplicate remains.

mod compress_rotated;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/output.rs"]
pub(crate) mod fuzz;
mod open;
mod output;
mod permissions;
mod prune;
mod recover;
mod rotated_files;

pub(crate) use output::OutputFile;
pub(crate) use rotated_files::{is_pruned, outputs};

use compress_rotated::Compressor;
use output::SyncJob;

use super::{Batch, Message, ONCE_FAILURES_MAX, Report, SinkError};
use crate::telemetry::heartbeat;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How often `fsync` is called while events keep arriving. It is the most expensive operation of this sink.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// After this pause the sink counts as idle and syncs at once.
const IDLE_PAUSE: Duration = Duration::from_millis(5);
/// Maximum number of bytes that are not durable yet. Bounds the time that a shutdown takes.
const UNSYNCED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Number of events that are not durable yet, at which a sync starts. About 100 bytes of each wait in memory for the
/// ledger.
const SYNC_EVENTS: u64 = 4096;
/// Maximum number of events that are not durable yet. Bounds that memory while the disk is slow.
const UNSYNCED_EVENTS_MAX: u64 = 4 * SYNC_EVENTS;
/// Delay before a failed write (mostly a full disk) is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Writes until [`Message::End`] has arrived and everything is durable. `self_sender` is the sending side of
/// `messages`. After an error the contents of the disk are unknown: the process must end, and the next one
/// starts from the checkpoint. With `once` the function also waits for the compression of rotated files, and
/// gives up when writing keeps failing.
pub(crate) fn run(
    output: OutputFile,
    once: bool,
    messages: Receiver<Message>,
    self_sender: Sender<Message>,
    report: impl Fn(Report),
) -> Result<(), SinkError> {
    let sync = start_sync_thread(self_sender)?;
    let compressor = output.compressor()?;
    let mut writer = Writer {
        output,
        once,
        report,
        sync,
        compressor,
        backlog: VecDeque::new(),
        unsynced: UnsyncedBatches::new(crate::clock::monotonic()),
        ended: false,
        retry_at: None,
        failures: 0,
        events: 0,
    };
    while !writer.is_done() {
        let now = crate::clock::monotonic();
        let writable = writer.can_write(now);
        let message = if writable { messages.try_recv().ok() } else { writer.wait(&messages, now) };
        heartbeat::working();
        let idle = message.is_none() && !writable;
        if let Some(message) = message {
            writer.handle(message)?;
        }
        if writable && let Some(batch) = writer.backlog.pop_front() {
            writer.write(batch)?;
        }
        writer.sync_if_due(idle)?;
    }
    // A process that runs on leaves the rest of the compression to its next start. A `--once` run has no other time
    // for it.
    if let Some(compressor) = writer.compressor.filter(|_| once) {
        heartbeat::waiting();
        compressor.finish();
    }
    Ok(())
}

/// Starts the thread that makes output durable. It ends when the returned side of its channel is dropped.
fn start_sync_thread(self_sender: Sender<Message>) -> io::Result<Sender<SyncJob>> {
    // Cannot grow: the next job is sent after `Message::Synced` for the previous one.
    let (sync, jobs) = channel::<SyncJob>();
    std::thread::Builder::new().name("sync".into()).spawn(move || {
        for job in jobs {
            // A panic of this thread must end the process. Otherwise the writing thread would wait forever.
            let result = catch_unwind(AssertUnwindSafe(|| {
                crate::failpoint::hit("sync");
                job.run()
            }));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("making output durable panicked")));
            if self_sender.send(Message::Synced(result)).is_err() {
                break;
            }
        }
    })?;
    Ok(sync)
}

/// Batches that are written and not durable yet: those written since the last sync was started, and those of a sync
/// that is in progress.
struct UnsyncedBatches {
    written: Vec<Report>,
    written_bytes: u64,
    written_events: u64,
    syncing: Vec<Report>,
    syncing_bytes: u64,
    syncing_events: u64,
    sync_in_progress: bool,
    last_sync: Instant,
}

impl UnsyncedBatches {
    fn new(now: Instant) -> UnsyncedBatches {
        UnsyncedBatches {
            written: Vec::new(),
            written_bytes: 0,
            written_events: 0,
            syncing: Vec::new(),
            syncing_bytes: 0,
            syncing_events: 0,
            sync_in_progress: false,
            last_sync: now,
        }
    }

    /// Whether more may be written. One event in several batches may exceed the limit: a sync does not make it final
    /// before its end, so it must be written whole.
    fn has_capacity(&self) -> bool {
        self.written_bytes + self.syncing_bytes < UNSYNCED_BYTES_MAX
            && self.written_events + self.syncing_events < UNSYNCED_EVENTS_MAX
            || self.written.is_empty() && !self.sync_in_progress
    }

    fn start_sync(&mut self, now: Instant) {
        (self.sync_in_progress, self.last_sync) = (true, now);
        self.syncing = std::mem::take(&mut self.written);
        self.syncing_bytes = std::mem::take(&mut self.written_bytes);
        self.syncing_events = std::mem::take(&mut self.written_events);
    }

    /// The sync in progress has ended. Returns the reports of its batches.
    fn end_sync(&mut self) -> Vec<Report> {
        (self.sync_in_progress, self.syncing_bytes, self.syncing_events) = (false, 0, 0);
        std::mem::take(&mut self.syncing)
    }
}

/// The writing side of the sink, and its progress.
struct Writer<R> {
    output: OutputFile,
    once: bool,
    report: R,
    sync: Sender<SyncJob>,
    compressor: Option<Compressor>,
    /// Batches that are not written yet.
    backlog: VecDeque<Batch>,
    unsynced: UnsyncedBatches,
    /// No more batches follow.
    ended: bool,
    /// When the next attempt is made after a failed write.
    retry_at: Option<Instant>,
    /// Number of failed writes since the last successful one.
    failures: u32,
    /// Number of written events that no report counts yet.
    events: u64,
}

impl<R: Fn(Report)> Writer<R> {
    fn is_done(&self) -> bool {
        let unsynced = &self.unsynced;
        self.ended && self.backlog.is_empty() && unsynced.written.is_empty() && unsynced.syncing.is_empty()
    }

    fn can_write(&self, now: Instant) -> bool {
        !self.backlog.is_empty() && self.retry_at.is_none_or(|at| now >= at) && self.unsynced.has_capacity()
    }

    /// Waits for a message, for the next attempt to write, or for the pause after which the sink is idle.
    fn wait(&self, messages: &Receiver<Message>, now: Instant) -> Option<Message> {
        let wait = match self.retry_at {
            Some(at) if !self.backlog.is_empty() => Some(at.saturating_duration_since(now)),
            _ if self.unsynced.written.is_empty() || self.unsynced.sync_in_progress => None,
            _ => Some(IDLE_PAUSE),
        };
        heartbeat::waiting();
        match wait.map_or_else(
            || messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            |wait| messages.recv_timeout(wait),
        ) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Message::End),
        }
    }

    fn handle(&mut self, message: Message) -> Result<(), SinkError> {
        match message {
            Message::Batch(batch) => self.backlog.push_back(batch),
            // It waits for no further events anyway.
            Message::Flush => {}
            Message::End => self.ended = true,
            Message::Committed { rotation } => {
                self.compressor.iter().for_each(|compressor| compressor.checkpointed(rotation));
            }
            Message::Synced(result) => {
                self.output.note_deleted(result?);
                for mut report_of_batch in self.unsynced.end_sync() {
                    if let Report::Final { mark: Some(mark), .. } = &mut report_of_batch {
                        mark.deleted = self.output.deleted();
                    }
                    (self.report)(report_of_batch);
                }
            }
        }
        Ok(())
    }

    /// Writes the batch, or puts it back and sets the time of the next attempt.
    fn write(&mut self, batch: Batch) -> Result<(), SinkError> {
        crate::failpoint::hit("before_send");
        match self.output.write(&batch) {
            Ok(mark) => {
                crate::failpoint::hit("after_send");
                self.unsynced.written_bytes += batch.bytes.len() as u64;
                self.unsynced.written_events += batch.events.len() as u64;
                self.events += batch.events.len() as u64;
                let times = batch.events.iter().map(|event| event.time_ms).collect();
                self.unsynced.written.push(Report::Acknowledged(times));
                self.unsynced.written.extend(batch.number.map(|number| Report::Final {
                    number,
                    events: std::mem::take(&mut self.events),
                    mark: (!batch.keep_output_position).then_some(mark),
                }));
                (self.report)(Report::Written(batch.bytes));
                if std::mem::take(&mut self.failures) > 0 {
                    (self.report)(Report::Health(None));
                    tracing::info!(path = self.output.path(), "writing events works again");
                }
                self.retry_at = None;
            }
            Err(error) => {
                self.failures += 1;
                if self.once && self.failures > ONCE_FAILURES_MAX {
                    let reason = format!("cannot write `{}`: {error}", self.output.path());
                    return Err(SinkError::GaveUp { reason });
                }
                if self.failures == 1 {
                    let reason = format!("cannot write `{}`: {error}", self.output.path());
                    (self.report)(Report::Health(Some(reason)));
                    tracing::error!(path = self.output.path(), %error, "cannot write events; retrying every {RETRY:?}, reading pauses meanwhile");
                }
                self.backlog.push_front(batch);
                self.retry_at = Some(crate::clock::monotonic() + RETRY);
            }
        }
        Ok(())
    }

    /// Starts a sync of what is written, if it is due and no other one is in progress.
    fn sync_if_due(&mut self, idle: bool) -> Result<(), SinkError> {
        let unsynced = &mut self.unsynced;
        let due = idle
            || self.ended
            || unsynced.last_sync.elapsed() >= SYNC_INTERVAL
            || unsynced.written_bytes >= UNSYNCED_BYTES_MAX / 2
            || unsynced.written_events >= SYNC_EVENTS;
        if due && !unsynced.sync_in_progress && !unsynced.written.is_empty() {
            unsynced.start_sync(crate::clock::monotonic());
            if self.sync.send(self.output.sync()?).is_err() {
                return Err(io::Error::other("the thread that makes output durable is gone").into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise their entries for the ledger would take much memory while the disk is slow.
    #[test]
    fn events_of_a_running_sync_count_as_not_durable() {
        let mut unsynced = UnsyncedBatches::new(crate::clock::monotonic());
        let write = |unsynced: &mut UnsyncedBatches| {
            unsynced.written_events += UNSYNCED_EVENTS_MAX / 2;
            unsynced.written.push(Report::Final { number: 0, events: 1, mark: None });
        };
        write(&mut unsynced);
        unsynced.start_sync(crate::clock::monotonic());
        assert!(unsynced.has_capacity());
        write(&mut unsynced);
        assert!(!unsynced.has_capacity());
        unsynced.end_sync();
        assert!(unsynced.has_capacity());
    }

    /// Otherwise a shutdown during a sync would take longer than the limit allows.
    #[test]
    fn bytes_of_a_running_sync_count_as_not_durable() {
        let mut unsynced = UnsyncedBatches::new(crate::clock::monotonic());
        let write = |unsynced: &mut UnsyncedBatches, bytes| {
            unsynced.written_bytes += bytes;
            unsynced.written.push(Report::Final { number: 0, events: 1, mark: None });
        };
        write(&mut unsynced, UNSYNCED_BYTES_MAX / 2);
        assert!(unsynced.has_capacity());
        unsynced.start_sync(crate::clock::monotonic());
        assert!(unsynced.has_capacity());
        write(&mut unsynced, UNSYNCED_BYTES_MAX / 2);
        assert!(!unsynced.has_capacity());
        assert_eq!(unsynced.end_sync().len(), 1);
        assert!(unsynced.has_capacity());
    }

    /// A sync does not make it final before its end.
    #[test]
    fn an_event_in_parts_may_exceed_the_limit_of_unsynced_bytes() {
        let mut unsynced = UnsyncedBatches::new(crate::clock::monotonic());
        unsynced.written_bytes = 2 * UNSYNCED_BYTES_MAX;
        assert!(unsynced.has_capacity());
    }
}
