//! Deduplicates by the ids of recently delivered events: an event that is read twice is delivered once. Pure.

use crate::position::IdChunk;
use crate::record::EventId;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The file of an event, and the hash of the cluster node in its record (see [`IdChunk::node`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FromFile {
    pub key: u32,
    pub node: u64,
}

/// How many ids are kept: five minutes, the default overlap, at 200 events a second, or two hours at 8. Each takes
/// about 120 bytes of memory, copies for the checkpoint included.
pub const IDS_MAX: usize = 60_000;
/// A chunk is written to the checkpoint as a whole, so this bounds a write to 22 KiB.
const CHUNK_IDS_MAX: usize = 1024;
/// Events of a file with a larger gap between them share no chunk. The file may not contain the events of the gap, and
/// one event with a wrong time must not create a range of years.
const GAP_MS: i64 = 300_000;
/// How many of the newest chunks an event may join, because several files and an API are read alternately. On a quiet
/// site each event has a chunk of its own.
const OPEN_CHUNKS_MAX: usize = 16;

/// Ids in chunks, in the order of delivery.
///
/// Files may contain more events than [`IDS_MAX`], long before the API has been polled that far. Then their ids are
/// forgotten, and the chunks remain as the time ranges that the files covered: API rows of these ranges are skipped.
/// The time between two files is in no range, because a file may have been deleted there. A range counts only for the
/// node of the file: events of other nodes are in no file that was read.
pub struct Dedup {
    known: HashSet<EventId>,
    chunks: Vec<IdChunk>,
    /// Time ranges of the chunks without ids, oldest first, without overlap.
    skipped_ranges: Vec<(i64, i64)>,
    /// The same for each node.
    ranges_of_node: HashMap<u64, Vec<(i64, i64)>>,
    /// Up to this time, ids of API events are forgotten although the API may still return the events.
    incomplete_to_ms: Option<i64>,
    next_key: u32,
    /// Keys of the chunks that have changed since the last checkpoint.
    changed: BTreeSet<u32>,
    forgotten: BTreeSet<u32>,
    ids_max: usize,
}

impl Default for Dedup {
    fn default() -> Dedup {
        Dedup::new(Vec::new())
    }
}

impl Dedup {
    pub fn new(mut chunks: Vec<IdChunk>) -> Dedup {
        chunks.sort_by_key(|chunk| chunk.key);
        let mut dedup = Dedup {
            known: chunks.iter().flat_map(|chunk| chunk.ids.iter().copied()).collect(),
            next_key: chunks.last().map_or(0, |chunk| chunk.key + 1),
            skipped_ranges: Vec::new(),
            ranges_of_node: HashMap::new(),
            incomplete_to_ms: None,
            chunks,
            changed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            ids_max: crate::failpoint::limit("ids_max", IDS_MAX),
        };
        dedup.find_ranges();
        dedup
    }

    pub fn contains(&self, id: EventId) -> bool {
        self.known.contains(&id)
    }

    /// The time ranges that a file covered and whose ids are forgotten, oldest first. Both ends are inclusive.
    pub fn skipped_ranges(&self) -> &[(i64, i64)] {
        &self.skipped_ranges
    }

    /// Whether a file covered this node's events at this time and their ids are forgotten.
    pub fn is_forgotten(&self, at_ms: i64, node: u64) -> bool {
        let ranges = self.ranges_of_node.get(&node).map_or(&[][..], Vec::as_slice);
        let next = ranges.partition_point(|(_, to_ms)| *to_ms < at_ms);
        ranges.get(next).is_some_and(|(from_ms, _)| *from_ms <= at_ms)
    }

    /// Up to this time, some ids of API events are forgotten although the API may still return the events.
    pub fn incomplete_to_ms(&self) -> Option<i64> {
        self.incomplete_to_ms
    }

    /// Inserts the id of an event of time `at_ms`, from this file or from an API (`None`). `false`: it was known.
    pub fn insert(&mut self, id: EventId, at_ms: i64, from: Option<FromFile>) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        let (file, node) = (from.map(|from| from.key), from.map_or(0, |from| from.node));
        let open = self.chunks.iter_mut().rev().take(OPEN_CHUNKS_MAX).find(|chunk| {
            let has_capacity = (1..CHUNK_IDS_MAX).contains(&chunk.ids.len());
            let same = chunk.file == file && chunk.node == node;
            has_capacity && same && (file.is_none() || is_near(chunk, at_ms, at_ms))
        });
        match open {
            Some(open) => {
                open.ids.push(id);
                open.oldest_ms = open.oldest_ms.min(at_ms);
                open.newest_ms = open.newest_ms.max(at_ms);
                self.changed.insert(open.key);
            }
            _ => {
                self.changed.insert(self.next_key);
                // Chunks of an API fill up. Those of a file may stay at one id, if its events are far apart.
                let capacity = if file.is_none() { CHUNK_IDS_MAX } else { 1 };
                let mut ids = Vec::with_capacity(capacity);
                ids.push(id);
                self.chunks.push(IdChunk {
                    key: self.next_key,
                    file,
                    node,
                    oldest_ms: at_ms,
                    newest_ms: at_ms,
                    ids,
                });
                self.next_key += 1;
            }
        }
        true
    }

    /// Whether so many ids are over the limit that [`Dedup::forget_file_ids`] is worth its cost.
    pub fn is_over_full(&self) -> bool {
        self.known.len() > self.ids_max + self.ids_max / 8
    }

    /// Beyond [`IDS_MAX`], forgets ids of file events, the oldest chunks first. The time ranges stay. The first and
    /// last chunk of a file go last, because events of a gap before or after the file may have times within them.
    pub fn forget_file_ids(&mut self) {
        let mut over = self.known.len().saturating_sub(self.ids_max);
        if over == 0 {
            return;
        }
        let mut ends: HashMap<u32, (u32, u32)> = HashMap::new();
        for chunk in &self.chunks {
            if let Some(file) = chunk.file {
                ends.entry(file).or_insert((chunk.key, chunk.key)).1 = chunk.key;
            }
        }
        let of_files = self.chunks.iter().enumerate();
        let mut order: Vec<(bool, usize)> = of_files
            .filter(|(_, chunk)| !chunk.ids.is_empty())
            .filter_map(|(at, chunk)| {
                let (first, last) = ends[&chunk.file?];
                Some((chunk.key == first || chunk.key == last, at))
            })
            .collect();
        order.sort_unstable();
        for (_, at) in order {
            if over == 0 {
                break;
            }
            let chunk = &mut self.chunks[at];
            over = over.saturating_sub(chunk.ids.len());
            for id in std::mem::take(&mut chunk.ids) {
                self.known.remove(&id);
            }
            self.changed.insert(chunk.key);
        }
        self.join_ranges();
    }

    /// Joins chunks without ids to one per time range. A backlog may create thousands.
    fn join_ranges(&mut self) {
        let mut joined: Vec<IdChunk> = Vec::with_capacity(self.chunks.len());
        let mut last: HashMap<FromFile, usize> = HashMap::new();
        for chunk in self.chunks.drain(..) {
            if let Some(key) = chunk.file.filter(|_| chunk.ids.is_empty()) {
                let file = FromFile { key, node: chunk.node };
                if let Some(before) = last.get(&file).map(|at| &mut joined[*at])
                    && is_near(before, chunk.oldest_ms, chunk.newest_ms)
                {
                    before.oldest_ms = before.oldest_ms.min(chunk.oldest_ms);
                    before.newest_ms = before.newest_ms.max(chunk.newest_ms);
                    self.changed.insert(before.key);
                    self.changed.remove(&chunk.key);
                    self.forgotten.insert(chunk.key);
                    continue;
                }
                last.insert(file, joined.len());
            }
            joined.push(chunk);
        }
        self.chunks = joined;
        self.find_ranges();
    }

    fn find_ranges(&mut self) {
        let mut of_node: HashMap<u64, Vec<(i64, i64)>> = HashMap::new();
        for chunk in self.chunks.iter().filter(|chunk| chunk.ids.is_empty()) {
            let ranges = of_node.entry(chunk.node).or_default();
            ranges.push((chunk.oldest_ms, chunk.newest_ms));
        }
        of_node.values_mut().for_each(merge_overlapping);
        self.skipped_ranges = of_node.values().flatten().copied().collect();
        merge_overlapping(&mut self.skipped_ranges);
        self.ranges_of_node = of_node;
    }

    /// Forgets chunks whose events are all older than `before_ms`. Beyond [`IDS_MAX`], forgets first the ids of files,
    /// then the oldest events: rows of a window that was too large are newer than those that are read next, and are
    /// returned again. Returns the time up to which API ids were forgotten that may still be needed, if any were.
    pub fn prune(&mut self, before_ms: i64) -> Option<i64> {
        let is_old = |chunk: &IdChunk| chunk.newest_ms < before_ms;
        self.forget(is_old);
        self.forget_file_ids();
        let mut over = self.known.len().saturating_sub(self.ids_max);
        let mut incomplete_to = None;
        if over > 0 {
            let with_ids = self.chunks.iter().filter(|chunk| !chunk.ids.is_empty());
            let mut oldest_first: Vec<(i64, usize)> = with_ids.map(|c| (c.newest_ms, c.ids.len())).collect();
            oldest_first.sort_unstable();
            for (newest_ms, ids) in oldest_first {
                if over == 0 {
                    break;
                }
                over = over.saturating_sub(ids);
                incomplete_to = Some(newest_ms);
            }
        }
        if let Some(to_ms) = incomplete_to {
            self.forget(|chunk| !chunk.ids.is_empty() && chunk.newest_ms <= to_ms);
            self.incomplete_to_ms = self.incomplete_to_ms.max(incomplete_to);
        }
        incomplete_to
    }

    fn forget(&mut self, which: impl Fn(&IdChunk) -> bool) {
        let before = self.chunks.len();
        for chunk in self.chunks.extract_if(.., |chunk| which(chunk)) {
            for id in &chunk.ids {
                self.known.remove(id);
            }
            self.changed.remove(&chunk.key);
            self.forgotten.insert(chunk.key);
        }
        if self.chunks.len() < before {
            self.find_ranges();
        }
    }

    /// The changes since the last call, for the checkpoint: new or changed chunks, and keys of forgotten ones.
    pub fn changes(&mut self) -> (Vec<IdChunk>, Vec<u32>) {
        let changed = std::mem::take(&mut self.changed);
        let chunks = self.chunks.iter().filter(|chunk| changed.contains(&chunk.key));
        let chunks = chunks.cloned().collect();
        (chunks, std::mem::take(&mut self.forgotten).into_iter().collect())
    }
}

fn is_near(chunk: &IdChunk, oldest_ms: i64, newest_ms: i64) -> bool {
    chunk.oldest_ms <= newest_ms.saturating_add(GAP_MS) && oldest_ms <= chunk.newest_ms.saturating_add(GAP_MS)
}

fn merge_overlapping(ranges: &mut Vec<(i64, i64)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, before| {
        let overlap = next.0 <= before.1;
        if overlap {
            before.1 = before.1.max(next.1);
        }
        overlap
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u64 = 0;

    fn of(key: u32) -> FromFile {
        FromFile { key, node: NODE }
    }

    fn filled(ids: std::ops::Range<u128>) -> Dedup {
        let mut dedup = Dedup::default();
        for id in ids {
            assert!(dedup.insert(EventId(id), id as i64, None));
        }
        dedup
    }

    /// Inserts events of a file. Each has its number as its id, and is 10 milliseconds after the one before.
    fn insert_file_events(dedup: &mut Dedup, file: u32, ids: std::ops::Range<u128>) {
        for id in ids {
            assert!(dedup.insert(EventId(id), id as i64 * 10, Some(of(file))));
        }
    }

    #[test]
    fn f46_too_many_events_of_files_leave_their_time_ranges() {
        let mut dedup = Dedup::default();
        let max = IDS_MAX as u128;
        insert_file_events(&mut dedup, 1, 0..3000);
        // A file was deleted, and 100,000 events follow in another one.
        insert_file_events(&mut dedup, 2, 103_000..103_000 + 3 * max);
        dedup.forget_file_ids();
        assert!(dedup.known.len() <= IDS_MAX);
        // Ids next to the gap are still known, and the gap is in no range.
        assert!([0, 2999, 103_000, 102_999 + 3 * max].iter().all(|id| dedup.contains(EventId(*id))));
        assert!(!dedup.is_forgotten(29_990, NODE) && !dedup.is_forgotten(1_000_000, NODE));
        assert!(!dedup.is_forgotten(1_030_000, NODE) && dedup.is_forgotten(1_050_000, NODE));
        assert_eq!(dedup.skipped_ranges().len(), 2, "{:?}", dedup.skipped_ranges());
        // One checkpoint stores both, and after a restart the ranges are known.
        let (chunks, forgotten) = dedup.changes();
        assert!(!forgotten.is_empty());
        let again = Dedup::new(chunks);
        assert_eq!(again.skipped_ranges(), dedup.skipped_ranges());
        assert_eq!(again.known, dedup.known);
        // Old ranges are removed.
        assert_eq!(dedup.prune(i64::MAX), None);
        assert_eq!((dedup.skipped_ranges().len(), dedup.chunks.len()), (0, 0));
    }

    #[test]
    fn f46_a_wrong_time_creates_no_range_of_years() {
        let mut dedup = Dedup::default();
        insert_file_events(&mut dedup, 1, 1_000_000..1_040_000);
        for (id, at_ms) in [(1, 0), (2, i64::MAX)] {
            assert!(dedup.insert(EventId(id), at_ms, Some(of(1))));
        }
        insert_file_events(&mut dedup, 1, 1_040_000..1_200_000);
        dedup.forget_file_ids();
        assert!(dedup.is_forgotten(11_000_000, NODE));
        assert!(!dedup.is_forgotten(5_000_000, NODE) && !dedup.is_forgotten(20_000_000, NODE));
    }

    /// A range counts for the node of the file only, also if one file has events of two nodes, and after a restart.
    #[test]
    fn f81_a_skipped_range_counts_for_one_node() {
        let mut dedup = Dedup::default();
        let max = IDS_MAX as u128;
        for id in 0..3 * max {
            let node = 7 + u64::from(id >= 2 * max);
            assert!(dedup.insert(EventId(id), id as i64 * 10, Some(FromFile { key: 1, node })));
        }
        dedup.forget_file_ids();
        let (chunks, _) = dedup.changes();
        let (of_first, of_second) = (500_000, 2 * max as i64 * 10 + 50_000);
        for dedup in [dedup, Dedup::new(chunks)] {
            assert!(dedup.is_forgotten(of_first, 7));
            assert!(!dedup.is_forgotten(of_first, 8) && !dedup.is_forgotten(of_first, 0));
            assert!(!dedup.is_forgotten(of_second, 7));
        }
    }

    /// Events of a quiet site share no chunks: each takes little memory, and only the newest chunks are searched.
    #[test]
    fn events_that_are_far_apart_take_little_memory() {
        let mut dedup = Dedup::default();
        for id in 0..20_000 {
            assert!(dedup.insert(EventId(id), id as i64 * (GAP_MS + 1), Some(of(1))));
        }
        let capacity: usize = dedup.chunks.iter().map(|chunk| chunk.ids.capacity()).sum();
        assert!(capacity <= 8 * 20_000, "{capacity}");
        // Events close in time join an open chunk, also if events of another input are between them.
        let count = dedup.chunks.len();
        for id in 20_000..20_100 {
            assert!(dedup.insert(EventId(id), id as i64, Some(of(2))));
            assert!(dedup.insert(EventId(id + 1_000), 0, None));
        }
        assert_eq!(dedup.chunks.len(), count + 2);
    }

    /// Ids of files are forgotten first, because they leave a time range. Ids of an API leave none.
    #[test]
    fn f46_ids_of_an_api_are_forgotten_after_those_of_files() {
        let mut dedup = filled(0..4000);
        insert_file_events(&mut dedup, 1, 1_000_000..1_000_000 + IDS_MAX as u128);
        assert_eq!(dedup.prune(0), None);
        assert!((0..4000).all(|id| dedup.contains(EventId(id))));
        assert!(dedup.is_forgotten(10_020_000, NODE) && !dedup.is_forgotten(3000, NODE));
    }

    #[test]
    fn what_is_known_is_not_inserted_again_and_survives_a_restart() {
        let mut dedup = filled(0..3000);
        let (chunks, forgotten) = dedup.changes();
        assert_eq!((chunks.len(), forgotten.len()), (3, 0));
        assert!(!dedup.insert(EventId(7), 7, None));
        assert_eq!(dedup.changes(), (vec![], vec![]));
        let mut again = Dedup::new(chunks);
        assert!(again.contains(EventId(2999)) && !again.insert(EventId(0), 0, None));
        // The last chunk has capacity: it is written again under its key.
        assert!(again.insert(EventId(9999), 9999, None));
        let (chunks, _) = again.changes();
        assert_eq!((chunks.len(), chunks[0].key, chunks[0].newest_ms), (1, 2, 9999));
    }

    #[test]
    fn what_is_old_is_forgotten_by_chunks() {
        let mut dedup = filled(0..3000);
        dedup.changes();
        assert_eq!(dedup.prune(1500), None);
        assert!(!dedup.contains(EventId(1023)) && dedup.contains(EventId(1024)));
        assert_eq!(dedup.changes(), (vec![], vec![0]));
        // A chunk that was never stored is only reported as forgotten.
        let mut dedup = filled(0..1024);
        dedup.prune(5000);
        assert_eq!(dedup.changes(), (vec![], vec![0]));
    }

    #[test]
    fn beyond_the_limit_the_oldest_events_are_forgotten_first() {
        let mut dedup = Dedup::default();
        let newer = IDS_MAX as u128..IDS_MAX as u128 + 2048;
        for id in newer.clone().chain(0..IDS_MAX as u128) {
            dedup.insert(EventId(id), id as i64, None);
        }
        assert_eq!(dedup.prune(0), Some(2047));
        assert!(newer.clone().all(|id| dedup.contains(EventId(id))));
        assert!(!dedup.contains(EventId(2047)) && dedup.contains(EventId(2048)));
    }

    #[test]
    fn the_number_of_ids_is_bounded_and_forgotten_times_are_returned() {
        let mut dedup = filled(0..IDS_MAX as u128 + 10);
        assert_eq!(dedup.prune(0), Some(1023));
        assert!(dedup.known.len() <= IDS_MAX);
    }
}
