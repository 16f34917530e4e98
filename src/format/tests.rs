use std::collections::HashSet;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use super::*;
use crate::enrich::host::{Host, Os};
use crate::record::{IdHasher, Scratch, parse};

#[path = "../../benches/limit_event.rs"]
pub(crate) mod limit;

pub const READ_AT_MS: i64 = 1_767_323_045_678;

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Agent and host of the benchmark's reference implementation.
pub fn context() -> Context {
    let (agent, host) = (limit::AGENT, limit::HOST);
    Context {
        tags: None,
        namespace: "default".to_owned(),
        site: None,
        agent: Agent {
            id: agent.id.to_owned(),
            ephemeral_id: agent.ephemeral_id.to_owned(),
            name: agent.name.to_owned(),
            version: agent.version.to_owned(),
        },
        host: Some(Host {
            name: text(host.name),
            hostname: text(host.hostname),
            id: text(host.id),
            architecture: text(host.architecture),
            containerized: Some(host.containerized),
            ip: host.ip.map(str::to_owned).to_vec(),
            mac: host.mac.map(str::to_owned).to_vec(),
            os: Os {
                build: None,
                codename: text(host.os.codename),
                family: text(host.os.family),
                kernel: text(host.os.kernel),
                name: text(host.os.name),
                platform: text(host.os.platform),
                kind: text(host.os.kind),
                version: text(host.os.version),
            },
        }),
        cloud: None,
        geo: None,
        preserve_original_event: true,
    }
}

pub fn written(format: &Format, line: &[u8], origin: Origin) -> Vec<u8> {
    let mut scratch = Scratch::default();
    let content = &parse(line, &mut scratch);
    let id = IdHasher::new(None).id(content);
    let mut out = EventBuffer::new();
    format.write(&Event { content, id, origin, self_poll: false, read_at_ms: READ_AT_MS }, &mut out);
    out.bytes
}

fn format(name: FormatKind) -> Format {
    Format::new(name, &context())
}

/// The expected events of fixtures/mapping. `UPDATE_GOLDEN=1` rewrites them; compare the difference with
/// docs/MAPPING.md and docs/FORMATS.md before a commit.
#[test]
fn mapping_golden() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mapping");
    for format_name in [FormatKind::Ecs, FormatKind::Sentinel, FormatKind::Cef, FormatKind::Ocsf] {
        for name in ["file", "entity", "cloud", "broken"] {
            let lines = fs::read(folder.join(name).with_extension("jsonl")).unwrap();
            let golden = match format_name {
                FormatKind::Cef => folder.join(name).with_extension("cef"),
                json => folder.join(name).with_extension(format!("{}.jsonl", json.as_str())),
            };
            let mut offset = 0;
            let mut events = Vec::new();
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let origin = match name {
                    "file" | "broken" => Origin::File {
                        path_json: "\"/log/audit/20260102.00000.audit.log\"",
                        offset,
                        unterminated: false,
                    },
                    _ => Origin::Api,
                };
                events.extend(written(&format(format_name), line.trim_ascii_end(), origin));
                events.push(b'\n');
                offset += line.len() as u64;
            }
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                fs::write(&golden, &events).unwrap();
            }
            let expected = fs::read(&golden).unwrap();
            let lines = |bytes: &[u8]| -> Vec<Value> {
                let lines = bytes.trim_ascii_end().split(|byte| *byte == b'\n');
                lines
                    .map(|line| match format_name {
                        FormatKind::Cef => Value::String(String::from_utf8(line.to_vec()).unwrap()),
                        _ => serde_json::from_slice(line).unwrap(),
                    })
                    .collect()
            };
            let (events, expected) = (lines(&events), lines(&expected));
            for (at, (event, expected)) in events.iter().zip(&expected).enumerate() {
                assert_eq!(event, expected, "{format_name:?}, {name}, line {}", at + 1);
            }
            assert_eq!(events.len(), expected.len());
        }
    }
}

#[test]
fn raw_adds_only_the_id() {
    let raw = Format::new(FormatKind::Raw, &context());
    let show = |line: &str, origin| String::from_utf8(written(&raw, line.as_bytes(), origin)).unwrap();
    let file = Origin::File { path_json: "\"/a\"", offset: 0, unterminated: false };
    let id = "3cf6";
    let strip = |text: String| text.replacen(&text[13..45], id, 1);
    let line = r#"{ "auditType":{"action":"x"}, "v":"" } "#;
    assert_eq!(strip(show(line, file)), r#"{"event_id":"3cf6","auditType":{"action":"x"}, "v":"" }"#);
    assert_eq!(strip(show(line, Origin::Api)), r#"{"event_id":"3cf6","auditType":{"action":"x"},"v":""}"#);
    assert_eq!(strip(show("{\n\"creationDate\": 1\n}", file)), r#"{"event_id":"3cf6","creationDate":1}"#);
    assert_eq!(
        strip(show("a \"b\"", file)),
        r#"{"event_id":"3cf6","error":"not a JSON object","original":"a \"b\""}"#
    );
}

/// A repeated name has the same result in every format, and the same id.
#[test]
fn f101_the_last_of_two_names_counts_everywhere() {
    let type_json = r#""auditType":{"action":"a","actionI18nKey":"k.page.created"}"#;
    let entity = r#""type":{"action":"a"}"#;
    let cloud = r#""creationDate":1767322805054,"summary":"s""#;
    let pairs = [
        (
            type_json,
            r#""affectedObjects":[{"name":"x","name":null}]"#,
            r#""affectedObjects":[{"name":null}]"#,
        ),
        (
            type_json,
            r#""affectedObjects":[{"name":"x","name":null},{"id":"1"}]"#,
            r#""affectedObjects":[{"name":null},{"id":"1"}]"#,
        ),
        (
            type_json,
            r#""changedValues":[{"key":"x","k\u0065y":[{"a":1,"a":{}}]}]"#,
            r#""changedValues":[{"k\u0065y":[{"a":{}}]}]"#,
        ),
        (
            type_json,
            r#""extraAttributes":[{"name":"n","value":{"a":{"b":1,"b":""}}}]"#,
            r#""extraAttributes":[{"name":"n","value":{"a":{"b":""}}}]"#,
        ),
        (
            type_json,
            r#""method":"a","affectedObjects":[{"id":"1"}],"method":"b","affectedObjects":null"#,
            r#""method":"b","affectedObjects":null"#,
        ),
        (
            type_json,
            r#""author":{"id":"1","id":"2","x":{"a":1,"a":2}},"timestamp":{"epochSecond":1,"nano":5,"epochSecond":2,"nano":null}"#,
            r#""author":{"id":"2","x":{"a":2}},"timestamp":{"epochSecond":2,"nano":null}"#,
        ),
        (
            type_json,
            r#""author":{"id":"1"},"author":"","node":{"a":1,"a":""},"unknown":1,"unknown":{"b":1,"b":2}"#,
            r#""author":"","node":{"a":""},"unknown":{"b":2}"#,
        ),
        (
            type_json,
            r#""author":[{"a":1,"a":2}],"timestamp":[[],{"a":1,"a":null}]"#,
            r#""author":[{"a":2}],"timestamp":[[],{"a":null}]"#,
        ),
        (
            entity,
            r#""affectedObjects":[{"name":"x","name":null}],"auditType":{"a":1,"a":null}"#,
            r#""affectedObjects":[{"name":null}],"auditType":{"a":null}"#,
        ),
        (
            cloud,
            r#""author":{"displayName":"a","displayName":"b"},"changedValues":[{"name":"n","newValue":"a","newValue":5}],"associatedObjects":[{"name":"a","name":null}]"#,
            r#""author":{"displayName":"b"},"changedValues":[{"name":"n","newValue":5}],"associatedObjects":[{"name":null}]"#,
        ),
    ];
    let id_of = |line: &str| IdHasher::new(None).id(&parse(line.as_bytes(), &mut Scratch::default()));
    for (kind, repeated, plain) in pairs {
        let (repeated, plain) = (format!("{{{kind},{repeated}}}"), format!("{{{kind},{plain}}}"));
        assert_eq!(id_of(&repeated), id_of(&plain), "{repeated}");
        for name in FormatKind::ALL {
            let [of_repeated, of_plain] = [&repeated, &plain].map(|line| {
                let mut context = context();
                context.preserve_original_event = false;
                let bytes = written(&Format::new(name, &context), line.as_bytes(), Origin::Api);
                String::from_utf8(bytes).unwrap()
            });
            assert_eq!(of_repeated, of_plain, "{name:?}: {repeated}");
            check_any(repeated.as_bytes());
        }
    }
    // Two keys with unpaired surrogates become the same key after the replacement.
    check_any(br#"{"auditType":{"action":"a"},"changedValues":[{"\ud800":1,"\udc00":2,"key":"k"}]}"#);
    check_any(
        b"{\"auditType\":{\"action\":\"a\"},\"changedValues\":[{\"\xff\":1,\"\xfe\":2,\"key\":\"k\"}]}",
    );
}

/// No member of a record is mistaken for the id of the format `raw`.
#[test]
fn f101_raw_has_one_id() {
    let line = r#"{"event_id":"forged", "auditType":{"action":"x"}, "event\u005fid":{"a":1}, "v":""}"#;
    let event = String::from_utf8(written(&format(FormatKind::Raw), line.as_bytes(), Origin::Api)).unwrap();
    assert_eq!(&event[46..], r#","auditType":{"action":"x"},"v":""}"#);
}

/// The order of members does not change the id.
#[test]
fn f101_the_order_of_members_does_not_change_the_id() {
    let id_of = |line: &str| IdHasher::new(None).id(&parse(line.as_bytes(), &mut Scratch::default()));
    let lines = [
        r#"{"auditType":{"action":"a"},"changedValues":[{"key":"k","to":{"a":[{"x":1,"y":2}],"b":""}}],"node":{"a":1,"b":2}}"#,
        r#"{"node":{"b":2, "a":1},"changedValues":[{"to":{"b":"","\u0061":[{"y":2,"x":1}]},"key":"k"}],"auditType":{"action":"a"}}"#,
    ];
    assert_eq!(id_of(lines[0]), id_of(lines[1]));
    assert_ne!(id_of(lines[0]), id_of(&lines[1].replace("\\u0061", "c")));
}

/// Values that are not texts are kept in all lists.
#[test]
fn numbers_among_changed_values_are_kept() {
    let cloud =
        r#"{"creationDate":1,"summary":"s","changedValues":[{"name":"n","oldValue":true,"newValue":5}]}"#;
    let file = r#"{"auditType":{"action":"a"},"changedValues":[{"key":"n","from":true,"to":5}],"extraAttributes":[{"name":"e","value":[7]}]}"#;
    let json = |name, line: &str| -> Value {
        serde_json::from_slice(&written(&format(name), line.as_bytes(), Origin::Api)).unwrap()
    };
    let cef = |line: &str| {
        String::from_utf8(written(&format(FormatKind::Cef), line.as_bytes(), Origin::Api)).unwrap()
    };
    let values = |line| json(FormatKind::Ecs, line)["confluence"]["audit"]["changed_values"].clone();
    assert_eq!(values(cloud), json!([{"from": true, "i18nKey": "n", "key": "n", "to": 5}]));
    assert_eq!(values(file), json!([{"from": true, "key": "n", "to": 5}]));
    assert_eq!(json(FormatKind::Ecs, cloud)["error"], Value::Null);
    assert!(cef(cloud).contains(" cs4=n: true -> 5 "));
    assert!(cef(file).contains(" cs4=n: true -> 5 ") && cef(file).contains(" cs5=e: [7] "));
    let sentinel = json(FormatKind::Sentinel, file);
    assert_eq!(sentinel["changedValues"][0]["newValue"], "5");
    assert_eq!(sentinel["description"], "e: [7]");
    assert_eq!(json(FormatKind::Sentinel, cloud)["changedValues"][0]["newValue"], 5);
}

/// Long values are flushed in pieces. The buffer stays small, and the event is the same.
#[test]
fn long_events_are_flushed_in_pieces() {
    let elements = (0..60_000).map(|at| format!(r#"{{"key":"k{at}","to":"","from":"ü"}}"#));
    let line = format!(
        r#"{{"auditType":{{"action":"x"}},"changedValues":[{}],"extraAttributes":[{{"value":"{}"}}]}}"#,
        elements.collect::<Vec<_>>().join(","),
        "\\\"ü".repeat(300_000)
    );
    let unreadable = "\"x\u{1}".repeat(1_000_000);
    for (name, line) in FormatKind::ALL.into_iter().flat_map(|name| [(name, &line), (name, &unreadable)]) {
        let whole = written(&format(name), line.as_bytes(), Origin::Api);
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut out = EventBuffer::with_flush(move |bytes: &mut Vec<u8>| {
            sender.send(bytes.clone()).unwrap();
            bytes.clear();
        });
        out.in_parts = true;
        let mut scratch = Scratch::default();
        let content = &parse(line.as_bytes(), &mut scratch);
        let id = IdHasher::new(None).id(content);
        let event = Event { content, id, origin: Origin::Api, self_poll: false, read_at_ms: READ_AT_MS };
        format(name).write(&event, &mut out);
        let last = std::mem::take(&mut out.bytes);
        drop(out);
        let pieces: Vec<Vec<u8>> = receiver.iter().chain([last]).collect();
        assert!(pieces.iter().all(|piece| piece.len() < 1024 * 1024), "{name:?}");
        assert!(pieces.concat() == whole, "{name:?}");
        assert_eq!(name.id_of(&whole), Some(id), "{name:?}");
        if name == FormatKind::Sentinel {
            let event: Value = serde_json::from_slice(&whole).unwrap();
            assert!(event["Truncated"].as_array().unwrap().contains(&json!("description")));
        }
        if matches!(name, FormatKind::Cef | FormatKind::Sentinel) {
            assert!(whole.len() < 256 * 1024);
        }
    }
}

/// Microsoft's rule is made for Cloud records: their members are sent unchanged, empty ones too.
#[test]
fn sentinel_has_clouds_members_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mapping/cloud.jsonl");
    let mut compared = 0;
    for line in fs::read_to_string(path).unwrap().lines() {
        let mut record: Value = serde_json::from_str(line).unwrap();
        let bytes = written(&format(FormatKind::Sentinel), line.as_bytes(), Origin::Api);
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        if !record["creationDate"].is_i64() {
            assert!(event["Error"].as_str().unwrap().contains("`creationDate` is no time"));
            record["creationDate"] = json!(READ_AT_MS);
        }
        let members = record.as_object().unwrap();
        assert_eq!(members.len(), 11);
        for (name, value) in members {
            let mut value = value.clone();
            // Microsoft's rule reads `type`, which Cloud does not send.
            if name == "affectedObject" && value["objectType"] != "" {
                value["type"] = value["objectType"].clone();
            }
            assert_eq!(event[name], value, "{name}");
            compared += 1;
        }
        assert_eq!(event["Truncated"], Value::Null);
    }
    assert!(compared > 80);
}

/// Microsoft's rule reads the type of the object from a member that Cloud does not send.
#[test]
fn f106_sentinel_fills_the_column_of_the_objects_type() {
    let event = |line: &Value| -> Value {
        let line = line.to_string();
        let bytes = written(&format(FormatKind::Sentinel), line.as_bytes(), Origin::Api);
        serde_json::from_slice(&bytes).unwrap()
    };
    let space = json!({"name": "HQ", "type": "Space", "id": "1"});
    for line in [
        json!({"type": {"action": "x"}, "affectedObjects": [space, {"name": "Ada", "type": "User"}]}),
        json!({"auditType": {"action": "x"}, "affectedObjects": [space, {"name": "Ada", "type": "User"}]}),
    ] {
        let event = event(&line);
        assert_eq!(event["affectedObject"], json!({"name": "HQ", "objectType": "Space", "type": "Space"}));
        assert_eq!(event["associatedObjects"], json!([{"name": "Ada", "objectType": "User"}]));
    }
    for (sent, expected) in [
        (
            json!({"name": "HQ", "objectType": "Space"}),
            json!({"name": "HQ", "objectType": "Space", "type": "Space"}),
        ),
        (json!({"objectType": "S", "type": ""}), json!({"objectType": "S", "type": "S"})),
        (json!({"objectType": "S", "type": null, "": 1}), json!({"objectType": "S", "type": "S", "": 1})),
        (json!({"objectType": "S", "type": "own"}), json!({"objectType": "S", "type": "own"})),
        (json!({"name": "", "objectType": ""}), json!({"name": "", "objectType": ""})),
        (json!("text"), json!("text")),
    ] {
        let line = json!({"creationDate": 1, "summary": "x", "affectedObject": sent});
        assert_eq!(event(&line)["affectedObject"], expected);
    }
}

/// The largest record is within the limits of Azure.
#[test]
fn sentinel_records_are_cut_to_what_azure_takes() {
    let long = "x\"\\ü\u{1}".repeat(12_000);
    let object = json!({"name": long, "objectType": long, "type": long, "id": long});
    let many = vec![object.clone(); 3];
    for line in [
        json!({
            "creationDate": 1, "summary": long, "description": long, "category": long, "remoteAddress": long,
            "author": {"displayName": long, "username": long, "accountId": "a"}, "affectedObject": object,
            "associatedObjects": many, "changedValues": [{"name": long, "oldValue": long, "newValue": long}],
        }),
        json!({
            "auditType": {"action": long, "category": long}, "source": long, "affectedObjects": many,
            "author": {"id": long, "name": long, "type": "user", "uri": format!("https://w/?username={long}")},
            "changedValues": [{"key": long, "from": long, "to": long}],
            "extraAttributes": [{"name": long, "value": "v"}, {"name": "n", "value": "v"}],
        }),
    ] {
        let line = line.to_string();
        let bytes = written(&format(FormatKind::Sentinel), line.as_bytes(), Origin::Api);
        assert!(bytes.len() < 1024 * 1024, "{}", bytes.len());
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        let cut = event["Truncated"].as_array().unwrap();
        assert_eq!(cut.len(), 8, "{cut:?}");
    }
}

/// The agent's own events in every format.
#[test]
fn notices_are_events_of_every_format() {
    let message = "a \"quoted\" | message=\\\nof two lines".to_owned();
    for action in [crate::notice::GAP, crate::notice::SOURCE_SWITCHED, crate::notice::TOKEN_EXPIRING] {
        let notice = Notice::new(action, "wiki", "once", READ_AT_MS, message.clone());
        let notice = notice.with_original("line 1\nline \"2\"\n".to_owned());
        for name in FormatKind::ALL {
            let mut out = EventBuffer::new();
            format(name).write_notice(&notice, &mut out);
            check_line(name, &out.bytes, notice.id);
            let text = String::from_utf8(out.bytes).unwrap();
            assert!(text.contains(action) && text.contains("of two lines"), "{text}");
            assert!(text.contains("line 1\\nline"), "{text}");
        }
    }
}

/// Named values are members where a format has some, and keys of CEF as far as there are some.
#[test]
fn named_values_are_in_every_format() {
    use crate::notice::{Fields, HEARTBEAT};
    let mut fields = Fields::default();
    for (name, number) in [("events", 7), ("lag_seconds", -1), ("lag_bytes", i64::MAX), ("lag_files", 3)] {
        fields.number(name, number);
    }
    for name in ["input", "configuration", "last_event", "problem", "host"] {
        fields.text(name, format!("{name}=\"|\\\n"));
    }
    let notice =
        Notice::new(HEARTBEAT, "wiki", "once", READ_AT_MS, "alive".to_owned()).with_fields(fields.clone());
    for name in FormatKind::ALL {
        let mut out = EventBuffer::new();
        format(name).write_notice(&notice, &mut out);
        check_line(name, &out.bytes, notice.id);
        let text = String::from_utf8(out.bytes).unwrap();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        let expected: Value = serde_json::from_str(&fields.json()).unwrap();
        match name {
            FormatKind::Ecs => assert_eq!(json["confluence"]["audit"]["agent"], expected),
            FormatKind::Raw => assert_eq!(json["agent"]["fields"], expected),
            FormatKind::Ocsf => {
                assert_eq!(json["unmapped"]["agent"], expected);
                assert_eq!((&json["type_uid"], &json["severity_id"]), (&600_299.into(), &1.into()));
                assert_eq!(json["app"]["name"], crate::NAME);
            }
            FormatKind::Sentinel => {
                assert_eq!(json["category"], crate::NAME);
                let description = json["description"].as_str().unwrap();
                let (message, values) = description.split_once('\n').unwrap();
                assert_eq!((message, serde_json::from_str::<Value>(values).unwrap()), ("alive", expected));
            }
            FormatKind::Cef => {
                let keys = [
                    " cn1=7 cn1Label=events",
                    " cn3=9223372036854775807 cn3Label=lag_bytes",
                    " cs5Label=problem",
                ];
                assert!(keys.iter().all(|key| text.contains(key)) && !text.contains("lag_files"), "{text}");
            }
        }
    }
}

/// JSON without repeated names.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrictVisitor;
        impl<'de> Visitor<'de> for StrictVisitor {
            type Value = Strict;
            fn expecting(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
                out.write_str("JSON without repeated names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut names = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    map.next_value::<Strict>()?;
                    if !names.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("`{name}` is there twice")));
                    }
                }
                Ok(Strict)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Strict, A::Error> {
                while list.next_element::<Strict>()?.is_some() {}
                Ok(Strict)
            }
            fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
                Ok(Strict)
            }
        }
        // A null in an event is an error: empty values are removed.
        deserializer.deserialize_any(StrictVisitor)
    }
}

/// One complete line with the id. It is not an event without its last byte.
fn check_line(name: FormatKind, bytes: &[u8], id: EventId) {
    std::str::from_utf8(bytes).unwrap();
    // A record may have tabs between its members, and `raw` keeps them.
    let is_raw = name == FormatKind::Raw;
    assert!(bytes.iter().all(|byte| *byte >= 0x20 || (is_raw && *byte == b'\t')), "{name:?}");
    for any in FormatKind::ALL {
        assert_eq!(any.id_of(bytes), Some(id), "{name:?}: {}", String::from_utf8_lossy(bytes));
        for end in [bytes.len() - 1, bytes.len() - 33, bytes.len() / 2, 0] {
            assert_eq!(any.id_of(&bytes[..end]), None, "{name:?}");
        }
    }
}

/// Header and extensions of a CEF event, unescaped.
fn cef(line: &str) -> (Vec<String>, Vec<(String, String)>) {
    let mut header = vec![String::new()];
    let mut letters = line.char_indices();
    let mut rest = "";
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                let next = letters.next().unwrap().1;
                assert!(matches!(next, '\\' | '|'), "{line}");
                header.last_mut().unwrap().push(next);
            }
            '|' if header.len() == 7 => {
                rest = &line[at + 1..];
                break;
            }
            '|' => header.push(String::new()),
            other => header.last_mut().unwrap().push(other),
        }
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    let mut text = String::new();
    let mut letters = rest.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => text.push(match letters.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                // Distinguished from the `=` after a key.
                '=' => '\u{1}',
                '\\' => '\\',
                other => panic!("escaped {other}: {line}"),
            }),
            '=' => {
                let (before, key) = text.rsplit_once(' ').unwrap_or(("", &text));
                if let Some((_, value)) = pairs.last_mut() {
                    value.push_str(before);
                }
                assert!(!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{line}");
                pairs.push((key.to_owned(), String::new()));
                text.clear();
            }
            other => text.push(other),
        }
    }
    pairs.last_mut().unwrap().1.push_str(&text);
    for (_, value) in &mut pairs {
        *value = value.replace('\u{1}', "=");
    }
    (header, pairs)
}

fn check_cef(line: &str) {
    let (header, pairs) = cef(line);
    assert_eq!(header.len(), 7, "{line}");
    assert_eq!(header[..3], ["CEF:0", "Atlassian", "Confluence"]);
    assert!(header[6].parse::<u8>().unwrap() <= 10);
    assert!(!header[4].is_empty() && !header[5].is_empty());
    let keys: HashSet<&String> = pairs.iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), pairs.len(), "{line}");
    for (key, value) in &pairs {
        assert!(value.chars().count() <= 4000, "{key}");
        if let Some(labelled) = key.strip_suffix("Label") {
            assert!(pairs.iter().any(|(key, _)| key == labelled), "{line}");
        }
    }
    assert!(pairs.iter().any(|(key, value)| key == "rt" && value.parse::<i64>().is_ok()));
    assert_eq!(pairs.last().unwrap().0, "externalId");
}

fn check_any(line: &[u8]) {
    let id = IdHasher::new(None).id(&parse(line, &mut Scratch::default()));
    for name in FormatKind::ALL {
        let bytes = written(&format(name), line, Origin::Api);
        check_line(name, &bytes, id);
        if matches!(name, FormatKind::Ecs | FormatKind::Ocsf)
            && let Err(error) = serde_json::from_slice::<Strict>(&bytes)
        {
            panic!("{error}: {}", String::from_utf8_lossy(&bytes));
        }
        if name == FormatKind::Cef {
            check_cef(std::str::from_utf8(&bytes).unwrap());
            continue;
        }
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        match name {
            FormatKind::Ecs => {
                assert_eq!(event["@timestamp"].as_str().unwrap().len(), 24);
                assert_eq!(event["event"]["original"], String::from_utf8_lossy(line).as_ref());
                let failed = event["event"]["kind"] == "pipeline_error";
                assert!(failed || event["event"]["kind"] == "event");
                assert!(!failed || event["error"]["message"].is_string());
            }
            FormatKind::Sentinel => {
                assert!(event["creationDate"].is_i64());
                let values = event.as_object().unwrap().values();
                assert!(values.into_iter().all(|value| value.to_string().len() <= 64 * 1024));
            }
            FormatKind::Ocsf => {
                assert_eq!(event["raw_data"], String::from_utf8_lossy(line).as_ref());
                assert!(event["time"].is_i64() && event["class_uid"].is_u64());
            }
            FormatKind::Raw | FormatKind::Cef => {}
        }
    }
}

pub fn fixtures() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mapping");
    let mut lines = Vec::new();
    for name in ["file.jsonl", "entity.jsonl", "cloud.jsonl", "broken.jsonl", "pairs.jsonl"] {
        let bytes = fs::read(folder.join(name)).unwrap();
        lines.extend(bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    }
    lines
}

/// The path of each value in a tree, as child indices.
fn paths(value: &Value, path: &mut Vec<usize>, found: &mut Vec<Vec<usize>>) {
    let children: Vec<&Value> = match value {
        Value::Object(object) => object.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => Vec::new(),
    };
    for (at, child) in children.into_iter().enumerate() {
        path.push(at);
        found.push(path.clone());
        paths(child, path, found);
        path.pop();
    }
}

fn at_path<'v>(value: &'v mut Value, path: &[usize]) -> &'v mut Value {
    path.iter().fold(value, |value, at| match value {
        Value::Object(object) => object.values_mut().nth(*at).unwrap(),
        Value::Array(list) => &mut list[*at],
        _ => unreachable!(),
    })
}

/// A fixture with some values changed, by index and kind of change. `None` if the fixture is not an object.
pub fn drifted(which: usize, changes: &[(usize, usize)]) -> Option<Vec<u8>> {
    let lines = fixtures();
    let Ok(mut record @ Value::Object(_)) = serde_json::from_slice(&lines[which % lines.len()]) else {
        return None;
    };
    for (index, change) in changes {
        let mut paths_found = Vec::new();
        paths(&record, &mut Vec::new(), &mut paths_found);
        if paths_found.is_empty() {
            break;
        }
        let path = &paths_found[index % paths_found.len()];
        if *change == 8 {
            let (last, parent) = path.split_last().unwrap();
            match at_path(&mut record, parent) {
                Value::Object(object) => drop(object.remove(&object.keys().nth(*last).unwrap().clone())),
                Value::Array(list) => drop(list.remove(*last)),
                _ => unreachable!(),
            }
            continue;
        }
        let value = at_path(&mut record, path);
        *value = match change {
            0 => Value::Null,
            1 => json!(""),
            2 => json!(17),
            3 => json!(-1.5e3),
            4 => json!(true),
            5 => json!([]),
            6 => json!({"unknown": {"a": [null, "", {"b": "c"}]}}),
            7 => json!(["x", {"name": "y"}]),
            _ => json!("text \"\\\u{1}ü|=\n"),
        };
    }
    record["inserted"] = json!({"new": ["member"]});
    Some(record.to_string().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn f31_drift(which in 0_usize..1000, changes in prop::collection::vec((any::<usize>(), 0_usize..10), 1..4)) {
        if let Some(line) = drifted(which, &changes) {
            check_any(&line);
        }
    }

    #[test]
    fn f32_mutated_bytes(which in 0_usize..1000, changes in prop::collection::vec((any::<usize>(), any::<u8>(), 0_u8..4), 1..6)) {
        let lines = fixtures();
        let mut line = lines[which % lines.len()].clone();
        for (index, byte, kind) in changes {
            let index = index % line.len().max(1);
            match kind {
                0 if !line.is_empty() => line[index] = byte,
                1 if !line.is_empty() => drop(line.remove(index)),
                2 => line.insert(index, b"\"\\{}[],: \xff0n"[usize::from(byte) % 12]),
                _ => line.truncate(index.max(10)),
            }
        }
        check_any(&line);
    }

    #[test]
    fn f32_random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_any(&bytes);
    }
}
