//! The resources of an idle agent.

use std::time::Duration;

use confluence_audit_agent::clock;

use crate::agent::{Agent, Events};
use crate::rig::{self, MIB, Result, Target, row, setting};

pub fn measure() -> Result<()> {
    let look = Duration::from_secs(setting("BENCH_IDLE_S", 60));
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 100, 5 * MIB)?;
    let mut lines = 0;
    for file in &files {
        lines += memchr::memchr_iter(b'\n', &std::fs::read(file)?).count();
    }
    // Drained by another process, because memory of the backlog is not idle memory.
    Agent::drain(dir.path())?;
    let mut agent = Agent::start(dir.path(), false)?;
    Events::of(dir.path()).wait_for(&mut agent, lines, Duration::from_millis(10))?;
    // Time until files are finished and the last checkpoint is written.
    std::thread::sleep(Duration::from_secs(15).min(look));
    let start = clock::monotonic();
    let (switches_before, cpu_before_ns) = agent.threads()?;
    std::thread::sleep(look);
    let (switches, cpu_ns) = agent.threads()?;
    let s = start.elapsed().as_secs_f64();
    let rss_kib = agent.status("VmRSS:").ok_or("the agent has no memory: it has ended")?;
    let own_kib = agent.status("RssAnon:").unwrap_or(f64::NAN);
    row("idle with 100 rotated files: memory", rss_kib / 1024.0, "MiB", Target::AtMost(12.0));
    row("  of it not backed by a file", own_kib / 1024.0, "MiB", Target::None);
    row("  wake-ups a second", (switches - switches_before) / s, "", Target::AtMost(1.0));
    row("  CPU", (cpu_ns - cpu_before_ns) / 1e9 / s * 100.0, "%", Target::AtMost(0.05));
    agent.stop()?;
    Ok(())
}
