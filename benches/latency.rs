//! Time from the write of a line to its event in the output file, or in a request at a server over loopback, at ten
//! lines per second.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use confluence_audit_agent::clock;

use crate::agent::{Agent, Events};
use crate::lines::Lines;
use crate::rig::{self, Result, Target, row, setting};
use crate::sinks;

/// Poll interval of the output, which is the resolution of the results.
const PAUSE: Duration = Duration::from_micros(20);

pub fn measure() -> Result<()> {
    to_file()?;
    for kind in sinks::KINDS.iter().filter(|kind| ["http", "elasticsearch"].contains(&kind.name)) {
        to_server(kind)?;
    }
    Ok(())
}

fn to_file() -> Result<()> {
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 1, 1)?;
    let mut agent = Agent::start(dir.path(), false)?;
    let mut events = Events::of(dir.path());
    let waits_ms = waits_ms(&files[0], |wanted, pause| events.wait_for(&mut agent, wanted, pause))?;
    agent.stop()?;
    show("the output", &waits_ms, [1.0, 3.0]);
    Ok(())
}

fn to_server(kind: &sinks::Kind) -> Result<()> {
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 1, 1)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let count = Arc::new(AtomicUsize::new(0));
    // It ends with the program.
    std::thread::spawn({
        let (mark, count) = (kind.mark, count.clone());
        move || sinks::serve(&listener, mark, &count)
    });
    let mut agent = Agent::spawn(sinks::command(dir.path(), &kind.table(port))?, dir.path())?;
    let waits_ms = waits_ms(&files[0], |wanted, pause| {
        agent.wait_until(wanted, pause, || Ok(count.load(Ordering::Relaxed)))
    })?;
    agent.stop()?;
    show(&format!("the server of `{}`", kind.name), &waits_ms, [20.0, 50.0]);
    Ok(())
}

/// Appends lines to a file with one line, and waits for each as `wait_for` does, which gets the number of events and
/// the poll interval.
fn waits_ms(file: &Path, mut wait_for: impl FnMut(usize, Duration) -> Result<Instant>) -> Result<Vec<f64>> {
    let count = setting("BENCH_LATENCY_S", 60) * 10;
    wait_for(1, Duration::from_millis(1))?;
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
        rig::append(file, &line)?;
        let seen = wait_for(2 + i as usize, PAUSE)?;
        waits_ms.push((seen - written).as_secs_f64() * 1e3);
    }
    waits_ms.sort_by(f64::total_cmp);
    Ok(waits_ms)
}

/// `at_most`: the targets of the median and of 99 of 100.
fn show(place: &str, waits_ms: &[f64], at_most: [f64; 2]) {
    let what = format!("line written to event in {place}: median");
    row(&what, rig::quantile(waits_ms, 0.5), "ms", Target::AtMost(at_most[0]));
    row("  99 of 100", rig::quantile(waits_ms, 0.99), "ms", Target::AtMost(at_most[1]));
    row("  longest", rig::quantile(waits_ms, 1.0), "ms", Target::None);
}
