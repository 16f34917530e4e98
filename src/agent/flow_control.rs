//! Backpressure and wake-ups of a reader thread: the state that the threads of one source share.

use super::health::HealthRecord;
use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use crate::clock;
use crate::telemetry::heartbeat;
use std::time::{Duration, Instant};

/// Buffers kept for the next batches, to save allocations while busy.
pub(super) const SPARE_MAX: usize = 3;
/// A larger buffer is not kept, or one long event would keep its memory.
pub(super) const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// Shortest time between two sweeps after notifications, so that a directory in which unrelated files change does not
/// cause constant sweeps.
pub(super) const SWEEP_GAP: Duration = Duration::from_millis(50);

pub struct FlowControl {
    /// Bytes that may be in flight to the sinks of the source before another block is read.
    in_flight_bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
    stop_requested: tokio::sync::Notify,
    pub health: HealthRecord,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) in_flight_bytes: usize,
    pub(super) woken: bool,
    sweep: bool,
    /// When a sweep after a notification was last started.
    pub(super) last_sweep: Option<Instant>,
    paused: bool,
    stopped: bool,
    stop_reason: Option<String>,
    pub(super) spare: Vec<Vec<u8>>,
    /// Threads that wait for a change.
    pub(super) waiting: usize,
}

impl State {
    fn sweep_due(&self, now: Instant) -> Option<Instant> {
        self.sweep.then(|| self.last_sweep.map_or(now, |last_sweep| last_sweep + SWEEP_GAP))
    }
}

impl FlowControl {
    pub fn new(in_flight_bytes_max: usize) -> FlowControl {
        FlowControl {
            in_flight_bytes_max,
            state: Mutex::default(),
            changed: Condvar::new(),
            stop_requested: tokio::sync::Notify::new(),
            health: HealthRecord::default(),
        }
    }

    /// A notification has arrived. `sweep`: a directory has changed, so a sweep is due; else a file or the API has.
    pub fn wake(&self, sweep: bool) {
        let mut state = self.lock();
        state.sweep |= sweep;
        state.woken |= !sweep;
        self.notify(&state);
    }

    /// Ends reading, for an orderly stop.
    pub fn stop(&self, reason: &str) {
        let mut state = self.lock();
        state.stopped = true;
        state.stop_reason.get_or_insert_with(|| reason.to_owned());
        self.notify(&state);
        drop(state);
        self.stop_requested.notify_one();
    }

    /// Waits for [`FlowControl::stop`]. For one task: the request thread of the API.
    pub async fn stop_requested(&self) {
        self.stop_requested.notified().await;
    }

    pub fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Why reading was stopped. `None`: it was not.
    pub fn stop_reason(&self) -> Option<String> {
        self.lock().stop_reason.clone()
    }

    /// Pauses reading while positions cannot be stored, or resumes it.
    pub fn set_paused(&self, paused: bool) {
        let mut state = self.lock();
        state.paused = paused;
        self.notify(&state);
    }

    /// Whether a sweep after a notification is due now. Its time is counted from here. The first one has no delay.
    pub fn start_sweep_if_due(&self) -> bool {
        let mut state = self.lock();
        let now = clock::monotonic();
        let due = state.sweep_due(now).is_some_and(|at| at <= now);
        if due {
            (state.sweep, state.last_sweep) = (false, Some(now));
        }
        due
    }

    /// Waits for a notification, a stop, or until `until`. Releases the spare buffers, because the source is idle.
    pub fn sleep(&self, until: Instant) {
        let mut state = self.lock();
        state.spare.clear();
        loop {
            let now = clock::monotonic();
            let until = state.sweep_due(now).map_or(until, |at| at.min(until));
            if state.woken || state.stopped || until <= now {
                break;
            }
            let sweep = state.sweep;
            state = self.wait(state, until, |state| !state.woken && !state.stopped && state.sweep == sweep);
        }
        state.woken = false;
    }

    /// Waits until `until`; only a stop ends it early. Lines that are written meanwhile are read together.
    pub fn sleep_until_stop(&self, until: Instant) {
        drop(self.wait(self.lock(), until, |state| !state.stopped));
    }

    /// Waits for capacity. `false`: there is none by `until`, or reading has stopped.
    pub fn wait_for_capacity(&self, until: Instant) -> bool {
        let full = |state: &State| state.in_flight_bytes >= self.in_flight_bytes_max || state.paused;
        let state = self.wait(self.lock(), until, |state| full(state) && !state.stopped);
        !full(&state) && !state.stopped
    }

    /// Waits without a deadline until nothing is in flight. A long event is sent one part at a time, because its record
    /// already takes much memory.
    pub fn wait_until_drained(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        heartbeat::waiting();
        let left = self.changed.wait_while(state, |state| state.in_flight_bytes > 0);
        left.unwrap_or_else(PoisonError::into_inner).waiting -= 1;
        heartbeat::working();
    }

    /// A batch of this many bytes was sent to a sink.
    pub fn sent(&self, bytes: usize) {
        self.lock().in_flight_bytes += bytes;
    }

    /// A sink has written or copied a batch: its bytes are no longer in flight, and the buffer may be reused.
    pub fn written(&self, mut buffer: Vec<u8>) {
        let mut state = self.lock();
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(buffer.len());
        if state.spare.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            state.spare.push(buffer);
        }
        self.notify(&state);
    }

    /// An empty buffer for a batch, reused if possible.
    pub fn buffer(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    /// Waits while `waits` holds, until `until` at most.
    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Instant,
        waits: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        heartbeat::waiting();
        let left = until.saturating_duration_since(clock::monotonic());
        state.waiting += 1;
        let waited = self.changed.wait_timeout_while(state, left, |state| waits(state));
        heartbeat::working();
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        state.waiting -= 1;
        state
    }

    /// Wakes the waiting threads. A call of the condition variable enters the kernel even if there are none.
    fn notify(&self, state: &State) {
        if state.waiting > 0 {
            self.changed.notify_all();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A poisoned lock does no harm: every change keeps the state consistent, and a panic ends the process anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
