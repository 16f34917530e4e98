//! The detection rules of packaging/detections over what the agent writes: in SQLite, and in a real OpenSearch.
//! tests/detections/check.py converts the rules.

use crate::rig::opensearch::OpenSearch;
use crate::rig::{Host, mmdb, skip};
use confluence_audit_agent::format::{Agent, Context, EventBuffer, Format, FormatKind};
use confluence_audit_agent::notice::{self, FieldValue, Fields, Notice};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

const STREAM: &str = "logs-atlassian_confluence.audit-default";
const NEEDS_LOCATIONS: &str = "confluence_audit_login_from_two_countries";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a script of tests/detections prints, and whether it succeeds; `None` where its packages are not installed.
fn script_result(name: &str, arguments: &[&str]) -> Option<(bool, String)> {
    let python = root().join("target/tools/detections/bin/python");
    if !python.exists() {
        skip("detections", "pySigma is not installed in target/tools/detections; `.ci/run` does that");
        return None;
    }
    let mut command = Command::new(python);
    let script = root().join("tests/detections").join(name);
    let output = command.arg(script).args(arguments).output().unwrap();
    let [printed, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Some((output.status.success(), printed + &errors))
}

fn script(name: &str, arguments: &[&str]) -> Option<String> {
    let (succeeded, printed) = script_result(name, arguments)?;
    assert!(succeeded, "{name} {arguments:?}: {printed}");
    Some(printed)
}

pub fn check(arguments: &[&str]) -> Option<String> {
    script("check.py", arguments)
}

/// The number that a check says is right.
pub fn count(printed: &str) -> usize {
    printed.trim().strip_suffix(" right").and_then(|count| count.parse().ok()).expect(printed)
}

/// The files of samples, as `RULE/NAME.jsonl`, and their lines.
fn samples() -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for rule in fs::read_dir(root().join("packaging/detections/samples")).unwrap() {
        for file in fs::read_dir(rule.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let rule = path.parent().and_then(Path::file_name).unwrap().to_str().unwrap();
            let name = format!("{rule}/{}", path.file_name().unwrap().to_str().unwrap());
            found.push((name, fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect()));
        }
    }
    found.sort();
    found
}

/// What `convert` makes of the lines.
fn converted(format: FormatKind, lines: &[String]) -> Vec<String> {
    let events = convert(format, lines);
    assert_eq!(events.len(), lines.len());
    events
}

/// The same of lines that may be damaged.
fn convert(format: FormatKind, lines: &[String]) -> Vec<String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["convert", "--format", format.as_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let text = lines.join("\n") + "\n";
    let writes = thread::spawn(move || stdin.write_all(text.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writes.join().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What `run` makes of the lines of an audit file if it has a database of locations.
fn located(lines: &[String]) -> Vec<String> {
    let mut host = Host::new();
    fs::write(host.path("city.mmdb"), mmdb::city()).unwrap();
    host.root += &format!("[enrich]\ngeoip_city = {:?}\n", host.path("city.mmdb"));
    fs::write(host.audit().join("20261101.00000.audit.log"), lines.join("\n") + "\n").unwrap();
    host.once_ok();
    let text = fs::read_to_string(host.output()).unwrap();
    let is_own = |line: &&str| line.contains("\"action\":\"agent.");
    let events: Vec<String> = text.lines().filter(|line| !is_own(line)).map(str::to_owned).collect();
    assert_eq!(events.len(), lines.len());
    events
}

/// What the agent writes about itself; `line` has the action, the message and named values.
fn own_event(format: FormatKind, line: &str, at: usize) -> String {
    let sample: Value = serde_json::from_str(line).unwrap();
    let action = own_actions().into_iter().find(|action| sample["action"] == **action);
    let action = action.unwrap_or_else(|| panic!("the agent has no event {}", sample["action"]));
    let message = sample["message"].as_str().unwrap().to_owned();
    let mut notice = Notice::new(action, "files", &at.to_string(), 1_793_100_000_000 + at as i64, message);
    if let Some(values) = sample["fields"].as_object() {
        let names = ["previous_stop", "reason", "source"];
        let value =
            |name: &'static str| Some((name, FieldValue::Text(values.get(name)?.as_str()?.to_owned())));
        notice = notice.with_fields(Fields(names.into_iter().filter_map(value).collect()));
        assert_eq!(notice.fields.0.len(), values.len(), "{line}");
    }
    let agent = Agent {
        id: "a".to_owned(),
        ephemeral_id: "b".to_owned(),
        name: "collector".to_owned(),
        version: "0.1.0".to_owned(),
    };
    let context = Context {
        tags: None,
        namespace: "default".to_owned(),
        site: Some("wiki".to_owned()),
        agent,
        host: None,
        cloud: None,
        geo: None,
        preserve_original_event: true,
    };
    let mut out = EventBuffer::new();
    Format::new(format, &context).write_notice(&notice, &mut out);
    String::from_utf8(out.bytes).unwrap()
}

fn own_actions() -> [&'static str; 13] {
    [
        notice::STARTED,
        notice::STOPPED,
        notice::HEARTBEAT,
        notice::TOKEN_EXPIRING,
        notice::SOURCE_SWITCHED,
        notice::FILE_TAMPERED,
        notice::COVERAGE_LOWERED,
        notice::DENYLIST_CHANGED,
        notice::RETENTION_CHANGED,
        notice::LEDGER_DAMAGED,
        notice::LEDGER_RESTARTED,
        notice::LEDGER_SEALED,
        notice::GAP,
    ]
}

/// The events of all samples, by the name of their file.
pub fn events(format: FormatKind) -> BTreeMap<String, Vec<String>> {
    let (mut found, mut together) = (BTreeMap::new(), Vec::new());
    let mut located_lines = Vec::new();
    let samples = samples();
    let is_own = |name: &str| name.ends_with("-agent.jsonl");
    let needs_locations = |name: &str| format == FormatKind::Ecs && name.starts_with(NEEDS_LOCATIONS);
    for (name, lines) in &samples {
        if is_own(name) {
            let events = lines.iter().enumerate().map(|(at, line)| own_event(format, line, at));
            found.insert(name.clone(), events.collect());
        } else if needs_locations(name) {
            located_lines.extend_from_slice(lines);
        } else {
            together.extend_from_slice(lines);
        }
    }
    let mut together = converted(format, &together).into_iter();
    let mut located = if located_lines.is_empty() { Vec::new() } else { located(&located_lines) }.into_iter();
    for (name, lines) in samples.iter().filter(|(name, _)| !is_own(name)) {
        let events = if needs_locations(name) { &mut located } else { &mut together };
        found.insert(name.clone(), events.take(lines.len()).collect());
    }
    found
}

pub fn write(folder: &Path, events: &BTreeMap<String, Vec<String>>) {
    for (name, events) in events {
        let path: PathBuf = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, events.join("\n") + "\n").unwrap();
    }
}

#[test]
fn rules_are_valid_have_samples_of_both_kinds_and_name_fields_that_exist() {
    if let Some(printed) = check(&["rules"]) {
        assert!(count(&printed) >= 24, "{printed}");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => {
                fs::copy(&path, &to).unwrap();
            }
        }
    }
}

#[test]
fn a_rule_without_a_sample_that_must_not_match_or_with_a_field_that_does_not_exist_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let detections = place.path().join("detections");
    copy(&root().join("packaging/detections"), &detections);
    let rule = "confluence_audit_space_deleted";
    for entry in fs::read_dir(detections.join("samples").join(rule)).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("miss-") {
            fs::remove_file(path).unwrap();
        }
    }
    let file = detections.join("sigma/confluence_audit_app_installed.yml");
    let text = fs::read_to_string(&file).unwrap().replace("event.action:", "event.deed:");
    fs::write(file, text).unwrap();
    let Some((succeeded, printed)) = script_result("check.py", &["rules", detections.to_str().unwrap()])
    else {
        return;
    };
    assert!(!succeeded);
    assert!(printed.contains(&format!("{rule}: no sample whose name begins with miss-")), "{printed}");
    assert!(printed.contains("confluence_audit_app_installed: the field event.deed is not in"), "{printed}");
}

#[test]
fn rules_find_what_they_must_in_sqlite_and_nothing_else() {
    for (format, least) in [(FormatKind::Ecs, 180), (FormatKind::Raw, 120)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &events(format));
        let folder = folder.path().to_str().unwrap();
        let Some(printed) = check(&["match", folder, format.as_str()]) else {
            return;
        };
        assert!(count(&printed) >= least, "{printed}");
    }
}

/// The same in a real OpenSearch, with the index template of the agent. Lucene has no correlations.
#[test]
fn rules_find_what_they_must_in_opensearch_and_nothing_else() {
    let Some(printed) = check(&["lucene"]) else {
        return;
    };
    let queries: BTreeMap<String, String> = serde_json::from_str(&printed).unwrap();
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(server) = OpenSearch::start(&place.path().join("opensearch")) else {
        return;
    };
    let mut host = Host::new();
    host.remote = Some(format!("type = \"elasticsearch\"\nhosts = [\"http://127.0.0.1:{}\"]\n", server.port));
    let mut setup = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    let output = setup.args(["setup", "elasticsearch", "--config"]).arg(host.config()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = events(FormatKind::Ecs);
    let mut bulk = String::new();
    for (name, events) in &events {
        for (at, event) in events.iter().enumerate() {
            bulk += &json!({"create": {"_index": STREAM, "_id": format!("{name} {at}")}}).to_string();
            bulk += &format!("\n{event}\n");
        }
    }
    let answer = server.request("POST", "/_bulk?refresh=true", &bulk);
    assert_eq!(answer["errors"], false, "{answer}");
    for (rule, query) in queries {
        let body = json!({"size": 10000, "_source": false, "query": {"query_string": {
            "query": query, "analyze_wildcard": true
        }}});
        let found = server.request("POST", &format!("/{STREAM}/_search"), &body.to_string());
        let hits = found["hits"]["hits"].as_array().unwrap().iter();
        let own = format!("{rule}/");
        let found: BTreeSet<&str> =
            hits.map(|hit| hit["_id"].as_str().unwrap()).filter(|id| id.starts_with(&own)).collect();
        let expected: BTreeSet<String> = events
            .iter()
            .filter(|(name, _)| name.starts_with(&format!("{own}match-")))
            .flat_map(|(name, events)| (0..events.len()).map(move |at| format!("{name} {at}")))
            .collect();
        assert_eq!(found, expected.iter().map(String::as_str).collect(), "{rule}: {query}");
        assert!(!expected.is_empty());
    }
}

/// The alerts of each rule by day, if the time spans of correlations are that many seconds longer.
fn alerts(events: &[String], longer: &str) -> BTreeMap<String, BTreeMap<String, usize>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    fs::write(&file, events.join("\n") + "\n").unwrap();
    serde_json::from_str(&script("alerts.py", &[file.to_str().unwrap(), longer]).unwrap()).unwrap()
}

/// At most one alert a day and rule, and as many as the tables in docs/DETECTIONS.md say: with the time spans of the
/// rules, and with those of products, which are longer.
#[test]
fn rules_are_quiet_in_weeks_of_normal_activity() {
    let table = fs::read_to_string(root().join("docs/DETECTIONS.md")).unwrap();
    for (seed, longer) in [("15", &["0", "300"][..]), ("16", &["300"][..]), ("17", &["300"][..])] {
        let Some(week) = script("week.py", &[seed]) else {
            return;
        };
        let lines: Vec<String> = week.lines().map(str::to_owned).collect();
        let has_traveller = lines.iter().any(|line| line.contains("\"source\":\"67.43.156.9\""));
        assert!(lines.len() > 5000 && has_traveller);
        let events = located(&lines);
        for (rule, days) in longer.iter().flat_map(|longer| alerts(&events, longer)) {
            // An app that is uninstalled is disabled before: two events.
            let most = if rule == "confluence_audit_app_removed" { 2 } else { 1 };
            assert!(days.values().all(|count| *count <= most), "{rule}, seed {seed}: {days:?}");
            let count: usize = days.values().sum();
            let row = table.lines().find(|line| line.starts_with(&format!("| `{rule}` |"))).unwrap();
            assert!(row.ends_with(&format!("| {count} |")), "{rule}, seed {seed}: {days:?}, but {row}");
        }
    }
}

/// docs/DETECTIONS.md has the alerts of the fixtures.
#[test]
fn rules_find_in_the_fixtures_what_the_document_says() {
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("fixtures/confluence-home/log/audit"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    files.sort();
    let texts = files.iter().map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned());
    let lines: Vec<String> = texts.collect::<String>().lines().map(str::to_owned).collect();
    if check(&["rules"]).is_none() {
        return;
    }
    let document = fs::read_to_string(root().join("docs/DETECTIONS.md")).unwrap();
    let (_, figures) = document.split_once("`fixtures/confluence-home` give ").unwrap();
    let (figures, _) = figures.split_once("\n\n").unwrap();
    let mut all = 0;
    for (rule, days) in alerts(&convert(FormatKind::Ecs, &lines), "0") {
        let count: usize = days.values().sum();
        let name = rule.trim_start_matches("confluence_audit_");
        let figure = format!("`{name}` {count}");
        assert_eq!(figures.contains(&figure), count > 0, "{figure}");
        all += count;
    }
    assert!(figures.starts_with(&format!("{all} alerts")), "{all}");
}
