//! Stores of other releases. `REGENERATE_STATE=1` writes the fixture of this release's version again.

use confluence_audit_agent::checkpoint::{SourceState, StateImage, VERSION};

use super::*;

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/state/v{version}"))
}

/// What each fixture holds; members that a version did not know have their defaults.
fn expected() -> [Commit; 2] {
    let wiki = Commit {
        progress: Progress {
            files: vec![entry(0, 4321), FileEntry { finished: true, truncations: 2, ..entry(1, 1_000_000) }],
            losses: vec![Loss {
                at_ms: 1_795_000_000_000,
                path: "/var/confluence/log/audit/gone".into(),
                from: 7,
                to: 70,
                reason: "deleted before it was read".to_owned(),
                file: 0,
            }],
            ..Progress::default()
        },
        marks: vec![mark(3, 99_999)],
        ..at("wiki", 0)
    };
    [wiki, at("Größe \"2\"", 17)]
}

const AGENT_ID: &str = "7f3d2c1e-0b5a-4c8d-9e6f-a1b2c3d4e5f6";

/// The envelope, written down a second time.
fn seal(version: u32, name: &str, value: &str) -> Vec<u8> {
    let mut bytes = version.to_le_bytes().to_vec();
    bytes.extend((name.len() as u64).to_le_bytes());
    bytes.extend(name.as_bytes());
    bytes.extend(value.as_bytes());
    let sum = xxhash_rust::xxh3::xxh3_64(&bytes);
    format!(r#"{{"version":{version},"sum":"{sum:016x}","value":{value}}}"#).into_bytes()
}

fn regenerate() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("meta.json"),
        seal(VERSION, "meta.json", &format!(r#"{{"agent_id":"{AGENT_ID}"}}"#)),
    )
    .unwrap();
    let mut store = Store::open(dir.path()).unwrap().store;
    store.commit(&expected()).unwrap();
    store.close().unwrap();
    let place = fixture(VERSION);
    let _ = fs::remove_dir_all(&place);
    copy(dir.path(), &place);
    fs::remove_file(place.join("lock")).unwrap();
    for copy in checkpoint::damaged_copies(&place).unwrap() {
        fs::remove_dir_all(copy).unwrap();
    }
}

/// A copy of a fixture that may be opened.
fn restored(version: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&fixture(version), dir.path());
    dir
}

#[test]
fn f27_state_matrix() {
    if std::env::var_os("REGENERATE_STATE").is_some() {
        regenerate();
    }
    for version in 1..=VERSION {
        let dir = restored(version);
        let mut store = open(dir.path());
        let StateImage { agent_id, sources } = store.image().unwrap();
        assert_eq!(agent_id, AGENT_ID);
        for commit in expected() {
            let SourceState { files, marks, losses, .. } = &sources[&commit.source];
            assert_eq!(
                (files, marks, losses),
                (&commit.progress.files, &commit.marks, &commit.progress.losses)
            );
        }
        assert_eq!(sources.len(), expected().len());
        store.commit(&[at("wiki", 5000)]).unwrap();
        store.close().unwrap();
        assert_eq!(offset(&mut open(dir.path()), "wiki"), 5000);

        // The backup file alone is enough.
        let dir = restored(version);
        fs::remove_dir_all(dir.path().join("db")).unwrap();
        let mut opened = Store::open(dir.path()).unwrap();
        assert!(!opened.recovered.is_empty());
        assert_eq!(offset(&mut opened.store, "wiki"), 4321);
    }
}

/// Refused as a newer release's, with every byte where it was.
fn assert_refused_unchanged(dir: &Path) {
    let before = bytes_of(dir);
    for error in [Store::open(dir).map(|_| ()), checkpoint::read(dir).map(|_| ())] {
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::Newer { found, .. } if found == VERSION + 1), "{error}");
        assert_eq!(error.exit_code(), exit::TRY_AGAIN);
    }
    let mut after = bytes_of(dir);
    if !before.contains_key(&dir.join("lock")) {
        assert_eq!(after.remove(&dir.join("lock")), Some(Vec::new()));
    }
    let differ: Vec<_> = before.iter().filter(|(path, bytes)| after.get(*path) != Some(bytes)).collect();
    assert_eq!(before.len(), after.len());
    assert!(differ.is_empty(), "{:?}", differ.iter().map(|(path, _)| path).collect::<Vec<_>>());
}

#[test]
fn f27_newer_version_is_left_alone() {
    for name in ["meta.json", "checkpoint.json"] {
        let dir = restored(VERSION);
        fs::write(dir.path().join(name), seal(VERSION + 1, name, r#"{"shape":"unknown"}"#)).unwrap();
        assert_refused_unchanged(dir.path());
    }
}

#[test]
fn f27_an_older_directory_takes_this_version_when_it_is_opened() {
    let dir = restored(VERSION);
    let meta = |version| seal(version, "meta.json", &format!(r#"{{"agent_id":"{AGENT_ID}"}}"#));
    fs::write(dir.path().join("meta.json"), meta(VERSION - 1)).unwrap();
    let store = open(dir.path());
    assert_eq!(store.agent_id(), AGENT_ID);
    assert_eq!(fs::read(dir.path().join("meta.json")).unwrap(), meta(VERSION));
}

/// The files next to the store are lost, and only a value shows that a newer release was here.
#[test]
fn f27_newer_value_is_left_alone() {
    let dir = restored(VERSION);
    fs::remove_file(dir.path().join("meta.json")).unwrap();
    fs::remove_file(dir.path().join("checkpoint.json")).unwrap();
    let db = sled::Config::new().path(dir.path().join("db")).flush_every_ms(None).open().unwrap();
    let key = "file \"wiki\" 00000000";
    db.insert(key, seal(VERSION + 1, key, r#"{"shape":"unknown"}"#)).unwrap();
    drop(db);
    assert_refused_unchanged(dir.path());
}
