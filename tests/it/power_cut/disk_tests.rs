//! What the disk promises: the judgement of a power cut is worth as much.

use super::disk::{Attributes, Disk, ROOT, Refused, Rename};
use super::unsynced::Loss;
use std::collections::BTreeSet;
use std::ffi::OsStr;

fn create(disk: &mut Disk, name: &str) -> u64 {
    disk.create(ROOT, OsStr::new(name), false, Attributes::default()).unwrap().number
}

fn cut(disk: &mut Disk, loss: Loss) {
    disk.cut_before(1, loss);
    assert_eq!(disk.sync(ROOT), Err(Refused::NoPower));
    assert_eq!(disk.find(ROOT).err(), Some(Refused::NoPower));
    disk.power_on();
}

fn names(disk: &mut Disk) -> Vec<String> {
    disk.list(ROOT).unwrap().into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
}

fn content(disk: &mut Disk, number: u64) -> Vec<u8> {
    disk.read(number, 0, usize::MAX / 2).unwrap().to_vec()
}

#[test]
fn content_and_names_are_durable_once_each_is_synced() {
    let mut disk = Disk::new(1, (0, 0));
    let number = create(&mut disk, "a");
    disk.write(number, 0, b"synced", 0).unwrap();
    disk.sync(number).unwrap();
    cut(&mut disk, Loss::All);
    assert!(names(&mut disk).is_empty(), "the name was not synced");

    let number = create(&mut disk, "a");
    disk.sync(ROOT).unwrap();
    disk.write(number, 0, b"lost", 0).unwrap();
    cut(&mut disk, Loss::All);
    assert_eq!((names(&mut disk), content(&mut disk, number)), (vec!["a".to_owned()], Vec::new()));

    disk.write(number, 0, b"synced", 0).unwrap();
    disk.sync(number).unwrap();
    disk.set_length(number, 2, 0).unwrap();
    disk.rename((ROOT, ROOT), OsStr::new("a"), OsStr::new("b"), Rename::Replace).unwrap();
    cut(&mut disk, Loss::All);
    assert_eq!((names(&mut disk), content(&mut disk, number)), (vec!["a".to_owned()], b"synced".to_vec()));
}

#[test]
fn a_kill_loses_nothing() {
    let mut disk = Disk::new(1, (0, 0));
    let number = create(&mut disk, "a");
    disk.write(number, 0, b"kept", 0).unwrap();
    cut(&mut disk, Loss::Nothing);
    assert_eq!(content(&mut disk, number), b"kept");
    cut(&mut disk, Loss::All);
    assert!(names(&mut disk).is_empty());
}

/// A torn write ends anywhere. What was written before it is there, and what was synced always is.
#[test]
fn the_last_write_is_torn() {
    let mut found = BTreeSet::new();
    for seed in 0..200 {
        let mut disk = Disk::new(seed, (0, 0));
        let number = create(&mut disk, "a");
        disk.write(number, 0, b"1", 0).unwrap();
        disk.sync(number).unwrap();
        disk.sync(ROOT).unwrap();
        disk.write(number, 1, b"23", 0).unwrap();
        disk.write(number, 3, b"45", 0).unwrap();
        cut(&mut disk, Loss::Torn);
        let content = content(&mut disk, number);
        let text: Vec<u8> = content.iter().copied().take_while(|byte| *byte != 0).collect();
        assert!(b"12345".starts_with(&text) && text.starts_with(b"1"), "{content:?}");
        found.insert(String::from_utf8(content).unwrap());
    }
    for expected in ["1", "12", "123", "1234", "1\0\0", "12\0", "123\0\0"] {
        assert!(found.contains(expected), "{expected:?} is not in {found:?}");
    }
}

/// The second page may be on the disk without the first, and the second of two names without the first.
#[test]
fn pages_and_names_are_reordered() {
    let (mut pages, mut files) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..200 {
        let mut disk = Disk::new(seed, (0, 0));
        let number = create(&mut disk, "a");
        disk.sync(ROOT).unwrap();
        disk.write(number, 0, &[b'x'; 8192], 0).unwrap();
        let second = create(&mut disk, "b");
        create(&mut disk, "c");
        disk.rename((ROOT, ROOT), OsStr::new("b"), OsStr::new("d"), Rename::NoReplace).unwrap();
        cut(&mut disk, Loss::Reordered);
        let content = content(&mut disk, number);
        pages.insert([0, 4096].map(|at| content.get(at) == Some(&b'x')));
        files.insert(names(&mut disk).concat());
        if let Ok(renamed) = disk.look_up(ROOT, OsStr::new("d")) {
            assert_eq!(renamed.number, second);
        }
    }
    assert_eq!(pages.len(), 4, "{pages:?}");
    for expected in ["a", "ab", "ac", "abc", "ad", "acd"] {
        assert!(files.contains(expected), "{expected} is not in {files:?}");
    }
    assert_eq!(files.len(), 6, "{files:?}");
}

/// As on most file systems, a new file may get the number of one that is gone.
#[test]
fn numbers_are_used_again() {
    let mut disk = Disk::new(1, (0, 0));
    let (first, _) = (create(&mut disk, "a"), create(&mut disk, "b"));
    disk.remove(ROOT, OsStr::new("a")).unwrap();
    disk.sync(ROOT).unwrap();
    // Somebody may still read it.
    assert_ne!(create(&mut disk, "c"), first);
    cut(&mut disk, Loss::All);
    assert_eq!(create(&mut disk, "d"), first);
}
