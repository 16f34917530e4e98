//! The dashboards for OpenSearch Dashboards and Kibana. Neither can be had here. So the saved objects are checked for
//! what refers to what, and each panel's aggregation is run by a real OpenSearch on events that the real agent
//! delivered.

use super::{expected, read, root};
use crate::rig::opensearch::OpenSearch;
use crate::rig::{Host, append, mmdb, stdout_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

const FILES: [&str; 2] = ["packaging/opensearch/dashboards.ndjson", "packaging/kibana/dashboards.ndjson"];
const STREAM: &str = "logs-atlassian_confluence.audit-default";
const DASHBOARDS: [&str; 6] = ["agent", "completeness", "exports", "logins", "overview", "permissions"];

/// Events of both homes, and one more.
const FIXTURES: u64 = 360;

/// What the fixtures do not bring about: the agent's own events of these actions.
const RARE: [&str; 8] = [
    "agent.source.gap",
    "agent.source.switched",
    "agent.file.tampered",
    "agent.ledger.damaged",
    "agent.ledger.restarted",
    "agent.coverage.lowered",
    "agent.denylist.changed",
    "agent.retention.changed",
];

/// One panel: what it asks for.
struct Panel {
    id: String,
    query: String,
    aggs: Vec<Value>,
}

fn objects(file: &str) -> Vec<Value> {
    read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// JSON within a string.
#[track_caller]
fn inner(object: &Value, pointer: &str) -> Value {
    let text = object.pointer(pointer).and_then(Value::as_str);
    let text = text.unwrap_or_else(|| panic!("{}: no {pointer}", object["id"]));
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{}: {pointer}: {error}", object["id"]))
}

fn panel(object: &Value) -> Option<Panel> {
    let id = object["id"].as_str().unwrap().to_owned();
    match object["type"].as_str().unwrap() {
        "visualization" => {
            let search = inner(object, "/attributes/kibanaSavedObjectMeta/searchSourceJSON");
            assert_eq!(search["query"]["language"], "lucene", "{id}");
            let query = search["query"]["query"].as_str().unwrap().to_owned();
            let aggs = inner(object, "/attributes/visState")["aggs"].as_array().unwrap().clone();
            Some(Panel { id, query, aggs })
        }
        "map" => {
            let layers = inner(object, "/attributes/layerListJSON");
            let layer = layers.as_array().unwrap().iter().find(|layer| layer["id"] == "events").unwrap();
            let field = &layer["sourceDescriptor"]["geoField"];
            let grid = json!({"schema": "segment", "type": "geohash_grid", "params": {"field": field}});
            Some(Panel {
                id,
                query: layer["query"]["query"].as_str().unwrap().to_owned(),
                aggs: vec![json!({"schema": "metric", "type": "count", "params": {}}), grid],
            })
        }
        _ => None,
    }
}

#[test]
fn saved_objects_refer_to_each_other_and_panels_do_not_overlap() {
    let mut states = Vec::new();
    for file in FILES {
        let objects = objects(file);
        let key = |object: &Value| (object["type"].clone().to_string(), object["id"].clone().to_string());
        let ids: BTreeSet<_> = objects.iter().map(key).collect();
        assert_eq!(ids.len(), objects.len(), "{file}: an id occurs twice");
        let mut used = BTreeSet::new();
        for object in &objects {
            let references = object["references"].as_array().unwrap();
            for reference in references {
                assert!(ids.contains(&key(reference)), "{file}: {}: {reference} is missing", object["id"]);
                used.insert(key(reference));
            }
            if object["type"] == "dashboard" {
                check_layout(&inner(object, "/attributes/panelsJSON"), references);
            }
            assert_eq!(object["migrationVersion"].as_object().unwrap().len(), 1);
        }
        let dashboards = objects.iter().filter(|object| object["type"] == "dashboard");
        let names = dashboards.map(|object| object["id"].as_str().unwrap().to_owned());
        let names: BTreeSet<String> = names.collect();
        let wanted = DASHBOARDS.iter().map(|name| format!("confluence-audit-{name}"));
        assert_eq!(names, wanted.collect());
        let unused =
            objects.iter().filter(|object| object["type"] != "dashboard" && !used.contains(&key(object)));
        assert_eq!(unused.map(|object| object["id"].to_string()).collect::<Vec<_>>(), [""; 0]);
        let panels = objects.iter().filter_map(panel).filter(|panel| !panel.id.ends_with("-map"));
        states.push(panels.map(|panel| (panel.id, panel.query, panel.aggs)).collect::<Vec<_>>());
    }
    assert_eq!(states[0], states[1], "the two files show different panels");
}

fn check_layout(panels: &Value, references: &[Value]) {
    let panels = panels.as_array().unwrap();
    assert_eq!(panels.len(), references.len());
    let mut cells = BTreeSet::new();
    for panel in panels {
        assert!(references.iter().any(|reference| reference["name"] == panel["panelRefName"]), "{panel}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridData"][key].as_u64().unwrap());
        assert!(x + w <= 48, "{panel}");
        let own = (x..x + w).flat_map(|column| (y..y + h).map(move |row| (column, row)));
        own.for_each(|cell| assert!(cells.insert(cell), "{panel} overlaps another one"));
    }
}

#[test]
fn each_panel_shows_what_the_fixtures_hold() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(server) = OpenSearch::start(&place.path().join("opensearch")) else { return };
    let events = deliver(&server);
    let mut asked = 0;
    let panels: BTreeMap<String, Panel> = FILES
        .iter()
        .flat_map(|file| objects(file).into_iter().map(move |object| (file, object)))
        .filter_map(|(file, object)| panel(&object).map(|panel| (format!("{file}: {}", panel.id), panel)))
        .collect();
    for (name, panel) in &panels {
        let expected = expected::answer(&events, &panel.query, &panel.aggs);
        let answer = server.request("POST", &format!("/{STREAM}/_search"), &search(panel).to_string());
        assert_eq!(simplified(&answer, &panel.aggs), expected, "{name}: {}", search(panel));
        assert!(
            expected["count"].as_u64().unwrap() > 0,
            "{name}: the fixtures hold nothing for `{}`",
            panel.query
        );
        let is_empty = expected.get("buckets").is_some_and(|buckets| buckets.as_array().unwrap().is_empty());
        assert!(!is_empty, "{name}: no event has the field");
        asked += 1;
    }
    assert!(asked > 100, "{asked} panels");
}

/// The fixtures, delivered by the agent to the server and to a file; what is in the file.
fn deliver(server: &OpenSearch) -> Vec<Value> {
    let mut host = Host::new();
    for home in ["confluence-home", "damaged-home"] {
        for entry in fs::read_dir(root().join("fixtures").join(home).join("log/audit")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, host.audit().join(path.file_name().unwrap())).unwrap();
        }
    }
    let login = r#"{"timestamp":{"epochSecond":1767323045,"nano":0},"auditType":{"action":"Login",
        "actionI18nKey":"audit.logging.summary.login.failed","categoryI18nKey":"audit.logging.category.auth"},
        "author":{"name":"Ada Brand"},"source":"81.2.69.143"}"#;
    let line = login.replace("\n        ", "") + "\n";
    append(&host.audit().join("20260103.00000.audit.log"), line.as_bytes());
    fs::write(host.path("city.mmdb"), mmdb::city()).unwrap();
    host.root +=
        &format!("[heartbeat]\ninterval = \"1s\"\n[enrich]\ngeoip_city = {:?}\n", host.path("city.mmdb"));
    host.remote = Some(format!(
        "type = \"elasticsearch\"\nheartbeat = true\nhosts = [\"http://127.0.0.1:{}\"]\n",
        server.port
    ));
    let copy = host.path("copy.ndjson");
    host.more = format!("[[sink]]\nname = \"copy\"\ntype = \"file\"\npath = {copy:?}\n");
    let mut setup = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    stdout_of(setup.args(["setup", "elasticsearch", "--config"]).arg(host.config()));
    let mut agent = host.start();
    agent.until("the fixtures and some heartbeats are delivered", || server.count(STREAM) > FIXTURES + 4);
    // With its last checkpoint of the ledger.
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let text = fs::read_to_string(&copy).unwrap();
    let copies = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut events: Vec<Value> = copies.filter(|event| !is_own(event)).collect();
    assert_eq!(events.len() as u64, FIXTURES);
    let delivered = own_events(server);
    let mut failing = like_the_agent(&delivered, "agent.heartbeat");
    failing["confluence"]["audit"]["agent"]["problem"] = "the disk is full".into();
    for rare in RARE.map(|action| like_the_agent(&delivered, action)).into_iter().chain([failing]) {
        server.request("POST", &format!("/{STREAM}/_doc"), &rare.to_string());
    }
    events.extend(own_events(server));
    assert_eq!(server.count(STREAM), events.len() as u64);
    events
}

fn is_own(event: &Value) -> bool {
    event["event"]["action"].as_str().is_some_and(|action| action.starts_with("agent."))
}

/// Events of agents, as the server has them: each sink has heartbeats of its own.
fn own_events(server: &OpenSearch) -> Vec<Value> {
    server.count(STREAM);
    let search = json!({"size": 1000, "query": {"prefix": {"event.action": "agent."}}});
    let found = server.request("POST", &format!("/{STREAM}/_search"), &search.to_string());
    found["hits"]["hits"].as_array().unwrap().iter().map(|hit| hit["_source"].clone()).collect()
}

/// An event of the agent with another action.
fn like_the_agent(events: &[Value], action: &str) -> Value {
    let own = |event: &&Value| event["event"]["action"] == "agent.ledger.sealed";
    let mut event = events.iter().find(own).expect("a run ends with a checkpoint").clone();
    event["event"]["action"] = action.into();
    event["event"]["id"] = format!("{action}-1").into();
    event
}

/// As the dashboards send it.
fn search(panel: &Panel) -> Value {
    let query = match panel.query.as_str() {
        "" => json!({"match_all": {}}),
        query => json!({"query_string": {"query": query, "analyze_wildcard": true}}),
    };
    let aggs = aggregations(&panel.aggs);
    json!({"size": 0, "track_total_hits": true, "query": {"bool": {"filter": [query]}}, "aggs": aggs})
}

/// Metrics of each bucket, and the buckets in each other in the order of the list.
fn aggregations(aggs: &[Value]) -> Value {
    let mut request = json!({});
    for metric in expected::metrics(aggs) {
        let kind = metric["type"].as_str().unwrap();
        request[expected::name(metric)] = json!({kind: {"field": metric["params"]["field"]}});
    }
    if let Some((bucket, rest)) = expected::split_buckets(aggs) {
        let params = &bucket["params"];
        let own = match bucket["type"].as_str().unwrap() {
            "terms" => {
                json!({"terms": {"field": params["field"], "size": params["size"], "order": {"_count": "desc"}}})
            }
            "date_histogram" => {
                json!({"date_histogram": {"field": params["field"], "fixed_interval": "1d", "min_doc_count": 1}})
            }
            // The module with grids is not published for the tests' server: it is asked for the points on the globe.
            "geohash_grid" => {
                let field = &params["field"];
                json!({"geo_distance": {"field": field, "origin": "0,0", "unit": "km", "ranges": [{"to": 30000}]}})
            }
            other => panic!("an aggregation of type {other}"),
        };
        request["buckets"] = own;
        request["buckets"]["aggs"] = aggregations(&rest);
    }
    request
}

/// An answer in the form of [`expected::answer`].
fn simplified(answer: &Value, aggs: &[Value]) -> Value {
    level(&answer["aggregations"], answer["hits"]["total"]["value"].as_u64().unwrap(), aggs)
}

fn level(answer: &Value, count: u64, aggs: &[Value]) -> Value {
    let mut out = json!({"count": count});
    for metric in expected::metrics(aggs) {
        let name = expected::name(metric);
        out[&name] = json!(answer[&name]["value"].as_f64());
    }
    if let Some((_, rest)) = expected::split_buckets(aggs) {
        let buckets = answer["buckets"]["buckets"].as_array().unwrap().iter().map(|bucket| {
            let key = match &bucket["key"] {
                Value::String(key) => key.clone(),
                key => key.to_string(),
            };
            json!([key, level(bucket, bucket["doc_count"].as_u64().unwrap(), &rest)])
        });
        out["buckets"] = buckets.collect();
    }
    out
}
