//! A full disk: a small tmpfs in a mount namespace of its own, in which this test binary runs again.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use super::*;

/// Runs the test `child` with `STORE_FULL_DIR` naming a tmpfs of `kib`; says why if that is not possible here.
fn in_tmpfs(child: &str, kib: u32) {
    let dir = tempfile::tempdir().unwrap();
    let mounted = |command: &str| {
        Command::new("unshare")
            .args(["-Urm", "sh", "-c"])
            .arg(format!("mount -t tmpfs -o size={kib}k t \"$0\" || exit 1; {command}"))
            .arg(dir.path())
            .arg(std::env::current_exe().unwrap())
            .arg(child)
            .env("STORE_FULL_DIR", dir.path())
            .output()
    };
    match mounted("true") {
        Ok(output) if output.status.success() => {}
        Ok(output) => return skip("user-namespace", &String::from_utf8_lossy(&output.stderr)),
        Err(error) => return skip("user-namespace", &format!("`unshare` failed: {error}")),
    }
    let output = mounted("exec \"$1\" --exact \"$2\" --nocapture").unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("reached the end"), "{text}");
}

/// The tmpfs, and the state in it; `None` where this is not the process that [`in_tmpfs`] starts.
fn child_dir() -> Option<(PathBuf, PathBuf)> {
    let dir = PathBuf::from(std::env::var_os("STORE_FULL_DIR")?);
    let state = dir.join("state");
    Some((dir, state))
}

/// Takes all the room there is.
fn fill(dir: &Path) {
    let mut ballast = File::options().append(true).create(true).open(dir.join("ballast")).unwrap();
    for size in [4096, 1] {
        while ballast.write_all(&vec![1; size]).is_ok() {}
    }
}

fn free(dir: &Path) {
    fs::remove_file(dir.join("ballast")).unwrap();
}

/// Commits from `from` on until it does not work any more; the last offset that was committed.
fn commit_until_full(store: &mut Store, from: u64) -> u64 {
    for offset in from.. {
        match store.commit(&[at("wiki", offset)]) {
            Ok(()) => {}
            Err(StoreError::StorageFull { .. }) => return offset - 1,
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!()
}

#[test]
fn f24_enospc() {
    in_tmpfs("store::full::child_f24_enospc", 4096);
}

#[test]
fn child_f24_enospc() {
    let Some((dir, state)) = child_dir() else {
        return;
    };
    let mut store = open(&state);
    let mut offset_now = 0;
    for round in 0..5 {
        store.commit(&[at("wiki", offset_now + 1)]).unwrap();
        fill(&dir);
        offset_now = commit_until_full(&mut store, offset_now + 2);
        for _ in 0..3 {
            let error = store.commit(&[at("wiki", offset_now + 1)]).unwrap_err();
            assert!(matches!(error, StoreError::StorageFull { .. }), "round {round}: {error}");
            assert_eq!(error.exit_code(), exit::TRY_AGAIN);
        }
        free(&dir);
        // Without a restart.
        store.commit(&[at("wiki", offset_now + 1)]).unwrap();
        offset_now += 1;
        assert_eq!(offset(&mut store, "wiki"), offset_now);
    }
    drop(store);
    assert_eq!(offset(&mut open(&state), "wiki"), offset_now);
    assert!(checkpoint::damaged_copies(&state).unwrap().is_empty(), "a full disk is no damage");
    println!("reached the end after offset {offset_now}");
}

#[test]
fn f24_enospc_at_start() {
    in_tmpfs("store::full::child_f24_enospc_at_start", 4096);
}

#[test]
fn child_f24_enospc_at_start() {
    let Some((dir, state)) = child_dir() else {
        return;
    };
    let mut store = open(&state);
    for offset in 1..=50 {
        store.commit(&[at("wiki", offset)]).unwrap();
    }
    drop(store);
    fill(&dir);
    let before = bytes_of(&state);
    for _ in 0..3 {
        let error = Store::open(&state).map(|_| ()).unwrap_err();
        assert!(matches!(error, StoreError::StorageFull { .. }), "{error}");
        assert_eq!(error.exit_code(), exit::TRY_AGAIN);
        assert_eq!(bytes_of(&state), before);
    }
    free(&dir);
    assert_eq!(offset(&mut open(&state), "wiki"), 50);
    println!("reached the end");
}

/// The same with every amount of room that is left, down to none: whatever happens is a full disk, not damage.
#[test]
fn f24_enospc_at_any_moment() {
    in_tmpfs("store::full::child_f24_enospc_at_any_moment", 6144);
}

#[test]
fn child_f24_enospc_at_any_moment() {
    let Some((dir, state)) = child_dir() else {
        return;
    };
    let mut store = open(&state);
    store.commit(&[at("wiki", 1)]).unwrap();
    drop(store);
    let mut last = 1;
    for room_kib in (0..2400).step_by(40) {
        fill(&dir);
        let ballast = File::options().write(true).open(dir.join("ballast")).unwrap();
        let length = ballast.metadata().unwrap().len();
        ballast.set_len(length.saturating_sub(room_kib * 1024)).unwrap();
        // A file that is open keeps its room even when it is removed.
        drop(ballast);
        match Store::open(&state) {
            Err(StoreError::StorageFull { .. }) => {}
            Err(error) => panic!("{room_kib} KiB: {error}"),
            Ok(opened) => {
                assert_eq!(opened.recovered, [], "{room_kib} KiB");
                let mut store = opened.store;
                for _ in 0..50 {
                    match store.commit(&[at("wiki", last + 1)]) {
                        Ok(()) => last += 1,
                        Err(StoreError::StorageFull { .. }) => break,
                        Err(error) => panic!("{room_kib} KiB: {error}"),
                    }
                }
                match store.close() {
                    Ok(()) | Err(StoreError::StorageFull { .. }) => {}
                    Err(error) => panic!("{room_kib} KiB: {error}"),
                }
            }
        }
        free(&dir);
        // A commit that was refused may have become durable all the same; one that was made may not be gone.
        let found = offset(&mut open(&state), "wiki");
        assert!((last..=last + 1).contains(&found), "{room_kib} KiB: {found}, committed {last}");
        last = found;
    }
    assert!(last > 100);
    println!("reached the end");
}
