use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};

use super::super::tests::{READ_AT_MS, context, drifted, fixtures, written};
use super::super::{Format, FormatKind};
use super::*;
use crate::format::taxonomy;
use crate::notice;
use crate::skip::skip;

const NO_SCHEMA: &str = "the published schema is not installed in target/tools/ocsf; `.ci/run` does that";

/// `.ci/run` installs the published schema and its validator there.
fn python() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/ocsf/bin/python");
    python.exists().then_some(python)
}

fn event(line: &Value) -> Value {
    let format = Format::new(FormatKind::Ocsf, &context());
    serde_json::from_slice(&written(&format, line.to_string().as_bytes(), Origin::Api)).unwrap()
}

/// An event for each row of the taxonomy in each shape, with and without objects.
fn event_of_each_row() -> Vec<Value> {
    let user =
        json!({"type": "User", "name": "Ada", "id": "u-1", "uri": "https://wiki.example/x?username=ada"});
    let group = json!({"type": "Group", "name": "ops", "id": "g-1"});
    let space =
        json!({"type": "Space", "name": "Team", "id": "98305", "uri": "https://wiki.example/display/T"});
    let objects =
        [json!([]), json!([user]), json!([group]), json!([user, group, space]), json!([{"name": "untyped"}])];
    let changes = json!([
        {"key": "Type", "i18nKey": "Type", "to": "VIEWSPACE"},
        {"key": "Email", "i18nKey": "Email", "from": "no address", "to": "ada@example.org"},
    ]);
    let mut lines = Vec::new();
    // Actions that are classified by rule: one for each class and activity.
    let by_rule = [
        "x.user.created",
        "x.user.enabled",
        "x.password.changed",
        "x.password.reset",
        "x.user.disabled",
        "x.user.deleted",
        "x.user.locked",
        "x.user.unlocked",
        "x.user.moved",
        "x.login",
        "x.logout",
        "x.auth.failed",
        "x.group.created",
        "x.group.deleted",
        "x.permission.granted",
        "x.permission.revoked.failed",
        "x.thing.enabled",
        "x.thing.disabled",
        "x.thing.moved",
        "x.thing.export",
        "x.thing.import",
        "x.thing.viewed",
        "x.thing.searched",
        "x.thing.deleted",
        "x.thing.copied",
        "x.thing.reindexed",
        "x.thing.failed",
    ];
    const C: &str = "audit.logging.category.";
    let rows = taxonomy::actions().map(|action| (action, &objects[..], &["user.management", "auth", ""][..]));
    let categories = ["user.management", "auth", "permissions", "plugins", "pages", ""];
    let by_rule = by_rule.map(|action| (action, &objects[2..4], &categories[..]));
    for (action, objects, categories) in rows.chain(by_rule) {
        for objects in objects {
            for category in categories.iter().map(|category| format!("{C}{category}")) {
                let kind = json!({"action": "Text", "actionI18nKey": action, "categoryI18nKey": category, "area": "SECURITY"});
                let author = json!({"id": "-2", "name": "Anonymous", "type": "user"});
                let mut file = json!({"auditType": kind, "author": author, "affectedObjects": objects, "changedValues": changes});
                lines.push(file.clone());
                file["source"] = json!("::ffff:255.255.255.255, 192.0.2.1");
                file["system"] = json!("https://wiki.example/confluence");
                lines.push(file.clone());
                file["type"] = file["auditType"].take();
                file["timestamp"] = json!("2026-01-02T03:04:05.678Z");
                lines.push(file);
            }
            let of_cloud: Vec<Value> = objects
                .as_array()
                .unwrap()
                .iter()
                .map(|object| json!({"name": object["name"], "objectType": object["type"]}))
                .collect();
            let first = of_cloud.first().cloned().unwrap_or(json!({"name": "", "objectType": ""}));
            lines.push(json!({
                "creationDate": 1_767_322_800_054_i64,
                "summary": action,
                "category": "Users and groups",
                "author": {"displayName": "Kim", "accountId": "712020:x"},
                "remoteAddress": "2001:db8::1",
                "sysAdmin": true,
                "affectedObject": first,
                "associatedObjects": of_cloud,
            }));
        }
    }
    lines
}

/// Fixtures with random changes. The seed is printed.
fn random(count: usize) -> Vec<Vec<u8>> {
    let seed: Vec<u8> =
        [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].iter().flat_map(|part| *part.as_bytes()).collect();
    println!("seed {seed:?}");
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let strategy = (any::<usize>(), prop::collection::vec((any::<usize>(), 0_usize..10), 1..4));
    (0..count)
        .filter_map(|_| {
            let (which, changes) = strategy.new_tree(&mut runner).unwrap().current();
            drifted(which, &changes)
        })
        .collect()
}

#[test]
fn events_are_valid_by_the_published_schema() {
    let Some(python) = python() else {
        return skip("ocsf-schema", NO_SCHEMA);
    };
    let format = Format::new(FormatKind::Ocsf, &context());
    let mut lines: Vec<Vec<u8>> =
        event_of_each_row().iter().map(|line| line.to_string().into_bytes()).collect();
    lines.extend(fixtures());
    let homes = ["confluence-home", "damaged-home"].map(|home| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        fs::read_dir(fixtures.join(home).join("log/audit")).unwrap()
    });
    for file in homes.into_iter().flatten().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "log") {
            let bytes = fs::read(file).unwrap();
            lines.extend(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        }
    }
    lines.extend(random(500));
    let mut events = tempfile::NamedTempFile::new().unwrap();
    let file =
        Origin::File { path_json: "\"/log/audit/20260102.00000.audit.log\"", offset: 17, unterminated: true };
    for (at, line) in lines.iter().enumerate() {
        let origin = if at % 2 == 0 { Origin::Api } else { file };
        events.write_all(&written(&format, line, origin)).unwrap();
        events.write_all(b"\n").unwrap();
    }
    let mut out = EventBuffer::new();
    let mut fields = notice::Fields::default();
    fields.number("events", 7);
    fields.text("input", "file");
    let actions = [notice::GAP, notice::STARTED, notice::STOPPED, notice::HEARTBEAT];
    for action in actions {
        let notice = Notice::new(action, "wiki", "once", READ_AT_MS, "a gap".to_owned());
        format.write_notice(&notice.with_fields(fields.clone()), &mut out);
        out.put("\n");
    }
    events.write_all(&out.bytes).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf/validate.py");
    let validated = Command::new(python).arg(script).arg("1.8.0").arg(events.path()).output().unwrap();
    let report = String::from_utf8_lossy(&validated.stdout);
    assert!(validated.status.success(), "{report}\n{}", String::from_utf8_lossy(&validated.stderr));
    assert_eq!(report.trim(), format!("{} valid", lines.len() + actions.len()));
}

/// Invalid events are reported: the test above can fail.
#[test]
fn validation_finds_faults() {
    let Some(python) = python() else {
        return skip("ocsf-schema", NO_SCHEMA);
    };
    let good = event(&json!({"auditType": {"actionI18nKey": "audit.logging.summary.user.created"}}));
    let mut faults = Vec::new();
    for (pointer, value) in [
        ("/class_uid", json!(3002)),
        ("/activity_id", json!(77)),
        ("/activity_name", json!("Delete")),
        ("/type_uid", json!(300_102)),
        ("/time", json!("2026")),
        ("/user", json!({})),
        ("/metadata/product", Value::Null),
        ("/severity", json!("Loud")),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        faults.push(bad);
    }
    let mut unknown = good.clone();
    unknown["unknown_attribute"] = json!(1);
    faults.push(unknown);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ocsf/validate.py");
    for bad in &faults {
        let mut events = tempfile::NamedTempFile::new().unwrap();
        writeln!(events, "{bad}").unwrap();
        let status = Command::new(&python).arg(&script).arg("1.8.0").arg(events.path()).output().unwrap();
        assert_eq!(status.status.code(), Some(1), "{bad}");
    }
}

#[test]
fn classes_and_parts() {
    let line = |action: &str, objects: Value| {
        json!({
            "auditType": {
                "action": "Text", "actionI18nKey": format!("audit.logging.summary.{action}"),
                "categoryI18nKey": "audit.logging.category.user.management",
            },
            "author": {"id": "k-1", "name": "Kim", "type": "user", "uri": "https://w/x?username=kim"},
            "affectedObjects": objects,
            "changedValues": [{"key": "Typ", "i18nKey": "Type", "to": "VIEWSPACE"}],
            "source": "192.0.2.1, 10.0.0.1",
            "system": "https://wiki.example",
        })
    };
    let group = json!({"type": "Group", "name": "ops", "id": "ops"});
    let user = json!({"type": "User", "name": "Ada", "id": "u-1"});
    let space = json!({"type": "Space", "name": "Team", "id": "98305"});

    let added = event(&line("group.membership.added", json!([group, user])));
    assert_eq!((&added["type_uid"], &added["activity_name"]), (&json!(300_603), &json!("Add User")));
    assert_eq!(added["group"], json!({"name": "ops", "uid": "ops"}));
    assert_eq!(added["user"]["uid"], "u-1");
    assert_eq!(added["actor"]["user"]["name"], "kim");
    assert_eq!(added["src_endpoint"], json!({"ip": "192.0.2.1", "intermediate_ips": ["10.0.0.1"]}));

    let to_user = event(&line("space.permission.added", json!([user, space])));
    assert_eq!(to_user["type_uid"], 300_501);
    assert_eq!(to_user["privileges"], json!(["VIEWSPACE"]));
    assert_eq!(to_user["user"]["uid"], "u-1");
    assert_eq!(to_user["resources"], json!([{"name": "Team", "type": "Space", "uid": "98305"}]));

    let to_group = event(&line("space.permission.removed", json!([group, space])));
    assert_eq!(to_group["type_uid"], 300_602);
    assert_eq!(to_group["resource"]["name"], "Team");

    let failed = event(&line("login.failed", json!([user])));
    assert_eq!((&failed["type_uid"], &failed["status_id"]), (&json!(300_201), &json!(2)));
    assert_eq!(failed["user"]["uid"], "u-1");

    let removed = event(&line("space.removed", json!([space])));
    assert_eq!((&removed["type_uid"], &removed["severity"]), (&json!(600_104), &json!("High")));

    let settings = event(&line("global.settings.edited", json!([])));
    assert_eq!((&settings["type_uid"], &settings["entity"]["type_id"]), (&json!(300_403), &json!(99)));

    let unknown = event(&line("widget.updated", json!([space])));
    assert_eq!((&unknown["type_uid"], &unknown["resources"][0]["uid"]), (&json!(600_303), &json!("98305")));
    assert_eq!(unknown["api"]["operation"], "audit.logging.summary.widget.updated");
}

/// A person, or the placeholder for everybody.
#[test]
fn f107_whom_a_permission_or_a_rename_is_about() {
    let granted = |user: Value| {
        let space = json!({"type": "Space", "name": "HQ", "id": "1"});
        event(&json!({
            "type": {"actionI18nKey": "audit.logging.summary.space.permission.added", "categoryI18nKey": "audit.logging.category.permissions"},
            "affectedObjects": [user, space],
        }))["user"]
        .clone()
    };
    let tom = json!({"type": "User", "name": "Tom Example", "id": "k-2", "uri": "https://w/x?username=tom"});
    assert_eq!(
        granted(tom.clone()),
        json!({"type": "User", "type_id": 1, "full_name": "Tom Example", "name": "tom", "uid": "k-2"})
    );
    for nobody in [
        json!({"type": "User", "name": "Anonymous"}),
        json!({"type": "User", "name": "Anonym"}),
        json!({"type": "User", "name": "Anonymous", "id": "-2"}),
    ] {
        assert_eq!(
            (&granted(nobody.clone())["type_id"], &granted(nobody)["type"]),
            (&json!(0), &json!("Unknown"))
        );
    }
    // A person with that name.
    assert_eq!(granted(json!({"type": "User", "name": "Anonymous", "id": "k-3"}))["type_id"], 1);
    let cloud =
        event(&json!({"creationDate": 1, "summary": "Space permission added", "category": "Permissions",
        "affectedObject": {"name": "Tom", "objectType": "User"}, "associatedObjects": []}));
    assert_eq!(cloud["user"]["type_id"], 1);
    let cloud =
        event(&json!({"creationDate": 1, "summary": "Space permission added", "category": "Permissions",
        "affectedObject": {"name": "anonymous", "objectType": "User"}, "associatedObjects": []}));
    assert_eq!(cloud["user"]["type_id"], 0);

    let renamed = event(&json!({
        "auditType": {"actionI18nKey": "audit.logging.summary.user.renamed", "categoryI18nKey": "audit.logging.category.user.management"},
        "affectedObjects": [tom],
        "changedValues": [{"i18nKey": "audit.logging.changed.value.username", "key": "Username", "from": "tom", "to": "tom2"}],
    }));
    assert_eq!((&renamed["user"]["uid"], &renamed["user"]["name"]), (&json!("k-2"), &json!("tom")));
    assert_eq!(renamed["user_result"]["name"], "tom2");
}

#[test]
fn f108_an_object_is_a_resource_once() {
    let page = json!({"name": "Plans", "objectType": "Page"});
    let space = json!({"name": "HQ", "objectType": "Space"});
    for (summary, category, list) in [
        ("Page archived", "Page", "web_resources"),
        ("Content restriction added", "Permissions", "resources"),
        ("Public links enabled", "Public links", "unmapped"),
    ] {
        let event = event(
            &json!({"creationDate": 1, "summary": summary, "category": category, "affectedObject": page,
            "associatedObjects": [page, space]}),
        );
        let mut without_original = event.clone();
        without_original["raw_data"].take();
        without_original["message"].take();
        without_original["entity"].take();
        assert!(!event[list].is_null(), "{event}");
        assert_eq!(without_original.to_string().matches("Plans").count(), 1, "{event}");
    }
}

#[test]
fn account_changes_and_their_outcome_are_mapped() {
    let updated =
        event(&json!({"creationDate": 1, "summary": "User details updated", "category": "Users and groups",
        "affectedObject": {"name": "Tom", "objectType": "User"},
        "changedValues": [{"name": "Active", "oldValue": "Yes", "newValue": "No"}]}));
    assert_eq!(
        (&updated["type_uid"], &updated["activity_name"], &updated["user"]["name"]),
        (&json!(300_105), &json!("Disable"), &json!("Tom"))
    );
    let sudo = event(&json!({"auditType": {"actionI18nKey": "audit.logging.summary.sudo.auth.successful"}}));
    assert_eq!((&sudo["status_id"], &sudo["status"]), (&json!(1), &json!("Success")));
    let nothing = event(&json!({"auditType": {"action": "Nur ein Text"}}));
    assert_eq!((&nothing["activity_id"], &nothing["activity_name"]), (&json!(99), &json!("Nur ein Text")));
    let nothing = event(&json!({"auditType": {"area": "SECURITY"}}));
    assert_eq!((&nothing["activity_id"], &nothing["activity_name"]), (&json!(99), &json!("Other")));
}

#[test]
fn an_agent_without_an_id_has_none() {
    let mut context = context();
    context.agent.id.clear();
    let format = Format::new(FormatKind::Ocsf, &context);
    let bytes = written(&format, b"{\"auditType\":{\"action\":\"x\"}}", Origin::Api);
    let event: Value = serde_json::from_slice(&bytes).unwrap();
    let logger = &event["metadata"]["loggers"][0];
    assert!(logger["uid"].is_null() && logger["name"].is_string(), "{logger}");
}
