//! Decides which API rows of a source with both inputs are delivered. Rows of nodes whose files are not read may belong
//! to the agent on that node.

use crate::position::ClusterNodes;
use crate::record::Record;
use crate::source::api::RowVerdict;
use crate::source::nodes::{Discovery, Nodes, RowNode};

/// Of one source.
pub struct NodeFilter {
    source: String,
    nodes: Nodes,
    /// Deliver the events of nodes whose files are not read.
    all_nodes: bool,
    /// The warning that no file has contained a node id was logged.
    warned_no_node: bool,
    /// Times of the oldest and the newest event that was delivered, from either input.
    known_ms: Option<(i64, i64)>,
    /// Time of the last file record that had one.
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

    /// Records the node of a replayed file record.
    pub fn observe_delivered(&mut self, record: Option<&Record>, directory: usize, read_at_ms: i64) {
        if let Some(record) = record {
            let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
            self.nodes.observe_file(directory, record.node.text(), time_ms);
        }
    }

    /// Records the node of a file record. Returns the record's time in milliseconds since 1970. A record without a time
    /// gets the time of the record before it.
    pub fn observe(&mut self, record: Option<&Record>, directory: usize, read_at_ms: i64) -> i64 {
        self.last_ms = record.and_then(|record| record.time_ms).or(self.last_ms);
        let at_ms = self.last_ms.unwrap_or(read_at_ms);
        // A time in the future is wrong, so the event counts as happening now.
        let time_ms = at_ms.min(read_at_ms);
        let (oldest_ms, newest_ms) = self.known_ms.unwrap_or((time_ms, time_ms));
        self.known_ms = Some((oldest_ms.min(time_ms), newest_ms.max(time_ms)));
        if let Some(record) = record {
            self.nodes.observe_file(directory, record.node.text(), time_ms);
        }
        at_ms
    }

    /// `for_other_nodes`: the row is from the second `Api`, which is polled for nodes whose files are not read.
    pub fn judge_row(&mut self, record: &Record, read_at_ms: i64, for_other_nodes: bool) -> RowVerdict {
        if !self.all_nodes && !self.nodes.are_known() {
            self.warn_no_node_known(record);
            return RowVerdict::Deliver { expected_in_files: true };
        }
        let time_ms = record.time_ms.unwrap_or(read_at_ms).min(read_at_ms);
        match self.nodes.classify_row(record.node.text(), time_ms) {
            RowNode::Files { covers_time: true } if for_other_nodes => RowVerdict::Skip,
            RowNode::Files { .. } if !for_other_nodes => RowVerdict::Deliver { expected_in_files: true },
            RowNode::Other if !self.all_nodes => RowVerdict::Skip,
            _ => RowVerdict::Deliver { expected_in_files: false },
        }
    }

    fn warn_no_node_known(&mut self, record: &Record) {
        if record.node.text().is_some() && !std::mem::replace(&mut self.warned_no_node, true) {
            tracing::warn!(
                source = self.source,
                "no audit file names this node of the cluster yet, so the events of all nodes are delivered from the API"
            );
        }
    }

    /// Returns the changes since the last call, for the checkpoint, and logs them.
    pub fn take_changes(&mut self) -> Option<ClusterNodes> {
        let source = &self.source;
        for discovery in self.nodes.take_discoveries() {
            match discovery {
                Discovery::Changed { from, to } => tracing::info!(
                    source,
                    from,
                    to,
                    "the audit files have another cluster node id than before"
                ),
                Discovery::Unknown { .. } | Discovery::Other { .. } if self.all_nodes => {}
                Discovery::Unknown { id } => tracing::warn!(
                    source,
                    "the audit API has events of the cluster node `{id}`, which no audit file contains. It may be this node under a \
                     new id, so they are delivered until a file or further events show which node has this id"
                ),
                Discovery::Other { id } => tracing::info!(
                    source,
                    "`{id}` is another node of the cluster; the agent on that node delivers its events"
                ),
            }
        }
        self.nodes.take_changes()
    }
}
