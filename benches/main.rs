//! `cargo bench`: measures the resources that the agent promises to use, in one table.
//!
//! `cargo bench -- drain idle` runs these measurements only. A missed target is shown and is not a failure.
//! `peers` needs other programs and runs only if it is named.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `BENCH_DIR` | where data is written; `/dev/shm` takes the disk out of the picture | `target/tmp` |
//! | `BENCH_BYTES` | size of the backlog, such as `16MiB` | 1 GiB |
//! | `BENCH_ROWS` | entities of a backfill | 1,000,000 |
//! | `BENCH_ENTRIES` | entries of a large ledger | 10,000,000 |
//! | `BENCH_AGENT` | another binary to measure, such as the last release | the one just built |
//! | `BENCH_IDLE_S`, `BENCH_LATENCY_S` | how long these look | 60 |

#[path = "../examples/audit_log_gen/lines.rs"]
mod lines;
#[path = "../examples/confluence_sim/sim.rs"]
mod sim;

mod agent;
mod auto;
mod backfill;
mod drain;
mod formats;
mod idle;
mod latency;
mod ledger;
#[path = "limit_event.rs"]
mod limit_event;
mod memory;
mod peers;
mod rig;
mod sinks;
mod startup;

use rig::Result;

type Measure = fn() -> Result<()>;

fn main() {
    if let Ok(lines) = std::env::var(sinks::RECEIVER) {
        if let Err(error) = sinks::receive(&lines) {
            eprintln!("the server ends: {error}");
        }
        return;
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let groups: [(&str, Measure); 11] = [
        ("drain", drain::measure),
        ("formats", formats::measure),
        ("memory", memory::measure),
        ("idle", idle::measure),
        ("latency", latency::measure),
        ("startup", startup::measure),
        ("backfill", backfill::measure),
        ("sinks", sinks::measure),
        ("auto", auto::measure),
        ("ledger", ledger::measure),
        ("peers", peers::measure),
    ];
    println!("{:<58} {:>22} {:>22}", "what", "measured", "target");
    for (name, measure) in groups {
        let by_default = wanted.is_empty() && name != "peers";
        if !by_default && !wanted.iter().any(|w| w == name) {
            continue;
        }
        if let Err(error) = measure() {
            println!("{name}: not measured: {error}");
        }
    }
}
