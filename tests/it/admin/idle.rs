//! What an agent costs that has nothing to do.

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
    let mut host = Host::new();
    host.set("sweep_interval", "\"5s\"");
    let socket = host.admin();
    host.audit_file(1, 100);
    let mut agent = host.start();
    agent.until("all is delivered", || host.delivered() == 100);
    agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
    // Until the last commit and the last close of a file, after which there is nothing to do.
    sleep_until(clock::monotonic() + Duration::from_secs(5));
    let before = wake_ups(&agent);
    sleep_until(clock::monotonic() + TIME);
    let after = wake_ups(&agent);
    // The file system's notifications of the agent's own sweeps come in one wake-up or in several.
    let most = TIME.as_secs() + 5;
    assert!(after - before <= most, "{} wake-ups in {TIME:?}", after - before);
    assert_eq!(agent.stop(), 0);
}
