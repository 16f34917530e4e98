//! What the product promises, under everything at once: a Confluence that writes 20,000 numbered events to its files
//! and to its database while files, network, token and agent are taken away and given back at random. In the end each
//! event was delivered, and none twice.
//!
//! `CHAOS_SEED=…` is the first seed, `CHAOS_RUNS=…` how many, one after the other.

mod damage;
mod verdict;
mod world;

use crate::rig::until;
use confluence_audit_agent::clock;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;
use world::World;

const EVENTS: u64 = 20_000;
const STEPS: u64 = 120;
/// Most of a run is waiting for the agent's own intervals.
const SIDE_BY_SIDE: usize = 4;
/// Events come in batches of so many, one each so often: all of them in ten seconds.
const BATCH: u64 = 20;
const BATCH_INTERVAL: Duration = Duration::from_millis(10);

#[test]
fn f45_chaos_each_event_once() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
    };
    let first = number("CHAOS_SEED").unwrap_or_else(|| clock::now_ms() as u64);
    let runs = number("CHAOS_RUNS").unwrap_or(20);
    eprintln!("CHAOS_SEED={first} CHAOS_RUNS={runs}");
    let next = AtomicU64::new(0);
    let failed: Vec<u64> = thread::scope(|scope| {
        let work = || {
            let mut failed = Vec::new();
            loop {
                let run = next.fetch_add(1, Ordering::Relaxed);
                if run >= runs {
                    return failed;
                }
                let seed = first.wrapping_add(run);
                if catch_unwind(|| one(seed)).is_err() {
                    failed.push(seed);
                }
            }
        };
        let workers: Vec<_> = (0..SIDE_BY_SIDE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(
        failed.is_empty(),
        "seeds {failed:?}; again with `CHAOS_SEED={} CHAOS_RUNS=1 cargo test --test it f45_chaos`",
        failed[0]
    );
}

fn one(seed: u64) {
    let begun = clock::monotonic();
    let mut world = World::new(seed);
    let mut next_batch = begun;
    for number in (0..EVENTS).step_by(BATCH as usize) {
        until(Duration::from_secs(60), "the time of the next events", || clock::monotonic() >= next_batch);
        next_batch += BATCH_INTERVAL;
        world.add_events(number..number + BATCH);
        let step_of = |number| number * STEPS / EVENTS;
        if number == 0 {
            // What is destroyed before the agent has ever read and checkpointed is nobody's to deliver.
            world.until_delivered(BATCH);
            world.restart();
            next_batch = clock::monotonic();
        } else if step_of(number + BATCH) > step_of(number) {
            world.step();
        }
    }
    world.repair_everything();
    world.until_delivered(EVENTS);
    world.end();
    verdict::judge(&world, EVENTS);
    eprintln!("chaos {seed}: {:?}, {}", begun.elapsed(), world.summary());
}
