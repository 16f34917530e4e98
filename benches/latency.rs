//! Time from the write of a line to its event in the output file, at ten lines per second.

use std::time::Duration;

use confluence_audit_agent::clock;

use crate::agent::{Agent, Events};
use crate::lines::Lines;
use crate::rig::{self, Result, Target, row, setting};

/// Poll interval of the output, which is the resolution of the results.
const PAUSE: Duration = Duration::from_micros(20);

pub fn measure() -> Result<()> {
    let count = setting("BENCH_LATENCY_S", 60) * 10;
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 1, 1)?;
    let mut agent = Agent::start(dir.path(), false)?;
    let mut events = Events::of(dir.path());
    events.wait_for(&mut agent, 1, Duration::from_millis(1))?;
    let mut lines = Lines::new(3);
    let mut line = Vec::new();
    let mut waits_ms = Vec::new();
    let start = clock::monotonic();
    for i in 0..count {
        std::thread::sleep(
            (start + Duration::from_millis(100 * i)).saturating_duration_since(clock::monotonic()),
        );
        line.clear();
        lines.write(&mut line);
        let written = clock::monotonic();
        rig::append(&files[0], &line)?;
        let seen = events.wait_for(&mut agent, 2 + i as usize, PAUSE)?;
        waits_ms.push((seen - written).as_secs_f64() * 1e3);
    }
    agent.stop()?;
    waits_ms.sort_by(f64::total_cmp);
    row(
        "line written to event in the output: median",
        rig::quantile(&waits_ms, 0.5),
        "ms",
        Target::AtMost(1.0),
    );
    row("  99 of 100", rig::quantile(&waits_ms, 0.99), "ms", Target::AtMost(3.0));
    row("  longest", rig::quantile(&waits_ms, 1.0), "ms", Target::None);
    Ok(())
}
