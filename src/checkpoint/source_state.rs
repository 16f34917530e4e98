//! What is stored of a source, in the store and in the backup file, and the commit that changes it.

use std::collections::BTreeMap;

use crate::position::{
    ActiveInput, AgentUser, ApiCursor, AuditSettings, ClusterNodes, FileEntry, LedgerPosition, Loss,
    Progress, SinkMark,
};
use serde::{Deserialize, Serialize};

/// Number of losses that are kept per source, the newest ones. The totals in [`SourceState`] count all.
pub const LOSSES_MAX: usize = 1000;

/// New progress of one source. Becomes durable completely or not at all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Commit {
    pub source: String,
    pub progress: Progress,
    pub marks: Vec<SinkMark>,
    /// The entries up to there are on the disk.
    pub ledger: Option<LedgerPosition>,
}

/// Everything stored of one source.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct SourceState {
    /// Number of commits. Of two states of a source the one with more is newer.
    pub commits: u64,
    /// First unused file key. Keys are never reused.
    pub next_key: u32,
    /// All losses so far and their bytes. `losses` contains the newest [`LOSSES_MAX`].
    pub losses_total: u64,
    pub lost_bytes_total: u64,
    pub files: Vec<FileEntry>,
    pub marks: Vec<SinkMark>,
    pub losses: Vec<Loss>,
    #[serde(default)]
    pub api: Option<ApiCursor>,
    #[serde(default)]
    pub api_other_nodes: Option<ApiCursor>,
    #[serde(default)]
    pub nodes: Option<ClusterNodes>,
    #[serde(default)]
    pub agent_user: Option<AgentUser>,
    #[serde(default, rename = "way")]
    pub active_input: Option<ActiveInput>,
    #[serde(default)]
    pub audit_settings: Option<AuditSettings>,
    #[serde(default)]
    pub ledger: Option<LedgerPosition>,
}

impl SourceState {
    /// Whether nothing is stored except the counters.
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

/// The content of a state directory, as the backup file and `state export` write it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
pub struct StateImage {
    /// A UUID that lasts as long as the state directory.
    pub agent_id: String,
    pub sources: BTreeMap<String, SourceState>,
}
