//! The cost of an API alongside files while nothing fails. Drains the same backlog from files alone, with an
//! API without events, and with one that has the same events, so that each is deduplicated. The simulator is
//! in this process, so its CPU time is not counted.

use std::fs;
use std::path::Path;

use crate::agent::{self, Agent, Events, Taken};
use crate::rig::{self, MIB, Result, Target, quantile, row, setting};
use crate::sim::{ADMIN_TOKEN, Options, Row, Sim};

const ROUNDS: usize = 3;

/// The API alongside the files.
#[derive(Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    EmptyApi,
    SameEvents,
}

pub fn measure() -> Result<()> {
    let bytes = setting("BENCH_BYTES", 1024 * MIB) / 10;
    let dir = rig::directory()?;
    let files = rig::write_files(dir.path(), 4, bytes)?;
    let mut lines = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file)?;
        lines.extend(text.lines().map(Row::from_json).collect::<std::result::Result<Vec<_>, _>>()?);
    }
    let home = dir.path().join("home/log");
    fs::create_dir_all(&home)?;
    fs::rename(dir.path().join("log"), home.join("audit"))?;
    let count = lines.len();
    let sim = |rows: Vec<Row>| -> Result<Sim> {
        let sim = Sim::start(Options { searches_are_audited: false, ..Options::data_center() })?;
        sim.insert_all(rows);
        Ok(sim)
    };
    let (empty, full) = (sim(Vec::new())?, sim(lines)?);
    let (mut kept, mut compared, mut peaks_kib) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let alone = drain(dir.path(), Beside::Nothing, &empty, count)?;
        let beside = drain(dir.path(), Beside::EmptyApi, &empty, count)?;
        let same = drain(dir.path(), Beside::SameEvents, &full, count)?;
        let us = |taken: &Taken| taken.cpu_s / count as f64 * 1e6;
        println!(
            "round {round}: {count} events; files alone {:.2} µs CPU an event, {:.1} MiB; beside an API {:.2} µs, {:.1} MiB; \
             compared with it {:.2} µs, {:.1} MiB",
            us(&alone),
            alone.peak_rss_kib / 1024.0,
            us(&beside),
            beside.peak_rss_kib / 1024.0,
            us(&same),
            same.peak_rss_kib / 1024.0,
        );
        kept.push(beside.cpu_s / alone.cpu_s);
        compared.push(same.cpu_s / alone.cpu_s);
        peaks_kib.push(same.peak_rss_kib.max(beside.peak_rss_kib) - alone.peak_rss_kib);
    }
    for values in [&mut kept, &mut compared, &mut peaks_kib] {
        values.sort_by(f64::total_cmp);
    }
    row("CPU of files beside an API over files alone, median of 3", quantile(&kept, 0.5), "", Target::None);
    row("  each event compared with the API's", quantile(&compared, 0.5), "", Target::None);
    row(
        "peak memory beyond that of files alone",
        quantile(&peaks_kib, 1.0) / 1024.0,
        "MiB",
        // 60,000 ids, one page, and the HTTP client.
        Target::AtMost(32.0),
    );
    Ok(())
}

/// One run from an empty state to an empty backlog. Its files are removed.
fn drain(dir: &Path, beside: Beside, sim: &Sim, count: usize) -> Result<Taken> {
    let out = dir.join("out");
    fs::create_dir_all(&out)?;
    let (config, token) = (dir.join("config.toml"), dir.join("token"));
    fs::write(&token, ADMIN_TOKEN)?;
    let api = match beside {
        Beside::Nothing => String::new(),
        Beside::EmptyApi | Beside::SameEvents => {
            format!("url = {:?}\npersonal_access_token = {{ file = {token:?} }}\n", sim.url())
        }
    };
    let text = format!(
        "state_dir = {:?}\n\n\
         [[source]]\nname = \"wiki\"\ntype = \"data_center\"\nhome = {:?}\n{api}\n\
         [[sink]]\nname = \"local\"\ntype = \"file\"\npath = {:?}\n",
        dir.join("state"),
        dir.join("home"),
        agent::output(dir),
    );
    fs::write(&config, text)?;
    let asked = sim.audit_request_count();
    let mut command = agent::command();
    command.args(["run", "--once", "--config"]).arg(&config);
    let taken = Agent::spawn(command, dir)?.wait()?;
    if (sim.audit_request_count() > asked) != (beside != Beside::Nothing) {
        return Err("the API was asked when it should not be, or not asked".into());
    }
    let mut events = 0;
    for file in fs::read_dir(&out)? {
        events += Events::at(file?.path()).count()?;
    }
    if events != count {
        let said = fs::read_to_string(dir.join("stderr"))?;
        return Err(format!("{events} events of {count} lines; the agent said {said}").into());
    }
    fs::remove_dir_all(&out)?;
    fs::remove_dir_all(dir.join("state"))?;
    Ok(taken)
}
