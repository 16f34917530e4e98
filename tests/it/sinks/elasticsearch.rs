//! The sink of type `elasticsearch`, against simulated clusters. tests/it/opensearch.rs has a real one.

use super::*;
use crate::rig::collector::{Item, Post, Protocol};
use serde_json::{Value, json};

const STREAM: &str = "logs-atlassian_confluence.audit-default";

/// What a cluster answers to what is no bulk request.
#[derive(Clone)]
struct Bulk {
    root: (u16, Value),
    /// GET and PUT of the data stream.
    stream: (u16, Value),
    made: (u16, Value),
    /// GET of this agent's index template.
    template: (u16, Value),
    /// The pipeline of the index.
    pipeline: Option<&'static str>,
    /// Ids of items are those of other events.
    foreign_ids: bool,
    /// Those of the last request, in their order.
    ids: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
    /// Bytes that each item of an answer has in vain.
    padding: usize,
    /// The queries that it knows.
    strict: bool,
}

/// A data stream that this template made.
fn stream_of(template: &str) -> (u16, Value) {
    let stream = json!({"name": STREAM, "template": template, "indices": [
        {"index_name": format!(".ds-{STREAM}-2026.01.05-000001")},
        {"index_name": format!(".ds-{STREAM}-2026.02.05-000002")},
    ]});
    (200, json!({"data_streams": [stream]}))
}

fn elastic() -> Bulk {
    Bulk {
        root: (
            200,
            json!({"version": {"number": "9.1.0", "build_flavor": "default"}, "tagline": "You Know, for Search"}),
        ),
        stream: stream_of("confluence-audit"),
        made: (500, json!({})),
        template: (200, json!({})),
        pipeline: None,
        foreign_ids: false,
        ids: std::sync::Arc::default(),
        padding: 0,
        strict: true,
    }
}

fn open_search() -> Bulk {
    Bulk {
        root: (
            200,
            json!({"version": {"distribution": "opensearch", "number": "2.19.3"}, "tagline": "The OpenSearch Project: https://opensearch.org/"}),
        ),
        strict: false,
        ..elastic()
    }
}

fn error(kind: &str, reason: &str) -> Value {
    json!({"error": {"type": kind, "reason": reason}})
}

fn reply((status, body): &(u16, Value)) -> Reply {
    Reply::new(*status, body.to_string())
}

impl Protocol for Bulk {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let (path, query) = post.path.split_once('?').unwrap_or((&post.path, ""));
        match (post.method.as_str(), path) {
            ("GET", "/") => return Err(reply(&self.root)),
            ("GET", path) if path.starts_with("/_data_stream/") => return Err(reply(&self.stream)),
            ("PUT", path) if path.starts_with("/_data_stream/") => return Err(reply(&self.made)),
            ("GET", "/_index_template/confluence-audit") => return Err(reply(&self.template)),
            ("GET", path) if path.ends_with("/_settings") => {
                let settings = match self.pipeline {
                    Some(pipeline) => {
                        json!({"x": {"settings": {"index": {"default_pipeline": pipeline}}}})
                    }
                    None => json!({}),
                };
                assert!(!path.starts_with("/.ds-") || path.contains("000002"), "{path}");
                return Err(reply(&(200, settings)));
            }
            ("POST", path) if path.ends_with("/_bulk") => {}
            _ => return Err(Reply::new(405, "")),
        }
        if query.contains("require_data_stream") && !self.strict {
            let reason = "request contains unrecognized parameter: [require_data_stream]";
            return Err(Reply::new(400, error("illegal_argument_exception", reason).to_string()));
        }
        assert_eq!(post.header("content-type"), Some("application/x-ndjson"));
        assert!(post.body.ends_with(b"\n"), "a bulk request ends with a line end");
        let text = String::from_utf8(post.body.clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len() % 2, 0);
        let sent = lines.chunks(2).map(|pair| {
            let action: Value = serde_json::from_str(pair[0]).unwrap();
            let id = action["create"]["_id"].as_str().unwrap().to_owned();
            assert_eq!(id, crate::rig::collector::id_of(pair[1]));
            Sent { id, text: pair[1].to_owned() }
        });
        let sent: Vec<Sent> = sent.collect();
        *self.ids.lock().unwrap() = sent.iter().map(|sent| sent.id.clone()).collect();
        Ok(sent)
    }

    fn reply(&self, items: &[Item]) -> Reply {
        let failed = |status: u16, kind: &str, reason: &str| json!({"create": {"status": status, "error": {"type": kind, "reason": reason}}});
        let mut ids = self.ids.lock().unwrap().clone();
        if self.foreign_ids && ids.len() > 1 {
            ids.rotate_left(1);
        }
        let mut items: Vec<Value> = items
            .iter()
            .map(|item| match item {
                Item::Created => json!({"create": {"status": 201}}),
                Item::Duplicate => {
                    failed(409, "version_conflict_engine_exception", "document already exists")
                }
                Item::Poison => failed(400, "mapper_parsing_exception", "no such field"),
                Item::Busy => failed(429, "es_rejected_execution_exception", "queue is full"),
            })
            .collect();
        for (item, id) in items.iter_mut().zip(ids) {
            item["create"]["_id"] = id.into();
        }
        let errors = items.iter().any(|item| item["create"]["status"] != 201);
        let padding = " ".repeat(self.padding * items.len());
        Reply::new(200, json!({"errors": errors, "items": items}).to_string() + &padding)
    }

    fn reports_each_event(&self) -> bool {
        true
    }

    fn detects_duplicates(&self) -> bool {
        true
    }
}

pub const ELASTICSEARCH: Kind = Kind {
    name: "elasticsearch, a data stream",
    start: || Collector::start(elastic()),
    sink: |collector, token| {
        format!(
            "type = \"elasticsearch\"\nhosts = [\"{}\"]\napi_key = {{ file = {token:?} }}\n",
            collector.url()
        )
    },
    authorization: |token| format!("ApiKey {token}"),
    knows_ids: true,
    names_events: true,
    ..http::NDJSON
};

pub const OPENSEARCH: Kind = Kind {
    name: "elasticsearch, OpenSearch, an index, gzip",
    start: || Collector::start(open_search()),
    sink: |collector, token| {
        format!(
            "type = \"elasticsearch\"\nhosts = [\"{}\"]\nindex = \"audit\"\ncompression = \"gzip\"\nuser = \"agent\"\npassword = {{ file = {token:?} }}\n",
            collector.url()
        )
    },
    authorization: http::ARRAY.authorization,
    ..ELASTICSEARCH
};

fn environment_with(bulk: Bulk, kind: &Kind) -> Environment {
    let mut env = kind.new_environment();
    env.collector = Collector::start(bulk);
    let sink = (kind.sink)(&env.collector, &env.host.path("token"));
    env.host.remote = Some(sink + BATCHES);
    env
}

fn bulks(env: &Environment) -> Vec<Post> {
    let mut posts = env.collector.posts();
    posts.retain(|post| post.path.contains("/_bulk"));
    posts
}

#[test]
fn events_go_where_they_belong() {
    let mut env = ELASTICSEARCH.new_environment();
    env.write(5);
    let run = env.host.once_ok();
    run.logged("Elasticsearch 9.1.0");
    let path = &bulks(&env)[0].path;
    assert!(path.starts_with(&format!("/{STREAM}/_bulk?filter_path=")), "{path}");
    assert!(path.ends_with("&require_data_stream=true"), "{path}");
    let mut env = OPENSEARCH.new_environment();
    env.write(5);
    let run = env.host.once_ok();
    run.logged("OpenSearch 2.19.3");
    let post = &bulks(&env)[0];
    assert!(post.path.starts_with("/audit/_bulk?"), "{}", post.path);
    assert_eq!(post.header("content-encoding"), Some("gzip"));
    // The data stream is named after the events' namespace.
    let mut env = ELASTICSEARCH.new_environment();
    env.host.root += "event.namespace = \"production\"\n";
    env.write(5);
    env.host.once_ok();
    let path = &bulks(&env)[0].path;
    assert!(path.starts_with("/logs-atlassian_confluence.audit-production/_bulk?"), "{path}");
}

#[test]
fn a_host_that_is_not_there_is_passed_over() {
    let mut env = ELASTICSEARCH.new_environment();
    let mut second = Collector::start(elastic());
    let token = env.host.path("token");
    let hosts = format!("hosts = [\"{}\", \"{}\"]", env.collector.url(), second.url());
    let sink = (ELASTICSEARCH.sink)(&env.collector, &token);
    let own = sink.lines().find(|line| line.starts_with("hosts")).unwrap().to_owned();
    env.host.remote = Some(sink.replace(&own, &hosts) + BATCHES);
    let mut agent = env.host.start();
    env.write(50);
    env.until_all_arrived(&mut agent);
    assert_eq!(second.post_count(), 0);
    // The first goes: the second takes all, at once and without a pause.
    env.collector.stop();
    env.write(50);
    agent.until("the second host takes them", || second.distinct() == 50);
    // One failure is not logged, for no event waited for it.
    assert_eq!(agent.log_count("the next one is used"), 0, "{}", agent.stderr());
    assert_eq!(agent.log_count("events are not accepted"), 0, "{}", agent.stderr());
    // The second goes, the first is back.
    env.collector.start_again();
    second.stop();
    env.write(50);
    agent.until("the first host takes them", || env.collector.distinct() >= 100);
    // A node that starts answers 503: another is asked.
    second.start_again();
    env.collector.script([Do::Refuse(Reply::new(503, "starting"))]);
    env.write(20);
    agent.until("the second host takes them", || second.distinct() == 70);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let mut all = env.collector.events();
    all.extend(second.events());
    let judged = judge(&env.writer, &all);
    // Events may be repeated: a host can stop after it stored them, before its response is read.
    assert!(judged.missing.is_empty() && judged.damaged.is_empty(), "{judged:?}");
}

#[test]
fn what_is_no_cluster_gets_no_events() {
    // 204: what a load balancer answers where it has nothing.
    for status in [200, 202, 204] {
        let nginx = Bulk { root: (status, json!("Welcome to nginx!")), ..elastic() };
        let mut env = environment_with(nginx, &ELASTICSEARCH);
        env.write(5);
        let run = env.host.once();
        assert_eq!((run.code, bulks(&env).len()), (75, 0), "{}", run.stderr);
        let printed = env.host.check_sink();
        for text in [&run.stderr, &printed] {
            assert!(text.contains("neither Elasticsearch nor OpenSearch"), "{text}");
        }
    }
}

#[test]
fn without_a_template_no_plain_index_is_made_in_place_of_the_data_stream() {
    let missing = Bulk {
        stream: (404, error("index_not_found_exception", "no such index")),
        made: (
            400,
            error("illegal_argument_exception", "no matching index template found for data stream [x]"),
        ),
        ..open_search()
    };
    let mut env = environment_with(missing, &ELASTICSEARCH);
    env.write(5);
    let run = env.host.once();
    assert_eq!((run.code, bulks(&env).len()), (75, 0), "{}", run.stderr);
    run.logged("confluence-audit-agent setup elasticsearch");
    // With one it is made.
    let made = Bulk { stream: (404, json!({})), made: (200, json!({"acknowledged": true})), ..open_search() };
    let mut env = environment_with(made, &ELASTICSEARCH);
    env.write(5);
    let run = env.host.once_ok();
    run.logged("the data stream was created");
    exact(&env);
}

/// Who writes events need not be allowed to look at the cluster.
#[test]
fn credentials_that_may_only_write_are_enough() {
    let closed = Bulk {
        root: (403, error("security_exception", "action [cluster:monitor/main] is unauthorized")),
        stream: (403, error("security_exception", "unauthorized")),
        ..elastic()
    };
    let mut env = environment_with(closed.clone(), &ELASTICSEARCH);
    env.write(50);
    env.host.once_ok();
    exact(&env);
    // Once they have written it is not asked again. With more requests at once another may ask before the first is
    // answered.
    let mut env = environment_with(closed.clone(), &ELASTICSEARCH);
    env.host.remote.as_mut().unwrap().push_str("concurrency = 1\n");
    env.write(100);
    env.host.once_ok();
    let posts = env.collector.posts();
    let is_bulk = |post: &Post| post.path.contains("/_bulk");
    let asked = posts.iter().position(is_bulk).unwrap();
    assert!(asked > 0 && posts[asked..].iter().all(is_bulk), "{posts:?}");
    // Where no request says that it wants a data stream, an index could be made in its place.
    let table = [
        (closed.clone(), true),
        (Bulk { root: open_search().root, strict: false, ..closed.clone() }, true),
        (Bulk { stream: (404, json!({})), made: closed.stream.clone(), ..open_search() }, true),
        (Bulk { root: elastic().root, ..closed }, false),
        (open_search(), false),
    ];
    for (bulk, is_reported) in table {
        let mut env = environment_with(bulk, &ELASTICSEARCH);
        env.write(50);
        let run = env.host.once_ok();
        let reported = run.stderr.matches("indices:admin/data_stream/get").count();
        assert_eq!(reported, usize::from(is_reported), "{}", run.stderr);
    }
}

/// Another's template or pipeline fits the name of the data stream: nothing is written before a person has decided.
#[test]
fn f98_a_data_stream_of_anothers_template_gets_no_events() {
    let elastics = Bulk { stream: stream_of("logs"), ..elastic() };
    let integration = Bulk { pipeline: Some("logs-atlassian_confluence.audit-1.28.0"), ..elastic() };
    let table = [
        (elastics, "index template `logs`", "template = \"logs\"\n"),
        (
            integration,
            "pipeline `logs-atlassian_confluence.audit-1.28.0`",
            "pipeline = \"logs-atlassian_confluence.audit-1.28.0\"\n",
        ),
    ];
    for (bulk, expect, accepts) in table {
        let mut env = environment_with(bulk, &ELASTICSEARCH);
        env.write(5);
        let run = env.host.once();
        assert_eq!((run.code, bulks(&env).len()), (75, 0), "{}", run.stderr);
        let check = env.host.check_sink();
        for printed in [&run.stderr, &check] {
            assert!(printed.contains(expect) && printed.contains("_rollover"), "{printed}");
        }
        assert!(check.contains("failure"), "{check}");
        env.host.remote.as_mut().unwrap().push_str(accepts);
        assert!(!env.host.check_sink().contains("failure"));
        env.host.once_ok();
        exact(&env);
    }
    // None of its own, and another's would fit: it is not made.
    let missing = Bulk {
        stream: (404, json!({})),
        made: (200, json!({"acknowledged": true})),
        template: (404, json!({})),
        ..elastic()
    };
    let mut env = environment_with(missing, &ELASTICSEARCH);
    env.write(5);
    let run = env.host.once();
    assert_eq!((run.code, bulks(&env).len()), (75, 0), "{}", run.stderr);
    let posts = env.collector.posts();
    assert!(!posts.iter().any(|post| post.method == "PUT"), "{posts:?}");
    run.logged("setup elasticsearch");
    // Pipelines that change nothing, or are of the template itself; an index has one too.
    for (pipeline, kind, code) in [
        ("_none", &ELASTICSEARCH, 0),
        ("confluence-audit", &ELASTICSEARCH, 0),
        ("other", &OPENSEARCH, 75),
        ("_none", &OPENSEARCH, 0),
    ] {
        let bulk = Bulk { pipeline: Some(pipeline), strict: std::ptr::eq(kind, &ELASTICSEARCH), ..elastic() };
        let mut env = environment_with(bulk, kind);
        env.write(5);
        let run = env.host.once();
        assert_eq!(run.code, code, "{}", run.stderr);
    }
}

/// A proxy that mixes up answers: what it says of other events delivers none.
#[test]
fn f97_an_answer_with_other_ids_is_no_delivery() {
    let bulk = Bulk { foreign_ids: true, ..elastic() };
    let mut env = environment_with(bulk, &ELASTICSEARCH);
    env.write(10);
    let run = env.host.once_code(75);
    run.logged("has another id");
    assert_eq!(env.host.quarantined().len(), 0);
    let path = &bulks(&env)[0].path;
    assert!(path.contains("items.*._id"), "{path}");
}

/// A cluster that is busy says nothing of the data stream: nothing is written before it does.
#[test]
fn whether_there_is_a_data_stream_is_asked_until_it_is_answered() {
    let busy = Bulk { stream: (503, json!({})), ..open_search() };
    let mut env = environment_with(busy, &ELASTICSEARCH);
    env.write(5);
    let run = env.host.once();
    assert_eq!((run.code, bulks(&env).len()), (75, 0), "{}", run.stderr);
}

/// Fewer events have a shorter answer. Of one alone it is waited for.
#[test]
fn f47_an_answer_that_is_too_long_makes_requests_smaller() {
    for (padding, fits) in [(16 << 10, true), (80 << 10, false)] {
        let bulk = Bulk { padding, ..elastic() };
        let mut env = environment_with(bulk, &ELASTICSEARCH);
        let remote = env.host.remote.as_mut().unwrap();
        remote.push_str("body_bytes_max = \"64KiB\"\n");
        env.write(60);
        let run = env.host.once();
        assert_eq!(run.code, if fits { 0 } else { 75 }, "{}", run.stderr);
        run.logged("the response is longer than 65536 bytes");
        assert_eq!(env.host.quarantined().len(), 0);
        if fits {
            exact(&env);
        }
    }
}

#[test]
fn check_reports_what_a_cluster_is() {
    let env = ELASTICSEARCH.new_environment();
    let check = |env: &Environment| env.host.check_sink();
    let printed = check(&env);
    assert!(printed.contains("is Elasticsearch 9.1.0"), "{printed}");
    assert!(printed.contains(&format!("the data stream `{STREAM}` exists")), "{printed}");
    assert!(!printed.contains("failure"), "{printed}");
    env.collector.require_authorization(Some("ApiKey another"));
    let printed = check(&env);
    assert!(printed.starts_with("failure") && printed.contains("status 401"), "{printed}");
    assert_eq!(env.collector.stored_count(), 0);
}
