use super::{command, delivered, findings};
use crate::rig::collector::{Collector, Item, Post, Protocol, Reply, Sent};
use crate::rig::{Host, Writer, append, file_name};
use crate::simulator::sim::{ADMIN_EMAIL, ADMIN_TOKEN, Options, Row, Sim};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex};

const RECORDS: usize = 40;

/// Reconciles a host. Returns the exit code, each finding with its place and id, and the summary.
fn reconcile(host: &Host, more: &[&str]) -> (i32, Vec<(String, String, String)>, Value) {
    let config = host.config();
    let mut arguments = vec!["reconcile", "--json", "--config", config.to_str().unwrap()];
    arguments.extend(more);
    let once = command(&arguments, &[]);
    assert_eq!(once.stderr, "");
    let (found, summary) = findings(&once);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let found = found.iter().map(|one| (text(&one["at"]), text(&one["finding"]), text(&one["id"])));
    let found = found.collect();
    (once.code, found, summary)
}

fn id_of(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    event["event"]["id"].as_str().unwrap().to_owned()
}

fn finding(at: &str, finding: &str, id: &str) -> (String, String, String) {
    (at.to_owned(), finding.to_owned(), id.to_owned())
}

#[test]
fn files_and_outputs_are_compared_with_the_ledger() {
    let host = delivered(RECORDS, "");
    let (code, found, summary) = reconcile(&host, &[]);
    assert_eq!((code, found), (0, vec![]), "{summary}");
    assert_eq!(summary["compared"][0]["at"], "sink local");
    assert_eq!(summary["compared"][1]["total"]["intact"], RECORDS);
    // The output has lost an event, and another was changed.
    let output = fs::read_to_string(host.output()).unwrap();
    let mut events: Vec<String> = output.lines().map(str::to_owned).collect();
    let (removed, changed) = (id_of(&events[7]), id_of(&events[3]));
    events[3] = events[3].replace("\"message\":\"", "\"message\":\"Not ");
    events.remove(7);
    fs::write(host.output(), events.join("\n") + "\n").unwrap();
    let (code, mut found, _) = reconcile(&host, &[]);
    found.sort();
    let mut expected =
        [finding("sink local", "missing", &removed), finding("sink local", "altered", &changed)];
    expected.sort();
    assert_eq!((code, &found[..]), (1, &expected[..]));
    // A record that was written after the agent stopped, and one that somebody has changed.
    fs::write(host.output(), &output).unwrap();
    let audit = fs::read_dir(host.audit()).unwrap().next().unwrap().unwrap().path();
    let mut lines = fs::read_to_string(&audit).unwrap();
    let first = lines.lines().next().unwrap().to_owned();
    let altered = first.replace("\"method\":\"", "\"method\":\"x");
    assert_ne!(altered, first);
    lines = lines.replace(&first, &altered);
    fs::write(&audit, lines).unwrap();
    let (code, found, summary) = reconcile(&host, &[]);
    assert_eq!(code, 1);
    let kinds: Vec<_> = found.iter().map(|(at, kind, _)| (at.as_str(), kind.as_str())).collect();
    assert_eq!(kinds, [("files of source wiki", "undelivered")], "{summary}");
}

/// The alert of missing events must last until all of the sink was compared again.
#[test]
fn the_result_for_the_metrics_is_of_everything() {
    let mut host = delivered(RECORDS, "");
    let stored = |host: &Host| -> Value {
        let text = fs::read_to_string(host.state().join("reconcile.json")).unwrap_or_default();
        serde_json::from_str(&text).unwrap_or_default()
    };
    let output = fs::read_to_string(host.output()).unwrap();
    let (first, rest) = output.split_once('\n').unwrap();
    assert!(first.contains("\"original\""));
    fs::write(host.output(), rest).unwrap();
    assert_eq!(reconcile(&host, &["--to", "2000-01-01"]).0, 0);
    assert_eq!(stored(&host), Value::Null);
    assert_eq!(reconcile(&host, &[]).0, 1);
    let result = stored(&host);
    assert_eq!(result["local"]["missing"], 1, "{result}");
    for narrower in [&["--from", "2100-01-01"], &["--to", "2000-01-01"], &["--source", "wiki"]] {
        reconcile(&host, narrower);
        assert_eq!(stored(&host), result, "{narrower:?}");
    }
    // The next sink cannot be compared; the first one is whole again.
    fs::write(host.path("out/wiki.ndjson"), output).unwrap();
    let unreadable = host.path("copy.ndjson");
    host.more = format!("[[sink]]\nname = \"copy\"\ntype = \"file\"\npath = {unreadable:?}\n");
    let _socket = std::os::unix::net::UnixListener::bind(&unreadable).unwrap();
    let config = host.config();
    let once = command(&["reconcile", "--config", config.to_str().unwrap()], &[]);
    assert_eq!(once.code, 75, "{}", once.stderr);
    assert_eq!(stored(&host)["local"]["missing"], 0, "{}", once.stderr);
}

#[test]
fn an_event_that_was_never_delivered_is_named() {
    let host = delivered(RECORDS, "");
    let mut writer = Writer::new(&host.audit(), 5);
    let file = writer.create(&file_name(6, 0));
    writer.append(&file, 2);
    append(&file.path, b"{\"half\":");
    let (code, found, _) = reconcile(&host, &[]);
    assert_eq!((code, found.len()), (1, 2), "{found:?}");
    assert!(found.iter().all(|(at, kind, _)| at == "files of source wiki" && kind == "undelivered"));
    let once = command(&["reconcile", "--config", host.config().to_str().unwrap()], &[]);
    assert_eq!(once.code, 1);
    for text in [
        "sink local: 1 file, ",
        "files of source wiki: 2 files, ",
        ", 2 not delivered, 0 altered",
        "  undelivered ",
    ] {
        assert!(once.stdout.contains(text), "{text}\n{}", once.stdout);
    }
    host.once_ok();
    assert_eq!(reconcile(&host, &[]).0, 0);
}

/// An index of a cluster.
#[derive(Clone, Default)]
struct Cluster {
    documents: Arc<Mutex<BTreeMap<String, Value>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// The answer to a search, if it is another one.
    answer: Arc<Mutex<Option<(u16, Value)>>>,
}

impl Cluster {
    fn search(&self, body: &[u8]) -> Reply {
        if let Some((status, body)) = &*self.answer.lock().unwrap() {
            return Reply::new(*status, body.to_string());
        }
        let query: Value = serde_json::from_slice(body).unwrap();
        let documents = self.documents.lock().unwrap();
        let ids = query["query"]["ids"]["values"].as_array().unwrap();
        let hits = ids.iter().filter_map(|id| {
            let source = documents.get(id.as_str().unwrap())?;
            Some(json!({"_id": id, "_source": source}))
        });
        let hits: Vec<Value> = hits.collect();
        Reply::new(
            200,
            json!({"timed_out": false, "_shards": {"failed": 0}, "hits": {"hits": hits}}).to_string(),
        )
    }
}

impl Protocol for Cluster {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        let path = post.path.split('?').next().unwrap();
        match (post.method.as_str(), path) {
            ("GET", "/") => {
                let version = json!({"version": {"distribution": "opensearch", "number": "2.19.3"}, "tagline": "The OpenSearch Project: https://opensearch.org/"});
                Err(Reply::new(200, version.to_string()))
            }
            ("GET", _) => Err(Reply::new(200, "{}")),
            ("POST", path) if path.ends_with("/_refresh") => Err(Reply::new(200, "{}")),
            ("POST", path) if path.ends_with("/_search") => Err(self.search(&post.body)),
            ("POST", _) => {
                let text = String::from_utf8(post.body.clone()).unwrap();
                let lines: Vec<&str> = text.lines().collect();
                let sent = lines.chunks(2).map(|pair| {
                    let action: Value = serde_json::from_str(pair[0]).unwrap();
                    let id = action["create"]["_id"].as_str().unwrap().to_owned();
                    let mut documents = self.documents.lock().unwrap();
                    documents.entry(id.clone()).or_insert_with(|| serde_json::from_str(pair[1]).unwrap());
                    Sent { id, text: pair[1].to_owned() }
                });
                let sent: Vec<Sent> = sent.collect();
                *self.asked.lock().unwrap() = sent.iter().map(|sent| sent.id.clone()).collect();
                Ok(sent)
            }
            _ => Err(Reply::new(405, "")),
        }
    }

    fn reply(&self, _: &[Item]) -> Reply {
        let items = self.asked.lock().unwrap();
        let items: Vec<Value> =
            items.iter().map(|id| json!({"create": {"_id": id, "status": 201}})).collect();
        Reply::new(200, json!({"errors": false, "items": items}).to_string())
    }

    fn reports_each_event(&self) -> bool {
        true
    }
}

fn with_cluster(records: usize) -> (Host, Cluster, Collector) {
    let cluster = Cluster::default();
    let collector = Collector::start(cluster.clone());
    let mut host = Host::new();
    host.remote = Some(format!(
        "type = \"elasticsearch\"\nhosts = [\"{}\"]\nindex = \"audit\"\nbatch_wait = \"100ms\"\n",
        collector.url()
    ));
    host.audit_file(3, records);
    host.once_ok();
    (host, cluster, collector)
}

#[test]
fn a_cluster_is_asked_by_id() {
    let (host, cluster, collector) = with_cluster(1200);
    let (code, found, summary) = reconcile(&host, &[]);
    assert_eq!((code, found), (0, vec![]), "{summary}");
    assert_eq!(summary["compared"][0]["total"]["intact"], cluster.documents.lock().unwrap().len());
    let searches = collector.posts().iter().filter(|post| post.path.contains("/_search")).count();
    assert_eq!(searches, 3);
    let ids: Vec<String> = cluster.documents.lock().unwrap().keys().cloned().collect();
    let removed = cluster.documents.lock().unwrap().remove(&ids[7]).unwrap();
    let original = removed["event"]["original"].clone();
    cluster.documents.lock().unwrap().get_mut(&ids[3]).unwrap()["event"]["original"] = original;
    let (code, mut found, _) = reconcile(&host, &["--sink", "local"]);
    found.sort();
    let expected = [finding("sink local", "altered", &ids[3]), finding("sink local", "missing", &ids[7])];
    assert_eq!((code, &found[..]), (1, &expected[..]));
    assert_eq!(reconcile(&host, &["--to", "2000-01-01"]).0, 0);
    // What does not answer, or not in full, is no finding.
    for (status, body, text) in [
        (
            403,
            json!({"error": {"type": "security_exception", "reason": "no permissions"}}),
            "the right to search",
        ),
        (200, json!({"timed_out": true, "hits": {"hits": []}}), "a part of the index did not answer"),
        (200, json!({"_shards": {"failed": 1}, "hits": {"hits": []}}), "a part of the index did not answer"),
    ] {
        *cluster.answer.lock().unwrap() = Some((status, body));
        let (code, found, summary) = reconcile(&host, &[]);
        assert_eq!((code, found), (75, vec![]), "{summary}");
        let failed = summary["failed"][0].as_str().unwrap();
        assert!(failed.starts_with("sink local: ") && failed.contains(text), "{failed}");
    }
}

#[test]
fn other_sinks_need_an_export() {
    let collector = Collector::start(crate::rig::collector::Plain);
    let mut host = Host::new();
    host.remote = Some(format!("type = \"http\"\nurl = \"{}\"\nbatch_wait = \"100ms\"\n", collector.url()));
    host.audit_file(3, RECORDS);
    host.once_ok();
    let (code, found, summary) = reconcile(&host, &[]);
    assert_eq!((code, found), (0, vec![]));
    assert!(summary["unchecked"].to_string().contains("sink local: it cannot be asked"), "{summary}");
    let mut events: Vec<String> = collector.stored().into_iter().map(|sent| sent.text).collect();
    let removed = events.remove(5);
    let export = host.path("export");
    fs::write(&export, events.join("\n")).unwrap();
    let (code, found, _) = reconcile(&host, &["--sink", "local", "--export", export.to_str().unwrap()]);
    assert_eq!((code, found), (1, vec![finding("sink local", "missing", &id_of(&removed))]));
    for (arguments, text) in [
        (["--sink", "other"], "there is no sink `other` in the configuration; there is `local`"),
        (["--source", "docs"], "there is no source `docs` in the configuration"),
    ] {
        let config = host.config();
        let words = [["reconcile", "--config", config.to_str().unwrap()].as_slice(), &arguments].concat();
        let once = command(&words, &[]);
        assert_eq!(once.code, 78);
        assert!(once.stderr.contains(text), "{}", once.stderr);
    }
}

/// The file sink keeps a number of rotated outputs.
#[test]
fn deleted_outputs_are_no_finding() {
    let host = {
        let mut host = Host::new();
        host.sink = "rotate_daily = false\nrotate_bytes = \"64KiB\"\nrotated_files_max = 2\n".into();
        host.audit_file(3, 400);
        host.once_ok();
        host
    };
    let (code, found, summary) = reconcile(&host, &[]);
    assert_eq!((code, found), (0, vec![]), "{summary}");
    assert!(summary["unchecked"].to_string().contains("the older outputs were deleted"), "{summary}");
    let total = &summary["compared"][0]["total"];
    assert!(total["intact"].as_u64().unwrap() > 10 && total["intact"].as_u64().unwrap() < 200, "{total}");
}

#[test]
fn what_is_missing_is_delivered_again() {
    let (host, cluster, _collector) = with_cluster(100);
    let all = cluster.documents.lock().unwrap().clone();
    let ids: Vec<String> = all.keys().cloned().collect();
    let remove =
        |ids: &[String]| ids.iter().for_each(|id| drop(cluster.documents.lock().unwrap().remove(id)));
    remove(&ids[3..40]);
    let (code, found, summary) = reconcile(&host, &["--repair"]);
    assert_eq!((code, found.len()), (0, 37), "{summary}");
    assert_eq!(summary["repaired"], json!([{"at": "sink local", "delivered": 37, "refused": 0, "left": 0}]));
    // The same events, but for the time of reading and the process.
    let repaired = cluster.documents.lock().unwrap().clone();
    for (id, event) in &all {
        let mut again = repaired[id].clone();
        again["event"]["created"] = event["event"]["created"].clone();
        again["agent"]["ephemeral_id"] = event["agent"]["ephemeral_id"].clone();
        assert_eq!(again, *event);
    }
    assert_eq!(reconcile(&host, &[]).0, 0);
    // The audit file is gone.
    fs::remove_dir_all(host.audit()).unwrap();
    fs::create_dir_all(host.audit()).unwrap();
    remove(&ids[3..5]);
    let once = command(&["reconcile", "--repair", "--config", host.config().to_str().unwrap()], &[]);
    assert_eq!(once.code, 1);
    assert!(once.stdout.contains("  2 events are in no audit file that is still there"), "{}", once.stdout);
}

#[test]
fn the_rows_of_an_api_are_compared() {
    const HOURS_MS: i64 = 3 * 3_600_000;
    for cloud in [false, true] {
        let mut options = if cloud { Options::cloud() } else { Options::data_center() };
        options.searches_are_audited = false;
        let sim = Sim::start(options).unwrap();
        let mut host = Host::new();
        if cloud {
            fs::write(host.path("token"), ADMIN_TOKEN).unwrap();
            host.source = "type = \"cloud\"\nmode = \"api\"\n".into();
            for key in ["site", "gateway"] {
                host.set(key, &format!("{:?}", sim.url()));
            }
            host.set("user", &format!("{ADMIN_EMAIL:?}"));
            host.set("token", &format!("{{ file = {:?} }}", host.path("token")));
        } else {
            fs::write(host.path("token"), ADMIN_TOKEN).unwrap();
            host.source = "mode = \"api\"\n".into();
            host.set("url", &format!("{:?}", sim.url()));
            host.set("personal_access_token", &format!("{{ file = {:?} }}", host.path("token")));
        }
        let begin_ms = sim.now_ms() - HOURS_MS;
        let row = |number: u64| {
            let time_ms = begin_ms + number as i64 * 1000;
            if cloud { Row::cloud(time_ms, number) } else { Row::data_center(time_ms, number) }
        };
        sim.insert_all((0..250).map(row));
        host.once_ok();
        let (code, found, summary) = reconcile(&host, &[]);
        assert_eq!((code, found), (0, vec![]), "{summary}");
        let api = &summary["compared"][1];
        assert_eq!((&api["at"], &api["total"]["intact"]), (&json!("API of source wiki"), &json!(250)));
        // A row that became visible long after its time, and one that is young.
        sim.insert(row(500));
        let time_ms = sim.now_ms() - 1000;
        sim.insert(if cloud { Row::cloud(time_ms, 501) } else { Row::data_center(time_ms, 501) });
        let (code, found, summary) = reconcile(&host, &[]);
        assert_eq!((code, found.len()), (1, 1), "{found:?}");
        assert_eq!((found[0].0.as_str(), found[0].1.as_str()), ("API of source wiki", "undelivered"));
        assert!(summary["unchecked"].to_string().contains("which may be on their way"), "{summary}");
        host.once_ok();
        // What does not answer is no finding.
        fs::write(host.path("token"), "wrong").unwrap();
        let (code, _, summary) = reconcile(&host, &[]);
        assert_eq!(code, 75, "{summary}");
    }
}
