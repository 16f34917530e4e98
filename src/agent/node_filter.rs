//! Decides for a source with files and an API which rows of the API are delivered: those of nodes whose files are not
//! read may be another agent's.

use crate::position::ClusterNodes;
use crate::record::Record;
use crate::source::api::RowVerdict;
use crate::source::nodes::{News, Nodes, RowNode};

/// Of one source.
pub struct NodeFilter {
    source: String,
    nodes: Nodes,
    /// Deliver the events of nodes whose files are not read.
    all_nodes: bool,
    /// The warning that no file has shown a node was logged.
    warned_no_node: bool,
    /// Times of the oldest and the newest event that was delivered, whether a file or the API brought them.
    known_ms: Option<(i64, i64)>,
    /// Of the last record of a file that has a time.
    last_ms: Option<i64>,
}

impl NodeFilter {
    /// `known_ms`: times of the oldest and the newest event that was delivered.
    pub fn new(
        source: &str,
        nodes: ClusterNodes,
        all_nodes: bool,
        known_ms: Option<(i64, i64)>,
    ) -> NodeFilter {
        NodeFilter {
            source: source.to_owned(),
            nodes: Nodes::new(nodes),
            all_nodes,
            warned_no_node: false,
            known_ms,
            last_ms: None,
        }
    }

    /// Times of the oldest and the newest event that can be compared with the API.
    pub fn known_ms(&self) -> Option<(i64, i64)> {
        self.known_ms
    }

    /// Takes note of a record of a file that was delivered before and is read again.
    pub fn observe_replayed(&mut self, record: Option<&Record>, folder: usize, read_at_ms: i64) {
        if let Some(record) = record {
            let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
            self.nodes.observe_file(folder, record.node.text(), time_ms);
        }
    }

    /// Takes note of a record of a file. Returns its time; a record without one gets that of the record before.
    pub fn observe(&mut self, record: Option<&Record>, folder: usize, read_at_ms: i64) -> i64 {
        self.last_ms = record.and_then(|record| record.time_ms).or(self.last_ms);
        let at_ms = self.last_ms.unwrap_or(read_at_ms);
        // A time in the future says nothing of when the event happened.
        let time_ms = at_ms.min(read_at_ms);
        let (oldest_ms, newest_ms) = self.known_ms.unwrap_or((time_ms, time_ms));
        self.known_ms = Some((oldest_ms.min(time_ms), newest_ms.max(time_ms)));
        if let Some(record) = record {
            self.nodes.observe_file(folder, record.node.text(), time_ms);
        }
        at_ms
    }

    /// `for_other_nodes`: the row is from the API that is asked for nodes whose files are not read.
    pub fn judge_row(&mut self, record: &Record, read_at_ms: i64, for_other_nodes: bool) -> RowVerdict {
        if !self.all_nodes && !self.nodes.are_known() {
            self.warn_no_node_known(record);
            return RowVerdict::Deliver { of_files: true };
        }
        let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
        match self.nodes.of_row(record.node.text(), time_ms) {
            RowNode::Files { since: true } if for_other_nodes => RowVerdict::Skip,
            RowNode::Files { .. } if !for_other_nodes => RowVerdict::Deliver { of_files: true },
            RowNode::Other if !self.all_nodes => RowVerdict::Skip,
            _ => RowVerdict::Deliver { of_files: false },
        }
    }

    fn warn_no_node_known(&mut self, record: &Record) {
        if record.node.text().is_some() && !std::mem::replace(&mut self.warned_no_node, true) {
            tracing::warn!(
                source = self.source,
                "no audit file has shown yet which node of the cluster this is, so the events of all nodes are taken from the API"
            );
        }
    }

    /// What the checkpoint has to learn since the last call. Logs it.
    pub fn changes(&mut self) -> Option<ClusterNodes> {
        let source = &self.source;
        for news in self.nodes.take_news() {
            match news {
                News::Changed { from, to } => tracing::info!(
                    source,
                    from,
                    to,
                    "the audit files carry the id of another cluster node than before"
                ),
                News::Unknown { .. } | News::Other { .. } if self.all_nodes => {}
                News::Unknown { id } => tracing::warn!(
                    source,
                    "the audit API has events of the cluster node `{id}`, which no audit file has shown. It may be this node under a \
                     new id, so they are delivered until a file or further events show whose id it is"
                ),
                News::Other { id } => tracing::info!(
                    source,
                    "`{id}` is another node of the cluster; its events are left to the agent there"
                ),
            }
        }
        self.nodes.changes()
    }
}
