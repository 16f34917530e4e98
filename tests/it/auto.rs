//! Files first, and the API when they fail: the real binary beside a simulated Confluence that writes files and a database.

use crate::rig::oracle::{Event, events};
use crate::rig::{Host, SOON, until};
use crate::simulator::sim::{ADMIN_TOKEN, AuditFiles, Row, Sim};
use confluence_audit_agent::clock;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// An agent that has both ways in, in fast mode.
fn host(sim: &Sim) -> Host {
    let mut host = Host::new();
    let token = host.path("token");
    fs::write(&token, ADMIN_TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    host.source += &format!(
        "mode = \"auto\"\nhome = {:?}\nurl = {:?}\npersonal_access_token = {{ file = {token:?} }}\npoll_interval = \"1s\"\n\
         probe_interval = \"1s\"\nsilent_after = \"2s\"\nunusable_after = \"1s\"\nreturn_after = \"1s\"\n",
        host.home(),
        sim.url()
    );
    host
}

/// A Confluence whose own searches leave nothing, writing files under the host's home.
fn confluence(host: impl FnOnce(&Sim) -> Host) -> (Sim, Host) {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let host = host(&sim);
    let mut files = AuditFiles::under(&host.home());
    files.batch_lines = 1;
    files.tear = false;
    sim.write_files("", files);
    (sim, host)
}

fn happen(sim: &Sim, numbers: std::ops::Range<u64>) {
    for number in numbers {
        sim.insert(Row::data_center(clock::now_ms(), number));
    }
}

/// The numbered events of the output, with how often each stands in it.
fn numbers(host: &Host) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for event in all(host) {
        if let Some(row) = Row::from_json(event.text("/event/original"))
            .ok()
            .and_then(|row| row.number())
        {
            *found.entry(row).or_default() += 1;
        }
    }
    found
}

fn all(host: &Host) -> Vec<Event> {
    fs::read(host.output())
        .map(|output| events(&output))
        .unwrap_or_default()
}

fn has(host: &Host, numbers_wanted: std::ops::Range<u64>) -> bool {
    let found = numbers(host);
    numbers_wanted
        .into_iter()
        .all(|number| found.contains_key(&number))
}

fn told(host: &Host, action: &str) -> usize {
    all(host)
        .iter()
        .filter(|event| event.text("/event/action") == action)
        .count()
}

#[track_caller]
fn once_each(host: &Host, count: u64) {
    let found = numbers(host);
    let wrong: Vec<_> = (0..count)
        .filter(|n| found.get(n) != Some(&1))
        .map(|n| (n, found.get(&n)))
        .collect();
    assert!(
        wrong.is_empty() && found.len() as u64 == count,
        "{} found; {wrong:?}",
        found.len()
    );
}

/// The files go away in mid-stream, the API serves what happens, the files come back with a backlog: each event once.
#[test]
fn f45_failover_round_trip() {
    let (sim, host) = confluence(host);
    let mut agent = host.start();
    happen(&sim, 0..20);
    agent.until("the files are read", || has(&host, 0..20));
    let (audit, away) = (host.audit(), host.home().join("log/away"));
    fs::rename(&audit, &away).unwrap();
    // What happens meanwhile goes to the database, and to the files that come back later.
    sim.files("", |files, _| files.dir = away.clone());
    happen(&sim, 20..40);
    agent.until_said("the audit API is read instead of the audit files");
    agent.until("the API brings what the files do not", || has(&host, 0..40));
    happen(&sim, 40..50);
    agent.until("and goes on to", || has(&host, 0..50));
    fs::rename(&away, &audit).unwrap();
    sim.files("", |files, _| files.dir = audit.clone());
    agent.until_said("the audit files can be read again");
    happen(&sim, 50..60);
    agent.until("the files are read again", || has(&host, 0..60));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    once_each(&host, 60);
    assert_eq!(told(&host, "agent.source.switched"), 2);
    // And nothing comes again after a restart.
    let again = host.once();
    assert_eq!(again.code, 0, "{}", again.stderr);
    once_each(&host, 60);
}

/// The files go silent while events go on; and three lines are missing in files that are well otherwise.
#[test]
fn f75_silent_file() {
    let (sim, host) = confluence(host);
    let mut agent = host.start();
    happen(&sim, 0..20);
    agent.until("the files are read", || has(&host, 0..20));
    sim.files("", |files, _| files.silent = true);
    happen(&sim, 20..30);
    agent.until_said("they have not brought");
    agent.until("the API brings what the files do not", || has(&host, 0..30));
    sim.files("", |files, _| files.silent = false);
    happen(&sim, 30..40);
    agent.until_said("the audit files can be read again");
    agent.until("the files are read again", || has(&host, 0..40));
    // Three that no file ever has.
    for number in 40..43 {
        sim.insert(Row::data_center(clock::now_ms(), number).database_only());
    }
    happen(&sim, 43..50);
    agent.until("a hole is filled", || has(&host, 0..50));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    once_each(&host, 50);
}

/// The agent is down for longer than Confluence keeps files: the hole is filled from the API.
#[test]
fn f46_retention_gap() {
    let (sim, host) = confluence(host);
    happen(&sim, 0..20);
    assert_eq!(host.once().code, 0);
    happen(&sim, 20..40);
    for file in fs::read_dir(host.audit()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    sim.files("", |files, now_ms| files.rotate(now_ms));
    happen(&sim, 40..50);
    let mut agent = host.start();
    agent.until("the hole is filled", || has(&host, 0..50));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    once_each(&host, 50);
}

/// Without an API the hole is an event.
#[test]
fn f46_retention_gap_is_told() {
    let (sim, mut host) = confluence(host);
    host.source = "rotate_grace = \"1s\"\nsweep_interval = \"500ms\"\n".into();
    happen(&sim, 0..20);
    assert_eq!(host.once().code, 0);
    happen(&sim, 20..40);
    for file in fs::read_dir(host.audit()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    sim.files("", |files, now_ms| files.rotate(now_ms));
    happen(&sim, 40..50);
    let mut agent = host.start();
    agent.until("the gap is told", || told(&host, "agent.source.gap") == 1);
    agent.until("the rest comes", || has(&host, 40..50));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// Two nodes of one cluster, an agent on each, both without files: each takes its own node's events only.
#[test]
fn f45_each_node_brings_its_own() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let hosts: Vec<Host> = ["a", "b"].iter().map(|_| host(&sim)).collect();
    for (node, host) in ["a", "b"].iter().zip(&hosts) {
        let mut files = AuditFiles::under(&host.home());
        files.batch_lines = 1;
        files.tear = false;
        sim.write_files(node, files);
    }
    let happen = |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let node = if number % 2 == 0 { "a" } else { "b" };
            sim.insert(Row::data_center(clock::now_ms(), number).on_node(node));
        }
    };
    let mut agents: Vec<_> = hosts.iter().map(Host::start).collect();
    happen(0..20);
    until(SOON, "both have read their files", || {
        hosts.iter().all(|host| numbers(host).len() == 10)
    });
    for host in &hosts {
        fs::rename(host.audit(), host.home().join("log/away")).unwrap();
    }
    for agent in &mut agents {
        agent.until_said("the audit API is read instead of the audit files");
    }
    happen(20..40);
    until(SOON, "both read the API", || {
        hosts.iter().all(|host| numbers(host).len() == 20)
    });
    for agent in &mut agents {
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
    for (at, host) in hosts.iter().enumerate() {
        let found = numbers(host);
        assert!(
            found
                .iter()
                .all(|(number, count)| number % 2 == at as u64 && *count == 1),
            "{found:?}"
        );
    }
}
