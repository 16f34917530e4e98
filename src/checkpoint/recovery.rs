//! The recovery recovery.
//!
//! Locked and full are not damage. For damage: keep a copy, try without `conf` (constants, nothing is lost with it),
//! then without the snapshot (sled replays its log; a log that has freed segments may come back empty), then begin a
//! new store. Whatever opened is read whole and checked; a source whose values are missing, do not add up, or are
//! older than the side file's goes on from the side file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;

use super::error::{RecoveryStep, StoreError};
use super::keys::{self, ValueKind};
use super::open::StateFiles;
use super::seal::{self, UnsealError};
use super::sled_db::{Db, DbError, remove_files};
use super::state_dir::{self, StateDir};
use super::state_files::{self, Meta};
use super::store::{OnDamage, Store, read_source};
use super::write_batch::{SourceHead, WriteBatch};
use crate::clock;

/// What copies of damaged stores begin with, and how many are kept.
pub const DAMAGED_COPY: &str = "db.corrupt-";
const DAMAGED_COPIES_MAX: usize = 3;

/// A store as it came back.
struct FoundStore {
    agent_id: Option<String>,
    sources: BTreeMap<String, FoundSource>,
    /// Keys of values that failed their checks.
    broken: Vec<Vec<u8>>,
}

#[derive(Default)]
struct FoundSource {
    head: Option<SourceHead>,
    sum: u64,
}

impl FoundSource {
    fn checksum_matches(&self) -> bool {
        self.head.is_some_and(|head| head.sum == self.sum)
    }
}

enum OpenFailure {
    Newer(u32),
    Failed(DbError),
}

/// Opens the store and reads all of it: sled finds some damage only then.
fn open_and_check(path: &Path) -> Result<(Db, FoundStore), OpenFailure> {
    let db = Db::open(path).map_err(OpenFailure::Failed)?;
    let mut found_store = FoundStore {
        agent_id: None,
        sources: BTreeMap::new(),
        broken: Vec::new(),
    };
    let mut newer = None;
    db.scan(b"", |bytes, value| {
        let Some((kind, source)) = keys::parse(bytes) else {
            found_store.broken.push(bytes.to_vec());
            return;
        };
        let mut found = FoundSource::default();
        let checked = match kind {
            ValueKind::Meta => {
                seal::unseal::<Meta>(bytes, value).map(|(meta, _)| found_store.agent_id = Some(meta.agent_id))
            }
            ValueKind::Head => {
                seal::unseal::<SourceHead>(bytes, value).map(|(head, _)| found.head = Some(head))
            }
            ValueKind::File
            | ValueKind::Mark
            | ValueKind::Cursor
            | ValueKind::Ids
            | ValueKind::OtherNodes
            | ValueKind::Nodes
            | ValueKind::User
            | ValueKind::ActiveInput
            | ValueKind::Coverage => seal::unseal::<IgnoredAny>(bytes, value).map(|(_, sum)| found.sum = sum),
            ValueKind::Loss => seal::unseal::<IgnoredAny>(bytes, value).map(|_| ()),
        };
        if kind != ValueKind::Meta {
            // Also of a damaged value: its source is known to exist.
            let source = found_store.sources.entry(source).or_default();
            source.head = source.head.or(found.head);
            source.sum = source.sum.wrapping_add(found.sum);
        }
        match checked {
            Ok(()) => {}
            Err(UnsealError::Newer(found)) => newer = Some(found),
            Err(UnsealError::Damaged(_)) => found_store.broken.push(bytes.to_vec()),
        }
    })
    .map_err(OpenFailure::Failed)?;
    match newer {
        Some(found) => Err(OpenFailure::Newer(found)),
        None => Ok((db, found_store)),
    }
}

/// Climbs down as far as it takes, then makes the store whole.
pub fn recover(store: &mut Store, files: &StateFiles) -> Result<Vec<RecoveryStep>, StoreError> {
    let mut recovery = Recovery {
        dir: &store.dir,
        steps: Vec::new(),
        copied: false,
    };
    let (db, found_store) = recovery.open_or_repair()?;
    let replaced = recovery.steps.contains(&RecoveryStep::Replaced);
    if files.known() && found_store.agent_id.is_none() && !replaced {
        recovery.take(RecoveryStep::OpenedEmpty);
    }
    if !found_store.broken.is_empty() {
        recovery.take(RecoveryStep::ValuesDropped {
            count: found_store.broken.len(),
        });
    }

    let mut batch = WriteBatch::new(&db);
    let mut heads = BTreeMap::new();
    let failed = |failure: DbError| failure.into_error(&store.dir);
    for key in &found_store.broken {
        batch.remove(key.clone());
    }
    let image = files.image.value();
    let names: BTreeSet<&String> = found_store
        .sources
        .keys()
        .chain(image.iter().flat_map(|image| image.sources.keys()))
        .collect();
    for name in names {
        let found = found_store.sources.get(name);
        let head = found.and_then(|found| found.head).unwrap_or_default();
        let aside = image.and_then(|image| image.sources.get(name));
        let sound = found.is_some_and(FoundSource::checksum_matches);
        match aside {
            Some(aside) if !sound || aside.commits > head.commits => {
                recovery.take(RecoveryStep::SourceFromBackup {
                    source: name.clone(),
                    commits: aside.commits,
                });
                let head = SourceHead {
                    // More than either has, so that this state is the newer one from now on.
                    commits: head.commits.max(aside.commits) + 1,
                    next_key: head.next_key.max(aside.next_key),
                    losses_total: aside.losses_total,
                    lost_bytes_total: aside.lost_bytes_total,
                    sum: 0,
                };
                batch.replace_source(name, head, aside).map_err(failed)?;
            }
            _ if sound => {
                heads.insert(name.clone(), head);
            }
            _ => {
                recovery.take(RecoveryStep::MarksDropped { source: name.clone() });
                let mut state = read_source(&db, name, head, OnDamage::Skip).map_err(failed)?;
                state.marks.clear();
                let head = SourceHead {
                    commits: head.commits + 1,
                    ..head
                };
                batch.replace_source(name, head, &state).map_err(failed)?;
            }
        }
    }
    if recovery
        .steps
        .iter()
        .any(|step| !matches!(step, RecoveryStep::FileReplaced { .. }))
    {
        recovery.keep_damaged_copy("it opened, and what it held was not sound")?;
    }

    let known = files.meta.value().map(|meta| &meta.agent_id);
    let agent_id = known
        .or(found_store.agent_id.as_ref())
        .or(image.map(|image| &image.agent_id))
        .cloned();
    let meta = Meta {
        agent_id: agent_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    };
    let known = files.meta.value().is_some();
    if known {
        // Raises the directory's version before the first value of it is written.
        state_files::write_meta(&store.dir, &meta)?;
    }
    if found_store.agent_id.as_ref() != Some(&meta.agent_id) {
        batch.put(keys::META.to_vec(), &meta).map_err(failed)?;
    }
    heads.extend(batch.apply_if_any().map_err(failed)?);

    let mut steps = recovery.steps;
    for (name, problem) in [
        (state_files::META, files.meta.problem()),
        (state_files::BACKUP, files.image.problem()),
    ] {
        if let Some(problem) = problem {
            let path = store.dir.path.join(name);
            steps.push(logged(RecoveryStep::FileReplaced {
                path,
                problem: problem.to_owned(),
            }));
        }
    }
    if !files.db {
        store.dir.sync()?;
    }
    if !known {
        state_files::write_meta(&store.dir, &meta)?;
    }
    store.db = Some(db);
    store.heads = heads;
    store.agent_id = meta.agent_id;
    if !steps.is_empty() {
        store.write_backup()?;
    }
    Ok(steps)
}

struct Recovery<'a> {
    dir: &'a StateDir,
    steps: Vec<RecoveryStep>,
    copied: bool,
}

impl Recovery<'_> {
    fn take(&mut self, step: RecoveryStep) {
        self.steps.push(logged(step));
    }

    /// The store, opened with as much of it as can be.
    fn open_or_repair(&mut self) -> Result<(Db, FoundStore), StoreError> {
        let path = self.dir.path.join("db");
        let mut problem = match self.step(&path)? {
            Ok(opened) => return Ok(opened),
            Err(problem) => problem,
        };
        self.keep_damaged_copy(&problem)?;
        let io = |error| StoreError::io("recover", &path, error);
        for step in [
            RecoveryStep::WithoutConf,
            RecoveryStep::WithoutSnapshot,
            RecoveryStep::Replaced,
        ] {
            match step {
                RecoveryStep::WithoutSnapshot => {
                    remove_files(&path, |name| name.starts_with("snap.")).map_err(io)?
                }
                RecoveryStep::WithoutConf => remove_files(&path, |name| name == "conf").map_err(io)?,
                _ => fs::remove_dir_all(&path).map_err(io)?,
            }
            match self.step(&path)? {
                Ok(opened) => {
                    self.take(step);
                    return Ok(opened);
                }
                Err(reason) => problem = reason,
            }
        }
        Err(StoreError::Damaged {
            dir: self.dir.path.clone(),
            problem,
        })
    }

    /// Opens the store, or says what is damaged. All else is an error and no reason to go further down.
    fn step(&self, path: &Path) -> Result<Result<(Db, FoundStore), String>, StoreError> {
        match open_and_check(path) {
            Ok(opened) => Ok(Ok(opened)),
            Err(OpenFailure::Failed(DbError::Damaged(problem))) => Ok(Err(problem)),
            Err(OpenFailure::Failed(failure)) => Err(failure.into_error(self.dir)),
            Err(OpenFailure::Newer(found)) => Err(StoreError::Newer {
                path: path.to_owned(),
                found,
            }),
        }
    }

    /// Copies the store aside, once, and keeps the newest copies.
    fn keep_damaged_copy(&mut self, problem: &str) -> Result<(), StoreError> {
        if self.copied {
            return Ok(());
        }
        self.copied = true;
        let copy = self.dir.path.join(format!("{DAMAGED_COPY}{}", timestamp()));
        state_dir::copy(&self.dir.path.join("db"), &copy)?;
        self.take(RecoveryStep::KeptDamagedCopy {
            copy,
            problem: problem.to_owned(),
        });
        let kept = super::open::damaged_copies(&self.dir.path)?;
        for old in kept.iter().rev().skip(DAMAGED_COPIES_MAX) {
            fs::remove_dir_all(old).map_err(|error| StoreError::io("remove", old, error))?;
        }
        Ok(())
    }
}

fn logged(step: RecoveryStep) -> RecoveryStep {
    tracing::error!("{step}");
    step
}

/// UTC, to the millisecond, so that names sort by age.
fn timestamp() -> String {
    match jiff::Timestamp::from_millisecond(clock::now_ms()) {
        Ok(now) => now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        Err(_) => clock::now_ms().to_string(),
    }
}
