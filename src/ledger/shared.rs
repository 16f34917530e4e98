//! The ledger of a source as two threads use it: the reader asks whether an event was delivered, and the thread that
//! commits appends what was.

use super::checkpoints::{Checkpoints, SignError};
use super::entry::{ENTRY_BYTES, Entry, Lookup, NO_TIME, cross_route_key, untimed_key};
use super::store::{Damage, Ledger};
use crate::clock;
use crate::position::LedgerPosition;
use crate::record::EventId;
use crate::record::twins::IdSet;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often a segment may be dropped for its age. A host has few segments in a year, and a clock that is wrong for a
/// while must not drop all of them.
const AGE_CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// How much a ledger keeps. Older entries are dropped a segment at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long an entry is kept after it was appended.
    pub retention: Duration,
    /// Bytes of all entries.
    pub bytes_max: u64,
}

impl Limits {
    pub const NONE: Limits = Limits { retention: Duration::MAX, bytes_max: u64::MAX };
}

/// A signed checkpoint.
pub struct SignedCheckpoint {
    /// Entries that it covers.
    pub entries: u64,
    /// The signed note.
    pub note: String,
}

#[derive(Clone)]
pub struct SharedLedger(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Its own lock: signing waits for the disk. `None`: nothing is signed.
    checkpoints: Mutex<Option<Checkpoints>>,
}

struct State {
    /// `None`: a dry run that has no ledger to look into.
    ledger: Option<Ledger>,
    limits: Limits,
    next_age_check: Option<Instant>,
    /// Keys of events that were read and are not in the ledger yet.
    in_flight: IdSet,
    /// Nothing is appended: what is read stays in flight.
    read_only: bool,
    /// The last lookup failed.
    unreadable: bool,
    /// What the checkpoint store knows.
    stored: LedgerPosition,
}

impl SharedLedger {
    fn new(ledger: Option<Ledger>, limits: Limits, read_only: bool) -> SharedLedger {
        let stored = LedgerPosition::default();
        let state = State {
            ledger,
            limits,
            next_age_check: None,
            in_flight: IdSet::default(),
            read_only,
            unreadable: false,
            stored,
        };
        SharedLedger(Arc::new(Shared { state: Mutex::new(state), checkpoints: Mutex::new(None) }))
    }

    /// Opens or creates the ledger in `dir`. What lies beyond `position` is cut off.
    pub fn open(
        dir: &Path,
        position: &LedgerPosition,
        limits: Limits,
    ) -> io::Result<(SharedLedger, Vec<Damage>)> {
        let (ledger, damage) = Ledger::open(dir, position)?;
        Ok((SharedLedger::new(Some(ledger), limits, false), damage))
    }

    /// As [`SharedLedger::open`], for a dry run: nothing is changed, and nothing is appended.
    pub fn open_read_only(dir: &Path, position: &LedgerPosition) -> io::Result<SharedLedger> {
        Ok(SharedLedger::new(Ledger::open_existing(dir, position)?, Limits::NONE, true))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks an event as in flight. `false`: it was delivered, or is in flight already.
    pub fn mark_in_flight(&self, id: EventId, time_ms: Option<i64>) -> bool {
        let mut state = self.lock();
        let lookup = time_ms.map(Lookup::Time);
        !state.contains(id.0, lookup) && state.in_flight.insert(id.0)
    }

    /// As [`SharedLedger::mark_in_flight`], by the entry that the event is to have.
    pub fn mark_entry_in_flight(&self, entry: &Entry) -> bool {
        let time_ms = (entry.flags & NO_TIME == 0).then_some(entry.time_ms);
        self.mark_in_flight(EventId(entry.id), time_ms)
    }

    /// As [`SharedLedger::mark_in_flight`], for a record of a file that has no time. The same bytes elsewhere are
    /// another event.
    pub fn mark_untimed_in_flight(&self, id: EventId, offset: u64) -> bool {
        let (mut state, key) = (self.lock(), untimed_key(id, offset));
        !state.contains(key, Some(Lookup::Offset(offset))) && state.in_flight.insert(key)
    }

    /// Whether a row of the legacy API with this cross-route id and time was delivered, or is in flight.
    pub fn contains_cross_route(&self, cross_route_id: EventId, time_ms: i64) -> bool {
        self.lock().contains(cross_route_key(cross_route_id), Some(Lookup::Time(time_ms)))
    }

    /// Marks the cross-route id of a row of the legacy API as in flight.
    pub fn mark_cross_route_in_flight(&self, cross_route_id: EventId) {
        self.lock().in_flight.insert(cross_route_key(cross_route_id));
    }

    /// Times of the oldest and the newest event.
    pub fn times(&self) -> Option<(i64, i64)> {
        self.lock().ledger.as_ref()?.times()
    }

    /// Appends events that were delivered. Full blocks are written.
    pub fn append(&self, entries: &[Entry]) {
        let mut state = self.lock();
        let State { ledger: Some(ledger), in_flight, read_only: false, .. } = &mut *state else {
            return;
        };
        for entry in entries {
            ledger.append(entry);
            for key in entry.keys() {
                in_flight.remove(&key);
            }
        }
        // What cannot be written is kept; the next commit writes it or fails.
        let _ = ledger.write_if_much();
    }

    /// Makes everything durable that was appended. Returns what the checkpoint is to store; `None`: a dry run.
    pub fn commit(&self) -> io::Result<Option<LedgerPosition>> {
        let mut state = self.lock();
        let State { ledger: Some(ledger), limits, next_age_check, read_only: false, .. } = &mut *state else {
            return Ok(None);
        };
        let now = clock::monotonic();
        let is_age_check = next_age_check.is_none_or(|at| now >= at);
        if is_age_check {
            *next_age_check = Some(now + AGE_CHECK_INTERVAL);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now_ms().max(0) as u64);
        let oldest = time.checked_sub(limits.retention).filter(|_| is_age_check);
        ledger.drop_segments(oldest, limits.bytes_max)?;
        let (position, unsynced) = ledger.prepare_commit()?;
        // The reader need not wait for the disk.
        drop(state);
        if let Err(error) = unsynced.sync() {
            if let Some(ledger) = &mut self.lock().ledger {
                ledger.return_unsynced(unsynced);
            }
            return Err(error);
        }
        Ok(Some(position))
    }

    /// The checkpoint store has stored this position. Removes the files of entries that are no longer kept.
    pub fn set_stored(&self, position: LedgerPosition) -> io::Result<()> {
        let mut state = self.lock();
        state.stored = position;
        match &mut state.ledger {
            Some(ledger) => ledger.remove_dropped(),
            None => Ok(()),
        }
    }

    /// From now on, [`SharedLedger::sign_checkpoint`] signs.
    pub fn sign_with(&self, checkpoints: Checkpoints) {
        *self.0.checkpoints.lock().unwrap_or_else(PoisonError::into_inner) = Some(checkpoints);
    }

    /// Signs what the checkpoint store knows: what it does not know may be cut back. `None`: there is
    /// nothing to sign, or no key.
    pub fn sign_checkpoint(&self) -> Result<Option<SignedCheckpoint>, SignError> {
        let position = self.lock().stored.clone();
        let mut checkpoints = self.0.checkpoints.lock().unwrap_or_else(PoisonError::into_inner);
        match checkpoints.as_mut().filter(|_| position.size > 0) {
            Some(checkpoints) => {
                let note = checkpoints.sign(&position)?;
                Ok(Some(SignedCheckpoint { entries: position.size, note }))
            }
            None => Ok(None),
        }
    }

    /// Entries that the checkpoint store knows, since the ledger was created, and the bytes of those that are kept.
    /// `None`: another thread uses the ledger, perhaps for as long as a disk hangs.
    pub fn size_unless_busy(&self) -> Option<(u64, u64)> {
        let stored = &self.0.state.try_lock().ok()?.stored;
        let kept = stored.size.saturating_sub(stored.first);
        Some((stored.size, kept * ENTRY_BYTES as u64))
    }

    /// Number of entries that the checkpoint store knows.
    pub fn stored_entries(&self) -> u64 {
        self.lock().stored.size
    }

    /// When a checkpoint was last published, in milliseconds since 1970; `None`: never.
    pub fn published_ms(&self) -> Option<i64> {
        self.lock().ledger.as_ref().map(|ledger| ledger.published_ms).filter(|ms| *ms > 0)
    }

    /// The next commit stores that a checkpoint was published.
    pub fn set_published(&self, at_ms: i64) {
        if let Some(ledger) = &mut self.lock().ledger {
            ledger.published_ms = at_ms;
        }
    }
}

impl State {
    /// Without a `lookup`, the key is an id.
    fn contains(&mut self, key: u128, lookup: Option<Lookup>) -> bool {
        if self.in_flight.contains(&key) {
            return true;
        }
        let Some(ledger) = &mut self.ledger else {
            return false;
        };
        let found = match lookup {
            Some(lookup) => ledger.contains(key, lookup),
            None => ledger.contains_untimed(key),
        };
        match found {
            Ok(found) => {
                self.unreadable = false;
                found
            }
            // Delivered twice is better than not at all.
            Err(error) => {
                if !std::mem::replace(&mut self.unreadable, true) {
                    tracing::error!(
                        %error,
                        "the ledger cannot be read; an event that was delivered before may be delivered again"
                    );
                }
                false
            }
        }
    }
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
