//! Kills a process that commits, at random, and looks at what it had been promised.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;

const KILLS: u64 = 120;

#[test]
fn f21_what_was_acknowledged_survives_a_kill() {
    let mut random = Random::new("f21_what_was_acknowledged_survives_a_kill");
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut attempted) = (0, 0);
    for round in 0..KILLS {
        // Some die while they open the store, some after a commit, most in the middle of one.
        let lines = random.below(if round % 4 == 0 { 3 } else { 80 });
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash::child_commits_until_it_is_killed", "--nocapture"])
            .env("STORE_CRASH_DIR", dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut seen = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(found) = number(&line, "found ") {
                assert!(
                    (acknowledged..=attempted).contains(&found),
                    "round {round}: {found}, acknowledged {acknowledged}, attempted {attempted}"
                );
                (acknowledged, attempted) = (found, attempted.max(found));
            }
            attempted = number(&line, "attempt ").unwrap_or(attempted);
            acknowledged = number(&line, "acknowledged ").unwrap_or(acknowledged);
            seen += 1;
            // What it still wrote before it died is read as well.
            if seen == lines + 3 {
                child.kill().unwrap();
            }
        }
        assert!(!child.wait().unwrap().success());
    }
    let mut store = open(dir.path());
    let found = offset(&mut store, "wiki");
    assert!((acknowledged..=attempted).contains(&found));
    assert!(acknowledged > KILLS, "the children got to work: {acknowledged}");
}

fn number(line: &str, word: &str) -> Option<u64> {
    line.strip_prefix(word)?.parse().ok()
}

/// Not a test of its own: the process that the test above kills.
#[test]
fn child_commits_until_it_is_killed() {
    let Ok(dir) = std::env::var("STORE_CRASH_DIR") else {
        return;
    };
    let say = |word: &str, number: u64| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{word} {number}").and_then(|()| out.flush()).unwrap();
    };
    let mut store = open(Path::new(&dir));
    let state = store.load("wiki").unwrap();
    let found = offset(&mut store, "wiki");
    assert_eq!(state.marks.first().map_or(0, |mark| mark.length), found, "all of a commit or nothing of it");
    say("\nfound", found);
    for offset in found + 1.. {
        say("attempt", offset);
        // Many other files, so that the store has more than one page and one segment.
        let mut commit = at("wiki", offset);
        let base = 1 + (offset % 30) as u32 * 10;
        commit.progress.files.extend((base..base + 10).map(|key| entry(key, offset)));
        store.commit(&[commit]).unwrap();
        say("acknowledged", offset);
    }
}

/// An abort on either side of the flush.
#[test]
fn f21_failpoints_around_the_flush() {
    for (name, least) in [("before_flush", 0), ("after_flush", 1)] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).close().unwrap();
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash::child_commits_until_it_is_killed", "--nocapture"])
            .env("STORE_CRASH_DIR", dir.path())
            .env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", format!("{name}=abort@3"))
            .output()
            .unwrap();
        assert!(!output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("attempt 3\n") && !text.contains("acknowledged 3\n"), "{text}");
        assert_eq!(offset(&mut open(dir.path()), "wiki"), 2 + least);
    }
}
