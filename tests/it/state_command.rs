//! `state show`, `forget` and `export` as typed.

use std::path::Path;
use std::process::{Command, Output};

use confluence_audit_agent::checkpoint::{Commit, StateImage, Store};
use confluence_audit_agent::exit;
use confluence_audit_agent::position::{FileEntry, Progress};

fn stored() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap().store;
    let file = FileEntry { path: "/audit/1".into(), offset: 60, size: 100, ..FileEntry::default() };
    for source in ["wiki", "docs"] {
        let commit = Commit {
            source: source.to_owned(),
            progress: Progress { files: vec![file.clone()], ..Progress::default() },
            ..Commit::default()
        };
        store.commit(&[commit]).unwrap();
    }
    store.close().unwrap();
    dir
}

fn state(args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    command.arg("state").args(args).arg("--state").arg(dir).output().unwrap()
}

fn code(output: &Output) -> u8 {
    output.status.code().unwrap() as u8
}

fn exported(dir: &Path) -> StateImage {
    let output = state(&["export"], dir);
    assert_eq!(code(&output), exit::OK);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn show_export_and_forget_of_a_stopped_agent() {
    let dir = stored();
    let output = state(&["show", "--source", "wiki"], dir.path());
    assert_eq!(code(&output), exit::OK);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("         60    100    40  /audit/1\n") && !text.contains("docs"), "{text}");

    let before = exported(dir.path());
    assert_eq!(before.sources["wiki"].files[0].offset, 60);
    // Nobody can be asked, and so nothing was forgotten.
    let refused = state(&["forget", "--source", "wiki"], dir.path());
    assert_eq!(code(&refused), exit::USAGE);
    let printed = String::from_utf8(refused.stderr).unwrap();
    assert!(printed.contains("nothing was forgotten") && printed.contains("--yes"), "{printed}");
    assert_eq!(exported(dir.path()), before);
    assert_eq!(code(&state(&["forget", "--source", "wiki", "--yes"], dir.path())), exit::OK);
    let after = exported(dir.path());
    assert!(after.sources["wiki"].is_empty());
    assert_eq!((after.agent_id, &after.sources["docs"]), (before.agent_id, &before.sources["docs"]));
}

#[test]
fn all_refuse_while_an_agent_runs() {
    let dir = stored();
    let running = Store::open(dir.path()).unwrap();
    for command in ["show", "export", "forget"] {
        let output = match command {
            "forget" => state(&[command, "--yes"], dir.path()),
            _ => state(&[command], dir.path()),
        };
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(exit::TRY_AGAIN)), "{command}: {text}");
        assert!(text.contains(dir.path().to_str().unwrap()) && output.stdout.is_empty(), "{command}: {text}");
    }
    drop(running);
    assert_eq!(exported(dir.path()).sources["wiki"].files[0].offset, 60);
}
