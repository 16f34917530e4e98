//! Opens the ledger of a source, as the checkpoint says it was.

use super::common::{AgentError, Mode};
use crate::checkpoint::{SourceState, StoreError};
use crate::clock;
use crate::ledger::{Damage, Limits, SharedLedger};
use crate::position::LedgerPosition;
use std::path::{Path, PathBuf};

/// A ledger, where it is, and what it has lost.
pub(super) struct OpenedLedger {
    pub ledger: SharedLedger,
    pub dir: PathBuf,
    pub damage: Option<String>,
}

pub(super) fn open(
    state_dir: &Path,
    source: &str,
    state: &SourceState,
    limits: Limits,
    mode: Mode,
) -> Result<OpenedLedger, AgentError> {
    let dir = state_dir.join("ledger").join(file_name(source));
    let failed = |error| AgentError::Store(StoreError::io("open the ledger in", &dir, error));
    let position = state.ledger.clone().unwrap_or_default();
    if mode.dry_run {
        let ledger = SharedLedger::open_read_only(&dir, &position).map_err(failed)?;
        return Ok(OpenedLedger { ledger, dir, damage: None });
    }
    let has_positions = state.api.is_some() || state.files.iter().any(|file| file.offset > 0);
    let mut damage = None;
    if has_positions && state.ledger.is_none() {
        if !dir.exists() {
            return Err(AgentError::NoLedger { source_name: source.to_owned() });
        }
        // Without its size and its edge it cannot be continued. It stays as it is, for a person.
        let kept = dir.with_extension(format!("kept-{}", clock::now_ms()));
        std::fs::rename(&dir, &kept).map_err(failed)?;
        damage = Some(format!(
            "the checkpoint store has lost the size of the ledger of source `{source}`; the ledger is kept as `{}` and a \
             new one begins. Events that were delivered before are delivered again if they are read again",
            kept.display()
        ));
    }
    let (ledger, missing) = match SharedLedger::open(&dir, &position, limits) {
        Ok(opened) => opened,
        Err(error) => return Err(failed(error)),
    };
    damage = damage.or_else(|| (!missing.is_empty()).then(|| describe(source, &missing)));
    if let Some(damage) = &damage {
        tracing::error!(source, "{damage}");
    }
    Ok(OpenedLedger { ledger, dir, damage })
}

impl OpenedLedger {
    /// What the checkpoint is to know before the first event is delivered.
    pub(super) fn position(&self) -> Result<Option<LedgerPosition>, AgentError> {
        self.ledger.commit().map_err(|error| StoreError::io("write", &self.dir, error).into())
    }
}

fn describe(source: &str, missing: &[Damage]) -> String {
    let ranges: Vec<String> = missing
        .iter()
        .map(|Damage { missing }| format!("{} to {}", missing.start, missing.end - 1))
        .collect();
    format!(
        "the ledger of source `{source}` has lost its entries {}: it cannot show any more that these events were delivered. \
         Delivery continues",
        ranges.join(", ")
    )
}

/// The source's name as a file name: other characters than letters, digits, `-` and `_` as `%` and their bytes.
fn file_name(source: &str) -> String {
    let mut name = String::new();
    for byte in source.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_source_is_no_path() {
        for (source, name) in
            [("wiki", "wiki"), ("..", "%2e%2e"), ("a/b", "a%2fb"), ("Größe", "Gr%c3%b6%c3%9fe")]
        {
            assert_eq!(file_name(source), name);
        }
    }
}
