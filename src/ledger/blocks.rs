//! Blocks of 256 entries: which of them may hold an event, by the range of its events' times, and what is stored of a
//! full block. Pure.

use super::entry::{ENTRY_BYTES, Entry};
use super::tree::TreeHash;

/// Entries of a block. A full block is a full subtree of this level of the tree.
pub(super) const BLOCK_ENTRIES: u64 = 256;
pub(super) const BLOCK_LEVEL: u32 = BLOCK_ENTRIES.trailing_zeros();
/// Blocks of a group: as many as a segment has.
pub(super) const GROUP_BLOCKS: usize = 256;
/// Length of a block's record.
pub(super) const RECORD_BYTES: usize = 56;
/// Blocks whose keys are kept in memory, 4 KiB each: events that come again are mostly young.
const CACHED_BLOCKS: usize = 64;

/// The range of the times of some events, in milliseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub oldest_ms: i64,
    pub newest_ms: i64,
    /// Some event has no time.
    pub timeless: bool,
}

impl Default for Times {
    fn default() -> Times {
        Times { oldest_ms: i64::MAX, newest_ms: i64::MIN, timeless: false }
    }
}

impl Times {
    pub(super) fn add(&mut self, entry: &Entry) {
        if entry.keys().next().is_none() {
            return;
        }
        match entry.lookup_ms() {
            Some(ms) => {
                self.oldest_ms = self.oldest_ms.min(ms);
                self.newest_ms = self.newest_ms.max(ms);
            }
            None => self.timeless = true,
        }
    }

    fn join(&mut self, other: Times) {
        self.oldest_ms = self.oldest_ms.min(other.oldest_ms);
        self.newest_ms = self.newest_ms.max(other.newest_ms);
        self.timeless |= other.timeless;
    }

    fn may_hold(&self, time_ms: Option<i64>) -> bool {
        match time_ms {
            Some(ms) => self.oldest_ms <= ms && ms <= self.newest_ms,
            None => self.timeless,
        }
    }
}

/// The times of all full blocks from `first` on: 16 bytes a block.
#[derive(Debug, Default)]
pub(super) struct TimeIndex {
    first: u64,
    ranges: Vec<(i64, i64)>,
    timeless: Vec<u64>,
    groups: Vec<Times>,
}

impl TimeIndex {
    /// `first` is a multiple of [`GROUP_BLOCKS`].
    pub(super) fn starting_at(first: u64) -> TimeIndex {
        TimeIndex { first, ..TimeIndex::default() }
    }

    pub(super) fn push(&mut self, times: Times) {
        let at = self.ranges.len();
        if times.timeless {
            self.timeless.push(self.first + at as u64);
        }
        self.ranges.push((times.oldest_ms, times.newest_ms));
        if at.is_multiple_of(GROUP_BLOCKS) {
            self.groups.push(times);
        } else if let Some(group) = self.groups.last_mut() {
            group.join(times);
        }
    }

    /// Drops the first group, which is full.
    pub(super) fn drop_group(&mut self) {
        self.ranges.drain(..GROUP_BLOCKS);
        self.groups.remove(0);
        self.first += GROUP_BLOCKS as u64;
        self.timeless.retain(|block| *block >= self.first);
    }

    /// Of all blocks and of the one that is not full.
    pub(super) fn all(&self, begun: Times) -> Times {
        let mut all = begun;
        self.groups.iter().for_each(|group| all.join(*group));
        all
    }

    /// Numbers of the blocks that may hold an event of this time, newest first. `None`: an event without a time.
    pub(super) fn candidates(&self, time_ms: Option<i64>) -> impl Iterator<Item = u64> {
        let groups = (0..self.groups.len()).rev().filter(move |group| self.groups[*group].may_hold(time_ms));
        groups.flat_map(move |group| {
            let from = group * GROUP_BLOCKS;
            let to = (from + GROUP_BLOCKS).min(self.ranges.len());
            (from..to).rev().filter_map(move |at| {
                let block = self.first + at as u64;
                let holds = match time_ms {
                    Some(ms) => self.ranges[at].0 <= ms && ms <= self.ranges[at].1,
                    None => self.timeless.binary_search(&block).is_ok(),
                };
                holds.then_some(block)
            })
        })
    }
}

/// What is stored of a full block.
pub(super) struct BlockRecord {
    pub times: Times,
    pub hash: TreeHash,
}

impl BlockRecord {
    pub(super) fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[..8].copy_from_slice(&self.times.oldest_ms.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.times.newest_ms.to_be_bytes());
        bytes[23] = u8::from(self.times.timeless);
        bytes[24..].copy_from_slice(&self.hash);
        bytes
    }

    pub(super) fn hash_from(bytes: &[u8; RECORD_BYTES]) -> TreeHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(&bytes[24..]);
        hash
    }

    pub(super) fn times_from(bytes: &[u8; RECORD_BYTES]) -> Times {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_be_bytes(number)
        };
        Times { oldest_ms: number(0), newest_ms: number(8), timeless: bytes[23] != 0 }
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
    keys: Vec<u128>,
}

impl BlockCache {
    /// The keys of a block; `None`: it is not cached.
    pub(super) fn keys(&mut self, number: u64) -> Option<&[u128]> {
        self.clock += 1;
        let cached = self.blocks.iter_mut().find(|cached| cached.number == number)?;
        cached.used = self.clock;
        Some(&cached.keys)
    }

    /// Adds a block. `bytes` are its entries.
    pub(super) fn put(&mut self, number: u64, bytes: &[u8]) -> &[u128] {
        let entries = bytes.chunks_exact(ENTRY_BYTES).filter_map(Entry::from_bytes);
        let keys = entries.flat_map(|entry| entry.keys().collect::<Vec<_>>()).collect();
        let block = CachedBlock { number, used: self.clock, keys };
        let oldest = (0..self.blocks.len()).min_by_key(|at| self.blocks[*at].used);
        let at = match oldest.filter(|_| self.blocks.len() >= CACHED_BLOCKS) {
            Some(at) => {
                self.blocks[at] = block;
                at
            }
            None => {
                self.blocks.push(block);
                self.blocks.len() - 1
            }
        };
        &self.blocks[at].keys
    }
}
