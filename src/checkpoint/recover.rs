//! The recovery ladder.
//!
//! Locked and full are not damage. For damage: keep a copy, try without `conf` (constants, nothing is lost with it),
//! then without the snapshot (sled replays its log; a log that has freed segments may come back empty), then begin a
//! new store. Whatever opened is read whole and checked; a source whose values are missing, do not add up, or are
//! older than the side file's goes on from the side file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;

use super::change::{Change, Head};
use super::db::{Db, Failure, remove_files};
use super::dir::{self, StateDir};
use super::error::{Rung, StoreError};
use super::key::{self, Kind};
use super::open::Beside;
use super::seal::{self, Broken};
use super::side::{self, Meta};
use super::store::{OnBroken, Store, read_source};
use crate::clock;

/// What copies of damaged stores begin with, and how many are kept.
pub const DAMAGED_COPY: &str = "db.corrupt-";
const EVIDENCE_MAX: usize = 3;

/// A store as it came back.
struct Survey {
    agent_id: Option<String>,
    sources: BTreeMap<String, Surveyed>,
    /// Keys of values that failed their checks.
    broken: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Surveyed {
    head: Option<Head>,
    sum: u64,
}

impl Surveyed {
    fn adds_up(&self) -> bool {
        self.head.is_some_and(|head| head.sum == self.sum)
    }
}

enum Attempt {
    Newer(u32),
    Failed(Failure),
}

/// Opens the store and reads all of it: sled finds some damage only then.
fn attempt(path: &Path) -> Result<(Db, Survey), Attempt> {
    let db = Db::open(path).map_err(Attempt::Failed)?;
    let mut survey = Survey {
        agent_id: None,
        sources: BTreeMap::new(),
        broken: Vec::new(),
    };
    let mut newer = None;
    db.scan(b"", |bytes, value| {
        let Some((kind, source)) = key::parse(bytes) else {
            survey.broken.push(bytes.to_vec());
            return;
        };
        let mut surveyed = Surveyed::default();
        let checked = match kind {
            Kind::Meta => {
                seal::unseal::<Meta>(bytes, value).map(|(meta, _)| survey.agent_id = Some(meta.agent_id))
            }
            Kind::Head => seal::unseal::<Head>(bytes, value).map(|(head, _)| surveyed.head = Some(head)),
            Kind::File
            | Kind::Mark
            | Kind::Cursor
            | Kind::Ids
            | Kind::OtherNodes
            | Kind::Nodes
            | Kind::User
            | Kind::Way
            | Kind::Coverage => seal::unseal::<IgnoredAny>(bytes, value).map(|(_, sum)| surveyed.sum = sum),
            Kind::Loss => seal::unseal::<IgnoredAny>(bytes, value).map(|_| ()),
        };
        if kind != Kind::Meta {
            // Also of a damaged value: its source is known to exist.
            let source = survey.sources.entry(source).or_default();
            source.head = source.head.or(surveyed.head);
            source.sum = source.sum.wrapping_add(surveyed.sum);
        }
        match checked {
            Ok(()) => {}
            Err(Broken::Newer(found)) => newer = Some(found),
            Err(Broken::Damaged(_)) => survey.broken.push(bytes.to_vec()),
        }
    })
    .map_err(Attempt::Failed)?;
    match newer {
        Some(found) => Err(Attempt::Newer(found)),
        None => Ok((db, survey)),
    }
}

/// Climbs down as far as it takes, then makes the store whole.
pub fn recover(store: &mut Store, beside: &Beside) -> Result<Vec<Rung>, StoreError> {
    let mut ladder = Ladder {
        dir: &store.dir,
        rungs: Vec::new(),
        copied: false,
    };
    let (db, survey) = ladder.climb_down()?;
    let replaced = ladder.rungs.contains(&Rung::Replaced);
    if beside.known() && survey.agent_id.is_none() && !replaced {
        ladder.take(Rung::Emptied);
    }
    if !survey.broken.is_empty() {
        ladder.take(Rung::ValuesDropped {
            count: survey.broken.len(),
        });
    }

    let mut change = Change::new(&db);
    let mut heads = BTreeMap::new();
    let failed = |failure: Failure| failure.into_error(&store.dir);
    for key in &survey.broken {
        change.remove(key.clone());
    }
    let image = beside.image.value();
    let names: BTreeSet<&String> = survey
        .sources
        .keys()
        .chain(image.iter().flat_map(|image| image.sources.keys()))
        .collect();
    for name in names {
        let found = survey.sources.get(name);
        let head = found.and_then(|found| found.head).unwrap_or_default();
        let aside = image.and_then(|image| image.sources.get(name));
        let sound = found.is_some_and(Surveyed::adds_up);
        match aside {
            Some(aside) if !sound || aside.commits > head.commits => {
                ladder.take(Rung::SourceFromSideFile {
                    source: name.clone(),
                    commits: aside.commits,
                });
                let head = Head {
                    // More than either has, so that this state is the newer one from now on.
                    commits: head.commits.max(aside.commits) + 1,
                    next_key: head.next_key.max(aside.next_key),
                    losses_total: aside.losses_total,
                    lost_bytes_total: aside.lost_bytes_total,
                    sum: 0,
                };
                change.replace_source(name, head, aside).map_err(failed)?;
            }
            _ if sound => {
                heads.insert(name.clone(), head);
            }
            _ => {
                ladder.take(Rung::MarksDropped { source: name.clone() });
                let mut state = read_source(&db, name, head, OnBroken::PassOver).map_err(failed)?;
                state.marks.clear();
                let head = Head {
                    commits: head.commits + 1,
                    ..head
                };
                change.replace_source(name, head, &state).map_err(failed)?;
            }
        }
    }
    if ladder
        .rungs
        .iter()
        .any(|rung| !matches!(rung, Rung::FileReplaced { .. }))
    {
        ladder.keep_damaged_copy("it opened, and what it held was not sound")?;
    }

    let known = beside.meta.value().map(|meta| &meta.agent_id);
    let agent_id = known
        .or(survey.agent_id.as_ref())
        .or(image.map(|image| &image.agent_id))
        .cloned();
    let meta = Meta {
        agent_id: agent_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    };
    let known = beside.meta.value().is_some();
    if known {
        // Raises the directory's version before the first value of it is written.
        side::write_meta(&store.dir, &meta)?;
    }
    if survey.agent_id.as_ref() != Some(&meta.agent_id) {
        change.put(key::META.to_vec(), &meta).map_err(failed)?;
    }
    heads.extend(change.apply_if_any().map_err(failed)?);

    let mut rungs = ladder.rungs;
    for (name, problem) in [
        (side::META, beside.meta.problem()),
        (side::SIDE, beside.image.problem()),
    ] {
        if let Some(problem) = problem {
            let path = store.dir.path.join(name);
            rungs.push(loud(Rung::FileReplaced {
                path,
                problem: problem.to_owned(),
            }));
        }
    }
    if !beside.db {
        store.dir.sync()?;
    }
    if !known {
        side::write_meta(&store.dir, &meta)?;
    }
    store.db = Some(db);
    store.heads = heads;
    store.agent_id = meta.agent_id;
    if !rungs.is_empty() {
        store.write_side_file()?;
    }
    Ok(rungs)
}

struct Ladder<'a> {
    dir: &'a StateDir,
    rungs: Vec<Rung>,
    copied: bool,
}

impl Ladder<'_> {
    fn take(&mut self, rung: Rung) {
        self.rungs.push(loud(rung));
    }

    /// The store, opened with as much of it as can be.
    fn climb_down(&mut self) -> Result<(Db, Survey), StoreError> {
        let path = self.dir.path.join("db");
        let mut problem = match self.step(&path)? {
            Ok(opened) => return Ok(opened),
            Err(problem) => problem,
        };
        self.keep_damaged_copy(&problem)?;
        let io = |error| StoreError::io("recover", &path, error);
        for rung in [Rung::WithoutConf, Rung::WithoutSnapshot, Rung::Replaced] {
            match rung {
                Rung::WithoutSnapshot => remove_files(&path, |name| name.starts_with("snap.")).map_err(io)?,
                Rung::WithoutConf => remove_files(&path, |name| name == "conf").map_err(io)?,
                _ => fs::remove_dir_all(&path).map_err(io)?,
            }
            match self.step(&path)? {
                Ok(opened) => {
                    self.take(rung);
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
    fn step(&self, path: &Path) -> Result<Result<(Db, Survey), String>, StoreError> {
        match attempt(path) {
            Ok(opened) => Ok(Ok(opened)),
            Err(Attempt::Failed(Failure::Damaged(problem))) => Ok(Err(problem)),
            Err(Attempt::Failed(failure)) => Err(failure.into_error(self.dir)),
            Err(Attempt::Newer(found)) => Err(StoreError::Newer {
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
        dir::copy(&self.dir.path.join("db"), &copy)?;
        self.take(Rung::CopiedAside {
            copy,
            problem: problem.to_owned(),
        });
        let kept = super::open::damaged_copies(&self.dir.path)?;
        for old in kept.iter().rev().skip(EVIDENCE_MAX) {
            fs::remove_dir_all(old).map_err(|error| StoreError::io("remove", old, error))?;
        }
        Ok(())
    }
}

fn loud(rung: Rung) -> Rung {
    tracing::error!("{rung}");
    rung
}

/// UTC, to the millisecond, so that names sort by age.
fn timestamp() -> String {
    match jiff::Timestamp::from_millisecond(clock::now_ms()) {
        Ok(now) => now.strftime("%Y%m%dT%H%M%S.%3fZ").to_string(),
        Err(_) => clock::now_ms().to_string(),
    }
}
