//! A simulated Confluence, for two terminals: this one serves, the other one runs the agent.

#[path = "sim.rs"]
mod sim;

mod cli;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use cli::Arguments;
use sim::{ADMIN_EMAIL, ADMIN_TOKEN, AuditFiles, Generated, Product, Row, SCOPED_TOKEN, Sim, Target};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> io::Result<()> {
    let sim = Sim::start(arguments.options())?;
    if let Some(home) = &arguments.write_files {
        let files = AuditFiles {
            form: arguments.name_form.into(),
            rotate_bytes: arguments.rotate_bytes,
            batch_lines: arguments.batch_lines,
            tear: arguments.tear,
            ..AuditFiles::under(home)
        };
        sim.write_files(&arguments.node, files);
    }
    let mut oldest_ms = sim.now_ms();
    if arguments.generate > 0 {
        let (count, step_ms) = (arguments.generate, 1_000);
        let start_ms = sim.now_ms() - count as i64 * step_ms;
        oldest_ms = start_ms;
        sim.generate(match arguments.options().product {
            Product::DataCenter => Generated::entities(count, start_ms, step_ms),
            Product::Cloud => Generated::records(count, start_ms, step_ms),
        });
    }
    let rows = records(arguments, sim.now_ms())?;
    eprintln!("{} events from records, {} generated", rows.len(), arguments.generate);
    oldest_ms = rows.first().map_or(oldest_ms, |row| oldest_ms.min(row.time_ms));
    sim.insert_all(rows);
    let requests = arguments.from_request..=arguments.until_request.unwrap_or(u64::MAX);
    for misbehaviour in &arguments.misbehave {
        sim.fault_for(Target::Audit, requests.clone(), misbehaviour.fault());
    }
    invite(&sim, arguments, oldest_ms)?;
    live(&sim, arguments)
}

fn records(arguments: &Arguments, now_ms: i64) -> io::Result<Vec<Row>> {
    let place = arguments.records();
    let loaded = sim::records::load(&place)?;
    for skipped in &loaded.skipped {
        eprintln!("skipped: {skipped}");
    }
    // An API has one kind of events.
    let cloud = arguments.options().product == Product::Cloud;
    let mut rows: Vec<Row> = loaded.rows.into_iter().filter(|row| row.line.is_none() == cloud).collect();
    let newest_ms = rows.iter().map(|row| row.time_ms).max().unwrap_or(now_ms);
    for row in &mut rows {
        if !arguments.keep_times {
            row.move_by(now_ms - newest_ms);
        }
        if !arguments.node.is_empty() {
            *row = row.clone().on_node(&arguments.node);
        }
    }
    rows.sort_by_key(|row| row.time_ms);
    Ok(rows)
}

/// Writes a configuration that reads everything, and prints the commands.
fn invite(sim: &Sim, arguments: &Arguments, oldest_ms: i64) -> io::Result<()> {
    fs::create_dir_all(&arguments.dir)?;
    let dir = arguments.dir.canonicalize()?;
    let (url, token_file) = (sim.url(), dir.join("token"));
    let cloud = arguments.options().product == Product::Cloud;
    let token = if arguments.scoped { SCOPED_TOKEN } else { ADMIN_TOKEN };
    private(&token_file, token)?;
    let source = if cloud {
        let scoped =
            if arguments.scoped { format!("scoped = true\ngateway = {url:?}\n") } else { String::new() };
        format!(
            "type = \"cloud\"\nsite = {url:?}\n{scoped}user = {ADMIN_EMAIL:?}\ntoken = {{ file = {token_file:?} }}\n"
        )
    } else {
        let home = match &arguments.write_files {
            Some(home) => {
                fs::create_dir_all(home)?;
                format!("mode = \"auto\"\nhome = {:?}\n", home.canonicalize()?)
            }
            None => "mode = \"api\"\n".into(),
        };
        format!(
            "type = \"data_center\"\n{home}url = {url:?}\npersonal_access_token = {{ file = {token_file:?} }}\n"
        )
    };
    let start = sim::time::iso(oldest_ms.div_euclid(1_000) * 1_000);
    let config = format!(
        "state_dir = {:?}\n\n[[source]]\nname = \"wiki\"\n{source}start = {start:?}\npoll_interval = \"5s\"\n\n[[sink]]\nname = \"local\"\ntype = \"stdout\"\n",
        dir.join("state")
    );
    let config_file = dir.join("config.toml");
    private(&config_file, &config)?;
    println!("serving {url}");
    println!("token   {token}");
    println!("\n# {}\n{config}", config_file.display());
    println!("In another terminal:\n\n    cargo run -- run --config {}\n", config_file.display());
    io::stdout().flush()
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

/// Serves until it is stopped, and creates events at the given rate.
fn live(sim: &Sim, arguments: &Arguments) -> io::Result<()> {
    let late_ms = (arguments.late_seconds * 1_000.0) as i64;
    let pause = if arguments.events_per_second > 0.0 { 1.0 / arguments.events_per_second } else { 1.0 };
    let (mut number, mut shown) = (arguments.generate, 0);
    loop {
        std::thread::sleep(Duration::from_secs_f64(pause));
        if arguments.events_per_second > 0.0 {
            number += 1;
            let now_ms = sim.now_ms();
            let row = match arguments.options().product {
                Product::DataCenter => Row::data_center(now_ms, number),
                Product::Cloud => Row::cloud(now_ms, number),
            };
            let row = if arguments.node.is_empty() { row } else { row.on_node(&arguments.node) };
            sim.insert(row.visible_from(now_ms + late_ms));
        }
        for seen in sim.requests() {
            println!(
                "{} {} {} -> {} ({} events)",
                seen.number, seen.method, seen.path, seen.status, seen.rows
            );
            shown += 1;
        }
        sim.forget_requests();
        if arguments.requests_max.is_some_and(|max| shown >= max) {
            return Ok(());
        }
    }
}
