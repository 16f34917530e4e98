//! Opens a state directory: takes the lock, checks versions and free space, then opens sled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::StateImage;
use super::error::{RecoveryStep, StoreError};
use super::recovery::{DAMAGED_COPY, recover};
use super::state_dir::{self, StateDir};
use super::state_files::{self, StateFiles};
use super::store::Store;
use crate::clock;

/// An open store, and the repair steps that opening it required.
pub struct Opened {
    pub store: Store,
    /// Repair steps that were taken; empty if the store was intact.
    pub recovered: Vec<RecoveryStep>,
}

pub(super) fn open(path: &Path) -> Result<Opened, StoreError> {
    let dir = StateDir::acquire(path)?;
    let files = StateFiles::read(&dir)?;
    refuse_link(&dir)?;
    dir.require_space()?;
    if files.has_db && files.meta.value().is_none() {
        // Without `meta.json` only the values show which release wrote them, and sled writes when it opens. So a copy
        // is checked first. Any other error of the copy occurs again when the directory itself is opened.
        if let Err(StoreError::Newer { found, .. }) = read_copy(&dir) {
            return Err(StoreError::Newer { path: dir.path.join("db"), found });
        }
    }
    open_locked(dir)
}

fn open_locked(dir: StateDir) -> Result<Opened, StoreError> {
    let files = StateFiles::read(&dir)?;
    let backup_due = clock::monotonic();
    let mut store = Store { dir, db: None, agent_id: String::new(), heads: BTreeMap::new(), backup_due };
    let recovered = recover(&mut store, &files)?;
    // Nothing is written before it is certain that no newer release wrote the state.
    store.dir.write_process_id()?;
    store.dir.remove_temporary()?;
    Ok(Opened { store, recovered })
}

/// Opens sled again after a failure. The lock is still held.
pub(super) fn reopen(store: &mut Store) -> Result<(), StoreError> {
    store.dir.require_space()?;
    let files = StateFiles::read(&store.dir)?;
    recover(store, &files).map(|_| ())
}

/// The content of a state directory, and the repair steps that opening it would take, without changing it. `None` if
/// the directory does not exist.
///
/// # Errors
/// As [`Store::open`]. A running agent locks its directory.
pub fn read(path: &Path) -> Result<Option<(StateImage, Vec<RecoveryStep>)>, StoreError> {
    let Some(dir) = StateDir::acquire_existing(path)? else {
        return Ok(None);
    };
    StateFiles::read(&dir)?;
    refuse_link(&dir)?;
    read_copy(&dir).map(Some)
}

/// Opens a copy, because sled writes when it opens.
fn read_copy(dir: &StateDir) -> Result<(StateImage, Vec<RecoveryStep>), StoreError> {
    let io = |error| StoreError::io("create a copy of", &dir.path, error);
    let copy = tempfile::Builder::new().prefix(crate::NAME).tempdir().map_err(io)?;
    let inner = copy.path().join("state");
    fs::create_dir(&inner).and_then(|()| state_dir::make_private(&inner)).map_err(io)?;
    for name in dir.names()? {
        let (from, to) = (dir.path.join(&name), inner.join(&name));
        match name.as_str() {
            "db" => state_dir::copy(&from, &to)?,
            state_files::META | state_files::BACKUP => fs::copy(&from, &to).map(|_| ()).map_err(io)?,
            _ => {}
        }
    }
    let Opened { mut store, recovered } = open_locked(StateDir::acquire(&inner)?)?;
    store.image().map(|image| (image, recovered))
}

/// Copies of damaged stores in a state directory, oldest first.
pub fn damaged_copies(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut names = state_dir::names(path)?;
    names.retain(|name| name.starts_with(DAMAGED_COPY));
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Refuses a symbolic link, which sled would follow.
fn refuse_link(dir: &StateDir) -> Result<(), StoreError> {
    let path = dir.path.join("db");
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.is_dir() => {
            Err(StoreError::Insecure { path, problem: "it is not a directory; remove it".to_owned() })
        }
        _ => Ok(()),
    }
}
