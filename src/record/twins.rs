//! Counts twins: events with identical content are still distinct events and get distinct ids. Pure.

use super::EventId;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// Twins have the same millisecond, so they are close together in a file even if its lines are out of order. A count
/// over a limited number of bytes can be rebuilt from the file, wherever reading starts.
pub(crate) const WINDOW_BYTES: u64 = 1 << 20;

#[derive(Default)]
pub(crate) struct Twins {
    counts: HashMap<EventId, Count, BuildHasherDefault<IdentityHasher>>,
    recent: VecDeque<(u64, EventId)>,
}

/// Ids are cryptographic hashes already, so a hash table needs no further hashing.
#[derive(Default)]
pub(crate) struct IdentityHasher(u64);

/// A set of ids, for few enough of them that ids of an attacker's choice do no harm.
pub(crate) type IdSet = HashSet<u128, BuildHasherDefault<IdentityHasher>>;

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = id as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

struct Count {
    in_window: u32,
    next: u32,
}

impl Twins {
    /// The number of this event among its twins, 0 for the first. `at` is its offset in the sequence; it never
    /// decreases.
    pub(crate) fn number(&mut self, id: EventId, at: u64) -> u32 {
        while let Some(&(oldest, gone)) = self.recent.front()
            && at.saturating_sub(oldest) > WINDOW_BYTES
        {
            self.recent.pop_front();
            if let Entry::Occupied(mut count) = self.counts.entry(gone) {
                count.get_mut().in_window -= 1;
                if count.get().in_window == 0 {
                    count.remove();
                }
            }
        }
        let count = self.counts.entry(id).or_insert(Count { in_window: 0, next: 0 });
        let number = count.next;
        count.in_window += 1;
        count.next += 1;
        self.recent.push_back((at, id));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f35_twins_are_counted_within_the_window_only() {
        let (a, b) = (EventId(1), EventId(2));
        let mut twins = Twins::default();
        let numbers =
            [(a, 0), (b, 10), (a, 20), (a, 30), (b, 40), (a, WINDOW_BYTES + 30), (a, 9 * WINDOW_BYTES)]
                .map(|(id, at)| twins.number(id, at));
        assert_eq!(numbers, [0, 0, 1, 2, 1, 3, 0]);
        assert_eq!(twins.counts.len(), 1);
    }
}
