//! Pages that lie about what follows them.

use super::binary::{data_center, insert, is_exact, quiet_data_center};
use super::*;
use crate::simulator::sim::{Fault, Options};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn polled(sim: &Sim, cloud: bool, page_size: usize, count: u64) -> Polled<'_> {
    sim.configure(|options| options.searches_are_audited = false);
    let mut config = config_of(sim, cloud);
    config.page_size = page_size;
    config.overlap = MINUTE;
    let polled = Polled::new(sim, config);
    match cloud {
        true => sim.insert_all(cloud_rows(0..count, 10_000)),
        false => sim.insert_all(rows(0..count, 10_000)),
    }
    polled
}

/// An empty page that is not the last stands between two: what is behind it comes.
#[test]
fn f77_an_empty_page_between_others_loses_nothing() {
    for cloud in [false, true] {
        for count in [35, 100] {
            let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
            let mut polled = polled(&sim, cloud, 30, count);
            sim.fault(Fault::EmptyPageBetween);
            polled.poll();
            polled.assert_healthy();
            polled.run(10 * MINUTE, MINUTE);
            polled.is_complete();
        }
    }
}

/// Empty pages without a next page: an error, and the cursor stays, in Cloud as well. Newer events are delivered.
#[test]
fn f77_an_empty_page_that_leads_nowhere_is_an_error() {
    for cloud in [false, true] {
        let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
        let mut polled = polled(&sim, cloud, 30, 100);
        polled.poll();
        let cursor = polled.cursor_ms();
        sim.fault(Fault::EmptyPages);
        for minute in 0..30 {
            polled.run(MINUTE, SECOND);
            // The first poll comes after a minute.
            assert!(minute == 0 || polled.api().health().is_some(), "{cloud}: {minute}");
        }
        let health = polled.api().health().unwrap();
        assert!(health.contains("is not the last one") || health.contains("same page twice"), "{health}");
        assert_eq!(polled.cursor_ms(), cursor);
        let asked = sim.audit_request_count();
        assert!(asked < 150, "{cloud}: {asked} requests");
        sim.clear_faults();
        polled.run(30 * MINUTE, SECOND);
        polled.assert_healthy();
    }
}

/// Cursors without end, each a new one, and no rows: bounded.
#[test]
fn f77_new_cursors_without_end_are_bounded() {
    let sim = Sim::data_center().unwrap();
    let mut polled = polled(&sim, false, 30, 10);
    for number in 1..300 {
        let json =
            format!(r#"{{"entities":[],"pagingInfo":{{"lastPage":false,"nextPageCursor":"7,{number}"}}}}"#);
        sim.fault_for(crate::simulator::sim::Target::Audit, number..=number, Fault::Json(json));
    }
    polled.poll();
    let asked = sim.audit_request_count();
    assert!((20..100).contains(&asked), "{asked}");
    assert!(polled.api().health().unwrap().contains("too many empty pages"));
    sim.clear_faults();
    polled.run(5 * MINUTE, SECOND);
    polled.is_complete();
}

/// A full page that calls itself the last and names a cursor: one more request shows what is true.
#[test]
fn f77_a_full_page_that_calls_itself_the_last_loses_nothing() {
    for count in [30, 31, 100] {
        let sim = Sim::data_center().unwrap();
        let mut polled = polled(&sim, false, 30, count);
        sim.configure(|options| options.next_on_last_page = true);
        sim.fault(Fault::CallsItselfLast);
        polled.poll();
        polled.is_complete();
        let asked = sim.audit_request_count();
        assert!(asked <= count.div_ceil(30) + 2, "{count}: {asked}");
        // A page that is not full is the last one: an idle source costs one request a poll.
        polled.run(MINUTE * 10, MINUTE);
        sim.forget_requests();
        let before = sim.audit_request_count();
        polled.run(MINUTE * 10, MINUTE);
        assert!(sim.audit_request_count() - before <= 11);
    }
}

/// The further page is refused: what the server has called the last page was it.
#[test]
fn f77_a_last_page_behind_which_nothing_is_answered_is_the_last() {
    for fault in
        [Fault::InvalidCursor, Fault::Status(400, Vec::new()), Fault::Status(500, Vec::new()), Fault::NotJson]
    {
        let sim = Sim::data_center().unwrap();
        let mut polled = polled(&sim, false, 30, 30);
        sim.configure(|options| options.next_on_last_page = true);
        sim.fault_for(crate::simulator::sim::Target::LaterPages, .., fault);
        polled.run(MINUTE, SECOND);
        polled.assert_healthy();
        assert!(polled.cursor_ms() > BEGIN_MS);
    }
}

/// The contradiction is said, once, where it matters as a warning.
#[test]
fn f77_the_contradiction_is_reported() {
    for (count, level, printed) in [(60, "WARN", "more events follow it"), (20, "INFO", "nothing follows it")]
    {
        let mut options = Options::data_center();
        options.next_on_last_page = true;
        let sim = super::binary::quiet(options);
        let mut host = data_center(&sim);
        host.set("page_size", "20");
        insert(&sim, false, 0..count);
        sim.fault(Fault::CallsItselfLast);
        let once = host.once_ok();
        let lines: Vec<&str> =
            once.stderr.lines().filter(|line| line.contains("contradicts itself")).collect();
        assert_eq!(lines.len(), 1, "{}", once.stderr);
        assert!(lines[0].contains(level) && lines[0].contains(printed), "{lines:?}");
        is_exact(&sim, &host.events());
    }
}

/// On the real binary: all of it, or an error and 75; never a part and silence.
#[test]
fn f77_a_single_run_reports_pages_that_lead_nowhere() {
    let sim = quiet_data_center();
    let mut host = data_center(&sim);
    host.set("page_size", "20");
    insert(&sim, false, 0..50);
    sim.fault(Fault::EmptyPageBetween);
    host.once_ok();
    is_exact(&sim, &host.events());
    sim.clear_faults();
    sim.fault(Fault::EmptyPages);
    insert(&sim, false, 100..105);
    let once = host.once_code(75);
    assert!(once.stderr.contains("ERROR a part of the audit log cannot be read"), "{}", once.stderr);
}
