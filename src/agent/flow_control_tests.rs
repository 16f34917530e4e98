use super::flow_control::{FlowControl, SPARE_BYTES_MAX, SPARE_MAX, SWEEP_GAP};
use crate::clock;
use std::sync::Arc;
use std::thread::{JoinHandle, spawn, yield_now};
use std::time::{Duration, Instant};

/// Later than any test takes.
fn far() -> Instant {
    clock::monotonic() + Duration::from_secs(60)
}

/// Runs `wait` in a thread, and returns once it waits.
fn waiting<T: Send + 'static>(
    flow: &Arc<FlowControl>,
    wait: impl FnOnce(&FlowControl) -> T + Send + 'static,
) -> JoinHandle<T> {
    let of_thread = Arc::clone(flow);
    let thread = spawn(move || wait(&of_thread));
    let until = far();
    while flow.lock().waiting == 0 {
        assert!(!thread.is_finished(), "it does not wait");
        assert!(clock::monotonic() < until, "it does not begin to wait");
        yield_now();
    }
    thread
}

/// Fails instead of waiting for ever.
#[track_caller]
fn ended<T>(thread: JoinHandle<T>) -> T {
    let until = clock::monotonic() + Duration::from_secs(30);
    while !thread.is_finished() {
        assert!(clock::monotonic() < until, "it still waits");
        yield_now();
    }
    thread.join().unwrap()
}

#[test]
fn reading_waits_while_the_bytes_in_flight_reach_the_limit() {
    let flow = Arc::new(FlowControl::new(100));
    assert!(flow.wait_for_capacity(far()));
    flow.sent(60);
    flow.sent(39);
    assert!(flow.wait_for_capacity(far()), "99 of 100 bytes are in flight");
    flow.sent(1);
    assert!(!flow.wait_for_capacity(clock::monotonic()), "100 of 100 bytes are in flight");
    let reader = waiting(&flow, |flow| flow.wait_for_capacity(far()));
    flow.written(vec![0; 1]);
    assert!(ended(reader), "99 of 100 bytes are in flight again");
    // More than is in flight: the count stays at zero.
    flow.written(vec![0; 1000]);
    assert_eq!(flow.lock().in_flight_bytes, 0);
    assert_eq!(flow.lock().waiting, 0);
}

#[test]
fn reading_waits_while_positions_cannot_be_stored() {
    let flow = Arc::new(FlowControl::new(100));
    flow.set_paused(true);
    assert!(!flow.wait_for_capacity(clock::monotonic()));
    let reader = waiting(&flow, |flow| flow.wait_for_capacity(far()));
    flow.set_paused(false);
    assert!(ended(reader));
}

#[test]
fn a_stop_ends_every_wait_and_keeps_its_first_reason() {
    let flow = Arc::new(FlowControl::new(1));
    assert!(!flow.stopped());
    assert_eq!(flow.stop_reason(), None);
    flow.sent(1);
    let capacity = waiting(&flow, |flow| flow.wait_for_capacity(far()));
    flow.stop("first");
    assert!(!ended(capacity), "there is still no capacity");
    flow.stop("second");
    assert!(flow.stopped());
    assert_eq!(flow.stop_reason().as_deref(), Some("first"));
    // A wait that begins after the stop ends at once.
    flow.written(vec![0; 1]);
    let before = clock::monotonic();
    assert!(!flow.wait_for_capacity(far()), "capacity is of no use after a stop");
    flow.sleep(far());
    flow.sleep_until_stop(far());
    assert!(clock::monotonic() - before < Duration::from_secs(30));
    for wait in [FlowControl::sleep as fn(&FlowControl, Instant), FlowControl::sleep_until_stop] {
        let flow = Arc::new(FlowControl::new(1));
        let sleeper = waiting(&flow, move |flow| wait(flow, far()));
        flow.stop("stop");
        ended(sleeper);
    }
}

/// The request thread of the API waits for the stop of its source.
#[test]
fn a_stop_is_noticed_by_the_task_that_waits_for_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let noticed = |flow: &FlowControl| {
        runtime.block_on(async {
            let wait = tokio::time::timeout(Duration::from_millis(1), flow.stop_requested());
            wait.await.is_ok()
        })
    };
    let flow = FlowControl::new(1);
    flow.wake(false);
    assert!(!noticed(&flow));
    flow.stop("stop");
    assert!(noticed(&flow));
}

/// Lines that are written meanwhile are read together.
#[test]
fn notifications_do_not_end_a_sleep_until_the_stop() {
    let flow = Arc::new(FlowControl::new(1));
    let sleeper = waiting(&flow, |flow| flow.sleep_until_stop(far()));
    flow.wake(false);
    flow.wake(true);
    assert_eq!(flow.lock().waiting, 1);
    assert!(!sleeper.is_finished());
    flow.stop("stop");
    ended(sleeper);
    // Without a stop it ends in time.
    FlowControl::new(1).sleep_until_stop(clock::monotonic());
}

#[test]
fn a_sleep_ends_with_a_notification_or_in_time() {
    let flow = Arc::new(FlowControl::new(1));
    let until = clock::monotonic() + Duration::from_millis(1);
    flow.sleep(until);
    assert!(clock::monotonic() >= until);
    for sweep in [false, true] {
        let sleeper = waiting(&flow, |flow| flow.sleep(far()));
        flow.wake(sweep);
        ended(sleeper);
        // One notification ends one sleep.
        assert!(!flow.lock().woken);
        assert_eq!(flow.start_sweep_if_due(), sweep);
        assert!(!flow.start_sweep_if_due());
    }
}

#[test]
fn a_long_event_waits_until_nothing_is_in_flight() {
    let flow = Arc::new(FlowControl::new(100));
    flow.wait_until_drained();
    flow.sent(2);
    let reader = waiting(&flow, FlowControl::wait_until_drained);
    flow.written(vec![0; 1]);
    assert_eq!(flow.lock().waiting, 1, "one byte is in flight");
    assert!(!reader.is_finished());
    flow.written(vec![0; 1]);
    ended(reader);
    assert_eq!(flow.lock().waiting, 0);
}

#[test]
fn few_small_buffers_are_reused_and_released_when_the_source_is_idle() {
    let flow = FlowControl::new(1);
    let spare = |flow: &FlowControl| flow.lock().spare.len();
    assert_eq!(flow.buffer().capacity(), 0);
    flow.written(Vec::new());
    flow.written(Vec::with_capacity(SPARE_BYTES_MAX + 1));
    assert_eq!(spare(&flow), 0, "an empty buffer is of no use, a large one takes memory");
    flow.written(Vec::with_capacity(SPARE_BYTES_MAX));
    flow.written(vec![1, 2, 3]);
    assert_eq!(spare(&flow), 2);
    let reused = flow.buffer();
    assert!(reused.is_empty() && reused.capacity() >= 3);
    (0..9).for_each(|_| flow.written(vec![1]));
    assert_eq!(spare(&flow), SPARE_MAX);
    flow.sleep(clock::monotonic());
    assert_eq!(spare(&flow), 0);
}

/// A sweep that is delayed does not end a sleep before its time, and ends it then.
#[test]
fn a_sleep_lasts_until_a_delayed_sweep() {
    let flow = FlowControl::new(1);
    flow.wake(true);
    assert!(flow.start_sweep_if_due());
    let started = flow.lock().last_sweep.unwrap();
    flow.wake(true);
    let before = flow.start_sweep_if_due();
    assert!(!before || clock::monotonic() >= started + SWEEP_GAP);
    flow.sleep(far());
    let after = clock::monotonic();
    assert!(before || flow.start_sweep_if_due());
    assert!(after >= started + SWEEP_GAP && after < started + Duration::from_secs(30));
}

#[test]
fn two_notifications_are_as_good_as_one() {
    let flow = FlowControl::new(1);
    let before = clock::monotonic();
    flow.wake(false);
    flow.wake(false);
    flow.sleep(far());
    flow.wake(true);
    flow.wake(true);
    flow.wake(false);
    flow.sleep(far());
    assert!(clock::monotonic() - before < Duration::from_secs(30));
    assert!(flow.start_sweep_if_due());
}

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
