use super::*;
use crate::ledger::segments::{self, SEGMENT_ENTRIES};
use crate::ledger::store_tests::{filled, nth};

fn open(dir: &Path, position: &LedgerPosition, limits: Limits) -> SharedLedger {
    SharedLedger::open(dir, position, limits).unwrap().0
}

fn is_new(ledger: &SharedLedger, n: u64) -> bool {
    ledger.mark_entry_in_flight(&nth(n))
}

/// What the checkpoint store does not know may be cut back: it is not reported.
#[test]
fn the_size_is_what_the_checkpoint_store_knows() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &LedgerPosition::default(), Limits::NONE);
    assert_eq!((ledger.times(), ledger.published_ms()), (None, None));
    ledger.append(&[nth(0), nth(30)]);
    let position = ledger.commit().unwrap().unwrap();
    assert_eq!((ledger.stored_entries(), ledger.size_unless_busy()), (0, Some((0, 0))));
    assert_eq!(ledger.times(), Some((1000, 1010)));
    ledger.set_stored(position.clone()).unwrap();
    assert_eq!((ledger.stored_entries(), ledger.size_unless_busy()), (2, Some((2, 160))));
    ledger.set_stored(LedgerPosition { first: 65_536, size: 65_539, ..position }).unwrap();
    assert_eq!(ledger.size_unless_busy(), Some((65_539, 3 * 80)));
    let busy = ledger.lock();
    assert_eq!(ledger.size_unless_busy(), None);
    drop(busy);
}

#[test]
fn the_time_of_publication_is_stored_with_the_next_commit() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &LedgerPosition::default(), Limits::NONE);
    ledger.set_published(5);
    assert_eq!(ledger.published_ms(), Some(5));
    let position = ledger.commit().unwrap().unwrap();
    assert_eq!(position.published_ms, 5);
    assert_eq!(open(dir.path(), &position, Limits::NONE).published_ms(), Some(5));
    assert!(ledger.sign_checkpoint().unwrap().is_none(), "there is no key");
}

/// One segment an hour: the clock may be wrong for a while. Files are removed once the new position is stored.
#[test]
fn one_segment_is_dropped_for_its_age_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (_, position) = filled(dir.path(), 2 * SEGMENT_ENTRIES + 10);
    for first in [0, SEGMENT_ENTRIES] {
        let file = std::fs::File::options().write(true).open(segments::path(dir.path(), first)).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(clock::now_ms() as u64);
        file.set_modified(now - Duration::from_secs(100)).unwrap();
    }
    let limits = |seconds| Limits { retention: Duration::from_secs(seconds), bytes_max: u64::MAX };
    let firsts = |ledger: &SharedLedger| ledger.commit().unwrap().unwrap().first;
    assert_eq!(firsts(&open(dir.path(), &position, limits(1_000))), 0, "they are younger");
    assert_eq!(firsts(&open(dir.path(), &position, Limits::NONE)), 0);
    let ledger = open(dir.path(), &position, limits(10));
    assert_eq!(firsts(&ledger), SEGMENT_ENTRIES);
    let next = ledger.lock().next_age_check.unwrap();
    let now = clock::monotonic();
    assert!(next > now + AGE_CHECK_INTERVAL / 2 && next <= now + AGE_CHECK_INTERVAL);
    let position = ledger.commit().unwrap().unwrap();
    assert_eq!(position.first, SEGMENT_ENTRIES, "the next one in an hour");
    assert!(segments::path(dir.path(), 0).exists(), "the checkpoint store may still need it");
    ledger.set_stored(position).unwrap();
    assert!(!segments::path(dir.path(), 0).exists());
    ledger.lock().next_age_check = Some(now);
    assert_eq!(firsts(&ledger), 2 * SEGMENT_ENTRIES);
}

/// Delivered twice is better than not at all.
#[test]
fn an_event_is_delivered_if_the_ledger_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let (_, position) = filled(dir.path(), 600);
    let ledger = open(dir.path(), &position, Limits::NONE);
    let (segment, aside) = (segments::path(dir.path(), 0), dir.path().join("aside"));
    std::fs::rename(&segment, &aside).unwrap();
    assert!(is_new(&ledger, 3));
    assert!(ledger.lock().unreadable);
    std::fs::rename(&aside, &segment).unwrap();
    assert!(!is_new(&ledger, 4));
    assert!(!ledger.lock().unreadable);
    assert!(!is_new(&ledger, 3), "it is in flight now");
}

/// Few system calls while events keep arriving: nothing is written before four blocks are full.
#[test]
fn full_blocks_are_written_together() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path(), &LedgerPosition::default(), Limits::NONE);
    let written = || std::fs::metadata(segments::path(dir.path(), 0)).map_or(0, |found| found.len() / 80);
    for n in 0..4 * 256 {
        assert_eq!(written(), 0, "before entry {n}");
        ledger.append(&[nth(n)]);
    }
    assert_eq!(written(), 4 * 256);
    ledger.append(&[nth(4 * 256)]);
    assert_eq!(written(), 4 * 256);
    assert!((0..=4 * 256).all(|n| !is_new(&ledger, n)));
}
