//! What docs/ARCHITECTURE.md calls invariants, where they can be read off the tree.

mod imports;
mod skips;

use imports::Sources;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files that neither read nor wait: what they say depends on what they are given.
const PURE: [&str; 13] = [
    "record/",
    "format/",
    "ack.rs",
    "source/files/matching.rs",
    "source/files/record_splitter.rs",
    "source/files/digest.rs",
    "source/files/name.rs",
    "source/api/window.rs",
    "source/api/window_reader.rs",
    "source/api/page.rs",
    "delay.rs",
    "source/api/self_activity.rs",
    "source/nodes.rs",
];

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

fn is_test(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    name == "tests.rs" || name.ends_with("_tests.rs") || path.components().any(|c| c.as_os_str() == "tests")
}

fn sources() -> Sources {
    let files = files("src", ".rs");
    let src = root().join("src");
    Sources::read(files.iter().map(|(path, text)| (path.strip_prefix(&src).unwrap(), text.as_str())))
}

/// Whether the path is this one, or goes on from it.
fn begins_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn stages_do_not_know_each_other() {
    let stages = ["source", "format", "sink", "ack", "checkpoint", "record"];
    let mut wrong = Vec::new();
    for module in sources().modules() {
        let stage = module.file.split(['/', '.']).next().unwrap();
        if !stages.contains(&stage) {
            continue;
        }
        for other in stages.iter().filter(|other| **other != stage && **other != "record") {
            let named = module.paths.iter().filter(|path| begins_with(path, other));
            wrong.extend(named.map(|path| format!("{} names crate::{path}", module.file)));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

#[test]
fn the_middle_is_pure() {
    let mut wrong = Vec::new();
    let sources = sources();
    for pure in PURE {
        assert!(sources.modules().any(|module| module.file.starts_with(pure)), "{pure}");
    }
    for module in sources.modules() {
        if !PURE.iter().any(|pure| module.file.starts_with(pure)) {
            continue;
        }
        for world in
            ["std::fs", "std::net", "std::env", "std::process", "std::thread", "clock", "tokio", "rustix"]
        {
            let named = module.paths.iter().filter(|path| begins_with(path, world));
            // Addresses are values.
            let named = named.filter(|path| !path.starts_with("std::net::Ip"));
            wrong.extend(named.map(|path| format!("{} uses {path}", module.file)));
        }
        if module.is_async {
            wrong.push(format!("{} is async", module.file));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// The names of all tests: functions with a test attribute anywhere in the tree, and those of the scripts that need a
/// machine of their own.
fn test_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in files("src", ".rs").into_iter().chain(files("tests", ".rs")) {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            let name = line.split_once("fn ").and_then(|(_, rest)| rest.split('(').next());
            if line == "#[test]" || line.starts_with("#[tokio::test") {
                marked = true;
            } else if !line.starts_with("#[") && !line.starts_with("//") {
                names.extend(name.filter(|_| marked).map(str::to_owned));
                marked = false;
            }
        }
    }
    for (_, text) in files("packaging/test", ".sh") {
        names.extend(text.lines().filter_map(|line| line.strip_suffix("() {")).map(str::to_owned));
    }
    names
}

/// The fault whose id a test's name begins with.
fn fault_of(test: &str) -> Option<String> {
    let digits = test.strip_prefix('f')?.split_once('_')?.0;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| format!("F{digits}"))
}

/// Compares the catalogue with the tests in both directions: each name in it is a test, and each test of a fault is
/// listed under that fault.
fn catalogue_gaps(catalogue: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut listed = BTreeSet::new();
    let entries: Vec<&str> = catalogue.split("\n### ").skip(1).collect();
    for (number, entry) in (1..).zip(&entries) {
        let id = format!("F{number:02}");
        if !entry.starts_with(&format!("{id} ")) {
            wrong.push(format!("{id} is missing before {}", entry.lines().next().unwrap()));
            break;
        }
        let names = entry.lines().filter_map(|line| line.strip_prefix("- `")?.strip_suffix('`'));
        let before = listed.len();
        for name in names {
            if !tests.contains(name) {
                wrong.push(format!("{id}: {name} is not a test"));
            }
            listed.insert((id.clone(), name));
        }
        if (listed.len() == before) != entry.contains("\nTests: none.") {
            wrong.push(format!("{id} needs either tests or `Tests: none.`"));
        }
        if !entry.contains("\nRule: ") {
            wrong.push(format!("{id} has no rule"));
        }
    }
    for test in tests {
        if let Some(id) = fault_of(test).filter(|id| !listed.contains(&(id.clone(), test.as_str()))) {
            wrong.push(format!("{id}: {test} is not listed"));
        }
    }
    wrong
}

#[test]
fn the_fault_catalogue_lists_each_test_of_a_fault() {
    let catalogue = fs::read_to_string(root().join("docs/FAULTS.md")).unwrap();
    let tests = test_names();
    assert_eq!(catalogue_gaps(&catalogue, &tests), [""; 0]);
    // A gap in either direction is found.
    let removed = catalogue.replace("- `f101_fuzz`\n", "");
    assert_eq!(catalogue_gaps(&removed, &tests), ["F101: f101_fuzz is not listed"]);
    let invented = catalogue.replace("- `f101_fuzz`\n", "- `f101_fuzz`\n- `f101_fuz`\n");
    assert_eq!(catalogue_gaps(&invented, &tests), ["F101: f101_fuz is not a test"]);
}

#[test]
fn no_test_sleeps_and_nothing_is_left_undone() {
    let mut wrong = Vec::new();
    for (path, text) in
        files("tests", ".rs").into_iter().chain(files("src", ".rs")).chain(files("benches", ".rs"))
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
    let top = ["README.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "fixtures/README.md"];
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
    let mut wrong = Vec::new();
    for (path, text) in documents() {
        for (number, line) in prose(&text) {
            let has_long_url = line.split(' ').any(|word| word.contains("://") && word.len() > 80);
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

/// The tables of modules in ARCHITECTURE.md, below a heading that names their directory.
#[test]
fn the_map_of_modules_names_each_file_and_no_other() {
    let text = std::fs::read_to_string("docs/ARCHITECTURE.md").unwrap();
    let mut wrong = Vec::new();
    for section in text.split("\n### `").skip(1) {
        let (directory, rest) = section.split_once("/`\n").expect("a heading is a directory");
        let section = rest.split("\n##").next().unwrap();
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|row| row.split(" |").next());
        let named: Vec<&str> =
            rows.flat_map(|row| row.split(['`', ',', ' ']).filter(|name| !name.is_empty())).collect();
        if named.is_empty() {
            continue;
        }
        let directory = Path::new("src").join(directory);
        let is_there =
            |name: &str| ["", ".rs"].iter().any(|end| directory.join(format!("{name}{end}")).exists());
        let missing = named.iter().filter(|name| !is_there(name)).map(|name| format!("no file: {name}"));
        wrong.extend(missing);
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap();
            let is_module = path.extension().is_some_and(|end| end == "rs") && !name.ends_with("tests");
            if is_module && name != "mod" && !named.contains(&name) {
                wrong.push(format!("not in the map: {}", path.display()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
