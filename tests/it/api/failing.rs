//! The real binary among failures: killed between pages, next to a source that fails, without a server.

use super::binary::{cloud, data_center, insert, is_exact, quiet, quiet_data_center};
use crate::rig::{SOON, listen_again, oracle};
use crate::simulator::sim::{ADMIN_TOKEN, Fault, Options, Target};
use confluence_audit_agent::clock;
use std::fs;

/// SIGKILL after each page of a poll with ten: the next run delivers all of it, and the output has nothing twice.
#[test]
fn f70_kill_between_pages_of_the_real_binary() {
    for is_cloud in [false, true] {
        for page in 1..=10 {
            let sim = quiet(if is_cloud { Options::cloud() } else { Options::data_center() });
            let mut host = if is_cloud { cloud(&sim, ADMIN_TOKEN) } else { data_center(&sim) };
            insert(&sim, is_cloud, 0..200);
            // One window.
            host.set("start", "\"30m\"");
            host.set("page_size", "20");
            // The next page never comes.
            sim.fault_for(Target::Audit, page + 1.., Fault::SlowHead(SOON));
            let mut agent = host.start();
            agent.until("so many pages", || sim.audit_request_count() > page);
            if page % 2 == 0 {
                agent.until("their rows are in the output", || host.delivered() >= 20);
            }
            agent.kill();
            let pages = sim.requests().iter().filter(|seen| seen.rows > 0).count() as u64;
            assert!(pages >= page.min(10), "{pages} pages with rows");
            sim.clear_faults();
            host.once_ok();
            is_exact(&sim, &host.events());
        }
    }
}

/// One source fails for good, and the other goes on; each has its own state and health.
#[test]
fn f73_two_sites() {
    let (wiki, docs) = (quiet_data_center(), quiet_data_center());
    let mut host = data_center(&wiki);
    host.more = format!(
        "[[source]]\nname = \"docs\"\n{}type = \"data_center\"\n",
        data_center(&docs).source.replace(&wiki.url(), &docs.url())
    );
    let token = host.path("docs-token");
    fs::write(&token, ADMIN_TOKEN).unwrap();
    let line = host.more.lines().find(|line| line.starts_with("personal")).unwrap().to_owned();
    host.more = host.more.replace(&line, &format!("personal_access_token = {{ file = {token:?} }}"));
    insert(&wiki, false, 0..5);
    insert(&docs, false, 100..105);
    wiki.fault(Fault::Unauthorized);
    let of =
        |name: &str| oracle::events(&fs::read(host.path(&format!("out/{name}.ndjson"))).unwrap_or_default());
    let mut agent = host.start();
    agent.until_logged("credentials are not accepted");
    for number in 200..205 {
        insert(&docs, false, number..number + 1);
        agent.until("the other goes on", || of("docs").len() as u64 == number - 194);
    }
    assert_eq!(agent.log_count("credentials are not accepted"), 1, "{}", agent.stderr());
    assert!(wiki.audit_request_count() <= 3, "slowly: {}", wiki.audit_request_count());
    assert_eq!(agent.stop(), 0);
    is_exact(&docs, &of("docs"));
    assert!(of("wiki").is_empty());
    let export = host.export();
    assert!(export["sources"]["wiki"]["api"].is_null(), "{export}");
    assert!(export["sources"]["docs"]["api"]["at_ms"].is_i64(), "{export}");
    wiki.clear_faults();
    host.once_ok();
    is_exact(&wiki, &of("wiki"));
    is_exact(&docs, &of("docs"));
}

/// Files that are there for one source do not keep another from its work, at the start either.
#[test]
fn f73_a_ca_file_that_is_not_there() {
    let (wiki, docs) = (quiet_data_center(), quiet_data_center());
    let mut host = data_center(&wiki);
    let source = host.source.replace(&wiki.url(), &docs.url());
    host.more = format!("[[source]]\nname = \"docs\"\n{source}type = \"data_center\"\n");
    let path = host.path("ca.pem");
    host.set("ca_file", &format!("{path:?}"));
    insert(&docs, false, 0..5);
    let of =
        |name: &str| oracle::events(&fs::read(host.path(&format!("out/{name}.ndjson"))).unwrap_or_default());
    let mut agent = host.start();
    agent.until_logged("ca.pem`; correct its path");
    agent.until("the other works", || of("docs").len() == 5);
    assert_eq!(agent.stop(), 0);
    assert_eq!(wiki.request_count(), 0);
    assert!(of("wiki").is_empty());
}

/// A server that is not there ends a run with `--once`, with cause and remedy, and no other run.
#[test]
fn an_unreachable_server_ends_only_a_single_run() {
    let sim = quiet_data_center();
    let host = data_center(&sim);
    insert(&sim, false, 0..5);
    sim.disconnect();
    let once = host.once_code(75);
    assert!(once.stderr.contains("nothing listens at that port; correct `url`"), "{}", once.stderr);
    let mut agent = host.start();
    agent.until_logged("nothing listens at that port");
    listen_again(|| sim.reconnect());
    agent.until("it goes on by itself", || host.delivered() == 5);
    assert!(agent.log_count("answers again") == 1, "{}", agent.stderr());
    assert_eq!(agent.stop(), 0);
    for (fault, printed) in [
        (Fault::Unauthorized, "make a new Personal Access Token"),
        (Fault::Forbidden, "give the agent's user the global permission"),
        (Fault::LoginPage, "asks for a login"),
    ] {
        sim.clear_faults();
        sim.fault(fault);
        let begun = clock::monotonic();
        let once = host.once_code(75);
        once.logged(printed);
        assert!(begun.elapsed() < SOON / 2, "does not wait for a person");
    }
    assert_eq!(host.delivered(), 5);
}

/// Two sources fail at the same time, alike or not: each says so by its name, and a wrong configuration warns of each
/// thing.
#[test]
fn f73_two_sites_report_their_own_failures() {
    for (fault, printed) in
        [(Fault::Unauthorized, "credentials are not accepted"), (Fault::LoginPage, "asks for a login")]
    {
        let (wiki, docs) = (quiet_data_center(), quiet_data_center());
        let mut host = data_center(&wiki);
        host.set("user", "\"auditor\"");
        host.set("token", "\"x\"");
        host.more = format!(
            "[[source]]\nname = \"docs\"\n{}type = \"data_center\"\n",
            host.source.replace(&wiki.url(), &docs.url())
        );
        wiki.fault(Fault::Unauthorized);
        docs.fault(fault);
        let mut agent = host.start();
        for (source, printed) in [("wiki", "credentials are not accepted"), ("docs", printed)] {
            let path = agent.stderr_path();
            agent.until(&format!("{source} says `{printed}`"), || {
                let text = fs::read_to_string(&path).unwrap();
                text.lines().any(|line| line.contains(printed) && line.ends_with(&format!("source={source}")))
            });
        }
        assert_eq!(agent.log_count("is not used: `personal_access_token`"), 4, "{}", agent.stderr());
        assert_eq!(agent.stop(), 0);
    }
}
