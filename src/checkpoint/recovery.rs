//! Opens the checkpoint store and repairs it.
//!
//! A held lock and a full disk are not damage, and nothing is changed then. Damage is repaired in steps, until the
//! store opens:
//!
//! 1. Keep a copy of the damaged store.
//! 2. Remove `conf`. It contains only constants.
//! 3. Remove the snapshot. sled rebuilds it from its log. A log with freed segments may come back empty.
//! 4. Create a new, empty store.
//!
//! Then every value is read and checked. If values of a source are missing, do not match their checksum or are older
//! than the backup file, the source continues from the backup file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;

use super::error::{RecoveryStep, StoreError};
use super::keys::{self, ValueKind};
use super::read_source::{OnDamage, read_source};
use super::sled_db::{Db, DbError, remove_files};
use super::source_state::StateImage;
use super::state_dir::{self, DAMAGED_COPY, StateDir};
use super::state_files::{self, Meta, StateFiles};
use super::stored_value::{self, DecodeError};
use super::write_batch::{SourceHead, WriteBatch};
use crate::clock;

/// How many copies of damaged stores are kept.
const DAMAGED_COPIES_MAX: usize = 3;

/// The content of a store that was opened.
struct FoundStore {
    agent_id: Option<String>,
    sources: BTreeMap<String, FoundSource>,
    /// Keys of damaged values.
    damaged: Vec<Vec<u8>>,
}

#[derive(Default)]
struct FoundSource {
    head: Option<SourceHead>,
    /// Sum of the checksums of its values.
    sum: u64,
}

impl FoundSource {
    fn is_consistent(&self) -> bool {
        self.head.is_some_and(|head| head.sum == self.sum)
    }
}

enum OpenFailure {
    /// A newer release wrote the store; its version.
    Newer(u32),
    Failed(DbError),
}

/// Opens the store and reads every value: sled detects some damage only then.
fn open_and_check(path: &Path) -> Result<(Db, FoundStore), OpenFailure> {
    let db = Db::open(path).map_err(OpenFailure::Failed)?;
    let mut store = FoundStore { agent_id: None, sources: BTreeMap::new(), damaged: Vec::new() };
    let mut newer = None;
    db.scan(b"", |key, value| {
        let Some((kind, source)) = keys::parse(key) else {
            store.damaged.push(key.to_vec());
            return;
        };
        let mut found = FoundSource::default();
        let checked = match kind {
            ValueKind::Meta => {
                stored_value::decode::<Meta>(key, value).map(|(meta, _)| store.agent_id = Some(meta.agent_id))
            }
            ValueKind::Head => {
                stored_value::decode::<SourceHead>(key, value).map(|(head, _)| found.head = Some(head))
            }
            ValueKind::File
            | ValueKind::Mark
            | ValueKind::Cursor
            | ValueKind::Ids
            | ValueKind::OtherNodes
            | ValueKind::Nodes
            | ValueKind::User
            | ValueKind::ActiveInput
            | ValueKind::AuditSettings
            | ValueKind::Ledger => {
                stored_value::decode::<IgnoredAny>(key, value).map(|(_, sum)| found.sum = sum)
            }
            ValueKind::Loss => stored_value::decode::<IgnoredAny>(key, value).map(|_| ()),
        };
        if kind != ValueKind::Meta {
            // A damaged value too shows that its source exists.
            let source = store.sources.entry(source).or_default();
            source.head = source.head.or(found.head);
            source.sum = source.sum.wrapping_add(found.sum);
        }
        match checked {
            Ok(()) => {}
            Err(DecodeError::Newer(version)) => newer = Some(version),
            Err(DecodeError::Damaged(_)) => store.damaged.push(key.to_vec()),
        }
    })
    .map_err(OpenFailure::Failed)?;
    match newer {
        Some(version) => Err(OpenFailure::Newer(version)),
        None => Ok((db, store)),
    }
}

/// A store that is open and intact.
pub(super) struct RecoveredStore {
    pub db: Db,
    pub agent_id: String,
    pub heads: BTreeMap<String, SourceHead>,
    /// Repair steps that were taken.
    pub steps: Vec<RecoveryStep>,
}

/// Opens the store in `dir`, and repairs it if necessary.
pub(super) fn recover(dir: &StateDir, files: &StateFiles) -> Result<RecoveredStore, StoreError> {
    let mut recovery = StoreRecovery { dir, steps: Vec::new(), copied: false };
    let (db, found) = recovery.open_or_repair()?;
    let replaced = recovery.steps.contains(&RecoveryStep::Replaced);
    if files.existed() && found.agent_id.is_none() && !replaced {
        recovery.add(RecoveryStep::OpenedEmpty);
    }
    let mut batch = WriteBatch::new(&db);
    if !found.damaged.is_empty() {
        recovery.add(RecoveryStep::ValuesDropped { count: found.damaged.len() });
        for key in &found.damaged {
            batch.remove(key.clone());
        }
    }
    let image = files.image.value();
    let mut heads = recovery.repair_sources(&db, &found, image, &mut batch)?;
    if !recovery.steps.is_empty() {
        recovery.keep_damaged_copy("it opened, but its content is inconsistent")?;
    }

    let stored = files.meta.value().map(|meta| &meta.agent_id);
    let agent_id = stored.or(found.agent_id.as_ref()).or(image.map(|image| &image.agent_id)).cloned();
    let meta = Meta { agent_id: agent_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()) };
    let has_meta = stored.is_some();
    if has_meta {
        // Raises the directory's version before the first value of that version is written.
        state_files::write_meta(dir, &meta)?;
    }
    let failed = |error: DbError| error.into_error(dir);
    if found.agent_id.as_ref() != Some(&meta.agent_id) {
        batch.put(keys::META.to_vec(), &meta).map_err(failed)?;
    }
    heads.extend(batch.apply_if_any().map_err(failed)?);

    recovery.report_replaced_files(files);
    let steps = recovery.steps;
    // The process that created the store may have been killed before its name was durable.
    dir.sync()?;
    if !has_meta {
        state_files::write_meta(dir, &meta)?;
    }
    Ok(RecoveredStore { db, agent_id: meta.agent_id, heads, steps })
}

/// The repair of one store, and the steps taken so far.
struct StoreRecovery<'a> {
    dir: &'a StateDir,
    steps: Vec<RecoveryStep>,
    /// A copy of the damaged store was kept.
    copied: bool,
}

impl StoreRecovery<'_> {
    /// Logs the step as an error and records it.
    fn add(&mut self, step: RecoveryStep) {
        tracing::error!("{step}");
        self.steps.push(step);
    }

    /// Opens the store, removing as little of it as possible.
    fn open_or_repair(&mut self) -> Result<(Db, FoundStore), StoreError> {
        let path = self.dir.path.join("db");
        let mut problem = match self.open(&path)? {
            Ok(opened) => return Ok(opened),
            Err(problem) => problem,
        };
        self.keep_damaged_copy(&problem)?;
        let io = |error| StoreError::io("recover", &path, error);
        for step in [RecoveryStep::WithoutConf, RecoveryStep::WithoutSnapshot, RecoveryStep::Replaced] {
            match step {
                RecoveryStep::WithoutConf => remove_files(&path, |name| name == "conf").map_err(io)?,
                RecoveryStep::WithoutSnapshot => {
                    remove_files(&path, |name| name.starts_with("snap.")).map_err(io)?
                }
                _ => fs::remove_dir_all(&path).map_err(io)?,
            }
            match self.open(&path)? {
                Ok(opened) => {
                    self.add(step);
                    return Ok(opened);
                }
                Err(reason) => problem = reason,
            }
        }
        Err(StoreError::Damaged { dir: self.dir.path.clone(), problem })
    }

    /// The opened store, or in the inner `Err` what is damaged. Any other failure cannot be repaired and is an error.
    fn open(&self, path: &Path) -> Result<Result<(Db, FoundStore), String>, StoreError> {
        match open_and_check(path) {
            Ok(opened) => Ok(Ok(opened)),
            Err(OpenFailure::Failed(DbError::Damaged(problem))) => Ok(Err(problem)),
            Err(OpenFailure::Failed(error)) => Err(error.into_error(self.dir)),
            Err(OpenFailure::Newer(found)) => Err(StoreError::Newer { path: path.to_owned(), found }),
        }
    }

    /// Takes each source whose values are inconsistent or outdated from the backup file `image`. Returns the heads of
    /// the other sources.
    fn repair_sources(
        &mut self,
        db: &Db,
        found: &FoundStore,
        image: Option<&StateImage>,
        batch: &mut WriteBatch,
    ) -> Result<BTreeMap<String, SourceHead>, StoreError> {
        let dir = self.dir;
        let failed = |error: DbError| error.into_error(dir);
        let mut heads = BTreeMap::new();
        let in_backup = image.iter().flat_map(|image| image.sources.keys());
        let names: BTreeSet<&String> = found.sources.keys().chain(in_backup).collect();
        for name in names {
            let in_store = found.sources.get(name);
            let head = in_store.and_then(|source| source.head).unwrap_or_default();
            let backup = image.and_then(|image| image.sources.get(name));
            let consistent = in_store.is_some_and(FoundSource::is_consistent);
            match backup {
                Some(backup) if !consistent || backup.commits > head.commits => {
                    self.add(RecoveryStep::SourceFromBackup {
                        source: name.clone(),
                        commits: backup.commits,
                    });
                    let head = SourceHead {
                        // More than in the store and the backup: from now on this state is the newest.
                        commits: head.commits.max(backup.commits) + 1,
                        next_key: head.next_key.max(backup.next_key),
                        losses_total: backup.losses_total,
                        lost_bytes_total: backup.lost_bytes_total,
                        sum: 0,
                    };
                    batch.replace_source(name, head, backup).map_err(failed)?;
                }
                _ if consistent => {
                    heads.insert(name.clone(), head);
                }
                _ => {
                    self.add(RecoveryStep::MarksDropped { source: name.clone() });
                    let mut state = read_source(db, name, head, OnDamage::Skip).map_err(failed)?;
                    state.marks.clear();
                    let head = SourceHead { commits: head.commits + 1, ..head };
                    batch.replace_source(name, head, &state).map_err(failed)?;
                }
            }
        }
        Ok(heads)
    }

    /// Damaged `meta.json` and `checkpoint.json` are written again at the end.
    fn report_replaced_files(&mut self, files: &StateFiles) {
        for (name, problem) in
            [(state_files::META, files.meta.problem()), (state_files::BACKUP, files.image.problem())]
        {
            if let Some(problem) = problem {
                self.add(RecoveryStep::FileReplaced {
                    path: self.dir.path.join(name),
                    problem: problem.to_owned(),
                });
            }
        }
    }

    /// Copies the damaged store, once, and removes the oldest copies.
    fn keep_damaged_copy(&mut self, problem: &str) -> Result<(), StoreError> {
        if self.copied {
            return Ok(());
        }
        self.copied = true;
        let copy = self.dir.path.join(format!("{DAMAGED_COPY}{}", timestamp()));
        state_dir::copy(&self.dir.path.join("db"), &copy)?;
        self.add(RecoveryStep::KeptDamagedCopy { copy, problem: problem.to_owned() });
        let copies = state_dir::damaged_copies(&self.dir.path)?;
        for old in copies.iter().rev().skip(DAMAGED_COPIES_MAX) {
            fs::remove_dir_all(old).map_err(|error| StoreError::io("remove", old, error))?;
        }
        Ok(())
    }
}

/// UTC, to the millisecond, so that names sort by age.
fn timestamp() -> String {
    match jiff::Timestamp::from_millisecond(clock::now_ms()) {
        Ok(now) => now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        Err(_) => clock::now_ms().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source_state::Commit;
    use super::super::store::{Opened, Store};
    use super::*;
    use crate::position::{FileEntry, Progress, SinkMark};

    /// A state directory with one source, closed normally.
    fn state_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path()).unwrap().store;
        let commit = Commit {
            source: "wiki".to_owned(),
            progress: Progress { files: vec![FileEntry::default()], ..Progress::default() },
            marks: vec![SinkMark {
                sink: "local".to_owned(),
                path: "/out".into(),
                dev: 1,
                ino: 2,
                rotation: 3,
                length: 4,
                deleted: Default::default(),
            }],
            ledger: None,
        };
        store.commit(&[commit]).unwrap();
        store.close().unwrap();
        // sled writes a snapshot when it opens a log.
        Store::open(dir.path()).unwrap().store.close().unwrap();
        dir
    }

    /// Overwrites the files of sled whose names start with `prefix`.
    fn overwrite(dir: &Path, prefix: &str) {
        let db = dir.join("db");
        let mut names = state_dir::names(&db).unwrap();
        names.retain(|name| name.starts_with(prefix));
        assert!(!names.is_empty(), "{prefix}");
        for name in names {
            fs::write(db.join(name), vec![7; 4096]).unwrap();
        }
    }

    fn damage_value(dir: &Path) {
        let db = Db::open(&dir.join("db")).unwrap();
        let mut batch = sled::Batch::default();
        batch.insert(keys::file("wiki", 0), b"{}");
        db.apply(batch).unwrap();
    }

    /// F23: each repair step is needed for some damage, and the store is intact after it.
    #[test]
    fn f23_each_repair_step_is_reached() {
        type Damage<'d> = &'d dyn Fn(&Path);
        let table: [(Damage, &[&str]); 7] = [
            (&|dir| overwrite(dir, "conf"), &["KeptDamagedCopy", "WithoutConf"]),
            (&|dir| overwrite(dir, "snap."), &["KeptDamagedCopy", "WithoutSnapshot"]),
            (
                &|dir| {
                    fs::remove_file(dir.join("db/db")).unwrap();
                    fs::create_dir(dir.join("db/db")).unwrap();
                },
                &["KeptDamagedCopy", "Replaced", "SourceFromBackup"],
            ),
            (
                &|dir| fs::remove_dir_all(dir.join("db")).unwrap(),
                &["OpenedEmpty", "SourceFromBackup", "KeptDamagedCopy"],
            ),
            (&damage_value, &["ValuesDropped", "SourceFromBackup", "KeptDamagedCopy"]),
            (
                &|dir| {
                    damage_value(dir);
                    fs::remove_file(dir.join(state_files::BACKUP)).unwrap();
                },
                &["ValuesDropped", "MarksDropped", "KeptDamagedCopy"],
            ),
            (&|dir| fs::write(dir.join(state_files::BACKUP), "{}").unwrap(), &["FileReplaced"]),
        ];
        for (damage, expected) in table {
            let dir = state_dir();
            damage(dir.path());
            let Opened { store, recovered } = Store::open(dir.path()).unwrap();
            let name = |step: &RecoveryStep| format!("{step:?}").split([' ', '{']).next().unwrap().to_owned();
            assert_eq!(recovered.iter().map(name).collect::<Vec<_>>(), expected);
            drop(store);
            assert_eq!(Store::open(dir.path()).unwrap().recovered, [], "{expected:?}");
        }
    }
}
