//! A random server against a naive model.

use super::*;
use crate::rig::{Random, seed};
use crate::simulator::sim::{Fault, RateHeaders};

const SEEDS: u64 = 1_000;
const MINUTE: Duration = Duration::from_secs(60);

/// Rows come, late, at one instant, alike in everything; pages are small and large; requests fail; the process dies: in
/// the end each row was delivered once.
#[test]
fn a_random_server_and_a_naive_model() {
    let first = seed("a_random_server_and_a_naive_model");
    for round in 0..SEEDS {
        let seed = first.wrapping_add(round);
        let result = std::panic::catch_unwind(|| one(seed));
        if let Err(panic) = result {
            eprintln!("SEED={seed} is the one, as the first of a run");
            std::panic::resume_unwind(panic);
        }
    }
}

fn one(seed: u64) {
    let mut random = Random::new(seed);
    let cloud = random.below(2) == 0;
    let sim = if cloud { Sim::cloud() } else { Sim::data_center() }.unwrap();
    let next_on_last_page = random.below(2) == 0;
    sim.configure(|options| {
        options.next_on_last_page = next_on_last_page;
        options.searches_are_audited = false;
    });
    let mut config = config_of(&sim, cloud);
    // Pages that go by offset show a shift by the rows in which they overlap, unless these are few and alike.
    let few = if cloud { 10 } else { 1 };
    config.page_size = match random.below(3) {
        0 => few + random.below(5) as usize,
        1 => few + random.below(60) as usize,
        _ => 1000,
    };
    let overlap_ms = config.overlap.as_millis() as i64;
    let mut polled = Polled::new(&sim, config);
    let mut number = 0;
    for _ in 0..3 + random.below(6) {
        for _ in 0..random.below(25) {
            let now_ms = sim.now_ms();
            // Instants are few, so that many share one.
            let age_ms = 20_000 * random.below(14) as i64;
            let at_ms = (now_ms - age_ms).max(BEGIN_MS);
            let same = random.below(6) == 0;
            number += u64::from(!same);
            let mut row = match cloud {
                true => Row::cloud(at_ms, number),
                false => Row::data_center(at_ms, number),
            };
            if random.below(4) == 0 {
                let late = random.below((overlap_ms - age_ms).max(1) as u64) as i64;
                row = row.visible_from(at_ms + age_ms + late.min(overlap_ms - age_ms - 1).max(0));
            }
            sim.insert(row);
        }
        match random.below(8) {
            0 => sim.fault_next(1 + random.below(3), Fault::TooManyRequests(RateHeaders::Seconds(2))),
            1 => sim.fault_next(1, Fault::CutBody(random.below(400) as usize)),
            2 => sim.fault_next(1 + random.below(3), Fault::Status(503, Vec::new())),
            3 => sim.fault_next(1, Fault::Hangup),
            4 => sim.fault_next(1, Fault::NotJson),
            5 => sim.fault_next(
                1 + random.below(2),
                Fault::InsertBetweenPages { rows: random.below(12) as usize, age_ms: 30_000 },
            ),
            6 => sim.fault_next(2, Fault::PageCap(few + random.below(9) as usize)),
            _ => {}
        }
        for _ in 0..random.below(12) {
            polled.step();
        }
        if random.below(4) == 0 {
            polled.restart();
        }
        polled.advance(Duration::from_secs(5 + random.below(90)));
        polled.poll();
    }
    sim.clear_faults();
    polled.run(8 * MINUTE, MINUTE);
    polled.is_complete();
}
