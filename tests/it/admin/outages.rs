//! What the endpoint says while a source or a sink fails.

use crate::api::binary::{data_center, insert, quiet_data_center};
use crate::auto::{self, AUDIT, AWAY};
use crate::rig::admin::get;
use crate::rig::collector::{Collector, Plain, Reply};
use crate::rig::{Host, Writer, file_name};
use std::fs;
use std::process::Command;

const SINK: &str = "{source=\"wiki\",sink=\"local\"}";

#[test]
fn an_outage_of_a_sink_is_a_reason_and_no_death() {
    let mut collector = Collector::start(Plain);
    let lines = format!("type = \"http\"\nurl = \"{}/\"\nbatch_wait = \"100ms\"\n", collector.url());
    let (mut host, mut writer, file) = Host::with_sink(lines);
    let socket = host.admin();
    let mut agent = host.start();
    writer.append(&file, 10);
    agent.until("the first events arrive", || collector.distinct() == 10);
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    collector.stop();
    writer.append(&file, 10);
    let unready = agent.until_answer(&socket, "/readyz", "not ready", |answer| answer.status == 503);
    assert!(unready.body.starts_with("wiki: sink local: cannot reach"), "{}", unready.body);
    assert_eq!(get(&socket, "/livez").unwrap().body, "live\n");
    let blocked = format!("caa_sink_blocked_seconds_total{SINK}");
    agent.until_answer(&socket, "/metrics", "the sink is blocked for two scrapes", |answer| {
        answer.metric(&blocked).is_some_and(|seconds| seconds > 0.5)
            && answer.metric(&format!("caa_sink_healthy{SINK}")) == Some(0.0)
    });
    collector.start_again();
    agent.until("the rest arrives", || collector.distinct() == 20);
    let ready = agent.until_answer(&socket, "/readyz", "ready again", |answer| answer.status == 200);
    assert_eq!(ready.body, "ready\n");
    let answer = agent.until_answer(&socket, "/metrics", "all is counted", |answer| {
        answer.metric(&format!("caa_sink_events_total{SINK}")) == Some(20.0)
    });
    let value =
        |series: &str| answer.metric(series).unwrap_or_else(|| panic!("no {series}: {}", answer.body));
    let class = |class: &str| {
        value(&format!("caa_sink_requests_total{{source=\"wiki\",sink=\"local\",class=\"{class}\"}}"))
    };
    assert!(class("ok") >= 2.0 && class("retry") >= 1.0);
    assert!(value(&format!("caa_sink_request_duration_seconds_count{SINK}")) >= 3.0);
    let stored: usize = collector.stored().iter().map(|event| event.text.len() + 1).sum();
    assert!(value(&format!("caa_sink_sent_bytes_total{SINK}")) >= stored as f64);
    assert_eq!(value(&format!("caa_sink_healthy{SINK}")), 1.0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn what_is_in_quarantine_is_counted_now_and_after_a_restart() {
    let collector = Collector::start(Plain);
    collector.refuse_with(Some(Reply::new(400, "no")));
    collector.refuse(|sent| sent.text.contains("poison"));
    let lines = format!("type = \"http\"\nurl = \"{}/\"\nbatch_wait = \"100ms\"\n", collector.url());
    let (mut host, mut writer, file) = Host::with_sink(lines);
    let socket = host.admin();
    let quarantined = format!("caa_sink_quarantined_events{SINK}");
    let mut agent = host.start();
    writer.append(&file, 5);
    crate::rig::append(&file.path, b"poison\n");
    writer.append(&file, 5);
    let counted = |agent: &mut crate::rig::Agent, events: f64| {
        agent.until_answer(&socket, "/metrics", "the quarantine is counted", |answer| {
            answer.metric(&quarantined) == Some(events)
        });
    };
    counted(&mut agent, 1.0);
    assert_eq!(agent.stop(), 0);
    let mut agent = host.start();
    counted(&mut agent, 1.0);
    for entry in fs::read_dir(host.state().join("quarantine")).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    counted(&mut agent, 0.0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_directory_that_cannot_be_read_is_counted() {
    let mut host = Host::poll_only();
    let socket = host.admin();
    fs::remove_dir_all(host.audit()).unwrap();
    let mut agent = host.start();
    let unready = agent.until_answer(&socket, "/readyz", "not ready", |answer| answer.status == 503);
    assert!(unready.body.starts_with("wiki: "), "{}", unready.body);
    let metrics = get(&socket, "/metrics").unwrap();
    assert_eq!(metrics.metric("caa_source_healthy{source=\"wiki\"}"), Some(0.0));
    assert_eq!(metrics.metric("caa_source_last_success_timestamp_seconds{source=\"wiki\"}"), Some(0.0));
    fs::create_dir_all(host.audit()).unwrap();
    let mut writer = Writer::new(&host.audit(), 1);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 10);
    agent.until_answer(&socket, "/metrics", "healthy", |answer| {
        answer.metric("caa_source_healthy{source=\"wiki\"}") == Some(1.0)
    });
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_file_that_is_deleted_unread_is_counted_with_its_bytes() {
    let mut host = Host::poll_only();
    let (mut agent, waiting) = host.start_with_unread_file();
    let (socket, bytes) = (host.path("admin.sock"), fs::metadata(&waiting).unwrap().len() as f64);
    fs::remove_file(&waiting).unwrap();
    let lost = |class: &str| format!("{{source=\"wiki\",class=\"{class}\"}}");
    let answer = agent.until_answer(&socket, "/metrics", "the loss is counted", |answer| {
        answer.metric(&format!("caa_source_losses_total{}", lost("deleted"))) == Some(1.0)
    });
    assert_eq!(answer.metric(&format!("caa_source_lost_bytes_total{}", lost("deleted"))), Some(bytes));
    assert_eq!(answer.metric(&format!("caa_source_losses_total{}", lost("rewritten"))), Some(0.0));
}

/// What a server answers may have control characters; a terminal shows the reasons as they are.
#[test]
fn the_reasons_have_no_control_characters() {
    let collector = Collector::start(Plain);
    collector.refuse_with(Some(Reply::new(403, "\x1b[2Jno \u{202e}way\x07")));
    let lines = format!("type = \"http\"\nurl = \"{}/\"\nbatch_wait = \"100ms\"\n", collector.url());
    let (mut host, mut writer, file) = Host::with_sink(lines);
    let socket = host.admin();
    collector.refuse(|_| true);
    writer.append(&file, 5);
    let mut agent = host.start();
    let unready = agent.until_answer(&socket, "/readyz", "not ready", |answer| answer.body.contains("way"));
    let is_safe = |c: char| c == '\n' || !(c.is_control() || c == '\u{202e}');
    assert!(unready.body.chars().all(is_safe), "{:?}", unready.body);
    assert!(unready.body.contains("\\u{1b}[2Jno \\u{202e}way\\u{7}"), "{}", unready.body);
}

#[test]
fn an_audit_api_is_counted() {
    let sim = quiet_data_center();
    sim.set_coverage("SECURITY", "FULL");
    insert(&sim, false, 0..20);
    let mut host = data_center(&sim);
    host.set("token_expires", "\"2100-01-01\"");
    let socket = host.admin();
    let mut agent = host.start();
    let answer = agent.until_answer(&socket, "/metrics", "the rows and the settings are read", |answer| {
        let value = |series: &str| answer.metric(series).unwrap_or_default();
        value("caa_source_events_total{source=\"wiki\",input=\"api\"}") == 20.0
            && value("caa_audit_coverage_level{source=\"wiki\",area=\"SECURITY\"}") == 3.0
            && value("caa_credential_expiry_timestamp_seconds{source=\"wiki\"}") == 4_102_444_800.0
    });
    let value =
        |series: &str| answer.metric(series).unwrap_or_else(|| panic!("no {series}: {}", answer.body));
    assert_eq!(value("caa_audit_coverage_level{source=\"wiki\",area=\"AUDIT_LOG\"}"), 1.0);
    assert!(value("caa_api_requests_total{source=\"wiki\",class=\"ok\"}") >= 2.0);
    assert!(value("caa_api_request_duration_seconds_count{source=\"wiki\"}") >= 2.0);
    assert_eq!(value("caa_api_throttled_seconds_total{source=\"wiki\"}"), 0.0);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_fallback_to_the_api_is_counted() {
    let (sim, mut host) = auto::confluence(auto::host);
    let socket = host.admin();
    auto::add_events(&sim, 0..5);
    let mut agent = host.start();
    let expect = |agent: &mut crate::rig::Agent, active: f64, switches: f64| {
        agent.until_answer(&socket, "/metrics", "the active input and the switches", |answer| {
            answer.metric("caa_source_fallback_active{source=\"wiki\"}") == Some(active)
                && answer.metric("caa_source_switches_total{source=\"wiki\"}") == Some(switches)
        })
    };
    agent.until_answer(&socket, "/metrics", "the files are read", |answer| {
        answer.metric("caa_source_events_total{source=\"wiki\",input=\"file\"}") == Some(5.0)
    });
    expect(&mut agent, 0.0, 0.0);
    auto::move_files(&sim, &host, AWAY);
    expect(&mut agent, 1.0, 1.0);
    auto::add_events(&sim, 5..10);
    // The file is still open, so either input may be the first to have an event.
    agent.until_answer(&socket, "/metrics", "all are counted once", |answer| {
        let events =
            |input| answer.metric(&format!("caa_source_events_total{{source=\"wiki\",input=\"{input}\"}}"));
        events("file").zip(events("api")).is_some_and(|(files, api)| files + api == 10.0)
    });
    auto::move_files(&sim, &host, AUDIT);
    let answer = expect(&mut agent, 0.0, 2.0);
    // The two switches are events of the agent.
    assert_eq!(answer.metric("caa_source_events_total{source=\"wiki\",input=\"agent\"}"), Some(2.0));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn losses_and_the_last_reconcile_are_counted() {
    let mut host = Host::new();
    let socket = host.admin();
    let (mut writer, file) = host.audit_file(1, 40);
    let mut agent = host.start();
    agent.until_answer(&socket, "/metrics", "all is committed", |answer| {
        answer.metric("caa_ledger_entries{source=\"wiki\"}") == Some(40.0)
    });
    // An event is removed from the output, and `reconcile` finds that while the agent runs.
    let output = fs::read_to_string(host.output()).unwrap();
    let (_, rest) = output.split_once('\n').unwrap();
    fs::write(host.output(), rest).unwrap();
    let metrics = get(&socket, "/metrics").unwrap();
    assert_eq!(metrics.metric("caa_reconcile_missing_events{sink=\"local\"}"), None);
    let mut reconcile = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    let done = reconcile.args(["reconcile", "--config"]).arg(host.path("config.toml")).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{}", String::from_utf8_lossy(&done.stdout));
    let metrics = get(&socket, "/metrics").unwrap();
    assert_eq!(metrics.metric("caa_reconcile_missing_events{sink=\"local\"}"), Some(1.0));
    assert_eq!(metrics.metric("caa_reconcile_altered_events{sink=\"local\"}"), Some(0.0));
    fs::write(host.output(), output).unwrap();
    assert_eq!(agent.stop(), 0);

    // The file goes while the agent is stopped: what was written to it since is not known.
    writer.append(&file, 10);
    fs::remove_file(&file.path).unwrap();
    let next = writer.create(&file_name(6, 0));
    writer.append(&next, 10);
    let mut agent = host.start();
    agent.until_answer(&socket, "/metrics", "the loss is counted", |answer| {
        answer.metric("caa_source_losses_total{source=\"wiki\",class=\"deleted\"}") == Some(1.0)
    });
    assert_eq!(agent.stop(), 0);
}
