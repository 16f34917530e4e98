use super::blocks::{BLOCK_SUMMARY_BYTES, SpanIndex, Spans};
use super::entry::{Entry, EntryInput, EntryKind, LEGACY_ROW, Lookup, NO_TIME, SELF_POLL, cross_route_key};
use super::segments::SEGMENT_ENTRIES;
use super::shared::{Limits, SharedLedger};
use super::store::{Damage, Ledger};
use crate::position::LedgerPosition;
use crate::record::EventId;
use proptest::prelude::*;
use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn entry(n: u64, time_ms: i64) -> Entry {
    Entry {
        kind: EntryKind::Delivered,
        input: EntryInput::File,
        flags: if time_ms == 0 { NO_TIME } else { 0 },
        file: 1,
        time_ms,
        id: u128::from(n + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835),
        offset: n * 100,
        length: 100,
        digest: [n as u8; 32],
    }
}

/// Entry number `n` of a filled ledger.
pub(super) fn nth(n: u64) -> Entry {
    entry(n, 1000 + n as i64 / 3)
}

fn commit(ledger: &mut Ledger) -> LedgerPosition {
    let (position, unsynced) = ledger.prepare_commit().unwrap();
    unsynced.sync().unwrap();
    position
}

pub(super) fn filled(dir: &Path, count: u64) -> (Ledger, LedgerPosition) {
    let (mut ledger, damage) = Ledger::open(dir, &LedgerPosition::default()).unwrap();
    assert!(damage.is_empty());
    (0..count).for_each(|n| ledger.append(&nth(n)));
    let position = commit(&mut ledger);
    (ledger, position)
}

#[track_caller]
fn contains(ledger: &mut Ledger, entry: &Entry) -> bool {
    ledger.contains(entry.keys().last().unwrap(), entry.lookup().unwrap()).unwrap()
}

#[test]
fn an_entry_is_read_as_it_was_written() {
    let entry = Entry { flags: SELF_POLL, kind: EntryKind::Loss, input: EntryInput::Api, ..entry(7, -5) };
    assert_eq!(Entry::from_bytes(&entry.to_bytes()), Some(entry));
    let mut wrong = entry.to_bytes();
    for (at, value) in [(0, 2), (1, 9), (2, 0), (45, 1)] {
        let right = std::mem::replace(&mut wrong[at], value);
        assert_eq!(Entry::from_bytes(&wrong), None, "{at}");
        wrong[at] = right;
    }
    assert_eq!(Entry::from_bytes(&[0; 80]), None);
}

#[test]
fn what_was_appended_is_found_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (_, position) = filled(dir.path(), 70_000);
    // The summaries of the blocks are made again if they are lost.
    for summaries in [true, false] {
        if !summaries {
            File::create(dir.path().join("blocks")).unwrap();
        }
        let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
        assert!(damage.is_empty());
        assert_eq!(ledger.times(), Some((1000, nth(69_999).time_ms)));
        for n in [0, 1, 255, 256, 65_535, 65_536, 69_999] {
            let entry = nth(n);
            assert!(contains(&mut ledger, &entry), "{n}");
            assert!(!contains(&mut ledger, &Entry { id: entry.id + 1, ..entry }), "{n}");
        }
        assert_eq!(commit(&mut ledger).edge, position.edge);
    }
}

#[test]
fn what_is_longer_than_the_checkpoint_says_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, position) = filled(dir.path(), 1000);
    (1000..80_000).for_each(|n| ledger.append(&entry(n, 5)));
    commit(&mut ledger);
    drop(ledger);
    // A dry run finds what was committed, and changes nothing.
    let mut read = Ledger::open_existing(dir.path(), &position).unwrap().unwrap();
    assert!(contains(&mut read, &nth(999)) && !contains(&mut read, &entry(1000, 5)));
    assert_eq!(dir.path().join("entries").read_dir().unwrap().count(), 2);
    let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    assert!(damage.is_empty());
    assert_eq!(dir.path().join("entries").read_dir().unwrap().count(), 1);
    assert!(!contains(&mut ledger, &entry(1000, 5)));
    (1000..1100).for_each(|n| ledger.append(&entry(n, 2000)));
    let other = tempfile::tempdir().unwrap();
    let (mut straight, _) = filled(other.path(), 1000);
    (1000..1100).for_each(|n| straight.append(&entry(n, 2000)));
    assert_eq!(commit(&mut ledger), commit(&mut straight));
}

#[test]
fn a_ledger_that_is_too_short_says_what_is_missing_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (_, position) = filled(dir.path(), 1000);
    let path = dir.path().join("entries/0000000000000000");
    File::options().write(true).open(&path).unwrap().set_len(700 * 80 + 3).unwrap();
    let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    assert_eq!(damage, [Damage { missing: 700..1000 }]);
    assert_eq!(commit(&mut ledger), position);
    assert!(contains(&mut ledger, &nth(699)) && !contains(&mut ledger, &nth(700)));
    ledger.append(&nth(5000));
    let position = commit(&mut ledger);
    let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    assert!(damage.is_empty());
    assert!(contains(&mut ledger, &nth(5000)));
}

#[test]
fn what_cannot_be_written_is_kept_and_found() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, _) = filled(dir.path(), SEGMENT_ENTRIES - 300);
    // The next segment cannot be created: its name is a directory's.
    let next = dir.path().join("entries").join(format!("{SEGMENT_ENTRIES:016}"));
    std::fs::create_dir(&next).unwrap();
    let end = SEGMENT_ENTRIES + 1000;
    (SEGMENT_ENTRIES - 300..end).for_each(|n| ledger.append(&nth(n)));
    for _ in 0..2 {
        assert!(ledger.prepare_commit().is_err());
        assert!((SEGMENT_ENTRIES - 301..end).all(|n| contains(&mut ledger, &nth(n))));
    }
    std::fs::remove_dir(&next).unwrap();
    let position = commit(&mut ledger);
    let other = tempfile::tempdir().unwrap();
    assert_eq!(position.edge, filled(other.path(), end).1.edge);
    let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    assert!(damage.is_empty());
    assert!((SEGMENT_ENTRIES - 301..end).all(|n| contains(&mut ledger, &nth(n))));
}

#[test]
fn an_event_is_marked_in_flight_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = |position: &LedgerPosition| SharedLedger::open(dir.path(), position, Limits::NONE).unwrap().0;
    let ledger = open(&LedgerPosition::default());
    let first = nth(1);
    let id = EventId(first.id);
    assert!(
        ledger.mark_in_flight(id, Some(first.time_ms)) && !ledger.mark_in_flight(id, Some(first.time_ms))
    );
    // A row of the old API is known by what it has in common with a row of the newer one.
    let cross_route_id = EventId(u128::MAX / 3);
    let mut legacy = Entry { input: EntryInput::Api, file: 0, offset: 0, ..nth(2) };
    legacy.set_cross_route_id(cross_route_id);
    assert_eq!(legacy.keys().collect::<Vec<_>>(), [legacy.id, cross_route_key(cross_route_id)]);
    assert_eq!(legacy.flags, LEGACY_ROW);
    assert!(ledger.mark_in_flight(EventId(legacy.id), Some(legacy.time_ms)));
    assert!(!ledger.contains_cross_route(cross_route_id, legacy.time_ms));
    ledger.mark_cross_route_in_flight(cross_route_id);
    assert!(ledger.contains_cross_route(cross_route_id, legacy.time_ms));
    ledger.append(&[first, legacy]);
    // Without a time, the same bytes elsewhere in the file are another event.
    let untimed = entry(3, 0);
    assert!(ledger.mark_untimed_in_flight(EventId(untimed.id), untimed.offset));
    ledger.append(&[untimed]);
    let position = ledger.commit().unwrap().unwrap();
    for ledger in [ledger, open(&position), SharedLedger::open_read_only(dir.path(), &position).unwrap()] {
        assert!(!ledger.mark_in_flight(id, Some(first.time_ms)));
        assert!(ledger.contains_cross_route(cross_route_id, legacy.time_ms));
        assert!(!ledger.mark_untimed_in_flight(EventId(untimed.id), untimed.offset));
        assert!(ledger.mark_untimed_in_flight(EventId(untimed.id), untimed.offset + 1));
        assert!(ledger.mark_in_flight(EventId(5), Some(1)) && !ledger.mark_in_flight(EventId(5), Some(1)));
    }
    // There is no ledger to look into.
    let missing =
        SharedLedger::open_read_only(&dir.path().join("missing"), &LedgerPosition::default()).unwrap();
    assert!(missing.mark_in_flight(id, Some(1)) && !missing.mark_in_flight(id, Some(1)));
    missing.append(&[first]);
    assert_eq!(missing.commit().unwrap(), None);
}

/// A lookup reads few blocks, also while an API reads old events and the files new ones, and in a flood of records
/// without a time.
#[test]
fn lookups_have_few_candidates() {
    let mut spans = SpanIndex::default();
    for block in 0..1000 {
        let mut span = Spans::default();
        for n in 0..128 {
            let api = Entry { input: EntryInput::Api, ..entry(n, 1 + block * 128 + n as i64) };
            [entry(n, 1_000_000 + block), api].iter().for_each(|entry| span.add(entry));
            span.add(&Entry { offset: (block as u64 * 128 + n) * 6, ..entry(n, 0) });
        }
        spans.push(span);
    }
    for (lookup, block) in [
        (Lookup::Time(1 + 128 * 77), 77),
        (Lookup::Time(1_000_500), 500),
        (Lookup::Offset(128 * 6 * 900), 900),
    ] {
        assert_eq!(spans.candidates(lookup).collect::<Vec<_>>(), [block], "{lookup:?}");
    }
    assert_eq!(spans.untimed().count(), 1000);
}

/// A row without a time is known by its id, after a restart as well.
#[test]
fn rows_without_a_time_are_known_by_their_ids() {
    let dir = tempfile::tempdir().unwrap();
    let row = |n: u64| Entry { input: EntryInput::Api, offset: 0, ..entry(n, 0) };
    let (mut ledger, _) = filled(dir.path(), 300);
    (0..1000).for_each(|n| ledger.append(&row(10_000 + 2 * n)));
    let position = commit(&mut ledger);
    ledger.append(&row(50_000));
    for ledger in [&mut ledger, &mut Ledger::open(dir.path(), &position).unwrap().0] {
        ledger.append(&row(60_000));
        assert!((0..1000).all(|n| ledger.contains_untimed(row(10_000 + 2 * n).id).unwrap()));
        assert!(ledger.contains_untimed(row(60_000).id).unwrap());
        assert!(!ledger.contains_untimed(row(10_001).id).unwrap());
        ledger.append(&row(70_000));
        assert!(ledger.contains_untimed(row(70_000).id).unwrap());
    }
}

/// Whole segments are dropped, oldest first: those of an age, and those that are too many. The hashes of their blocks
/// stay, and the tree goes on. A kill before their files are removed leaves nothing behind.
#[test]
fn old_segments_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let count = 3 * SEGMENT_ENTRIES + 10;
    let (mut ledger, before) = filled(dir.path(), count);
    let oldest = File::options().write(true).open(dir.path().join("entries/0000000000000000")).unwrap();
    oldest.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).unwrap();
    ledger.drop_segments(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)), u64::MAX).unwrap();
    assert_eq!(commit(&mut ledger), before);
    ledger.drop_segments(Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1001)), u64::MAX).unwrap();
    let position = commit(&mut ledger);
    assert_eq!(position, LedgerPosition { first: SEGMENT_ENTRIES, ..before.clone() });
    assert!(
        !contains(&mut ledger, &nth(SEGMENT_ENTRIES - 1)) && contains(&mut ledger, &nth(SEGMENT_ENTRIES))
    );
    let files = || dir.path().join("entries").read_dir().unwrap().count();
    assert_eq!(files(), 4);
    let (mut ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    assert!(damage.is_empty());
    assert_eq!(files(), 3);
    assert!(
        !contains(&mut ledger, &nth(SEGMENT_ENTRIES - 1)) && contains(&mut ledger, &nth(SEGMENT_ENTRIES))
    );
    // Two segments may stay: the one that is being written and the one before it.
    ledger.drop_segments(Some(SystemTime::UNIX_EPOCH), 3 * SEGMENT_ENTRIES * 80 - 1).unwrap();
    assert_eq!(commit(&mut ledger), LedgerPosition { first: 2 * SEGMENT_ENTRIES, ..before.clone() });
    ledger.remove_dropped().unwrap();
    assert_eq!(files(), 2);
    (count..count + 1000).for_each(|n| ledger.append(&nth(n)));
    let other = tempfile::tempdir().unwrap();
    let (mut whole, _) = filled(other.path(), count + 1000);
    assert_eq!(commit(&mut ledger).edge, commit(&mut whole).edge);
    assert!((2 * SEGMENT_ENTRIES..count + 1000).step_by(777).all(|n| contains(&mut ledger, &nth(n))));
}

/// What a power cut may leave: of what was not synced, nothing, or anything.
fn cut_power(dir: &Path, position: &LedgerPosition, garbage: bool) {
    let damage = |path: &Path, durable: u64| {
        let Ok(file) = File::options().write(true).open(path) else { return };
        let length = file.metadata().unwrap().len();
        file.set_len(durable.min(length)).unwrap();
        if garbage && length > durable {
            file.write_all_at(&vec![0xAA; (length - durable) as usize + 7], durable).unwrap();
        }
    };
    for segment in dir.join("entries").read_dir().unwrap() {
        let path = segment.unwrap().path();
        let first: u64 = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
        damage(&path, position.size.saturating_sub(first).min(SEGMENT_ENTRIES) * 80);
    }
    damage(&dir.join("blocks"), position.blocks_synced * BLOCK_SUMMARY_BYTES as u64);
}

/// The summaries of blocks are synced once a segment. What is not synced is made again at the start.
#[test]
fn summaries_are_synced_once_a_segment() {
    let dir = tempfile::tempdir().unwrap();
    let (mut ledger, position) = filled(dir.path(), SEGMENT_ENTRIES - 1);
    assert_eq!((position.blocks_synced, position.size), (0, SEGMENT_ENTRIES - 1));
    let mut add = |count: u64| {
        let size = ledger.size();
        (size..size + count).for_each(|n| ledger.append(&nth(n)));
        commit(&mut ledger)
    };
    assert_eq!(add(1).blocks_synced, 256);
    let last = add(1000);
    assert_eq!((last.blocks_synced, last.size), (256, SEGMENT_ENTRIES + 1000));
    cut_power(dir.path(), &last, true);
    let (mut ledger, damage) = Ledger::open(dir.path(), &last).unwrap();
    assert!(damage.is_empty());
    assert_eq!(std::fs::metadata(dir.path().join("blocks")).unwrap().len(), 256 * BLOCK_SUMMARY_BYTES as u64);
    assert!((SEGMENT_ENTRIES - 300..last.size).all(|n| contains(&mut ledger, &nth(n))));
    assert_eq!(commit(&mut ledger), last);
    assert_eq!(std::fs::metadata(dir.path().join("blocks")).unwrap().len(), 259 * BLOCK_SUMMARY_BYTES as u64);
}

/// A gap over two segments is one gap.
#[test]
fn entries_that_are_lost_in_several_segments_are_one_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (_, position) = filled(dir.path(), 2 * SEGMENT_ENTRIES + 20);
    let path = |first: u64| dir.path().join("entries").join(format!("{first:016}"));
    let cut = |first: u64, bytes: u64| {
        File::options().write(true).open(path(first)).unwrap().set_len(bytes).unwrap()
    };
    cut(0, 80 * (SEGMENT_ENTRIES - 5) + 79);
    std::fs::remove_file(path(SEGMENT_ENTRIES)).unwrap();
    cut(2 * SEGMENT_ENTRIES, 80 * 7);
    let (ledger, damage) = Ledger::open(dir.path(), &position).unwrap();
    let (one, other) =
        (SEGMENT_ENTRIES - 5..2 * SEGMENT_ENTRIES, 2 * SEGMENT_ENTRIES + 7..2 * SEGMENT_ENTRIES + 20);
    assert_eq!(damage, [Damage { missing: one }, Damage { missing: other }]);
    assert_eq!(ledger.size(), position.size);
    assert!(Ledger::open(dir.path(), &position).unwrap().1.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Appends, lookups, commits, kills and power cuts in any order: it is a set, and after a kill the set of the last
    /// commit.
    #[test]
    fn it_is_a_set(steps in prop::collection::vec((0u64..3000, 0i64..40, 0u8..60), 1..2500)) {
        let dir = tempfile::tempdir().unwrap();
        let mut position = LedgerPosition::default();
        let (mut ledger, _) = Ledger::open(dir.path(), &position).unwrap();
        let mut model: HashSet<(u128, i64)> = HashSet::new();
        let mut durable = model.clone();
        for (n, time, step) in steps {
            let entry = entry(n + 10_000 * time as u64, time);
            let known = model.contains(&(entry.id, time));
            prop_assert_eq!(contains(&mut ledger, &entry), known);
            if !known {
                ledger.append(&entry);
                model.insert((entry.id, time));
            }
            match step {
                0 => {
                    position = commit(&mut ledger);
                    durable.clone_from(&model);
                }
                kill @ 1..=2 => {
                    if kill == 2 {
                        cut_power(dir.path(), &position, n % 2 == 0);
                    }
                    let (again, damage) = Ledger::open(dir.path(), &position).unwrap();
                    prop_assert!(damage.is_empty());
                    ledger = again;
                    model.clone_from(&durable);
                }
                3..10 => ledger.write().unwrap(),
                _ => {}
            }
        }
    }
}
