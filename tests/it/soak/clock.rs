//! The time of the agent: many times as fast as real time, with steps of the wall clock.

use crate::simulator::sim::Clock;
use confluence_audit_agent::clock;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SOURCE: &str = include_str!("clock.c");
const NS_A_MS: i64 = 1_000_000;

/// What `clock.c` reads, as its `struct control`.
pub struct VirtualClock {
    control: File,
    path: PathBuf,
    library: PathBuf,
    begun: Instant,
    begun_ms: i64,
    /// The real clocks at the start, in nanoseconds.
    monotonic: i64,
    speed: i64,
    steps: u64,
    /// How far the agent's clock is ahead of the right one.
    offset_ms: i64,
}

impl VirtualClock {
    /// It begins at `begun_ms`. An error: there is no C compiler, or not the C library that it needs.
    pub fn new(dir: &Path, begun_ms: i64, speed: i64) -> Result<VirtualClock, String> {
        let (source, library, path) = (dir.join("clock.c"), dir.join("clock.so"), dir.join("clock"));
        std::fs::write(&source, SOURCE).unwrap();
        let mut compiler = Command::new("cc");
        compiler.args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]);
        let compiled = compiler.output().map_err(|error| format!("cc: {error}"))?;
        if !compiled.status.success() {
            return Err(String::from_utf8_lossy(&compiled.stderr).into_owned());
        }
        let control = File::create_new(&path).unwrap();
        control.set_len(64 * 1024).unwrap();
        let now = clock_gettime(ClockId::Monotonic);
        let clock = VirtualClock {
            control,
            path,
            library,
            begun: clock::monotonic(),
            begun_ms,
            monotonic: now.tv_sec * 1_000_000_000 + now.tv_nsec,
            speed,
            steps: 0,
            offset_ms: 0,
        };
        let wall = clock::now_ms() * NS_A_MS;
        for (at, value) in [speed, clock.monotonic, wall, begun_ms * NS_A_MS].into_iter().enumerate() {
            clock.put(at as u64, value);
        }
        Ok(clock)
    }

    fn put(&self, at: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), at * 8).unwrap();
    }

    /// Sets the agent's wall clock; its monotonic clock goes on.
    pub fn step(&mut self, by_ms: i64) {
        self.offset_ms += by_ms;
        // Files have real times, so the moment of a step is one as well.
        self.put(5 + 2 * self.steps, clock::now_ms() * NS_A_MS);
        self.put(6 + 2 * self.steps, self.offset_ms * NS_A_MS);
        self.steps += 1;
        self.put(4, self.steps as i64);
    }

    /// Lets a command live in this time.
    pub fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("SOAK_CLOCK", &self.path).env("TZ", "Europe/Berlin");
    }

    /// The same clock, always right, for a simulated server.
    pub fn for_server(&self) -> Clock {
        Clock::Fast { begun: self.begun, begun_ms: self.begun_ms, speed: self.speed }
    }

    /// The right time in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.for_server().now_ms()
    }

    /// Real time until the right clock says so.
    pub fn real(&self, ms: i64) -> Duration {
        Duration::from_nanos((ms.max(0) * NS_A_MS / self.speed) as u64)
    }
}
