use super::*;
use crate::ledger::blocks::BLOCK_SUMMARY_BYTES;
use crate::ledger::store_tests::nth;
use crate::ledger::{Limits, SharedLedger};

const ORIGIN_TEXT: &str = "confluence-audit-agent/7f3d/wiki";

fn signer(seed: u8) -> Signer {
    Signer::new(&key_name("7f3d"), &[seed; 32]).unwrap()
}

fn open(dir: &Path, seed: u8) -> Result<Checkpoints, SignError> {
    Checkpoints::open(dir, ORIGIN_TEXT, signer(seed))
}

/// Positions of a ledger that grows in `dir`.
fn grow(dir: &Path, sizes: &[u64]) -> Vec<LedgerPosition> {
    let (ledger, _) = SharedLedger::open(dir, &LedgerPosition::default(), Limits::NONE).unwrap();
    let mut at = 0;
    let mut positions = Vec::new();
    for size in sizes {
        let entries: Vec<_> = (at..*size).map(nth).collect();
        ledger.append(&entries);
        positions.push(ledger.commit().unwrap().unwrap());
        at = *size;
    }
    positions
}

#[test]
fn each_checkpoint_is_stored_before_it_is_returned() {
    let dir = tempfile::tempdir().unwrap();
    let positions = grow(dir.path(), &[0, 700, 3000]);
    let mut checkpoints = open(dir.path(), 1).unwrap();
    let notes: Vec<String> = positions.iter().map(|position| checkpoints.sign(position).unwrap()).collect();
    assert_eq!(checkpoints.sign(&positions[2]).unwrap(), notes[2]);
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    assert_eq!(reader.checkpoints().unwrap(), notes);
    assert_eq!(std::fs::read_to_string(dir.path().join("checkpoint")).unwrap(), notes[2]);
    let last = signer(1).verifier().open(&notes[2]).unwrap();
    assert_eq!((last.origin.as_str(), last.size), (ORIGIN_TEXT, 3000));
    assert_eq!(signed_size(dir.path()).unwrap(), Some(3000));
    // A kill while a note was appended, and one before it became the latest.
    let all = dir.path().join("checkpoints");
    let mut text = std::fs::read_to_string(&all).unwrap();
    text.push_str("confluence");
    std::fs::write(&all, text).unwrap();
    std::fs::write(dir.path().join("checkpoint"), &notes[1]).unwrap();
    let mut checkpoints = open(dir.path(), 1).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("checkpoint")).unwrap(), notes[2]);
    assert_eq!(checkpoints.last(), Some(&last));
    assert_eq!(checkpoints.sign(&positions[2]).unwrap(), notes[2]);
    assert_eq!(reader.checkpoints().unwrap(), notes);
}

#[test]
fn what_is_inconsistent_is_never_signed() {
    let dir = tempfile::tempdir().unwrap();
    let positions = grow(dir.path(), &[300, 700, 1000]);
    let mut checkpoints = open(dir.path(), 1).unwrap();
    checkpoints.sign(&positions[1]).unwrap();
    let mut other = positions[2].clone();
    other.edge[0] = [9; 32];
    let mut shifted = positions[2].clone();
    shifted.size = 999;
    for (wrong, text) in [
        (&positions[0], "with 300 entries does not continue the signed checkpoint with 700 entries"),
        (&other, "with 1000 entries does not continue"),
        (&shifted, "the edge of the tree does not fit its size"),
    ] {
        let error = checkpoints.sign(wrong).unwrap_err();
        assert!(matches!(&error, SignError::Inconsistent(found) if found.contains(text)), "{error}");
    }
    checkpoints.sign(&positions[2]).unwrap();
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    assert_eq!(reader.checkpoints().unwrap().len(), 2);
    // A ledger that was cut, a checkpoint that was changed, and one of another log.
    assert!(matches!(Checkpoints::open(dir.path(), "other", signer(1)), Err(SignError::Inconsistent(_))));
    let all = dir.path().join("checkpoints");
    let text = std::fs::read_to_string(&all).unwrap();
    std::fs::write(&all, text.replace("\n1000\n", "\n999\n")).unwrap();
    assert!(matches!(open(dir.path(), 1), Err(SignError::Inconsistent(_))));
    std::fs::write(&all, text).unwrap();
    drop(open(dir.path(), 1).unwrap());
    let segment = File::options().write(true).open(segments::path(dir.path(), 0)).unwrap();
    segment.set_len(999 * 80).unwrap();
    assert!(matches!(open(dir.path(), 1), Err(SignError::Inconsistent(_))));
}

#[test]
fn damaged_hashes_do_not_stop_the_log_and_dropped_entries_do_not_either() {
    let dir = tempfile::tempdir().unwrap();
    let positions = grow(dir.path(), &[65_800, 66_400]);
    open(dir.path(), 1).unwrap().sign(&positions[0]).unwrap();
    let blocks = dir.path().join("blocks");
    let right = std::fs::read(&blocks).unwrap();
    let mut wrong = right.clone();
    wrong[BLOCK_SUMMARY_BYTES - 1] ^= 1;
    std::fs::write(&blocks, wrong).unwrap();
    open(dir.path(), 1).unwrap().sign(&positions[1]).unwrap();
    std::fs::write(&blocks, right).unwrap();
    std::fs::remove_file(segments::path(dir.path(), 0)).unwrap();
    open(dir.path(), 1).unwrap().sign(&positions[1]).unwrap();
}

#[test]
fn a_new_key_signs_beside_the_old_one_once() {
    let dir = tempfile::tempdir().unwrap();
    let positions = grow(dir.path(), &[5, 9]);
    open(dir.path(), 1).unwrap().sign(&positions[0]).unwrap();
    for _ in 0..2 {
        open(dir.path(), 2).unwrap();
    }
    open(dir.path(), 2).unwrap().sign(&positions[1]).unwrap();
    let reader = LedgerReader::open(dir.path()).unwrap().unwrap();
    let notes = reader.checkpoints().unwrap();
    let (old, new) = (signer(1).verifier(), signer(2).verifier());
    let signed: Vec<_> =
        notes.iter().map(|note| (old.open(note).is_some(), new.open(note).is_some())).collect();
    assert_eq!(signed, [(true, false), (true, true), (false, true)]);
}

#[test]
fn a_new_log_keeps_the_old_one_and_goes_on_with_its_entries() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("wiki");
    assert_eq!(origin(&ledger, "7f3d").unwrap(), ORIGIN_TEXT);
    let positions = grow(&ledger, &[66_000, 66_100]);
    open(&ledger, 1).unwrap().sign(&positions[1]).unwrap();
    let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    let segment = File::options().write(true).open(segments::path(&ledger, 0)).unwrap();
    segment.set_modified(written).unwrap();
    // A copy that was not finished.
    std::fs::create_dir_all(dir.path().join("wiki.log-1/entries")).unwrap();
    let kept = begin_new_log(&ledger, positions[0].size).unwrap();
    assert_eq!(kept, dir.path().join("wiki.log-1"));
    assert_eq!(LedgerReader::open(&kept).unwrap().unwrap().size(), 66_100);
    assert_eq!(signed_size(&kept).unwrap(), Some(66_100));
    assert_eq!(signed_size(&ledger).unwrap(), None);
    let copied = segments::path(&ledger, 0).metadata().unwrap();
    assert_eq!(copied.modified().unwrap(), written);
    let origin_text = origin(&ledger, "7f3d").unwrap();
    assert_eq!(origin_text, format!("{ORIGIN_TEXT}/2"));
    let (opened, damage) = SharedLedger::open(&ledger, &positions[0], Limits::NONE).unwrap();
    assert!(damage.is_empty());
    let position = opened.commit().unwrap().unwrap();
    let mut checkpoints = Checkpoints::open(&ledger, &origin_text, signer(1)).unwrap();
    checkpoints.sign(&position).unwrap();
    assert_eq!(begin_new_log(&ledger, 5).unwrap(), dir.path().join("wiki.log-2"));
    assert_eq!(origin(&ledger, "7f3d").unwrap(), format!("{ORIGIN_TEXT}/3"));
}
