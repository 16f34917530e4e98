//! The API of before 7.5: chosen only where the product's version says so, and one event has one id across both.

use super::binary::{data_center, insert, quiet_data_center};
use super::*;
use crate::simulator::sim::{Fault, Options, Route, Target};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn used_legacy_api(sim: &Sim) -> bool {
    sim.requests().iter().any(|seen| seen.route == Route::Legacy)
}

/// A newer Confluence that is starting says 404, for however long: the old path is never asked.
#[test]
fn f78_a_server_that_is_starting_is_not_older() {
    for not_found in [1, 2, 3, 10] {
        for reported in [true, false] {
            let sim = Sim::data_center().unwrap();
            sim.configure(|options| options.searches_are_audited = false);
            let mut polled = Polled::new(&sim, config_of(&sim, false));
            sim.insert_all(rows(0..100, 10_000));
            sim.fault_for(Target::Audit, ..=not_found, Fault::Status(404, Vec::new()));
            if !reported {
                sim.fault_for(Target::Other, .., Fault::Status(503, Vec::new()));
            }
            polled.run(20 * SECOND, SECOND);
            assert_eq!(polled.delivered.len(), if not_found <= 3 { 100 } else { 0 }, "{not_found}");
            polled.run(200 * MINUTE, 5 * SECOND);
            polled.is_complete();
            assert!(!used_legacy_api(&sim), "{not_found}, {reported}");
        }
    }
}

/// An older Confluence that is starting: when it shows its version the old path is read.
#[test]
fn f78_an_older_server_that_is_starting_is_read_when_it_reports_its_version() {
    let sim = Sim::data_center().unwrap();
    sim.configure(|options| options.older_than_7_5 = true);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..100, 10_000));
    sim.fault_for(Target::All, ..=6, Fault::Status(404, Vec::new()));
    polled.run(3 * SECOND, SECOND);
    assert!(!used_legacy_api(&sim));
    polled.run(20 * MINUTE, 5 * SECOND);
    assert_eq!(polled.delivered.len(), 100);
    // After a restart one 404 is enough to read the version again.
    polled.restart();
    sim.forget_requests();
    polled.poll();
    let paths: Vec<Route> = sim.requests().iter().map(|seen| seen.route).collect();
    assert_eq!(paths[..3], [Route::Events, Route::Manifest, Route::Legacy]);
    assert_eq!(polled.delivered.len(), 100);
}

/// After an upgrade the newer path shows the same events in another form: none is delivered by a second id, also
/// across a restart, and rows that are alike in what both show are as many events.
#[test]
fn f78_an_upgrade_repeats_nothing() {
    for restart in [false, true] {
        let sim = Sim::data_center().unwrap();
        sim.configure(|options| (options.older_than_7_5, options.searches_are_audited) = (true, false));
        let mut polled = Polled::new(&sim, config_of(&sim, false));
        sim.insert_all(rows(0..100, 10_000));
        let last_ms = BEGIN_MS + 99 * 10_000;
        sim.insert_all([Row::data_center(last_ms, 99), Row::data_center(last_ms, 99)]);
        polled.run(20 * SECOND, SECOND);
        assert_eq!(polled.delivered.len(), 102);
        sim.configure(|options| options.older_than_7_5 = false);
        sim.insert(Row::data_center(last_ms, 99));
        sim.insert_all(rows(200..210, 10_000));
        if restart {
            polled.restart();
        }
        polled.run(130 * MINUTE, MINUTE);
        assert_eq!(polled.delivered.len(), 113, "{restart}");
        let mut ids: Vec<EventId> = polled.delivered.iter().map(|(id, _)| *id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 113);
        // Without a restart the old path is asked for up to an hour more.
        assert_eq!(polled.has(200..210), if restart { 10 } else { 0 });
        let last = sim.requests().into_iter().rfind(|seen| seen.audit_number.is_some());
        assert_eq!(last.unwrap().route, Route::Events);
    }
}

/// On the real binary, at its first start of all.
#[test]
fn f78_one_404_at_the_first_start() {
    let sim = quiet_data_center();
    let host = data_center(&sim);
    insert(&sim, false, 0..20);
    sim.fault_next(1, Fault::Status(404, Vec::new()));
    let once = host.once();
    assert_eq!((once.code, host.delivered()), (0, 20), "{}", once.stderr);
    assert!(!used_legacy_api(&sim));
    assert!(!once.stderr.contains("older than 7.5"), "{}", once.stderr);
}

/// `check` asks the old path only where the version says that there is no other.
#[test]
fn f78_check_believes_the_version_too() {
    for older in [true, false] {
        let mut options = Options::data_center();
        options.older_than_7_5 = older;
        let sim = super::binary::quiet(options);
        let host = data_center(&sim);
        insert(&sim, false, 0..1);
        if !older {
            sim.fault(Fault::Status(404, Vec::new()));
        }
        let printed = host.check().stdout;
        assert_eq!(printed.contains("Confluence is older than 7.5 and has the old"), older, "{printed}");
        assert_eq!(printed.contains("there is no audit API at this address"), !older, "{printed}");
        assert_eq!(used_legacy_api(&sim), older);
    }
}
