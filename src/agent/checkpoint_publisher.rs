//! Signs the ledger of a source at intervals, and publishes each checkpoint as an event through all sinks. So a server
//! holds what this host cannot change any more.

use super::ingest::Ingest;
use crate::clock;
use crate::ledger::{SharedLedger, SignError};
use crate::metrics::{SourceMetrics, seconds};
use crate::notice::{LEDGER_DAMAGED, LEDGER_SEALED, Notice};
use crate::position::Progress;
use std::time::{Duration, Instant};

/// For the reader of one source.
pub(super) struct CheckpointPublisher {
    source: String,
    ledger: SharedLedger,
    interval: Duration,
    next: Instant,
    /// Entries when the last checkpoint was published, or when the process started.
    published_entries: u64,
    /// The ledger does not continue what was signed. Nothing is signed until the next start.
    broken: bool,
    metrics: SourceMetrics,
}

impl CheckpointPublisher {
    pub(super) fn new(
        source: &str,
        ledger: SharedLedger,
        interval: Duration,
        metrics: SourceMetrics,
    ) -> CheckpointPublisher {
        let now_ms = clock::now_ms();
        let last_ms = ledger.published_ms().unwrap_or_else(|| {
            // A new ledger has nothing to publish yet.
            ledger.set_published(now_ms);
            now_ms
        });
        metrics.last_checkpoint.set(seconds(last_ms));
        let since = Duration::from_millis(now_ms.saturating_sub(last_ms).max(0) as u64);
        let published_entries = ledger.stored_entries();
        let next = clock::monotonic() + interval.saturating_sub(since);
        CheckpointPublisher {
            source: source.to_owned(),
            ledger,
            interval,
            next,
            published_entries,
            broken: false,
            metrics,
        }
    }

    /// When [`CheckpointPublisher::publish_if_due`] has something to do.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    /// Signs and publishes a checkpoint once the interval has passed, also if nothing was delivered: that the agent ran
    /// and had nothing to deliver is evidence too.
    pub(super) fn publish_if_due(&mut self, now: Instant, ingest: &mut Ingest) {
        if now >= self.next {
            self.next = now + self.interval;
            self.publish(ingest);
        }
    }

    /// Publishes what was committed since the last checkpoint, before the process ends. The last batches are not
    /// committed yet: the commit thread signs them, and the next checkpoint that is published covers them.
    pub(super) fn publish_at_stop(&mut self, ingest: &mut Ingest) {
        // The event of the last checkpoint is an entry too.
        if self.ledger.stored_entries() > self.published_entries + 1 {
            self.publish(ingest);
        }
    }

    fn publish(&mut self, ingest: &mut Ingest) {
        if self.broken {
            return;
        }
        let (source, at_ms) = (&self.source, clock::now_ms());
        let notice = match self.ledger.sign_checkpoint() {
            Ok(None) => return,
            Ok(Some(checkpoint)) => {
                self.published_entries = checkpoint.entries;
                self.ledger.set_published(at_ms);
                self.metrics.last_checkpoint.set(seconds(at_ms));
                let message = format!(
                    "the ledger of source `{source}` with {} entries was signed; the checkpoint is in the original",
                    checkpoint.entries
                );
                let notice = Notice::new(LEDGER_SEALED, source, &at_ms.to_string(), at_ms, message);
                notice.with_original(checkpoint.note)
            }
            Err(error @ SignError::Inconsistent(_)) => {
                self.broken = true;
                let message = format!(
                    "the ledger of source `{source}` cannot be signed: {error}. Delivery continues; restart the agent, and a \
                     new log begins"
                );
                tracing::error!(source, "{message}");
                Notice::new(LEDGER_DAMAGED, source, &at_ms.to_string(), at_ms, message)
            }
            Err(error @ SignError::Io { .. }) => {
                let error = crate::telemetry::chain(&error);
                tracing::warn!(
                    source,
                    error,
                    "the ledger could not be signed; it is tried again after the next interval"
                );
                return;
            }
        };
        // A later checkpoint covers what this one does, so a stop does not wait for it.
        ingest.encode_for(&notice, |_| true);
        ingest.flush(Progress::default());
    }
}
