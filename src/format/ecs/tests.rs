use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::tests::{READ_AT_MS, context, limit, written};
use super::super::{Format, FormatKind};
use super::*;
use crate::config::EnrichConfig;
use crate::enrich::cloud::Cloud;
use crate::enrich::geo::mmdb;
use crate::record::{EventId, Scratch, parse};

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn ecs(context: &Context) -> Format {
    Format::new(FormatKind::Ecs, context)
}

fn event(line: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(&written(&ecs(&context()), line.as_ref(), Origin::Api)).unwrap()
}

/// The reference implementation of the benchmark writes the same events.
#[test]
fn reference_implementation_makes_the_same_events() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mapping");
    let lines = fs::read_to_string(folder.join("pairs.jsonl")).unwrap();
    let more = fs::read(folder.join("file.jsonl")).unwrap();
    let more = String::from_utf8_lossy(&more);
    // Lines as Confluence writes them: without entities, chains of addresses, encoded URIs, wrong types and
    // nested values.
    let odd = ["\"type\":{", "10.1.1.1", "%40", "_hidden", "%eth0", "[2001", ":0F3C", "details", "Wiki.Ex"];
    let mut compared = 0;
    for line in lines.lines().chain(more.lines().take(14)) {
        let line = line.replace("Wiki.Example", "wiki.example");
        if odd.iter().any(|odd| line.contains(odd)) || !line.contains("\"actionI18nKey\"") {
            continue;
        }
        let line = line.replace(",{}]", "]");
        let mut scratch = Scratch::default();
        let content = &parse(line.as_bytes(), &mut scratch);
        let path_json = &format!("\"{}\"", limit::PATH);
        let origin = Origin::File { path_json, offset: limit::OFFSET, unterminated: false };
        let mut out = EventBuffer::new();
        ecs(&context()).write(
            &Event { content, id: EventId(0), origin, self_poll: false, read_at_ms: READ_AT_MS },
            &mut out,
        );
        let mut limited = Vec::new();
        limit::line_to_event(line.as_bytes(), &mut limited);
        let event: Value = serde_json::from_slice(&out.bytes).unwrap();
        assert_eq!(event["event"]["created"], limit::READ_AT);
        assert_eq!(event["event"]["id"], limit::EVENT_ID);
        assert_eq!(event, serde_json::from_slice::<Value>(&limited).unwrap(), "{line}");
        compared += 1;
    }
    assert!(compared >= 10, "{compared}");
}

/// Each row of the table in docs/MAPPING.md, written as in the table.
#[test]
fn taxonomy_rows() {
    const S: &str = "audit.logging.summary.";
    let rows = "
        s.global.permission.added / Global permission added | iam, configuration | creation |
        s.global.permission.removed / Global permission removed | iam, configuration | deletion |
        s.space.permission.added / Space permission added | iam, configuration | creation |
        s.space.permission.removed / Space permission removed | iam, configuration | deletion |
        s.user.created / User created | iam | user, creation |
        s.user.renamed / User renamed | iam | user, change |
        s.user.updated / User details updated | iam | user, change |
        s.user.deleted / User deleted | iam | user, deletion |
        User deactivated | iam | user, change |
        s.user.password.changed | iam | user, change | success
        s.group.membership.added / User added to group | iam | group, change |
        s.group.membership.removed / User removed from group | iam | group, change |
        s.group.created / Group created | iam | group, creation |
        s.group.deleted / Group deleted | iam | group, deletion |
        s.directory.added | iam, configuration | creation |
        personal.access.tokens.audit.log.summary.token.created | iam | admin, creation |
        personal.access.tokens.audit.log.summary.token.deleted | iam | admin, deletion |
        atlassian.audit.event.action.audit.config.updated / Audit Log configuration updated | configuration | change |
        atlassian.audit.event.action.audit.search | configuration | access |
        s.global.settings.edited / Global settings changed | configuration | change |
        s.space.config.updated / Space configuration updated | configuration | change |
        s.space.created / Space created | configuration | creation |
        s.page.created | configuration | creation |
        s.space.removed / Space deleted | configuration | deletion |
        s.page.deleted | configuration | deletion |
        s.space.import / Space import | configuration | creation |
        s.space.export / Space export | configuration | access |
        s.plugin.enabled | package, configuration | change |
        s.plugin.installed | package | installation |
        s.plugin.uninstalled | package, configuration | deletion |
        s.plugin.disabled | package, configuration | change |
        s.login.success | authentication | start | success
        s.login.failed | authentication | info | failure
        s.user.logout | authentication | end |
        s.sudo.logout | authentication | end |
        s.sudo.auth.successful | authentication | start |";
    let words = |text: &str| -> Vec<String> { text.split(", ").map(str::to_owned).collect() };
    for row in rows.trim().lines() {
        let columns: Vec<&str> = row.trim().split('|').map(str::trim).collect();
        for (at, action) in columns[0].split(" / ").enumerate() {
            let action = match action.strip_prefix("s.") {
                Some(key) => format!("{S}{key}"),
                None => action.to_owned(),
            };
            let lines = [
                json!({"auditType": {"actionI18nKey": action}}),
                json!({"type": {"actionI18nKey": action}}),
                json!({"creationDate": 1, "summary": action}),
            ];
            for line in lines {
                let event = &event(line.to_string())["event"];
                assert_eq!(event["action"], json!(action));
                assert_eq!(event["category"], json!(words(columns[1])), "{action} {at}");
                assert_eq!(event["type"], json!(words(columns[2])), "{action}");
                let outcome = columns.get(3).filter(|outcome| !outcome.is_empty());
                assert_eq!(event["outcome"].as_str(), outcome.copied(), "{action}");
            }
        }
    }
}

/// The user and group fields of an event about users.
fn users(shape: &str, action: &str, members: Value) -> Value {
    let mut line = match shape {
        "cloud" => json!({"creationDate": 1, "summary": action, "category": "Users and groups"}),
        "file" => json!({"auditType": {
            "actionI18nKey": format!("audit.logging.summary.{action}"),
            "categoryI18nKey": if action.starts_with("login") { "audit.logging.category.auth" } else { "audit.logging.category.user.management" },
        }}),
        _ => {
            json!({"type": {"actionI18nKey": format!("audit.logging.summary.{action}"), "category": "Users and groups"}})
        }
    };
    for (key, value) in members.as_object().unwrap() {
        line[key] = value.clone();
    }
    let event = event(line.to_string());
    json!({"user": event["user"], "group": event["group"], "related": event["related"]["user"]})
}

#[test]
fn users_and_groups() {
    const ID: &str = "12e51e32-77ee-45ef-a643-55d4c7f6327c";
    let null = Value::Null;
    let group = json!({"type": "Group", "name": "g", "id": "gid"});
    let user = json!({"type": "User", "name": "Ada", "id": "uid", "uri": "http://w/x?username=ada"});
    for shape in ["file", "entity"] {
        for action in ["group.created", "group.deleted"] {
            let found = users(shape, action, json!({"affectedObjects": [user, group]}));
            assert_eq!(found, json!({"user": null, "group": {"name": "g", "id": "gid"}, "related": null}));
        }
        for action in ["group.membership.added", "group.membership.removed"] {
            let found = users(shape, action, json!({"affectedObjects": [user, group]}));
            let target = json!({"name": "Ada", "id": "uid", "group": {"name": "g", "id": "gid"}});
            assert_eq!(
                found,
                json!({"user": {"target": target}, "group": null, "related": ["Ada"]}),
                "{shape} {action}"
            );
        }
        for action in ["user.created", "user.deleted", "user.updated", "user.password.changed"] {
            let found = users(shape, action, json!({"affectedObjects": [group, user]}));
            let target = json!({"full_name": "Ada", "id": "uid", "name": "ada"});
            assert_eq!(
                found,
                json!({"user": {"target": target}, "group": null, "related": ["ada"]}),
                "{action}"
            );
        }
        for action in ["login.success", "login.failed"] {
            let author = json!({"id": "-2", "name": "Anonymous", "uri": "http://w/x?username=old"});
            let found = users(shape, action, json!({"author": author, "affectedObjects": [user]}));
            assert_eq!(found["user"], json!({"full_name": "Ada", "id": "uid", "name": "ada"}));
            let nameless = json!({"type": "User", "id": "other"});
            let found = users(shape, action, json!({"author": author, "affectedObjects": [user, nameless]}));
            assert_eq!(found["user"], json!({"id": "other", "name": "ada"}));
        }
        let renamed =
            json!({"i18nKey": "audit.logging.changed.value.username", "key": "x", "from": "a", "to": "b"});
        let found =
            users(shape, "user.renamed", json!({"affectedObjects": [user], "changedValues": [renamed]}));
        assert_eq!(
            found,
            json!({"user": {"changes": {"name": "b"}, "target": {"name": "a"}}, "group": null, "related": ["a", "b"]})
        );
        for action in ["user.created", "user.updated"] {
            let changes = json!({"changedValues": [
                {"i18nKey": "Username", "from": "a", "to": "b"},
                {"i18nKey": "Email", "to": "b@x"},
                {"i18nKey": "Display name", "from": "A", "to": "B"},
                {"i18nKey": "Other", "from": "A", "to": "B"},
            ]});
            let user = json!({
                "changes": {"name": "b", "email": "b@x", "full_name": "B"},
                "target": {"name": "a", "email": "b@x", "full_name": "A"},
            });
            assert_eq!(users(shape, action, changes)["user"], user);
        }
    }
    let cloud = |action: &str, object: (&str, &str), more: Value| {
        let mut members = more;
        members["affectedObject"] = json!({"name": object.0, "objectType": object.1});
        users("cloud", action, members)
    };
    for action in ["User added to group", "User removed from group"] {
        let found = cloud(
            action,
            (&format!("Ops: A:{ID}"), "Group"),
            json!({"associatedObjects": [{"name": "Ada", "objectType": "User"}]}),
        );
        let target = json!({"name": "Ada", "group": {"name": "Ops: A", "id": ID}});
        assert_eq!(found["user"], json!({"target": target}));
        let found = cloud(action, (&format!("{ID}; User: 712020:x"), "Group"), json!({}));
        assert_eq!(found["user"], json!({"target": {"id": "712020:x", "group": {"id": ID}}}));
    }
    for action in ["Group created", "Group deleted"] {
        let found = cloud(action, (&format!("Ops:{ID}"), "Group"), json!({}));
        assert_eq!(found["group"], json!({"name": "Ops", "id": ID}));
    }
    for action in ["User created", "User details updated", "User deleted", "User deactivated"] {
        assert_eq!(
            cloud(action, ("Ada", "User"), json!({}))["user"],
            json!({"target": {"full_name": "Ada"}})
        );
    }
    let changes = json!({"changedValues": [{"name": "Email", "oldValue": "", "newValue": "b@x"}]});
    let found = cloud("User details updated", ("Ada", "User"), changes);
    assert_eq!(
        found["user"],
        json!({"changes": {"email": "b@x"}, "target": {"full_name": "Ada", "email": "b@x"}})
    );
    // The category is not about users, or there is no action.
    let line = json!({"auditType": {"actionI18nKey": "audit.logging.summary.group.created", "category": "Spaces"}, "affectedObjects": [group]});
    assert_eq!(event(line.to_string())["group"], null);
}

/// The target of an action without a row, by the words of the action.
#[test]
fn f107_targets_of_actions_without_a_row() {
    let fields_of = |action: &str, category: &str| {
        let line = json!({
            "auditType": {"actionI18nKey": action, "categoryI18nKey": format!("audit.logging.category.{category}")},
            "author": {"id": "rita"},
            "affectedObjects": [
                {"type": "Group", "name": "g", "id": "gid"},
                {"type": "User", "name": "Ada", "id": "uid", "uri": "http://w/x?username=ada"},
            ],
        });
        let event = event(line.to_string());
        json!([event["user"]["id"], event["user"]["target"], event["group"]["id"]])
    };
    let ada = json!({"full_name": "Ada", "id": "uid", "name": "ada"});
    let member = json!({"name": "Ada", "id": "uid", "group": {"name": "g", "id": "gid"}});
    for action in
        ["x.user.password.reset", "x.password.reset.failed", "x.avatar.removed", "x.user.sync.failed"]
    {
        assert_eq!(fields_of(action, "user.management"), json!(["rita", ada, null]), "{action}");
        assert_eq!(fields_of(action, "spaces"), json!(["rita", null, null]), "{action}");
    }
    assert_eq!(fields_of("x.user.password.reset", "security"), json!(["rita", ada, null]));
    assert_eq!(fields_of("x.group.member.added", "user.management"), json!(["rita", member, null]));
    assert_eq!(fields_of("x.group.archived", "user.management"), json!(["rita", null, "gid"]));
    assert_eq!(fields_of("x.sso.auth.failed", "auth"), json!(["uid", null, null]));
    assert_eq!(fields_of("x.captcha.failed", "auth"), json!(["uid", null, null]));
    // Actions that no rule matches, and rows without a target.
    for action in [
        "x.user.reindexed",
        "audit.logging.summary.sudo.auth.successful",
        "audit.logging.summary.directory.added",
    ] {
        assert_eq!(fields_of(action, "user.management"), json!(["rita", null, null]), "{action}");
    }
}

#[test]
fn f69_source_chain() {
    let event = event(
        r#"{"auditType":{"action":"x"},"source":"unknown, 192.0.2.1:80, [2001:db8::1]:443,192.0.2.1,fe80::1%eth0"}"#,
    );
    assert_eq!(event["source"]["ip"], "192.0.2.1");
    assert_eq!(event["source"]["address"], "unknown, 192.0.2.1:80, [2001:db8::1]:443,192.0.2.1,fe80::1%eth0");
    assert_eq!(event["related"]["ip"], json!(["192.0.2.1", "2001:db8::1", "fe80::1"]));
    assert_eq!(event["event"]["kind"], "event");
    let none = self::event(r#"{"auditType":{"action":"x"},"source":"localhost"}"#);
    assert_eq!(none["source"], json!({"address": "localhost"}));
    assert_eq!(none["related"], Value::Null);
}

#[test]
fn f34_control_characters_pass_through() {
    for name in ["\u{1b}[2J", "a\nb\r\tc", "\u{202e}evil\u{2066}", "\u{7f}\u{85}", "\u{0}"] {
        let line = json!({"auditType": {"action": name}, "author": {"name": name}, "affectedObjects": [{"name": name, "type": "Page"}]}).to_string();
        let bytes = written(&ecs(&context()), line.as_bytes(), Origin::Api);
        assert!(!bytes.iter().any(|byte| *byte < 0x20), "one line, nothing raw in it");
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(event["user"]["full_name"], name);
        assert_eq!(event["confluence"]["audit"]["affected_objects"][0]["name"], name);
        assert_eq!(event["event"]["original"], line.as_str());
        assert_eq!(event["message"], format!("{name}: {name}: Page {name}"));
    }
}

#[test]
fn context_changes_the_constants() {
    let line = r#"{"auditType":{"action":"x"},"system":"https://wiki.example.org"}"#;
    let with = |change: &dyn Fn(&mut Context), origin: Origin| -> Value {
        let mut context = context();
        change(&mut context);
        serde_json::from_slice(&written(&ecs(&context), line.as_bytes(), origin)).unwrap()
    };
    let event = with(&|_| {}, Origin::Api);
    assert_eq!(event["tags"], json!(["preserve_original_event", "confluence-audit"]));
    assert_eq!(event["confluence"]["audit"]["site"], "wiki.example.org");
    assert_eq!(event["log"], Value::Null);
    let event = with(
        &|context| {
            context.tags = Some(vec!["forwarded".to_owned(), "x\"y".to_owned()]);
            context.site = Some("My \"Wiki\"".to_owned());
            context.namespace = "prod".to_owned();
            context.preserve_original_event = false;
        },
        Origin::File { path_json: "\"/a\\\"b\"", offset: 17, unterminated: true },
    );
    assert_eq!(event["tags"], json!(["forwarded", "x\"y", "unterminated"]));
    assert_eq!(event["host"], Value::Null);
    assert_eq!(event["confluence"]["audit"]["site"], "My \"Wiki\"");
    assert_eq!(event["data_stream"]["namespace"], "prod");
    assert_eq!(event["event"]["original"], Value::Null);
    assert_eq!(event["log"], json!({"file": {"path": "/a\"b"}, "offset": 17}));
}

/// With databases, the location of the first valid address of the chain is written as far as it is known.
#[test]
fn locations_of_addresses() {
    let dir = tempfile::tempdir().unwrap();
    let [city, asn] = ["city.mmdb", "asn.mmdb"].map(|name| dir.path().join(name));
    fs::write(&city, mmdb::city()).unwrap();
    fs::write(&asn, mmdb::asn()).unwrap();
    let config = EnrichConfig { geoip_city: Some(city), geoip_asn: Some(asn), ..EnrichConfig::default() };
    let geo = Geo::new(&config, dir.path());
    geo.refresh();
    let context = Context { geo: Some(Arc::new(geo)), ..context() };
    let source = |shape: &str, address: &str| {
        let line = match shape {
            "cloud" => json!({"creationDate": 1_767_323_045_000_u64, "remoteAddress": address}),
            shape => json!({"timestamp": {"epochSecond": 1}, shape: {"action": "x"}, "source": address}),
        };
        let line = line.to_string();
        let event = written(&ecs(&context), line.as_bytes(), Origin::Api);
        let event: Value = serde_json::from_slice(&event).unwrap();
        event["source"].clone()
    };
    for shape in ["auditType", "type", "cloud"] {
        assert_eq!(
            source(shape, "unknown, 81.2.69.143:4711, 2a02:cf40::1"),
            json!({
                "address": "unknown, 81.2.69.143:4711, 2a02:cf40::1",
                "as": {"number": 20712, "organization": {"name": "Andrews & Arnold Ltd"}},
                "geo": {
                    "city_name": "London", "continent_name": "Europe", "country_iso_code": "GB",
                    "country_name": "United Kingdom", "location": {"lat": 51.5142, "lon": -0.0931},
                    "region_iso_code": "GB-ENG", "region_name": "England",
                },
                "ip": "81.2.69.143",
            }),
            "{shape}"
        );
    }
    let oslo = source("auditType", "[2a02:cf40::1]:443");
    assert_eq!(oslo["geo"]["city_name"], "\"Oslo\"\n");
    assert_eq!(oslo["geo"]["location"], json!({"lat": 59, "lon": 10}));
    assert_eq!(oslo["geo"].get("region_name"), None);
    assert_eq!(oslo["as"]["number"], 4_200_000_000_u64);
    let bhutan = source("auditType", "67.43.156.9");
    let expected = json!({"address": "67.43.156.9", "geo": {"country_iso_code": "BT", "country_name": "Bhutan"}, "ip": "67.43.156.9"});
    assert_eq!(bhutan, expected);
    for nowhere in ["192.168.1.1", "::1", "8.8.8.8"] {
        let expected = json!({"address": nowhere, "ip": nowhere});
        assert_eq!(source("auditType", nowhere), expected);
    }
    assert_eq!(source("auditType", "unknown"), json!({"address": "unknown"}));
}

/// `cloud` describes the agent's host. It is only in events of that host's files and of its Data Center.
#[test]
fn cloud_instance_of_the_host() {
    let context = Context {
        cloud: Some(Cloud {
            provider: "aws",
            account_id: text("123456789012"),
            availability_zone: text("eu-central-1b"),
            image_id: text("ami-0abcd"),
            instance_id: text("i-0123456789abcdef0"),
            machine_type: None,
            region: text("eu-central-1"),
        }),
        ..context()
    };
    let cloud = |line: &str| {
        let event = written(&ecs(&context), line.as_bytes(), Origin::Api);
        serde_json::from_slice::<Value>(&event).unwrap().get("cloud").cloned()
    };
    let expected = json!({
        "account": {"id": "123456789012"}, "availability_zone": "eu-central-1b", "image": {"id": "ami-0abcd"},
        "instance": {"id": "i-0123456789abcdef0"}, "provider": "aws", "region": "eu-central-1",
    });
    assert_eq!(cloud(r#"{"auditType":{"action":"x"}}"#), Some(expected.clone()));
    assert_eq!(cloud(r#"{"type":{"action":"x"}}"#), Some(expected));
    assert_eq!(cloud(r#"{"creationDate":1767323045000}"#), None);
    assert_eq!(cloud("no record"), None);
}
