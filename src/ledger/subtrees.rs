//! Hashes of the tree over a stored ledger: those that are stored in `blocks`, or computed from the entries.

use super::blocks::{BLOCK_LEVEL, BlockSummary};
use super::reader::{LedgerReader, READ_ENTRIES};
use super::tiles::{TILE_LEVELS, WIDTH};
use super::tree::{self, Edge, SubtreeHashes, TreeHash, leaf_hash};
use std::io;
use std::ops::Range;

/// Where the hashes of a ledger are taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashSource {
    /// What is stored, as far as it is; else the entries.
    Stored,
    /// The entries alone: slow, and independent of what is stored.
    Entries,
}

pub(super) struct Subtrees<'a> {
    pub reader: &'a LedgerReader,
    pub source: HashSource,
}

impl SubtreeHashes for Subtrees<'_> {
    fn hash(&self, level: u32, index: u64) -> io::Result<TreeHash> {
        if self.source == HashSource::Stored
            && let Some(hash) = stored(self.reader, level, index)?
        {
            return Ok(hash);
        }
        from_entries(self.reader, index << level..(index + 1) << level)
    }
}

/// What `work` makes of the stored hashes, if `fits` says that it is right; else what it makes of the entries. Stored
/// hashes may be damaged while the entries are not, and entries may be dropped while their hashes are not.
pub(super) fn either<T>(
    reader: &LedgerReader,
    work: impl Fn(&Subtrees<'_>) -> io::Result<T>,
    fits: impl Fn(&T) -> bool,
) -> io::Result<Option<T>> {
    let made = work(&Subtrees { reader, source: HashSource::Stored })?;
    if fits(&made) {
        return Ok(Some(made));
    }
    if reader.first() > 0 {
        return Ok(None);
    }
    let made = work(&Subtrees { reader, source: HashSource::Entries })?;
    Ok(Some(made).filter(|made| fits(made)))
}

/// Whether this is the root of the first `size` entries.
pub(super) fn has_root(reader: &LedgerReader, size: u64, root: &TreeHash) -> io::Result<bool> {
    if size > reader.size() {
        return Ok(false);
    }
    Ok(either(reader, |hashes| tree::root(hashes, size), |found| found == root)?.is_some())
}

/// The hashes of a range of full blocks, as far as they are stored.
pub(super) fn stored_blocks(reader: &LedgerReader, blocks: Range<u64>) -> io::Result<Vec<Option<TreeHash>>> {
    if reader.is_export() {
        return blocks.map(|block| stored(reader, BLOCK_LEVEL, block)).collect();
    }
    let summaries = reader.read_block_summaries(blocks.clone())?;
    let mut hashes: Vec<Option<TreeHash>> = summaries.iter().map(BlockSummary::hash_from).map(Some).collect();
    hashes.resize(blocks.end.saturating_sub(blocks.start) as usize, None);
    Ok(hashes)
}

/// The hash of one full subtree, if what is stored is enough to tell it.
fn stored(reader: &LedgerReader, level: u32, index: u64) -> io::Result<Option<TreeHash>> {
    if reader.is_export() {
        let (tile_level, below) = (level / TILE_LEVELS, level % TILE_LEVELS);
        let first = index << below;
        let place = first % WIDTH..first % WIDTH + (1 << below);
        let hashes = reader.read_tile(tile_level, first / WIDTH, place)?;
        return Ok(hashes.map(|hashes| join(hashes.into_iter())));
    }
    let Some(depth) = level.checked_sub(BLOCK_LEVEL) else {
        return Ok(None);
    };
    let blocks = index << depth..(index + 1) << depth;
    let summaries = reader.read_block_summaries(blocks.clone())?;
    let complete = summaries.len() as u64 == blocks.end - blocks.start;
    Ok(complete.then(|| join(summaries.iter().map(BlockSummary::hash_from))))
}

/// The hash of the subtree that these full subtrees of one level make up.
fn join(hashes: impl Iterator<Item = TreeHash>) -> TreeHash {
    let mut edge = Edge::default();
    hashes.for_each(|hash| edge.push(hash, |_, _| {}));
    edge.root()
}

fn from_entries(reader: &LedgerReader, range: Range<u64>) -> io::Result<TreeHash> {
    if range.start < reader.first() || range.end > reader.size() {
        return Err(io::Error::other(format!(
            "the ledger does not have its entries {} to {}, and no hash of them",
            range.start,
            range.end - 1
        )));
    }
    let mut edge = Edge::default();
    for begin in range.clone().step_by(READ_ENTRIES as usize) {
        let bytes = reader.read(begin..range.end.min(begin + READ_ENTRIES))?;
        bytes.as_chunks().0.iter().for_each(|entry| edge.push(leaf_hash(entry), |_, _| {}));
    }
    Ok(edge.root())
}
