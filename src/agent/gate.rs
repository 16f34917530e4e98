//! What holds a reader back and what wakes it: the one thing that the threads of a stream share.

use crate::clock;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Bytes that may be on their way to the sinks of one source before another block is read: a block's events being
/// written and the next one's waiting, so that neither side waits for the other and memory stays small.
const IN_FLIGHT_BYTES_MAX: usize = 1024 * 1024;
/// Buffers kept for the next batches while busy.
const SPARE_MAX: usize = 3;
/// A buffer that one long event has grown is not kept.
const SPARE_BYTES_MAX: usize = 1024 * 1024;

#[derive(Default)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    stop_asked: tokio::sync::Notify,
}

#[derive(Default)]
struct State {
    in_flight_bytes: usize,
    woken: bool,
    sweep: bool,
    paused: bool,
    stopped: bool,
    spare: Vec<Vec<u8>>,
}

impl Gate {
    /// Something may have happened to the files; `sweep`: to their directory.
    pub fn wake(&self, sweep: bool) {
        let mut state = self.lock();
        state.woken = true;
        state.sweep |= sweep;
        self.changed.notify_all();
    }

    /// No more is to be read.
    pub fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
        self.stop_asked.notify_one();
    }

    /// Waits until no more is to be read. For the one who reads.
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

    /// Whether a sweep was asked for since the last call.
    pub fn take_sweep(&self) -> bool {
        std::mem::take(&mut self.lock().sweep)
    }

    /// Waits for a hint, a stop, or until the time has come.
    pub fn sleep(&self, until: Instant) {
        let mut state = self.lock();
        state.spare.clear();
        while !state.woken && !state.stopped {
            let Some(left) = until
                .checked_duration_since(clock::monotonic())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.woken = false;
    }

    /// Lets lines come together; only a stop ends it early.
    pub fn rest(&self, until: Instant) {
        let mut state = self.lock();
        while !state.stopped {
            let Some(left) = until
                .checked_duration_since(clock::monotonic())
                .filter(|left| !left.is_zero())
            else {
                break;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until there is room for more; `false` if there is none by then, or reading has stopped.
    pub fn room(&self, until: Instant) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            if state.in_flight_bytes < IN_FLIGHT_BYTES_MAX && !state.paused {
                return true;
            }
            let Some(left) = until
                .checked_duration_since(clock::monotonic())
                .filter(|left| !left.is_zero())
            else {
                return false;
            };
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until nothing is on its way, however long that takes: of a long event, whose record fills the memory already, one
    /// part at a time is sent.
    pub fn room_for_part(&self) {
        let mut state = self.lock();
        while state.in_flight_bytes > 0 {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub fn sent(&self, bytes: usize) {
        self.lock().in_flight_bytes += bytes;
    }

    pub fn written(&self, mut buffer: Vec<u8>) {
        let mut state = self.lock();
        state.in_flight_bytes = state.in_flight_bytes.saturating_sub(buffer.len());
        if state.spare.len() < SPARE_MAX && buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            state.spare.push(buffer);
        }
        self.changed.notify_all();
    }

    pub fn buffer(&self) -> Vec<u8> {
        self.lock().spare.pop().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked ends the process; until then the numbers here are still right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
