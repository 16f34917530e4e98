//! The agent as a child process, measured from outside through `/proc`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use confluence_audit_agent::clock;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use crate::rig::Result;

/// `/proc/<pid>/stat` counts in hundredths of a second on every Linux.
const TICKS_PER_S: f64 = 100.0;

/// A run of the agent over `dir`/log, with state and output in the same directory. Killed when dropped.
pub struct Agent {
    child: Child,
    started: Instant,
    stderr: PathBuf,
}

/// Measurements of a finished run.
pub struct Taken {
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_rss_kib: f64,
}

/// The directory of the agent's events. It contains nothing else.
pub fn output(dir: &Path) -> PathBuf {
    dir.join("out/events.ndjson")
}

/// The measured binary without input. Its output is discarded.
pub fn command() -> Command {
    let built = || env!("CARGO_BIN_EXE_confluence-audit-agent").into();
    let mut command = Command::new(std::env::var_os("BENCH_AGENT").unwrap_or_else(built));
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Agent {
    pub fn start(dir: &Path, once: bool) -> Result<Agent> {
        fs::create_dir_all(dir.join("out"))?;
        let mut command = command();
        command.arg("run").arg("--files").arg(dir.join("log/*.audit.log"));
        command.arg("--sink").arg(format!("file:{}", output(dir).display()));
        command.arg("--state").arg(dir.join("state"));
        // The admin endpoint is on, as in the unit.
        command.env("RUNTIME_DIRECTORY", dir);
        if once {
            command.arg("--once");
        }
        Agent::spawn(command, dir)
    }

    /// Starts a command of the agent. Its log goes to a file in `dir`.
    pub fn spawn(mut command: Command, dir: &Path) -> Result<Agent> {
        let stderr = dir.join("stderr");
        command.stderr(fs::File::create(&stderr)?);
        let started = clock::monotonic();
        Ok(Agent { child: command.spawn()?, started, stderr })
    }

    /// Runs `--once` to its end.
    pub fn drain(dir: &Path) -> Result<Taken> {
        Agent::start(dir, true)?.wait()
    }

    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until the agent ends by itself, without an error.
    pub fn wait(mut self) -> Result<Taken> {
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let mut peak_rss_kib: f64 = 0.0;
        // The high-water mark disappears with the process, so it is read repeatedly.
        while waitid(WaitId::Pid(self.pid()), ended)?.is_none() {
            peak_rss_kib = self.status("VmHWM:").unwrap_or(0.0).max(peak_rss_kib);
            std::thread::sleep(Duration::from_millis(2));
        }
        let wall_s = self.started.elapsed().as_secs_f64();
        // The CPU time of an ended process can be read until it is waited for.
        let cpu_s = self.cpu_s()?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the agent ended with {status}: {}", self.stderr_tail()).into());
        }
        Ok(Taken { wall_s, cpu_s, peak_rss_kib })
    }

    /// Stops the agent and waits for it.
    pub fn stop(self) -> Result<Taken> {
        kill_process(self.pid(), Signal::TERM)?;
        self.wait()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }

    /// A number from `/proc/<pid>/status`.
    pub fn status(&self, key: &str) -> Option<f64> {
        number_after(&fs::read_to_string(self.proc("status")).ok()?, key)
    }

    /// User and system time of all threads, in hundredths.
    fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(self.proc("stat"))?;
        // The second field is the name, which may contain anything.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        Ok((ticks(11) + ticks(12)) / TICKS_PER_S)
    }

    /// Voluntary context switches and CPU time in nanoseconds, of all current threads.
    pub fn threads(&self) -> Result<(f64, f64)> {
        let (mut switches, mut cpu_ns) = (0.0, 0.0);
        for task in fs::read_dir(self.proc("task"))? {
            let task = task?.path();
            let status = fs::read_to_string(task.join("status")).unwrap_or_default();
            switches += number_after(&status, "voluntary_ctxt_switches:").unwrap_or(0.0);
            let schedstat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            cpu_ns += number_after(&schedstat, "").unwrap_or(0.0);
        }
        Ok((switches, cpu_ns))
    }

    /// An error if the agent has ended.
    pub fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("the agent ended with {status}: {}", self.stderr_tail()).into()),
        }
    }

    /// Polls every `pause` until `count` is `wanted`. The delay is measured with this resolution.
    pub fn wait_until(
        &mut self,
        wanted: usize,
        pause: Duration,
        mut count: impl FnMut() -> Result<usize>,
    ) -> Result<Instant> {
        let deadline = clock::monotonic() + Duration::from_secs(300);
        loop {
            let counted = count()?;
            if counted >= wanted {
                return Ok(clock::monotonic());
            }
            if clock::monotonic() > deadline {
                let log = self.stderr_tail();
                return Err(format!("{counted} of {wanted} events after 300 s: {log}").into());
            }
            self.must_run()?;
            std::thread::sleep(pause);
        }
    }

    fn stderr_tail(&self) -> String {
        let text = fs::read_to_string(&self.stderr).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n  ")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // After `wait` there is nothing to kill, and errors cannot be handled.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number_after(text: &str, key: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Counts the events in the agent's output.
pub struct Events {
    path: PathBuf,
    file: Option<fs::File>,
    buffer: Vec<u8>,
    count: usize,
}

impl Events {
    pub fn of(dir: &Path) -> Events {
        Events::at(output(dir))
    }

    pub fn at(path: PathBuf) -> Events {
        Events { path, file: None, buffer: vec![0; 64 << 10], count: 0 }
    }

    /// Number of events in the output so far.
    pub fn count(&mut self) -> Result<usize> {
        if self.file.is_none() {
            self.file = fs::File::open(&self.path).ok();
        }
        while let Some(file) = &mut self.file {
            let read = file.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            self.count += memchr::memchr_iter(b'\n', &self.buffer[..read]).count();
        }
        Ok(self.count)
    }

    /// Polls every `pause` until `wanted` events are in the output.
    pub fn wait_for(&mut self, agent: &mut Agent, wanted: usize, pause: Duration) -> Result<Instant> {
        agent.wait_until(wanted, pause, || self.count())
    }
}
