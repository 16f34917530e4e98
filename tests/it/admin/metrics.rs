//! What `/metrics` exposes.

use crate::rig::admin::get;
use crate::rig::{Host, Writer, file_name};
use confluence_audit_agent::clock;
use confluence_audit_agent::metrics::{LossClass, Metrics};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

/// A row of the table in docs/METRICS.md: type, labels and meaning, by the name of the series.
type Table = BTreeMap<String, [String; 3]>;

fn documented() -> Table {
    let text = fs::read_to_string("docs/METRICS.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `caa_") || line.starts_with("| `process_"));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [name, kind, labels, help] = cells[..] else { panic!("not four cells: {row}") };
        (name.trim_matches('`').to_owned(), [kind, &labels.replace('`', ""), help].map(str::to_owned))
    })
    .collect()
}

/// The metrics of a text in the OpenMetrics format. A counter is named as its series is.
fn exposed(text: &str) -> Table {
    let mut all = Table::new();
    let mut helps = BTreeMap::new();
    let mut units = BTreeMap::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').unwrap();
            // The encoder ends each help text with a full stop.
            helps.insert(name.to_owned(), help.trim_end_matches('.').to_owned());
        } else if let Some(unit) = line.strip_prefix("# UNIT ") {
            let (name, unit) = unit.split_once(' ').unwrap();
            units.insert(name.to_owned(), unit.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            let series = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
            all.insert(series, [kind.to_owned(), String::new(), name.to_owned()]);
        } else if let Some((series, _)) = line.rsplit_once(' ')
            && line != "# EOF"
        {
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let key = base.filter(|base| all.contains_key(*base)).unwrap_or(name);
            let names = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once('='));
            let names = names.map(|(name, _)| name).filter(|name| *name != "le");
            all.get_mut(key).unwrap_or_else(|| panic!("no type: {series}"))[1] =
                names.collect::<Vec<_>>().join(", ");
        }
    }
    for (series, row) in &mut all {
        let name = std::mem::take(&mut row[2]);
        row[2] = helps.get(&name).unwrap_or_else(|| panic!("no help: {series}")).clone();
        if let Some(unit) = units.get(&name) {
            assert!(name.ends_with(&format!("_{unit}")), "{name} in {unit}");
        }
    }
    all
}

/// A row for each metric, sorted by name.
fn as_markdown(table: &Table) -> String {
    let row = |(name, [kind, labels, help]): (&String, &[String; 3])| {
        let labels: Vec<String> =
            labels.split(", ").filter(|l| !l.is_empty()).map(|l| format!("`{l}`")).collect();
        format!("| `{name}` | {kind} | {} | {help} |\n", labels.join(", "))
    };
    table.iter().map(row).collect()
}

#[test]
fn the_table_of_metrics_is_what_is_exposed() {
    let metrics = Metrics::new();
    let (source, api, sink) = (metrics.source("wiki"), metrics.api("wiki"), metrics.sink("wiki", "siem"));
    source.count_loss(LossClass::Deleted, 1);
    api.observe_request("ok", Duration::ZERO);
    api.set_credential_expiry(0);
    api.set_coverage("SECURITY", "full");
    sink.observe_request("ok", 1, Duration::ZERO);
    metrics.state.set_reconciled("siem", 0, 0, 0);
    let exposed = exposed(&metrics.encode());
    let documented = documented();
    assert!(documented == exposed, "the table in docs/METRICS.md should have:\n{}", as_markdown(&exposed));
    let labels =
        exposed.iter().filter(|(name, _)| *name != "caa_build_info").map(|(_, [_, labels, _])| labels);
    let labels: BTreeSet<&str> =
        labels.flat_map(|labels| labels.split(", ")).filter(|label| !label.is_empty()).collect();
    assert_eq!(labels, BTreeSet::from(["area", "class", "input", "sink", "source"]));
}

#[test]
fn a_running_agent_exposes_what_it_does() {
    let mut host = Host::new();
    let socket = host.admin();
    let (mut writer, file) = host.audit_file(1, 100);
    let began = clock::now_ms() as f64 / 1000.0;
    let mut agent = host.start();
    let all =
        |name: &'static str| move |answer: &crate::rig::admin::Answer| answer.metric(name) == Some(100.0);
    let sink = "caa_sink_events_total{source=\"wiki\",sink=\"local\"}";
    agent.until_answer(&socket, "/metrics", "100 events are counted", |answer| {
        all("caa_source_events_total{source=\"wiki\",input=\"file\"}")(answer)
            && all(sink)(answer)
            && answer.metric("caa_ledger_entries{source=\"wiki\"}") == Some(100.0)
    });
    let answer = get(&socket, "/metrics").unwrap();
    assert_eq!(
        answer.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    let value = |series: &str| answer.metric(series).unwrap_or_else(|| panic!("no {series}: {answer:?}"));
    let bytes = fs::metadata(&file.path).unwrap().len() as f64;
    let written = fs::metadata(host.output()).unwrap().len() as f64;
    for (series, expected) in [
        ("caa_source_read_bytes_total{source=\"wiki\"}", bytes),
        ("caa_source_backlog_bytes{source=\"wiki\"}", 0.0),
        ("caa_source_backlog_files{source=\"wiki\"}", 0.0),
        ("caa_source_lost_bytes_total{source=\"wiki\",class=\"deleted\"}", 0.0),
        ("caa_source_healthy{source=\"wiki\"}", 1.0),
        ("caa_sink_sent_bytes_total{source=\"wiki\",sink=\"local\"}", written),
        ("caa_sink_healthy{source=\"wiki\",sink=\"local\"}", 1.0),
        ("caa_sink_blocked_seconds_total{source=\"wiki\",sink=\"local\"}", 0.0),
        ("caa_sink_quarantined_events{source=\"wiki\",sink=\"local\"}", 0.0),
        ("caa_delivery_delay_seconds_count{source=\"wiki\",sink=\"local\"}", 100.0),
        ("caa_ledger_size_bytes{source=\"wiki\"}", 8000.0),
        ("caa_stage_stuck", 0.0),
    ] {
        assert_eq!(value(series), expected, "{series}");
    }
    for series in [
        "caa_source_last_success_timestamp_seconds{source=\"wiki\"}",
        "caa_sink_last_success_timestamp_seconds{source=\"wiki\",sink=\"local\"}",
        "caa_checkpoint_last_commit_timestamp_seconds",
        "process_start_time_seconds",
    ] {
        // The start of a process is known to a hundredth of a second.
        assert!(
            (began - 1.0..began + 120.0).contains(&value(series)),
            "{series} of {began}: {}",
            value(series)
        );
    }
    for series in [
        "process_resident_memory_bytes",
        "process_threads",
        "process_open_fds",
        "caa_state_disk_free_bytes",
        "caa_state_disk_size_bytes",
    ] {
        assert!(value(series) > 0.0, "{series}");
    }
    // A record that cannot be read is counted.
    writer.append(&file, 1);
    crate::rig::append(&file.path, b"no JSON\n");
    agent.until_answer(&socket, "/metrics", "the unreadable record is counted", |answer| {
        answer.metric("caa_source_unreadable_records_total{source=\"wiki\"}") == Some(1.0)
    });
    assert_eq!(agent.stop(), 0);
}

/// The labels are names of the configuration and fixed words, whatever the events and files are.
#[test]
fn f65_the_number_of_series_does_not_depend_on_what_is_read() {
    let mut host = Host::new();
    let socket = host.admin();
    // A sweep of 1,000 files takes a while on a busy machine.
    host.set("sweep_interval", "\"30s\"");
    host.audit_file(1, 100);
    let mut agent = host.start();
    let series = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    let counted = |events: f64| {
        move |answer: &crate::rig::admin::Answer| {
            answer
                .metric("caa_sink_events_total{source=\"wiki\",sink=\"local\"}")
                .is_some_and(|n| n >= events)
        }
    };
    let few = agent.until_answer(&socket, "/metrics", "the first events", counted(100.0));
    assert_eq!(agent.stop(), 0);
    // 1,000 files of 10 records each: other users, objects, addresses and nodes. Each tenth file has an error of its
    // own.
    let mut writer = Writer::new(&host.audit(), 2);
    for number in 0..1000 {
        let file = writer.create(&file_name(6 + number / 500, number % 500));
        writer.append(&file, 10);
        if number % 10 == 0 {
            crate::rig::append(&file.path, format!("error {number}\n").as_bytes());
        }
    }
    let mut agent = host.start();
    let many = agent.until_answer(&socket, "/metrics", "10,000 more events", counted(10_100.0));
    assert_eq!(series(&many.body), series(&few.body));
    assert_eq!(agent.stop(), 0);
}
