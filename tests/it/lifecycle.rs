//! The events by which a server sees that the agent runs.

use crate::rig::collector::{Collector, Plain};
use crate::rig::oracle::Event;
use crate::rig::{Agent, Host, LogFile, SOON, Writer, judge};
use std::fs;
use std::process::Command;

/// A host whose sinks are a server with heartbeats each second, and a file.
struct Environment {
    host: Host,
    collector: Collector,
    writer: Writer,
    file: LogFile,
}

const SERVER: &str = "heartbeat = true\nbatch_wait = \"100ms\"\ntype = \"http\"\n";

impl Environment {
    fn new() -> Environment {
        let collector = Collector::start(Plain);
        let (mut host, writer, file) = Host::with_sink(format!("{SERVER}url = \"{}\"\n", collector.url()));
        host.root += "shutdown_timeout = \"1h\"\nheartbeat.interval = \"1s\"\n";
        let path = host.path("events.ndjson");
        host.more = format!("[[sink]]\nname = \"file\"\ntype = \"file\"\npath = {path:?}\n");
        Environment { host, collector, writer, file }
    }

    fn of_action(&self, action: &str) -> Vec<Event> {
        of_action(&self.collector, action)
    }

    #[track_caller]
    fn until_sent(&self, agent: &mut Agent, action: &str, count: usize) {
        agent.until(action, || self.of_action(action).len() >= count);
    }

    /// What the file sink has delivered.
    fn file_text(&self) -> String {
        fs::read_to_string(self.host.path("events.ndjson")).unwrap_or_default()
    }

    fn verify(&self, export: &std::path::Path) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        let output =
            command.args(["verify", "--export"]).arg(export).arg("--config").arg(self.host.config()).output();
        let output = output.unwrap();
        let text = [output.stdout, output.stderr].map(|out| String::from_utf8_lossy(&out).into_owned());
        (output.status.code(), text.concat())
    }
}

fn of_action(collector: &Collector, action: &str) -> Vec<Event> {
    let mut events = collector.events();
    events.retain(|event| event.text("/event/action") == action);
    events
}

fn number(event: &Event, name: &str) -> i64 {
    let value = event.json.pointer(&format!("/confluence/audit/agent/{name}"));
    value.and_then(serde_json::Value::as_i64).unwrap_or_else(|| panic!("no {name} in {}", event.json))
}

fn text<'e>(event: &'e Event, name: &str) -> &'e str {
    event.text(&format!("/confluence/audit/agent/{name}"))
}

/// Each named value has a field of its type in both templates of Elasticsearch, and a row in docs/OPERATIONS.md.
#[track_caller]
fn is_mapped_and_documented(event: &Event) {
    let read = |path: &str| fs::read_to_string(path).unwrap();
    let documented = read("docs/OPERATIONS.md");
    let values = event.json["confluence"]["audit"]["agent"].as_object().unwrap();
    assert!(values.len() >= 6, "{values:?}");
    for template in ["elasticsearch", "opensearch"] {
        let path = format!("packaging/elasticsearch/index-template.{template}.json");
        let template: serde_json::Value = serde_json::from_str(&read(&path)).unwrap();
        let fields = "/template/mappings/properties/confluence/properties/audit/properties/agent/properties";
        let fields = template.pointer(fields).unwrap();
        for (name, value) in values {
            let expected = match name.as_str() {
                "last_event" => "date",
                _ if value.is_i64() => "long",
                _ => "keyword",
            };
            assert_eq!(fields[name]["type"], expected, "{name}");
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }
}

#[test]
fn a_server_gets_start_heartbeats_and_stop_and_a_file_does_not() {
    let mut env = Environment::new();
    env.writer.append(&env.file, 20);
    let mut agent = env.host.start();
    env.until_sent(&mut agent, "agent.heartbeat", 1);
    let heartbeats = env.of_action("agent.heartbeat").len();
    env.writer.append(&env.file, 7);
    agent.until("the records are there", || judge(&env.writer, &env.collector.events()).missing.is_empty());
    env.until_sent(&mut agent, "agent.heartbeat", heartbeats + 2);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());

    let started = env.of_action("agent.started");
    assert_eq!(started.len(), 1);
    assert_eq!(text(&started[0], "previous_stop"), "none");
    assert_eq!(started[0].text("/confluence/audit/site"), "wiki");
    let heartbeats = env.of_action("agent.heartbeat");
    assert_eq!(heartbeats.iter().map(|event| number(event, "events")).sum::<i64>(), 27);
    let last = heartbeats.last().unwrap();
    assert_eq!(last.text("/event/kind"), "metric");
    assert_eq!((text(last, "input"), number(last, "interval_seconds")), ("file", 1));
    assert_eq!(text(last, "version"), last.text("/agent/version"));
    assert_eq!(text(last, "configuration"), text(&started[0], "configuration"));
    assert!(text(last, "last_event").ends_with('Z'), "{}", last.json);
    let stopped = env.of_action("agent.stopped");
    assert_eq!(stopped.len(), 1);
    assert_eq!((text(&stopped[0], "reason"), number(&stopped[0], "events")), ("SIGTERM", 27));
    for event in [&started[0], last, &stopped[0]] {
        is_mapped_and_documented(event);
    }
    judge(&env.writer, &env.collector.events()).is_exact();

    let file = env.file_text();
    assert!(!file.contains("agent.heartbeat") && !file.contains("agent.st"), "{file}");
    assert!(file.contains("agent.ledger.sealed"));
    // Neither side misses an event that it was not to get.
    let export = env.host.path("export.ndjson");
    let sent: String = env.collector.stored().iter().map(|sent| format!("{}\n", sent.text)).collect();
    fs::write(&export, sent).unwrap();
    for export in [export, env.host.path("events.ndjson")] {
        let (code, printed) = env.verify(&export);
        assert_eq!(code, Some(0), "{printed}");
    }
}

#[test]
fn the_next_start_tells_how_the_last_run_ended() {
    let env = Environment::new();
    let started = |agent: &mut Agent, count| {
        env.until_sent(agent, "agent.started", count);
        text(&env.of_action("agent.started")[count - 1], "previous_stop").to_owned()
    };
    let mut agent = env.host.start();
    assert_eq!(started(&mut agent, 1), "none");
    agent.stop();
    let mut agent = env.host.start();
    assert_eq!(started(&mut agent, 2), "clean");
    agent.kill();
    let mut agent = env.host.start();
    assert_eq!(started(&mut agent, 3), "killed");
    agent.stop();
    // Another run without heartbeats changes nothing.
    env.host.once_ok();
    let mut agent = env.host.start();
    assert_eq!(started(&mut agent, 4), "clean");
    agent.stop();
    assert_eq!(env.of_action("agent.started").len(), 4);
    assert_eq!(env.of_action("agent.stopped").len(), 3);
}

#[test]
fn an_error_that_ended_the_agent_is_in_the_next_start() {
    let mut env = Environment::new();
    env.host.remote.as_mut().unwrap().push_str("on_poison = \"stop\"\n");
    let poison = env.writer.record(&env.file);
    let original = serde_json::to_string(std::str::from_utf8(&poison).unwrap().trim_end()).unwrap();
    env.collector.refuse(move |sent| sent.text.contains(&original));
    env.file.write(&poison);
    // That another one is accepted shows that this one is at fault.
    env.writer.append(&env.file, 1);
    let mut agent = env.host.start();
    assert_eq!(agent.wait(SOON).code(), Some(75), "{}", agent.stderr());
    env.collector.refuse(|_| false);
    let before = env.of_action("agent.started").len();
    let mut agent = env.host.start();
    env.until_sent(&mut agent, "agent.started", before + 1);
    let started = env.of_action("agent.started");
    let last = started.last().unwrap();
    assert_eq!(text(last, "previous_stop"), "error");
    assert!(text(last, "previous_reason").starts_with("sink local: "), "{}", last.json);
}

#[test]
fn heartbeats_do_not_pile_up_for_a_dead_server_and_reach_the_others() {
    let mut env = Environment::new();
    let mut other = Collector::start(Plain);
    let url = other.url();
    other.stop();
    env.host.more += &format!("[[sink]]\nname = \"other\"\n{SERVER}url = \"{url}\"\n");
    env.writer.append(&env.file, 3);
    let mut agent = env.host.start();
    env.until_sent(&mut agent, "agent.heartbeat", 4);
    let alive = env.of_action("agent.heartbeat");
    assert!(alive.iter().any(|event| text(event, "problem").contains("other")), "{:?}", alive[3]);
    let uptime = number(&alive[3], "uptime_seconds");
    other.start_again();
    agent.until("the other server gets heartbeats", || !of_action(&other, "agent.heartbeat").is_empty());
    assert_eq!(of_action(&other, "agent.started").len(), 1, "the one event that waited");
    for event in of_action(&other, "agent.heartbeat") {
        assert!(number(&event, "uptime_seconds") >= uptime, "{}", event.json);
    }
    judge(&env.writer, &other.events()).is_exact();
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

#[test]
fn a_dead_server_does_not_delay_the_stop() {
    let mut env = Environment::new();
    env.writer.append(&env.file, 3);
    let mut agent = env.host.start();
    env.until_sent(&mut agent, "agent.heartbeat", 1);
    agent.until("the records are there", || judge(&env.writer, &env.collector.events()).missing.is_empty());
    env.collector.stop();
    agent.until_logged("sink");
    // `shutdown_timeout` is an hour.
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    env.collector.start_again();
    let before = env.of_action("agent.started").len();
    let mut agent = env.host.start();
    env.until_sent(&mut agent, "agent.started", before + 1);
    let started = env.of_action("agent.started");
    assert_eq!(text(started.last().unwrap(), "previous_stop"), "clean");
    judge(&env.writer, &env.collector.events()).is_exact();
}

#[test]
fn a_single_run_a_dry_run_and_one_without_heartbeats_send_none() {
    let mut env = Environment::new();
    env.writer.append(&env.file, 3);
    let dry = env.host.once_with(&["--dry-run"]);
    assert!(dry.code == 0 && !dry.stdout.contains("agent.st"), "{}", dry.stdout);
    env.host.once_ok();
    env.host.root = env.host.root.replace("heartbeat.interval = \"1s\"", "heartbeat.interval = \"off\"");
    env.writer.append(&env.file, 3);
    let mut agent = env.host.start();
    agent.until("the records are there", || judge(&env.writer, &env.collector.events()).missing.is_empty());
    assert_eq!(agent.stop(), 0);
    judge(&env.writer, &env.collector.events()).is_exact();
    assert!(env.collector.events().iter().all(|event| !event.is_notice()));
}
