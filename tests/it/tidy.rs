//! What docs/ARCHITECTURE.md calls invariants, where they can be read off the tree.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(dir: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let mut out = Vec::new();
    let mut open = vec![root().join(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                out.push((path.clone(), fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!out.is_empty(), "no {ending} in {dir}");
    out
}

/// The part of a source file before its unit tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap()
}

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name == "tests.rs" || name.ends_with("_tests.rs") || path.components().any(|c| c.as_os_str() == "tests")
}

#[test]
fn stages_do_not_know_each_other() {
    let stages = ["source", "format", "sink", "ack", "checkpoint", "record"];
    let mut wrong = Vec::new();
    for (path, text) in files("src", ".rs") {
        let place = path.strip_prefix(root().join("src")).unwrap();
        let stage = place
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_string_lossy()
            .replace(".rs", "");
        if !stages.contains(&stage.as_str()) || is_test(&path) {
            continue;
        }
        for other in stages
            .iter()
            .filter(|other| **other != stage && **other != "record")
        {
            if without_tests(&text).contains(&format!("crate::{other}")) {
                wrong.push(format!("{} names crate::{other}", place.display()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_middle_is_pure() {
    let mut wrong = Vec::new();
    for (path, text) in files("src", ".rs") {
        let place = path
            .strip_prefix(root().join("src"))
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let pure = [
            "record/",
            "format/",
            "ack.rs",
            "source/files/identity.rs",
            "source/files/frame.rs",
            "source/files/digest.rs",
            "source/files/name.rs",
            "source/api/window.rs",
            "source/api/question.rs",
            "source/api/page.rs",
            "delay.rs",
            "source/api/own.rs",
            "source/nodes.rs",
        ];
        if !pure.iter().any(|prefix| place.starts_with(prefix)) || is_test(&path) {
            continue;
        }
        for world in [
            "std::fs",
            "std::net::Tcp",
            "std::net::Udp",
            "std::env",
            "std::process",
            "std::thread",
            "crate::clock",
            "tokio",
            "rustix",
            "async ",
        ] {
            if without_tests(&text).contains(world) {
                wrong.push(format!("{place} uses {world}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Each fault that the catalogue calls covered has the tests that it names, and each test of a fault stands in it.
#[test]
fn covered_faults_have_their_tests() {
    let catalogue = fs::read_to_string(root().join("docs/FAULTS.md")).unwrap();
    let code: String = files("src", ".rs")
        .into_iter()
        .chain(files("tests", ".rs"))
        // What needs a machine of its own.
        .chain(files("packaging/test", ".sh"))
        .map(|(_, text)| text)
        .collect();
    let mut missing = Vec::new();
    let mut covered = 0;
    for row in catalogue.lines().filter(|line| line.starts_with("| F")) {
        let columns: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let (id, tests, state) = (columns[0], columns[columns.len() - 2], columns[columns.len() - 1]);
        if !state.starts_with("covered") {
            continue;
        }
        covered += 1;
        for name in tests
            .split('`')
            .filter(|part| part.starts_with("f") || part.starts_with("example_"))
        {
            let forms = [
                format!("fn {name}("),
                format!("fn {name}_"),
                format!("\n{name}() {{"),
            ];
            if !forms.iter().any(|form| code.contains(form)) {
                missing.push(format!("{id}: {name}"));
            }
        }
    }
    assert!(covered >= 61, "{covered} rows of the catalogue are covered");
    assert_eq!(missing, [""; 0]);
}

#[test]
fn no_test_sleeps_and_nothing_is_left_undone() {
    let mut wrong = Vec::new();
    for (path, text) in files("tests", ".rs")
        .into_iter()
        .chain(files("src", ".rs"))
        .chain(files("benches", ".rs"))
    {
        for (number, line) in text.lines().enumerate() {
            let undone = ["TODO", "FIXME", "todo!(", "unimplemented!(", "#[ignore"]
                .iter()
                .any(|mark| line.contains(mark));
            let waits = line.contains("thread::sleep") || line.contains("park_timeout");
            // The rig's waiting for a condition is built on one of them.
            let sleeps = path.starts_with(root().join("tests")) && !path.ends_with("rig/mod.rs") && waits;
            if (undone || sleeps) && !path.ends_with("tidy.rs") {
                wrong.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}
