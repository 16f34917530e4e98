//! `setup opensearch --detections` against a real OpenSearch. The plugin for alerting is not published for the tests'
//! server: a simulator in front of it stores monitors as the plugin's API is documented, and the server runs their
//! searches.

use super::{detections, kibana, products};
use crate::detections::events;
use crate::rig::collector::{Collector, Item, Post, Protocol, Reply, Sent};
use crate::rig::opensearch::OpenSearch;
use crate::rig::{Host, rest};
use confluence_audit_agent::format::FormatKind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

const STREAM: &str = "logs-atlassian_confluence.audit-default";
const MONITORS: &str = "/_plugins/_alerting/monitors";
const MINUTE: i64 = 60_000;

struct Alerting {
    server: SocketAddr,
    dashboards: Mutex<kibana::State>,
    /// By id, with the number of the last change.
    monitors: Mutex<BTreeMap<String, (u64, Value)>>,
}

fn error(status: u16, kind: &str, reason: &str) -> Reply {
    let cause = json!({"type": kind, "reason": reason});
    Reply::new(
        status,
        json!({"error": {"root_cause": [cause], "type": kind, "reason": reason}, "status": status})
            .to_string(),
    )
}

impl Protocol for Arc<Alerting> {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        if let Some(path) = post.path.strip_prefix("/dashboards") {
            return Err(kibana::answer(&mut self.dashboards.lock().unwrap(), post, path, "osd-xsrf"));
        }
        if let Some(path) = post.path.strip_prefix(MONITORS) {
            let body = serde_json::from_slice(&post.body).unwrap_or_default();
            return Err(self.monitor(&post.method, path, body));
        }
        let body = String::from_utf8_lossy(&post.body).into_owned();
        let (status, answer) = rest::request(self.server, &post.method, &post.path, &body).unwrap();
        Err(Reply::new(status, answer.to_string()))
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        Reply::new(500, "")
    }
}

impl Alerting {
    fn monitor(&self, method: &str, path: &str, body: Value) -> Reply {
        let mut monitors = self.monitors.lock().unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let id = path.trim_start_matches('/').to_owned();
        match method {
            "POST" if id == "_search" && monitors.is_empty() => error(
                404,
                "alerting_exception",
                "Configured indices are not found: [.opendistro-alerting-config]",
            ),
            "POST" if id == "_search" => {
                let names = &body["query"]["terms"]["monitor.name.keyword"];
                let named = monitors
                    .iter()
                    .filter(|(_, (_, monitor))| names.as_array().unwrap().contains(&monitor["name"]));
                let size = body["size"].as_u64().unwrap_or(10) as usize;
                let hits = named.take(size).map(|(id, (_, monitor))| json!({"_id": id, "_source": monitor}));
                Reply::new(200, json!({"hits": {"hits": hits.collect::<Vec<_>>()}}).to_string())
            }
            "POST" if id.is_empty() => match self.check(&body) {
                Ok(()) => {
                    let id = format!("monitor-{}", monitors.len());
                    monitors.insert(id.clone(), (0, body));
                    Reply::new(201, json!({"_id": id}).to_string())
                }
                Err(reason) => error(400, "alerting_exception", &reason),
            },
            "GET" => match monitors.get(&id) {
                Some((number, monitor)) => {
                    let found = json!({"_id": id, "_seq_no": number, "_primary_term": 1, "monitor": monitor});
                    Reply::new(200, found.to_string())
                }
                None => error(404, "alerting_exception", "Monitor not found."),
            },
            "PUT" => match monitors.get_mut(&id) {
                Some((number, _)) if query != format!("if_seq_no={number}&if_primary_term=1") => {
                    error(409, "version_conflict_engine_exception", "version conflict")
                }
                Some((number, monitor)) => match self.check(&body) {
                    Ok(()) => {
                        (*number, *monitor) = (*number + 1, body);
                        Reply::new(200, json!({"_id": id}).to_string())
                    }
                    Err(reason) => error(400, "alerting_exception", &reason),
                },
                None => error(404, "alerting_exception", "Monitor not found."),
            },
            _ => error(405, "illegal_argument_exception", "method not allowed"),
        }
    }

    /// Why the plugin refuses a monitor. The server itself reads the search.
    fn check(&self, monitor: &Value) -> Result<(), String> {
        let is = |condition: bool, reason: &str| if condition { Ok(()) } else { Err(reason.to_owned()) };
        is(
            monitor["name"].as_str().is_some_and(|name| (1..=256).contains(&name.len())),
            "Monitor name is null",
        )?;
        let trigger = match monitor["monitor_type"].as_str() {
            Some("query_level_monitor") => "query_level_trigger",
            Some("bucket_level_monitor") => "bucket_level_trigger",
            _ => return Err("Monitor type is unknown".into()),
        };
        let period = &monitor["schedule"]["period"];
        is(period["interval"].as_u64() > Some(0) && period["unit"] == "MINUTES", "Schedule is invalid")?;
        is(monitor["triggers"].as_array().is_some_and(|triggers| triggers.len() <= 10), "too many triggers")?;
        let trigger = &monitor["triggers"][0][trigger];
        is(trigger["name"].is_string(), "Incompatible trigger for the monitor type")?;
        is(
            ["1", "2", "3", "4", "5"].map(|one| json!(one)).contains(&trigger["severity"]),
            "Trigger severity",
        )?;
        is(trigger["condition"]["script"]["lang"] == "painless", "Invalid script language")?;
        let (status, answer) = run(self.server, monitor, &[]);
        is(status == 200, &format!("the search is invalid: {answer}"))
    }
}

/// Runs the search of a monitor with more filters, in a period that ends in two minutes: what is searched a minute
/// late is searched now.
fn run(server: SocketAddr, monitor: &Value, filters: &[Value]) -> (u16, Value) {
    let end = jiff::Timestamp::now().as_millisecond() + 2 * MINUTE;
    let search = &monitor["inputs"][0]["search"];
    let mut query = search["query"].clone();
    query["query"]["bool"]["filter"].as_array_mut().unwrap().extend_from_slice(filters);
    let text = query.to_string().replace("{{period_end}}", &end.to_string());
    let text = text.replace("{{period_start}}", &(end - 5 * MINUTE).to_string());
    let indices = search["indices"][0].as_str().unwrap();
    rest::request(server, "POST", &format!("/{indices}/_search"), &text).unwrap()
}

/// Whether the condition of a monitor holds. It has one of four forms, and each number is at one of four places.
fn alerts(monitor: &Value, answer: &Value) -> bool {
    let trigger = monitor["triggers"][0].as_object().unwrap().values().next().unwrap();
    let condition = &trigger["condition"];
    let script = condition["script"]["source"].as_str().unwrap();
    if script == "ctx.results[0].hits.total.value > 0" {
        return answer["hits"]["total"]["value"].as_u64().unwrap() > 0;
    }
    let buckets =
        answer["aggregations"][condition["parent_bucket_path"].as_str().unwrap()]["buckets"].as_array();
    let value = |bucket: &Value, name: &str| -> Option<f64> {
        match condition["buckets_path"][name].as_str().unwrap() {
            "_count" => bucket["doc_count"].as_f64(),
            "values" => bucket["values"]["value"].as_f64(),
            "first>_count" => bucket["first"]["doc_count"].as_f64(),
            "first>at" => bucket["first"]["at"]["value"].as_f64(),
            "second>at" => bucket["second"]["at"]["value"].as_f64(),
            other => panic!("the path {other}"),
        }
    };
    buckets.unwrap().iter().any(|bucket| {
        script.split(" && ").all(|part| match part.split_once(" >= ") {
            Some((name, least)) => {
                let number = value(bucket, name.strip_prefix("params.").unwrap());
                number.is_some_and(|number| number >= least.parse().unwrap())
            }
            None => {
                assert_eq!(part, "params.first <= params.second");
                value(bucket, "first")
                    .zip(value(bucket, "second"))
                    .is_some_and(|(first, second)| first <= second)
            }
        })
    })
}

struct Environment {
    host: Host,
    simulator: Arc<Alerting>,
    collector: Collector,
}

impl Environment {
    fn set_up(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        command.args(["setup", "opensearch", "--config"]).arg(self.host.config()).args(arguments);
        let share = format!("--detections={}", self.host.path("share").display());
        let output = command.arg(share).env_remove("CONFLUENCE_HOME").output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), crate::rig::unwrap_lines(&String::from_utf8(printed).unwrap()))
    }

    fn connect(&mut self, address: &str) {
        self.host.remote = Some(format!("type = \"elasticsearch\"\nhosts = [\"{address}\"]\n"));
    }
}

#[test]
fn a_real_opensearch_gets_monitors_that_alert_on_each_sample() {
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some(server) = OpenSearch::start(&place.path().join("opensearch")) else { return };
    let address = server.port.address();
    let simulator =
        Arc::new(Alerting { server: address, dashboards: Mutex::default(), monitors: Mutex::default() });
    let collector = Collector::start(simulator.clone());
    let mut env = Environment { host: Host::new(), simulator, collector };
    detections::directory(&env.host.path("share"), "detections/opensearch/monitors.ndjson", &[]);
    let Some(count) = products::install(&env.host.path("share")) else { return };

    // The tests' server has no plugins.
    env.connect(&format!("http://{address}"));
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("this OpenSearch has no alerting"), "{printed}");
    assert!(printed.contains("skipped   dashboards"), "{printed}");

    env.connect(&env.collector.url());
    installed_once(&env, count);
    replaced(&env);
    alert(&server, &env, "");
    // Without the pipeline of the index template, events have no time of arrival.
    alert(&server, &env, "&pipeline=_none");
}

fn installed_once(env: &Environment, count: usize) {
    let dashboards = format!("{}/dashboards", env.collector.url());
    let dashboards = ["--dashboards", dashboards.as_str()];
    let (code, printed) = env.set_up(&["--dry-run", dashboards[0], dashboards[1]]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.matches("would be created: monitor `").count(), count, "{printed}");
    assert!(env.simulator.monitors.lock().unwrap().is_empty());
    let (code, printed) = env.set_up(&dashboards);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.matches("created   monitor `").count(), count, "{printed}");
    assert!(printed.contains("created   dashboards in OpenSearch Dashboards"), "{printed}");
    let (code, printed) = env.set_up(&dashboards);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains(&format!("unchanged {count} monitors")), "{printed}");
    assert!(printed.contains("unchanged dashboards in OpenSearch Dashboards"), "{printed}");
    assert_eq!(env.simulator.monitors.lock().unwrap().len(), count);
}

/// A new edition keeps what operators set, and leaves a monitor that is not the agent's.
fn replaced(env: &Environment) {
    for (at, (_, monitor)) in env.simulator.monitors.lock().unwrap().values_mut().enumerate().take(2) {
        monitor["enabled"] = false.into();
        let trigger = monitor["triggers"][0].as_object_mut().unwrap().values_mut().next().unwrap();
        trigger["actions"] = json!([{"name": "mail"}]);
        if at == 1 {
            trigger["id"] = "of-somebody-else".into();
        }
    }
    let names: Vec<String> = env
        .simulator
        .monitors
        .lock()
        .unwrap()
        .values()
        .take(2)
        .map(|(_, monitor)| monitor["name"].as_str().unwrap().to_owned())
        .collect();
    let file = env.host.path("share/detections/opensearch/monitors.ndjson");
    let text = fs::read_to_string(&file).unwrap();
    let newer = text.lines().map(|line| {
        let mut monitor: Value = serde_json::from_str(line).unwrap();
        let is_named = names.iter().any(|name| monitor["name"] == *name);
        if is_named {
            monitor["inputs"][0]["search"]["query"]["timeout"] = "30s".into();
        }
        format!("{monitor}\n")
    });
    fs::write(&file, newer.collect::<String>()).unwrap();
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains(&format!("updated   monitor `{}`", names[0])), "{printed}");
    assert!(printed.contains(&format!("kept      monitor `{}`", names[1])), "{printed}");
    let monitors = env.simulator.monitors.lock().unwrap();
    let (number, first) = monitors.values().next().unwrap();
    assert_eq!((*number, &first["enabled"]), (1, &json!(false)));
    assert_eq!(first["inputs"][0]["search"]["query"]["timeout"], "30s");
    let trigger = first["triggers"][0].as_object().unwrap().values().next().unwrap();
    assert_eq!(trigger["actions"][0]["name"], "mail");
}

/// The title of a rule, which is the name of its monitor.
fn title(rule: &str) -> String {
    let sigma = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/detections/sigma");
    let mut texts = ["", "correlations"].iter().map(|folder| sigma.join(folder).join(format!("{rule}.yml")));
    let text =
        texts.find_map(|path| fs::read_to_string(path).ok()).unwrap_or_else(|| panic!("no rule {rule}"));
    text.lines().next().unwrap().strip_prefix("title: ").unwrap().to_owned()
}

/// Each monitor alerts on the samples that its rule must match, and on no other of its samples.
fn alert(server: &OpenSearch, env: &Environment, parameter: &str) {
    let marked = |name: &str| format!("{name} {parameter}");
    let samples = events(FormatKind::Ecs);
    let mut bulk = String::new();
    for (name, lines) in &samples {
        let mut events: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let at = |event: &Value| event["@timestamp"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let newest = events.iter().map(at).max().unwrap();
        let now = jiff::Timestamp::now();
        for event in &mut events {
            let age = newest.duration_since(at(event));
            event["@timestamp"] = (now - age).to_string().into();
            event["agent"]["name"] = marked(name).into();
            bulk += &format!("{{\"create\":{{\"_index\":\"{STREAM}\"}}}}\n{event}\n");
        }
    }
    let answer = server.request("POST", &format!("/_bulk?refresh=true{parameter}"), &bulk);
    assert_eq!(answer["errors"], false, "{answer}");
    let monitors = env.simulator.monitors.lock().unwrap();
    let (mut matches, mut misses) = (0, 0);
    let mut wrong = Vec::new();
    for name in samples.keys() {
        let (rule, file) = name.split_once('/').unwrap();
        let title = title(rule);
        let (_, monitor) =
            monitors.values().find(|(_, monitor)| monitor["name"] == title.as_str()).expect(rule);
        let (status, answer) =
            run(server.port.address(), monitor, &[json!({"term": {"agent.name": marked(name)}})]);
        assert_eq!(status, 200, "{name}: {answer}");
        let expected = file.starts_with("match-");
        if alerts(monitor, &answer) != expected {
            wrong.push(name);
        }
        *(if expected { &mut matches } else { &mut misses }) += 1;
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(matches >= monitors.len() && misses >= monitors.len(), "{matches} {misses}");
}
