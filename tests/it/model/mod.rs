//! Random scripts of what may happen to Confluence's audit files, its API, a sink and the agent, crashes included, and
//! a reference model: a set of events, and how often each may be delivered.
//!
//! `MODEL_CASES=…` is how many, `MODEL_SEED=…` the first seed, `MODEL_JOBS=…` how many at once. A case that fails is
//! reduced to the shortest script that fails, which is printed as a test. With `MODEL_KEEP_GOING=1` it is printed as it
//! is, and the other cases follow.

mod action;
mod cases;
mod confluence;
mod deliveries;
mod processes;
mod scripts;
mod shrink;
mod touched;
mod world;

use action::{Action, Setup};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use world::{Figures, World};

const CASES: u64 = 600;
/// The same cases each time: of new ones about one in a thousand fails, see "Open" in docs/RELIABILITY.md.
const FIRST_SEED: u64 = 1;
/// A case is mostly waiting.
const JOBS: u64 = 6;

#[test]
fn f21_model_with_crashes() {
    let number = |name: &str| {
        let text = std::env::var(name).ok()?;
        Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
    };
    let first = number("MODEL_SEED").unwrap_or(FIRST_SEED);
    let cases = number("MODEL_CASES").unwrap_or(CASES);
    eprintln!("MODEL_SEED={first} MODEL_CASES={cases}");
    let keeps_going = std::env::var_os("MODEL_KEEP_GOING").is_some();
    let (next, total) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    let found = Mutex::new(Vec::new());
    let work = || {
        while keeps_going || found.lock().unwrap().is_empty() {
            let case = next.fetch_add(1, Ordering::Relaxed);
            if case >= cases {
                return;
            }
            if case > 0 && case.is_multiple_of(1_000) {
                eprintln!("{case} cases: {:?}", total.lock().unwrap());
            }
            let seed = first.wrapping_add(case);
            let mut tree = new_case(seed);
            let (setup, script) = tree.current();
            match run(setup, &script) {
                Ok(figures) => total.lock().unwrap().add(figures),
                Err(error) => {
                    let script = shrink::as_test(seed, setup, &script, &error);
                    eprintln!("{script}");
                    let reduced = if keeps_going { script } else { shrink::reduce(seed, &mut tree, error) };
                    found.lock().unwrap().push(reduced);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..number("MODEL_JOBS").unwrap_or(JOBS).min(cases) {
            scope.spawn(work);
        }
    });
    eprintln!("{:?}", total.lock().unwrap());
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{} cases failed:\n{}", found.len(), found.join("\n"));
}

/// The same seed makes the same case.
fn new_case(seed: u64) -> impl ValueTree<Value = (Setup, Vec<Action>)> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    cases::case().new_tree(&mut TestRunner::new_with_rng(Config::default(), random)).unwrap()
}

/// Runs a script, and what heals everything after it.
fn run(setup: Setup, script: &[Action]) -> Result<Figures, String> {
    let run = || {
        let mut world = World::new(setup);
        for (step, action) in script.iter().enumerate() {
            world.act(*action).map_err(|error| format!("step {step}, {action:?}: {error}"))?;
        }
        world.end().map_err(|error| format!("in the end: {error}"))
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap_or(&"a panic").to_string()))
    })
}

/// What a printed test calls.
#[track_caller]
fn replay(setup: Setup, script: &[Action]) {
    if let Err(error) = run(setup, script) {
        panic!("{setup:?} {script:?}: {error}");
    }
}
