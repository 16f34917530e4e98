//! Blocks of 256 entries: which of them may hold an event, by the spans of its entries, and what is stored of a
//! full block. Pure.

use super::entry::{ENTRY_BYTES, Entry, EntryInput, Lookup, NO_TIME};
use super::tree::TreeHash;

/// Entries of a block. A full block is a full subtree of this level of the tree.
pub(super) const BLOCK_ENTRIES: u64 = 256;
pub(super) const BLOCK_LEVEL: u32 = BLOCK_ENTRIES.trailing_zeros();
/// Blocks of a segment, see `segments`.
pub(super) const SEGMENT_BLOCKS: usize = 256;
/// Blocks whose spans are joined, so that a lookup need not look at each block of a segment.
const GROUP_BLOCKS: usize = 16;
/// Length of a block's summary.
pub(super) const BLOCK_SUMMARY_BYTES: usize = 88;
/// Blocks whose keys are kept in memory, 4 KiB each: events that come again are mostly young.
const CACHED_BLOCKS: usize = 64;

/// A range of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub min: i64,
    pub max: i64,
}

impl Span {
    const EMPTY: Span = Span { min: i64::MAX, max: i64::MIN };

    fn is_empty(&self) -> bool {
        self.min > self.max
    }

    fn add(&mut self, other: Span) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    fn add_value(&mut self, value: i64) {
        self.add(Span { min: value, max: value });
    }

    fn contains(&self, value: i64) -> bool {
        self.min <= value && value <= self.max
    }
}

/// What the entries of a block have to be looked up by. The inputs have a span each: while the API reads old events and
/// the files new ones, one span of both would include everything between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spans {
    /// Times of entries of files and of the agent.
    file: Span,
    /// Times of entries of the API.
    api: Span,
    /// Offsets of records of files that have no time.
    offsets: Span,
    /// Some entry has no time.
    untimed: bool,
}

impl Default for Spans {
    fn default() -> Spans {
        Spans { file: Span::EMPTY, api: Span::EMPTY, offsets: Span::EMPTY, untimed: false }
    }
}

impl Spans {
    pub(super) fn add(&mut self, entry: &Entry) {
        if entry.keys().next().is_none() {
            return;
        }
        match (entry.lookup(), entry.input) {
            (Some(Lookup::Time(ms)), EntryInput::Api) => self.api.add_value(ms),
            (Some(Lookup::Time(ms)), EntryInput::File | EntryInput::Agent) => self.file.add_value(ms),
            (Some(Lookup::Offset(offset)), _) => self.offsets.add_value(offset as i64),
            (None, _) => {}
        }
        self.untimed |= entry.flags & NO_TIME != 0;
    }

    fn join(&mut self, other: Spans) {
        self.file.add(other.file);
        self.api.add(other.api);
        self.offsets.add(other.offsets);
        self.untimed |= other.untimed;
    }

    fn may_hold(&self, lookup: Lookup) -> bool {
        match lookup {
            Lookup::Time(ms) => self.file.contains(ms) || self.api.contains(ms),
            Lookup::Offset(offset) => self.offsets.contains(offset as i64),
        }
    }

    /// Times of the oldest and the newest event.
    pub(super) fn times(&self) -> Option<(i64, i64)> {
        let mut times = self.file;
        times.add(self.api);
        (!times.is_empty()).then_some((times.min, times.max))
    }
}

/// The spans of all full blocks from `first` on: 32 bytes a block, and those without a time.
#[derive(Debug, Default)]
pub(super) struct SpanIndex {
    first: u64,
    /// Of files and of the API.
    times: Vec<(Span, Span)>,
    /// The blocks with entries that have no time, and their offsets.
    untimed: Vec<(u64, Span)>,
    /// Joined spans of each [`GROUP_BLOCKS`] blocks, and of each segment.
    groups: Vec<Spans>,
    segments: Vec<Spans>,
}

impl SpanIndex {
    /// `first` is a multiple of [`SEGMENT_BLOCKS`].
    pub(super) fn starting_at(first: u64) -> SpanIndex {
        SpanIndex { first, ..SpanIndex::default() }
    }

    pub(super) fn push(&mut self, spans: Spans) {
        let at = self.times.len();
        if spans.untimed {
            self.untimed.push((self.first + at as u64, spans.offsets));
        }
        self.times.push((spans.file, spans.api));
        for (joined, blocks) in [(&mut self.groups, GROUP_BLOCKS), (&mut self.segments, SEGMENT_BLOCKS)] {
            if at.is_multiple_of(blocks) {
                joined.push(spans);
            } else if let Some(last) = joined.last_mut() {
                last.join(spans);
            }
        }
    }

    /// Drops the first segment, which is full.
    pub(super) fn drop_segment(&mut self) {
        self.times.drain(..SEGMENT_BLOCKS);
        self.groups.drain(..SEGMENT_BLOCKS / GROUP_BLOCKS);
        self.segments.remove(0);
        self.first += SEGMENT_BLOCKS as u64;
        self.untimed.retain(|(block, _)| *block >= self.first);
    }

    /// Of all blocks. `partial`: the spans of the block that is not full.
    pub(super) fn all(&self, partial: Spans) -> Spans {
        let mut all = partial;
        self.segments.iter().for_each(|segment| all.join(*segment));
        all
    }

    /// Numbers of the blocks that may hold such an entry, newest first.
    pub(super) fn candidates(&self, lookup: Lookup) -> impl Iterator<Item = u64> {
        let untimed = self.untimed.iter().rev().filter(move |(_, offsets)| match lookup {
            Lookup::Time(_) => false,
            Lookup::Offset(offset) => offsets.contains(offset as i64),
        });
        let timed = matches!(lookup, Lookup::Time(_));
        let segments = (0..self.segments.len())
            .rev()
            .filter(move |segment| timed && self.segments[*segment].may_hold(lookup));
        let groups = segments.flat_map(move |segment| {
            let groups = parts(segment, SEGMENT_BLOCKS / GROUP_BLOCKS, self.groups.len());
            groups.filter(move |group| self.groups[*group].may_hold(lookup))
        });
        let timed = groups.flat_map(move |group| {
            parts(group, GROUP_BLOCKS, self.times.len()).filter_map(move |at| {
                let (file, api) = self.times[at];
                let holds = match lookup {
                    Lookup::Time(ms) => file.contains(ms) || api.contains(ms),
                    Lookup::Offset(_) => false,
                };
                holds.then_some(self.first + at as u64)
            })
        });
        untimed.map(|(block, _)| *block).chain(timed)
    }

    /// Numbers of the blocks with entries that have no time, newest first.
    pub(super) fn untimed(&self) -> impl Iterator<Item = u64> {
        self.untimed.iter().rev().map(|(block, _)| *block)
    }
}

/// The parts of whole number `whole`, each of `size` parts, last first; there are `count` of all.
fn parts(whole: usize, size: usize, count: usize) -> impl Iterator<Item = usize> {
    (whole * size..((whole + 1) * size).min(count)).rev()
}

/// What is stored of a full block.
pub(super) struct BlockSummary {
    pub spans: Spans,
    pub hash: TreeHash,
}

impl BlockSummary {
    pub(super) fn to_bytes(&self) -> [u8; BLOCK_SUMMARY_BYTES] {
        let Spans { file, api, offsets, untimed } = self.spans;
        let mut bytes = [0; BLOCK_SUMMARY_BYTES];
        for (at, number) in
            [file.min, file.max, api.min, api.max, offsets.min, offsets.max].iter().enumerate()
        {
            bytes[8 * at..8 * at + 8].copy_from_slice(&number.to_be_bytes());
        }
        bytes[55] = u8::from(untimed);
        bytes[56..].copy_from_slice(&self.hash);
        bytes
    }

    pub(super) fn hash_from(bytes: &[u8; BLOCK_SUMMARY_BYTES]) -> TreeHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[56..]);
        hash
    }

    pub(super) fn spans_from(bytes: &[u8; BLOCK_SUMMARY_BYTES]) -> Spans {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[8 * at..8 * at + 8]);
            i64::from_be_bytes(number)
        };
        let span = |at: usize| Span { min: number(at), max: number(at + 1) };
        Spans { file: span(0), api: span(2), offsets: span(4), untimed: bytes[55] != 0 }
    }
}

/// The keys of the blocks that were looked up last.
#[derive(Default)]
pub(super) struct BlockCache {
    clock: u64,
    blocks: Vec<CachedBlock>,
}

struct CachedBlock {
    number: u64,
    used: u64,
    /// In order.
    keys: Vec<u128>,
}

impl BlockCache {
    /// Whether a block holds this key; `None`: the block is not cached.
    pub(super) fn contains(&mut self, number: u64, key: u128) -> Option<bool> {
        self.clock += 1;
        let cached = self.blocks.iter_mut().find(|cached| cached.number == number)?;
        cached.used = self.clock;
        Some(cached.keys.binary_search(&key).is_ok())
    }

    /// Adds a block. `bytes` are its entries.
    pub(super) fn put(&mut self, number: u64, bytes: &[u8]) {
        let entries = bytes.chunks_exact(ENTRY_BYTES).filter_map(Entry::from_bytes);
        let mut keys: Vec<u128> = entries.flat_map(|entry| entry.keys().collect::<Vec<_>>()).collect();
        keys.sort_unstable();
        let block = CachedBlock { number, used: self.clock, keys };
        let oldest = (0..self.blocks.len()).min_by_key(|at| self.blocks[*at].used);
        match oldest.filter(|_| self.blocks.len() >= CACHED_BLOCKS) {
            Some(at) => self.blocks[at] = block,
            None => self.blocks.push(block),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::EntryKind;

    fn entry(input: EntryInput, flags: u8, time_ms: i64, offset: u64) -> Entry {
        let (kind, digest) = (EntryKind::Delivered, [0; 32]);
        Entry { kind, input, flags, file: 1, time_ms, id: 7, offset, length: 1, digest }
    }

    fn spans(entries: &[Entry]) -> Spans {
        let mut spans = Spans::default();
        entries.iter().for_each(|entry| spans.add(entry));
        spans
    }

    fn timed(from_ms: i64, to_ms: i64) -> Spans {
        spans(&[entry(EntryInput::File, 0, from_ms, 0), entry(EntryInput::File, 0, to_ms, 0)])
    }

    #[test]
    fn spans_hold_what_was_added_and_both_ends() {
        let both = spans(&[
            entry(EntryInput::File, 0, 10, 900),
            entry(EntryInput::Agent, 0, 20, 900),
            entry(EntryInput::Api, 0, 100, 0),
            entry(EntryInput::Api, 0, 110, 0),
        ]);
        for (ms, held) in
            [(9, false), (10, true), (20, true), (21, false), (99, false), (100, true), (111, false)]
        {
            assert_eq!(both.may_hold(Lookup::Time(ms)), held, "{ms}");
        }
        assert!(!both.untimed && !both.may_hold(Lookup::Offset(900)));
        assert_eq!(both.times(), Some((10, 110)));
        let untimed =
            spans(&[entry(EntryInput::File, NO_TIME, 0, 5), entry(EntryInput::File, NO_TIME, 0, 9)]);
        for (offset, held) in [(4, false), (5, true), (9, true), (10, false)] {
            assert_eq!(untimed.may_hold(Lookup::Offset(offset)), held, "{offset}");
        }
        assert!(untimed.untimed && untimed.times().is_none() && !untimed.may_hold(Lookup::Time(0)));
        assert_eq!(spans(&[entry(EntryInput::Api, 0, 10, 0)]).times(), Some((10, 10)));
        // A row without a time has nothing to be found by but its id; what has no id is never looked up.
        assert!(spans(&[entry(EntryInput::Api, NO_TIME, 0, 5)]).untimed);
        assert_eq!(spans(&[Entry { id: 0, ..entry(EntryInput::File, 0, 10, 0) }]), Spans::default());
    }

    #[test]
    fn a_summary_is_read_as_it_was_written() {
        let mut all = timed(-5, 7);
        all.join(spans(&[entry(EntryInput::Api, 0, 11, 0), entry(EntryInput::Api, 0, 13, 0)]));
        for flags in [0, NO_TIME] {
            all.add(&entry(EntryInput::File, flags, 1, 17));
            let bytes = BlockSummary { spans: all, hash: [9; 32] }.to_bytes();
            assert_eq!(BlockSummary::spans_from(&bytes), all);
            assert_eq!(BlockSummary::hash_from(&bytes), [9; 32]);
        }
        assert!(all.untimed);
        for joined in [timed(1, 2), all, all] {
            all.join(joined);
            assert!(all.untimed, "some entry has no time, whatever follows");
        }
    }

    /// Block numbers and joined spans stay right when the oldest segment is dropped.
    #[test]
    fn candidates_after_a_segment_was_dropped() {
        let (first, count) = (2 * SEGMENT_BLOCKS as u64, SEGMENT_BLOCKS as u64 + 300);
        let mut index = SpanIndex::starting_at(first);
        for block in first..first + count {
            let untimed = entry(EntryInput::File, NO_TIME, 0, block * 10);
            let at = block as i64 * 100;
            let mut of_block = timed(at, at + 50);
            if block % 128 == 0 {
                of_block.add(&untimed);
            }
            index.push(of_block);
        }
        let found = |index: &SpanIndex, block: u64| {
            index.candidates(Lookup::Time(block as i64 * 100 + 50)).collect::<Vec<_>>()
        };
        let untimed = |index: &SpanIndex| index.untimed().collect::<Vec<_>>();
        assert!((first..first + count).all(|block| found(&index, block) == [block]));
        assert!(found(&index, first - 1).is_empty() && found(&index, first + count).is_empty());
        assert_eq!(index.candidates(Lookup::Time(first as i64 * 100 + 51)).count(), 0, "between two blocks");
        assert_eq!(untimed(&index), [1024, 896, 768, 640, 512]);
        assert_eq!(index.candidates(Lookup::Offset(6_400)).collect::<Vec<_>>(), [640]);
        assert_eq!(index.all(timed(1, 1)).times(), Some((1, (first + count - 1) as i64 * 100 + 50)));
        index.drop_segment();
        let kept = first + SEGMENT_BLOCKS as u64;
        assert!((kept..first + count).all(|block| found(&index, block) == [block]));
        assert!((first..kept).all(|block| found(&index, block).is_empty()));
        assert_eq!(untimed(&index), [1024, 896, 768], "the first block that is kept has one");
        assert_eq!(index.all(Spans::default()).times().unwrap().0, kept as i64 * 100);
        // Newest first, if several may hold it.
        index.push(timed(kept as i64 * 100, i64::MAX));
        assert_eq!(found(&index, kept), [first + count, kept]);
    }

    #[test]
    fn the_block_that_was_not_used_for_longest_leaves_the_cache() {
        let bytes = |id: u128| Entry { id, ..entry(EntryInput::File, 0, 1, 0) }.to_bytes();
        let mut cache = BlockCache::default();
        assert_eq!(cache.contains(0, 1), None);
        for block in 0..CACHED_BLOCKS as u64 {
            assert_eq!(cache.contains(block, 1), None);
            cache.put(block, &[bytes(500 + u128::from(block)), bytes(1_000)].concat());
        }
        assert_eq!(
            (cache.contains(0, 500), cache.contains(0, 1_000), cache.contains(0, 1)),
            (Some(true), Some(true), Some(false))
        );
        let next = CACHED_BLOCKS as u64;
        assert_eq!(cache.contains(next, 1), None);
        cache.put(next, &bytes(5));
        assert_eq!(cache.blocks.len(), CACHED_BLOCKS);
        assert_eq!(cache.contains(1, 1), None, "block 0 was used later");
        assert_eq!((cache.contains(0, 500), cache.contains(next, 5)), (Some(true), Some(true)));
    }
}
