//! Reads the values of a source.

use std::collections::BTreeSet;

use super::keys::{self, ValueKind};
use super::sled_db::{Db, DbError};
use super::source_state::SourceState;
use super::stored_value;
use super::write_batch::SourceHead;
use crate::position::{
    ActiveInput, AgentUser, ApiCursor, AuditSettings, ClusterNodes, FileEntry, LedgerPosition, Loss, SinkMark,
};

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
        audit_settings: read_values::<AuditSettings>(db, ValueKind::AuditSettings, source, on_damage)?.pop(),
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
    db.scan(&keys::prefix(kind, source), |key, value| match stored_value::decode(key, value) {
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
