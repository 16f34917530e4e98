//! The Merkle tree over the entries: RFC 6962 hashing with SHA-256, its right edge, and proofs. Pure.

use super::entry::ENTRY_BYTES;
use ring::digest::{SHA256, digest};
use sha2::compress256;
use sha2::digest::generic_array::GenericArray;
use std::io;

pub(super) type TreeHash = [u8; 32];

/// Of a leaf: SHA-256(0x00 ‖ entry).
pub(super) fn leaf_hash(entry: &[u8; ENTRY_BYTES]) -> TreeHash {
    let mut message = [0; 1 + ENTRY_BYTES];
    message[1..].copy_from_slice(entry);
    short_sha256(&message)
}

/// Of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub(super) fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    let mut message = [1; 65];
    message[1..33].copy_from_slice(left);
    message[33..].copy_from_slice(right);
    short_sha256(&message)
}

/// SHA-256 of a message of 56 to 119 bytes: two blocks with the padding. There are two such messages for each event,
/// and the general function takes about as long for its bookkeeping as for the hash.
fn short_sha256<const N: usize>(message: &[u8; N]) -> TreeHash {
    const { assert!(N >= 56 && N < 120) };
    let mut blocks = [[0; 64]; 2];
    let padded = blocks.as_flattened_mut();
    padded[..N].copy_from_slice(message);
    padded[N] = 0x80;
    padded[120..].copy_from_slice(&(8 * N as u64).to_be_bytes());
    let mut state = SHA256_START;
    compress256(&mut state, &blocks.map(GenericArray::from));
    let mut hash = [0; 32];
    for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    hash
}

/// Of FIPS 180-4.
const SHA256_START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The right edge of a tree: the roots of the full subtrees that make it up, largest first. At most one a level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Edge {
    size: u64,
    roots: Vec<TreeHash>,
}

impl Edge {
    /// `None`: so many roots do not belong to a tree of this size.
    pub(super) fn new(size: u64, roots: Vec<TreeHash>) -> Option<Edge> {
        (roots.len() == size.count_ones() as usize).then_some(Edge { size, roots })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn roots(&self) -> &[TreeHash] {
        &self.roots
    }

    /// Appends a leaf. `full` is called with each subtree that becomes full: its level and its hash.
    pub(super) fn push(&mut self, leaf: TreeHash, mut full: impl FnMut(u32, &TreeHash)) {
        let mut hash = leaf;
        let merges = self.size.trailing_ones();
        for level in 1..=merges {
            let Some(left) = self.roots.pop() else { break };
            hash = node_hash(&left, &hash);
            full(level, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> TreeHash {
        joined_root(self, &Edge::default())
    }
}

/// The root of a tree whose left part is given by full subtrees of one level, and whose rest by leaves, fewer than one
/// of those subtrees has.
pub(super) fn joined_root(subtrees: &Edge, leaves: &Edge) -> TreeHash {
    let mut roots = subtrees.roots.iter().chain(&leaves.roots).rev();
    let Some(last) = roots.next() else {
        return empty_root();
    };
    roots.fold(*last, |right, left| node_hash(left, &right))
}

/// The root of the empty tree.
fn empty_root() -> TreeHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, b"").as_ref());
    hash
}

/// Gives the hashes of full subtrees: `level` 0 is a leaf, and `index` counts the subtrees of that level.
pub(super) trait SubtreeHashes {
    fn hash(&self, level: u32, index: u64) -> io::Result<TreeHash>;
}

/// The hash of the leaves `from..to`; `from` is a multiple of each power of two below `to - from`.
fn range_hash(hashes: &impl SubtreeHashes, from: u64, to: u64) -> io::Result<TreeHash> {
    let size = to - from;
    if size.is_power_of_two() {
        let level = size.trailing_zeros();
        return hashes.hash(level, from >> level);
    }
    let middle = from + split(size);
    Ok(node_hash(&range_hash(hashes, from, middle)?, &range_hash(hashes, middle, to)?))
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// The root of the first `size` leaves.
pub(super) fn root(hashes: &impl SubtreeHashes, size: u64) -> io::Result<TreeHash> {
    if size == 0 { Ok(empty_root()) } else { range_hash(hashes, 0, size) }
}

/// Proves that leaf `index` is in the tree of the first `size` leaves (RFC 6962 §2.1.1). `index` is below `size`.
pub(super) fn inclusion_proof(
    hashes: &impl SubtreeHashes,
    index: u64,
    size: u64,
) -> io::Result<Vec<TreeHash>> {
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            proof.push(range_hash(hashes, middle, to)?);
            to = middle;
        } else {
            proof.push(range_hash(hashes, from, middle)?);
            from = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proves that the tree of the first `size` leaves begins with the tree of the first `old` leaves (RFC 6962 §2.1.2).
/// `old` is at least 1 and at most `size`.
pub(super) fn consistency_proof(
    hashes: &impl SubtreeHashes,
    old: u64,
    size: u64,
) -> io::Result<Vec<TreeHash>> {
    let (mut from, mut to) = (0, size);
    let mut proof = Vec::new();
    while old != to {
        let middle = from + split(to - from);
        if old <= middle {
            proof.push(range_hash(hashes, middle, to)?);
            to = middle;
        } else {
            proof.push(range_hash(hashes, from, middle)?);
            from = middle;
        }
    }
    // The verifier has the old root itself if the old tree is a full left part of the new one.
    if from > 0 {
        proof.push(range_hash(hashes, from, to)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The root that an inclusion proof leads to (RFC 9162 §2.1.3.2). `None`: the proof does not fit index and size.
pub(super) fn root_from_inclusion(
    leaf: TreeHash,
    index: u64,
    size: u64,
    proof: &[TreeHash],
) -> Option<TreeHash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in proof {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether a consistency proof leads from one tree to the other (RFC 9162 §2.1.4.2): each by its size and its root.
pub(super) fn is_consistent(
    (old, old_root): (u64, &TreeHash),
    (size, root): (u64, &TreeHash),
    proof: &[TreeHash],
) -> bool {
    if old == 0 || old >= size {
        let same = if old == 0 { *old_root == empty_root() } else { old == size && old_root == root };
        return proof.is_empty() && same;
    }
    let mut path = proof.iter();
    let Some(first) = (if old.is_power_of_two() { Some(old_root) } else { path.next() }) else {
        return false;
    };
    let (mut node, mut last) = (old - 1, size - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && from_old == *old_root && from_new == *root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1, word by word.
    fn naive(leaves: &[TreeHash]) -> TreeHash {
        match leaves {
            [] => Edge::default().root(),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node_hash(&naive(&leaves[..k]), &naive(&leaves[k..]))
            }
        }
    }

    fn leaves(count: u32) -> Vec<TreeHash> {
        let entry = |n: u32| {
            let mut entry = [0; ENTRY_BYTES];
            entry[..4].copy_from_slice(&n.to_be_bytes());
            entry
        };
        (0..count).map(|n| leaf_hash(&entry(n))).collect()
    }

    /// The hash of a short message is written out here; a library says what it has to be.
    #[test]
    fn a_short_message_has_its_sha256() {
        let sha256 = |message: &[u8]| digest(&SHA256, message).as_ref().to_vec();
        assert_eq!(short_sha256(&[7; 56]).to_vec(), sha256(&[7; 56]));
        assert_eq!(short_sha256(&[7; 119]).to_vec(), sha256(&[7; 119]));
        let entry = [0xa5; ENTRY_BYTES];
        assert_eq!(leaf_hash(&entry).to_vec(), sha256(&[&[0][..], &entry].concat()));
        let (left, right) = ([1; 32], [2; 32]);
        assert_eq!(node_hash(&left, &right).to_vec(), sha256(&[&[1][..], &left, &right].concat()));
    }

    #[test]
    fn the_edge_agrees_with_the_definition() {
        let leaves = leaves(70);
        let mut edge = Edge::default();
        for size in 0..=leaves.len() {
            assert_eq!((edge.root(), edge.size()), (naive(&leaves[..size]), size as u64));
            assert_eq!(Edge::new(size as u64, edge.roots().to_vec()).as_ref(), Some(&edge));
            // One more entry changes the number of roots, except after 1, 5, 9 and so on.
            assert_eq!(Edge::new(size as u64 + 1, edge.roots().to_vec()).is_none(), size % 4 != 1);
            if let Some(leaf) = leaves.get(size) {
                edge.push(*leaf, |_, _| {});
            }
        }
    }

    impl SubtreeHashes for Vec<TreeHash> {
        fn hash(&self, level: u32, index: u64) -> io::Result<TreeHash> {
            Ok(naive(&self[(index << level) as usize..((index + 1) << level) as usize]))
        }
    }

    #[test]
    fn proofs_lead_to_the_root_and_nothing_else_does() {
        let leaves = leaves(70);
        for size in 1..=leaves.len() as u64 {
            let whole = naive(&leaves[..size as usize]);
            assert_eq!(root(&leaves, size).unwrap(), whole);
            for index in 0..size {
                let proof = inclusion_proof(&leaves, index, size).unwrap();
                let leaf = leaves[index as usize];
                assert_eq!(root_from_inclusion(leaf, index, size, &proof), Some(whole));
                assert_ne!(root_from_inclusion([9; 32], index, size, &proof), Some(whole));
                assert_ne!(root_from_inclusion(leaf, index ^ 1, size, &proof), Some(whole));
                if let Some((_, shorter)) = proof.split_first() {
                    assert_ne!(root_from_inclusion(leaf, index, size, shorter), Some(whole));
                }
            }
            for old in 1..=size {
                let proof = consistency_proof(&leaves, old, size).unwrap();
                let old_root = naive(&leaves[..old as usize]);
                assert!(is_consistent((old, &old_root), (size, &whole), &proof), "{old} {size}");
                assert!(!is_consistent((old, &[1; 32]), (size, &whole), &proof));
                assert!(!is_consistent((old, &old_root), (size, &[1; 32]), &proof));
            }
            assert!(is_consistent((0, &empty_root()), (size, &whole), &[]));
            assert!(!is_consistent((size + 1, &whole), (size, &whole), &[]));
        }
        assert_eq!(root(&leaves, 0).unwrap(), empty_root());
    }

    #[test]
    fn full_subtrees_are_reported() {
        let leaves = leaves(16);
        let (mut edge, mut full) = (Edge::default(), Vec::new());
        for leaf in &leaves {
            edge.push(*leaf, |level, hash| full.push((level, *hash)));
        }
        let twos: Vec<TreeHash> =
            full.iter().filter(|(level, _)| *level == 2).map(|(_, hash)| *hash).collect();
        let expected: Vec<TreeHash> = leaves.chunks(4).map(naive).collect();
        assert_eq!(twos, expected);
    }
}
