//! `setup elasticsearch` against clusters that answer as a test says. tests/it/opensearch.rs has a real one.

mod alerting;
mod detections;
mod kibana;
mod products;

use crate::rig::Host;
use crate::rig::collector::{Collector, Item, Post, Protocol, Reply, Sent};
use serde_json::{Value, json};
use std::process::Command;

const STREAM: &str = "logs-atlassian_confluence.audit-default";

/// Answers by method and the beginning of the path, the first that fits; 404 where none does, 200 to every other PUT.
struct Cluster(Vec<(&'static str, &'static str, u16, Value)>);

impl Protocol for Cluster {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let fits = |(method, path, ..): &&(&str, &str, u16, Value)| {
            *method == post.method
                && if *path == "/" { post.path == "/" } else { post.path.starts_with(path) }
        };
        Err(match self.0.iter().find(fits) {
            Some((_, _, status, body)) => Reply::new(*status, body.to_string()),
            None if post.method == "PUT" => Reply::new(200, "{\"acknowledged\":true}"),
            None => {
                Reply::new(404, "{\"error\":{\"type\":\"resource_not_found_exception\",\"reason\":\"none\"}}")
            }
        })
    }

    fn reply(&self, _items: &[Item]) -> Reply {
        Reply::new(500, "")
    }
}

fn elastic() -> (&'static str, &'static str, u16, Value) {
    let root = json!({"version": {"number": "8.17.1", "build_flavor": "default"}, "tagline": "You Know, for Search"});
    ("GET", "/", 200, root)
}

fn open_search() -> (&'static str, &'static str, u16, Value) {
    ("GET", "/", 200, json!({"version": {"distribution": "opensearch", "number": "2.19.3"}}))
}

struct Environment {
    host: Host,
    collector: Collector,
}

fn new_environment(answers: Vec<(&'static str, &'static str, u16, Value)>) -> Environment {
    let collector = Collector::start(Cluster(answers));
    let mut host = Host::new();
    host.remote = Some(format!("type = \"elasticsearch\"\nhosts = [\"{}\"]\n", collector.url()));
    Environment { host, collector }
}

impl Environment {
    fn set_up(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
            .args(["setup", "elasticsearch"])
            .args(arguments)
            .arg("--config")
            .arg(self.host.config())
            .env_remove("CONFLUENCE_HOME")
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(printed).unwrap())
    }

    /// The paths of all PUTs, with their bodies.
    fn puts(&self) -> Vec<(String, Value)> {
        let posts = self.collector.posts();
        let puts = posts.into_iter().filter(|post| post.method == "PUT");
        puts.map(|post| (post.path, serde_json::from_slice(&post.body).unwrap_or_default())).collect()
    }
}

#[test]
fn elasticsearch_gets_a_policy_a_pipeline_a_template_and_a_data_stream() {
    let env = new_environment(vec![elastic()]);
    let (code, printed) = env.set_up(&["--dry-run", "--retention", "90d"]);
    assert_eq!((code, printed.matches("would be created").count(), env.puts().len()), (0, 4, 0), "{printed}");
    let (code, printed) = env.set_up(&["--retention", "90d"]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("deletes events after 90 days"), "{printed}");
    let puts = env.puts();
    let paths: Vec<&str> = puts.iter().map(|(path, _)| path.as_str()).collect();
    let stream = format!("/_data_stream/{STREAM}");
    assert_eq!(
        paths,
        [
            "/_ilm/policy/confluence-audit",
            "/_ingest/pipeline/confluence-audit",
            "/_index_template/confluence-audit",
            &stream
        ]
    );
    assert_eq!(puts[0].1["policy"]["phases"]["delete"]["min_age"], "90d");
    assert_eq!(puts[1].1["processors"][0]["set"]["field"], "event.ingested");
    let index = &puts[2].1["template"]["settings"]["index"];
    assert_eq!(index["lifecycle"]["name"], "confluence-audit");
    assert_eq!(index["default_pipeline"], "confluence-audit");
}

#[test]
fn opensearch_gets_a_policy_of_its_own_which_is_changed_on_demand_only() {
    let there =
        json!({"_id": "confluence-audit", "_version": 3, "_seq_no": 7, "_primary_term": 2, "policy": {}});
    let env = new_environment(vec![open_search(), ("GET", "/_plugins/_ism/policies/", 200, there)]);
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("unchanged lifecycle policy"), "{printed}");
    assert!(!env.puts().iter().any(|(path, _)| path.contains("_ism")));
    let (code, printed) = env.set_up(&["--retention", "730d"]);
    assert_eq!(code, 0, "{printed}");
    let puts = env.puts();
    let (path, policy) = puts.iter().find(|(path, _)| path.contains("_ism")).unwrap();
    assert_eq!(path, "/_plugins/_ism/policies/confluence-audit?if_seq_no=7&if_primary_term=2");
    // Counted from the making of an index that takes events for 30 days.
    assert_eq!(policy["policy"]["states"][0]["transitions"][0]["conditions"]["min_index_age"], "760d");
}

#[test]
fn what_was_installed_before_is_replaced_and_what_is_right_stays() {
    let mine = |digest: &str| {
        let meta = json!({"managed_by": "confluence-audit-agent", "digest": digest});
        json!({"index_templates": [{"name": "confluence-audit", "index_template": {"_meta": meta}}]})
    };
    let policy = ("GET", "/_ilm/policy/", 200, json!({}));
    let stream = ("GET", "/_data_stream/", 200, json!({}));
    let old = new_environment(vec![
        elastic(),
        policy.clone(),
        stream.clone(),
        ("GET", "/_index_template/", 200, mine("old")),
    ]);
    let (code, printed) = old.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("updated   index template") && printed.contains("_rollover"), "{printed}");
    let puts = old.puts();
    let digest = puts[1].1["_meta"]["digest"].as_str().unwrap();
    let pipeline = json!({"confluence-audit": puts[0].1});
    let new = new_environment(vec![
        elastic(),
        policy.clone(),
        stream.clone(),
        ("GET", "/_ingest/pipeline/", 200, pipeline),
        ("GET", "/_index_template/", 200, mine(digest)),
    ]);
    let (code, printed) = new.set_up(&[]);
    assert_eq!((code, printed.matches("unchanged").count(), new.puts().len()), (0, 4, 0), "{printed}");
    let pipelines = [
        ("confluence-audit-agent: an older one", 0, "updated   ingest pipeline"),
        ("of our own", 75, "is not this agent's"),
    ];
    for (description, expected, words) in pipelines {
        let there = json!({"confluence-audit": {"description": description, "processors": []}});
        let env = new_environment(vec![
            elastic(),
            policy.clone(),
            stream.clone(),
            ("GET", "/_ingest/pipeline/", 200, there),
        ]);
        let (code, printed) = env.set_up(&[]);
        assert_eq!(code, expected, "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
}

#[test]
fn a_cluster_without_the_processor_gets_a_template_without_the_pipeline() {
    let no = json!({"error": {"type": "parse_exception", "reason": "No processor type exists with name [set]"}, "status": 400});
    let env = new_environment(vec![elastic(), ("PUT", "/_ingest/pipeline/", 400, no)]);
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("warning") && printed.contains("`event.ingested`"), "{printed}");
    let puts = env.puts();
    let (_, template) = puts.iter().find(|(path, _)| path.contains("_index_template")).unwrap();
    assert!(template["template"]["settings"]["index"]["default_pipeline"].is_null());
}

#[test]
fn a_missing_right_is_named() {
    let no = json!({"error": {"type": "security_exception", "reason": "unauthorized"}, "status": 403});
    for (path, right) in [
        ("/_ilm/policy/", "`manage_ilm`"),
        ("/_ingest/pipeline/", "`manage_ingest_pipelines`"),
        ("/_index_template/", "`manage_index_templates`"),
        ("/_data_stream/", "`create_index`"),
    ] {
        let env = new_environment(vec![elastic(), ("PUT", path, 403, no.clone())]);
        let (code, printed) = env.set_up(&[]);
        assert_eq!(code, 75, "{printed}");
        assert!(printed.contains(right) && printed.contains("--user"), "{printed}");
    }
    let env = new_environment(vec![("GET", "/", 401, no)]);
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 75, "{printed}");
    assert!(printed.contains("status 401") && printed.contains("--user"), "{printed}");
}

#[test]
fn another_account_sets_up() {
    let env = new_environment(vec![elastic()]);
    let password = env.host.path("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    let (code, printed) = env.set_up(&["--user", "elastic", "--password-file", password.to_str().unwrap()]);
    assert_eq!(code, 0, "{printed}");
    for post in env.collector.posts() {
        assert_eq!(post.header("authorization"), Some("Basic ZWxhc3RpYzpodW50ZXIy"));
    }
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn wrong_calls_are_reported() {
    let mut env = new_environment(vec![elastic()]);
    for (arguments, words) in [
        (&["--sink", "other"][..], "has no sink `other` of type"),
        (&["--retention", "soon"], "--retention"),
        (&["--retention", "1h"], "out of range"),
    ] {
        let (code, printed) = env.set_up(arguments);
        assert_eq!(code, 78, "{printed}");
        assert!(printed.contains(words), "{printed}");
    }
    assert_eq!(env.collector.post_count(), 0);
    env.host.remote = None;
    let (code, printed) = env.set_up(&[]);
    assert_eq!(code, 78, "{printed}");
    assert!(printed.contains("has no sink of type"), "{printed}");
    // Nothing is needed to print.
    let (code, printed) = env.set_up(&["--print"]);
    assert_eq!(code, 0);
    assert!(
        printed.contains("PUT _index_template/confluence-audit")
            && printed.contains("PUT _ingest/pipeline/confluence-audit")
            && printed.contains("PUT _plugins/_ism/policies"),
        "{printed}"
    );
}
