//! The ledger: how fast a large one opens and is looked into, and what `verify` and `reconcile` need.

use std::fs;
use std::path::Path;

use confluence_audit_agent::clock;
use confluence_audit_agent::ledger::{Entry, EntryInput, EntryKind, Limits, SharedLedger};
use confluence_audit_agent::position::LedgerPosition;
use confluence_audit_agent::record::EventId;

use crate::agent::{self, Agent, Events, Taken};
use crate::rig::{self, MIB, Result, Target, row, setting};

const LOOKUPS: u64 = 10_000;
/// Spreads the ids over all values, as a hash does.
const SPREAD: u128 = 0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835;

pub fn measure() -> Result<()> {
    lookups(setting("BENCH_ENTRIES", 10_000_000))?;
    commands(setting("BENCH_BYTES", 1024 * MIB))
}

/// Entry number `n`: three events a millisecond.
fn entry(n: u64) -> Entry {
    Entry {
        kind: EntryKind::Delivered,
        input: EntryInput::File,
        flags: 0,
        file: 1,
        time_ms: 1_600_000_000_000 + n as i64 / 3,
        id: u128::from(n + 1).wrapping_mul(SPREAD),
        offset: n * 900,
        length: 900,
        digest: [n as u8; 32],
    }
}

fn lookups(entries: u64) -> Result<()> {
    let dir = rig::directory()?;
    let (ledger, _) = SharedLedger::open(dir.path(), &LedgerPosition::default(), Limits::NONE)?;
    for first in (0..entries).step_by(1000) {
        let batch: Vec<Entry> = (first..entries.min(first + 1000)).map(entry).collect();
        ledger.append(&batch);
    }
    let position = ledger.commit()?.ok_or("nothing was committed")?;
    drop(ledger);
    let start = clock::monotonic();
    let (ledger, damage) = SharedLedger::open(dir.path(), &position, Limits::NONE)?;
    let open_s = start.elapsed().as_secs_f64();
    if !damage.is_empty() {
        return Err(format!("damaged: {damage:?}").into());
    }
    row(&format!("start with {entries} entries"), open_s, "s", Target::AtMost(0.3));
    let start = clock::monotonic();
    for n in 0..LOOKUPS {
        let known = entry(n.wrapping_mul(7_919_777) % entries);
        if ledger.mark_in_flight(EventId(known.id), Some(known.time_ms)) {
            return Err("an entry was not found".into());
        }
    }
    let us = start.elapsed().as_secs_f64() / LOOKUPS as f64 * 1e6;
    row("lookup of a random old id", us, "µs", Target::AtMost(50.0));
    Ok(())
}

fn commands(bytes: u64) -> Result<()> {
    let dir = rig::directory()?;
    rig::write_files(dir.path(), bytes.div_ceil(100_000_000) as u32, bytes)?;
    Agent::drain(dir.path())?;
    let (mut events, mut exported) = (0, 0);
    for file in fs::read_dir(dir.path().join("out"))? {
        let file = file?;
        events += Events::at(file.path()).count()?;
        exported += file.metadata()?.len();
    }
    let state = dir.path().join("state");
    let verified =
        run(&["verify", "--state", &text(&state), "--export", &text(&dir.path().join("out"))], dir.path())?;
    row(
        &format!("verify of {events} events"),
        exported as f64 / verified.cpu_s / 1e6,
        "MB/s of CPU",
        Target::AtLeast(150.0),
    );
    row("  peak memory", verified.peak_rss_kib / 1024.0, "MiB", Target::AtMost(64.0));
    let config = dir.path().join("reconcile.toml");
    fs::write(
        &config,
        format!(
            "state_dir = {state:?}\n[[source]]\nname = \"confluence\"\ntype = \"data_center\"\nfiles = [{:?}]\n\
             [[sink]]\nname = \"local\"\ntype = \"file\"\npath = {:?}\n",
            dir.path().join("log/*.audit.log"),
            agent::output(dir.path()),
        ),
    )?;
    let reconciled = run(&["reconcile", "--config", &text(&config)], dir.path())?;
    row("reconcile of these, peak memory", reconciled.peak_rss_kib / 1024.0, "MiB", Target::AtMost(64.0));
    row("  CPU", reconciled.cpu_s / events as f64 * 1e6, "µs an event", Target::None);
    Ok(())
}

fn run(arguments: &[&str], dir: &Path) -> Result<Taken> {
    let mut command = agent::command();
    command.args(arguments);
    Agent::spawn(command, dir)?.wait()
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
