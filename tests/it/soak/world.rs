//! Two Confluences, one agent, and what goes wrong with them as weeks pass.

use super::clock::VirtualClock;
use super::verdict::B_NUMBERS;
use crate::rig::collector::{Collector, Plain};
use crate::rig::{Agent, Host, Random, listen_again};
use crate::simulator::sim::{ADMIN, ADMIN_TOKEN, AuditFiles, Credential, Fault, Kind, Row, Sim};
use confluence_audit_agent::clock;
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::mem::discriminant;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// For an agent that gets little CPU: at its start it reads what it delivered since its last checkpoint.
const PATIENCE: Duration = Duration::from_secs(600);
pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;

/// The agent reads `a` from files, with the API as fallback, on the same host: both clocks are one. It reads `b` from
/// the API alone, on another host.
pub struct World {
    pub clock: VirtualClock,
    pub random: Random,
    pub host: Host,
    pub a: Sim,
    pub b: Sim,
    pub collector: Collector,
    pub agent: Option<Agent>,
    /// When each event happened by the clock of its server: of `a`, and of `b`.
    pub times_ms: [Vec<i64>; 2],
    deck: Vec<Trouble>,
    /// What is wrong, and until when.
    now: Vec<(Trouble, i64)>,
    pub may_restart: bool,
    tokens: u32,
    pub counts: Counts,
    /// What was done, for whoever has to find out.
    pub script: Vec<String>,
}

#[derive(Debug, Default)]
pub struct Counts {
    pub kills: u32,
    pub restarts: u32,
    pub clock_steps: u32,
    pub tokens: u32,
    pub sink_outages: u32,
    pub network_outages: u32,
    pub others: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trouble {
    Kill,
    Restart,
    /// Sets the clock of the agent's host this many hours forward or back.
    Clock(i64),
    /// The same for the host of `b`.
    ServerClock(i64),
    Token,
    Sink,
    NetworkOfA,
    NetworkOfB,
    Silence,
    Stall,
    /// The process is stopped, as with a virtual machine that is moved.
    Pause,
    Rotation,
    BadAnswers,
    Refusals,
}

/// The clock of `b` alone is never behind: if the agent is killed meanwhile, the next process does not know it.
const ALL: [Trouble; 16] = [
    Trouble::Kill,
    Trouble::Clock(2),
    Trouble::Sink,
    Trouble::NetworkOfA,
    Trouble::Clock(-2),
    Trouble::ServerClock(2),
    Trouble::Token,
    Trouble::Kill,
    Trouble::NetworkOfB,
    Trouble::Silence,
    Trouble::Restart,
    Trouble::Stall,
    Trouble::Pause,
    Trouble::Rotation,
    Trouble::BadAnswers,
    Trouble::Refusals,
];

impl World {
    pub fn new(seed: u64, clock: VirtualClock, host: Host) -> World {
        let (a, b) = (Sim::data_center().unwrap(), Sim::data_center().unwrap());
        a.set_clock(clock.for_server());
        b.set_clock(clock.for_server());
        let mut random = Random::new(seed);
        let mut files = AuditFiles::under(&host.home());
        files.rotate_bytes = 300 << 10;
        files.tear = random.below(2) == 0;
        files.dated = true;
        files.zone_ms = 2 * HOUR_MS;
        a.write_files("", files);
        let mut world = World {
            clock,
            random,
            host,
            a,
            b,
            collector: Collector::start(Plain),
            agent: None,
            times_ms: Default::default(),
            deck: Vec::new(),
            now: Vec::new(),
            may_restart: true,
            tokens: 0,
            counts: Counts::default(),
            script: Vec::new(),
        };
        world.configure();
        world.start();
        world
    }

    /// All intervals have their defaults, except what real time limits: an answer takes its time, and 100 ms are 30 s.
    fn configure(&mut self) {
        let (token, pruned) = (self.host.path("token"), self.host.path("pruned"));
        fs::create_dir(&pruned).unwrap();
        let host = &mut self.host;
        write_token(&token, ADMIN_TOKEN);
        let api = format!("timeout = \"30m\"\npersonal_access_token = {{ file = {token:?} }}\n");
        host.root = "shutdown_timeout = \"10m\"\n".into();
        host.source = format!("mode = \"auto\"\nhome = {:?}\nurl = {:?}\n{api}", host.home(), self.a.url());
        host.sink =
            "format = \"raw\"\nrotate_bytes = \"1MiB\"\nrotated_files_max = 100000\ncompression = \"zstd\"\n"
                .into();
        host.more = format!(
            "[[source]]\nname = \"b\"\ntype = \"data_center\"\nmode = \"api\"\nurl = {:?}\n{api}\
             [[sink]]\nname = \"pruned\"\ntype = \"file\"\npath = {:?}\nheartbeat = true\nrotate_bytes = \"256KiB\"\n\
             rotated_files_max = 3\ncompression = \"gzip\"\n\
             [[sink]]\nname = \"http\"\ntype = \"http\"\nurl = \"{}/\"\ncompression = \"gzip\"\ntimeout = \"30m\"\n",
            self.b.url(),
            pruned.join("{source}.ndjson"),
            self.collector.url(),
        );
    }

    fn log_step(&mut self, what: String) {
        let now = jiff::Timestamp::from_millisecond(self.clock.now_ms()).unwrap();
        self.script.push(format!("{now:.0} {what}"));
    }

    pub fn start(&mut self) {
        let mut command = self.host.command(&[], &[]);
        self.clock.apply(&mut command);
        self.agent = Some(self.host.spawn(command));
    }

    /// It may never end by itself.
    pub fn assert_agent_runs(&mut self) {
        let agent = self.agent.as_mut().expect("an agent");
        if let Some(status) = agent.child().try_wait().unwrap() {
            panic!("the agent ended, {status}:\n{}", agent.stderr());
        }
    }

    /// Some events, as they happen in half a minute.
    pub fn add_events(&mut self) {
        let numbers = [0, B_NUMBERS];
        for (at, sim) in [&self.a, &self.b].into_iter().enumerate() {
            let times_ms = &mut self.times_ms[at];
            let rows: Vec<Row> = (0..self.random.below(4))
                .map(|_| {
                    let (time_ms, number) = (sim.now_ms(), numbers[at] + times_ms.len() as u64);
                    times_ms.push(time_ms);
                    Row::data_center(time_ms, number)
                })
                .collect();
            sim.insert_all(rows);
        }
    }

    /// Ends what has lasted long enough.
    pub fn end_troubles(&mut self, by_ms: i64) {
        while let Some(at) = self.now.iter().position(|(_, until_ms)| *until_ms <= by_ms) {
            let (trouble, _) = self.now.remove(at);
            self.log_step(format!("end of {trouble:?}"));
            self.end(trouble);
        }
    }

    pub fn next_trouble(&mut self) {
        if self.deck.is_empty() {
            self.deck = ALL.to_vec();
            for at in (1..self.deck.len()).rev() {
                self.deck.swap(at, self.random.below(at as u64 + 1) as usize);
            }
        }
        let trouble = self.deck.pop().expect("a full deck");
        let busy = self
            .now
            .iter()
            .any(|(other, _)| discriminant(other) == discriminant(&trouble) || *other == Trouble::Pause);
        let restarts = matches!(trouble, Trouble::Kill | Trouble::Restart);
        if busy || (restarts && !self.may_restart) {
            return;
        }
        let minutes = match trouble {
            Trouble::Pause => 1 + self.random.below(15),
            Trouble::Clock(_) | Trouble::ServerClock(_) => 20 + self.random.below(160),
            _ => 2 + self.random.below(90),
        };
        self.log_step(format!("{trouble:?} for {minutes} min"));
        if self.begin(trouble) {
            self.now.push((trouble, self.clock.now_ms() + minutes as i64 * MINUTE_MS));
        }
    }

    /// Whether it lasts.
    fn begin(&mut self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Kill => {
                self.kill();
                return false;
            }
            Trouble::Restart => {
                self.counts.restarts += 1;
                self.stop();
                self.start();
                return false;
            }
            Trouble::Clock(hours) => self.step_clock(hours * HOUR_MS),
            Trouble::ServerClock(hours) => self.step_clock_of_b(hours * HOUR_MS),
            Trouble::Token => {
                self.counts.tokens += 1;
                for sim in [&self.a, &self.b] {
                    sim.expire(&self.token(), Some(sim.now_ms()));
                }
            }
            Trouble::Sink => {
                self.counts.sink_outages += 1;
                self.collector.stop();
            }
            Trouble::NetworkOfA | Trouble::NetworkOfB => {
                self.counts.network_outages += 1;
                self.sim(trouble).disconnect();
            }
            Trouble::Silence | Trouble::Stall => {
                self.counts.others += 1;
                self.a.files("", |files, _| match trouble {
                    Trouble::Silence => files.silent = true,
                    _ => files.stalled = true,
                });
            }
            Trouble::Pause => {
                self.counts.others += 1;
                self.agent.as_ref().expect("an agent").signal(Signal::STOP);
            }
            Trouble::Rotation => {
                self.counts.others += 1;
                self.a.files("", |files, now_ms| files.rotate(now_ms));
                return false;
            }
            Trouble::BadAnswers => {
                self.counts.others += 1;
                for fault in [Fault::Hangup, Fault::CutBody(700), Fault::Status(503, Vec::new())] {
                    self.a.fault_next(1, fault.clone());
                    self.b.fault_next(2, fault);
                }
                return false;
            }
            Trouble::Refusals => {
                use crate::rig::collector::{Do, Reply};
                self.counts.others += 1;
                let refuse = |status| Do::Refuse(Reply::new(status, "later"));
                self.collector.script([refuse(503), Do::HangUp, refuse(429), Do::TakeAndHangUp, refuse(500)]);
                return false;
            }
        }
        true
    }

    pub fn kill(&mut self) {
        self.counts.kills += 1;
        self.agent.take().expect("an agent").kill();
        self.start();
    }

    fn end(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Clock(hours) => self.step_clock(-hours * HOUR_MS),
            Trouble::ServerClock(hours) => self.step_clock_of_b(-hours * HOUR_MS),
            Trouble::Token => self.renew_token(),
            Trouble::Sink => self.collector.start_again(),
            Trouble::NetworkOfA | Trouble::NetworkOfB => listen_again(|| self.sim(trouble).reconnect()),
            Trouble::Silence => drop(self.a.files("", |files, _| files.silent = false)),
            Trouble::Stall => drop(self.a.files("", |files, now_ms| {
                files.stalled = false;
                files.flush(now_ms);
            })),
            Trouble::Pause => self.agent.as_ref().expect("an agent").signal(Signal::CONT),
            Trouble::Kill
            | Trouble::Restart
            | Trouble::Rotation
            | Trouble::BadAnswers
            | Trouble::Refusals => {}
        }
    }

    fn sim(&self, trouble: Trouble) -> &Sim {
        if trouble == Trouble::NetworkOfB { &self.b } else { &self.a }
    }

    pub fn stop(&mut self) {
        let mut agent = self.agent.take().expect("an agent");
        agent.signal(Signal::TERM);
        let status = agent.wait(PATIENCE);
        // It may say that it has no time for the last positions: its ten seconds are 30 ms.
        assert!(matches!(status.code(), Some(0 | 75)), "{status}:\n{}", agent.stderr());
    }

    /// Commits what a stop had no time for.
    pub fn settle(&mut self) {
        for _ in 0..10 {
            let mut command = self.host.command(&[], &["--once"]);
            self.clock.apply(&mut command);
            let mut agent = self.host.spawn(command);
            let code = agent.wait(PATIENCE).code();
            assert!(matches!(code, Some(0 | 75)), "{code:?}:\n{}", agent.stderr());
            if code == Some(0) {
                return;
            }
        }
        panic!("what is delivered is never committed");
    }

    /// Of the agent's host, and of `a`, which is on it.
    pub fn step_clock(&mut self, by_ms: i64) {
        self.counts.clock_steps += 1;
        self.clock.step(by_ms);
        self.a.advance_clock_ms(by_ms);
    }

    fn step_clock_of_b(&mut self, by_ms: i64) {
        self.counts.clock_steps += 1;
        self.b.advance_clock_ms(by_ms);
    }

    /// The time zone of `a` has another difference to UTC from now on.
    pub fn set_zone(&self, zone_ms: i64) {
        self.a.files("", |files, _| files.zone_ms = zone_ms);
    }

    fn token(&self) -> String {
        if self.tokens == 0 { ADMIN_TOKEN.to_owned() } else { format!("sim-token-{}", self.tokens) }
    }

    /// Written as the file of a secret should be replaced: all at once.
    fn renew_token(&mut self) {
        self.tokens += 1;
        let token = self.token();
        for sim in [&self.a, &self.b] {
            sim.add_credential(Credential::new(Kind::Token, ADMIN, &token));
        }
        let new = self.host.path("token.new");
        write_token(&new, &token);
        fs::rename(new, self.host.path("token")).unwrap();
    }

    /// What the servers keep for tests that look at requests. Rows stay: an agent without CPU may be days behind.
    pub fn forget(&self) {
        self.a.forget_requests();
        self.b.forget_requests();
    }
}

fn write_token(path: &Path, token: &str) {
    fs::write(path, token).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.agent = None;
            self.host.keep();
            let at = clock::now_ms();
            eprintln!("failed at {at}; what is left is in {}", self.host.path("").display());
            eprintln!("what was done:\n{}", self.script.join("\n"));
        }
    }
}
