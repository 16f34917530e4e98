//! What was delivered, against what happened.

use super::world::World;
use crate::rig::collector::Sent;
use crate::rig::ledger::judge_ledger_of;
use crate::simulator::sim::shapes::{number_in, numbered_entity, numbered_line};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The numbers of `b` begin here, those of `a` with 0.
pub const B_NUMBERS: u64 = 1_000_000_000;

/// How often each numbered event came.
pub type Numbers = BTreeMap<u64, usize>;

fn range(world: &World, source: usize) -> std::ops::Range<u64> {
    let first = if source == 0 { 0 } else { B_NUMBERS };
    first..first + world.times_ms[source].len() as u64
}

fn judge_numbers(world: &World, source: usize, numbers: &Numbers, once: bool) -> u64 {
    let count = |number| numbers.get(&number).copied().unwrap_or(0);
    let lost: Vec<u64> = range(world, source).filter(|number| count(*number) == 0).collect();
    let twice: Vec<u64> = range(world, source).filter(|number| count(*number) > 1).collect();
    let some = |numbers: &[u64]| {
        let of = |number: &u64| (*number, world.times_ms[source][(number % B_NUMBERS) as usize]);
        numbers.iter().take(20).map(of).collect::<Vec<_>>()
    };
    assert!(lost.is_empty(), "{} events were lost; the first: {:?}", lost.len(), some(&lost));
    assert!(!once || twice.is_empty(), "{} events came twice; the first: {:?}", twice.len(), some(&twice));
    twice.len() as u64
}

/// The outputs of a source that nothing was deleted of, rotated and compressed.
fn outputs(world: &World, source: &str) -> Vec<PathBuf> {
    let dir = std::fs::read_dir(world.host.path("out")).unwrap();
    let paths = dir.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with(source)).collect()
}

fn text_of(path: &Path) -> String {
    let (file, mut text) = (File::open(path).unwrap(), String::new());
    match path.extension().is_some_and(|extension| extension == "zst") {
        true => zstd::Decoder::new(file).unwrap().read_to_string(&mut text).unwrap(),
        false => { file }.read_to_string(&mut text).unwrap(),
    };
    text
}

/// Of a stopped agent: each event is in the file output once and as it was, in the ledger, and no other.
pub fn judge_files(world: &World) -> u64 {
    let all: Vec<PathBuf> = ["wiki", "b"].iter().flat_map(|source| outputs(world, source)).collect();
    for (at, source) in ["wiki", "b"].into_iter().enumerate() {
        let (mut numbers, mut ids) = (Numbers::new(), HashMap::<String, usize>::new());
        for path in outputs(world, source) {
            for line in text_of(&path).lines() {
                let (id, rest) = line.strip_prefix("{\"event_id\":\"").unwrap().split_once("\",").unwrap();
                if rest.starts_with("\"agent\":") {
                    continue;
                }
                *ids.entry(id.to_owned()).or_default() += 1;
                let Some(number) = number_in(rest) else { continue };
                let time_ms = world.times_ms[at][(number % B_NUMBERS) as usize];
                let shapes = [numbered_line(number, time_ms), numbered_entity(number, time_ms)];
                assert!(shapes.iter().any(|text| text[1..] == *rest), "event {number} was changed: {line}");
                *numbers.entry(number).or_default() += 1;
            }
        }
        judge_numbers(world, at, &numbers, true);
        let twice: Vec<_> = ids.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "ids that came more than once: {twice:?}");
        judge_ledger_of(&world.host, source, ids.keys(), &all, &HashSet::new());
    }
    world.times_ms.iter().map(|times| times.len() as u64).sum()
}

pub fn count(numbers: &mut Numbers, sent: Vec<Sent>) {
    for number in sent.iter().filter_map(|sent| number_in(&sent.text)) {
        *numbers.entry(number).or_default() += 1;
    }
}

/// A server that does not know an event again gets each at least once. The result is how many came more often.
pub fn judge_server(world: &World, numbers: &Numbers) -> u64 {
    (0..2).map(|source| judge_numbers(world, source, numbers, false)).sum()
}
