//! The workbook for Sentinel, and the files for Splunk. Neither product can be had here: their syntax is checked, and
//! that the fields in them exist.

use super::{read, root};
use crate::rig::skip;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::Command;

const WORKBOOK: &str = "packaging/sentinel/workbook.json";
const COLUMNS: &str = "fixtures/sentinel/columns.txt";
const SPLUNK: [&str; 4] = ["dashboard.xml", "eventtypes.conf", "props.conf", "tags.conf"];

#[test]
fn the_queries_of_the_workbook_are_valid_for_the_columns_of_the_table() {
    let workbook: Value = serde_json::from_str(&read(WORKBOOK)).unwrap();
    let items = workbook["items"].as_array().unwrap();
    let names: BTreeSet<&str> = items.iter().map(|item| item["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), items.len(), "a name occurs twice");
    if !root().join("target/tools/kusto/node_modules").is_dir() {
        skip("kusto", "Microsoft's parser of queries is not installed; tests/peers/install.sh does it");
        return;
    }
    let mut check = Command::new("node");
    check.arg("tests/sentinel/check.cjs").args([WORKBOOK, COLUMNS]).current_dir(root());
    let output = check.output().unwrap();
    let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && printed.contains("13 queries, 0 errors"), "{printed}");
}

fn splunk(file: &str) -> String {
    read(&format!("packaging/splunk/{file}"))
}

/// Stanzas of a `.conf` file, each with its keys and values.
fn stanzas(file: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut all: Vec<(String, Vec<(String, String)>)> = Vec::new();
    for line in splunk(file).lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[') {
            all.push((name.strip_suffix(']').expect("a stanza ends").to_owned(), Vec::new()));
        } else {
            let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{file}: {line}"));
            let opens = |open, close| value.matches(open).count() == value.matches(close).count();
            assert!(
                opens('(', ')') && opens('{', '}') && value.matches('"').count().is_multiple_of(2),
                "{line}"
            );
            all.last_mut().expect("a stanza first").1.push((key.to_owned(), value.to_owned()));
        }
    }
    all
}

#[test]
fn splunk_files_refer_to_each_other() {
    let sourcetypes: Vec<String> = stanzas("props.conf").into_iter().map(|(name, _)| name).collect();
    assert_eq!(sourcetypes, ["confluence:audit"]);
    let types = stanzas("eventtypes.conf");
    for (name, keys) in &types {
        assert!(keys[0].1.starts_with("sourcetype=\"confluence:audit\""), "{name}");
    }
    let types: BTreeSet<String> = types.into_iter().map(|(name, _)| name).collect();
    for (stanza, tags) in stanzas("tags.conf") {
        assert!(types.contains(stanza.strip_prefix("eventtype=").unwrap()), "{stanza}");
        assert!(tags.iter().all(|(_, value)| value == "enabled"), "{stanza}");
    }
    let dashboard = splunk("dashboard.xml");
    let named = dashboard.split("eventtype=").skip(1).map(|rest| rest.split([' ', '<']).next().unwrap());
    named.for_each(|name| assert!(types.contains(name), "the dashboard names the event type {name}"));
    let parser = "import sys, xml.dom.minidom as dom; print(len(dom.parse(sys.argv[1]).getElementsByTagName('query')))";
    let output = Command::new("python3")
        .args(["-c", parser, "packaging/splunk/dashboard.xml"])
        .current_dir(root())
        .output();
    match output {
        Ok(output) => assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "17", "{output:?}"),
        Err(error) => skip("python3", &format!("no parser of XML: {error}")),
    }
}

/// The fields of the format `ecs`, as the index template has them.
fn is_field(mappings: &Value, name: &str) -> bool {
    let mut at = mappings;
    for part in name.split('.') {
        at = match at["type"] == "flattened" || at["type"] == "geo_point" {
            true => at,
            false => &at["properties"][part],
        };
    }
    at.get("type").is_some()
}

#[test]
fn fields_in_the_files_for_splunk_exist() {
    let template = read("packaging/elasticsearch/index-template.elasticsearch.json");
    let template: Value = serde_json::from_str(&template).unwrap();
    let mappings = &template["template"]["mappings"];
    let mut found = BTreeSet::new();
    for file in SPLUNK {
        for word in splunk(file).split([' ', '(', ')', '\'', ',', '\n', '>', '<']) {
            let name = word.split('=').next().unwrap().replace("{}", "");
            let is_name =
                |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
            let roots = ["agent", "confluence", "event", "host", "source", "user"];
            if name.split('.').count() > 1
                && name.split('.').all(is_name)
                && roots.contains(&name.split('.').next().unwrap())
            {
                assert!(is_field(mappings, &name), "{file}: no field {name} in {word}");
                found.insert(name);
            }
        }
    }
    assert!(found.len() > 12, "{found:?}");
    assert!(!is_field(mappings, "event.actoin") && !is_field(mappings, "event"));
}
