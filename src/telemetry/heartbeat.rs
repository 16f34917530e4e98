//! Whether the stages are alive. Each says when it begins a piece of work and when it waits for something outside
//! itself: a wait may take as long as it likes, a piece of work may not.

use crate::clock;
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// All stages of the process.
static STAGES: Mutex<Vec<Arc<Stage>>> = Mutex::new(Vec::new());
/// A stage that is busy with one piece of work for longer makes no progress. The unit has it as `WatchdogSec`.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(180);
const WAITING: u64 = u64::MAX;

thread_local! {
    static OWN: RefCell<Option<Arc<Stage>>> = const { RefCell::new(None) };
}

struct Stage {
    name: String,
    /// When the piece of work began, in milliseconds of this process; or `WAITING`.
    working_since_ms: AtomicU64,
}

/// Does this thread's work as a stage of this name. Until it says that it works it counts as waiting.
pub(crate) fn stage<T>(name: &str, work: impl FnOnce() -> T) -> T {
    let stage = Arc::new(Stage { name: name.to_owned(), working_since_ms: AtomicU64::new(WAITING) });
    stages().push(stage.clone());
    OWN.set(Some(stage.clone()));
    let result = work();
    OWN.set(None);
    stages().retain(|other| !Arc::ptr_eq(other, &stage));
    result
}

/// This stage begins a piece of work, or the next one.
pub(crate) fn working() {
    say(now_ms());
}

/// This stage waits: for a message, for a disk that is full, for the reader of its output.
pub(crate) fn waiting() {
    say(WAITING);
}

/// A stage that has been at one piece of work for longer than that.
pub(crate) fn stuck(longer_than: Duration) -> Option<String> {
    let now_ms = now_ms();
    let limit_ms = longer_than.as_millis() as u64;
    let stages = stages();
    let stuck = stages.iter().find(|stage| {
        let since_ms = stage.working_since_ms.load(Ordering::Relaxed);
        since_ms != WAITING && now_ms.saturating_sub(since_ms) > limit_ms
    });
    stuck.map(|stage| stage.name.clone())
}

fn say(since_ms: u64) {
    OWN.with_borrow(|own| {
        if let Some(stage) = own {
            stage.working_since_ms.store(since_ms, Ordering::Relaxed);
        }
    });
}

fn stages() -> MutexGuard<'static, Vec<Arc<Stage>>> {
    STAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(clock::monotonic).elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn work_that_takes_too_long_is_reported_and_waiting_is_not() {
        let (step_done, steps) = channel();
        let (go, go_received) = channel();
        let thread = std::thread::spawn(move || {
            stage("slow", || {
                for action in [waiting, working, waiting] {
                    action();
                    step_done.send(()).unwrap();
                    go_received.recv().unwrap();
                }
            });
            step_done.send(()).unwrap();
        });
        let is_stuck = || stuck(Duration::from_millis(5)).as_deref() == Some("slow");
        let later = |by: Instant| while clock::monotonic() < by {};
        for expect in [false, true, false] {
            steps.recv().unwrap();
            later(clock::monotonic() + Duration::from_millis(20));
            assert_eq!(is_stuck(), expect);
            go.send(()).unwrap();
        }
        steps.recv().unwrap();
        thread.join().unwrap();
        assert!(stages().iter().all(|stage| stage.name != "slow"));
    }
}
