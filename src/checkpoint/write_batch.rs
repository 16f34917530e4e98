//! A batch of changes to the store that is applied atomically.
//!
//! Each source has a head with its counters and the sum of its values' checksums (without losses). If the store comes
//! back with a mix of old and new values the sum does not match, and the source is not trusted.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::keys::{self, ValueKind};
use super::sled_db::{Db, DbError};
use super::source_state::{Commit, LOSSES_MAX, SourceState};
use super::stored_value;
use crate::position::{Progress, SinkMark};

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct SourceHead {
    pub commits: u64,
    pub next_key: u32,
    pub losses_total: u64,
    pub lost_bytes_total: u64,
    /// Sum of the checksums of the source's values.
    pub sum: u64,
}

pub(super) struct WriteBatch<'a> {
    db: &'a Db,
    /// New value of each changed key; `None` removes the key.
    values: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    heads: BTreeMap<String, SourceHead>,
}

impl WriteBatch<'_> {
    pub(super) fn new(db: &Db) -> WriteBatch<'_> {
        WriteBatch { db, values: BTreeMap::new(), heads: BTreeMap::new() }
    }

    /// Adds a commit of a source. `head` is its head in the store. Returns whether one of its outputs has a new
    /// rotation.
    pub(super) fn commit(&mut self, head: SourceHead, commit: &Commit) -> Result<bool, DbError> {
        let source = &commit.source;
        let mut head = self.heads.get(source).copied().unwrap_or(head);
        let mut rotated = false;
        self.put_progress(&mut head, source, &commit.progress)?;
        if let Some(ledger) = &commit.ledger {
            self.put_checksummed(&mut head, keys::ledger(source), ledger)?;
        }
        for mark in &commit.marks {
            let key = keys::mark(source, &mark.sink);
            let old = self.current(&key)?.and_then(|old| stored_value::decode::<SinkMark>(&key, &old).ok());
            rotated |= old.is_none_or(|(old, _)| old.rotation != mark.rotation);
            self.put_checksummed(&mut head, key, mark)?;
        }
        for loss in &commit.progress.losses {
            self.put(keys::loss(source, head.losses_total), loss)?;
            if let Some(oldest) = head.losses_total.checked_sub(LOSSES_MAX as u64) {
                self.values.insert(keys::loss(source, oldest), None);
            }
            head.losses_total += 1;
            head.lost_bytes_total += loss.to.saturating_sub(loss.from);
        }
        head.commits += 1;
        self.put_head(source, head)?;
        Ok(rotated)
    }

    /// Replaces everything stored of the source by `state`, with the counters of `head`.
    pub(super) fn replace_source(
        &mut self,
        source: &str,
        head: SourceHead,
        state: &SourceState,
    ) -> Result<(), DbError> {
        for kind in ValueKind::OF_A_SOURCE {
            let values = &mut self.values;
            self.db.scan(&keys::prefix(kind, source), |key, _| {
                values.insert(key.to_vec(), None);
            })?;
        }
        // List each member: with `..` a new one would be dropped silently.
        let SourceState {
            commits: _,
            next_key: _,
            losses_total: _,
            lost_bytes_total: _,
            files,
            marks,
            losses,
            api,
            api_other_nodes,
            nodes,
            agent_user,
            active_input,
            audit_settings,
            ledger,
        } = state;
        let progress = Progress {
            files: files.clone(),
            api: *api,
            api_other_nodes: *api_other_nodes,
            nodes: nodes.clone(),
            agent_user: agent_user.clone(),
            active_input: active_input.clone(),
            audit_settings: audit_settings.clone(),
            ..Progress::default()
        };
        let mut head = SourceHead { sum: 0, ..head };
        self.put_progress(&mut head, source, &progress)?;
        if let Some(ledger) = ledger {
            self.put_checksummed(&mut head, keys::ledger(source), ledger)?;
        }
        for mark in marks {
            self.put_checksummed(&mut head, keys::mark(source, &mark.sink), mark)?;
        }
        let first = head.losses_total.saturating_sub(losses.len() as u64);
        for (number, loss) in (first..).zip(losses) {
            self.put(keys::loss(source, number), loss)?;
        }
        self.put_head(source, head)
    }

    /// Adds everything except the losses, which need numbers.
    fn put_progress(
        &mut self,
        head: &mut SourceHead,
        source: &str,
        progress: &Progress,
    ) -> Result<(), DbError> {
        let Progress {
            files,
            forgotten_files,
            losses: _,
            positions_pending: _,
            api,
            api_other_nodes,
            nodes,
            agent_user,
            active_input,
            audit_settings,
            entries: _,
        } = progress;
        for file in files {
            self.put_checksummed(head, keys::file(source, file.key), file)?;
            head.next_key = head.next_key.max(file.key.saturating_add(1));
        }
        for &file in forgotten_files {
            self.remove_checksummed(head, keys::file(source, file))?;
        }
        if let Some(cursor) = api {
            self.put_checksummed(head, keys::cursor(source), cursor)?;
        }
        if let Some(cursor) = api_other_nodes {
            self.put_checksummed(head, keys::other_nodes(source), cursor)?;
        }
        if let Some(nodes) = nodes {
            self.put_checksummed(head, keys::nodes(source), nodes)?;
        }
        if let Some(user) = agent_user {
            self.put_checksummed(head, keys::user(source), user)?;
        }
        if let Some(active_input) = active_input {
            self.put_checksummed(head, keys::active_input(source), active_input)?;
        }
        if let Some(settings) = audit_settings {
            self.put_checksummed(head, keys::audit_settings(source), settings)?;
        }
        Ok(())
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: &impl Serialize) -> Result<u64, DbError> {
        let (bytes, sum) = stored_value::encode(&key, value).map_err(|error| DbError::Io(error.into()))?;
        self.values.insert(key, Some(bytes));
        Ok(sum)
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.values.insert(key, None);
    }

    pub(super) fn put_head(&mut self, source: &str, head: SourceHead) -> Result<(), DbError> {
        self.heads.insert(source.to_owned(), head);
        self.put(keys::head(source), &head).map(|_| ())
    }

    /// Applies all changes at once, durably. Returns the new heads.
    pub(super) fn apply(self) -> Result<BTreeMap<String, SourceHead>, DbError> {
        let mut batch = sled::Batch::default();
        for (key, value) in self.values {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        self.db.apply(batch)?;
        Ok(self.heads)
    }

    /// As [`WriteBatch::apply`], without a write if nothing changes.
    pub(super) fn apply_if_any(self) -> Result<BTreeMap<String, SourceHead>, DbError> {
        if self.values.is_empty() { Ok(self.heads) } else { self.apply() }
    }

    fn put_checksummed(
        &mut self,
        head: &mut SourceHead,
        key: Vec<u8>,
        value: &impl Serialize,
    ) -> Result<(), DbError> {
        let old = self.sum_of(&key)?;
        let new = self.put(key, value)?;
        head.sum = head.sum.wrapping_sub(old).wrapping_add(new);
        Ok(())
    }

    fn remove_checksummed(&mut self, head: &mut SourceHead, key: Vec<u8>) -> Result<(), DbError> {
        head.sum = head.sum.wrapping_sub(self.sum_of(&key)?);
        self.values.insert(key, None);
        Ok(())
    }

    /// Checksum of the current value of `key`, pending changes included; 0 if there is none.
    fn sum_of(&self, key: &[u8]) -> Result<u64, DbError> {
        let Some(bytes) = self.current(key)? else {
            return Ok(0);
        };
        match stored_value::decode::<IgnoredAny>(key, &bytes) {
            Ok((_, sum)) => Ok(sum),
            Err(problem) => {
                Err(DbError::Damaged(format!("a value was damaged since the store was opened: {problem:?}")))
            }
        }
    }

    fn current(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DbError> {
        match self.values.get(key) {
            Some(pending) => Ok(pending.clone()),
            None => self.db.get(key),
        }
    }
}
