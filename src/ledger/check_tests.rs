use super::blocks::BLOCK_SUMMARY_BYTES;
use super::check::*;
use super::finding::{CheckpointName, LedgerFinding};
use super::note::Checkpoint;
use super::reader::LedgerReader;
use crate::ledger::segments;
use crate::ledger::store_tests::nth;
use crate::ledger::{Checkpoints, Signer};
use crate::ledger::{Limits, SharedLedger};
use crate::position::LedgerPosition;
use std::ops::Range;
use std::path::Path;

const ORIGIN: &str = "confluence-audit-agent/7f3d/wiki";
const SIZES: [u64; 5] = [0, 300, 500, 1000, 1300];

pub(super) fn signer(seed: u8) -> Signer {
    Signer::new("confluence-audit-agent/7f3d", &[seed; 32]).unwrap()
}

/// A ledger that was signed at these sizes, and has 50 entries more.
pub(super) fn signed_ledger(dir: &Path, sizes: &[u64]) {
    let (ledger, _) = SharedLedger::open(dir, &LedgerPosition::default(), Limits::NONE).unwrap();
    let mut checkpoints = Checkpoints::open(dir, ORIGIN, signer(1)).unwrap();
    let mut at = 0;
    for size in sizes {
        ledger.append(&(at..*size).map(nth).collect::<Vec<_>>());
        checkpoints.sign(&ledger.commit().unwrap().unwrap()).unwrap();
        at = *size;
    }
    ledger.append(&(at..at + 50).map(nth).collect::<Vec<_>>());
    ledger.commit().unwrap();
}

fn checked(dir: &Path, given: &[String]) -> LedgerCheck {
    let reader = LedgerReader::open(dir).unwrap().unwrap();
    check(&reader, &[signer(1).verifier()], given, &mut |_| {}).unwrap()
}

fn altered(entries: Range<u64>) -> LedgerFinding {
    LedgerFinding::EntriesAltered { entries }
}

/// Each way to tamper with a ledger, and what is found: that, and nothing else.
#[test]
fn tampering_is_found_and_named() {
    type Tamper = fn(&mut Vec<u8>);
    let cases: [(&str, Tamper, Vec<LedgerFinding>); 9] = [
        ("nothing", |_| {}, vec![]),
        ("one byte of an entry", |bytes| bytes[10 * 80 + 50] ^= 1, vec![altered(0..256)]),
        // Signed between 300 and 500, and again with its whole block.
        (
            "one byte after a checkpoint in its block",
            |bytes| bytes[400 * 80 + 50] ^= 1,
            vec![altered(300..500)],
        ),
        (
            "one byte in a block that is not full",
            |bytes| bytes[1290 * 80 + 50] ^= 1,
            vec![altered(1000..1300)],
        ),
        (
            "an entry made unreadable",
            |bytes| bytes[700 * 80] = 9,
            vec![LedgerFinding::EntriesUnreadable { entries: 700..701 }],
        ),
        (
            "two in different blocks",
            |bytes| {
                bytes[10 * 80 + 50] ^= 1;
                bytes[600 * 80 + 50] ^= 1;
            },
            vec![altered(0..256), altered(512..768)],
        ),
        (
            "two swapped",
            |bytes| {
                let one = bytes[800 * 80..801 * 80].to_vec();
                bytes.copy_within(801 * 80..802 * 80, 800 * 80);
                bytes[801 * 80..802 * 80].copy_from_slice(&one);
            },
            vec![altered(768..1000)],
        ),
        (
            "the tail cut",
            |bytes| bytes.truncate(1200 * 80),
            vec![LedgerFinding::EntriesMissing { entries: 1200..1300 }],
        ),
        ("an entry of the tail that nothing signed", |bytes| bytes[1310 * 80 + 50] ^= 1, vec![]),
    ];
    let dir = tempfile::tempdir().unwrap();
    signed_ledger(dir.path(), &SIZES);
    let path = segments::path(dir.path(), 0);
    let right = std::fs::read(&path).unwrap();
    for (name, tamper, expected) in cases {
        let mut bytes = right.clone();
        tamper(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        let check = checked(dir.path(), &[]);
        assert_eq!(check.findings, expected, "{name}");
        assert_eq!(check.vouched == 1300, name != "the tail cut" && !name.contains("not full"), "{name}");
    }
    std::fs::write(&path, right).unwrap();
    let check = checked(dir.path(), &[]);
    assert_eq!(check.covering(299).unwrap().name, CheckpointName::Ledger(2));
    assert_eq!(check.covering(300).unwrap().name, CheckpointName::Ledger(3));
    assert_eq!(check.covering(1300), None);
}

#[test]
fn an_entry_that_is_removed_is_found() {
    let dir = tempfile::tempdir().unwrap();
    signed_ledger(dir.path(), &[1280]);
    let path = segments::path(dir.path(), 0);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.drain(600 * 80..601 * 80);
    bytes.truncate(1279 * 80);
    std::fs::write(&path, bytes).unwrap();
    let missing = LedgerFinding::EntriesMissing { entries: 1279..1280 };
    assert_eq!(checked(dir.path(), &[]).findings, [altered(512..1024), missing]);
}

/// A segment of another ledger, and one that is gone although later ones and earlier ones are there.
#[test]
fn a_segment_that_is_replaced_is_found() {
    let dir = tempfile::tempdir().unwrap();
    signed_ledger(dir.path(), &[131_100]);
    let middle = segments::path(dir.path(), 65_536);
    let right = std::fs::read(&middle).unwrap();
    std::fs::copy(segments::path(dir.path(), 0), &middle).unwrap();
    assert_eq!(checked(dir.path(), &[]).findings, [altered(65_536..131_072)]);
    std::fs::remove_file(&middle).unwrap();
    let unreadable = LedgerFinding::EntriesUnreadable { entries: 65_536..131_072 };
    assert_eq!(checked(dir.path(), &[]).findings, [unreadable]);
    std::fs::write(&middle, right).unwrap();
    assert_eq!(checked(dir.path(), &[]).findings, []);
}

#[test]
fn wrong_checkpoints_are_named() {
    let dir = tempfile::tempdir().unwrap();
    signed_ledger(dir.path(), &SIZES);
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    let notes = reader.checkpoints().unwrap();
    let write = |notes: &[String]| {
        std::fs::write(dir.path().join("checkpoints"), notes.concat()).unwrap();
        std::fs::write(dir.path().join("checkpoint"), notes.last().unwrap()).unwrap();
        checked(dir.path(), &[]).findings
    };
    let with = |at: usize, note: &str| {
        let mut notes = notes.clone();
        notes[at] = note.to_owned();
        write(&notes)
    };
    let third = CheckpointName::Ledger(3);
    let checkpoint = Checkpoint::parse(&notes[2]).unwrap();
    let key = signer(1).verifier().short();
    let changed = notes[2].replace("\n500\n", "\n501\n");
    assert_eq!(with(2, &changed), [LedgerFinding::CheckpointAltered { checkpoint: third, key }]);
    let other = signer(2).sign(&checkpoint);
    let signers = vec![signer(2).verifier().short()];
    assert_eq!(
        with(2, &other),
        [LedgerFinding::WrongKey { first: third, last: third, signers: signers.clone() }]
    );
    let unsigned = notes[2].replace("— confluence", "— é");
    assert!(matches!(
        &with(2, &unsigned)[..],
        [LedgerFinding::WrongKey { .. } | LedgerFinding::CheckpointUnsigned { .. }]
    ));
    let elsewhere = signer(1).sign(&Checkpoint { origin: "other".into(), ..checkpoint.clone() });
    assert_eq!(
        with(2, &elsewhere),
        [LedgerFinding::WrongOrigin { checkpoint: third, origin: "other".to_owned() }]
    );
    // The same key has signed something else.
    let lie = signer(1).sign(&Checkpoint { root: [5; 32], ..checkpoint });
    let fourth = CheckpointName::Ledger(4);
    assert_eq!(with(2, &lie), [LedgerFinding::Inconsistent { checkpoint: third, with: fourth }]);
    let mut swapped = notes.clone();
    swapped.swap(2, 3);
    assert_eq!(write(&swapped), [LedgerFinding::Inconsistent { checkpoint: fourth, with: third }]);
    // All of another key.
    let all: Vec<String> =
        notes.iter().map(|note| signer(2).sign(&Checkpoint::parse(note).unwrap())).collect();
    let (first, last) = (CheckpointName::Ledger(1), CheckpointName::Ledger(5));
    assert_eq!(write(&all), [LedgerFinding::WrongKey { first, last, signers }]);
    // Without a key, signatures are not verified.
    assert_eq!(check(&reader, &[], &[], &mut |_| {}).unwrap().findings, []);
    assert_eq!(write(&notes), []);
}

#[test]
fn a_checkpoint_from_elsewhere_shows_an_older_ledger() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    signed_ledger(dir.path(), &SIZES);
    signed_ledger(old.path(), &SIZES[..3]);
    let notes = LedgerReader::open(dir.path()).unwrap().unwrap().checkpoints().unwrap();
    assert_eq!(checked(dir.path(), &notes).findings, []);
    let missing = LedgerFinding::EntriesMissing { entries: 550..1300 };
    assert_eq!(checked(old.path(), &notes).findings, [missing]);
    assert_eq!(checked(old.path(), &[]).findings, []);
    // It went on with other entries.
    let (ledger, _) = SharedLedger::open(old.path(), &LedgerPosition::default(), Limits::NONE).unwrap();
    ledger.append(&(0..500).map(nth).collect::<Vec<_>>());
    let mut checkpoints = Checkpoints::open(old.path(), ORIGIN, signer(1));
    ledger.commit().unwrap();
    if checkpoints.is_err() {
        checkpoints = Checkpoints::open(old.path(), ORIGIN, signer(1));
    }
    ledger.append(&(5000..6000).map(nth).collect::<Vec<_>>());
    checkpoints.unwrap().sign(&ledger.commit().unwrap().unwrap()).unwrap();
    let (given, with) = (CheckpointName::Given(4), CheckpointName::Ledger(4));
    let fifth = CheckpointName::Given(5);
    assert_eq!(
        checked(old.path(), &notes).findings,
        [given, fifth].map(|checkpoint| LedgerFinding::Inconsistent { checkpoint, with })
    );
}

/// An export of a sink is read after the ledger was opened, and may hold later checkpoints.
#[test]
fn what_a_running_agent_adds_meanwhile_is_no_finding() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, _) = SharedLedger::open(dir.path(), &LedgerPosition::default(), Limits::NONE).unwrap();
    let mut checkpoints = Checkpoints::open(dir.path(), ORIGIN, signer(1)).unwrap();
    let mut sign = |range: Range<u64>| {
        ledger.append(&range.map(nth).collect::<Vec<_>>());
        checkpoints.sign(&ledger.commit().unwrap().unwrap()).unwrap()
    };
    let mut given = vec![sign(0..300)];
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    given.push(sign(300..900));
    let keys = [signer(1).verifier()];
    let without = check(&reader, &keys, &given[..1], &mut |_| {}).unwrap();
    assert_eq!((without.findings, without.entries, without.vouched), (vec![], 0..300, 300));
    let with = check(&reader, &keys, &given, &mut |_| {}).unwrap();
    assert_eq!((with.findings, with.entries, with.vouched), (vec![], 0..900, 900));
}

#[test]
fn dropped_entries_are_covered_by_their_stored_hashes() {
    let dir = tempfile::tempdir().unwrap();
    signed_ledger(dir.path(), &[100, 65_600, 65_900]);
    std::fs::remove_file(segments::path(dir.path(), 0)).unwrap();
    let check = checked(dir.path(), &[]);
    assert_eq!((check.findings, check.entries, check.vouched), (vec![], 65_536..65_950, 65_900));
    let matches: Vec<_> = check.checkpoints.iter().map(|checked| checked.matches).collect();
    assert_eq!(matches, [None, Some(true), Some(true)]);
    // A block that nobody can make again any more.
    let blocks = dir.path().join("blocks");
    let mut bytes = std::fs::read(&blocks).unwrap();
    bytes[6 * BLOCK_SUMMARY_BYTES - 1] ^= 1;
    std::fs::write(&blocks, bytes).unwrap();
    assert_eq!(checked(dir.path(), &[]).findings, [altered(0..65_600)]);
}
