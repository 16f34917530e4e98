//! Distinguishes the nodes of a cluster: those whose files a source reads, and those that only the API shows. Pure.
//!
//! A file shows one node, the API all of them. Which node the files are of, only they can say, and a node's id may
//! change with each restart of Confluence. So an id that no file has shown may be this node's new one, or that of
//! another node. It is another node's if this node had events under an id of its own before as well as after: a node
//! has one id at a time.

use crate::position::{ClusterNodes, FileNode};
use crate::record::Text;

/// More than a cluster has nodes, including earlier ids of its nodes.
const IDS_MAX: usize = 200;

/// A folder that alternates between nodes this often contains the files of several nodes.
const RETURNS_MAX: u32 = 3;

/// The node of an API row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowNode {
    /// A node whose files are read, so the event should be in them. `since`: known from the time of this row on.
    Files { since: bool },
    /// This node or another one: not known yet.
    Unknown,
    /// Another node's.
    Other,
}

/// A finding to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The API returned rows of this node, and it is not known whether its files are read.
    Unknown { id: String },
    /// This id belongs to another node.
    Other { id: String },
    /// The files contain another id than before.
    Changed { from: String, to: String },
}

#[derive(Default)]
pub(crate) struct Nodes {
    of_files: Vec<Known>,
    others: Vec<String>,
    /// Ids seen in the API only, with the times of their oldest and newest row.
    unknown: Vec<(String, i64, i64)>,
    /// For each folder, which of `of_files` its newest record is of.
    folders: Vec<Option<usize>>,
    /// How many nodes' files were read when the process began.
    known_at_start: usize,
    /// How often a folder returned to a node that it had before another one.
    returns: u32,
    /// Files contain records without a node.
    nodeless: bool,
    changed: bool,
    news: Vec<News>,
}

struct Known {
    node: FileNode,
    hash: u64,
    /// The API counts as well: when this node is known to have had this id.
    seen_ms: (i64, i64),
}

/// The hash of a node id, as stored in a chunk of ids.
pub(crate) fn hash(node: Option<Text>) -> u64 {
    node.map_or(0, |node| xxhash_rust::xxh3::xxh3_64(node.decoded().as_bytes()))
}

impl Nodes {
    pub(crate) fn new(known: ClusterNodes) -> Nodes {
        let of_files: Vec<Known> = known.of_files.into_iter().map(Known::new).collect();
        Nodes {
            known_at_start: of_files.iter().filter(|known| known.is_current()).count(),
            of_files,
            others: known.others,
            ..Nodes::default()
        }
    }

    /// Observes a record of a file. `time_ms` is not in the future. Returns the hash of its node.
    pub(crate) fn observe_file(&mut self, folder: usize, node: Option<Text>, time_ms: i64) -> u64 {
        let Some(node) = node else {
            self.nodeless = true;
            return 0;
        };
        if self.folders.len() <= folder {
            self.folders.resize(folder + 1, None);
        }
        let before = self.folders[folder];
        let at = before.filter(|at| node.is(&self.of_files[*at].node.id));
        let at = at.unwrap_or_else(|| self.number(node, time_ms));
        let known = &mut self.of_files[at].node;
        let returns = known.until_ms.is_some_and(|until_ms| time_ms > until_ms);
        if returns {
            (known.until_ms, self.changed) = (None, true);
            self.others.retain(|other| !node.is(other));
        }
        if time_ms < known.from_ms {
            (known.from_ms, self.changed) = (time_ms, true);
        }
        known.to_ms = known.to_ms.max(time_ms);
        if returns || before != Some(at) {
            self.folders[folder] = Some(at);
            self.returns += u32::from(returns && before.is_some());
            self.retire(before, at, time_ms);
        }
        self.observe(at, time_ms);
        self.of_files[at].hash
    }

    /// The index of a node whose id a file contains.
    fn number(&mut self, node: Text, time_ms: i64) -> usize {
        let found = self.of_files.iter().position(|known| node.is(&known.node.id));
        found.unwrap_or_else(|| {
            self.changed = true;
            self.others.retain(|other| !node.is(other));
            self.unknown.retain(|(unknown, ..)| !node.is(unknown));
            self.of_files.push(Known::new(FileNode {
                id: node.decoded().into_owned(),
                from_ms: time_ms,
                to_ms: time_ms,
                until_ms: None,
            }));
            self.of_files.len() - 1
        })
    }

    /// A folder shows node `now`. The node that it showed before is gone, unless another folder shows it. At start it
    /// is not known which folder showed which; once as many nodes are shown as were known then, the others are gone.
    fn retire(&mut self, before: Option<usize>, now: usize, time_ms: i64) {
        // What is read again at start is of before.
        if self.returns > RETURNS_MAX || !self.of_files[now].is_current() {
            return;
        }
        let mut shown: Vec<usize> = self.folders.iter().copied().flatten().collect();
        shown.sort_unstable();
        shown.dedup();
        let gone: Vec<usize> = match before {
            Some(before) => vec![before],
            None if shown.len() >= self.known_at_start => (0..self.of_files.len()).collect(),
            None => Vec::new(),
        };
        let to = self.of_files[now].node.id.clone();
        for at in gone {
            let node = &mut self.of_files[at].node;
            if node.until_ms.is_some() || shown.contains(&at) {
                continue;
            }
            // Lines are not sorted by time.
            node.until_ms = Some(time_ms.max(node.to_ms));
            self.changed = true;
            let from = node.id.clone();
            self.news.push(News::Changed { from, to: to.clone() });
        }
    }

    /// The node of an API row. `time_ms` is not yet to come.
    pub(crate) fn of_row(&mut self, node: Option<Text>, time_ms: i64) -> RowNode {
        let Some(node) = node else {
            // If the files name the node in each record, a row without one is not of them.
            return if self.nodeless || self.of_files.is_empty() {
                RowNode::Files { since: true }
            } else {
                RowNode::Unknown
            };
        };
        if let Some(at) = self.of_files.iter().position(|known| node.is(&known.node.id)) {
            let known = &self.of_files[at].node;
            let since = time_ms >= known.from_ms;
            match known.until_ms {
                None => {
                    self.observe(at, time_ms);
                    return RowNode::Files { since };
                }
                Some(until_ms) if time_ms < until_ms => return RowNode::Files { since },
                Some(_) => {}
            }
        }
        if self.others.iter().any(|other| node.is(other)) {
            return RowNode::Other;
        }
        if self.has_own_id_at(time_ms) {
            self.is_other(node.decoded().into_owned());
            return RowNode::Other;
        }
        match self.unknown.iter_mut().find(|(id, ..)| node.is(id)) {
            Some((_, from_ms, to_ms)) => {
                (*from_ms, *to_ms) = ((*from_ms).min(time_ms), (*to_ms).max(time_ms));
            }
            None => {
                let id = node.decoded().into_owned();
                self.news.push(News::Unknown { id: id.clone() });
                push_bounded(&mut self.unknown, (id, time_ms, time_ms));
            }
        }
        RowNode::Unknown
    }

    /// Extends the time range in which the node is known to have had this id.
    fn observe(&mut self, at: usize, time_ms: i64) {
        let (from_ms, to_ms) = &mut self.of_files[at].seen_ms;
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
                self.is_other(id);
            } else {
                self.unknown.push((id, from_ms, to_ms));
            }
        }
    }

    /// Whether the nodes whose files are read had events under known ids before this time and after it, so that none of
    /// them had another id then.
    fn has_own_id_at(&self, time_ms: i64) -> bool {
        let covers = |known: &Known| (known.seen_ms.0..=known.seen_ms.1).contains(&time_ms);
        if self.are_several() {
            // Each of them may have got another id.
            self.of_files.iter().filter(|known| known.is_current()).all(covers)
        } else {
            self.of_files.iter().any(covers)
        }
    }

    fn is_other(&mut self, id: String) {
        self.news.push(News::Other { id: id.clone() });
        push_bounded(&mut self.others, id);
        self.changed = true;
    }

    /// Whether a file has named its node.
    pub(crate) fn are_known(&self) -> bool {
        !self.of_files.is_empty()
    }

    /// Whether files of several nodes are read.
    pub(crate) fn are_several(&self) -> bool {
        self.of_files.iter().filter(|known| known.is_current()).count() > 1
    }

    pub(crate) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Changes since the last call, for the checkpoint.
    pub(crate) fn changes(&mut self) -> Option<ClusterNodes> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        let of_files = self.of_files.iter().map(|known| known.node.clone());
        let newest = self.of_files.len().saturating_sub(IDS_MAX);
        Some(ClusterNodes { of_files: of_files.skip(newest).collect(), others: self.others.clone() })
    }
}

impl Known {
    fn new(node: FileNode) -> Known {
        Known {
            hash: xxhash_rust::xxh3::xxh3_64(node.id.as_bytes()),
            seen_ms: (node.from_ms, node.to_ms),
            node,
        }
    }

    fn is_current(&self) -> bool {
        self.node.until_ms.is_none()
    }
}

/// Drops the oldest if the list is full. If it is seen again, it is added again.
fn push_bounded<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= IDS_MAX {
        list.remove(0);
    }
    list.push(item);
}

#[cfg(test)]
#[path = "nodes_tests.rs"]
mod tests;
