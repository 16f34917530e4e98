//! Sets a ledger and what was found elsewhere side by side, by the ids of the events. Pure.

use super::finding::{Counts, Days, Finding, FindingKind};
use super::row::{FROM_API, HAS_DIGEST, ID_FITS, MEMBERS_DIFFER, NOTICE, OF_INDEX, Row, SOME_SINKS};
use crate::ledger::EntryKind;
use std::io;
use std::iter::Peekable;
use std::ops::Range;

/// What is compared with the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// All that was delivered has to be there.
    Sink,
    /// Audit files. Old ones are deleted, and other events may have come by the API.
    Files,
    /// Rows of the API. Their bytes are others than those of lines in files.
    Api,
}

impl Side {
    fn has_all(self) -> bool {
        self == Side::Sink
    }

    /// Whether the bytes of the entry's record are the same here.
    fn has_bytes_of(self, entry: &Row) -> bool {
        match self {
            Side::Sink => true,
            Side::Files => !entry.has(FROM_API),
            Side::Api => entry.has(FROM_API),
        }
    }
}

/// What a comparison takes into account.
pub(crate) struct Scope<'a> {
    pub side: Side,
    /// Times of events, in milliseconds since the epoch.
    pub times: Range<i64>,
    /// Entries of events before this time may have been dropped by the ledger's retention.
    pub dropped_before_ms: i64,
    /// Whether the event of an entry is in quarantine instead.
    pub is_quarantined: &'a dyn Fn(&Row) -> bool,
}

impl Scope<'_> {
    fn covers(&self, row: &Row) -> bool {
        row.time().is_none_or(|ms| self.times.contains(&ms))
    }
}

/// Compares sorted rows. Calls `found` with each finding.
///
/// # Errors
/// Of the rows, and of `found`.
pub(crate) fn compare(
    ledger: impl Iterator<Item = io::Result<Row>>,
    other: impl Iterator<Item = io::Result<Row>>,
    scope: &Scope,
    mut found: impl FnMut(Finding) -> io::Result<()>,
) -> io::Result<Days> {
    let (mut ledger, mut other) = (ledger.peekable(), other.peekable());
    let (mut entries, mut rows) = (Vec::new(), Vec::new());
    let mut days = Days::default();
    loop {
        let id = match (next_id(&mut ledger)?, next_id(&mut other)?) {
            (None, None) => return Ok(days),
            (Some(one), Some(two)) => one.min(two),
            (one, two) => one.or(two).unwrap_or_default(),
        };
        take(&mut ledger, id, &mut entries)?;
        take(&mut other, id, &mut rows)?;
        compare_event(&entries, &mut rows, scope, &mut days, &mut found)?;
    }
}

fn next_id(rows: &mut Peekable<impl Iterator<Item = io::Result<Row>>>) -> io::Result<Option<u128>> {
    match rows.peek() {
        Some(Ok(row)) => Ok(Some(row.id)),
        Some(Err(_)) => rows.next().transpose().map(|row| row.map(|row| row.id)),
        None => Ok(None),
    }
}

fn take(
    rows: &mut Peekable<impl Iterator<Item = io::Result<Row>>>,
    id: u128,
    out: &mut Vec<Row>,
) -> io::Result<()> {
    out.clear();
    while let Some(row) = rows.next_if(|row| !matches!(row, Ok(row) if row.id != id)) {
        out.push(row?);
    }
    Ok(())
}

/// Compares what there is of one id. Records of a file without a time may have several entries with one id.
fn compare_event(
    entries: &[Row],
    rows: &mut Vec<Row>,
    scope: &Scope,
    days: &mut Days,
    found: &mut impl FnMut(Finding) -> io::Result<()>,
) -> io::Result<()> {
    let mut report = |days: &mut Days, kind, entry: Option<&Row>, row: Option<&Row>| {
        let finding = Finding { kind, entry: entry.copied(), found: row.copied() };
        *days.at(finding.time_ms()).of(kind) += 1;
        found(finding)
    };
    let is_index = rows.iter().any(|row| row.has(OF_INDEX));
    let is_found = !rows.is_empty();
    for entry in entries {
        if !scope.covers(entry) {
            // It is found outside of what was asked for.
            take_match(entry, rows, scope.side);
            continue;
        }
        let is_expected =
            scope.side.has_all() && entry.kind != EntryKind::Loss as u8 && !entry.has(SOME_SINKS);
        if is_expected {
            days.at(entry.time()).expected += 1;
        }
        match take_match(entry, rows, scope.side) {
            // An event that claims to be the agent's own was not compared with its original.
            Some(row) if row.has(MEMBERS_DIFFER) || (row.has(NOTICE) && !entry.has(NOTICE)) => {
                report(days, FindingKind::Altered, Some(entry), Some(&row))?
            }
            Some(row) => count_present(days.at(entry.time()), entry, &row, scope.side),
            None if !rows.is_empty() => {
                let row = rows.swap_remove(0);
                report(days, FindingKind::Altered, Some(entry), Some(&row))?;
            }
            // An index holds one event with an id.
            None if is_index && is_found => days.at(entry.time()).intact += 1,
            None if !is_expected => {}
            None if (scope.is_quarantined)(entry) => {
                days.at(entry.time()).quarantined += 1;
            }
            None => report(days, FindingKind::Missing, Some(entry), None)?,
        }
    }
    for row in rows.drain(..).filter(|row| scope.covers(row)) {
        match entries.first() {
            Some(entry) if !scope.covers(entry) => {}
            Some(entry) => report(days, FindingKind::Doubled, Some(entry), Some(&row))?,
            None if row.time().is_some_and(|ms| ms < scope.dropped_before_ms) => {
                days.at(row.time()).too_old += 1;
            }
            None if row.has(NOTICE) => days.at(row.time()).unconfirmed += 1,
            None => report(days, FindingKind::Extra, None, Some(&row))?,
        }
    }
    Ok(())
}

fn count_present(counts: &mut Counts, entry: &Row, row: &Row, side: Side) {
    match is_comparable(entry, row, side) {
        true => counts.intact += 1,
        false => counts.present += 1,
    }
}

fn is_comparable(entry: &Row, row: &Row, side: Side) -> bool {
    row.has(HAS_DIGEST)
        && entry.has(HAS_DIGEST)
        && side.has_bytes_of(entry)
        && !is_other_form(entry, row, side)
}

/// Whether the sink has the event as the other input has it. That is so after a kill between delivery and commit, if
/// the other input brought the event afterwards: the sink keeps the first form, and the ledger has the second. The id,
/// which both forms have in common, is compared.
fn is_other_form(entry: &Row, row: &Row, side: Side) -> bool {
    let is_other = row.has(FROM_API) != entry.has(FROM_API);
    side == Side::Sink && is_other && row.has(ID_FITS) && !entry.has(NOTICE)
}

/// Takes the row out that is this entry's: one with its digest, else one whose digest cannot be compared.
fn take_match(entry: &Row, rows: &mut Vec<Row>, side: Side) -> Option<Row> {
    let same = |row: &Row| is_comparable(entry, row, side) && row.digest == entry.digest;
    let at = rows
        .iter()
        .position(|row| same(row) && !row.has(MEMBERS_DIFFER))
        .or_else(|| rows.iter().position(same))
        .or_else(|| rows.iter().position(|row| !is_comparable(entry, row, side)))?;
    Some(rows.swap_remove(at))
}
