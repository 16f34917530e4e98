//! Reduces a script that fails, and prints it as a test.

use super::action::{Action, Setup};
use proptest::strategy::ValueTree;
use std::fmt::Write;

/// Moments differ from run to run: a shorter script is given up only after so many runs without a failure.
const TRIES: usize = 2;
/// A script that takes longer to reduce is short enough.
const CANDIDATES: usize = 200;

/// The shortest script that fails, as a test. `error` is how the whole one failed.
pub fn reduce(seed: u64, tree: &mut impl ValueTree<Value = (Setup, Vec<Action>)>, error: String) -> String {
    let mut smallest = (tree.current(), error);
    let mut candidates = 0;
    let mut may_go_on = tree.simplify();
    while may_go_on && candidates < CANDIDATES {
        candidates += 1;
        let (setup, script) = tree.current();
        let failure = (0..TRIES).find_map(|_| super::run(setup, &script).err());
        may_go_on = match failure {
            Some(error) => {
                smallest = ((setup, script), error);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    let ((setup, script), error) = smallest;
    as_test(seed, setup, &script, &error)
}

pub fn as_test(seed: u64, setup: Setup, script: &[Action], error: &str) -> String {
    let mut text = format!("{error}\n\nMODEL_SEED={seed} MODEL_CASES=1; for tests/it/model/scripts.rs:\n\n");
    let Setup { input, sink, notify, home } = setup;
    let _ = writeln!(text, "#[test]\nfn f21_model_{seed}() {{");
    let _ = writeln!(
        text,
        "    let setup = Setup {{ input: Input::{input:?}, sink: Sink::{sink:?}, notify: {notify}, home: {home} }};"
    );
    let _ = writeln!(text, "    replay(setup, &[");
    for action in script {
        let _ = writeln!(text, "        {action:?},");
    }
    text + "    ]);\n}\n"
}
