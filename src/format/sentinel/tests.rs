use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::tests::{context, written};
use super::super::{Format, FormatKind, Origin};

/// A column of Microsoft's table: its name, its type, and the member that Microsoft's rule fills it from.
struct Column {
    name: String,
    kind: String,
    from: String,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn published() -> Vec<Column> {
    let text = read("fixtures/sentinel/columns.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let parts: Vec<&str> = line.splitn(3, ' ').collect();
            let [name, kind, from] = parts[..] else { panic!("{line}") };
            Column { name: name.into(), kind: kind.into(), from: from.into() }
        })
        .collect()
}

/// The user's own rule as docs/sinks/sentinel.md builds it: the JSON, with the transformation as one line.
fn documented() -> Value {
    let document = read("docs/sinks/sentinel.md");
    let block = |language: &str, content: &str| {
        let at = document.find(content).unwrap();
        let start = document[..at].rfind(language).unwrap() + language.len();
        document[start..].split("```").next().unwrap().to_owned()
    };
    let mut rule: Value = serde_json::from_str(&block("```json", "\"kind\": \"Direct\"")).unwrap();
    let kql = block("```kusto", "| project");
    let words: Vec<&str> = kql.split_whitespace().collect();
    rule["properties"]["dataFlows"][0]["transformKql"] = words.join(" ").into();
    rule
}

/// The expression of each column in a rule: `name = expression`.
fn projected(rule: &Value) -> Vec<(String, String)> {
    let kql = rule["properties"]["dataFlows"][0]["transformKql"].as_str().unwrap();
    let list = kql.strip_prefix("source | project ").unwrap();
    list.split(", ")
        .map(|item| {
            let (name, expression) = item.split_once(" = ").unwrap();
            (name.to_owned(), expression.to_owned())
        })
        .collect()
}

const TIME: &str = "datetime(1970-01-01) + creationDate * 1ms";

/// The type of an expression, and its value for a record. Supports the few expressions that are used.
fn evaluated(expression: &str, declared: &Value, record: &Value) -> (String, Value) {
    let member =
        |path: &str| record.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default();
    let root_kind = |path: &str| -> String {
        let root = path.split('.').next().unwrap();
        let columns = declared.as_array().unwrap();
        let column = columns.iter().find(|column| column["name"] == root);
        column.unwrap_or_else(|| panic!("`{root}` is not declared"))["type"].as_str().unwrap().to_owned()
    };
    if expression == TIME {
        assert_eq!(root_kind("creationDate"), "long");
        return ("datetime".into(), member("creationDate"));
    }
    if let Some(text) = expression.strip_prefix('\'') {
        return ("string".into(), json!(text.strip_suffix('\'').unwrap()));
    }
    for (function, kind) in [("tostring(", "string"), ("tobool(", "boolean")] {
        if let Some(path) = expression.strip_prefix(function) {
            let path = path.strip_suffix(')').unwrap();
            assert_eq!(root_kind(path), "dynamic", "{path}");
            return (kind.into(), member(path));
        }
    }
    assert!(!expression.contains(['.', '(', ' ']), "`{expression}` has no type");
    (root_kind(expression), member(expression))
}

fn record(line: &Value) -> Value {
    let format = Format::new(FormatKind::Sentinel, &context());
    serde_json::from_slice(&written(&format, line.to_string().as_bytes(), Origin::Api)).unwrap()
}

fn records() -> [Value; 2] {
    let cloud = json!({
        "author": {"type": "user", "displayName": "Sam", "accountId": "712020:a", "username": "sam", "userKey": "k", "accountType": "atlassian",
            "publicName": "Sam O", "externalCollaborator": true, "isExternalCollaborator": true},
        "remoteAddress": "192.0.2.1", "creationDate": 1_767_322_800_054_i64, "summary": "Space created", "description": "d",
        "category": "Spaces", "sysAdmin": true, "superAdmin": true, "affectedObject": {"name": "HQ", "objectType": "Space"},
        "changedValues": [{"name": "n", "oldValue": "a", "newValue": "b"}], "associatedObjects": [{"name": "x", "objectType": "Page"}],
    });
    let file = json!({
        "auditType": {"action": "Space created", "category": "Spaces"}, "timestamp": {"epochSecond": 1_767_322_800, "nano": 54_000_000},
        "author": {"id": "k-1", "name": "Rita", "type": "user", "uri": "https://w/x?username=rita"}, "source": "192.0.2.1",
        "affectedObjects": [{"name": "HQ", "type": "Space", "id": "1"}, {"name": "Ada", "type": "User"}], "system": "https://w",
        "changedValues": [{"key": "n", "i18nKey": "n", "from": "a", "to": "b"}], "extraAttributes": [{"name": "n", "value": "v"}],
    });
    [record(&cloud), record(&file)]
}

/// The rule of docs/sinks/sentinel.md fills Microsoft's columns, all of them, by their types, from what is sent.
#[test]
fn f106_the_documented_rule_fills_the_published_columns() {
    let rule = documented();
    let declared = &rule["properties"]["streamDeclarations"]["Custom-ConfluenceAuditLogs_CL"]["columns"];
    let projected = projected(&rule);
    let columns = published();
    assert_eq!(columns.len(), 30);
    let names = columns.iter().map(|column| column.name.as_str());
    let expected: Vec<&str> = names.chain(["EventId", "Site"]).collect();
    let found: Vec<&str> = projected.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(found, expected);
    let [cloud, data_center] = records();
    for (column, (name, expression)) in columns.iter().zip(&projected) {
        let (kind, of_cloud) = evaluated(expression, declared, &cloud);
        assert_eq!(kind, column.kind, "{name}");
        assert!(!of_cloud.is_null(), "{name} stays empty");
        let (_, of_data_center) = evaluated(expression, declared, &data_center);
        for (value, record) in [(of_cloud, &cloud), (of_data_center, &data_center)] {
            // A present value equals the one of Microsoft's own rule.
            let expected = match column.from.as_str() {
                "-" => record["creationDate"].clone(),
                from if from.starts_with('\'') => json!(from.trim_matches('\'')),
                from => record.pointer(&format!("/{}", from.replace('.', "/"))).cloned().unwrap_or_default(),
            };
            assert_eq!(value, expected, "{name} of {record}");
        }
    }
}

/// The command that adds columns lists all columns of the table and the two new ones.
#[test]
fn the_documented_command_keeps_the_published_columns() {
    let document = read("docs/sinks/sentinel.md");
    let start = document.find("--columns").unwrap();
    let command = document[start..].split("```").next().unwrap();
    let found: Vec<&str> = command.split_whitespace().filter(|word| word.contains('=')).collect();
    let columns = published();
    let mut expected: Vec<String> =
        columns.iter().map(|column| format!("{}={}", column.name, column.kind)).collect();
    expected.extend(["EventId=string".into(), "Site=string".into()]);
    assert_eq!(found, expected);
}
