//! Time from the start of the process to the event of a new line, with 1,000 files in the checkpoint.

use std::time::Duration;

use crate::agent::{Agent, Events};
use crate::lines::Lines;
use crate::rig::{self, MIB, Result, Target, row};

const STARTS: usize = 5;

pub fn measure() -> Result<()> {
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 1_000, 10 * MIB)?;
    let newest = files.last().ok_or("no files")?;
    Agent::drain(dir.path())?;
    let mut lines = Lines::new(4);
    let mut times_s = Vec::new();
    for _ in 0..STARTS {
        let mut events = Events::of(dir.path());
        let before = events.count()?;
        let mut line = Vec::new();
        lines.write(&mut line);
        rig::append(newest, &line)?;
        let mut agent = Agent::start(dir.path(), false)?;
        let seen = events.wait_for(&mut agent, before + 1, Duration::from_micros(200))?;
        times_s.push((seen - agent.started()).as_secs_f64());
        agent.stop()?;
    }
    times_s.sort_by(f64::total_cmp);
    row(
        "start with 1,000 known files to the new line's event",
        rig::quantile(&times_s, 0.5),
        "s",
        Target::AtMost(0.3),
    );
    row("  longest of 5", rig::quantile(&times_s, 1.0), "s", Target::None);
    Ok(())
}
