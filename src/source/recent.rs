//! The ids of events that were delivered lately, so that what is read twice is delivered once. Pure.

use crate::position::IdChunk;
use crate::record::EventId;
use std::collections::{BTreeSet, HashSet};

/// Five minutes, the default overlap, of 200 events a second, or two hours of 8. What is kept here, the checkpoint's copies while they
/// are written and what that leaves unused come to some 120 bytes an id.
pub const IDS_MAX: usize = 60_000;
/// A chunk is written to the checkpoint as a whole: 22 KiB at most.
const CHUNK_IDS_MAX: usize = 1024;

/// Ids in chunks by the order in which they came.
pub struct Recent {
    known: HashSet<EventId>,
    chunks: Vec<IdChunk>,
    next_key: u32,
    /// Keys of the chunks that the checkpoint does not know as they are.
    changed: BTreeSet<u32>,
    forgotten: BTreeSet<u32>,
    ids_max: usize,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent::new(Vec::new())
    }
}

impl Recent {
    pub fn new(mut chunks: Vec<IdChunk>) -> Recent {
        chunks.sort_by_key(|chunk| chunk.key);
        Recent {
            known: chunks
                .iter()
                .flat_map(|chunk| chunk.ids.iter().copied())
                .collect(),
            next_key: chunks.last().map_or(0, |chunk| chunk.key + 1),
            chunks,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            ids_max: crate::failpoint::limit("ids_max", IDS_MAX),
        }
    }

    pub fn contains(&self, id: EventId) -> bool {
        self.known.contains(&id)
    }

    /// Remembers an event of the time `at_ms`; `false`: it was known.
    pub fn insert(&mut self, id: EventId, at_ms: i64) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        match self.chunks.last_mut() {
            Some(open) if open.ids.len() < CHUNK_IDS_MAX => {
                open.ids.push(id);
                open.oldest_ms = open.oldest_ms.min(at_ms);
                open.newest_ms = open.newest_ms.max(at_ms);
                self.changed.insert(open.key);
            }
            _ => {
                self.changed.insert(self.next_key);
                let mut ids = Vec::with_capacity(CHUNK_IDS_MAX);
                ids.push(id);
                self.chunks.push(IdChunk {
                    key: self.next_key,
                    oldest_ms: at_ms,
                    newest_ms: at_ms,
                    ids,
                });
                self.next_key += 1;
            }
        }
        true
    }

    /// Whether it holds more than it should by so much that forgetting is worth the work.
    pub fn is_over_full(&self) -> bool {
        self.known.len() > self.ids_max + self.ids_max / 8
    }

    /// Forgets chunks whose events are all older than `before_ms`, and beyond [`IDS_MAX`] those with the oldest events: what was
    /// read of a window that turned out too large is newer than what is read next, and met again. Returns the time up to which
    /// ids that were still wanted are forgotten, if any are.
    pub fn prune(&mut self, before_ms: i64) -> Option<i64> {
        let mut over = self.known.len().saturating_sub(self.ids_max);
        let mut incomplete_to = None;
        if over > 0 {
            let mut oldest_first: Vec<(i64, usize)> =
                self.chunks.iter().map(|c| (c.newest_ms, c.ids.len())).collect();
            oldest_first.sort_unstable();
            for (newest_ms, ids) in oldest_first {
                if over == 0 {
                    break;
                }
                over = over.saturating_sub(ids);
                incomplete_to = Some(newest_ms).filter(|newest_ms| *newest_ms >= before_ms);
            }
        }
        let forget = |chunk: &mut IdChunk| {
            chunk.newest_ms < before_ms || incomplete_to.is_some_and(|to_ms| chunk.newest_ms <= to_ms)
        };
        for chunk in self.chunks.extract_if(.., forget) {
            for id in &chunk.ids {
                self.known.remove(id);
            }
            self.changed.remove(&chunk.key);
            self.forgotten.insert(chunk.key);
        }
        incomplete_to
    }

    /// What the checkpoint has to learn since the last call: chunks, and keys of forgotten ones.
    pub fn changes(&mut self) -> (Vec<IdChunk>, Vec<u32>) {
        let changed = std::mem::take(&mut self.changed);
        let chunks = self.chunks.iter().filter(|chunk| changed.contains(&chunk.key));
        let chunks = chunks.cloned().collect();
        (chunks, std::mem::take(&mut self.forgotten).into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(ids: std::ops::Range<u128>) -> Recent {
        let mut recent = Recent::default();
        for id in ids {
            assert!(recent.insert(EventId(id), id as i64));
        }
        recent
    }

    #[test]
    fn what_is_known_is_not_inserted_again_and_survives_a_restart() {
        let mut recent = filled(0..3000);
        let (chunks, forgotten) = recent.changes();
        assert_eq!((chunks.len(), forgotten.len()), (3, 0));
        assert!(!recent.insert(EventId(7), 7));
        assert_eq!(recent.changes(), (vec![], vec![]));
        let mut again = Recent::new(chunks);
        assert!(again.contains(EventId(2999)) && !again.insert(EventId(0), 0));
        // The last chunk has room: it is told again, with its key.
        assert!(again.insert(EventId(9999), 9999));
        let (chunks, _) = again.changes();
        assert_eq!((chunks.len(), chunks[0].key, chunks[0].newest_ms), (1, 2, 9999));
    }

    #[test]
    fn what_is_old_is_forgotten_by_chunks() {
        let mut recent = filled(0..3000);
        recent.changes();
        assert_eq!(recent.prune(1500), None);
        assert!(!recent.contains(EventId(1023)) && recent.contains(EventId(1024)));
        assert_eq!(recent.changes(), (vec![], vec![0]));
        // A chunk that the checkpoint never saw leaves nothing behind but its key.
        let mut recent = filled(0..1024);
        recent.prune(5000);
        assert_eq!(recent.changes(), (vec![], vec![0]));
    }

    #[test]
    fn of_too_many_those_with_the_oldest_events_go_first() {
        let mut recent = Recent::default();
        let newer = IDS_MAX as u128..IDS_MAX as u128 + 2048;
        for id in newer.clone().chain(0..IDS_MAX as u128) {
            recent.insert(EventId(id), id as i64);
        }
        assert_eq!(recent.prune(0), Some(2047));
        assert!(newer.clone().all(|id| recent.contains(EventId(id))));
        assert!(!recent.contains(EventId(2047)) && recent.contains(EventId(2048)));
    }

    #[test]
    fn there_is_a_most_of_ids_and_it_is_told_what_is_not_known_any_more() {
        let mut recent = filled(0..IDS_MAX as u128 + 10);
        assert_eq!(recent.prune(0), Some(1023));
        assert!(recent.known.len() <= IDS_MAX);
    }
}
