use super::compare::{Scope, Side, compare};
use super::finding::{Counts, FindingKind};
use super::row::{FROM_API, HAS_DIGEST, HAS_TIME, MEMBERS_DIFFER, NOTICE, OF_INDEX, Row};
use crate::ledger::EntryKind;

fn entry(id: u128) -> Row {
    Row {
        id,
        place: id as u64,
        time_ms: id as i64 * 1000,
        flags: HAS_DIGEST | HAS_TIME,
        kind: EntryKind::Delivered as u8,
        digest: [id as u8; 32],
        ..Row::default()
    }
}

fn with(row: Row, flags: u8) -> Row {
    Row { flags: row.flags | flags, ..row }
}

fn altered(id: u128) -> Row {
    Row { digest: [99; 32], ..entry(id) }
}

fn scope(side: Side) -> Scope<'static> {
    Scope {
        side,
        times: i64::MIN..i64::MAX,
        dropped_before_ms: i64::MIN,
        is_quarantined: &|entry| entry.kind == EntryKind::Quarantined as u8,
    }
}

#[track_caller]
fn check(scope: &Scope, entries: &[Row], rows: &[Row], expected: &[(FindingKind, u128)]) -> Counts {
    let sorted = |rows: &[Row]| {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| (row.id, row.place));
        rows.into_iter().map(Ok)
    };
    let mut found = Vec::new();
    let days = compare(sorted(entries), sorted(rows), scope, |finding| {
        found.push((finding.kind, finding.id()));
        Ok(())
    });
    let total = days.unwrap().total();
    assert_eq!(found, expected);
    assert_eq!(total.findings(), found.len() as u64);
    total
}

use FindingKind::{Altered, Doubled, Extra, Missing};

#[test]
fn each_change_of_an_export_is_found_and_named() {
    let scope = &scope(Side::Sink);
    let all: Vec<Row> = (1..=5).map(entry).collect();
    let changed = |change: &dyn Fn(&mut Vec<Row>)| {
        let mut rows = all.clone();
        change(&mut rows);
        rows
    };
    let total = check(scope, &all, &all, &[]);
    assert_eq!((total.expected, total.intact, total.present), (5, 5, 0));
    check(scope, &[], &[], &[]);
    check(scope, &all, &changed(&|rows| rows.reverse()), &[]);
    check(scope, &all, &changed(&|rows| rows[2] = altered(3)), &[(Altered, 3)]);
    check(scope, &all, &changed(&|rows| rows[2] = with(entry(3), MEMBERS_DIFFER)), &[(Altered, 3)]);
    check(scope, &all, &changed(&|rows| rows[2] = with(entry(3), NOTICE)), &[(Altered, 3)]);
    check(scope, &all, &changed(&|rows| rows.retain(|row| row.id != 3)), &[(Missing, 3)]);
    check(scope, &all, &changed(&|rows| rows.truncate(3)), &[(Missing, 4), (Missing, 5)]);
    check(scope, &all, &changed(&|rows| rows.push(entry(9))), &[(Extra, 9)]);
    check(scope, &all, &changed(&|rows| rows.push(entry(3))), &[(Doubled, 3)]);
    check(scope, &all, &changed(&|rows| rows.push(altered(3))), &[(Doubled, 3)]);
    check(scope, &all, &changed(&|rows| rows.extend([altered(3), entry(3)])), &[(Doubled, 3), (Doubled, 3)]);
    // One event in the place of another.
    let swapped = changed(&|rows| (rows[1].digest, rows[2].digest) = (rows[2].digest, rows[1].digest));
    check(scope, &all, &swapped, &[(Altered, 2), (Altered, 3)]);
    check(scope, &all, &[], &[(Missing, 1), (Missing, 2), (Missing, 3), (Missing, 4), (Missing, 5)]);
}

#[test]
fn what_need_not_be_there_is_no_finding() {
    let sink = &scope(Side::Sink);
    let of_kind = |id, kind: EntryKind| Row { kind: kind as u8, ..entry(id) };
    let entries =
        [of_kind(1, EntryKind::Loss), of_kind(2, EntryKind::Quarantined), of_kind(3, EntryKind::Agent)];
    let total = check(sink, &entries, &[], &[(Missing, 3)]);
    assert_eq!((total.quarantined, total.expected), (1, 2));
    check(sink, &entries, &entries, &[]);
    // CEF has no original.
    let without = |row: Row| Row { flags: row.flags & !HAS_DIGEST, digest: [0; 32], ..row };
    assert_eq!(check(sink, &[entry(1)], &[without(entry(1))], &[]).present, 1);
    // Equal records without a time have one id, and an index holds one of them.
    let timeless = |place| Row { place, flags: HAS_DIGEST, ..entry(7) };
    let twins = [timeless(1), timeless(2)];
    check(sink, &twins, &twins, &[]);
    check(sink, &twins, &twins[..1], &[(Missing, 7)]);
    check(sink, &twins, &[with(timeless(1), OF_INDEX)], &[]);
    // Only a part of the time was asked for.
    let some = Scope { times: 2000..4000, ..scope(Side::Sink) };
    let all: Vec<Row> = (1..=5).map(entry).collect();
    assert_eq!(check(&some, &all, &all, &[]).expected, 2);
    check(&some, &all, &[altered(1), entry(2), entry(9)], &[(Missing, 3)]);
    // Retention has dropped the entries of older events.
    let old = Scope { dropped_before_ms: 3000, ..scope(Side::Sink) };
    assert_eq!(check(&old, &all[3..], &all, &[(Extra, 3)]).too_old, 2);
}

#[test]
fn files_and_api_are_compared_with_the_entries_that_they_brought() {
    let entries = [entry(1), with(entry(2), FROM_API), entry(3)];
    check(&scope(Side::Files), &entries, &[entry(1), altered(2)], &[]);
    check(&scope(Side::Files), &entries, &[altered(1), entry(9)], &[(Altered, 1), (Extra, 9)]);
    check(&scope(Side::Api), &entries, &[altered(1), entry(2)], &[]);
    check(&scope(Side::Api), &entries, &[altered(2), entry(9)], &[(Altered, 2), (Extra, 9)]);
}
