//! Files first, and the API when they fail: the real binary with a simulated Confluence that writes files and a
//! database.

use crate::rig::collector::{Collector, Plain};
use crate::rig::oracle::{Event, events};
use crate::rig::{Agent, GrowingOutput, Host, SOON, listen_again, until};
use crate::simulator::sim::{ADMIN_TOKEN, AuditFiles, Fault, Route, Row, Sim};
use confluence_audit_agent::clock;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// An agent that has both ways in, in fast mode.
pub fn host(sim: &Sim) -> Host {
    let mut host = Host::new();
    let token = host.path("token");
    fs::write(&token, ADMIN_TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    host.source += &format!(
        "mode = \"auto\"\nhome = {:?}\nurl = {:?}\npersonal_access_token = {{ file = {token:?} }}\npoll_interval = \"1s\"\n\
         probe_interval = \"1s\"\nfile_lag_timeout = \"2s\"\nfile_error_timeout = \"1s\"\nfile_recovery_timeout = \"1s\"\n",
        host.home(),
        sim.url()
    );
    host
}

/// A Confluence whose own searches leave nothing, writing files under the host's home.
pub fn confluence(host: impl FnOnce(&Sim) -> Host) -> (Sim, Host) {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let host = host(&sim);
    let mut files = AuditFiles::under(&host.home());
    files.batch_lines = 1;
    files.tear = false;
    sim.write_files("", files);
    (sim, host)
}

pub fn add_events(sim: &Sim, numbers: std::ops::Range<u64>) {
    for number in numbers {
        sim.insert(Row::data_center(clock::now_ms(), number));
    }
}

/// The numbered events of the output, with how often each stands in it.
fn numbers(host: &Host) -> BTreeMap<u64, usize> {
    numbered(&all_of(host))
}

fn numbered(events: &[Event]) -> BTreeMap<u64, usize> {
    let mut found = BTreeMap::new();
    for event in events {
        if let Some(row) = Row::from_json(event.text("/event/original")).ok().and_then(|row| row.number()) {
            *found.entry(row).or_default() += 1;
        }
    }
    found
}

fn all_of(host: &Host) -> Vec<Event> {
    fs::read(host.output()).map(|output| events(&output)).unwrap_or_default()
}

fn has(host: &Host, numbers_wanted: std::ops::Range<u64>) -> bool {
    let found = numbers(host);
    numbers_wanted.into_iter().all(|number| found.contains_key(&number))
}

fn notices(host: &Host, action: &str) -> usize {
    all_of(host).iter().filter(|event| event.text("/event/action") == action).count()
}

/// Waits until the API was asked more than so many times from now on.
#[track_caller]
fn polls(sim: &Sim, agent: &mut Agent, times: u64) {
    let before = sim.audit_request_count();
    agent.until(&format!("the API is asked {times} times and more"), || {
        sim.audit_request_count() > before + times
    });
}

pub const AUDIT: &str = "log/audit";
pub const AWAY: &str = "log/away";

/// Moves the directory of the audit files, which are written on there, to a place in the home.
pub fn move_files(sim: &Sim, host: &Host, to: &str) {
    let to = host.home().join(to);
    sim.files("", |files, _| {
        fs::rename(&files.dir, &to).unwrap();
        files.dir = to.clone();
    });
}

#[track_caller]
fn once_each(host: &Host, count: u64) {
    assert_once_each(&numbers(host), count);
}

#[track_caller]
fn assert_once_each(found: &BTreeMap<u64, usize>, count: u64) {
    let wrong: Vec<_> = (0..count).filter(|n| found.get(n) != Some(&1)).map(|n| (n, found.get(&n))).collect();
    assert!(wrong.is_empty() && found.len() as u64 == count, "{} found; {wrong:?}", found.len());
}

/// The agent stops in order, and each event is in its output once.
#[track_caller]
fn assert_stopped_with_all(agent: &mut Agent, host: &Host, count: u64) {
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    once_each(host, count);
}

/// An agent that has read the first events from files.
#[track_caller]
fn reading_files(sim: &Sim, host: &Host, count: u64) -> Agent {
    let mut agent = host.start();
    add_events(sim, 0..count);
    agent.until("the files are read", || has(host, 0..count));
    agent
}

/// The files go away in mid-stream, the API serves what happens, the files come back with a backlog: each event once.
#[test]
fn f45_failover_round_trip() {
    let (sim, host) = confluence(host);
    let mut agent = reading_files(&sim, &host, 20);
    // What happens meanwhile goes to the database, and to the files that come back later.
    move_files(&sim, &host, AWAY);
    add_events(&sim, 20..40);
    agent.until_logged("the audit API is read instead of the audit files");
    agent.until("the API brings what the files do not", || has(&host, 0..40));
    add_events(&sim, 40..50);
    agent.until("and goes on to", || has(&host, 0..50));
    move_files(&sim, &host, AUDIT);
    agent.until_logged("the audit files are healthy again");
    add_events(&sim, 50..60);
    agent.until("the files are read again", || has(&host, 0..60));
    assert_stopped_with_all(&mut agent, &host, 60);
    assert_eq!(notices(&host, "agent.source.switched"), 2);
    // And nothing comes again after a restart.
    host.once_ok();
    once_each(&host, 60);
}

/// The files go silent while events go on; and three lines are missing in files that are well otherwise.
#[test]
fn f75_silent_file() {
    let (sim, host) = confluence(host);
    let mut agent = reading_files(&sim, &host, 20);
    sim.files("", |files, _| files.silent = true);
    add_events(&sim, 20..30);
    agent.until_logged("did not arrive in them");
    agent.until("the API brings what the files do not", || has(&host, 0..30));
    sim.files("", |files, _| files.silent = false);
    add_events(&sim, 30..40);
    agent.until_logged("the audit files are healthy again");
    agent.until("the files are read again", || has(&host, 0..40));
    // Three that no file ever has.
    for number in 40..43 {
        sim.insert(Row::data_center(clock::now_ms(), number).database_only());
    }
    add_events(&sim, 43..50);
    agent.until("a hole is filled", || has(&host, 0..50));
    assert_stopped_with_all(&mut agent, &host, 50);
}

/// What the files hold already is not wanted, or was read before there was an API: neither does the API bring it, and
/// what it shows of it is no hole.
#[test]
fn f75_what_is_not_wanted_of_the_files_is_no_hole() {
    for start_at_end in [true, false] {
        let (sim, both) = confluence(host);
        add_events(&sim, 0..20);
        let mut host = both;
        if start_at_end {
            host.source += "start_at = \"end\"\n";
        } else {
            let files_only = Host::new().source;
            let both = std::mem::replace(&mut host.source, files_only);
            host.once_ok();
            assert_eq!(host.delivered(), 20);
            host.source = both;
        }
        let mut agent = host.start();
        agent.until("the API is asked", || sim.audit_request_count() > 3);
        add_events(&sim, 20..30);
        agent.until("what happens now is read", || has(&host, 20..30));
        for number in 30..33 {
            sim.insert(Row::data_center(clock::now_ms(), number).database_only());
        }
        agent.until("a hole is filled", || has(&host, 20..33));
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let first = if start_at_end { 20 } else { 0 };
        let found = numbers(&host);
        let wanted: BTreeMap<u64, usize> = (first..33).map(|number| (number, 1)).collect();
        assert_eq!(found, wanted, "{}", agent.stderr());
        assert_eq!(notices(&host, "agent.source.switched"), 1, "of the hole: {}", agent.stderr());
    }
}

/// The agent is down for longer than Confluence keeps files: the hole is filled from the API.
#[test]
fn f46_retention_gap() {
    let (sim, host) = confluence(host);
    add_events(&sim, 0..20);
    host.once_ok();
    add_events(&sim, 20..40);
    for file in fs::read_dir(host.audit()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    sim.files("", |files, now_ms| files.rotate(now_ms));
    add_events(&sim, 40..50);
    let mut agent = host.start();
    agent.until("the hole is filled", || has(&host, 0..50));
    assert_stopped_with_all(&mut agent, &host, 50);
}

/// A hole before a backlog: it is filled, and nothing of what follows it comes again; not after a kill before the API
/// was asked either.
#[test]
fn f46_retention_gap_before_a_backlog() {
    const EVENTS: u64 = 8_000;
    for killed in [false, true] {
        let (sim, mut host) = confluence(host);
        host.source += "overlap = \"1s\"\n";
        let then_ms = clock::now_ms() - 60_000;
        let add_events_between = |numbers: std::ops::Range<u64>| {
            sim.insert_all(numbers.map(|number| Row::data_center(then_ms + number as i64, number)));
        };
        add_events_between(0..20);
        host.once_ok();
        assert_eq!(host.delivered(), 20);
        add_events_between(20..40);
        for file in fs::read_dir(host.audit()).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        sim.files("", |files, now_ms| files.rotate(now_ms));
        add_events_between(40..EVENTS);
        if killed {
            sim.disconnect();
            let mut agent = host.start();
            agent.until("the files are read", || host.delivered() as u64 == EVENTS - 20);
            agent.until_logged("cannot reach");
            agent.kill();
            listen_again(|| sim.reconnect());
        }
        let mut agent = host.start();
        agent.until("the hole is filled", || has(&host, 0..EVENTS));
        polls(&sim, &mut agent, 5);
        assert_stopped_with_all(&mut agent, &host, EVENTS);
    }
}

/// Without an API the hole is an event.
#[test]
fn f46_retention_gap_is_reported() {
    let (sim, mut host) = confluence(host);
    host.source = "rotate_grace = \"1s\"\nsweep_interval = \"500ms\"\n".into();
    add_events(&sim, 0..20);
    host.once_ok();
    add_events(&sim, 20..40);
    for file in fs::read_dir(host.audit()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    sim.files("", |files, now_ms| files.rotate(now_ms));
    add_events(&sim, 40..50);
    let mut agent = host.start();
    agent.until("the gap is reported", || notices(&host, "agent.source.gap") == 1);
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
    // All at once: an agent that finds the first of the other node in the API and none of its own in a file would take
    // it.
    let add_events = |numbers: std::ops::Range<u64>| {
        let row = |number: u64| {
            let node = if number.is_multiple_of(2) { "a" } else { "b" };
            Row::data_center(clock::now_ms(), number).on_node(node)
        };
        sim.insert_all(numbers.map(row).collect::<Vec<_>>());
    };
    let mut agents: Vec<_> = hosts.iter().map(Host::start).collect();
    add_events(0..20);
    until(SOON, "both have read their files", || hosts.iter().all(|host| numbers(host).len() == 10));
    for host in &hosts {
        fs::rename(host.audit(), host.home().join("log/away")).unwrap();
    }
    for agent in &mut agents {
        agent.until_logged("the audit API is read instead of the audit files");
    }
    add_events(20..40);
    until(SOON, "both read the API", || hosts.iter().all(|host| numbers(host).len() == 20));
    for agent in &mut agents {
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
    for (at, host) in hosts.iter().enumerate() {
        let found = numbers(host);
        assert!(found.iter().all(|(number, count)| number % 2 == at as u64 && *count == 1), "{found:?}");
    }
}

/// Which way events come in outlasts the process: a new one neither waits nor switches again, and all say so.
#[test]
fn f45_an_outage_outlasts_the_agent() {
    let (sim, host) = confluence(host);
    let mut agent = reading_files(&sim, &host, 10);
    move_files(&sim, &host, AWAY);
    agent.until("the switch is reported", || notices(&host, "agent.source.switched") == 1);
    agent.until_logged("the audit API is read instead of the audit files");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let shown = host.state_show();
    assert!(shown.contains("events come by the audit API since "), "{shown}");
    assert!(shown.contains("does not exist"), "{shown}");
    add_events(&sim, 10..20);
    let socket = UnixDatagram::bind(host.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = host.command(&[], &[]);
    command.env("NOTIFY_SOCKET", host.path("notify"));
    let mut agent = host.spawn(command);
    agent.until("the API is read on", || has(&host, 0..20));
    let mut message = [0; 4096];
    agent.until("systemd gets the active input", || {
        let heard = socket.recv(&mut message).unwrap_or(0);
        String::from_utf8_lossy(&message[..heard]).contains("wiki: the audit API is read instead")
    });
    assert_eq!(notices(&host, "agent.source.switched"), 1);
    move_files(&sim, &host, AUDIT);
    agent.until("the way back is reported", || notices(&host, "agent.source.switched") == 2);
    assert_stopped_with_all(&mut agent, &host, 20);
}

/// Coverage, retention and deny list are requested in a row. A response is processed before the request after the next
/// one.
fn coverage_was_taken(sim: &Sim) -> bool {
    let requests = sim.requests();
    let at = requests.iter().position(|seen| seen.route == Route::Coverage);
    at.is_some_and(|at| requests.len() > at + 4)
}

/// A coverage that was lowered while the agent was down is an event, once.
#[test]
fn f75_coverage_lowered_meanwhile() {
    let (sim, host) = confluence(host);
    sim.set_coverage("SECURITY", "FULL");
    add_events(&sim, 0..5);
    let mut agent = host.start();
    agent.until("the coverage is read", || coverage_was_taken(&sim));
    agent.until("the files are read", || has(&host, 0..5));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    assert!(host.state_show().contains("SECURITY full"), "{}", host.state_show());
    sim.set_coverage("SECURITY", "BASE");
    for _ in 0..2 {
        sim.forget_requests();
        let mut agent = host.start();
        agent.until("it is reported", || notices(&host, "agent.coverage.lowered") == 1);
        agent.until("the coverage is read", || coverage_was_taken(&sim));
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
    assert_eq!(notices(&host, "agent.coverage.lowered"), 1);
    once_each(&host, 5);
}

/// Two nodes of one cluster, and none of the agents ever saw a file: each takes all, says so, and gives each event the
/// same id, by which a sink keeps one.
#[test]
fn f45_unknown_nodes_bring_all_with_the_same_ids() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let hosts: Vec<Host> = ["a", "b"].iter().map(|_| host(&sim)).collect();
    for host in &hosts {
        fs::remove_dir_all(host.audit()).unwrap();
    }
    let mut agents: Vec<_> = hosts.iter().map(Host::start).collect();
    for number in 0..20 {
        let node = if number % 2 == 0 { "a" } else { "b" };
        sim.insert(Row::data_center(clock::now_ms(), number).on_node(node));
    }
    for (host, agent) in hosts.iter().zip(&mut agents) {
        agent.until("all are read", || has(host, 0..20));
        agent.until_logged("the events of all nodes are delivered");
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        once_each(host, 20);
    }
    let ids = |host: &Host| {
        let numbered = all_of(host).into_iter().filter(|event| !event.is_notice());
        numbered.map(|event| event.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&hosts[0]).len(), 20);
    assert_eq!(ids(&hosts[0]), ids(&hosts[1]));
}

/// An outage with very many events: when the files come back they bring all of them again, and none is delivered twice
/// or missing, also at a server that does not know ids. `OUTAGE_EVENTS=200000` makes it a long one.
#[test]
fn f45_a_long_outage_repeats_and_loses_nothing() {
    let events: u64 = std::env::var("OUTAGE_EVENTS").map_or(13_000, |events| events.parse().unwrap());
    let step = events / 13;
    let (sim, mut host) = confluence(host);
    let collector = Collector::start(Plain);
    host.sink = "rotate_daily = false\nrotate_bytes = \"64GiB\"\n".into();
    host.sink += &format!("[[sink]]\nname = \"remote\"\ntype = \"http\"\nurl = \"{}\"\n", collector.url());
    // So no poll reads all of them again.
    host.source += "overlap = \"1s\"\n";
    let mut agent = host.start();
    let mut output = GrowingOutput::of(&host);
    add_events(&sim, 0..10);
    agent.until("the files are read", || output.events() == 10);
    // What is written meanwhile is where the agent does not look, in a file that it has never opened.
    let (audit, gone) = (host.audit(), host.home().join("log/gone"));
    let away = host.home().join("log/away");
    fs::rename(&audit, &gone).unwrap();
    sim.files("", |files, now_ms| {
        files.rotate(now_ms);
        files.dir = away.clone();
    });
    agent.until_logged("the audit API is read instead of the audit files");
    for from in (10..events).step_by(step as usize) {
        let by = (from + step).min(events);
        add_events(&sim, from..by);
        agent.until("the API brings them", || output.events() as u64 >= by);
    }
    sim.files("", |files, _| {
        let file = files.live().unwrap();
        fs::rename(&file, gone.join(file.file_name().unwrap())).unwrap();
        fs::rename(&gone, &audit).unwrap();
        files.dir = audit.clone();
    });
    agent.until_logged("the audit files are healthy again");
    add_events(&sim, events..events + 10);
    agent.until("the files are read to their end", || output.events() as u64 >= events + 10);
    polls(&sim, &mut agent, 5);
    assert_stopped_with_all(&mut agent, &host, events + 10);
    assert_once_each(&numbered(&collector.events()), events + 10);
}

/// A kill before the first answer of the API: where to begin is known by then, and what only the API has is not
/// skipped.
#[test]
fn f45_killed_before_the_api_ever_answered() {
    let (sim, host) = confluence(host);
    sim.disconnect();
    let mut agent = reading_files(&sim, &host, 20);
    agent.until_logged("cannot reach");
    agent.kill();
    sim.files("", |files, _| files.silent = true);
    add_events(&sim, 20..40);
    sim.files("", |files, _| files.silent = false);
    add_events(&sim, 40..50);
    listen_again(|| sim.reconnect());
    let mut agent = host.start();
    agent.until("the hole is filled", || has(&host, 0..50));
    assert_stopped_with_all(&mut agent, &host, 50);
}

/// A kill between delivery and checkpoint, of events that came by the API: they stand in the output, and are recognised
/// however late the API brings them again.
#[test]
fn f45_killed_between_delivery_and_checkpoint() {
    let (sim, mut host) = confluence(host);
    host.root = "checkpoint_interval = \"1h\"\n".into();
    let mut agent = reading_files(&sim, &host, 10);
    sim.files("", |files, _| files.silent = true);
    add_events(&sim, 10..30);
    agent.until("the API brings what the files do not", || has(&host, 0..30));
    agent.kill();
    sim.disconnect();
    sim.files("", |files, _| files.silent = false);
    let mut agent = host.start();
    agent.until_logged("contains events after the checkpoint");
    agent.until_logged("cannot reach");
    add_events(&sim, 30..40);
    agent.until("the files are read", || has(&host, 0..40));
    listen_again(|| sim.reconnect());
    add_events(&sim, 40..45);
    for number in 45..50 {
        sim.insert(Row::data_center(clock::now_ms(), number).database_only());
    }
    agent.until("the API is asked again", || has(&host, 0..50));
    assert_stopped_with_all(&mut agent, &host, 50);
}

/// The thread that asks the API panics: the process goes with it, and says which stage it was.
#[test]
fn f54_the_api_alongside_files_panics() {
    let (sim, host) = confluence(host);
    add_events(&sim, 0..20);
    let mut command = host.command(&[], &[]);
    command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", "ask=panic@2");
    let mut agent = host.spawn(command);
    assert_eq!(agent.wait(SOON).code(), Some(70), "{}", agent.stderr());
    assert_eq!(agent.log_count("stage=\"api wiki\""), 1, "{}", agent.stderr());
    host.once_ok();
    once_each(&host, 20);
}

/// While the API is asked for the first time nobody knows whether it can stand in for the files.
#[test]
fn f45_an_api_that_has_not_answered_is_not_used() {
    let (sim, host) = confluence(host);
    fs::remove_dir_all(host.audit()).unwrap();
    let pause = Duration::from_secs(4);
    sim.fault(Fault::SlowHead(pause));
    let socket = UnixDatagram::bind(host.path("notify")).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut command = host.command(&[], &[]);
    command.env("NOTIFY_SOCKET", host.path("notify"));
    let mut agent = host.spawn(command);
    agent.until("the API is asked", || sim.request_count() > 0);
    let asked = clock::monotonic();
    agent.until_logged("the audit API is read instead of the audit files");
    let mut message = [0; 4096];
    agent.until("it is ready", || {
        let heard = socket.recv(&mut message).unwrap_or(0);
        message[..heard].starts_with(b"READY=1")
    });
    assert!(asked.elapsed() > pause / 2, "ready before the API has answered");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// An answer that was asked for in place of the files, and comes when they are read again: what it brings before they
/// had time to is not missing.
#[test]
fn f75_an_answer_of_before_the_return_is_no_silence() {
    let (sim, host) = confluence(host);
    let mut agent = reading_files(&sim, &host, 20);
    let (audit, away) = (host.audit(), host.home().join("log/away"));
    fs::rename(&audit, &away).unwrap();
    agent.until_logged("the audit API is read instead of the audit files");
    sim.fault(Fault::SlowHead(Duration::from_secs(4)));
    let asked = sim.audit_request_count();
    polls(&sim, &mut agent, 0);
    // In the database at once, in a file with the fifth that follows.
    sim.files("", |files, _| files.batch_lines = 10);
    add_events(&sim, 20..25);
    agent.until("it is asked for them", || sim.audit_request_count() > asked + 1);
    fs::rename(&away, &audit).unwrap();
    agent.until_logged("the audit files are healthy again");
    sim.clear_faults();
    agent.until("the answer comes", || has(&host, 0..25));
    polls(&sim, &mut agent, 3);
    add_events(&sim, 25..30);
    agent.until("the files are read on", || has(&host, 0..30));
    assert_stopped_with_all(&mut agent, &host, 30);
    assert_eq!(notices(&host, "agent.source.switched"), 2, "{}", agent.stderr());
}

/// A backlog in a file that is being read is no hole, although the API has it all already.
#[test]
fn f75_a_backlog_is_no_hole() {
    const EVENTS: u64 = 5_000;
    let (sim, host) = confluence(host);
    let then_ms = clock::now_ms() - 60_000;
    sim.insert_all((0..EVENTS).map(|number| Row::data_center(then_ms + number as i64, number)));
    let mut agent = host.start();
    agent.until_within(5 * SOON, "the backlog is read", || host.delivered() as u64 >= EVENTS);
    polls(&sim, &mut agent, EVENTS / 1_000);
    assert_stopped_with_all(&mut agent, &host, EVENTS);
    assert_eq!(notices(&host, "agent.source.switched"), 0, "{}", agent.stderr());
}

/// A cluster in which one node's files are read; the other's events are in the database alone.
fn of_node(node: &str, time_ms: i64, number: u64) -> Row {
    Row::data_center(time_ms, number).on_node(node)
}

/// A Confluence whose node "a" writes files under the host's home.
fn cluster(host: impl FnOnce(&Sim) -> Host) -> (Sim, Host) {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let host = host(&sim);
    let mut files = AuditFiles::under(&host.home());
    files.batch_lines = 1;
    files.tear = false;
    sim.write_files("a", files);
    (sim, host)
}

/// `nodes = "all"` and a backlog with more events than ids are kept: what other nodes had in that time is in no file,
/// and comes. Neither a kill before the API was asked nor a second run changes that.
#[test]
fn f81_events_of_other_nodes_after_a_backlog() {
    const EVENTS: u64 = 8_000;
    const OTHERS: u64 = 200;
    for killed in [false, true] {
        let (sim, mut host) = cluster(host);
        host.source += "nodes = \"all\"\noverlap = \"1s\"\n";
        let mut agent = host.start();
        let now_ms = clock::now_ms();
        sim.insert_all((0..20).map(|number| of_node("a", now_ms + number as i64, number)));
        agent.until("the files are read", || has(&host, 0..20));
        polls(&sim, &mut agent, 3);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        // Node "a" has a hole before the backlog as well; a file that was deleted held it.
        let then_ms = clock::now_ms() - 1_000;
        sim.insert_all((20..40).map(|number| of_node("a", then_ms, number).database_only()));
        let rows = (40..EVENTS).map(|number| {
            let time_ms = then_ms + 20 + number as i64 / 10;
            let other = number % (EVENTS / OTHERS) == 0;
            of_node(if other { "b" } else { "a" }, time_ms, number)
        });
        sim.insert_all(rows);
        if killed {
            sim.disconnect();
            let mut agent = host.start();
            agent.until_within(5 * SOON, "the files are read", || {
                host.delivered() as u64 >= EVENTS - OTHERS - 20
            });
            agent.kill();
            listen_again(|| sim.reconnect());
        }
        let mut agent = host.start();
        agent.until_within(5 * SOON, "all nodes' events are there", || has(&host, 0..EVENTS));
        polls(&sim, &mut agent, 5);
        assert_stopped_with_all(&mut agent, &host, EVENTS);
    }
}

/// `nodes = "all"`: rows of another node, and rows without a node, come at the pace of `poll_interval`, long before a
/// comparison with the files would, and are no reason to switch. What the files themselves are missing still is one.
#[test]
fn f82_events_of_other_nodes_are_ordinary() {
    let (sim, mut host) = cluster(host);
    host.set("nodes", "\"all\"");
    host.set("probe_interval", "\"1h\"");
    host.set("file_lag_timeout", "\"1h\"");
    let mut agent = host.start();
    sim.insert_all((0..10).map(|number| of_node("a", clock::now_ms(), number)));
    agent.until("the files are read", || has(&host, 0..10));
    for round in 0..3 {
        let from = 10 + round * 10;
        for number in from..from + 9 {
            let row = of_node(if number % 2 == 0 { "b" } else { "c" }, clock::now_ms(), number);
            sim.insert(row);
        }
        sim.insert(Row::data_center(clock::now_ms(), from + 9).database_only());
        agent.until("the other nodes' events come", || has(&host, from..from + 10));
    }
    assert_stopped_with_all(&mut agent, &host, 40);
    assert_eq!(notices(&host, "agent.source.switched"), 0, "{}", agent.stderr());
    // Compared at once, these rows are still none that the files should have brought.
    host.set("probe_interval", "\"1s\"");
    host.set("file_lag_timeout", "\"1s\"");
    let mut agent = host.start();
    for number in 40..44 {
        sim.insert(of_node("b", clock::now_ms(), number));
        sim.insert(of_node("a", clock::now_ms(), number + 4));
    }
    agent.until("all is there", || has(&host, 0..48));
    polls(&sim, &mut agent, 10);
    assert_eq!(notices(&host, "agent.source.switched"), 0, "{}", agent.stderr());
    assert_eq!(agent.log_count("WARN"), 0, "{}", agent.stderr());
    for number in 48..51 {
        sim.insert(of_node("a", clock::now_ms(), number).database_only());
    }
    agent.until("the hole is filled", || has(&host, 0..51));
    agent.until("the switch is reported", || notices(&host, "agent.source.switched") == 1);
    assert_stopped_with_all(&mut agent, &host, 51);
    assert!(host.state_show().contains("audit API, other cluster nodes: delivered up to"));
}

/// `nodes` is changed between two runs: the other node's events are delivered with "all" alone, and none twice.
#[test]
fn f82_nodes_is_changed_between_two_runs() {
    let (sim, mut host) = cluster(host);
    let add_events_between = |from: u64| {
        sim.insert_all((from..from + 10).map(|number| of_node("b", clock::now_ms(), number)));
        sim.insert_all((from + 10..from + 20).map(|number| of_node("a", clock::now_ms(), number)));
    };
    let of_other = |host: &Host, from: u64| {
        let found = numbers(host);
        (from..from + 10).filter(|number| found.contains_key(number)).count()
    };
    for (nodes, from, expected) in [("own", 0, 0), ("all", 20, 10), ("own", 40, 0)] {
        host.set("nodes", &format!("{nodes:?}"));
        let mut agent = host.start();
        add_events_between(from);
        agent.until("the node's own events come", || has(&host, from + 10..from + 20));
        agent.until("the other node's come", || of_other(&host, from) == expected);
        polls(&sim, &mut agent, 5);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        assert_eq!(of_other(&host, from), expected, "{nodes}");
    }
    let found = numbers(&host);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

/// `nodes = "all"`: files that cannot be read hold up no other node's events, and a single run brings all.
#[test]
fn f82_other_nodes_while_the_files_are_away() {
    let (sim, mut host) = cluster(host);
    host.set("nodes", "\"all\"");
    host.set("file_error_timeout", "\"1h\"");
    let mut agent = host.start();
    sim.insert_all((0..10).map(|number| of_node("a", clock::now_ms(), number)));
    agent.until("the files are read", || has(&host, 0..10));
    polls(&sim, &mut agent, 3);
    let away = host.home().join("log/away");
    fs::rename(host.audit(), &away).unwrap();
    agent.until_logged("does not exist");
    sim.insert_all((10..20).map(|number| of_node("b", clock::now_ms(), number)));
    agent.until("the other node's events come", || has(&host, 0..20));
    fs::rename(&away, host.audit()).unwrap();
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    sim.insert_all((20..30).map(|number| of_node("b", clock::now_ms(), number)));
    sim.insert_all((30..40).map(|number| of_node("a", clock::now_ms(), number)));
    host.once_ok();
    once_each(&host, 40);
}

/// The node gets another id while the API stands in, and once more; with and without a restart in between. Its events
/// come, that is said, and when the files are back with yet another id nothing comes twice.
#[test]
fn f83_the_nodes_id_changes_while_the_api_is_the_input() {
    for restarted in [false, true] {
        let (sim, host) = cluster(host);
        let mut agent = host.start();
        sim.insert_all((0..10).map(|number| of_node("a", clock::now_ms(), number)));
        agent.until("the files are read", || has(&host, 0..10));
        let away = host.home().join("log/away");
        fs::rename(host.audit(), &away).unwrap();
        sim.files("a", |files, _| files.silent = true);
        agent.until_logged("the audit API is read instead of the audit files");
        for (from, node) in [(10, "a"), (20, "a2"), (30, "a3")] {
            if restarted {
                assert_eq!(agent.stop(), 0, "{}", agent.stderr());
                agent = host.start();
            }
            sim.insert_all((from..from + 10).map(|number| of_node(node, clock::now_ms(), number)));
            agent.until("the events come by the API", || has(&host, 0..from + 10));
        }
        agent.until_logged("has events of the cluster node `a3`, which no audit file contains");
        // A new, empty directory: the node goes on under its last id.
        let mut files = AuditFiles::under(&host.home());
        (files.batch_lines, files.tear) = (1, false);
        fs::create_dir_all(&files.dir).unwrap();
        sim.write_files("a3", files);
        sim.insert_all((40..50).map(|number| of_node("a3", clock::now_ms(), number)));
        agent.until_logged("the audit files are healthy again");
        agent.until("the files are read", || has(&host, 0..50));
        agent.until_logged("have another cluster node id");
        polls(&sim, &mut agent, 4);
        assert_stopped_with_all(&mut agent, &host, 50);
        assert!(host.state_show().contains("cluster node a3\n"), "{}", host.state_show());
    }
}

/// Two nodes, an agent on each, and both nodes get new ids, one while its files are away: each event comes from its own
/// node's agent, and soon from no other.
#[test]
fn f83_new_ids_of_two_nodes_with_an_agent_each() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.searches_are_audited = false);
    let hosts: Vec<Host> = ["a", "b"].iter().map(|_| host(&sim)).collect();
    let write = |node: &str, host: &Host| {
        let mut files = AuditFiles::under(&host.home());
        (files.batch_lines, files.tear) = (1, false);
        sim.write_files(node, files);
    };
    let add_events = |nodes: [&str; 2], numbers: std::ops::Range<u64>| {
        let row = |number: u64| of_node(nodes[number as usize % 2], clock::now_ms(), number);
        sim.insert_all(numbers.map(row).collect::<Vec<_>>());
    };
    let own = |at: usize, numbers: std::ops::Range<u64>| {
        let found = numbers_of(&hosts[at]);
        let mut own = numbers.filter(|number| *number as usize % 2 == at);
        own.all(|number| found.contains(&number))
    };
    write("a", &hosts[0]);
    write("b", &hosts[1]);
    let mut agents: Vec<_> = hosts.iter().map(Host::start).collect();
    add_events(["a", "b"], 0..20);
    until(SOON, "both have read their files", || own(0, 0..20) && own(1, 0..20));
    let asked = sim.audit_request_count();
    until(SOON, "both have asked", || sim.audit_request_count() > asked + 10);
    // The first node's files go away, and both nodes come back under other ids; the second writes its files as before.
    let away = hosts[0].home().join("log/away");
    fs::rename(hosts[0].audit(), &away).unwrap();
    sim.files("a", |files, _| files.silent = true);
    agents[0].until_logged("the audit API is read instead of the audit files");
    write("b2", &hosts[1]);
    add_events(["a2", "b2"], 20..40);
    until(SOON, "the events come", || own(0, 0..40) && own(1, 0..40));
    // Its files are back. From then on each brings its own node's alone.
    write("a2", &hosts[0]);
    fs::create_dir_all(hosts[0].audit()).unwrap();
    add_events(["a2", "b2"], 40..60);
    until(SOON, "the events come", || own(0, 0..60) && own(1, 0..60));
    agents[0].until_logged("the audit files are healthy again");
    add_events(["a2", "b2"], 60..80);
    let asked = sim.audit_request_count();
    until(SOON, "both have asked", || sim.audit_request_count() > asked + 10);
    add_events(["a2", "b2"], 80..100);
    until(SOON, "the events come", || own(0, 0..100) && own(1, 0..100));
    let asked = sim.audit_request_count();
    until(SOON, "both have asked", || sim.audit_request_count() > asked + 10);
    for (at, agent) in agents.iter_mut().enumerate() {
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let found = numbers(&hosts[at]);
        assert!(found.values().all(|count| *count == 1), "{found:?}");
        let of_others = |number: &&u64| **number as usize % 2 != at;
        let others: Vec<_> = found.keys().filter(of_others).collect();
        assert!(others.iter().all(|number| **number < 80), "{at}: {others:?}\n{}", agent.stderr());
    }
    assert!(numbers(&hosts[1]).keys().all(|number| number % 2 == 1 || *number < 60));
}

fn numbers_of(host: &Host) -> BTreeSet<u64> {
    numbers(host).into_keys().collect()
}

/// Confluence writes each of the agent's searches into the file, before its answer comes. They are known for what they
/// are from the first one on: tagged, or left out. Another user's search is neither, and none of them is missing in the
/// files.
#[test]
fn f84_own_searches_in_files() {
    for (dropped, all) in [(false, false), (true, false), (true, true)] {
        let (sim, mut host) = confluence(host);
        sim.configure(|options| options.searches_are_audited = true);
        host.set("drop_self_polls", &dropped.to_string());
        if all {
            host.set("nodes", "\"all\"");
        }
        let mut agent = reading_files(&sim, &host, 10);
        let searched = |host: &Host| -> Vec<Event> {
            let search = |event: &Event| event.text("/event/action").ends_with("audit.search");
            all_of(host).into_iter().filter(search).collect()
        };
        polls(&sim, &mut agent, 5);
        // Another administrator's.
        let other = sim.rows().into_iter().find(|row| row.api.contains("audit.search")).unwrap();
        let (key, name) = ("8a80cb819bd0ffff019bd0000000ffff", "?username=");
        let login = other.api.split(name).nth(1).unwrap().split('"').next().unwrap();
        let api = other.api.replace(key, "8a80cb81eeee").replace(&format!("{name}{login}"), "?username=eve");
        let mut row = Row::from_json(&api).unwrap();
        row.move_by(clock::now_ms() - row.time_ms);
        sim.insert(row);
        agent.until("another's search comes", || {
            searched(&host).iter().any(|event| event.text("/user/id") == "8a80cb81eeee")
        });
        add_events(&sim, 10..20);
        agent.until("the files are read on", || has(&host, 0..20));
        polls(&sim, &mut agent, 5);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        // The next process knows its user at once.
        let mut agent = host.start();
        polls(&sim, &mut agent, 5);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let searches = searched(&host);
        let (own, others): (Vec<_>, Vec<_>) =
            searches.iter().partition(|event| event.text("/user/id") == key);
        assert_eq!(others.len(), 1, "{}", agent.stderr());
        assert!(others.iter().all(|event| !event.has_tag("self_poll")));
        assert!(own.iter().all(|event| event.has_tag("self_poll")), "{own:?}");
        assert_eq!(own.is_empty(), dropped, "{}", own.len());
        once_each(&host, 20);
        assert_eq!(notices(&host, "agent.source.switched"), 0, "{}", agent.stderr());
    }
}

/// What is not known is not waited for without end: an API that never answers holds back no search that stands in a
/// file.
#[test]
fn f84_an_api_that_does_not_answer_holds_back_no_search() {
    let (sim, host) = confluence(host);
    sim.disconnect();
    let search = r#"{"affectedObjects":[],"auditType":{"action":"Audit Log search performed","actionI18nKey":"atlassian.audit.event.action.audit.search","area":"AUDIT_LOG","category":"Auditing","categoryI18nKey":"atlassian.audit.event.category.audit","level":"BASE"},"author":{"id":"8a80cb81eeee","name":"Eve","type":"user"},"changedValues":[],"extraAttributes":[],"method":"Browser","system":"https://wiki.example.com","timestamp":{"epochSecond":1,"nano":0},"version":"1.0"}"#;
    let now_s = clock::now_ms() / 1000;
    fs::create_dir_all(host.audit()).unwrap();
    let line = search.replace("\"epochSecond\":1", &format!("\"epochSecond\":{now_s}"));
    fs::write(host.audit().join("20260301.00000.audit.log"), line + "\n").unwrap();
    let mut agent = host.start();
    agent.until_logged("cannot reach");
    agent.until("the search is delivered", || host.delivered() == 1);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    listen_again(|| sim.reconnect());
    host.once_ok();
    assert_eq!(host.delivered(), 1);
}

/// A single run whose API does not answer has not done everything, and the state does not say that it has: 75. When it
/// answers, 0.
#[test]
fn a_single_run_reports_that_the_api_was_not_requested() {
    for (fault, all) in [
        (Fault::Unauthorized, false),
        (Fault::Unauthorized, true),
        (Fault::LoginPage, false),
        (Fault::Forbidden, true),
    ] {
        let (sim, mut host) = confluence(host);
        if all {
            host.set("nodes", "\"all\"");
        }
        add_events(&sim, 0..10);
        sim.fault(fault);
        for _ in 0..2 {
            let run = host.once_code(75);
            run.logged("\nwiki: ");
            once_each(&host, 10);
            let shown = host.state_show();
            assert!(shown.contains("audit API: has not responded yet, to be read from 20"), "{shown}");
            assert!(!shown.contains("delivered up to"), "{shown}");
        }
        sim.clear_faults();
        host.once_ok();
        assert!(host.state_show().contains("audit API: delivered up to 20"), "{}", host.state_show());
        // What it did before stays true.
        sim.fault(Fault::Unauthorized);
        host.once_code(75);
        assert!(host.state_show().contains("audit API: delivered up to 20"), "{}", host.state_show());
        once_each(&host, 10);
    }
}
