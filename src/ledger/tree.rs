//! The Merkle tree over the entries: RFC 6962 hashing with SHA-256, and its right edge. Pure.

use ring::digest::{Context, SHA256, digest};

pub(super) type TreeHash = [u8; 32];

/// Of a leaf: SHA-256(0x00 ‖ entry).
pub(super) fn leaf_hash(entry: &[u8]) -> TreeHash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(entry);
    to_hash(context.finish().as_ref())
}

/// Of an inner node: SHA-256(0x01 ‖ left ‖ right).
fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(left);
    bytes[33..].copy_from_slice(right);
    to_hash(digest(&SHA256, &bytes).as_ref())
}

fn to_hash(bytes: &[u8]) -> TreeHash {
    let mut hash = [0; 32];
    hash.copy_from_slice(bytes);
    hash
}

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
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else {
            return to_hash(digest(&SHA256, b"").as_ref());
        };
        roots.fold(*last, |right, left| node_hash(left, &right))
    }
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
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn the_edge_agrees_with_the_definition() {
        let leaves = leaves(70);
        let mut edge = Edge::default();
        for size in 0..=leaves.len() {
            assert_eq!(edge.root(), naive(&leaves[..size]));
            assert_eq!(Edge::new(size as u64, edge.roots().to_vec()).as_ref(), Some(&edge));
            // One more entry changes the number of roots, except after 1, 5, 9 and so on.
            assert_eq!(Edge::new(size as u64 + 1, edge.roots().to_vec()).is_none(), size % 4 != 1);
            if let Some(leaf) = leaves.get(size) {
                edge.push(*leaf, |_, _| {});
            }
        }
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
