//! Checks a ledger offline: the signatures of its checkpoints, that each one extends the one before, and the roots
//! against the entries.
//!
//! One pass over the entries. The stored block hashes show which block differs: if the signed root follows
//! from a stored hash and not from the entries, the entries of that block were changed.

use super::blocks::BLOCK_ENTRIES;
use super::entry::Entry;
use super::finding::{CheckpointName, LedgerFinding};
use super::note::{self, Checkpoint, Signature, Verifier};
use super::reader::LedgerReader;
use super::subtrees::stored_blocks;
use super::tree::{Edge, TreeHash, joined_root, leaf_hash};
use std::collections::HashMap;
use std::io;
use std::ops::Range;

/// Blocks that are read at once: 320 KiB of entries.
const READ_BLOCKS: u64 = 16;

/// A checkpoint that was compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedCheckpoint {
    pub name: CheckpointName,
    pub checkpoint: Checkpoint,
    /// The given keys that signed it.
    pub signed_by: Vec<String>,
    /// Whether the entries lead to its root. `None`: unknown.
    pub matches: Option<bool>,
}

/// What is known of a ledger after the check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerCheck {
    pub findings: Vec<LedgerFinding>,
    /// All that could be read and are trusted, by size.
    pub checkpoints: Vec<CheckedCheckpoint>,
    /// The entries that are there. Those before were dropped by retention: they cannot be verified one by one.
    pub entries: Range<u64>,
    /// Number of entries that the largest matching checkpoint vouches for.
    pub vouched: u64,
}

impl LedgerCheck {
    /// The first matching checkpoint that covers an entry.
    pub fn covering(&self, entry: u64) -> Option<&CheckedCheckpoint> {
        let matching = self.checkpoints.iter().filter(|checked| checked.matches == Some(true));
        matching
            .min_by_key(|checked| match checked.checkpoint.size {
                size if size > entry => size,
                _ => u64::MAX,
            })
            .filter(|checked| checked.checkpoint.size > entry)
    }
}

/// Checks a ledger. Without `keys` signatures are not verified. `given`: signed notes of the same log from elsewhere,
/// for example from a SIEM, in any order. `progress` gets the number of the entry that was reached.
///
/// # Errors
/// A file cannot be read.
pub fn check(
    reader: &LedgerReader,
    keys: &[Verifier],
    given: &[String],
    progress: &mut dyn FnMut(u64),
) -> io::Result<LedgerCheck> {
    let mut check = LedgerCheck { entries: reader.first()..reader.size(), ..LedgerCheck::default() };
    let notes = reader.checkpoints()?;
    let own = notes.iter().enumerate().map(|(at, note)| (CheckpointName::Ledger(at + 1), note));
    let given = given.iter().enumerate().map(|(at, note)| (CheckpointName::Given(at + 1), note));
    let mut by_size = HashMap::new();
    for (name, note) in own.chain(given) {
        match trusted(name, note, keys) {
            Ok(checked) => check.admit(checked, &mut by_size),
            Err(finding) => check.add(finding),
        }
    }
    check.checkpoints.sort_by_key(|checked| (checked.checkpoint.size, checked.name));
    let covered = check.checkpoints.last().map_or(0, |checked| checked.checkpoint.size);
    if covered > reader.size() {
        // The agent may have delivered and signed more since the ledger was opened.
        let reader = reader.reopen()?;
        check.entries = reader.first()..reader.size();
        Walk::new(&mut check).run(&reader, progress)?;
    } else {
        Walk::new(&mut check).run(reader, progress)?;
    }
    check.vouched = check
        .checkpoints
        .iter()
        .filter(|checked| checked.matches == Some(true))
        .map(|checked| checked.checkpoint.size)
        .max()
        .unwrap_or(0);
    Ok(check)
}

/// A note that can be read and, if there are keys, is signed by one of them.
fn trusted(name: CheckpointName, note: &str, keys: &[Verifier]) -> Result<CheckedCheckpoint, LedgerFinding> {
    let checkpoint = Checkpoint::parse(note);
    let checkpoint = checkpoint.ok_or(LedgerFinding::CheckpointUnreadable { checkpoint: name })?;
    let mut signed_by = Vec::new();
    for key in keys {
        match key.signature(note) {
            Signature::Valid => signed_by.push(key.short()),
            Signature::Missing => {}
            Signature::Invalid => {
                return Err(LedgerFinding::CheckpointAltered { checkpoint: name, key: key.short() });
            }
        }
    }
    if signed_by.is_empty() && !keys.is_empty() {
        let signers = note::signers(note);
        return Err(match signers.is_empty() {
            true => LedgerFinding::CheckpointUnsigned { checkpoint: name },
            false => LedgerFinding::WrongKey { first: name, last: name, signers },
        });
    }
    Ok(CheckedCheckpoint { name, checkpoint, signed_by, matches: None })
}

impl LedgerCheck {
    /// Adds a checkpoint, unless it is of another log or contradicts the one before it.
    /// `by_size`: name and root of those that were added.
    fn admit(&mut self, checked: CheckedCheckpoint, by_size: &mut HashMap<u64, (CheckpointName, TreeHash)>) {
        let CheckedCheckpoint { name, checkpoint, .. } = &checked;
        if let Some(first) = self.checkpoints.first()
            && first.checkpoint.origin != checkpoint.origin
        {
            let origin = checkpoint.origin.clone();
            return self.add(LedgerFinding::WrongOrigin { checkpoint: *name, origin });
        }
        let same_size = by_size.entry(checkpoint.size).or_insert((*name, checkpoint.root));
        let contradicted = Some(same_size.0).filter(|_| same_size.1 != checkpoint.root);
        let last = self.checkpoints.last().filter(|_| matches!(name, CheckpointName::Ledger(_)));
        let larger = last.filter(|last| last.checkpoint.size > checkpoint.size).map(|last| last.name);
        match contradicted.or(larger) {
            Some(with) => self.add(LedgerFinding::Inconsistent { checkpoint: *name, with }),
            None => self.checkpoints.push(checked),
        }
    }

    /// Adds a finding. Consecutive checkpoints of one wrong key are one finding.
    fn add(&mut self, finding: LedgerFinding) {
        if let LedgerFinding::WrongKey { last: new, signers: now, .. } = &finding
            && let Some(LedgerFinding::WrongKey { last, signers, .. }) = self.findings.last_mut()
            && signers == now
        {
            let next = match *last {
                CheckpointName::Ledger(number) => CheckpointName::Ledger(number + 1),
                CheckpointName::Given(number) => CheckpointName::Given(number + 1),
            };
            if next == *new {
                *last = next;
                return;
            }
        }
        self.findings.push(finding);
    }
}

/// The pass over the entries.
struct Walk<'a> {
    check: &'a mut LedgerCheck,
    /// Index of the next checkpoint to compare.
    next: usize,
    /// Tree over the full blocks, as the entries give it; as it is stored; and over the entries of the last block.
    blocks: Edge,
    stored: Edge,
    leaves: Edge,
    /// Size of the last checkpoint that matched.
    good: u64,
    /// Since then: checkpoints that did not match, and blocks whose entries do not give the stored hash.
    failed: Vec<usize>,
    suspects: Vec<Range<u64>>,
    unreadable: Vec<Range<u64>>,
}

impl Walk<'_> {
    fn new(check: &mut LedgerCheck) -> Walk<'_> {
        let edge = Edge::default;
        Walk {
            check,
            next: 0,
            blocks: edge(),
            stored: edge(),
            leaves: edge(),
            good: 0,
            failed: Vec::new(),
            suspects: Vec::new(),
            unreadable: Vec::new(),
        }
    }

    fn run(&mut self, reader: &LedgerReader, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
        let (first, size) = (reader.first(), reader.size());
        let dropped = stored_blocks(reader, 0..first / BLOCK_ENTRIES)?;
        let known = dropped.iter().all(Option::is_some);
        dropped.into_iter().flatten().for_each(|hash| {
            self.blocks.push(hash, |_, _| {});
            self.stored.push(hash, |_, _| {});
        });
        // The roots within what was dropped cannot be computed any more.
        self.next = self.check.checkpoints.partition_point(|checked| checked.checkpoint.size < first);
        self.compare(first);
        for begin in (first..size).step_by((READ_BLOCKS * BLOCK_ENTRIES) as usize) {
            let end = size.min(begin + READ_BLOCKS * BLOCK_ENTRIES);
            let bytes = reader.read(begin..end)?;
            let mut stored = stored_blocks(reader, begin / BLOCK_ENTRIES..end / BLOCK_ENTRIES)?.into_iter();
            for (number, entry) in (begin..).zip(bytes.as_chunks().0) {
                self.leaves.push(leaf_hash(entry), |_, _| {});
                if Entry::from_bytes(entry).is_none() {
                    extend(&mut self.unreadable, number..number + 1);
                }
                if self.leaves.size() == BLOCK_ENTRIES {
                    self.end_block(number + 1, stored.next().flatten());
                }
                if known {
                    self.compare(number + 1);
                }
            }
            progress(end);
        }
        self.finish(size);
        Ok(())
    }

    fn end_block(&mut self, end: u64, stored: Option<TreeHash>) {
        let hash = std::mem::take(&mut self.leaves).root();
        if stored.is_some_and(|stored| stored != hash) {
            extend(&mut self.suspects, end - BLOCK_ENTRIES..end);
        }
        self.blocks.push(hash, |_, _| {});
        self.stored.push(stored.unwrap_or(hash), |_, _| {});
    }

    /// Compares the checkpoints of this size.
    fn compare(&mut self, size: u64) {
        while let Some(checked) = self.check.checkpoints.get_mut(self.next)
            && checked.checkpoint.size == size
        {
            let root = checked.checkpoint.root;
            if joined_root(&self.blocks, &self.leaves) == root {
                checked.matches = Some(true);
                self.stored.clone_from(&self.blocks);
                self.suspects.clear();
                self.matched(size);
            } else if joined_root(&self.stored, &self.leaves) == root {
                checked.matches = Some(true);
                self.blocks.clone_from(&self.stored);
                self.matched(size);
            } else {
                checked.matches = Some(false);
                self.failed.push(self.next);
            }
            self.next += 1;
        }
    }

    /// The tree is what was signed, up to this size and apart from the suspects.
    fn matched(&mut self, size: u64) {
        let suspects = std::mem::take(&mut self.suspects);
        let first = suspects.first().map_or(size, |suspect| suspect.start);
        let failed = std::mem::take(&mut self.failed);
        let earliest = failed.first().map(|failed| self.check.checkpoints[*failed].checkpoint.size);
        for failed in failed {
            let failed = &self.check.checkpoints[failed];
            // Altered entries explain a root that differs. Without them, two signed roots contradict each other.
            if failed.checkpoint.size <= first {
                let (checkpoint, with) = (failed.name, self.check.checkpoints[self.next].name);
                self.check.findings.push(LedgerFinding::Inconsistent { checkpoint, with });
            }
        }
        self.altered(suspects, self.good..size, earliest);
        self.good = size;
    }

    /// Reports blocks with altered entries, as far as they are in `within`. `failed` is the first size whose root
    /// differs: in its block, an entry before it was altered. Entries that cannot be read explain that their block
    /// differs.
    fn altered(&mut self, suspects: Vec<Range<u64>>, within: Range<u64>, failed: Option<u64>) {
        let mut altered = Vec::new();
        for suspect in suspects {
            for block in suspect.step_by(BLOCK_ENTRIES as usize) {
                let end = block + BLOCK_ENTRIES;
                let failed = failed.filter(|failed| block < *failed && *failed < end);
                let entries = block.max(within.start)..failed.unwrap_or(end).min(within.end);
                let explained = overlaps(&self.unreadable, &(block..end));
                if !entries.is_empty() && !explained {
                    extend(&mut altered, entries);
                }
            }
        }
        let findings = altered.into_iter().map(|entries| LedgerFinding::EntriesAltered { entries });
        self.check.findings.extend(findings);
    }

    fn finish(&mut self, size: u64) {
        let suspects = std::mem::take(&mut self.suspects);
        let last = self.check.checkpoints.last().map_or(0, |checked| checked.checkpoint.size);
        let failed = self.failed.first().map(|failed| self.check.checkpoints[*failed].checkpoint.size);
        let within = self.good..failed.unwrap_or(last).max(self.good);
        let is_explained =
            |range: &Range<u64>| suspects.iter().chain(&self.unreadable).any(|known| meets(known, range));
        match failed {
            // What differs is somewhere after the last checkpoint that matched.
            Some(_) if !is_explained(&within) => {
                self.check.findings.push(LedgerFinding::EntriesAltered { entries: within });
            }
            _ => self.altered(suspects, self.good..last.max(self.good), failed),
        }
        for failed in self.failed.iter().skip(1) {
            self.check.checkpoints[*failed].matches = None;
        }
        let unreadable = self.unreadable.iter().filter(|entries| entries.start < last).cloned();
        let unreadable = unreadable.map(|entries| LedgerFinding::EntriesUnreadable { entries });
        self.check.findings.extend(unreadable);
        if last > size {
            self.check.findings.push(LedgerFinding::EntriesMissing { entries: size..last });
        }
    }
}

/// Adds a range behind the others.
fn extend(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

fn meets(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start < other.end && other.start < one.end
}

fn overlaps(ranges: &[Range<u64>], range: &Range<u64>) -> bool {
    ranges.iter().rev().any(|known| meets(known, range))
}
