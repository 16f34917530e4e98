//! How closely Confluence audits, and that nobody lowers it unseen.

use super::*;
use crate::simulator::sim::{Fault, Target};
use confluence_audit_agent::notice::COVERAGE_LOWERED;

const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_secs(600);

fn lowered(polled: &Polled) -> Vec<String> {
    let notices = polled.notices.iter().filter(|notice| notice.action == COVERAGE_LOWERED);
    notices.map(|notice| notice.message.clone()).collect()
}

/// Read each hour; what is raised or stays is not reported, what is lowered is reported once.
#[test]
fn f75_lowered_coverage_is_reported() {
    let sim = Sim::data_center().unwrap();
    sim.set_coverage("SECURITY", "FULL");
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..5, 1000));
    polled.run(HOUR, STEP);
    sim.set_coverage("PERMISSIONS", "ADVANCED");
    polled.run(2 * HOUR, STEP);
    assert_eq!(lowered(&polled), [""; 0]);
    sim.set_coverage("SECURITY", "BASE");
    sim.set_coverage("ECOSYSTEM", "OFF");
    polled.run(2 * HOUR, STEP);
    let reported = lowered(&polled);
    assert_eq!(reported.len(), 1, "{reported:?}");
    for part in ["SECURITY from full to base", "ECOSYSTEM from base to off"] {
        assert!(reported[0].contains(part), "{reported:?}");
    }
    assert!(!reported[0].contains("PERMISSIONS"), "{reported:?}");
    polled.run(5 * HOUR, STEP);
    assert_eq!(lowered(&polled).len(), 1);
    sim.set_coverage("SECURITY", "OFF");
    polled.run(2 * HOUR, STEP);
    assert_eq!(lowered(&polled).len(), 2);
}

/// Whoever may read events may not read settings, perhaps: events come all the same, and nobody is bothered.
#[test]
fn coverage_that_may_not_be_read_is_no_fault() {
    let sim = Sim::data_center().unwrap();
    sim.fault_for(Target::Other, .., Fault::Forbidden);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..5, 1000));
    polled.run(3 * HOUR, STEP);
    assert_eq!((polled.api().health(), polled.notices.len()), (None, 0));
    polled.is_complete();
}
