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

fn documents() -> Vec<(PathBuf, String)> {
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md"];
    let read = |name: &str| (root().join(name), fs::read_to_string(root().join(name)).unwrap());
    top.into_iter().map(read).chain(files("docs", ".md")).collect()
}

/// Lines that stand outside of code blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_code = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        (!in_code && !is_fence).then_some((number + 1, line))
    })
}

#[test]
fn lines_of_documents_are_short() {
    /// Not reflowed yet.
    const LONG: [&str; 7] = [
        "CONFLUENCE.md",
        "FAULTS.md",
        "FORMATS.md",
        "KUBERNETES.md",
        "MAPPING.md",
        "MIGRATE.md",
        "SINKS.md",
    ];
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        if LONG.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        for (number, line) in prose(&text) {
            let has_long_url = line
                .split(' ')
                .any(|word| word.contains("://") && word.len() > 80);
            if line.chars().count() > 120 && !has_long_url {
                wrong.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn links_of_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for (number, line) in prose(&text) {
            for link in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                if link.contains("://") {
                    continue;
                }
                let (file, section) = link.split_once('#').unwrap_or((link, ""));
                let target = match file {
                    "" => path.clone(),
                    file => path.parent().unwrap().join(file),
                };
                let Ok(found) = fs::read_to_string(&target) else {
                    wrong.push(format!("{}:{number}: no file {link}", path.display()));
                    continue;
                };
                let mut headings = prose(&found).filter(|(_, line)| line.starts_with('#'));
                if !section.is_empty() && !headings.any(|(_, heading)| anchor(heading) == section) {
                    wrong.push(format!("{}:{number}: no section {link}", path.display()));
                }
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The tables of the runbook begin with what the agent writes: `…` stands for what differs.
#[test]
fn the_runbook_names_messages_of_the_agent() {
    let code: String = files("src", ".rs")
        .into_iter()
        .filter(|(path, _)| !is_test(path))
        .map(|(_, text)| joined(&text))
        .collect();
    let runbook = fs::read_to_string(root().join("docs/OPERATIONS.md")).unwrap();
    let (mut rows, mut wrong) = (0, Vec::new());
    for (number, line) in prose(&runbook) {
        let Some(cell) = line.strip_prefix("| `").and_then(|rest| rest.split(" | ").next()) else {
            continue;
        };
        rows += 1;
        // A span in two backticks may hold single ones.
        let spans: Vec<&str> = match cell.strip_prefix('`') {
            Some(span) => span.split("``").step_by(2).collect(),
            None => cell.split('`').step_by(2).collect(),
        };
        for part in spans.iter().flat_map(|span| span.split('…')) {
            if !code.contains(part.trim()) {
                wrong.push(format!("OPERATIONS.md:{number}: {part}"));
            }
        }
    }
    assert!(rows >= 100, "{rows} rows");
    assert_eq!(wrong, [""; 0]);
}

/// The text of a source file with its string literals in one line each.
fn joined(text: &str) -> String {
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |whole, part| whole + part.trim_start())
}
