//! The open store: load, commit, forget, close.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use super::entry::{Commit, SourceState, StateImage};
use super::error::StoreError;
use super::keys::{self, ValueKind};
use super::open::{self, Opened};
use super::sled_db::{Db, DbError};
use super::state_dir::StateDir;
use super::write_batch::{SourceHead, WriteBatch};
use super::{seal, state_files};
use crate::clock;
use crate::position::{
    ActiveInput, AgentUser, ApiCursor, ClusterNodes, Coverage, FileEntry, LedgerPosition, Loss, SinkMark,
};

/// Maximum age of the backup file while commits are made. It limits what is delivered again after the store is lost.
const BACKUP_AGE_MAX: Duration = Duration::from_secs(60);

/// An open, locked state directory.
pub struct Store {
    pub(super) dir: StateDir,
    /// `None` after a failure: sled repeats its first error for ever, so the next call opens it again.
    pub(super) db: Option<Db>,
    pub(super) agent_id: String,
    pub(super) heads: BTreeMap<String, SourceHead>,
    pub(super) backup_due: Instant,
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
        open::open(state_dir)
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

    pub(super) fn write_backup(&mut self) -> Result<(), StoreError> {
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
            open::reopen(self)?;
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

/// What to do about a damaged value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum OnDamage {
    /// Fail: every value was checked when the store was opened, so it was damaged since.
    Fail,
    Skip,
}

pub(super) fn read_source(
    db: &Db,
    source: &str,
    head: SourceHead,
    on_damage: OnDamage,
) -> Result<SourceState, DbError> {
    Ok(SourceState {
        commits: head.commits,
        next_key: head.next_key,
        losses_total: head.losses_total,
        lost_bytes_total: head.lost_bytes_total,
        files: read_values::<FileEntry>(db, ValueKind::File, source, on_damage)?,
        marks: read_values::<SinkMark>(db, ValueKind::Mark, source, on_damage)?,
        losses: read_values::<Loss>(db, ValueKind::Loss, source, on_damage)?,
        api: read_values::<ApiCursor>(db, ValueKind::Cursor, source, on_damage)?.pop(),
        api_other_nodes: read_values::<ApiCursor>(db, ValueKind::OtherNodes, source, on_damage)?.pop(),
        nodes: read_values::<ClusterNodes>(db, ValueKind::Nodes, source, on_damage)?.pop(),
        agent_user: read_values::<AgentUser>(db, ValueKind::User, source, on_damage)?.pop(),
        active_input: read_values::<ActiveInput>(db, ValueKind::ActiveInput, source, on_damage)?.pop(),
        coverage: read_values::<Coverage>(db, ValueKind::Coverage, source, on_damage)?.pop(),
        ledger: read_values::<LedgerPosition>(db, ValueKind::Ledger, source, on_damage)?.pop(),
    })
}

fn read_values<T: serde::de::DeserializeOwned>(
    db: &Db,
    kind: ValueKind,
    source: &str,
    on_damage: OnDamage,
) -> Result<Vec<T>, DbError> {
    let mut values = Vec::new();
    let mut broken = BTreeSet::new();
    db.scan(&keys::prefix(kind, source), |key, value| match seal::unseal(key, value) {
        Ok((value, _)) => values.push(value),
        Err(problem) => {
            broken.insert(format!("{problem:?}"));
        }
    })?;
    match broken.into_iter().next() {
        Some(problem) if on_damage == OnDamage::Fail => {
            Err(DbError::Damaged(format!("a {} value of source `{source}`: {problem}", kind.name())))
        }
        _ => Ok(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::{FallbackCause, FileNode, Fingerprint};

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
                generation: 3,
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
            coverage: Some(Coverage::from([("area".into(), "base".into())])),
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
