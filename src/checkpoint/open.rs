//! Opening a state directory: lock, versions, room, and only then sled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::entry::StateImage;
use super::error::{RecoveryStep, StoreError};
use super::recovery::{DAMAGED_COPY, recover};
use super::state_dir::{self, StateDir};
use super::state_files::{self, Meta, StateFile};
use super::store::Store;
use crate::clock;

/// An open store, and what it took to open it.
pub struct Opened {
    pub store: Store,
    /// The steps of the recovery recovery that were taken; empty if all was well.
    pub recovered: Vec<RecoveryStep>,
}

pub fn open(path: &Path) -> Result<Opened, StoreError> {
    let dir = StateDir::acquire(path)?;
    let files = StateFiles::read(&dir)?;
    refuse_link(&dir)?;
    dir.require_space()?;
    if files.db && files.meta.value().is_none() {
        // Nothing tells which release was here last: its values do, and sled writes as soon as it opens.
        // Whatever else the copy meets, the directory itself will meet.
        if let Err(StoreError::Newer { found, .. }) = read_copy(&dir) {
            return Err(StoreError::Newer {
                path: dir.path.join("db"),
                found,
            });
        }
    }
    open_locked(dir)
}

fn open_locked(dir: StateDir) -> Result<Opened, StoreError> {
    let files = StateFiles::read(&dir)?;
    let backup_due = clock::monotonic();
    let mut store = Store {
        dir,
        db: None,
        agent_id: String::new(),
        heads: BTreeMap::new(),
        backup_due,
    };
    let recovered = recover(&mut store, &files)?;
    // Only now is it sure that this release may write here.
    store.dir.write_process_id()?;
    store.dir.remove_temporary()?;
    Ok(Opened { store, recovered })
}

/// Opens sled again after a failure, while the lock is held.
pub(super) fn reopen(store: &mut Store) -> Result<(), StoreError> {
    store.dir.require_space()?;
    let files = StateFiles::read(&store.dir)?;
    recover(store, &files).map(|_| ())
}

/// All that a state directory remembers, and the steps it would take to open it, without changing a byte of it;
/// `None` if there is none.
///
/// # Errors
/// As [`Store::open`]: a running agent locks its directory.
pub fn read(path: &Path) -> Result<Option<(StateImage, Vec<RecoveryStep>)>, StoreError> {
    let Some(dir) = StateDir::acquire_existing(path)? else {
        return Ok(None);
    };
    StateFiles::read(&dir)?;
    refuse_link(&dir)?;
    read_copy(&dir).map(Some)
}

/// sled cannot open without writing, so it opens a copy.
fn read_copy(dir: &StateDir) -> Result<(StateImage, Vec<RecoveryStep>), StoreError> {
    let io = |error| StoreError::io("create a copy of", &dir.path, error);
    let copy = tempfile::Builder::new()
        .prefix(crate::NAME)
        .tempdir()
        .map_err(io)?;
    let inner = copy.path().join("state");
    fs::create_dir(&inner)
        .and_then(|()| state_dir::make_private(&inner))
        .map_err(io)?;
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

/// The files beside the store.
pub(super) struct StateFiles {
    pub meta: StateFile<Meta>,
    pub image: StateFile<StateImage>,
    /// Whether there is a store at all.
    pub db: bool,
}

impl StateFiles {
    fn read(dir: &StateDir) -> Result<StateFiles, StoreError> {
        let db = dir.path.join("db").exists();
        Ok(StateFiles {
            meta: state_files::read(dir, state_files::META)?,
            image: state_files::read(dir, state_files::BACKUP)?,
            db,
        })
    }

    /// Whether a store was here and had been opened once.
    pub fn known(&self) -> bool {
        !matches!(
            (&self.meta, &self.image),
            (StateFile::Missing, StateFile::Missing)
        )
    }
}

/// sled would follow it.
fn refuse_link(dir: &StateDir) -> Result<(), StoreError> {
    let path = dir.path.join("db");
    match fs::symlink_metadata(&path) {
        Ok(found) if !found.is_dir() => Err(StoreError::Insecure {
            path,
            problem: "it is no directory; remove it".to_owned(),
        }),
        _ => Ok(()),
    }
}
