//! The store: open, load, commit, forget, close.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{RecoveryStep, StoreError};
use super::read_source::{OnDamage, read_source};
use super::recovery::{RecoveredStore, recover};
use super::sled_db::{Db, DbError};
use super::source_state::{Commit, SourceState, StateImage};
use super::state_dir::{self, StateDir};
use super::state_files::{self, StateFiles};
use super::write_batch::{SourceHead, WriteBatch};
use crate::clock;

/// Maximum age of the backup file while commits are made. It limits what is delivered again after the store is lost.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(60);

/// An open, locked state directory.
pub struct Store {
    dir: StateDir,
    /// `None` after a failure: sled repeats its first error for ever, so the next call opens it again.
    db: Option<Db>,
    agent_id: String,
    heads: BTreeMap<String, SourceHead>,
    backup_due: Instant,
}

/// An open store, and the repair steps that opening it required.
pub struct Opened {
    pub store: Store,
    /// Repair steps that were taken; empty if the store was intact.
    pub recovered: Vec<RecoveryStep>,
}

/// What [`Store::forget`] removed of one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forgotten {
    pub source: String,
    pub files: usize,
    pub marks: usize,
    pub losses: usize,
    /// The position of an audit API was stored.
    pub cursor: bool,
    /// Number of entries in the ledger.
    pub entries: u64,
}

impl Store {
    /// Locks `state_dir`, creating it if it is missing, and opens the store, repairing it if necessary.
    ///
    /// Each repair step is logged as an error and returned in [`Opened::recovered`].
    ///
    /// # Errors
    /// See [`StoreError`]. All except `Damaged` and `Io` leave the directory unchanged.
    pub fn open(state_dir: &Path) -> Result<Opened, StoreError> {
        let dir = StateDir::acquire(state_dir)?;
        let files = StateFiles::read(&dir)?;
        refuse_link(&dir)?;
        dir.require_space()?;
        if files.has_db && files.meta.value().is_none() {
            // Without `meta.json` only the values show which release wrote them, and sled writes when it opens. So a
            // copy is checked first. Any other error of the copy occurs again when the directory itself is opened.
            if let Err(StoreError::Newer { found, .. }) = read_copy(&dir) {
                return Err(StoreError::Newer { path: dir.path.join("db"), found });
            }
        }
        Store::open_locked(dir)
    }

    fn open_locked(dir: StateDir) -> Result<Opened, StoreError> {
        let files = StateFiles::read(&dir)?;
        let RecoveredStore { db, agent_id, heads, steps } = recover(&dir, &files)?;
        let mut store = Store { dir, db: Some(db), agent_id, heads, backup_due: clock::monotonic() };
        store.back_up_repaired(&steps)?;
        // Nothing is written before it is certain that no newer release wrote the state.
        store.dir.write_process_id()?;
        store.dir.remove_temporary()?;
        Ok(Opened { store, recovered: steps })
    }

    /// Opens sled again after a failure. The lock is still held.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.dir.require_space()?;
        let files = StateFiles::read(&self.dir)?;
        let RecoveredStore { db, agent_id, heads, steps } = recover(&self.dir, &files)?;
        (self.db, self.agent_id, self.heads) = (Some(db), agent_id, heads);
        self.back_up_repaired(&steps)
    }

    fn back_up_repaired(&mut self, steps: &[RecoveryStep]) -> Result<(), StoreError> {
        if steps.is_empty() { Ok(()) } else { self.write_backup() }
    }

    /// A UUID that lasts as long as the state directory.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// The stored state of a source; empty if it never committed.
    pub fn load(&mut self, source: &str) -> Result<SourceState, StoreError> {
        self.with_db(|db, heads| {
            let head = heads.get(source).copied().unwrap_or_default();
            read_source(db, source, head, OnDamage::Fail)
        })
    }

    /// Makes all of `commits` durable, or none.
    ///
    /// # Errors
    /// After `StorageFull` the store stays usable: call again, with the same changes or newer ones, once there is
    /// space. After `Damaged` the process has to be restarted; opening the store repairs it.
    pub fn commit(&mut self, commits: &[Commit]) -> Result<(), StoreError> {
        let mut rotated = false;
        let heads = self.with_db(|db, heads| {
            let mut batch = WriteBatch::new(db);
            for commit in commits {
                let head = heads.get(&commit.source).copied().unwrap_or_default();
                rotated |= batch.commit(head, commit)?;
            }
            batch.apply()
        })?;
        self.heads.extend(heads);
        if rotated || clock::monotonic() >= self.backup_due {
            self.try_write_backup();
        }
        Ok(())
    }

    /// Removes the state of one source, or of all. File keys are still not reused.
    pub fn forget(&mut self, source: Option<&str>) -> Result<Vec<Forgotten>, StoreError> {
        let names: Vec<String> = match source {
            Some(name) => self.heads.keys().filter(|known| *known == name).cloned().collect(),
            None => self.heads.keys().cloned().collect(),
        };
        let mut forgotten = Vec::new();
        for source in names {
            let state = self.load(&source)?;
            if state.is_empty() {
                continue;
            }
            let heads = self.with_db(|db, heads| {
                let mut batch = WriteBatch::new(db);
                let old = heads.get(&source).copied().unwrap_or_default();
                let head =
                    SourceHead { commits: old.commits + 1, next_key: old.next_key, ..SourceHead::default() };
                batch.replace_source(&source, head, &SourceState::default())?;
                batch.apply()
            })?;
            self.heads.extend(heads);
            forgotten.push(Forgotten {
                source,
                files: state.files.len(),
                marks: state.marks.len(),
                losses: state.losses.len(),
                cursor: state.api.is_some(),
                entries: state.ledger.map_or(0, |ledger| ledger.size - ledger.first),
            });
        }
        if !forgotten.is_empty() {
            self.write_backup()?;
        }
        Ok(forgotten)
    }

    /// The complete content.
    pub fn image(&mut self) -> Result<StateImage, StoreError> {
        let names: Vec<String> = self.heads.keys().cloned().collect();
        let mut image = StateImage { agent_id: self.agent_id.clone(), ..StateImage::default() };
        for name in names {
            let state = self.load(&name)?;
            image.sources.insert(name, state);
        }
        Ok(image)
    }

    /// Writes the backup file, closes the store and releases the lock.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.write_backup()
    }

    fn write_backup(&mut self) -> Result<(), StoreError> {
        let image = self.image()?;
        state_files::write_image(&self.dir, &image)?;
        self.backup_due = clock::monotonic() + BACKUP_AGE_MAX;
        Ok(())
    }

    /// A failure is only a warning: the commit itself is durable, and the backup file stays at its previous state.
    fn try_write_backup(&mut self) {
        if let Err(error) = self.write_backup() {
            self.backup_due = clock::monotonic() + BACKUP_AGE_MAX;
            tracing::warn!(error = %error, "the backup file of the checkpoint store could not be written; it stays at its previous state");
        }
    }

    fn with_db<T>(
        &mut self,
        work: impl FnOnce(&Db, &BTreeMap<String, SourceHead>) -> Result<T, DbError>,
    ) -> Result<T, StoreError> {
        if self.db.is_none() {
            self.reopen()?;
        }
        let Some(db) = &self.db else {
            return Err(StoreError::Damaged { dir: self.dir.path.clone(), problem: "closed".to_owned() });
        };
        work(db, &self.heads).map_err(|failure| {
            self.db = None;
            failure.into_error(&self.dir)
        })
    }
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
    let Opened { mut store, recovered } = Store::open_locked(StateDir::acquire(&inner)?)?;
    store.image().map(|image| (image, recovered))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{
        ActiveInput, AgentUser, ApiCursor, AuditSettings, ClusterNodes, FallbackCause, FileEntry, FileNode,
        Fingerprint, LedgerPosition, Loss, SinkMark,
    };

    /// Every member is set, so that the test fails if one is not stored or not read.
    fn full() -> SourceState {
        SourceState {
            commits: 7,
            next_key: 3,
            losses_total: 1,
            lost_bytes_total: 10,
            files: vec![FileEntry {
                key: 2,
                tail_fingerprint: Fingerprint::of(b"x"),
                ..FileEntry::default()
            }],
            marks: vec![SinkMark {
                sink: "local".into(),
                path: "/out".into(),
                dev: 1,
                ino: 2,
                rotation: 3,
                length: 4,
                deleted: Default::default(),
            }],
            losses: vec![Loss {
                at_ms: 1,
                path: "/lost".into(),
                from: 0,
                to: 10,
                reason: "deleted".into(),
                file: 2,
            }],
            api: Some(ApiCursor::default()),
            api_other_nodes: Some(ApiCursor::default()),
            nodes: Some(ClusterNodes { of_files: vec![FileNode::default()], others: vec!["n2".into()] }),
            agent_user: Some(AgentUser::default()),
            active_input: Some(ActiveInput {
                api: Some(FallbackCause::Silent),
                since_ms: 1,
                reason: "silent".into(),
            }),
            audit_settings: Some(AuditSettings {
                coverage: [("area".into(), "base".into())].into(),
                ..AuditSettings::default()
            }),
            ledger: Some(LedgerPosition { size: 1, edge: vec![[7; 32]], ..LedgerPosition::default() }),
        }
    }

    #[test]
    fn a_source_that_is_replaced_is_read_as_it_was() {
        let json = serde_json::to_value(full()).unwrap();
        let empty = serde_json::to_value(SourceState::default()).unwrap();
        for (member, value) in json.as_object().unwrap() {
            assert_ne!(*value, empty[member], "`{member}` is not set");
        }
        assert!(!full().is_empty());
        let temp = tempfile::tempdir().unwrap();
        let db = Db::open(&temp.path().join("db")).unwrap();
        let head = SourceHead { commits: 7, losses_total: 1, lost_bytes_total: 10, ..SourceHead::default() };
        for state in [full(), SourceState::default()] {
            let mut batch = WriteBatch::new(&db);
            batch.replace_source("wiki", head, &state).unwrap();
            let heads = batch.apply().unwrap();
            for on_damage in [OnDamage::Fail, OnDamage::Skip] {
                let read = read_source(&db, "wiki", heads["wiki"], on_damage).unwrap();
                assert_eq!(read.is_empty(), state.is_empty());
                if !state.is_empty() {
                    assert_eq!(read, state);
                }
            }
        }
    }
}
