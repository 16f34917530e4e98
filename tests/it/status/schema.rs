//! docs/STATUS.md and the JSON of `/status` are compared.

use super::*;
use std::collections::BTreeSet;

/// The member names of a value with their paths. Elements of a list share one path, and so do the areas of the
/// coverage.
fn members(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) if path != "sources[].coverage" => {
            for (name, value) in object {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                members(value, &path, found);
                found.insert(path);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The first column of the tables.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/STATUS.md")).unwrap();
    let cells = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    cells.map(|(path, _)| path.to_owned()).filter(|path| !path.starts_with('-')).collect()
}

#[test]
fn the_json_has_the_documented_members() {
    let mut with_file = Host::new();
    with_file.admin();
    let (mut writer, file) = with_file.audit_file(8, 20);
    let mut agent = with_file.start();
    until_status(&with_file, &mut agent, "it has read", |status| {
        status["sources"][0]["activity"]["events"] == 20
    });
    fs::write(&file.path, b"").unwrap();
    writer.append(&file, 1);
    let reconciled = "{\"local\":{\"at_ms\":1795950000000,\"missing\":3,\"altered\":1}}";
    fs::write(with_file.state().join("reconcile.json"), reconciled).unwrap();
    let healthy = until_status(&with_file, &mut agent, "a change is shown", |status| {
        !status["sources"][0]["changes"].as_array().is_none_or(Vec::is_empty)
    });
    let sink = &healthy["sources"][0]["sinks"][0];
    assert_eq!(sink["health"], "warning", "{sink}");
    assert!(sink["warnings"][0].as_str().unwrap().contains("3 missing and 1 altered"), "{sink}");
    let (host, ..) = with_dead_server();
    let mut failing_agent = host.start();
    let failing = until_status(&host, &mut failing_agent, "it fails", |status| status["health"] == "failure");
    let mut found = BTreeSet::new();
    members(&healthy, "", &mut found);
    members(&failing, "", &mut found);
    // Only a source with files and an API has these.
    found.extend(["active", "reason"].map(|name| format!("sources[].fallback.{name}")));
    // Described with their source: of sinks it is the same.
    found.retain(|path| !path.starts_with("sources[].sinks[].activity."));
    assert_eq!(documented(), found);
}
