//! The two files next to the store: `meta.json` with the agent's id, and the backup file `checkpoint.json`.

use serde::{Deserialize, Serialize};

use super::error::StoreError;
use super::source_state::StateImage;
use super::state_dir::StateDir;
use super::stored_value::{self, DecodeError};
use std::path::Path;

pub(super) const META: &str = "meta.json";
pub(super) const BACKUP: &str = "checkpoint.json";

/// Written when a state directory is created. Its version is that of the whole directory: a release that reads a
/// newer version stops before it changes the store.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug)]
pub(super) struct Meta {
    /// A UUID that lasts as long as the state directory.
    pub agent_id: String,
}

/// One of the files as it was read.
#[derive(Debug)]
pub(super) enum StateFile<T> {
    Missing,
    Damaged(String),
    Value(T),
}

impl<T> StateFile<T> {
    pub(super) fn value(&self) -> Option<&T> {
        match self {
            StateFile::Value(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn problem(&self) -> Option<&str> {
        match self {
            StateFile::Damaged(problem) => Some(problem),
            _ => None,
        }
    }
}

/// The files next to the store.
pub(super) struct StateFiles {
    pub meta: StateFile<Meta>,
    pub image: StateFile<StateImage>,
    /// Whether there is a store.
    pub has_db: bool,
}

impl StateFiles {
    pub(super) fn read(dir: &StateDir) -> Result<StateFiles, StoreError> {
        let has_db = dir.path.join("db").exists();
        Ok(StateFiles { meta: read(dir, META)?, image: read(dir, BACKUP)?, has_db })
    }

    /// Whether the directory was used before.
    pub(super) fn existed(&self) -> bool {
        !matches!((&self.meta, &self.image), (StateFile::Missing, StateFile::Missing))
    }
}

/// The state as the backup file in this directory has it, which is there and readable also while an agent runs. `None`:
/// there is none that can be read.
pub fn read_backup(state_dir: &Path) -> Option<StateImage> {
    let bytes = std::fs::read(state_dir.join(BACKUP)).ok()?;
    stored_value::decode(BACKUP.as_bytes(), &bytes).ok().map(|(image, _)| image)
}

/// Reads one of the files. Damage is not an error but [`StateFile::Damaged`].
///
/// # Errors
/// A newer release wrote the file, or it cannot be read.
fn read<T: serde::de::DeserializeOwned>(dir: &StateDir, name: &str) -> Result<StateFile<T>, StoreError> {
    let Some(bytes) = dir.read(name)? else {
        return Ok(StateFile::Missing);
    };
    match stored_value::decode(name.as_bytes(), &bytes) {
        Ok((value, _)) => Ok(StateFile::Value(value)),
        Err(DecodeError::Newer(found)) => Err(StoreError::Newer { path: dir.path.join(name), found }),
        Err(DecodeError::Damaged(problem)) => Ok(StateFile::Damaged(problem)),
    }
}

/// Writes `meta.json` in this release's version, unless it has that content.
pub(super) fn write_meta(dir: &StateDir, meta: &Meta) -> Result<(), StoreError> {
    let bytes = encoded(dir, META, meta)?;
    if dir.read(META)?.is_some_and(|old| old == bytes) {
        return Ok(());
    }
    dir.replace(META, &bytes)
}

pub(super) fn write_image(dir: &StateDir, image: &StateImage) -> Result<(), StoreError> {
    dir.replace(BACKUP, &encoded(dir, BACKUP, image)?)
}

fn encoded(dir: &StateDir, name: &'static str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let encoded = stored_value::encode(name.as_bytes(), value);
    encoded
        .map(|(bytes, _)| bytes)
        .map_err(|error| StoreError::io("write", dir.path.join(name), error.into()))
}
