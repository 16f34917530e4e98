//! Which batches of one sink have no final outcome yet. A stop does not wait for batches that hold nothing but events
//! of the agent itself, such as a heartbeat: the audit trail is complete without them.

use super::sync::{Mutex, MutexGuard, PoisonError};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Shared by the reader, which sends batches, the sink, which reports their outcomes, and the supervisor.
#[derive(Clone, Default)]
pub struct Unfinished(Arc<Mutex<Batches>>);

#[derive(Default)]
struct Batches {
    awaited: usize,
    /// The highest number of a batch with events that is finished and that a stop waits for.
    last_delivered: Option<u64>,
    /// Numbers of the batches that a stop does not wait for.
    others: BTreeSet<u64>,
    is_failing: bool,
}

impl Unfinished {
    /// Batch `number` was sent to the sink.
    pub fn sent(&self, number: u64, is_awaited: bool) {
        let mut batches = self.lock();
        match is_awaited {
            true => batches.awaited += 1,
            false => drop(batches.others.insert(number)),
        }
    }

    /// Batch `number` has a final outcome. `has_events`: a batch of positions alone is finished although the server is
    /// down. It may stay uncommitted: nothing is sent again for it.
    pub fn finished(&self, number: u64, has_events: bool) {
        let mut batches = self.lock();
        if !batches.others.remove(&number) {
            batches.awaited = batches.awaited.saturating_sub(1);
            if has_events {
                batches.last_delivered = batches.last_delivered.max(Some(number));
            }
        }
    }

    /// The sink does not accept events at the moment, or does again.
    pub fn set_failing(&self, is_failing: bool) {
        self.lock().is_failing = is_failing;
    }

    pub fn is_failing(&self) -> bool {
        self.lock().is_failing
    }

    /// Whether there are batches that a stop waits for. Delivered events count as well while an earlier batch is not
    /// finished: batches are committed in order, and what is not committed is sent again.
    pub fn has_awaited(&self) -> bool {
        let batches = self.lock();
        let first_other = batches.others.first();
        batches.awaited > 0 || first_other.is_some_and(|other| batches.last_delivered > Some(*other))
    }

    /// Number of batches that a stop does not wait for.
    pub fn others(&self) -> usize {
        self.lock().others.len()
    }

    fn lock(&self) -> MutexGuard<'_, Batches> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
