//! The sink of type `file`: a local file with one event per line, rotated by size and day. Each event is in
//! it exactly once.
//!
//! The checkpoint contains the file's length along with the position of the source. After a crash the source
//! replays from that position. Events after the checkpointed length are kept, and their replays are skipped.
//! So no torn line and no duplicate remains.

mod compress_rotated;
mod open;
mod output;
mod permissions;
mod prune;
mod recover;
mod rotated_files;

pub(crate) use output::OutputFile;

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
/// Delay before a failed write (mostly a full disk) is retried.
const RETRY: Duration = Duration::from_secs(1);

/// Batches that are written and not durable yet.
struct UnsyncedBatches {
    written: Vec<Report>,
    syncing: Vec<Report>,
    written_bytes: u64,
    sync_in_progress: bool,
    last_sync: Instant,
}

/// Writes until [`Message::End`] has arrived and everything is durable. `loopback` is the sending side of
/// `messages`. After an error the contents of the disk are unknown: the process must end, and the next one
/// starts from the checkpoint. With `once` the function also waits for the compression of rotated files, and
/// gives up when writing keeps failing.
pub(crate) fn run(
    mut output: OutputFile,
    once: bool,
    messages: Receiver<Message>,
    loopback: Sender<Message>,
    report: impl Fn(Report),
) -> Result<(), SinkError> {
    let (sync, jobs) = channel::<output::SyncJob>();
    std::thread::Builder::new().name("sync".into()).spawn(move || {
        for job in jobs {
            // A panic of this thread must end the process. Otherwise the writing thread would wait forever.
            let result = catch_unwind(AssertUnwindSafe(|| {
                crate::failpoint::hit("sync");
                job.run()
            }));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("making output durable panicked")));
            if loopback.send(Message::Synced(result)).is_err() {
                break;
            }
        }
    })?;
    let compressor = output.compressor()?;
    let mut backlog: VecDeque<Batch> = VecDeque::new();
    let mut unsynced = UnsyncedBatches {
        written: Vec::new(),
        syncing: Vec::new(),
        written_bytes: 0,
        sync_in_progress: false,
        last_sync: crate::clock::monotonic(),
    };
    let (mut ended, mut retry_at, mut failures) = (false, None::<Instant>, 0u32);
    let mut events = 0;
    loop {
        let now = crate::clock::monotonic();
        let writable = !backlog.is_empty()
            && retry_at.is_none_or(|at| now >= at)
            // One event in several batches may be larger. It becomes final with its end only, so it must be
            // written whole.
            && (unsynced.written_bytes < UNSYNCED_BYTES_MAX || unsynced.written.is_empty());
        let message = if writable {
            messages.try_recv().ok()
        } else {
            let wait = match retry_at {
                Some(at) if !backlog.is_empty() => Some(at.saturating_duration_since(now)),
                _ if unsynced.written.is_empty() || unsynced.sync_in_progress => None,
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
        };
        heartbeat::working();
        let idle = message.is_none() && !writable;
        match message {
            Some(Message::Batch(batch)) => backlog.push_back(batch),
            Some(Message::End) => ended = true,
            Some(Message::Committed { generation }) => {
                compressor.iter().for_each(|compressor| compressor.checkpointed(generation));
            }
            Some(Message::Synced(result)) => {
                output.note_deleted(result?);
                unsynced.sync_in_progress = false;
                for mut report_of_batch in unsynced.syncing.drain(..) {
                    if let Report::Final { mark: Some(mark), .. } = &mut report_of_batch {
                        mark.deleted = output.deleted();
                    }
                    report(report_of_batch);
                }
            }
            None => {}
        }
        if writable && let Some(batch) = backlog.pop_front() {
            crate::failpoint::hit("before_send");
            match output.write(&batch) {
                Ok(mark) => {
                    crate::failpoint::hit("after_send");
                    unsynced.written_bytes += batch.bytes.len() as u64;
                    events += batch.events.len() as u64;
                    unsynced.written.extend(batch.number.map(|number| Report::Final {
                        number,
                        events: std::mem::take(&mut events),
                        mark: (!batch.replaying).then_some(mark),
                    }));
                    report(Report::Written(batch.bytes));
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(path = output.path(), "writing events works again");
                    }
                    retry_at = None;
                }
                Err(error) => {
                    failures += 1;
                    if once && failures > ONCE_FAILURES_MAX {
                        let reason = format!("cannot write `{}`: {error}", output.path());
                        return Err(SinkError::GaveUp { reason });
                    }
                    if failures == 1 {
                        tracing::error!(path = output.path(), %error, "cannot write events; retrying every {RETRY:?}, reading pauses meanwhile");
                    }
                    backlog.push_front(batch);
                    retry_at = Some(crate::clock::monotonic() + RETRY);
                }
            }
        }
        let due = idle
            || ended
            || unsynced.last_sync.elapsed() >= SYNC_INTERVAL
            || unsynced.written_bytes >= UNSYNCED_BYTES_MAX / 2;
        if due && !unsynced.sync_in_progress && !unsynced.written.is_empty() {
            unsynced.sync_in_progress = true;
            unsynced.last_sync = crate::clock::monotonic();
            unsynced.written_bytes = 0;
            unsynced.syncing = std::mem::take(&mut unsynced.written);
            if sync.send(output.sync()?).is_err() {
                return Err(io::Error::other("the thread that makes output durable is gone").into());
            }
        }
        if ended && backlog.is_empty() && unsynced.written.is_empty() && unsynced.syncing.is_empty() {
            // A process that runs on leaves the rest of the compression to its next start. A `--once` run has
            // no other time for it.
            if let Some(compressor) = compressor.filter(|_| once) {
                heartbeat::waiting();
                compressor.finish();
            }
            return Ok(());
        }
    }
}
