//! The store of positions as an agent uses it while it starts.

use super::build_context::{AgentError, Mode};
use crate::checkpoint::{Commit, SourceState, StateImage, Store};
use crate::config::Config;

/// The store, or for a dry run an image of its content.
pub(super) struct StateStore {
    pub store: Option<Store>,
    image: StateImage,
}

impl StateStore {
    /// Also returns the id of the agent.
    pub(super) fn open(config: &Config, mode: Mode) -> Result<(StateStore, String), AgentError> {
        if mode.dry_run {
            let image =
                crate::checkpoint::read(&config.state_dir)?.map(|(image, _)| image).unwrap_or_default();
            let id = if image.agent_id.is_empty() {
                uuid::Uuid::nil().to_string()
            } else {
                image.agent_id.clone()
            };
            return Ok((StateStore { store: None, image }, id));
        }
        let opened = Store::open(&config.state_dir)?;
        let id = opened.store.agent_id().to_owned();
        Ok((StateStore { store: Some(opened.store), image: Default::default() }, id))
    }

    pub(super) fn load(&mut self, source: &str) -> Result<SourceState, AgentError> {
        match &mut self.store {
            Some(store) => Ok(store.load(source)?),
            None => Ok(self.image.sources.get(source).cloned().unwrap_or_default()),
        }
    }

    pub(super) fn commit(&mut self, commit: Commit) -> Result<(), AgentError> {
        match &mut self.store {
            Some(store) => Ok(store.commit(&[commit])?),
            None => Ok(()),
        }
    }
}
