//! Distinguishes the nodes of a cluster: those whose audit files the source reads, and those whose events only the API
//! returns. Pure.
//!
//! A file contains events of one node, the API those of all nodes. A node's id may change with each restart of
//! Confluence. So an id that no file contains may be the new id of this node, or that of another node. It is another
//! node's if this node had events under its own id before and after: a node has one id at a time.

use crate::position::{ClusterNodes, FileNode};
use crate::record::Text;

/// Ids kept per list: more than a cluster has, earlier ids of its nodes included.
const IDS_MAX: usize = 200;

/// If nodes reappear more often in one directory, it contains files of several nodes.
const REAPPEARANCES_MAX: u32 = 3;

/// Which node an API row belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowNode {
    /// A node whose files are read, so the event is expected in them. `covers_time`: the files are known to contain
    /// this node's events at the row's time.
    Files { covers_time: bool },
    /// This node or another one.
    Unknown,
    /// Another node.
    Other,
}

/// A change in what is known about node ids, to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Discovery {
    /// The API returned rows of this id, and it is not known whether the files of its node are read.
    Unknown { id: String },
    /// This id belongs to another node.
    Other { id: String },
    /// The files have another node id than before.
    Changed { from: String, to: String },
}

#[derive(Default)]
pub(crate) struct Nodes {
    of_files: Vec<KnownNode>,
    others: Vec<String>,
    /// Ids with the times of their oldest and newest row.
    unknown: Vec<(String, i64, i64)>,
    /// For each directory, the index in `of_files` of its newest record's node.
    directories: Vec<Option<usize>>,
    /// How many nodes' files were read when the process started.
    known_at_start: usize,
    /// How often a node reappeared in a directory after another one.
    reappearances: u32,
    /// A file contained records without a node.
    records_without_node: bool,
    changed: bool,
    discoveries: Vec<Discovery>,
}

struct KnownNode {
    node: FileNode,
    /// The oldest and newest event under this id, from files or API, in milliseconds since 1970.
    observed_ms: (i64, i64),
}

impl Nodes {
    pub(crate) fn new(known: ClusterNodes) -> Nodes {
        let of_files: Vec<KnownNode> = known.of_files.into_iter().map(KnownNode::new).collect();
        Nodes {
            known_at_start: of_files.iter().filter(|known| known.is_current()).count(),
            of_files,
            others: known.others,
            ..Nodes::default()
        }
    }

    /// Records the node of a file record. `time_ms` is not in the future.
    pub(crate) fn observe_file(&mut self, directory: usize, node: Option<Text>, time_ms: i64) {
        let Some(node) = node else {
            self.records_without_node = true;
            return;
        };
        if self.directories.len() <= directory {
            self.directories.resize(directory + 1, None);
        }
        let before = self.directories[directory];
        let at = before.filter(|at| node.is(&self.of_files[*at].node.id));
        let at = at.unwrap_or_else(|| self.number(node, time_ms));
        let known = &mut self.of_files[at].node;
        let reappears = known.until_ms.is_some_and(|until_ms| time_ms > until_ms);
        if reappears {
            (known.until_ms, self.changed) = (None, true);
            self.others.retain(|other| !node.is(other));
        }
        if time_ms < known.from_ms {
            (known.from_ms, self.changed) = (time_ms, true);
        }
        known.to_ms = known.to_ms.max(time_ms);
        if reappears || before != Some(at) {
            self.directories[directory] = Some(at);
            self.reappearances += u32::from(reappears && before.is_some());
            self.retire(before, at, time_ms);
        }
        self.observe(at, time_ms);
    }

    /// The index of a node whose id a file contains.
    fn number(&mut self, node: Text, time_ms: i64) -> usize {
        let found = self.of_files.iter().position(|known| node.is(&known.node.id));
        found.unwrap_or_else(|| {
            self.changed = true;
            self.others.retain(|other| !node.is(other));
            self.unknown.retain(|(unknown, ..)| !node.is(unknown));
            self.of_files.push(KnownNode::new(FileNode {
                id: node.decoded().into_owned(),
                from_ms: time_ms,
                to_ms: time_ms,
                until_ms: None,
            }));
            self.of_files.len() - 1
        })
    }

    /// A directory contains records of node `now`. The node before it no longer has this id, unless another directory
    /// contains it. At start it is unknown which directory belongs to which node. Once as many nodes were found as
    /// before, the remaining ids are retired.
    fn retire(&mut self, before: Option<usize>, now: usize, time_ms: i64) {
        // Records that are replayed at start may have an old id.
        if self.reappearances > REAPPEARANCES_MAX || !self.of_files[now].is_current() {
            return;
        }
        let mut current: Vec<usize> = self.directories.iter().copied().flatten().collect();
        current.sort_unstable();
        current.dedup();
        let gone: Vec<usize> = match before {
            Some(before) => vec![before],
            None if current.len() >= self.known_at_start => (0..self.of_files.len()).collect(),
            None => Vec::new(),
        };
        let to = self.of_files[now].node.id.clone();
        for at in gone {
            let node = &mut self.of_files[at].node;
            if node.until_ms.is_some() || current.contains(&at) {
                continue;
            }
            // Lines are not ordered by time.
            node.until_ms = Some(time_ms.max(node.to_ms));
            self.changed = true;
            let from = node.id.clone();
            self.discoveries.push(Discovery::Changed { from, to: to.clone() });
        }
    }

    /// Which node an API row belongs to. `time_ms` is not in the future.
    pub(crate) fn classify_row(&mut self, node: Option<Text>, time_ms: i64) -> RowNode {
        let Some(node) = node else {
            // If every file record has a node, a row without one is not of these files.
            return if self.records_without_node || self.of_files.is_empty() {
                RowNode::Files { covers_time: true }
            } else {
                RowNode::Unknown
            };
        };
        if let Some(at) = self.of_files.iter().position(|known| node.is(&known.node.id)) {
            let known = &self.of_files[at].node;
            let covers_time = time_ms >= known.from_ms;
            match known.until_ms {
                None => {
                    self.observe(at, time_ms);
                    return RowNode::Files { covers_time };
                }
                Some(until_ms) if time_ms < until_ms => return RowNode::Files { covers_time },
                Some(_) => {}
            }
        }
        if self.others.iter().any(|other| node.is(other)) {
            return RowNode::Other;
        }
        if self.has_own_id_at(time_ms) {
            self.mark_other(node.decoded().into_owned());
            return RowNode::Other;
        }
        match self.unknown.iter_mut().find(|(id, ..)| node.is(id)) {
            Some((_, from_ms, to_ms)) => {
                (*from_ms, *to_ms) = ((*from_ms).min(time_ms), (*to_ms).max(time_ms));
            }
            None => {
                let id = node.decoded().into_owned();
                self.discoveries.push(Discovery::Unknown { id: id.clone() });
                push_bounded(&mut self.unknown, (id, time_ms, time_ms));
            }
        }
        RowNode::Unknown
    }

    /// The node had an event under its id at this time. That may decide about unknown ids.
    fn observe(&mut self, at: usize, time_ms: i64) {
        let (from_ms, to_ms) = &mut self.of_files[at].observed_ms;
        if (*from_ms..=*to_ms).contains(&time_ms) {
            return;
        }
        (*from_ms, *to_ms) = ((*from_ms).min(time_ms), (*to_ms).max(time_ms));
        if self.unknown.is_empty() {
            return;
        }
        let unknown = std::mem::take(&mut self.unknown);
        for (id, from_ms, to_ms) in unknown {
            if self.has_own_id_at(from_ms) || self.has_own_id_at(to_ms) {
                self.mark_other(id);
            } else {
                self.unknown.push((id, from_ms, to_ms));
            }
        }
    }

    /// Whether the nodes whose files are read had events under known ids before and after this time, so that none of
    /// them had another id then.
    fn has_own_id_at(&self, time_ms: i64) -> bool {
        let covers = |known: &KnownNode| (known.observed_ms.0..=known.observed_ms.1).contains(&time_ms);
        if self.are_several() {
            // Any of them may have another id by now.
            self.of_files.iter().filter(|known| known.is_current()).all(covers)
        } else {
            self.of_files.iter().any(covers)
        }
    }

    fn mark_other(&mut self, id: String) {
        self.discoveries.push(Discovery::Other { id: id.clone() });
        push_bounded(&mut self.others, id);
        self.changed = true;
    }

    /// Whether a file has contained a node id.
    pub(crate) fn are_known(&self) -> bool {
        !self.of_files.is_empty()
    }

    /// Whether files of several nodes are read.
    fn are_several(&self) -> bool {
        self.of_files.iter().filter(|known| known.is_current()).count() > 1
    }

    pub(crate) fn take_discoveries(&mut self) -> Vec<Discovery> {
        std::mem::take(&mut self.discoveries)
    }

    /// The changes since the last call, for the checkpoint.
    pub(crate) fn take_changes(&mut self) -> Option<ClusterNodes> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let of_files = self.of_files.iter().map(|known| known.node.clone());
        let newest = self.of_files.len().saturating_sub(IDS_MAX);
        Some(ClusterNodes { of_files: of_files.skip(newest).collect(), others: self.others.clone() })
    }
}

impl KnownNode {
    fn new(node: FileNode) -> KnownNode {
        KnownNode { observed_ms: (node.from_ms, node.to_ms), node }
    }

    fn is_current(&self) -> bool {
        self.node.until_ms.is_none()
    }
}

/// Removes the oldest item if the list is full. If its id occurs again, it is added again.
fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= IDS_MAX {
        list.remove(0);
    }
    list.push(item);
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
