//! Compares an export with ledgers that grow meanwhile. What a running agent has delivered after the ledger was read is
//! in the ledger a moment later.

use super::compare::{Scope, compare};
use super::finding::{Days, Finding, FindingKind};
use super::ledgers::{LedgerError, SourceLedger};
use super::row::{HAS_DIGEST, Row};
use super::sort::Sorted;
use std::collections::HashMap;
use std::io;
use std::time::Duration;

/// Extra events that may be in the ledger a moment later.
const PENDING_MAX: usize = 100_000;
/// An event is in the ledger this long after it was delivered, unless the agent was killed in between.
const COMMIT_POLLS: u32 = 10;
const COMMIT_POLL: Duration = Duration::from_millis(200);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Of a temporary file, or of the output.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Compares rows with the entries of `ledgers`, which were read into `entries`. Calls `found` with each finding.
pub(crate) fn compare_live(
    ledgers: &[SourceLedger],
    entries: Sorted,
    rows: Sorted,
    scope: &Scope,
    mut found: impl FnMut(&Finding) -> io::Result<()>,
) -> Result<Days, CompareError> {
    let is_live = ledgers.iter().any(SourceLedger::is_live);
    let mut pending: Vec<Finding> = Vec::new();
    let mut days = compare(entries, rows, scope, |finding| {
        if is_live && finding.kind == FindingKind::Extra && pending.len() < PENDING_MAX {
            pending.push(finding);
            return Ok(());
        }
        found(&finding)
    })?;
    let mut sizes: Vec<u64> = ledgers.iter().map(|ledger| ledger.kept().end).collect();
    for poll in 0..COMMIT_POLLS {
        if pending.is_empty() {
            break;
        }
        if poll > 0 {
            std::thread::sleep(COMMIT_POLL);
        }
        for (origin, (ledger, size)) in ledgers.iter().zip(&mut sizes).enumerate() {
            let (appended, now) = ledger.appended(origin as u16, *size)?;
            *size = now;
            settle(&mut pending, &appended, &mut days, &mut found)?;
        }
    }
    pending.iter().try_for_each(&mut found)?;
    Ok(days)
}

/// Takes those out of `pending` that are in the ledger by now.
fn settle(
    pending: &mut Vec<Finding>,
    appended: &HashMap<u128, Row>,
    days: &mut Days,
    found: &mut impl FnMut(&Finding) -> io::Result<()>,
) -> io::Result<()> {
    let mut result = Ok(());
    pending.retain(|finding| {
        let Some(entry) = appended.get(&finding.id()) else {
            return true;
        };
        let counts = days.at(finding.time_ms());
        counts.extra -= 1;
        counts.expected += 1;
        let row = finding.found.filter(|row| row.has(HAS_DIGEST));
        match row {
            None => counts.present += 1,
            Some(row) if row.digest == entry.digest => counts.intact += 1,
            Some(_) => {
                counts.altered += 1;
                let altered = Finding { kind: FindingKind::Altered, entry: Some(*entry), ..*finding };
                if result.is_ok() {
                    result = found(&altered);
                }
            }
        }
        false
    });
    result
}
