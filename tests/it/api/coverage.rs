//! How closely Confluence audits, and that nobody lowers it unseen.

use super::*;
use crate::simulator::sim::{Fault, Target};
use confluence_audit_agent::notice::{COVERAGE_LOWERED, DENYLIST_CHANGED, RETENTION_CHANGED};

const HOUR: Duration = Duration::from_secs(3600);
const STEP: Duration = Duration::from_secs(600);

fn lowered(polled: &Polled) -> Vec<String> {
    reported(polled, COVERAGE_LOWERED)
}

fn reported(polled: &Polled, action: &str) -> Vec<String> {
    let notices = polled.notices.iter().filter(|notice| notice.action == action);
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

/// An action on the deny list is not recorded, so a change of the list is reported. What was on it before the agent
/// came is not.
#[test]
fn f75_a_changed_denylist_is_reported() {
    let sim = Sim::data_center().unwrap();
    sim.set_denied_actions(&["page.viewed"]);
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..5, 1000));
    polled.run(2 * HOUR, STEP);
    assert_eq!(reported(&polled, DENYLIST_CHANGED), [""; 0]);
    sim.set_denied_actions(&["user.deleted", "group.changed"]);
    polled.run(3 * HOUR, STEP);
    let found = reported(&polled, DENYLIST_CHANGED);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("added `group.changed`, `user.deleted`, removed `page.viewed`"), "{found:?}");
    sim.set_denied_actions(&[]);
    polled.run(2 * HOUR, STEP);
    let found = reported(&polled, DENYLIST_CHANGED);
    assert!(found.len() == 2 && found[1].contains("added none"), "{found:?}");
}

/// A shorter retention deletes events sooner.
#[test]
fn f75_a_changed_retention_is_reported() {
    let sim = Sim::data_center().unwrap();
    let mut polled = Polled::new(&sim, config_of(&sim, false));
    sim.insert_all(rows(0..5, 1000));
    polled.run(2 * HOUR, STEP);
    sim.set_retention_years(1);
    polled.run(3 * HOUR, STEP);
    let found = reported(&polled, RETENTION_CHANGED);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("\"years\":3") && found[0].contains("\"years\":1"), "{found:?}");
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
