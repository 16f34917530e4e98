//! Reads all events of an audit API into a local file of ECS events, compared with `convert` of the same
//! entities from a file.
//!
//! `convert` reads one entity per line and writes to a file as well; it only parses and formats. The agent
//! adds HTTP, JSON envelopes, deduplication by ids, a durable output and a durable checkpoint. The simulator
//! is in this process, so its CPU time is not counted.

use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Stdio;

use confluence_audit_agent::clock;
use confluence_audit_agent::record::time;

use crate::agent::{self, Agent, Events, Taken};
use crate::rig::{self, Result, Target, row, setting};
use crate::sim::{ADMIN_TOKEN, Generated, Options, Sim};

/// Time between two events in milliseconds: the same number of events in minutes, days or years.
const STEPS: [(&str, i64); 3] = [("1 ms", 1), ("1 s", 1_000), ("1 min", 60_000)];

pub fn measure() -> Result<()> {
    let rows = setting("BENCH_ROWS", 1_000_000);
    let dir = rig::directory()?;
    let (mut ratios, mut peaks_kib) = (Vec::new(), Vec::new());
    for (step, step_ms) in STEPS {
        let start_ms = clock::now_ms() - (rows as i64 + 1) * step_ms;
        let generated = Generated::entities(rows, start_ms, step_ms);
        let converted = convert(dir.path(), &generated)?;
        let filled = backfill(dir.path(), generated)?;
        let us = |taken: &Taken| taken.cpu_s / rows as f64 * 1e6;
        println!(
            "{rows} entities, one each {step}: convert {:.2} µs CPU an event; backfill {:.2} µs CPU, {:.0} events/s, {:.1} MiB",
            us(&converted),
            us(&filled),
            rows as f64 / filled.wall_s,
            filled.peak_rss_kib / 1024.0,
        );
        ratios.push(filled.cpu_s / converted.cpu_s);
        peaks_kib.push(filled.peak_rss_kib);
    }
    ratios.sort_by(f64::total_cmp);
    peaks_kib.sort_by(f64::total_cmp);
    row(
        "CPU of a backfill over that of convert, worst range",
        rig::quantile(&ratios, 1.0),
        "",
        Target::AtMost(1.5),
    );
    row("  best", rig::quantile(&ratios, 0.0), "", Target::None);
    row(
        "peak memory of a backfill, worst range",
        rig::quantile(&peaks_kib, 1.0) / 1024.0,
        "MiB",
        Target::AtMost(32.0),
    );
    Ok(())
}

/// Converts the entities from a file to a file.
fn convert(dir: &Path, generated: &Generated) -> Result<Taken> {
    let (input, output) = (dir.join("entities.jsonl"), dir.join("converted.ndjson"));
    let mut file = BufWriter::new(fs::File::create(&input)?);
    for number in 0..generated.count {
        let time_ms = generated.start_ms + number as i64 * generated.step_ms;
        writeln!(file, "{}", (generated.api)(number + 1, time_ms))?;
    }
    file.into_inner()?.sync_all()?;
    let mut command = agent::command();
    command.arg("convert").arg(&input);
    command.stdout(Stdio::from(fs::File::create(&output)?));
    let taken = Agent::spawn(command, dir)?.wait()?;
    expect(Events::at(output.clone()).count()?, generated.count)?;
    fs::remove_file(&input)?;
    fs::remove_file(&output)?;
    Ok(taken)
}

/// One run from an empty state to the present. Its files are removed.
fn backfill(dir: &Path, generated: Generated) -> Result<Taken> {
    let (count, start_ms) = (generated.count, generated.start_ms);
    let sim = Sim::start(Options {
        // An additional event per page would change the entities.
        searches_are_audited: false,
        ..Options::data_center()
    })?;
    sim.generate(generated);
    let out = dir.join("out");
    fs::create_dir_all(&out)?;
    let (config, token) = (dir.join("config.toml"), dir.join("token"));
    fs::write(&token, ADMIN_TOKEN)?;
    let text = format!(
        "state_dir = {:?}\n\n\
         [[source]]\nname = \"wiki\"\ntype = \"data_center\"\nmode = \"api\"\nurl = {:?}\n\
         personal_access_token = {{ file = {token:?} }}\nstart = \"{}\"\n\n\
         [[sink]]\nname = \"local\"\ntype = \"file\"\npath = {:?}\n",
        dir.join("state"),
        sim.url(),
        String::from_utf8_lossy(&time::iso(start_ms)),
        agent::output(dir),
    );
    fs::write(&config, text)?;
    let mut command = agent::command();
    command.args(["run", "--once", "--config"]).arg(&config);
    let taken = Agent::spawn(command, dir)?.wait()?;
    let mut events = 0;
    // The output may have been rotated.
    for file in fs::read_dir(&out)? {
        events += Events::at(file?.path()).count()?;
    }
    expect(events, count)?;
    fs::remove_dir_all(&out)?;
    fs::remove_dir_all(dir.join("state"))?;
    Ok(taken)
}

fn expect(events: usize, entities: u64) -> Result<()> {
    if events as u64 != entities {
        return Err(format!("{events} events of {entities} entities").into());
    }
    Ok(())
}
