//! A window whose pages fail: it keeps its place, is asked for ever more rarely, and does not keep what is newer from
//! coming.

use super::binary::{data_center, insert, is_exact, quiet_data_center};
use super::*;
use crate::rig::SOON;
use crate::simulator::sim::{Fault, Options, RateHeaders, Target};
use confluence_audit_agent::record::{Parsed, Scratch, parse};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Data Center, Data Center before 7.5, and Cloud.
const KINDS: [&str; 3] = ["data center", "legacy", "cloud"];

fn sim_of(kind: &str) -> Sim {
    let mut options = match kind {
        "cloud" => Options::cloud(),
        _ => Options::data_center(),
    };
    options.searches_are_audited = false;
    options.older_than_7_5 = kind == "legacy";
    Sim::start(options).unwrap()
}

fn row(kind: &str, at_ms: i64, number: u64) -> Row {
    match kind {
        "cloud" => Row::cloud(at_ms, number),
        _ => Row::data_center(at_ms, number),
    }
}

/// Fills the hour before with rows, of which twenty make a page.
fn polled<'s>(sim: &'s Sim, kind: &str, rows: u64) -> Polled<'s> {
    let mut config = config_of(sim, kind == "cloud");
    config.page_size = 20;
    let polled = Polled::new(sim, config);
    sim.insert_all((0..rows).map(|n| row(kind, BEGIN_MS + n as i64 * 10_000, n)));
    polled
}

/// Each row of which legacy shows another form is there once.
#[track_caller]
fn has_all(polled: &Polled, sim: &Sim, place: &str) {
    assert_eq!(polled.delivered.len(), sim.rows().len(), "{place}");
    let mut ids: Vec<EventId> = polled.delivered.iter().map(|(id, _)| *id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), polled.delivered.len(), "{place}: two events with one id");
}

/// How many of the delivered rows are of this time or later.
fn newer(polled: &Polled, since_ms: i64) -> usize {
    let time = |row: &str| match parse(row.as_bytes(), &mut Scratch::default()) {
        Parsed::Record(record) => record.time_ms,
        Parsed::Unreadable { .. } => None,
    };
    let rows = polled.delivered.iter();
    rows.filter(|(_, row)| time(row) >= Some(since_ms)).count()
}

/// Whatever each later page is answered for ever: few requests, new events all the same, and in the end everything.
#[test]
fn f76_a_stuck_window_is_asked_ever_more_rarely_and_holds_nothing_up() {
    for kind in KINDS {
        for fault in [
            Fault::Status(500, Vec::new()),
            Fault::Status(503, Vec::new()),
            Fault::Status(400, Vec::new()),
            Fault::Status(404, Vec::new()),
            Fault::TooManyRequests(RateHeaders::Absent),
            Fault::InvalidCursor,
            Fault::Firewall,
            Fault::LoginPage,
            Fault::NotJson,
            Fault::Hangup,
            Fault::CutBody(10),
        ] {
            let place = format!("{kind}, {fault:?}");
            let sim = sim_of(kind);
            let mut polled = polled(&sim, kind, 100);
            if kind == "legacy" {
                polled.run(10 * SECOND, SECOND);
                sim.insert_all((500..600).map(|n| row(kind, BEGIN_MS + n as i64 * 1_000, n)));
            }
            sim.fault_for(Target::LaterPages, .., fault.clone());
            let begun = sim.audit_request_count();
            // Windows may be made shorter until they have one page; those of Cloud overlap, so that no page is the
            // first.
            let fresh_ms = sim.now_ms();
            let mut seen = 0;
            for minute in 0..180 {
                sim.insert(row(kind, sim.now_ms(), 1_000 + minute));
                polled.run(MINUTE, SECOND);
                if minute >= 2 && seen == 0 {
                    seen = newer(&polled, fresh_ms);
                    assert!(seen > 0, "{place}: new events come");
                }
            }
            assert!(newer(&polled, fresh_ms) >= 178, "{place}: {}", newer(&polled, fresh_ms));
            let asked = sim.audit_request_count() - begun;
            assert!(asked < 5 * 180, "{place}: {asked} requests in 3 hours");
            sim.clear_faults();
            polled.run(HOUR, 5 * SECOND);
            has_all(&polled, &sim, &place);
            assert_eq!(polled.api().health(), None, "{place}");
            let newest_ms = sim.rows().iter().map(|row| row.time_ms).max().unwrap();
            assert_eq!(polled.cursor_ms(), newest_ms, "{place}: the cursor follows");
        }
    }
}

/// While a window is deferred the stored cursor stays before it: the next process polls it again and repeats nothing.
#[test]
fn f76_a_restart_asks_again_for_a_window_that_was_set_aside() {
    for kind in ["data center", "cloud"] {
        let sim = sim_of(kind);
        let mut polled = polled(&sim, kind, 300);
        sim.fault_for(Target::LaterPages, .., Fault::Status(500, Vec::new()));
        for number in 1_000..1_010 {
            sim.insert(row(kind, sim.now_ms(), number));
            polled.run(MINUTE, SECOND);
        }
        assert_eq!(polled.has(1_000..1_010), 10, "{kind}");
        assert!(polled.has(0..300) < 300 && polled.cursor_ms() <= BEGIN_MS + 3_600_000);
        polled.restart();
        polled.run(10 * MINUTE, SECOND);
        sim.clear_faults();
        polled.restart();
        polled.run(10 * MINUTE, SECOND);
        has_all(&polled, &sim, kind);
    }
}

/// Fifteen pages under a limit of four requests in twenty seconds that does not say when: the window keeps its place.
#[test]
fn f76_a_window_of_fifteen_pages_completes_under_a_rate_limit() {
    for kind in KINDS {
        let sim = sim_of(kind);
        let mut polled = polled(&sim, kind, 290);
        sim.configure(|options| options.rate_limit = Some((4, 20_000)));
        let begun = sim.now_ms();
        while polled.delivered.len() < 290 && sim.now_ms() - begun < 600_000 {
            polled.run(SECOND, SECOND);
        }
        let took = sim.now_ms() - begun;
        // Cloud's pages overlap by eight rows: they are 25.
        assert!(took < 240_000, "{kind}: {took} ms");
        let first_pages = sim.requests().into_iter().filter(|seen| {
            let later = ["pageCursor", "start", "offset"]
                .into_iter()
                .any(|name| seen.parameter(name).is_some_and(|value| value != "0"));
            seen.status == 200 && seen.rows > 0 && !later
        });
        assert!(first_pages.count() <= 2 + took as usize / 60_000, "{kind}: the window is not restarted");
        polled.run(5 * MINUTE, SECOND);
        has_all(&polled, &sim, kind);
    }
}

/// Every other response is a failure: each page that is received is progress.
#[test]
fn f76_failures_in_turn_with_pages_cost_time_and_no_page_twice() {
    for fault in [
        Fault::Status(503, Vec::new()),
        Fault::Status(400, Vec::new()),
        Fault::NotJson,
        Fault::Hangup,
        Fault::TooManyRequests(RateHeaders::Absent),
    ] {
        for kind in ["data center", "cloud"] {
            let sim = sim_of(kind);
            let mut polled = polled(&sim, kind, 200);
            for number in 1..200 {
                sim.fault_for(Target::Audit, 2 * number..=2 * number, fault.clone());
            }
            polled.run(20 * MINUTE, SECOND);
            has_all(&polled, &sim, &format!("{kind}, {fault:?}"));
            let pages: Vec<_> = sim
                .requests()
                .into_iter()
                .filter(|seen| seen.status == 200 && seen.rows == 20)
                .map(|seen| seen.query)
                .collect();
            let mut once = pages.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), pages.len(), "{kind}, {fault:?}");
        }
    }
}

/// A cursor that the server does not know any more: the window is restarted, at once and not again.
#[test]
fn f76_an_invalid_cursor_restarts_the_window() {
    let sim = sim_of("data center");
    let mut polled = polled(&sim, "data center", 200);
    sim.fault_for(Target::LaterPages, 4..=4, Fault::InvalidCursor);
    polled.run(MINUTE, SECOND);
    has_all(&polled, &sim, "an invalid cursor");
    let request = sim.requests().into_iter().skip(4).find(|seen| seen.audit_number.is_some());
    let request = request.expect("a further request");
    assert_eq!(request.parameter("pageCursor"), None);
}

/// Cursors that are good for one page: windows become so short that they have one.
#[test]
fn f76_cursors_that_expire_lead_to_shorter_windows() {
    let sim = sim_of("data center");
    let mut polled = polled(&sim, "data center", 200);
    sim.fault_for(Target::LaterPages, .., Fault::InvalidCursor);
    polled.run(2 * HOUR, SECOND);
    has_all(&polled, &sim, "cursors that expire");
}

/// A first page that never comes, of the oldest window: what is newer comes, and that too in the end.
#[test]
fn f76_a_window_whose_first_page_fails_holds_nothing_up_either() {
    let sim = sim_of("data center");
    let mut polled = polled(&sim, "data center", 100);
    let old_ms = BEGIN_MS - 10 * 86_400_000;
    polled.config.start = Start::At(old_ms);
    polled.restart();
    sim.insert(Row::data_center(old_ms + 1_000, 7_000));
    let from = iso(old_ms);
    sim.configure(|options| options.fails_from = Some(from.clone()));
    polled.run(2 * MINUTE, SECOND);
    assert_eq!((polled.has(0..100), polled.has(7_000..7_001)), (100, 0));
    sim.configure(|options| options.fails_from = None);
    polled.run(HOUR, 5 * SECOND);
    has_all(&polled, &sim, "a first page");
}

fn iso(ms: i64) -> String {
    let time = confluence_audit_agent::record::time::iso(ms);
    String::from_utf8(time.to_vec()).unwrap()
}

/// Rows that become visible late in a deferred window are found.
#[test]
fn f76_late_rows_of_a_stuck_window_are_found() {
    let sim = sim_of("data center");
    let mut polled = polled(&sim, "data center", 100);
    let now_ms = sim.now_ms();
    for n in 0..20 {
        let at_ms = now_ms - n * 10_000;
        sim.insert(Row::data_center(at_ms, 2_000 + n as u64).visible_from(at_ms + 290_000));
    }
    sim.fault_for(Target::LaterPages, .., Fault::Status(500, Vec::new()));
    polled.run(30 * MINUTE, SECOND);
    sim.clear_faults();
    polled.run(30 * MINUTE, SECOND);
    has_all(&polled, &sim, "late rows");
}

/// A server that needs its time for each row: pages become as small as it can do within the time limit, and larger
/// later.
#[test]
fn f76_a_slow_page_is_asked_for_in_smaller_ones() {
    let sim = quiet_data_center();
    let mut host = data_center(&sim);
    host.set("timeout", "\"2s\"");
    host.set("page_size", "100");
    insert(&sim, false, 0..250);
    // The first two answers take too long.
    sim.fault_next(2, Fault::SlowHead(2 * SOON));
    let mut agent = host.start();
    agent.until("smaller pages come", || host.delivered() == 250);
    let limits = || -> Vec<u64> {
        let limit = |seen: crate::simulator::sim::Seen| seen.parameter("limit")?.parse().ok();
        sim.requests().into_iter().filter_map(limit).collect()
    };
    assert_eq!(limits()[..3], [100, 50, 25], "{}", agent.stderr());
    agent.until("they become larger again", || limits().last() == Some(&100));
    assert_eq!(agent.stop(), 0);
    is_exact(&sim, &host.events());
}

/// An overloaded server is asked for less as well, and while pages shrink they still overlap and fit.
#[test]
fn f76_an_overloaded_server_is_asked_for_less() {
    for kind in KINDS {
        let sim = sim_of(kind);
        let mut polled = polled(&sim, kind, 200);
        polled.config.page_size = 80;
        polled.restart();
        sim.fault_for(Target::LaterPages, .., Fault::TooManySearches);
        polled.run(10 * SECOND, SECOND);
        let limits: Vec<u64> =
            sim.requests().iter().filter_map(|seen| seen.parameter("limit")?.parse().ok()).collect();
        assert!(limits.contains(&40) && limits.contains(&20), "{kind}: {limits:?}");
        sim.clear_faults();
        sim.forget_requests();
        polled.run(10 * MINUTE, SECOND);
        has_all(&polled, &sim, kind);
        let last =
            sim.requests().into_iter().rev().find_map(|seen| seen.parameter("limit").map(str::to_owned));
        assert_eq!(last.as_deref(), Some("80"), "{kind}");
    }
}

/// A single run ends with 75 after a few tries, and has delivered what there was to be had.
#[test]
fn f76_a_single_run_gives_a_stuck_window_up() {
    for fault in [
        Fault::Status(500, Vec::new()),
        Fault::TooManyRequests(RateHeaders::Absent),
        Fault::Status(400, Vec::new()),
        Fault::Hangup,
        Fault::Firewall,
    ] {
        let sim = quiet_data_center();
        let mut host = data_center(&sim);
        host.set("page_size", "20");
        host.set("poll_interval", "\"60s\"");
        insert(&sim, false, 0..100);
        sim.fault_for(Target::LaterPages, .., fault.clone());
        let once = host.once();
        assert_eq!(once.code, 75, "{fault:?}: {}", once.stderr);
        let asked = sim.audit_request_count();
        assert!(asked < 25, "{fault:?}: {asked} requests");
        assert!(host.delivered() >= 20, "{fault:?}");
        sim.clear_faults();
        let once = host.once();
        assert_eq!(once.code, 0, "{fault:?}: {}", once.stderr);
        is_exact(&sim, &host.events());
    }
}
