//! What events look like on their way out of the real binary. The rules themselves are tested next to the code.

use crate::rig::stdout_of;
use serde_json::{Value, json};
use std::process::Command;

/// The lines of `convert` for these records in a format.
fn converted(records: &[Value], format: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("records.jsonl");
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    std::fs::write(&file, lines).unwrap();
    let mut convert = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    let text = stdout_of(convert.args(["convert", "--format", format]).arg(&file));
    text.lines().map(str::to_owned).collect()
}

fn json_of(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn actions_that_nobody_listed_are_ranked_and_name_whom_they_concern() {
    let tom = json!({"type": "User", "name": "Tom Example", "id": "k-2", "uri": "https://w/x?a=1/viewuser.action?username=tom"});
    let of_data_center = |action: &str, category: &str| {
        json!({
            "timestamp": "2026-01-02T03:04:05Z", "system": "https://wiki.example",
            "type": {"action": "a", "actionI18nKey": action, "category": "c", "categoryI18nKey": format!("audit.logging.category.{category}")},
            "author": {"id": "k-1", "name": "Rita", "type": "user", "uri": "https://w/x?a=1/viewuser.action?username=rita"},
            "affectedObjects": [tom],
        })
    };
    let records = [
        of_data_center("x.user.password.reset.failed", "user.management"),
        of_data_center("audit.logging.summary.space.permission.added", "permissions"),
        of_data_center("x.y.backup.exported", "nowhere"),
        json!({"creationDate": 1, "summary": "User reactivated", "category": "Users and groups",
            "affectedObject": {"name": "Tom Example", "objectType": "User"},
            "associatedObjects": [{"name": "Tom Example", "objectType": "User"}]}),
    ];
    let ecs = json_of(&converted(&records, "ecs"));
    assert_eq!(ecs[0]["event"]["outcome"], "failure");
    assert_eq!(ecs[0]["user"]["target"], json!({"full_name": "Tom Example", "id": "k-2", "name": "tom"}));
    assert_eq!(ecs[1]["user"]["name"], "rita");
    assert_eq!(ecs[3]["event"]["category"], json!(["iam"]));

    let cef = converted(&records, "cef");
    for (event, severity, target) in [
        (&cef[0], "|5|", " duser=tom duid=k-2 "),
        (&cef[1], "|5|", " duser=tom duid=k-2 "),
        (&cef[2], "|5|", " act=access "),
        (&cef[3], "|5|", " duser=Tom Example "),
    ] {
        assert!(event.contains(severity) && event.contains(target), "{event}");
    }
    assert!(cef[3].contains(" cs3=User Tom Example cs3Label="), "{}", cef[3]);

    let ocsf = json_of(&converted(&records, "ocsf"));
    let kinds: Vec<_> = ocsf.iter().map(|event| event["type_uid"].as_u64().unwrap()).collect();
    assert_eq!(kinds, [300_104, 300_501, 600_107, 300_102]);
    assert_eq!(ocsf[1]["user"]["uid"], "k-2");
    for event in &ocsf {
        // Nothing to run with, so no id of an agent.
        assert!(event["metadata"]["loggers"][0]["uid"].is_null());
    }
    let sentinel = json_of(&converted(&records, "sentinel"));
    assert!(sentinel.iter().all(|event| event["affectedObject"]["type"] == "User"));
}
