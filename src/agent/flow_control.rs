//! Flow control of a source: limits the bytes in flight, and wakes the reader. Shared by the threads of the source.

use crate::clock;
use crate::telemetry::heartbeat;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Buffers kept for the next batches while busy.
const SPARE_MAX: usize = 3;
/// A buffer that a long event has enlarged beyond this is not kept.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

/// Minimum time between two requested sweeps, so a directory with many unrelated changes causes no constant sweeping.
const SWEEP_GAP: Duration = Duration::from_millis(50);

pub struct FlowControl {
    /// Bytes that may be in flight to the sinks of one source before another block is read.
    in_flight_bytes_max: usize,
    state: Mutex<State>,
    changed: Condvar,
    stop_asked: tokio::sync::Notify,
}

/// Health of a source.
pub struct Health {
    /// It has read at least once without an error.
    pub turned: bool,
    pub trouble: Option<String>,
    /// Shown in the status although the source works.
    pub note: Option<String>,
}

#[derive(Default)]
struct State {
    in_flight_bytes: usize,
    woken: bool,
    sweep: bool,
    /// When a sweep that was asked for was last taken.
    swept: Option<Instant>,
    paused: bool,
    stopped: bool,
    turned: bool,
    trouble: Option<String>,
    /// Per sink: why it accepts nothing.
    sinks: BTreeMap<usize, String>,
    note: Option<String>,
    spare: Vec<Vec<u8>>,
}

impl State {
    fn sweep_due(&self, now: Instant) -> Option<Instant> {
        self.sweep.then(|| self.swept.map_or(now, |swept| swept + SWEEP_GAP))
    }
}

impl FlowControl {
    pub fn new(in_flight_bytes_max: usize) -> FlowControl {
        FlowControl {
            in_flight_bytes_max,
            state: Mutex::default(),
            changed: Condvar::new(),
            stop_asked: tokio::sync::Notify::new(),
        }
    }

    /// Sets or clears why the sink `pipeline` accepts nothing.
    pub fn sink_trouble(&self, pipeline: usize, trouble: Option<String>) {
        let mut state = self.lock();
        match trouble {
            Some(trouble) => drop(state.sinks.insert(pipeline, trouble)),
            None => drop(state.sinks.remove(&pipeline)),
        }
    }

    /// The files may have changed. `sweep`: their directory may have changed too.
    pub fn wake(&self, sweep: bool) {
        let mut state = self.lock();
        state.sweep |= sweep;
        state.woken |= !sweep;
        self.changed.notify_all();
    }

    /// Stops reading.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
        self.stop_asked.notify_one();
    }

    /// Waits for [`Self::stop`]. For the reader.
    pub async fn stop_asked(&self) {
        self.stop_asked.notified().await;
    }

    pub fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Reading waits while positions cannot be stored.
    pub fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.changed.notify_all();
    }

    /// Whether a requested sweep is due. The first one is due at once.
    pub fn take_sweep(&self) -> bool {
        let mut state = self.lock();
        let now = clock::monotonic();
        let due = state.sweep_due(now).is_some_and(|at| at <= now);
        if due {
            (state.sweep, state.swept) = (false, Some(now));
        }
        due
    }

    /// The end of a turn of the reader. `trouble`: why the source cannot read at the moment.
    pub fn turn(&self, trouble: Option<&str>) {
        let mut state = self.lock();
        state.turned |= trouble.is_none();
        if state.trouble.as_deref() != trouble {
            state.trouble = trouble.map(str::to_owned);
        }
    }

    /// Sets what the status shows although the source works.
    pub fn set_note(&self, note: Option<String>) {
        self.lock().note = note;
    }

    pub fn health(&self) -> Health {
        let state = self.lock();
        Health {
            turned: state.turned,
            trouble: state
                .trouble
                .iter()
                .chain(state.sinks.values())
                .cloned()
                .reduce(|all, one| format!("{all}; {one}")),
            note: state.note.clone(),
        }
    }

    /// Waits for a wake-up, a stop, or until `until`.
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

    /// Waits until `until` so that lines are read together. Only a stop ends it early.
    pub fn rest(&self, until: Instant) {
        drop(self.wait(self.lock(), until, |state| !state.stopped));
    }

    /// Waits for capacity. `false` if there is none by `until`, or reading has stopped.
    pub fn has_capacity(&self, until: Instant) -> bool {
        let full = |state: &State| state.in_flight_bytes >= self.in_flight_bytes_max || state.paused;
        let state = self.wait(self.lock(), until, |state| full(state) && !state.stopped);
        !full(&state) && !state.stopped
    }

    /// Waits until nothing is in flight, without a deadline. A long event is sent one part at a time, because its
    /// record already uses the memory.
    pub fn wait_for_capacity(&self) {
        let state = self.lock();
        heartbeat::waiting();
        let left = self.changed.wait_while(state, |state| state.in_flight_bytes > 0);
        drop(left.unwrap_or_else(PoisonError::into_inner));
        heartbeat::working();
    }

    pub fn sent(&self, bytes: usize) {
        self.lock().in_flight_bytes += bytes;
    }

    pub fn written(&self, mut buffer: Vec<u8>) {
        let mut state = self.lock();
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(buffer.len());
        if state.spare.len() < SPARE_MAX && (1..=SPARE_BYTES_MAX).contains(&buffer.capacity()) {
            buffer.clear();
            state.spare.push(buffer);
        }
        self.changed.notify_all();
    }

    pub fn buffer(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    /// Waits while `waits` holds, at most until `until`.
    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        until: Instant,
        waits: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        heartbeat::waiting();
        let left = until.saturating_duration_since(clock::monotonic());
        let waited = self.changed.wait_timeout_while(state, left, |state| waits(state));
        heartbeat::working();
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked ends the process. Until then the numbers are valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hint_sweeps_at_once_and_the_next_after_a_gap() {
        let flow = FlowControl::new(1024);
        let far = || clock::monotonic() + Duration::from_secs(60);
        assert!(!flow.take_sweep());
        flow.wake(true);
        flow.sleep(far());
        let first = clock::monotonic();
        assert!(flow.take_sweep());
        let mut sweeps = 0;
        while sweeps < 2 {
            flow.wake(true);
            flow.sleep(far());
            sweeps += u32::from(flow.take_sweep());
        }
        let passed = clock::monotonic() - first;
        assert!(passed >= 2 * SWEEP_GAP && passed < Duration::from_secs(30), "{passed:?}");
    }

    #[test]
    fn a_line_wakes_although_a_sweep_has_to_wait() {
        let flow = FlowControl::new(1024);
        flow.wake(true);
        assert!(flow.take_sweep());
        flow.wake(true);
        flow.wake(false);
        let before = clock::monotonic();
        flow.sleep(before + Duration::from_secs(60));
        assert!(!flow.take_sweep() || clock::monotonic() - before >= SWEEP_GAP);
        flow.sleep(before + Duration::from_secs(60));
        assert!(flow.take_sweep());
    }
}
