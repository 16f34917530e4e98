//! The real binary against the simulated Confluence: what a run delivers, and how it goes on after its end.

use crate::rig::{Event, Host, SOON};
use crate::simulator::sim::{ADMIN_EMAIL, ADMIN_TOKEN, Fault, Options, Row, SCOPED_TOKEN, Seen, Sim};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

/// A source that polls this often, with a token in a file.
pub fn data_center(sim: &Sim) -> Host {
    let mut host = Host::new();
    fs::write(host.path("token"), format!("{ADMIN_TOKEN}\n")).unwrap();
    host.source = "mode = \"api\"\npoll_interval = \"100ms\"\n".into();
    host.set("url", &format!("{:?}", sim.url()));
    host.set("personal_access_token", &format!("{{ file = {:?} }}", host.path("token")));
    host
}

pub fn cloud(sim: &Sim, token: &str) -> Host {
    let mut host = Host::new();
    fs::write(host.path("token"), token).unwrap();
    host.source = "type = \"cloud\"\nmode = \"api\"\npoll_interval = \"100ms\"\n".into();
    for key in ["site", "gateway"] {
        host.set(key, &format!("{:?}", sim.url()));
    }
    host.set("user", &format!("{ADMIN_EMAIL:?}"));
    host.set("token", &format!("{{ file = {:?} }}", host.path("token")));
    host
}

/// Where a poll takes longer than the interval, the next one is due when it ends. A single run ends all the same, and one
/// that follows a crash knows when it has read again what was in the output already.
#[test]
fn polls_that_take_longer_than_the_interval() {
    let sim = quiet_data_center();
    insert(&sim, false, 0..5);
    let host = data_center(&sim);
    let mut command = host.command(&[], &[]);
    command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", "after_ack=abort@1");
    let mut crashed = host.spawn(command);
    assert_eq!(crashed.wait(SOON).code(), None, "{}", crashed.stderr());
    sim.fault(Fault::SlowHead(Duration::from_millis(150)));
    let mut agent = host.start();
    let before = sim.audit_request_count();
    agent.until("it has polled", || sim.audit_request_count() > before + 5);
    insert(&sim, false, 5..6);
    agent.until("the next event is there", || host.delivered() == 6);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let length = fs::metadata(host.output()).unwrap().len();
    assert_eq!(host.export()["sources"]["wiki"]["marks"][0]["length"], length);
    insert(&sim, false, 6..9);
    let mut once = host.start_with(&[], &["--once"]);
    assert_eq!(once.wait(SOON).code(), Some(0), "{}", once.stderr());
    is_exact(&sim, &host.events());
}

/// So many rows, a second apart, the last a second ago.
pub fn insert(sim: &Sim, cloud: bool, numbers: std::ops::Range<u64>) {
    let now_ms = sim.now_ms();
    let end = numbers.end as i64;
    sim.insert_all(numbers.map(|number| {
        let time_ms = now_ms - (end - number as i64) * 1000;
        if cloud { Row::cloud(time_ms, number) } else { Row::data_center(time_ms, number) }
    }));
}

fn originals(events: &[Event]) -> Vec<String> {
    let mut all: Vec<String> =
        events.iter().map(|event| event.original.clone().expect("each has its original")).collect();
    all.sort();
    all
}

fn in_database(sim: &Sim) -> Vec<String> {
    let mut all: Vec<String> = sim.rows().into_iter().map(|row| row.api).collect();
    all.sort();
    all
}

/// Everything that the server has was delivered, and nothing twice.
#[track_caller]
pub fn is_exact(sim: &Sim, events: &[Event]) {
    assert_eq!(originals(events), in_database(sim));
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), events.len(), "two events with one id");
}

pub fn quiet(mut options: Options) -> Sim {
    options.searches_are_audited = false;
    Sim::start(options).unwrap()
}

pub fn quiet_data_center() -> Sim {
    quiet(Options::data_center())
}

fn state(host: &Host, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .arg("state")
        .args(arguments)
        .arg("--state")
        .arg(host.state())
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A dry run changes nothing; a run delivers each row once; the next has nothing to do, or exactly what is new.
#[track_caller]
fn assert_new_rows_read(sim: &Sim, host: &Host, is_cloud: bool) {
    insert(sim, is_cloud, 0..25);
    let dry = host.once_with(&["--once", "--dry-run"]);
    assert_eq!((dry.code, dry.stdout.lines().count()), (0, 25), "{}", dry.stderr);
    dry.logged("would deliver 25 events");
    assert!(!host.state().exists() && !host.output().exists());

    let first = host.once_ok();
    first.logged("read 25 records from http://127.0.0.1");
    is_exact(sim, &host.events());

    let second = host.once_ok();
    second.logged("wiki: nothing is new");
    assert_eq!(host.delivered(), 25);

    insert(sim, is_cloud, 100..101);
    let (before, dry) = (host.export(), host.once_with(&["--once", "--dry-run"]));
    assert_eq!((dry.code, dry.stdout.lines().count()), (0, 1), "{}", dry.stderr);
    assert_eq!(host.export(), before);
    let third = host.once();
    third.logged("delivered 1 event to");
    is_exact(sim, &host.events());
}

/// However a server lays out its answers, a row is kept without the blanks between its tokens.
#[test]
fn originals_of_rows_have_no_blanks_between_tokens() {
    let sim = quiet_data_center();
    let plain = Row::data_center(sim.now_ms() - 1000, 1);
    let spaced = Row { api: plain.api.replace(",\"", " ,\r\n\t\"").replace("\":", "\" : "), ..plain.clone() };
    assert_ne!(spaced.api, plain.api);
    sim.insert_all([spaced]);
    let host = data_center(&sim);
    host.once_ok();
    assert_eq!(originals(&host.events()), [plain.api]);
}

#[test]
fn data_center_delivers_each_row_once() {
    let sim = quiet_data_center();
    assert_new_rows_read(&sim, &data_center(&sim), false);
    assert!(sim.requests().iter().all(|seen| seen.authorization.is_bearer(ADMIN_TOKEN)));
}

#[test]
fn a_context_path_is_kept() {
    let mut options = Options::data_center();
    options.context_path = "/confluence".into();
    let sim = quiet(options);
    assert_new_rows_read(&sim, &data_center(&sim), false);
    assert!(sim.requests().iter().all(|seen| seen.path.starts_with("/confluence/rest/")));
}

#[test]
fn a_data_center_older_than_7_5_is_read_the_old_way() {
    let mut options = Options::data_center();
    options.older_than_7_5 = true;
    let sim = quiet(options);
    let mut host = data_center(&sim);
    insert(&sim, false, 0..25);
    host.set("page_size", "10");
    let first = host.once_ok();
    first.logged("older than 7.5");
    assert_eq!(host.delivered(), 25);
    assert!(host.once().stderr.contains("nothing is new"));
    insert(&sim, false, 100..101);
    assert!(host.once().stderr.contains("delivered 1 event to"));
    assert_eq!(host.delivered(), 26);
}

#[test]
fn cloud_with_a_classic_token() {
    let sim = quiet(Options::cloud());
    let mut host = cloud(&sim, ADMIN_TOKEN);
    host.set("page_size", "10");
    assert_new_rows_read(&sim, &host, true);
    let basic = |seen: &Seen| seen.authorization.is_basic(ADMIN_EMAIL, ADMIN_TOKEN);
    assert!(sim.requests().iter().all(basic));
}

#[test]
fn cloud_with_a_scoped_token_through_the_gateway() {
    let sim = quiet(Options::cloud());
    let mut host = cloud(&sim, SCOPED_TOKEN);
    host.set("scoped", "true");
    assert_new_rows_read(&sim, &host, true);
    let gateway = |path: &str| path.starts_with("/ex/confluence/") || path == "/_edge/tenant_info";
    assert!(sim.requests().iter().all(|seen| gateway(&seen.path)));
}

/// The agent's own searches are events too: tagged, or left out if that is wanted.
#[test]
fn own_searches_are_tagged_or_left_out() {
    let sim = Sim::data_center().unwrap();
    let mut host = data_center(&sim);
    insert(&sim, false, 0..3);
    host.once_ok();
    host.once_ok();
    let events = host.events();
    let own = events.iter().filter(|event| event.has_tag("self_poll")).count();
    assert_eq!((events.len(), own), (3 + own, own));
    assert!(own > 0, "the first search is seen by the second run");
    host.set("drop_self_polls", "true");
    let quiet = host.once();
    quiet.logged("of the agent's own searches were dropped");
    assert_eq!(host.delivered(), events.len());
}

/// What is stored of an API is shown, exported and forgotten; what is forgotten is delivered again, with the same ids.
#[test]
fn the_cursor_is_shown_and_forgotten() {
    let sim = quiet_data_center();
    let host = data_center(&sim);
    insert(&sim, false, 0..5);
    host.once_ok();
    let shown = text(&state(&host, &["show"]));
    assert!(shown.contains("source wiki\n  audit API: delivered up to 20"), "{shown}");
    assert!(shown.contains("  ledger: 5 events\n") && !shown.contains("file"), "{shown}");
    let export = host.export();
    let cursor = &export["sources"]["wiki"]["api"];
    let at_ms = cursor["at_ms"].as_i64().expect("a time");
    assert!((sim.now_ms() - 120_000..=sim.now_ms()).contains(&at_ms), "{cursor}");
    assert_eq!(
        text(&state(&host, &["forget", "--yes"])).lines().last(),
        Some("source wiki: forgot 1 audit API cursor, 5 ledger entries, 1 output length")
    );
    assert!(text(&state(&host, &["show"])).contains("nothing is stored"));
    host.once_ok();
    let (notices, events): (Vec<Event>, Vec<Event>) = host.events().into_iter().partition(Event::is_notice);
    assert_eq!(notices[0].text("/event/action"), "agent.ledger.restarted");
    let mut ids: Vec<String> = events.into_iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 10);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
}
