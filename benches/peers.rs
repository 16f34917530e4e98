//! Drains the same backlog with rsyslog, where it is installed or unpacked by `tests/peers/install.sh`. Its mapping to
//! ECS, `peers/rsyslog.conf`, does less than the agent's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::agent::{Agent, Events, Taken};
use crate::rig::{self, MIB, Result, Target, row, setting};

const ROUNDS: usize = 3;
const CONFIG: &str = include_str!("peers/rsyslog.conf");

pub fn measure() -> Result<()> {
    let rsyslog = Rsyslog::find()?;
    let bytes = setting("BENCH_BYTES", 1024 * MIB);
    let dir = rig::directory()?;
    rig::write_files(dir.path(), bytes.div_ceil(100_000_000) as u32, bytes)?;
    let (mut cpu, mut memory) = (Vec::new(), Vec::new());
    for round in 1..=ROUNDS {
        let agent = Agent::drain(dir.path())?;
        let mut lines = 0;
        // The output may have been rotated.
        for file in fs::read_dir(dir.path().join("out"))? {
            lines += Events::at(file?.path()).count()?;
        }
        for part in ["out", "state"] {
            fs::remove_dir_all(dir.path().join(part))?;
        }
        let peer = rsyslog.drain(dir.path(), lines)?;
        for (name, taken) in [("agent", &agent), ("rsyslog", &peer)] {
            println!(
                "round {round}: {name}: {lines} lines, {:.2} µs CPU a line, {:.0} MB/s, {:.1} MiB",
                taken.cpu_s / lines as f64 * 1e6,
                bytes as f64 / taken.wall_s / 1e6,
                taken.peak_rss_kib / 1024.0,
            );
        }
        cpu.push(agent.cpu_s / peer.cpu_s);
        memory.push(agent.peak_rss_kib / peer.peak_rss_kib);
    }
    for (what, ratios, target) in
        [("CPU", &mut cpu, Target::AtMost(0.25)), ("peak memory", &mut memory, Target::None)]
    {
        ratios.sort_by(f64::total_cmp);
        row(
            &format!("{what} of a drain over rsyslog's, median of 3"),
            rig::quantile(ratios, 0.5),
            "",
            target,
        );
    }
    Ok(())
}

struct Rsyslog {
    program: PathBuf,
    /// Where it was unpacked. `None`: it is installed.
    root: Option<PathBuf>,
}

impl Rsyslog {
    fn find() -> Result<Rsyslog> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/rsyslog");
        let unpacked = root.join("usr/sbin/rsyslogd");
        let installed = PathBuf::from("/usr/sbin/rsyslogd");
        match (unpacked.exists(), installed.exists()) {
            (true, _) => Ok(Rsyslog { program: unpacked, root: Some(root) }),
            (false, true) => Ok(Rsyslog { program: installed, root: None }),
            (false, false) => Err("rsyslogd is not installed; run tests/peers/install.sh".into()),
        }
    }

    /// One run from nothing until all lines are in its output. Its files are removed.
    fn drain(&self, dir: &Path, lines: usize) -> Result<Taken> {
        let work = dir.join("rsyslog");
        fs::create_dir(&work)?;
        let config = work.join("rsyslog.conf");
        fs::write(&config, CONFIG.replace("DIR", &dir.display().to_string()))?;
        let mut command = Command::new(&self.program);
        command.arg("-n").arg("-f").arg(&config).arg("-i").arg(work.join("pid"));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if let Some(root) = &self.root {
            let lib = root.join("usr/lib/x86_64-linux-gnu");
            command.env("LD_LIBRARY_PATH", &lib).arg("-M").arg(lib.join("rsyslog"));
        }
        let mut daemon = Agent::spawn(command, &work)?;
        Events::at(work.join("events")).wait_for(&mut daemon, lines, Duration::from_millis(5))?;
        let taken = daemon.stop()?;
        fs::remove_dir_all(&work)?;
        Ok(taken)
    }
}
