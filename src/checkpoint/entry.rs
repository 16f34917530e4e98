//! What is remembered. Nouns without behaviour, as they lie in the store and in the side file.

use std::collections::BTreeMap;

pub use crate::position::{
    ActiveInput, AgentUser, ApiCursor, ClusterNodes, Coverage, FileEntry, Fingerprint, IdChunk, Loss,
    Progress, SinkMark,
};
use serde::{Deserialize, Serialize};

/// The newest losses that are kept of one source; the totals in [`SourceState`] go on counting.
pub const LOSSES_MAX: usize = 1000;

/// What one source has newly reached. Becomes durable as a whole or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    pub source: String,
    pub progress: Progress,
    pub marks: Vec<SinkMark>,
}

/// All that is remembered of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct SourceState {
    /// Counts the commits; of two states of a source the one with more is newer.
    pub commits: u64,
    /// No file of this source has had this key or a greater one.
    pub next_key: u32,
    /// Losses ever, and their bytes; `losses` holds the newest [`LOSSES_MAX`].
    pub losses_total: u64,
    pub lost_bytes_total: u64,
    pub files: Vec<FileEntry>,
    pub marks: Vec<SinkMark>,
    pub losses: Vec<Loss>,
    #[serde(default)]
    pub api: Option<ApiCursor>,
    #[serde(default)]
    pub ids: Vec<IdChunk>,
    #[serde(default)]
    pub api_other_nodes: Option<ApiCursor>,
    #[serde(default)]
    pub nodes: Option<ClusterNodes>,
    #[serde(default)]
    pub agent_user: Option<AgentUser>,
    #[serde(default)]
    pub active_input: Option<ActiveInput>,
    #[serde(default)]
    pub coverage: Option<Coverage>,
}

impl SourceState {
    /// Whether nothing is remembered but the counters.
    pub fn is_empty(&self) -> bool {
        let counted = SourceState {
            commits: self.commits,
            next_key: self.next_key,
            losses_total: self.losses_total,
            lost_bytes_total: self.lost_bytes_total,
            ..SourceState::default()
        };
        *self == counted
    }
}

/// Everything a state directory remembers, as the side file and `state export` write it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct StateImage {
    /// A UUID that lasts as long as the state directory.
    pub agent_id: String,
    pub sources: BTreeMap<String, SourceState>,
}
