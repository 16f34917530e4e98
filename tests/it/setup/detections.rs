//! `setup elasticsearch --detections` against a simulator of Kibana, which keeps state.

use super::kibana::{Kibana, PATH, check_rule};
use super::products;
use crate::rig::Host;
use crate::rig::collector::Collector;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

const DASHBOARDS: usize = 6;

/// The files of a package, with two rules.
pub fn directory(place: &Path, rules: &str, documents: &[Value]) {
    for product in ["kibana", "opensearch"] {
        fs::create_dir_all(place.join(product)).unwrap();
        let file = format!("{product}/dashboards.ndjson");
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
        fs::copy(packaging.join(&file), place.join(&file)).unwrap();
    }
    let rules = place.join(rules);
    fs::create_dir_all(rules.parent().unwrap()).unwrap();
    let lines = documents.iter().map(|document| format!("{document}\n"));
    fs::write(rules, lines.collect::<String>()).unwrap();
}

fn rule(id: &str, name: &str) -> Value {
    json!({"rule_id": id, "name": name, "description": "A rule.", "type": "query", "language": "lucene",
        "query": "event.action:x", "index": ["logs-atlassian_confluence.audit-*"], "severity": "high",
        "risk_score": 73, "interval": "5m", "from": "now-10m", "enabled": true})
}

struct Environment {
    host: Host,
    server: Collector,
    kibana: Arc<Kibana>,
}

fn new_environment(rules: &[Value]) -> Environment {
    let kibana = Arc::new(Kibana::default());
    let server = Collector::start(kibana.clone());
    let mut host = Host::new();
    host.remote = Some(format!("type = \"elasticsearch\"\nhosts = [\"{}\"]\n", server.url()));
    let env = Environment { host, server, kibana };
    env.write(rules);
    env
}

impl Environment {
    fn write(&self, rules: &[Value]) {
        directory(&self.host.path("share"), "detections/elastic/rules.ndjson", rules);
    }

    fn set_up(&self, arguments: &[&str]) -> (i32, String) {
        let share = format!("--detections={}", self.host.path("share").display());
        let address = format!("{}{PATH}/", self.server.url());
        let mut all = vec![share.as_str(), "--dashboards", &address];
        all.extend(arguments);
        self.call(&all)
    }

    fn call(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        command.args(["setup", "elasticsearch", "--config"]).arg(self.host.config()).args(arguments);
        let output = command.env_remove("CONFLUENCE_HOME").output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    /// What changes something in Kibana.
    fn writes(&self) -> usize {
        let posts = self.server.posts();
        let is_write = |path: &str| path.ends_with("_import?overwrite=true") || path.ends_with("/rules");
        posts.iter().filter(|post| post.method != "GET" && is_write(&post.path)).count()
    }

    fn edit(&self, id: &str, change: impl Fn(&mut Value)) {
        change(self.kibana.state.lock().unwrap().rules.get_mut(id).unwrap());
    }

    fn kept(&self, id: &str) -> Value {
        self.kibana.state.lock().unwrap().rules[id].clone()
    }
}

#[test]
fn kibana_gets_dashboards_and_rules_once() {
    let rules = [rule("1", "Space exported"), rule("2", "Log altered")];
    let env = new_environment(&rules);
    let (code, printed) = env.set_up(&["--dry-run"]);
    assert_eq!((code, env.writes()), (0, 0), "{printed}");
    assert!(printed.contains("would be created: dashboards in Kibana"), "{printed}");
    assert!(printed.contains("would be created: detection rule `Space exported`"), "{printed}");

    let (code, printed) = env.set_up(&[]);
    assert_eq!((code, env.writes()), (0, 3), "{printed}");
    assert!(printed.contains("created   dashboards in Kibana"), "{printed}");
    assert!(printed.contains("created   detection rule `Log altered`"), "{printed}");
    let dashboards = || {
        let state = env.kibana.state.lock().unwrap();
        state.objects.keys().filter(|(kind, _)| kind == "dashboard").count()
    };
    assert_eq!(dashboards(), DASHBOARDS);

    let (code, printed) = env.set_up(&[]);
    assert_eq!((code, env.writes()), (0, 3), "{printed}");
    assert!(printed.contains("unchanged dashboards in Kibana"), "{printed}");
    assert!(printed.contains("unchanged 2 detection rules"), "{printed}");
}

#[test]
fn a_new_edition_replaces_rules_but_neither_edited_ones_nor_what_operators_set() {
    let rules = [rule("1", "Space exported"), rule("2", "Log altered"), rule("3", "Log searched")];
    let env = new_environment(&rules);
    assert_eq!(env.set_up(&[]).0, 0);
    env.edit("1", |rule| {
        rule["enabled"] = false.into();
        rule["actions"] = json!([{"id": "mail"}]);
    });
    // Kibana replaces `meta` when a rule is saved in its editor.
    env.edit("2", |rule| {
        rule["query"] = "event.action:mine".into();
        rule["meta"] = json!({"from": "1m"});
    });
    // A bulk action leaves it.
    env.edit("3", |rule| rule["query"] = "event.action:bulk".into());
    let mut newer = [rule("1", "Space exported"), rule("2", "Log altered"), rule("3", "Log searched")];
    newer.iter_mut().for_each(|rule| rule["query"] = "event.action:newer".into());
    env.write(&newer);
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("updated   detection rule `Space exported`"), "{printed}");
    assert!(printed.contains("kept      detection rule `Log altered`: it was edited"), "{printed}");
    let first = env.kept("1");
    assert_eq!((&first["query"], &first["enabled"]), (&json!("event.action:newer"), &json!(false)));
    assert_eq!(first["actions"][0]["id"], "mail");
    assert_eq!(env.kept("2")["query"], "event.action:mine");
    assert_eq!(env.kept("3")["query"], "event.action:newer");
}

#[test]
fn rules_search_the_index_of_the_sink() {
    let mut env = new_environment(&[rule("1", "Space exported")]);
    env.host.remote.as_mut().unwrap().push_str("index = \"wiki\"\n");
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(env.kept("1")["index"], json!(["wiki"]));
    let state = env.kibana.state.lock().unwrap();
    let pattern = &state.objects[&("index-pattern".into(), "confluence-audit".into())];
    assert_eq!(pattern["attributes"]["title"], "wiki");
}

#[test]
fn what_kibana_refuses_is_reported() {
    let mut wrong = rule("1", "Wrong");
    wrong["severity"] = "huge".into();
    let env = new_environment(&[wrong]);
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("detection rule `Wrong`: Kibana: status 400"), "{printed}");
    assert!(printed.contains("severity"), "{printed}");

    env.server.require_authorization(Some("Basic ZWxhc3RpYzpodW50ZXIy"));
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("status 401"), "{printed}");
    let password = env.host.path("password");
    fs::write(&password, "hunter2\n").unwrap();
    env.write(&[rule("1", "Right")]);
    let (code, printed) = env.set_up(&["--user", "elastic", "--password-file", password.to_str().unwrap()]);
    assert_eq!(code, 0, "{printed}");
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn wrong_calls_name_the_way_out() {
    let env = new_environment(&[]);
    let share = format!("--detections={}", env.host.path("share").display());
    let elsewhere = format!("{}/elsewhere", env.server.url());
    for (arguments, expected, words) in [
        (&[share.as_str()][..], 75, "name its address with `--dashboards URL`"),
        (&[&share, "--dashboards", "kibana.example.com"], 78, "--dashboards has no scheme"),
        (&[&share, "--dashboards", &elsewhere], 75, "status 404"),
        (
            &["--detections=/nowhere", "--dashboards", &elsewhere],
            75,
            "cannot read `/nowhere/detections/elastic",
        ),
        (&["--dashboards", &elsewhere], 64, "--detections"),
    ] {
        let (code, printed) = env.call(arguments);
        assert_eq!(code, expected, "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
    assert_eq!(env.writes(), 0);
}

#[test]
fn the_simulator_refuses_what_kibana_refuses() {
    for (member, value, words) in [
        ("name", Value::Null, "name: Required"),
        ("risk_score", json!(101), "risk_score"),
        ("severity", json!("informational"), "severity"),
        ("type", json!("sigma"), "type"),
        ("type", json!("threshold"), "threshold.field"),
        ("type", json!("esql"), "language"),
        ("from", json!("yesterday"), "date-math"),
        ("tags", json!("one"), "tags"),
        ("threat", json!([{"framework": "MITRE ATT&CK", "tactic": {"id": "TA0001"}}]), "threat"),
    ] {
        let mut wrong = rule("1", "a");
        wrong[member] = value;
        let message = check_rule(&wrong).unwrap_err();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(check_rule(&rule("1", "a")), Ok(()));
}

#[test]
fn kibana_takes_all_rules_of_the_package() {
    let env = new_environment(&[]);
    let Some(count) = products::install(&env.host.path("share")) else { return };
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert_eq!(printed.matches("created   detection rule").count(), count, "{printed}");
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains(&format!("unchanged {count} detection rules")), "{printed}");
}
