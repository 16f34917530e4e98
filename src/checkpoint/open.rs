//! Opening a state directory: lock, versions, room, and only then sled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::dir::{self, StateDir};
use super::entry::Image;
use super::error::{Rung, StoreError};
use super::recover::{DAMAGED_COPY, recover};
use super::side::{self, Meta, SideFile};
use super::store::Store;
use crate::clock;

/// An open store, and what it took to open it.
pub struct Opened {
    pub store: Store,
    /// The rungs of the recovery ladder that were taken; empty if all was well.
    pub recovered: Vec<Rung>,
}

pub fn open(path: &Path) -> Result<Opened, StoreError> {
    let dir = StateDir::take(path)?;
    let beside = Beside::read(&dir)?;
    refuse_link(&dir)?;
    dir.require_space()?;
    if beside.db && beside.meta.value().is_none() {
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
    let beside = Beside::read(&dir)?;
    let side_file_due = clock::monotonic();
    let mut store = Store {
        dir,
        db: None,
        agent_id: String::new(),
        heads: BTreeMap::new(),
        side_file_due,
    };
    let recovered = recover(&mut store, &beside)?;
    // Only now is it sure that this release may write here.
    store.dir.write_process_id()?;
    store.dir.remove_temporary()?;
    Ok(Opened { store, recovered })
}

/// Opens sled again after a failure, while the lock is held.
pub(super) fn reopen(store: &mut Store) -> Result<(), StoreError> {
    store.dir.require_space()?;
    let beside = Beside::read(&store.dir)?;
    recover(store, &beside).map(|_| ())
}

/// All that a state directory remembers, and the rungs it would take to open it, without changing a byte of it;
/// `None` if there is none.
///
/// # Errors
/// As [`Store::open`]: a running agent locks its directory.
pub fn read(path: &Path) -> Result<Option<(Image, Vec<Rung>)>, StoreError> {
    let Some(dir) = StateDir::take_existing(path)? else {
        return Ok(None);
    };
    Beside::read(&dir)?;
    refuse_link(&dir)?;
    read_copy(&dir).map(Some)
}

/// sled cannot open without writing, so it opens a copy.
fn read_copy(dir: &StateDir) -> Result<(Image, Vec<Rung>), StoreError> {
    let io = |error| StoreError::io("create a copy of", &dir.path, error);
    let copy = tempfile::Builder::new()
        .prefix(crate::NAME)
        .tempdir()
        .map_err(io)?;
    let inner = copy.path().join("state");
    fs::create_dir(&inner)
        .and_then(|()| dir::make_private(&inner))
        .map_err(io)?;
    for name in dir.names()? {
        let (from, to) = (dir.path.join(&name), inner.join(&name));
        match name.as_str() {
            "db" => dir::copy(&from, &to)?,
            side::META | side::SIDE => fs::copy(&from, &to).map(|_| ()).map_err(io)?,
            _ => {}
        }
    }
    let Opened { mut store, recovered } = open_locked(StateDir::take(&inner)?)?;
    store.image().map(|image| (image, recovered))
}

/// Copies of damaged stores in a state directory, oldest first.
pub fn damaged_copies(path: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut names = dir::names(path)?;
    names.retain(|name| name.starts_with(DAMAGED_COPY));
    names.sort();
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// The files beside the store.
pub(super) struct Beside {
    pub meta: SideFile<Meta>,
    pub image: SideFile<Image>,
    /// Whether there is a store at all.
    pub db: bool,
}

impl Beside {
    fn read(dir: &StateDir) -> Result<Beside, StoreError> {
        let db = dir.path.join("db").exists();
        Ok(Beside {
            meta: side::read(dir, side::META)?,
            image: side::read(dir, side::SIDE)?,
            db,
        })
    }

    /// Whether a store was here and had been opened once.
    pub fn known(&self) -> bool {
        !matches!((&self.meta, &self.image), (SideFile::Missing, SideFile::Missing))
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
