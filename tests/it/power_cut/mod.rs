//! The power is cut at a random moment, and whatever was not synced may be gone: no event is lost, and the output file
//! holds none twice.
//!
//! State and output are on a [`disk`] that FUSE mounts. The real binary runs on it. Before one of its changes or syncs
//! the disk stops, and the process is killed. What was not synced is lost, torn or reordered. The next run goes on with
//! what is left. `POWER_CUTS` is the number of cuts.

mod disk;
mod disk_tests;
mod mount;
mod single;
mod storage;
mod unsynced;

use crate::rig::ledger::judge_ledger;
use crate::rig::oracle::events;
use crate::rig::{Agent, Host, LogFile, Random, SOON, Writer, file_name, judge, output_paths, outputs};
use crate::rig::{seed, until_each};
use confluence_audit_agent::clock;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;
use storage::Storage;
use unsynced::Loss;

/// Cuts in CI.
const CUTS: u64 = 100;
/// Cuts of one installation, before everything is judged.
const CUTS_OF_ONE: u64 = 10;

/// What the runs after a cut have logged, and what it means.
const LOGGED: [&str; 6] = [
    "contains events after the checkpoint",
    "an incomplete event at the end of the output was cut off",
    "damaged copy",
    "a new log",
    "has lost its entries",
    "ERROR",
];

/// An installation on a disk that loses its power again and again.
struct World {
    // Unmounted before the directory of the host is removed.
    storage: Storage,
    host: Host,
    random: Random,
    writer: Writer,
    files: Vec<LogFile>,
    /// How often the logs of its runs contain each of [`LOGGED`].
    logged: BTreeMap<&'static str, usize>,
    /// A run has said that the one before it was killed.
    killed: bool,
}

impl World {
    fn new(mut random: Random) -> Option<World> {
        let mut host = Host::new();
        let storage = Storage::of(&mut host, random.next())?;
        let format = ["raw", "ecs"][random.below(2) as usize];
        let compression = ["none", "none", "zstd"][random.below(3) as usize];
        let kilobytes = [8, 32, 128, 10_000][random.below(4) as usize];
        host.sink = format!(
            "format = \"{format}\"\nheartbeat = true\ncompression = \"{compression}\"\nrotate_bytes = \"{kilobytes}KiB\"\n\
             rotate_daily = false\nrotated_files_max = 100000\n"
        );
        host.root += "ledger.seal_interval = \"1s\"\n";
        let mut writer = Writer::new(&host.audit(), random.next());
        let files = vec![writer.create(&file_name(5, 0))];
        Some(World { storage, host, random, writer, files, logged: BTreeMap::new(), killed: false })
    }

    /// Confluence writes a little, and sometimes begins a new file.
    fn write(&mut self) {
        if self.random.below(20) == 0 {
            let number = self.files.len() as u32;
            self.files.push(self.writer.create(&file_name(5 + number / 90_000, number)));
        }
        let records = 1 + self.random.below(12) as usize;
        let newest = self.files.len() - 1;
        // At times into the file before, as Confluence does.
        let into = if self.random.below(20) == 0 { newest.saturating_sub(1) } else { newest };
        self.writer.append(&self.files[into], records);
    }

    /// One run of the agent, until the power is cut.
    fn run_and_cut(&mut self) {
        let loss =
            [Loss::Nothing, Loss::All, Loss::All, Loss::Torn, Loss::Torn, Loss::Reordered, Loss::Reordered]
                [self.random.below(7) as usize];
        let most = [40, 120, 400][self.random.below(3) as usize];
        let changes = 1 + self.random.below(most);
        self.storage.disk().cut_before(changes, loss);
        let mut agent = self.host.start();
        let (mut writes, deadline) = (0, clock::monotonic() + 2 * SOON);
        while self.storage.disk().has_power() {
            self.write();
            writes += 1;
            // On a slow machine the rest must not be a backlog that nobody is interested in.
            let pause = if writes < 50 { self.random.below(20) } else { 100 };
            let next = clock::monotonic() + Duration::from_millis(pause);
            let has_power = || self.storage.disk().has_power();
            until_each(Duration::from_millis(1), SOON, "the next event", || {
                clock::monotonic() >= next || !has_power()
            });
            let ended = agent.child().try_wait().unwrap().filter(|_| has_power());
            assert_eq!(ended, None, "the agent ended after a cut: {}", agent.stderr());
            assert!(clock::monotonic() < deadline, "the agent changes nothing: {}", agent.stderr());
        }
        // It may have ended by itself, because the disk fails.
        agent.child().kill().unwrap();
        agent.wait(SOON);
        self.count_logged(&agent);
        if self.random.below(2) == 0 {
            self.write();
        }
        self.storage.disk().power_on();
        if self.random.below(4) == 0 {
            self.storage.mount_as_other_device(&self.host);
        }
    }

    fn count_logged(&mut self, agent: &Agent) {
        let log = agent.stderr();
        // What the process saw of the cut itself.
        let lines = log.lines().filter(|line| !line.contains("Input/output error"));
        for line in lines {
            for text in LOGGED.into_iter().filter(|text| line.contains(text)) {
                *self.logged.entry(text).or_default() += 1;
            }
        }
    }

    /// Nothing is lost, nothing is there twice, and the ledger says the same as the output.
    fn judge(&mut self) {
        self.host.once_ok();
        // Nothing is delivered again.
        let last = self.host.once_ok();
        let output = outputs(&self.host).concat();
        let count = |text: &str| memchr::memmem::find_iter(&output, text.as_bytes()).count();
        // None has stopped in order. If the first one was cut off before it began, the next one cannot know.
        assert!(count("\"previous_stop\":\"clean\"") <= 1);
        self.killed |= count("\"previous_stop\":\"killed\"") > 0;
        let delivered = events(&output);
        let judged = judge(&self.writer, &delivered);
        let is_exact = judged.missing.is_empty()
            && judged.damaged.is_empty()
            && judged.repeated.is_empty()
            && judged.id_conflicts.is_empty();
        assert!(is_exact, "the oracle found {}\n{}", judged.summary(), last.stderr);
        let audit = delivered.into_iter().filter(|event| !event.is_notice());
        let ids: Vec<String> = audit.map(|event| event.id).collect();
        judge_ledger(&self.host, ids.iter(), &output_paths(&self.host), &HashSet::new());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.storage.keep(&mut self.host);
        }
    }
}

#[test]
fn f117_nothing_is_lost_or_doubled_by_power_cuts() {
    let test = "f117_nothing_is_lost_or_doubled_by_power_cuts";
    let cuts = std::env::var("POWER_CUTS").map_or(CUTS, |text| text.parse().expect("POWER_CUTS is a number"));
    let first = seed(test);
    let (mut written, mut lost, mut killed) = (0, 0, false);
    let mut logged = BTreeMap::<&str, usize>::new();
    for number in 0..cuts.div_ceil(CUTS_OF_ONE) {
        let seed = first + number;
        // A failure of a long run is repeated by this one.
        eprintln!("{test}: installation {number}: SEED={seed}");
        let Some(mut world) = World::new(Random::new(seed)) else { return };
        for _ in 0..CUTS_OF_ONE {
            world.run_and_cut();
        }
        world.judge();
        written += world.writer.count();
        killed |= world.killed;
        lost += world.storage.disk().lost;
        world.logged.iter().for_each(|(text, count)| *logged.entry(text).or_default() += count);
    }
    eprintln!("{test}: {cuts} cuts, {written} events, {lost} changes lost; logged: {logged:?}");
    // Or the cuts came where they can do no harm.
    assert!(lost > cuts && killed, "{lost} changes were lost");
}
