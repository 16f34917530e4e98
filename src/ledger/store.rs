//! The ledger of one source: appends entries, and finds events in it.
//!
//! [`LedgerPosition`] says what is durable. The checkpoint stores it together with the positions of the source. When
//! the ledger is opened, everything beyond it is cut off: the positions of those entries were not stored either, so the
//! events are read and appended again.

use super::blocks::{
    BLOCK_ENTRIES, BLOCK_LEVEL, BLOCK_SUMMARY_BYTES, BlockCache, BlockSummary, SEGMENT_BLOCKS, SpanIndex,
    Spans,
};
use super::entry::{ENTRY_BYTES, Entry, Lookup, NO_TIME};
pub use super::segments::Damage;
use super::segments::{SEGMENT_ENTRIES, Segments, Unsynced};
use super::tree::{Edge, leaf_hash};
use crate::position::LedgerPosition;
use crate::record::twins::IdSet;
use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::time::SystemTime;

/// Full blocks that are written together while events keep arriving: few enough system calls, and 80 KiB.
const WRITE_BLOCKS: u64 = 4;

/// A row without a time has nothing to find its block by. So it is looked up among the newest of its kind, of which
/// there are few: a row that cannot be read.
const UNTIMED_MAX: usize = 65_536;

pub(super) struct Ledger {
    segments: Segments,
    /// The first entry that is kept.
    first: u64,
    edge: Edge,
    spans: SpanIndex,
    blocks_synced: u64,
    /// When a checkpoint was last published.
    pub(super) published_ms: i64,
    /// Number of entries that are in the segments.
    written: u64,
    /// Entries after those, and the summaries of the blocks that they fill.
    unwritten: Vec<u8>,
    unwritten_summaries: Vec<u8>,
    /// Keys of the entries since the last full block that is written.
    recent_keys: IdSet,
    /// Spans of the block that is not full.
    partial_spans: Spans,
    cache: BlockCache,
    /// `None`: nobody has asked for them.
    untimed: Option<UntimedIds>,
    /// Files of dropped segments may still exist.
    has_dropped: bool,
}

impl Ledger {
    /// Opens or creates the ledger in `dir`.
    pub(super) fn open(dir: &Path, position: &LedgerPosition) -> io::Result<(Ledger, Vec<Damage>)> {
        let mut ledger = Ledger::new(Segments::open(dir)?, position)?;
        let damage = ledger.segments.cut_back(ledger.first..ledger.written)?;
        ledger.load()?;
        let known = ledger.written / BLOCK_ENTRIES;
        let made = ledger.unwritten_summaries.len() / BLOCK_SUMMARY_BYTES;
        ledger.segments.cut_summaries(known - made as u64)?;
        Ok((ledger, damage))
    }

    /// As [`Ledger::open`], without changing anything. `None`: there is no ledger. Nothing may be appended.
    pub(super) fn open_existing(dir: &Path, position: &LedgerPosition) -> io::Result<Option<Ledger>> {
        let Some(segments) = Segments::open_existing(dir)? else {
            return Ok(None);
        };
        let mut ledger = Ledger::new(segments, position)?;
        match ledger.load() {
            // It has lost entries, which the next start with write access repairs and reports.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(Some(ledger)),
        }
    }

    fn new(segments: Segments, position: &LedgerPosition) -> io::Result<Ledger> {
        let edge = Edge::new(position.size, position.edge.clone());
        let edge =
            edge.ok_or_else(|| io::Error::other("the stored edge of the tree does not fit its size"))?;
        Ok(Ledger {
            segments,
            first: position.first,
            edge,
            spans: SpanIndex::starting_at(position.first / BLOCK_ENTRIES),
            blocks_synced: position.blocks_synced,
            published_ms: position.published_ms,
            written: position.size,
            unwritten: Vec::new(),
            unwritten_summaries: Vec::new(),
            recent_keys: IdSet::default(),
            partial_spans: Spans::default(),
            cache: BlockCache::default(),
            untimed: None,
            has_dropped: false,
        })
    }

    /// Reads the summaries of the blocks. Those that may not be on the disk are made again from the entries.
    fn load(&mut self) -> io::Result<()> {
        let (first, blocks) = (self.first / BLOCK_ENTRIES, self.written / BLOCK_ENTRIES);
        let stored = self.blocks_synced.min(blocks).min(self.segments.summaries()?).max(first);
        for summary in self.segments.read_summaries(first..stored)?.as_chunks().0 {
            self.spans.push(BlockSummary::spans_from(summary));
        }
        for block in stored..blocks {
            let (mut edge, mut spans) = (Edge::default(), Spans::default());
            let bytes = self.segments.read(block * BLOCK_ENTRIES..(block + 1) * BLOCK_ENTRIES)?;
            for bytes in bytes.as_chunks().0 {
                edge.push(leaf_hash(bytes), |_, _| {});
                if let Some(entry) = Entry::from_bytes(bytes) {
                    spans.add(&entry);
                }
            }
            self.add_block(BlockSummary { spans, hash: edge.root() });
        }
        // Those that were made again reach the disk with the next sync of summaries, and no earlier.
        self.blocks_synced = stored;
        let partial = self.segments.read(blocks * BLOCK_ENTRIES..self.written)?;
        for entry in partial.chunks_exact(ENTRY_BYTES).filter_map(Entry::from_bytes) {
            self.partial_spans.add(&entry);
            self.recent_keys.extend(entry.keys());
        }
        Ok(())
    }

    fn add_block(&mut self, summary: BlockSummary) {
        self.unwritten_summaries.extend_from_slice(&summary.to_bytes());
        self.spans.push(summary.spans);
    }

    /// Number of entries, those that are not written yet included.
    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Times of the oldest and the newest event.
    pub(super) fn times(&self) -> Option<(i64, i64)> {
        self.spans.all(self.partial_spans).times()
    }

    /// Appends an entry in memory.
    pub(super) fn append(&mut self, entry: &Entry) {
        let bytes = entry.to_bytes();
        self.unwritten.extend_from_slice(&bytes);
        self.partial_spans.add(entry);
        self.recent_keys.extend(entry.keys());
        if let Some(untimed) = self.untimed.as_mut().filter(|_| entry.flags & NO_TIME != 0) {
            untimed.push(entry.id);
        }
        let mut block_hash = None;
        self.edge.push(leaf_hash(&bytes), |level, hash| {
            if level == BLOCK_LEVEL {
                block_hash = Some(*hash);
            }
        });
        if let Some(hash) = block_hash {
            let spans = std::mem::take(&mut self.partial_spans);
            self.add_block(BlockSummary { spans, hash });
        }
    }

    /// Number of full blocks that wait to be written.
    fn unwritten_blocks(&self) -> u64 {
        self.size() / BLOCK_ENTRIES - self.written / BLOCK_ENTRIES
    }

    /// Writes what was appended if it is much.
    pub(super) fn write_if_much(&mut self) -> io::Result<()> {
        if self.unwritten_blocks() < WRITE_BLOCKS { Ok(()) } else { self.write() }
    }

    /// Writes what was appended. After an error everything is still found, and the next call writes it.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.segments.write(self.written, &self.unwritten)?;
        let blocks = self.size() / BLOCK_ENTRIES;
        let summaries = self.unwritten_summaries.len() / BLOCK_SUMMARY_BYTES;
        if summaries > 0 {
            self.segments.write_summaries(blocks - summaries as u64, &self.unwritten_summaries)?;
        }
        if self.unwritten_blocks() > 0 {
            let partial = (self.size() % BLOCK_ENTRIES) as usize * ENTRY_BYTES;
            let partial = &self.unwritten[self.unwritten.len().saturating_sub(partial)..];
            self.recent_keys.clear();
            for entry in partial.chunks_exact(ENTRY_BYTES).filter_map(Entry::from_bytes) {
                self.recent_keys.extend(entry.keys());
            }
        }
        self.written = self.size();
        self.unwritten.clear();
        self.unwritten_summaries.clear();
        Ok(())
    }

    /// Writes what was appended. Returns what has to be synced before the position may be stored.
    pub(super) fn prepare_commit(&mut self) -> io::Result<(LedgerPosition, Unsynced)> {
        self.write()?;
        // Once a segment, so that a start has at most one segment to hash again.
        let summaries = self.written / SEGMENT_ENTRIES > self.blocks_synced / SEGMENT_BLOCKS as u64;
        if summaries {
            self.blocks_synced = self.written / BLOCK_ENTRIES;
        }
        let position = LedgerPosition {
            first: self.first,
            size: self.size(),
            edge: self.edge.roots().to_vec(),
            blocks_synced: self.blocks_synced,
            published_ms: self.published_ms,
        };
        Ok((position, self.segments.take_unsynced(summaries)))
    }

    /// Drops full segments, oldest first: those that are too many for `bytes_max`, and one that was last written before
    /// `before`, if given. One at a time, because the clock may be wrong for a moment. The time of an event does not
    /// count: old events may have been delivered just now. The files are removed by [`Ledger::remove_dropped`], once
    /// the new position is stored.
    pub(super) fn drop_segments(&mut self, mut before: Option<SystemTime>, bytes_max: u64) -> io::Result<()> {
        let kept_max = (bytes_max / (SEGMENT_ENTRIES * ENTRY_BYTES as u64)).max(1);
        while self.written >= self.first + SEGMENT_ENTRIES {
            // The segment that is being written counts as well.
            let segments = (self.written - self.first).div_ceil(SEGMENT_ENTRIES);
            if segments <= kept_max {
                let Some(before) = before.take() else { break };
                if self.segments.last_written(self.first)? >= before {
                    break;
                }
            }
            self.spans.drop_segment();
            self.first += SEGMENT_ENTRIES;
            self.has_dropped = true;
        }
        Ok(())
    }

    /// Removes the files of dropped segments.
    pub(super) fn remove_dropped(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.has_dropped) {
            self.segments.remove_before(self.first)?;
        }
        Ok(())
    }

    /// The sync failed: the next commit syncs it all.
    pub(super) fn return_unsynced(&mut self, unsynced: Unsynced) {
        self.segments.return_unsynced(unsynced);
    }

    /// Whether an entry with this key was appended.
    pub(super) fn contains(&mut self, key: u128, lookup: Lookup) -> io::Result<bool> {
        if self.recent_keys.contains(&key) {
            return Ok(true);
        }
        let written = self.written / BLOCK_ENTRIES;
        for block in self.spans.candidates(lookup).filter(|block| *block < written) {
            let mut found = self.cache.contains(block, key);
            if found.is_none() {
                let bytes = self.segments.read(block * BLOCK_ENTRIES..(block + 1) * BLOCK_ENTRIES)?;
                self.cache.put(block, &bytes);
                found = self.cache.contains(block, key);
            }
            if found == Some(true) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one of the newest [`UNTIMED_MAX`] entries without a time has this id.
    pub(super) fn contains_untimed(&mut self, id: u128) -> io::Result<bool> {
        if self.untimed.is_none() {
            self.untimed = Some(self.read_untimed()?);
        }
        Ok(self.untimed.as_ref().is_some_and(|untimed| untimed.ids.contains(&id)))
    }

    fn read_untimed(&self) -> io::Result<UntimedIds> {
        let mut newest_first = Vec::new();
        let mut push = |bytes: &[u8]| {
            let entries = bytes.chunks_exact(ENTRY_BYTES).rev().filter_map(Entry::from_bytes);
            newest_first.extend(entries.filter(|entry| entry.flags & NO_TIME != 0).map(|entry| entry.id));
            newest_first.len() < UNTIMED_MAX
        };
        let blocks = self.written / BLOCK_ENTRIES;
        push(&self.unwritten);
        push(&self.segments.read(blocks * BLOCK_ENTRIES..self.written)?);
        for block in self.spans.untimed().filter(|block| *block < blocks) {
            if !push(&self.segments.read(block * BLOCK_ENTRIES..(block + 1) * BLOCK_ENTRIES)?) {
                break;
            }
        }
        let mut untimed = UntimedIds::default();
        newest_first.into_iter().rev().for_each(|id| untimed.push(id));
        Ok(untimed)
    }
}

/// Ids of the newest entries without a time.
#[derive(Default)]
struct UntimedIds {
    ids: IdSet,
    order: VecDeque<u128>,
}

impl UntimedIds {
    fn push(&mut self, id: u128) {
        if !self.ids.insert(id) {
            return;
        }
        self.order.push_back(id);
        if self.order.len() > UNTIMED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory is bounded: beyond the limit the oldest id is forgotten, and no other.
    #[test]
    fn the_oldest_ids_without_a_time_are_forgotten() {
        let mut untimed = UntimedIds::default();
        (0..UNTIMED_MAX as u128 + 2).for_each(|id| untimed.push(id));
        // A repeated id takes no place.
        untimed.push(UNTIMED_MAX as u128);
        assert_eq!((untimed.ids.len(), untimed.order.len()), (UNTIMED_MAX, UNTIMED_MAX));
        assert!(!untimed.ids.contains(&0) && !untimed.ids.contains(&1) && untimed.ids.contains(&2));
    }
}
