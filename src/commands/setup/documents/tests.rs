use super::*;
use std::fs;

fn product(distribution: Distribution, is_serverless: bool) -> ClusterProduct {
    ClusterProduct { distribution, number: "8.17.0".into(), major: 8, minor: 17, is_serverless }
}

fn stream() -> Target {
    Target::DataStream("logs-atlassian_confluence.audit-default".into())
}

fn both() -> [Value; 2] {
    [Distribution::Elasticsearch, Distribution::OpenSearch]
        .map(|distribution| template(&product(distribution, false), &stream(), 365, true).1)
}

/// The mapping of a field, by its path.
fn mapping<'a>(template: &'a Value, path: &str) -> Option<&'a Value> {
    let mut at = &template["template"]["mappings"];
    for part in path.split('.') {
        // It contains everything below it.
        if at["type"] == "flattened" || at["type"] == "geo_point" {
            return Some(at);
        }
        at = at["properties"].get(part)?;
    }
    Some(at)
}

/// Each value of an event with the path of its field.
fn leaves(value: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| leaves(value, path, found)),
        other => found.push((path.to_owned(), other.clone())),
    }
}

#[test]
fn every_field_of_an_event_has_a_fitting_mapping() {
    // Lists that are copied from the record may contain anything.
    let lists = ["affected_objects", "changed_values", "extra_attributes"]
        .map(|list| format!("confluence.audit.{list}"));
    let mut count = 0;
    for name in ["file", "entity", "cloud", "broken"] {
        let text = fs::read_to_string(format!("fixtures/mapping/{name}.ecs.jsonl")).unwrap();
        for line in text.lines() {
            let mut found = Vec::new();
            leaves(&serde_json::from_str(line).unwrap(), "", &mut found);
            for (path, value) in found {
                if lists.iter().any(|list| path.starts_with(list.as_str())) {
                    continue;
                }
                for template in both() {
                    let Some(mapping) = mapping(&template, &path) else {
                        panic!("`{path}` is in no mapping");
                    };
                    let fits = match mapping["type"].as_str().unwrap_or("object") {
                        "keyword" | "text" | "match_only_text" | "ip" | "date" => value.is_string(),
                        "long" => value.is_i64(),
                        "boolean" => value.is_boolean(),
                        "geo_point" => value.is_number(),
                        _ => false,
                    };
                    assert!(fits, "`{path}` is {value}, its mapping {mapping}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 2000, "{count}");
}

/// No length of a text and no type of a value is a reason to refuse an event.
#[test]
fn only_the_time_can_be_a_reason_to_refuse_an_event() {
    fn visit(path: &str, at: &Value) {
        for (name, member) in at["properties"].as_object().into_iter().flatten() {
            visit(&format!("{path}.{name}"), member);
        }
        let is_lenient = match at["type"].as_str() {
            None => at["properties"].is_object(),
            Some("keyword") => {
                at["ignore_above"].is_u64() || at["index"] == false && at["doc_values"] == false
            }
            Some("flattened") => at["ignore_above"].is_u64(),
            Some("ip" | "long" | "geo_point") => at["ignore_malformed"] == true,
            Some("date") => at["ignore_malformed"] == (path != ".@timestamp"),
            Some("text" | "match_only_text" | "boolean") => true,
            Some(_) => false,
        };
        assert!(is_lenient, "{path}: {at}");
    }
    for template in both() {
        let mappings = &template["template"]["mappings"];
        assert_eq!((&mappings["dynamic"], &mappings["date_detection"]), (&json!(false), &json!(false)));
        visit("", mappings);
    }
}

/// In ECS 8.11 these keywords have a `text` field too, and rules and searches use it.
#[test]
fn f106_templates_have_the_multi_fields_of_ecs() {
    let published = [
        "host.os.name",
        "source.as.organization.name",
        "user.name",
        "user.full_name",
        "user.target.name",
        "user.target.full_name",
        "user.changes.name",
        "user.changes.full_name",
    ];
    fn visit(path: &str, at: &Value, found: &mut Vec<(String, Value)>) {
        for (name, member) in at["properties"].as_object().into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if let Some(fields) = member.get("fields") {
                found.push((path.clone(), fields.clone()));
            }
            visit(&path, member, found);
        }
    }
    for (template, kind) in both().iter().zip(["match_only_text", "text"]) {
        let mut found = Vec::new();
        visit("", &template["template"]["mappings"], &mut found);
        let mut expected = published.map(|path| (path.to_owned(), json!({"text": {"type": kind}})));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        found.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(found, expected);
    }
}

/// The pipeline sets `event.ingested`. It is installed, named by the template, and the field is mapped as a
/// date.
#[test]
fn f106_the_pipeline_sets_when_an_event_came() {
    let pipeline = pipeline();
    assert!(is_own_pipeline(&pipeline));
    assert!(!is_own_pipeline(&json!({"description": "somebody else's", "processors": []})));
    let set = &pipeline["processors"][0]["set"];
    assert_eq!((&set["field"], &set["ignore_failure"]), (&json!("event.ingested"), &json!(true)));
    for template in both() {
        assert_eq!(template["template"]["settings"]["index"]["default_pipeline"], TEMPLATE);
        assert_eq!(mapping(&template, "event.ingested").unwrap()["type"], "date");
    }
    let mut printed = Vec::new();
    print(&mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    assert_eq!(printed.matches(&format!("PUT _ingest/pipeline/{TEMPLATE}\n{{")).count(), 2);
}

#[test]
fn the_two_templates_differ_in_three_types_and_the_lifecycle_only() {
    let [elastic, open] = both();
    let text = |template: &Value| {
        let mut template = template.clone();
        remove(&mut template["template"]["settings"]["index"], "lifecycle");
        remove(&mut template["_meta"], "digest");
        for list in ["affected_objects", "changed_values", "extra_attributes"] {
            let audit = &mut template["template"]["mappings"]["properties"]["confluence"]["properties"]["audit"]
                ["properties"];
            assert!(audit[list].is_object(), "{list}");
            remove(audit, list);
        }
        template.to_string().replace("match_only_text", "text")
    };
    assert_eq!(text(&elastic), text(&open));
    assert_eq!(elastic["template"]["settings"]["index"]["lifecycle"]["name"], TEMPLATE);
}

#[test]
fn templates_suit_their_target() {
    let index = Target::Index("audit".into());
    let (name, plain) = template(&product(Distribution::Elasticsearch, false), &index, 365, true);
    assert_eq!(name, "confluence-audit-audit");
    assert_eq!((&plain["index_patterns"], &plain["data_stream"]), (&json!(["audit"]), &Value::Null));
    assert_eq!(plain["template"]["settings"]["index"]["lifecycle"], Value::Null);
    let (_, serverless) = template(&product(Distribution::Elasticsearch, true), &stream(), 90, true);
    assert_eq!(serverless["template"]["lifecycle"]["data_retention"], "90d");
    assert_eq!(
        serverless["template"]["settings"]["index"],
        json!({"mapping": {"ignore_malformed": true}, "default_pipeline": TEMPLATE})
    );
    let (_, without) = template(&product(Distribution::OpenSearch, false), &stream(), 365, false);
    assert_eq!(without["template"]["settings"]["index"]["default_pipeline"], Value::Null);
    // Different templates have different digests.
    let [elastic, open] = both();
    assert_ne!(elastic["_meta"]["digest"], open["_meta"]["digest"]);
    assert_eq!(both()[0], elastic);
    assert_eq!(elastic["_meta"]["digest"].as_str().unwrap().len(), 32);
}

#[test]
fn policies_keep_events_for_the_retention() {
    assert_eq!(ilm(RETENTION_DAYS), parse(ILM));
    assert_eq!(ism(RETENTION_DAYS), parse(ISM));
    assert_eq!(ilm(90)["policy"]["phases"]["delete"]["min_age"], "90d");
    let rollover = &parse(ILM)["policy"]["phases"]["hot"]["actions"]["rollover"]["max_age"];
    assert_eq!(*rollover, format!("{ROLLOVER_DAYS}d"));
    let state = &ism(90)["policy"]["states"][0];
    assert_eq!(state["transitions"][0]["conditions"]["min_index_age"], "120d");
    assert_eq!(state["actions"][0]["rollover"]["min_index_age"], *rollover);
}
