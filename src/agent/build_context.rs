//! The settings and channels that all parts of an agent are built with.

use super::commit::CommitMessage;
use super::lifecycle::Process;
use super::threads::ThreadEnded;
use crate::checkpoint::StoreError;
use crate::config::Config;
use crate::enrich::Enrichment;
use crate::exit;
use crate::format::Agent;
use crate::metrics::Metrics;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::mpsc::UnboundedSender;

#[derive(Clone, Copy, Debug, Default)]
pub struct Mode {
    /// End when everything that exists now is delivered.
    pub once: bool,
    /// Write neither state nor to sinks; print the events instead.
    pub dry_run: bool,
}

/// What every source and sink is built with.
pub(super) struct BuildContext<'a> {
    pub config: &'a Config,
    pub mode: Mode,
    pub agent: Agent,
    pub enrichment: Enrichment,
    pub ended: UnboundedSender<ThreadEnded>,
    pub commits: Sender<CommitMessage>,
    pub metrics: Arc<Metrics>,
    /// `None`: no events about the life of the agent are sent.
    pub process: Option<Arc<Process>>,
}

#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot open the output `{path}` of sink `{sink}`")]
    Output { sink: String, path: String, source: io::Error },
    /// Its events could be delivered twice: which were delivered is not known.
    #[error(
        "the state of source `{source_name}` is of release 0.1, which had no ledger of delivered events; either forget it \
         (`confluence-audit-agent state forget`) or give another `state_dir`, and each event that is still there is \
         delivered again"
    )]
    NoLedger { source_name: String },
    #[error("cannot start")]
    Start(#[from] io::Error),
}

impl AgentError {
    pub fn exit_code(&self) -> u8 {
        match self {
            AgentError::Store(error) => error.exit_code(),
            AgentError::NoLedger { .. } => exit::CONFIG,
            AgentError::Output { .. } | AgentError::Start(_) => exit::TRY_AGAIN,
        }
    }
}
