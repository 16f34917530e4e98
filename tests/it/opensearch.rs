//! The sink of type `elasticsearch` and `setup` against a real OpenSearch, which tests/peers/opensearch.sh installs.

use crate::rig::opensearch::{OpenSearch, START};
use crate::rig::{self, Host, Writer, file_name, judge, oracle, until};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs;
use std::process::Command;

const STREAM: &str = "logs-atlassian_confluence.audit-default";

fn host(server: &OpenSearch) -> Host {
    let mut host = Host::new();
    host.remote = Some(format!(
        "type = \"elasticsearch\"\nhosts = [\"http://127.0.0.1:{}\"]\nbatch_wait = \"100ms\"\nbatch_events = 100\n",
        server.port
    ));
    host
}

/// What a command with this host's configuration says, and its exit code.
fn call(host: &Host, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(arguments)
        .arg("--config")
        .arg(host.config())
        .env_remove("CONFLUENCE_HOME")
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8(printed).unwrap();
    (output.status.code().unwrap(), crate::rig::unwrap_lines(&printed))
}

/// One server for all of it: a JVM takes long to start.
#[test]
fn a_real_opensearch_is_set_up_takes_each_event_once_across_a_kill_and_refuses_poison() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(mut server) = OpenSearch::start(&place.path().join("opensearch")) else {
        return;
    };
    set_up(&server);
    killed_in_mid_bulk(&mut server);
    mapped(&server);
    poison(&server);
}

fn set_up(server: &OpenSearch) {
    let mut host = host(server);
    host.audit_file(1, 5);
    // Before, the agent says what is to be done, and makes no index of that name.
    let run = host.once_code(75);
    run.logged("confluence-audit-agent setup elasticsearch");
    assert_eq!(server.try_request("GET", &format!("/{STREAM}"), "").unwrap().0, 404);
    let (_, printed) = call(&host, &["check"]);
    assert!(
        printed.contains("is OpenSearch 2.") && printed.contains("no template of this agent"),
        "{printed}"
    );

    let (code, printed) = call(&host, &["setup", "elasticsearch", "--dry-run"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("would be created: index template `confluence-audit`"), "{printed}");
    assert_eq!(server.try_request("GET", "/_index_template/confluence-audit", "").unwrap().0, 404);

    let (code, printed) = call(&host, &["setup", "elasticsearch"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("no index state management"), "{printed}");
    assert!(printed.contains("created   ingest pipeline `confluence-audit`"), "{printed}");
    assert!(printed.contains("created   index template `confluence-audit`"), "{printed}");
    assert!(printed.contains(&format!("created   data stream `{STREAM}`")), "{printed}");
    let (code, printed) = call(&host, &["setup", "elasticsearch"]);
    assert_eq!(
        (code, printed.matches("unchanged").count(), printed.matches("created").count()),
        (0, 3, 0),
        "{printed}"
    );
    let (_, printed) = call(&host, &["check"]);
    assert!(printed.contains(&format!("the data stream `{STREAM}` exists")), "{printed}");

    // What somebody else made under this name stays.
    let other = json!({"index_patterns": ["other-*"], "priority": 1}).to_string();
    server.request("PUT", "/_index_template/confluence-audit-other", &other);
    host.remote.as_mut().unwrap().push_str("index = \"other\"\n");
    let (code, printed) = call(&host, &["setup", "elasticsearch"]);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("is not this agent's"), "{printed}");
}

fn killed_in_mid_bulk(server: &mut OpenSearch) {
    let host = host(server);
    let mut writer = Writer::new(&host.audit(), 1);
    let file = writer.create(&file_name(5, 0));
    let mut agent = host.start();
    writer.append(&file, 1000);
    until(rig::SOON, "some events are there", || server.count(STREAM) > 0);
    server.kill();
    writer.append(&file, 1000);
    agent.until_logged("events are not accepted");
    server.start_again();
    // After long it is next asked after as long.
    until(3 * START, "all events are there", || server.count(STREAM) == 2000);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let found = server.request("GET", &format!("/{STREAM}/_search?size=10000"), "");
    let is_checkpoint = |hit: &&serde_json::Value| hit["_source"]["event"]["action"] == "agent.ledger.sealed";
    let hits = found["hits"]["hits"].as_array().unwrap().iter().filter(|hit| !is_checkpoint(hit));
    let hits: Vec<_> = hits.collect();
    let lines: String = hits.iter().map(|hit| format!("{}\n", hit["_source"])).collect();
    let events = oracle::events(lines.as_bytes());
    let judged = judge(&writer, &events);
    assert!(
        judged.missing.is_empty() && judged.damaged.is_empty() && judged.repeated.is_empty(),
        "{judged:?}"
    );
    for (hit, event) in hits.iter().zip(&events) {
        assert_eq!(hit["_id"], event.id.as_str());
    }
    let ids: HashSet<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids.len(), 2000);
}

fn mapped(server: &OpenSearch) {
    let fields = server.request("GET", &format!("/{STREAM}/_field_caps?fields=*"), "");
    for (field, kind) in [
        ("@timestamp", "date"),
        ("source.ip", "ip"),
        ("source.geo.location", "geo_point"),
        ("source.as.number", "long"),
        ("event.action", "keyword"),
        ("event.ingested", "date"),
        ("user.full_name.text", "text"),
        ("event.original", "keyword"),
        ("message", "text"),
        ("confluence.audit.affected_objects.name", "keyword"),
        ("confluence.audit.guest", "boolean"),
    ] {
        assert!(fields["fields"][field][kind].is_object(), "{field}: {}", fields["fields"][field]);
    }
    // Found by what they say.
    let query = json!({"query": {"bool": {"filter": [{"exists": {"field": "event.action"}}, {"term": {"event.kind": "event"}}],
        "must_not": {"prefix": {"event.action": "agent."}}}}});
    let found = server.request("POST", &format!("/{STREAM}/_count"), &query.to_string());
    assert_eq!(found["count"], 2000);
    // Each says when it came.
    let query = json!({"query": {"bool": {"filter": {"range": {"event.ingested": {"gt": "now-1d", "lte": "now"}}},
        "must_not": {"prefix": {"event.action": "agent."}}}}});
    let found = server.request("POST", &format!("/{STREAM}/_count"), &query.to_string());
    assert_eq!(found["count"], 2000);
    // Found by a word of a name.
    let query = json!({"query": {"exists": {"field": "user.full_name"}}});
    let found = server.request("POST", &format!("/{STREAM}/_search?size=1"), &query.to_string());
    let name = found["hits"]["hits"][0]["_source"]["user"]["full_name"].as_str().unwrap();
    let word = name.split(' ').next().unwrap().to_lowercase();
    let query = json!({"query": {"match": {"user.full_name.text": word}}});
    let found = server.request("POST", &format!("/{STREAM}/_count"), &query.to_string());
    assert!(found["count"].as_u64().unwrap() > 0, "{word}");
}

/// A member that the mapping of another template takes for a number.
fn poison(server: &OpenSearch) {
    let text = include_str!("../../packaging/elasticsearch/index-template.opensearch.json");
    let mut template: Value = serde_json::from_str(text).unwrap();
    template["index_patterns"] = json!(["logs-atlassian_confluence.audit-poison"]);
    template["priority"] = json!(300);
    template["template"]["mappings"]["properties"]["confluence"]["properties"]["audit"]["properties"]["description"] =
        json!({"type": "long"});
    template["template"]["settings"]["index"]["mapping"]["ignore_malformed"] = json!(false);
    server.request("PUT", "/_index_template/poison", &template.to_string());
    let mut host = host(server);
    host.root += "event.namespace = \"poison\"\n";
    let sink = host.remote.take().unwrap_or_default();
    host.remote = Some(sink + "template = \"poison\"\n");
    let (mut writer, file) = host.audit_file(2, 50);
    let line =
        "{\"creationDate\":1767600000000,\"summary\":\"User created\",\"description\":\"no number\"}\n";
    rig::append(&host.audit().join(file_name(5, 0)), line.as_bytes());
    writer.append(&file, 50);
    let run = host.once_code(65);
    let stream = "logs-atlassian_confluence.audit-poison";
    assert_eq!(server.count(stream), 100, "{}", run.stderr);
    let dir = fs::read_dir(host.state().join("quarantine")).unwrap();
    let kept: String =
        dir.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default()).collect();
    assert_eq!(kept.lines().count(), 1, "{kept}");
    assert!(kept.contains("mapper_parsing_exception") && kept.contains("no number"), "{kept}");
}
