//! Where a test is skipped, a person sees it.

use super::{files, root};
use crate::rig::skip;
use crate::rig::skip::{ALLOWED, allowed_names, outcome};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

#[test]
fn a_skip_fails_under_ci_unless_it_is_listed_with_a_reason() {
    let listed = "\n  kafka: no Java on this machine\nnginx:\nroot:  \n";
    let skips = |is_ci, name| outcome(is_ci, listed, name, "not installed");
    assert_eq!(skips(false, "nginx"), Ok("skipped: nginx: not installed".to_owned()));
    assert_eq!(skips(true, "kafka"), Ok("skipped: kafka: not installed".to_owned()));
    for name in ["nginx", "root", "opensearch", "kaf", "no Java on this machine", ""] {
        let message = skips(true, name).unwrap_err();
        assert!(message.contains(&format!("add `{name}: REASON` to CI_SKIPS in .ci/run")), "{message}");
    }
    // As a test calls it.
    for (ci, listed, passes) in [
        ("true", "", false),
        ("true", "self-test: it is tried", true),
        ("true", "self-test:", false),
        ("false", "", true),
    ] {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tidy::skips::child_skips", "--nocapture"])
            .envs([("CI", ci), (ALLOWED, listed), ("SKIP_CHILD", "1")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), passes, "CI={ci} {ALLOWED}={listed}: {text}");
        assert!(text.contains("skipped: self-test: it is tried"), "{text}");
    }
}

/// Not a test of its own: the process that the test above starts.
#[test]
fn child_skips() {
    if std::env::var_os("SKIP_CHILD").is_some() {
        skip("self-test", "it is tried");
    }
}

/// The list in `.ci/run` names only what some test asks for, and no test reports a skip in another way.
#[test]
fn skips_go_through_one_helper() {
    let script = fs::read_to_string(root().join(".ci/run")).unwrap();
    let (_, rest) = script.split_once("export CI_SKIPS=\"").unwrap();
    let (list, _) = rest.split_once("\"\n").unwrap();
    let entries = list.lines().filter(|line| !line.trim().is_empty());
    assert_eq!(entries.count(), allowed_names(list).count(), "each entry has a reason");
    let mut wrong = Vec::new();
    let mut names = BTreeSet::from(["cargo-deny".to_owned(), "packages".to_owned()]);
    for (path, text) in files("tests", ".rs").into_iter().chain(files("src", ".rs")) {
        if path.ends_with("tidy/skips.rs") || path.ends_with("rig/skip.rs") {
            continue;
        }
        let reports = |line: &&str| line.to_lowercase().contains("\"skipped:");
        wrong.extend(text.lines().filter(reports).map(str::to_owned));
        let calls = text.split("skip(").skip(1);
        names.extend(
            calls.filter_map(|call| Some(call.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned())),
        );
    }
    assert_eq!(wrong, [""; 0]);
    assert!(names.len() > 10, "{names:?}");
    for name in allowed_names(list) {
        assert!(names.contains(name), "no test skips for `{name}`");
    }
}
