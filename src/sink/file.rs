//! A local file of events, one a line, rotated by size and day: every event in it exactly once.
//!
//! A checkpoint carries the file's length along with the source's position. After a crash the source repeats from that
//! position; what stands behind that length already is passed over, so that neither a torn line nor a repeated one remains.

mod compress_rotated;
mod output;
mod prune;
mod recover;
mod share;

pub use output::Output;

use super::{Batch, Message, ONCE_FAILURES_MAX, Report, SinkError};
use crate::telemetry::heartbeat;
use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// While events keep coming, the disk is asked to keep them this often; fsync is what costs here.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// After this pause the stream counts as quiet, and what is there is made durable at once.
const QUIET: Duration = Duration::from_millis(5);
/// How much may be written and not yet durable: it bounds the time that a stop has to wait.
const UNSYNCED_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// A write that failed (a full disk, mostly) is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// Batches that are written and not yet durable.
struct Finals {
    waiting: Vec<Report>,
    syncing: Vec<Report>,
    waiting_bytes: u64,
    busy: bool,
    last: Instant,
}

/// Writes until told to end and everything is durable. `own` sends to `messages`. An error means that it is not known
/// what the disk holds: the process must end, and the next one starts from the checkpoint. With `once` the compression of rotated
/// files is waited for too, and a disk that takes nothing is not waited for for ever.
pub fn run(
    mut output: Output,
    once: bool,
    messages: Receiver<Message>,
    own: Sender<Message>,
    report: impl Fn(Report),
) -> Result<(), SinkError> {
    let (sync, jobs) = channel::<output::Sync>();
    std::thread::Builder::new().name("sync".into()).spawn(move || {
        for job in jobs {
            // A panic here must end the process as one in the writing thread does, not leave that waiting.
            let result = catch_unwind(AssertUnwindSafe(|| {
                crate::failpoint::hit("sync");
                job.run()
            }));
            let result = result.unwrap_or_else(|_| Err(io::Error::other("making output durable panicked")));
            if own.send(Message::Synced(result)).is_err() {
                break;
            }
        }
    })?;
    let compressor = output.compressor()?;
    let mut backlog: VecDeque<Batch> = VecDeque::new();
    let mut finals = Finals {
        waiting: Vec::new(),
        syncing: Vec::new(),
        waiting_bytes: 0,
        busy: false,
        last: crate::clock::monotonic(),
    };
    let (mut ended, mut retry_at, mut failures) = (false, None::<Instant>, 0u32);
    let mut events = 0;
    loop {
        let now = crate::clock::monotonic();
        let writable = !backlog.is_empty()
            && retry_at.is_none_or(|at| now >= at)
            // The parts of one event may be more than that; there is nothing to report before its end.
            && (finals.waiting_bytes < UNSYNCED_BYTES_MAX || finals.waiting.is_empty());
        let message = if writable {
            messages.try_recv().ok()
        } else {
            let wait = match retry_at {
                Some(at) if !backlog.is_empty() => Some(at.saturating_duration_since(now)),
                _ if finals.waiting.is_empty() || finals.busy => None,
                _ => Some(QUIET),
            };
            heartbeat::waiting();
            match wait.map_or_else(
                || messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
                |w| messages.recv_timeout(w),
            ) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::End),
            }
        };
        heartbeat::working();
        let quiet = message.is_none() && !writable;
        match message {
            Some(Message::Batch(batch)) => backlog.push_back(batch),
            Some(Message::End) => ended = true,
            Some(Message::Committed { generation }) => {
                compressor
                    .iter()
                    .for_each(|compressor| compressor.passed(generation));
            }
            Some(Message::Synced(result)) => {
                output.note_deleted(result?);
                finals.busy = false;
                for mut is_final in finals.syncing.drain(..) {
                    if let Report::Final { mark: Some(mark), .. } = &mut is_final {
                        mark.deleted = output.deleted();
                    }
                    report(is_final);
                }
            }
            None => {}
        }
        if writable && let Some(batch) = backlog.pop_front() {
            crate::failpoint::hit("before_send");
            match output.write(&batch) {
                Ok(mark) => {
                    crate::failpoint::hit("after_send");
                    finals.waiting_bytes += batch.bytes.len() as u64;
                    events += batch.events.len() as u64;
                    finals.waiting.extend(batch.number.map(|number| Report::Final {
                        number,
                        events: std::mem::take(&mut events),
                        mark: (!batch.behind).then_some(mark),
                    }));
                    report(Report::Written(batch.bytes));
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(path = output.path(), "writing goes on");
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
                        tracing::error!(path = output.path(), %error, "cannot write events; trying again every {RETRY:?}, reading pauses meanwhile");
                    }
                    backlog.push_front(batch);
                    retry_at = Some(crate::clock::monotonic() + RETRY);
                }
            }
        }
        let due = quiet
            || ended
            || finals.last.elapsed() >= SYNC_INTERVAL
            || finals.waiting_bytes >= UNSYNCED_BYTES_MAX / 2;
        if due && !finals.busy && !finals.waiting.is_empty() {
            finals.busy = true;
            finals.last = crate::clock::monotonic();
            finals.waiting_bytes = 0;
            finals.syncing = std::mem::take(&mut finals.waiting);
            if sync.send(output.sync()?).is_err() {
                return Err(io::Error::other("the thread that makes output durable is gone").into());
            }
        }
        if ended && backlog.is_empty() && finals.waiting.is_empty() && finals.syncing.is_empty() {
            // A run that goes on soon after is left to do the rest; who is called now and then has no other time for it.
            if let Some(compressor) = compressor.filter(|_| once) {
                heartbeat::waiting();
                compressor.finish();
            }
            return Ok(());
        }
    }
}
