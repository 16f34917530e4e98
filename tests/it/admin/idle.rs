//! What an agent costs that has nothing to do.

use crate::rig::collector::{Collector, Plain};
use crate::rig::{Agent, Host, sleep_until};
use confluence_audit_agent::clock;
use std::fs;
use std::time::Duration;

/// How often the threads of the process have been woken.
fn wake_ups(agent: &Agent) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap();
    let of_task = |path: std::path::PathBuf| {
        let status = fs::read_to_string(path.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    tasks.map(|task| of_task(task.unwrap().path())).sum()
}

#[test]
fn an_idle_agent_with_the_endpoint_wakes_once_a_second_at_most() {
    const TIME: Duration = Duration::from_secs(30);
    let server = Collector::start(Plain);
    let (to_server, mut writer, file) =
        Host::with_sink(format!("type = \"http\"\nurl = \"{}/\"\n", server.url()));
    writer.append(&file, 100);
    let to_file = Host::new();
    to_file.audit_file(1, 100);
    let mut agents = [("file", to_file), ("http", to_server)].map(|(sink, mut host)| {
        host.set("sweep_interval", "\"5s\"");
        let socket = host.admin();
        let mut agent = host.start();
        agent.until_answer(&socket, "/metrics", "all is delivered", |answer| {
            answer.metric("caa_sink_events_total{source=\"wiki\",sink=\"local\"}") == Some(100.0)
        });
        agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
        (sink, agent, host)
    });
    // Until the last commit and the last close of a file, after which there is nothing to do.
    sleep_until(clock::monotonic() + Duration::from_secs(5));
    let before = agents.each_ref().map(|(_, agent, _)| wake_ups(agent));
    sleep_until(clock::monotonic() + TIME);
    let after = agents.each_ref().map(|(_, agent, _)| wake_ups(agent));
    for (((sink, agent, _), before), after) in agents.iter_mut().zip(before).zip(after) {
        let woken = after - before;
        assert!(woken <= TIME.as_secs(), "{woken} wake-ups in {TIME:?} with the sink {sink}");
        assert_eq!(agent.stop(), 0);
    }
}
