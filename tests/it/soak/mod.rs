//! Weeks of an agent, in an hour: its clocks run faster, and so do all its intervals. Meanwhile files rotate, servers
//! and networks fail, tokens expire, the clock is set, days and daylight saving time end, and the agent is killed.
//!
//! `SOAK_VIRTUAL_DAYS=14` for the long run, which takes an hour; `SEED=…` repeats the troubles of a run.

mod clock;
mod measure;
mod verdict;
mod world;

use crate::rig::{Host, Random, seed, skip, sleep_until, until_each};
use clock::VirtualClock;
use confluence_audit_agent::clock as real;
use confluence_audit_agent::ledger::LedgerReader;
use measure::Sample;
use std::collections::VecDeque;
use std::time::Duration;
use verdict::Numbers;
use world::{HOUR_MS, MINUTE_MS, World};

/// Two weeks in 50 minutes.
const SPEED: i64 = 400;
const DAY_MS: i64 = 24 * HOUR_MS;
/// The end of daylight saving time in Europe, 2026-10-25 01:00 UTC. It is in the middle of the run.
const WINTER_MS: i64 = 1_792_890_000_000;
/// Kills at these parts of the run, in addition to those at random.
const KILLS: [f64; 3] = [0.1, 0.25, 0.93];
/// One process lives through this part of the run, so that a leak has time to show. It is measured from a bit later on.
const ONE_PROCESS: std::ops::Range<f64> = 0.3..0.9;
const MEASURED_FROM: f64 = 0.4;
/// Between two batches of events.
const TICK: Duration = Duration::from_millis(100);
/// For what is still on its way when all troubles are over: the longest pauses of the agent last an hour.
const HEALED: Duration = Duration::from_secs(900);

#[test]
fn soak_days_of_an_agent() {
    let days: f64 =
        std::env::var("SOAK_VIRTUAL_DAYS").map_or(0.5, |text| text.parse().expect("a number of days"));
    let host = Host::new();
    let begun_ms = WINTER_MS - (days * DAY_MS as f64 / 2.0) as i64;
    let clock = match VirtualClock::new(&host.path(""), begun_ms, SPEED) {
        Ok(clock) => clock,
        Err(error) => return skip("cc", &format!("time cannot run faster: {error}")),
    };
    let mut run = Run::new(days, World::new(seed("soak"), clock, host));
    run.live();
    run.heal();
    run.judge();
}

struct Run {
    days: f64,
    begun_ms: i64,
    world: World,
    samples: Vec<Sample>,
    sent: Numbers,
    ledger_bytes: u64,
}

impl Run {
    fn new(days: f64, world: World) -> Run {
        Run {
            days,
            begun_ms: world.clock.now_ms(),
            world,
            samples: Vec::new(),
            sent: Numbers::new(),
            ledger_bytes: 0,
        }
    }

    /// The part of the run that has passed, 0 to 1.
    fn passed(&self) -> f64 {
        (self.world.clock.now_ms() - self.begun_ms) as f64 / (self.days * DAY_MS as f64)
    }

    fn live(&mut self) {
        let mut gaps = Random::new(self.begun_ms as u64);
        let (mut next_trouble_ms, mut next_sample) = (self.begun_ms + HOUR_MS / 2, 0.0);
        let (mut winter, mut leapt) = (false, false);
        let mut kills = VecDeque::from(KILLS);
        let mut tick = real::monotonic();
        while self.passed() < 1.0 {
            tick += TICK;
            sleep_until(tick);
            let (now_ms, passed) = (self.world.clock.now_ms(), self.passed());
            self.world.end_troubles(now_ms);
            self.world.add_events();
            self.world.may_restart = !ONE_PROCESS.contains(&passed);
            if now_ms >= next_trouble_ms && passed < 0.97 {
                next_trouble_ms = now_ms + MINUTE_MS * (10 + gaps.below(80) as i64);
                self.world.next_trouble();
            }
            if kills.front().is_some_and(|at| passed >= *at) {
                kills.pop_front();
                self.world.kill();
            }
            if !winter && now_ms >= WINTER_MS {
                winter = true;
                self.world.set_zone(HOUR_MS);
            }
            // A leap second: the kernel repeats the last second of the day.
            if !leapt && now_ms >= WINTER_MS - HOUR_MS {
                leapt = true;
                self.world.step_clock(-1_000);
            }
            if passed >= next_sample {
                next_sample += 1.0 / 400.0;
                self.sample(passed);
            }
        }
    }

    fn sample(&mut self, passed: f64) {
        self.world.assert_agent_runs();
        verdict::count(&mut self.sent, self.world.collector.take_stored());
        self.world.forget();
        let (host, agent) = (&self.world.host, self.world.agent.as_ref().expect("an agent"));
        if (MEASURED_FROM..ONE_PROCESS.end).contains(&passed) {
            let (state, pruned) = (host.state(), host.path("pruned"));
            self.samples.extend(measure::take(passed * self.days, agent.pid(), &state, &pruned));
        }
        self.ledger_bytes = measure::bytes_in(&host.state().join("ledger"), &|_| true);
    }

    /// All troubles end, and all events arrive.
    fn heal(&mut self) {
        self.world.end_troubles(i64::MAX);
        let (clock, host) = (&self.world.clock, &self.world.host);
        let recorded = |source: &str| {
            let reader = LedgerReader::open(&host.state().join("ledger").join(source)).unwrap();
            reader.map_or(0, |reader| reader.size())
        };
        eprintln!("soak: all troubles are over, {:?}", self.world.counts);
        let expected = self.world.times_ms.each_ref().map(|times| times.len() as u64);
        let mut agent = self.world.agent.take().expect("an agent");
        let by = real::monotonic() + clock.real(3 * HOUR_MS);
        until_each(Duration::from_millis(500), HEALED, "all events are delivered", || {
            let ended = agent.child().try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended, {ended:?}:\n{}", agent.stderr());
            real::monotonic() >= by && recorded("wiki") >= expected[0] && recorded("b") >= expected[1]
        });
        self.world.agent = Some(agent);
        self.world.stop();
        self.world.settle();
        verdict::count(&mut self.sent, self.world.collector.take_stored());
    }

    fn judge(&self) {
        let events = verdict::judge_files(&self.world);
        let twice = verdict::judge_server(&self.world, &self.sent);
        eprintln!(
            "soak: {} virtual days, {events} events, {:?}; {twice} came twice to a server that does not know ids; \
             ledger {} KiB",
            self.days,
            self.world.counts,
            self.ledger_bytes / 1024
        );
        for (at, (name, more_max)) in measure::VALUES.into_iter().enumerate() {
            let course = measure::course(&self.samples, at);
            eprintln!(
                "soak: {name}: {:+.2} a day, {:.1} at first, {:.1} at last, {:.1} at most",
                course.per_day, course.first, course.last, course.max
            );
            let more = course.last - course.first;
            assert!(more <= more_max, "{name}: {more} more at last than at first");
        }
    }
}
