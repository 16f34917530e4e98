//! The checkpoint store on a real disk: kept, damaged, full, killed, locked, restored, of another version.

mod crash;
mod damage;
mod full;
mod versions;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::rig::{SOON, skip};
use confluence_audit_agent::checkpoint::{self, Commit, Store, StoreError};
use confluence_audit_agent::position::{FileEntry, Fingerprint, Loss, Progress, SinkMark};
use confluence_audit_agent::{clock, exit};

/// The entry of file `key` after `offset` bytes.
fn entry(key: u32, offset: u64) -> FileEntry {
    FileEntry {
        key,
        path: format!("/var/confluence/log/audit/20261121-{key:05}.audit.log").into(),
        dev: 64769,
        ino: 1000 + u64::from(key),
        head_fingerprint: Fingerprint::of(&key.to_le_bytes()),
        tail_fingerprint: Fingerprint::of(&offset.to_le_bytes()),
        offset,
        size: 1_000_000,
        mtime_ms: 1_795_000_000_000,
        last_seen_ms: 1_795_000_000_000,
        ..FileEntry::default()
    }
}

fn mark(rotation: u64, length: u64) -> SinkMark {
    SinkMark {
        sink: "local".to_owned(),
        path: "/var/log/events.ndjson".into(),
        dev: 64769,
        ino: 77,
        rotation,
        length,
        deleted: Default::default(),
    }
}

/// A source whose one file is at `offset`, and whose output is as long.
fn at(source: &str, offset: u64) -> Commit {
    Commit {
        source: source.to_owned(),
        progress: Progress { files: vec![entry(0, offset)], ..Progress::default() },
        marks: vec![mark(0, offset)],
        ledger: None,
    }
}

/// Opens a store in which nothing may be wrong.
fn open(dir: &Path) -> Store {
    let opened = Store::open(dir).unwrap();
    assert_eq!(opened.recovered, []);
    opened.store
}

fn offset(store: &mut Store, source: &str) -> u64 {
    store.load(source).unwrap().files.first().map_or(0, |file| file.offset)
}

/// Every file under `dir` and its content.
fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(bytes_of(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Random numbers from a seed that is printed; `TEST_SEED` repeats a run.
struct Random(u64);

impl Random {
    fn new(test: &str) -> Random {
        let seed = std::env::var("TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| confluence_audit_agent::clock::now_ms() as u64);
        println!("{test}: TEST_SEED={seed}");
        Random(seed)
    }

    /// Below `end`.
    fn below(&mut self, end: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end.max(1)
    }
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deep/state");
    let mut store = open(&state);
    let id = store.agent_id().to_owned();
    assert_eq!(store.load("wiki").unwrap(), Default::default());
    let loss =
        |from| Loss { at_ms: 5, path: "/a".into(), from, to: from + 10, reason: "gone".to_owned(), file: 0 };
    let many = Commit {
        progress: Progress {
            files: (0..20).map(|key| entry(key, 1)).collect(),
            losses: vec![loss(0), loss(10)],
            ..Progress::default()
        },
        ..at("wiki", 1)
    };
    store.commit(&[many, at("docs", 7)]).unwrap();
    let fewer = Commit {
        progress: Progress { files: vec![entry(3, 99)], forgotten_files: vec![0, 19], ..Progress::default() },
        ..at("wiki", 0)
    };
    store.commit(&[fewer]).unwrap();
    let wiki = store.load("wiki").unwrap();
    // Not closed: a commit is durable by itself.
    drop(store);

    let mut store = open(&state);
    assert_eq!(store.agent_id(), id);
    assert_eq!(store.load("wiki").unwrap(), wiki);
    assert_eq!(wiki.files.iter().map(|file| file.key).collect::<Vec<_>>(), (1..19).collect::<Vec<_>>());
    assert_eq!(wiki.files[2], entry(3, 99));
    assert_eq!((wiki.next_key, wiki.commits), (20, 2));
    assert_eq!(wiki.losses, [loss(0), loss(10)]);
    assert_eq!((wiki.losses_total, wiki.lost_bytes_total), (2, 20));
    assert_eq!(offset(&mut store, "docs"), 7);
}

#[test]
fn the_ledger_keeps_the_newest_losses_and_counts_them_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let kept = checkpoint::LOSSES_MAX as u64;
    let losses = (0..kept + 50).map(|n| Loss {
        at_ms: n as i64,
        path: "/a".into(),
        from: 0,
        to: 3,
        reason: "gone".to_owned(),
        file: 0,
    });
    for losses in losses.collect::<Vec<_>>().chunks(70) {
        store
            .commit(&[Commit {
                progress: Progress { losses: losses.to_vec(), ..at("wiki", 1).progress },
                ..at("wiki", 1)
            }])
            .unwrap();
    }
    let wiki = store.load("wiki").unwrap();
    assert_eq!((wiki.losses_total, wiki.lost_bytes_total), (kept + 50, 3 * (kept + 50)));
    assert_eq!(wiki.losses.len() as u64, kept);
    assert_eq!((wiki.losses[0].at_ms, wiki.losses.last().unwrap().at_ms), (50, kept as i64 + 49));
}

#[test]
fn f26_second_instance() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path());
    first.commit(&[at("wiki", 10)]).unwrap();
    let before = bytes_of(dir.path());

    let started = clock::monotonic();
    let error = Store::open(dir.path()).map(|_| ()).unwrap_err();
    assert!(started.elapsed() < SOON);
    assert!(matches!(&error, StoreError::Locked { pid: Some(pid), .. } if *pid == std::process::id()));
    assert_eq!(error.exit_code(), exit::TRY_AGAIN);
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    assert_eq!(bytes_of(dir.path()), before);
    assert!(matches!(checkpoint::read(dir.path()), Err(StoreError::Locked { .. })));

    first.commit(&[at("wiki", 20)]).unwrap();
    assert_eq!(offset(&mut first, "wiki"), 20);
    drop(first);
    assert_eq!(offset(&mut open(dir.path()), "wiki"), 20);
}

#[test]
fn f28_old_state_opens_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (state, backup) = (dir.path().join("state"), dir.path().join("backup"));
    let mut store = open(&state);
    store.commit(&[at("wiki", 10)]).unwrap();
    store.close().unwrap();
    copy(&state, &backup);
    let mut store = open(&state);
    for offset in 11..300 {
        store.commit(&[at("wiki", offset)]).unwrap();
    }
    store.close().unwrap();

    fs::remove_dir_all(&state).unwrap();
    copy(&backup, &state);
    let mut store = open(&state);
    assert_eq!(offset(&mut store, "wiki"), 10);
    store.commit(&[at("wiki", 12)]).unwrap();
    drop(store);
    assert_eq!(offset(&mut open(&state), "wiki"), 12);
}

/// Opening `dir` is refused, as its owner's mistake, and nothing is written through it.
fn refused(dir: &Path) -> String {
    let error = Store::open(dir).map(|_| ()).unwrap_err();
    let is_refusal =
        |error: &StoreError| matches!(error, StoreError::Insecure { .. } | StoreError::Denied(_));
    assert!(is_refusal(&error), "{error}");
    assert_eq!(error.exit_code(), exit::TRY_AGAIN);
    let also = checkpoint::read(dir).map(|_| ()).unwrap_err();
    assert!(is_refusal(&also), "{also}");
    error.to_string()
}

#[test]
fn f58_state_dir_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    fs::create_dir(&target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o700)).unwrap();
    let link = dir.path().join("link");
    symlink(&target, &link).unwrap();
    assert!(refused(&link).contains("symbolic link"));
    assert!(refused(&dir.path().join("link/")).contains("symbolic link"));
    assert!(bytes_of(&target).is_empty());
}

#[test]
fn f58_links_in_the_state_dir() {
    for name in ["lock", "meta.json", "checkpoint.json", "db"] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        open(&state).close().unwrap();
        let victim = dir.path().join("victim");
        let inside = state.join(name);
        if name == "db" {
            fs::rename(&inside, &victim).unwrap();
        } else {
            fs::rename(&inside, &victim).unwrap();
            fs::write(&victim, "keep me").unwrap();
        }
        let before = fs::metadata(&victim).unwrap();
        symlink(&victim, &inside).unwrap();
        refused(&state);
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.len(), after.mtime_nsec()), (before.len(), before.mtime_nsec()), "{name}");
    }
}

#[test]
fn f58_a_directory_of_others_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    open(&state).close().unwrap();
    for mode in [0o770, 0o702, 0o777] {
        fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
        assert!(refused(&state).contains("chmod 700"));
    }
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    match std::os::unix::fs::chown(&state, Some(65534), None) {
        Ok(()) => assert!(refused(&state).contains("belongs to `")),
        Err(error) => skip("root", &format!("only root can give the directory to another user: {error}")),
    }
}

#[test]
fn f59_only_the_owner_can_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let mut store = open(&state);
    store.commit(&[at("wiki", 1)]).unwrap();
    store.close().unwrap();
    open(&state).close().unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("db"))), (0o700, 0o700));
    for path in bytes_of(&state).into_keys().filter(|path| !path.starts_with(state.join("db"))) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
