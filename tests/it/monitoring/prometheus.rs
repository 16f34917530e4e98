//! A real Prometheus that scrapes a real agent: the shipped rules fire and end, and each query of the dashboards has an
//! answer.

use super::{grafana, prometheus_program, read, rules};
use crate::api::binary::{insert, quiet_data_center};
use crate::rig::collector::{Collector, Plain};
use crate::rig::{self, Agent, Host, Port, free_port, rest, until};
use crate::simulator::sim::{ADMIN_TOKEN, Sim};
use confluence_audit_agent::record::time;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What stands for the ranges of the rules, and for Grafana's interval.
const SHORT_RANGE: &str = "5s";

const DAY_MS: i64 = 86_400_000;

struct Prometheus {
    port: Port,
    child: Child,
}

impl Prometheus {
    /// Scrapes this target each 200 ms, and evaluates these rules as often. `None` where it is not installed.
    fn start(dir: &Path, target: &Port, rules: &str) -> Option<Prometheus> {
        let program = prometheus_program("prometheus")?;
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("rules.yml"), rules).unwrap();
        let config = format!(
            "global: {{scrape_interval: 200ms, scrape_timeout: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: [{:?}]\n\
             scrape_configs:\n  - job_name: confluence-audit-agent\n    static_configs: [{{targets: [\"{}\"]}}]\n",
            dir.join("rules.yml"),
            target.address()
        );
        fs::write(dir.join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let log = dir.join("log");
        let child = Command::new(program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={}", port.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut server = Prometheus { port, child };
        until(rig::SOON, "Prometheus is ready", || {
            let ended = server.child.try_wait().unwrap();
            assert!(ended.is_none(), "Prometheus ended:\n{}", fs::read_to_string(&log).unwrap());
            rest::request(server.port.address(), "GET", "/-/ready", "")
                .is_some_and(|(status, _)| status == 200)
        });
        Some(server)
    }

    /// The series that the expression has now.
    #[track_caller]
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let path = format!("/api/v1/query?query={encoded}");
        let (status, answer) =
            rest::request(self.port.address(), "GET", &path, "").expect("Prometheus answers");
        assert_eq!(status, 200, "{expression}: {answer}");
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}")).clone()
    }

    /// Whether an alert is firing.
    fn fires(&self, alert: &str) -> bool {
        !self.query(&format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")).is_empty()
    }

    fn firing(&self) -> BTreeSet<String> {
        let alerts = self.query("ALERTS{alertstate=\"firing\"}");
        alerts.iter().map(|alert| alert["metric"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shipped rules with ranges of seconds and without waiting: a test cannot take a quarter of an hour. The
/// thresholds and all names are those of the shipped ones, whose times promtool tests.
fn hasty(rules: &str) -> String {
    let lines = rules.lines().map(|line| match line.trim_start().strip_prefix("for: ") {
        Some(_) => format!("{}for: 1s\n", &line[..line.len() - line.trim_start().len()]),
        None => {
            line.replace("[5m]", &format!("[{SHORT_RANGE}]")).replace("[15m]", &format!("[{SHORT_RANGE}]"))
                + "\n"
        }
    });
    lines.collect()
}

/// A source of files and one of an API; a server that accepts events, and a file.
fn host(sim: &Sim, collector: &Collector, admin: &Port) -> Host {
    let mut host = Host::new();
    fs::write(host.path("token"), ADMIN_TOKEN).unwrap();
    host.root += &format!("admin.listen = \"{}\"\n", admin.address());
    host.remote = Some(format!("type = \"http\"\nurl = {:?}\nbatch_wait = \"50ms\"\n", collector.url()));
    host.more = format!(
        "[[source]]\nname = \"site\"\ntype = \"data_center\"\nmode = \"api\"\npoll_interval = \"100ms\"\nurl = {:?}\n\
         personal_access_token = {{ file = {:?} }}\n\
         [[sink]]\nname = \"copy\"\ntype = \"file\"\npath = {:?}\n",
        sim.url(),
        host.path("token"),
        host.path("{source}.ndjson"),
    );
    host
}

/// Writes a result of `reconcile` that the agent exposes.
fn reconcile(host: &Host, sim: &Sim) {
    let day = |ms: i64| String::from_utf8(time::iso(ms)[..10].to_vec()).unwrap();
    let (from, to) = (day(sim.now_ms() - DAY_MS), day(sim.now_ms() + DAY_MS));
    let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["reconcile", "--from", &from, "--to", &to, "--config"])
        .arg(host.config())
        .output()
        .unwrap();
    let files = fs::read_dir(host.state()).unwrap().map(|entry| entry.unwrap().file_name());
    let is_result = |name: &std::ffi::OsString| name.to_string_lossy().contains("reconcile");
    assert!(files.into_iter().any(|name| is_result(&name)), "{output:?}");
}

#[test]
fn an_outage_of_a_sink_makes_a_rule_fire_in_prometheus_and_dashboards_have_data() {
    let sim = quiet_data_center();
    let mut collector = Collector::start(Plain);
    let admin = free_port();
    let host = host(&sim, &collector, &admin);
    insert(&sim, false, 0..25);
    sim.expire(ADMIN_TOKEN, Some(sim.now_ms() + 10 * DAY_MS));
    let (mut writer, file) = host.audit_file(1, 50);
    let place = host.path("prometheus");
    let Some(server) = Prometheus::start(&place, &admin, &hasty(&read(rules::RULES))) else { return };
    let mut agent = host.start();
    agent.until("both sources are delivered", || collector.distinct() >= 75);
    reconcile(&host, &sim);
    agent.until("Prometheus reaches the agent", || !server.query("up == 1").is_empty());
    agent.until("the rule of a token fires, and others are silent but that of late events", || {
        // The first events are old; that lasts as long as the range of the rule.
        let mut firing = server.firing();
        firing.remove("ConfluenceAuditDeliveryDelay");
        firing == BTreeSet::from(["ConfluenceAuditTokenExpires".to_owned()])
    });

    collector.stop();
    writer.append(&file, 10);
    agent.until("the rule of a blocked sink fires", || server.fires("ConfluenceAuditSinkBlocked"));
    let blocked = server.query("ALERTS{alertname=\"ConfluenceAuditSinkBlocked\", alertstate=\"firing\"}");
    let labels: Vec<&Value> = blocked.iter().map(|alert| &alert["metric"]).collect();
    assert!(
        labels.iter().all(|labels| labels["sink"] == "local" && labels["severity"] == "critical"),
        "only the server's sink is blocked: {labels:?}"
    );
    collector.start_again();
    agent.until("the events arrive", || collector.distinct() >= 85);
    agent.until("the rule is silent again", || !server.fires("ConfluenceAuditSinkBlocked"));

    dashboards_have_data(&server, &mut agent, || writer.append(&file, 1));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    until(rig::SOON, "the rule of a missing agent fires", || server.fires("ConfluenceAuditAgentDown"));
}

/// While events arrive, each query has an answer.
fn dashboards_have_data(server: &Prometheus, agent: &mut Agent, mut write: impl FnMut()) {
    let queries = grafana::queries(SHORT_RANGE);
    assert!(queries.len() > 50, "{} queries", queries.len());
    for (query, panel) in queries {
        agent.until(&format!("{panel} has data: {query}"), || {
            write();
            has_data(&server.query(&query))
        });
    }
}

/// A quantile of nothing is not a number.
fn has_data(series: &[Value]) -> bool {
    series.iter().any(|series| series["value"][1] != "NaN")
}
