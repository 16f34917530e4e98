//! A thousand damaged stores, made from one real one.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::mpsc;
use std::thread;

use confluence_audit_agent::checkpoint::{Opened, RecoveryStep, StateImage};

use super::*;

const MUTATIONS: u64 = 1000;

/// A store that a killed process left: its backup file is older than the store. In each commit the output of a source
/// is as long as the offsets of its files together.
fn create_killed_store(dir: &Path) -> StateImage {
    let mut store = open(dir);
    for round in 1..=400u64 {
        if round == 300 {
            // sled writes its snapshot when it opens.
            drop(store);
            store = open(dir);
        }
        let commit = |source: &str, files: u64| {
            let offset = |key: u64| 100 * (round / files) + if key <= round % files { 50 } else { 0 };
            Commit {
                source: source.to_owned(),
                progress: Progress {
                    files: (0..files).map(|key| entry(key as u32, offset(key))).collect(),
                    ..Progress::default()
                },
                marks: vec![mark(round / 150, (0..files).map(offset).sum())],
                ledger: None,
            }
        };
        store.commit(&[commit("wiki", 30), commit("docs", 3)]).unwrap();
    }
    store.image().unwrap()
}

/// Damages one file; says how.
fn mutate(random: &mut Random, path: &Path) -> String {
    let length = fs::metadata(path).unwrap().len();
    let place = random.below(length);
    let write = |at: u64, bytes: &[u8]| {
        let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(bytes).unwrap();
    };
    match random.below(8) {
        0..4 if length > 0 => {
            let mut byte = [0];
            let mut file = fs::File::open(path).unwrap();
            file.seek(SeekFrom::Start(place)).unwrap();
            file.read_exact(&mut byte).unwrap();
            let flip = 1 + random.below(255) as u8;
            write(place, &[byte[0] ^ flip]);
            format!("byte {place} ^ {flip:#04x}")
        }
        4 => {
            OpenOptions::new().write(true).open(path).unwrap().set_len(place).unwrap();
            format!("cut to {place}")
        }
        5 => {
            write(place, &vec![0; (length - place) as usize]);
            format!("zeros from {place}")
        }
        6 => {
            fs::remove_file(path).unwrap();
            "deleted".to_owned()
        }
        _ => {
            fs::write(path.with_file_name(format!("snap.{place:016X}.generating")), "").unwrap();
            "half a snapshot next to it".to_owned()
        }
    }
}

/// What the test asks of each damaged store. The kinds of steps that were taken.
fn examine(dir: &Path, truth: &StateImage) -> Vec<String> {
    let Opened { mut store, recovered } = Store::open(dir).unwrap();
    let image = store.image().unwrap();
    for (name, state) in &image.sources {
        let truth = &truth.sources[name];
        for file in &state.files {
            assert!(file.offset <= truth.files[file.key as usize].offset, "{name} {file:?}");
        }
        let offsets: u64 = state.files.iter().map(|file| file.offset).sum();
        for mark in &state.marks {
            // An output cut to less than its source has read would have lost what is between.
            assert_eq!((mark.length, state.files.len()), (offsets, truth.files.len()), "{name}");
        }
    }
    let reported = recovered.iter().any(|step| !matches!(step, RecoveryStep::FileReplaced { .. }));
    if reported {
        let copies = checkpoint::damaged_copies(dir).unwrap();
        assert_eq!(copies.len(), 1);
        assert!(
            recovered.iter().any(|step| matches!(step, RecoveryStep::KeptDamagedCopy { .. })),
            "{recovered:?}"
        );
    }

    store.commit(&[at("wiki", 5)]).unwrap();
    drop(store);
    assert_eq!(offset(&mut open(dir), "wiki"), 5);

    let kind = |step: &RecoveryStep| format!("{step:?}").split([' ', '{']).next().unwrap().to_owned();
    let mut kinds: Vec<String> = recovered.iter().map(kind).collect();
    if !reported && image.sources != truth.sources {
        kinds.push("(older, and sound)".to_owned());
    }
    kinds
}

#[test]
fn f23_corrupt_every_byte() {
    let mut random = Random::new("f23_corrupt_every_byte");
    let dir = tempfile::tempdir().unwrap();
    let sound = dir.path().join("sound");
    let truth = create_killed_store(&sound);
    let files: Vec<PathBuf> = bytes_of(&sound).into_keys().collect();
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    let mutations = std::env::var("MUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(MUTATIONS);
    for round in 0..mutations {
        let damaged = dir.path().join(format!("damaged-{round}"));
        copy(&sound, &damaged);
        let file = files[round as usize % files.len()].strip_prefix(&sound).unwrap();
        let what = format!("round {round}, {}: {}", file.display(), mutate(&mut random, &damaged.join(file)));
        let (done, result) = mpsc::channel();
        let (place, expected) = (damaged.clone(), truth.clone());
        thread::spawn(move || done.send(examine(&place, &expected)));
        match result.recv_timeout(SOON) {
            Ok(kinds) => kinds.into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1),
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: hangs"),
            Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{what}: see above"),
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    println!("{counts:?}");
    // The damage has reached what it was meant for.
    assert!(counts.contains_key("KeptDamagedCopy") && counts.contains_key("SourceFromBackup"));
}

#[test]
fn three_copies_of_damaged_stores_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5u64 {
        let mut store = Store::open(dir.path()).unwrap().store;
        store.commit(&[at("wiki", round)]).unwrap();
        store.close().unwrap();
        fs::write(dir.path().join("db/conf"), "damaged").unwrap();
        fs::write(dir.path().join("db/db"), vec![7; 4096]).unwrap();
    }
    let opened = Store::open(dir.path()).unwrap();
    assert!(!opened.recovered.is_empty());
    assert_eq!(checkpoint::damaged_copies(dir.path()).unwrap().len(), 3);
    let mut store = opened.store;
    assert_eq!(offset(&mut store, "wiki"), 4, "from the backup file");
}
