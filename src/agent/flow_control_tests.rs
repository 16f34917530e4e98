use super::flow_control::{FlowControl, SWEEP_GAP};
use crate::clock;
use std::time::Duration;

#[test]
fn the_first_notification_sweeps_at_once_and_the_next_after_a_gap() {
    let flow = FlowControl::new(1024);
    let far = || clock::monotonic() + Duration::from_secs(60);
    assert!(!flow.start_sweep_if_due());
    flow.wake(true);
    flow.sleep(far());
    let first = clock::monotonic();
    assert!(flow.start_sweep_if_due());
    let mut sweeps = 0;
    while sweeps < 2 {
        flow.wake(true);
        flow.sleep(far());
        sweeps += u32::from(flow.start_sweep_if_due());
    }
    let passed = clock::monotonic() - first;
    assert!(passed >= 2 * SWEEP_GAP && passed < Duration::from_secs(30), "{passed:?}");
}

#[test]
fn a_line_wakes_the_reader_while_a_sweep_is_delayed() {
    let flow = FlowControl::new(1024);
    flow.wake(true);
    assert!(flow.start_sweep_if_due());
    flow.wake(true);
    flow.wake(false);
    let before = clock::monotonic();
    flow.sleep(before + Duration::from_secs(60));
    assert!(!flow.start_sweep_if_due() || clock::monotonic() - before >= SWEEP_GAP);
    flow.sleep(before + Duration::from_secs(60));
    assert!(flow.start_sweep_if_due());
}
