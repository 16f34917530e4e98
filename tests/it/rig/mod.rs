//! What the tests of the real binary share: an agent, a writer of audit files, and an oracle that judges what arrived.

pub mod admin;
pub mod agent;
pub mod certificates;
pub mod collector;
pub mod ledger;
pub mod mmdb;
pub mod opensearch;
pub mod oracle;
pub mod outputs;
pub mod port;
pub mod rest;
pub mod skip;
pub mod writer;

pub use agent::{Agent, Host, append, copy_tree, descriptors, foreign_link, stdout_of, wait_for_sweep};
pub use oracle::{Event, judge};
pub use outputs::{output_paths, outputs, rotation};
pub use port::{Port, free_port, listen_again};
pub(crate) use skip::skip;
pub use writer::{LogFile, Random, Writer, check, file_name};

use confluence_audit_agent::clock;
use std::thread::park_timeout;
use std::time::{Duration, Instant};

/// Ample for anything that should happen at once, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Waits until the condition holds.
#[track_caller]
pub fn until(deadline: Duration, what: &str, condition: impl FnMut() -> bool) {
    until_each(POLL, deadline, what, condition);
}

/// As [`until`], looking more often, or less.
#[track_caller]
pub fn until_each(poll: Duration, deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let by = clock::monotonic() + deadline;
    while !condition() {
        assert!(clock::monotonic() < by, "waited {deadline:?} for: {what}");
        park_timeout(poll);
    }
}

/// Waits for a random moment, such as that of a kill: the one thing that a test cannot see coming.
pub fn sleep_until(at: Instant) {
    while clock::monotonic() < at {
        park_timeout(at.saturating_duration_since(clock::monotonic()));
    }
}

/// A seed for this run, printed so that a failure can be repeated with `SEED=…`.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .map(|text| text.parse().expect("SEED is a number"))
        .unwrap_or_else(|| clock::now_ms() as u64);
    eprintln!("{test}: SEED={seed}");
    seed
}

/// The output of `check` with each finding on one line, without the wrapping at 80 columns.
pub fn unwrap_lines(printed: &str) -> String {
    printed.replace("\n           ", " ").replace("\n         ", "; ")
}
