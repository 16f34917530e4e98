//! A Confluence, an agent, and what is wrong with them at the moment.

use crate::rig::{Agent, Host, Random, skip, until, until_each};
use crate::simulator::sim::{ADMIN_TOKEN, AuditFiles, Row, Sim};
use confluence_audit_agent::clock;
use std::fs::{self, Permissions};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const NOBODY: u32 = 65534;
/// More than the longest pause of the agent that a fault leaves behind, in a run that is not slow itself.
const HEALED: Duration = Duration::from_secs(120);

pub struct World {
    pub seed: u64,
    begun: Instant,
    pub random: Random,
    pub sim: Sim,
    pub host: Host,
    pub agent: Option<Agent>,
    /// Mounts can be made that only the agent sees.
    pub may_mount: bool,
    wrapper: Vec<&'static str>,
    pub kills: usize,
    pub runs: usize,
    /// What was done, for whoever has to find out.
    pub script: Vec<String>,
    pub written: u64,
    /// When each event happened, by its number.
    pub times_ms: Vec<i64>,
    pub now: Wrong,
}

/// What is wrong at the moment.
#[derive(Default)]
pub struct Wrong {
    /// A mount hides it from the agent.
    pub hidden: Option<PathBuf>,
    /// The directory has another name.
    pub away: bool,
    /// May not be read; the mode before.
    pub forbidden: Option<(PathBuf, u32)>,
    pub cut: bool,
    pub expired: bool,
    pub tokens: u32,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let sim = Sim::data_center().unwrap();
        let audited = random.below(2) == 0;
        sim.configure(|options| options.searches_are_audited = audited);
        let mut host = Host::new();
        let (wrapper, may_mount) = wrapper(&host);
        let token = host.path("token");
        host.source = format!(
            "rotate_grace = \"300ms\"\nsweep_interval = \"100ms\"\nmode = \"auto\"\nhome = {:?}\nurl = {:?}\n\
             personal_access_token = {{ file = {token:?} }}\npoll_interval = \"500ms\"\noverlap = \"500ms\"\nlate_rows_interval = \"1s\"\n\
             probe_interval = \"1s\"\nfile_lag_timeout = \"1s\"\nfile_error_timeout = \"200ms\"\nfile_recovery_timeout = \"500ms\"\n",
            host.home(),
            sim.url()
        );
        host.sink += "format = \"raw\"\n";
        host.root += "ledger.seal_interval = \"1s\"\n";
        let mut files = AuditFiles::under(&host.home());
        files.rotate_bytes = 300 << 10;
        files.files_max = 6;
        files.tear = random.below(2) == 0;
        sim.write_files("", files);
        let mut world = World {
            seed,
            begun: clock::monotonic(),
            random,
            sim,
            host,
            agent: None,
            may_mount,
            wrapper,
            kills: 0,
            runs: 0,
            script: Vec::new(),
            written: 0,
            times_ms: Vec::new(),
            now: Wrong::default(),
        };
        world.give_token(ADMIN_TOKEN);
        for dir in ["state", "out"] {
            fs::create_dir(world.host.path(dir)).unwrap();
            world.for_agent(&world.host.path(dir), 0o700);
        }
        world.start();
        world
    }

    pub fn add_events(&mut self, numbers: Range<u64>) {
        self.written = numbers.end;
        let rows: Vec<Row> = numbers.map(|number| Row::data_center(clock::now_ms(), number)).collect();
        self.times_ms.extend(rows.iter().map(|row| row.time_ms));
        self.sim.insert_all(rows);
    }

    pub fn log_step(&mut self, what: String) {
        self.script.push(format!("at event {}: {what}", self.written));
    }

    pub fn start(&mut self) {
        let config = self.host.config();
        fs::set_permissions(config, Permissions::from_mode(0o644)).unwrap();
        self.agent = Some(self.host.start_as(&self.wrapper));
        self.runs += 1;
    }

    /// Writes the token as a secret's file should be replaced: all at once.
    pub fn give_token(&self, token: &str) {
        let new = self.host.path("token.new");
        fs::write(&new, token).unwrap();
        self.for_agent(&new, 0o600);
        fs::rename(&new, self.host.path("token")).unwrap();
    }

    fn for_agent(&self, path: &Path, mode: u32) {
        if !self.wrapper.is_empty() {
            chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Runs a command among the agent's mounts, as root.
    pub fn among_mounts(&self, arguments: &[&str], path: &Path) {
        let Some(agent) = &self.agent else { return };
        let mounts = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
        let pid = agent.pid().to_string();
        until(HEALED, "the agent has mounts of its own", || mounts(&pid) != mounts("self"));
        let status = Command::new("nsenter")
            .arg(format!("--mount=/proc/{pid}/ns/mnt"))
            .args(arguments)
            .arg(path)
            .status();
        assert!(status.unwrap().success(), "{arguments:?} {}", path.display());
    }

    pub fn until_delivered(&mut self, events: u64) {
        let mut output = super::verdict::Output::new(&self.host.output(), &self.times_ms);
        let found = |output: &mut super::verdict::Output| {
            output.read();
            output.numbers.len() as u64 >= events
        };
        // An API that was away for long is next asked after as long.
        let deadline = HEALED.max(2 * self.begun.elapsed());
        let by = clock::monotonic() + deadline;
        let agent = self.agent.as_mut().expect("an agent that runs");
        until_each(Duration::from_millis(50), 2 * deadline, "all are delivered", || {
            if found(&mut output) {
                return true;
            }
            let ended = agent.child().try_wait().unwrap();
            let missing = || (0..events).find(|number| !output.numbers.contains_key(number));
            assert!(
                clock::monotonic() < by && ended.is_none(),
                "{} of {events} delivered, {:?} is missing; the agent (ended: {ended:?}) printed at last\n{}",
                output.numbers.len(),
                missing(),
                tail(&agent.stderr())
            );
            false
        });
    }

    /// After an orderly stop all that was delivered is checkpointed.
    pub fn restart(&mut self) {
        let mut agent = self.agent.take().expect("an agent that runs");
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        self.start();
    }

    /// Stops the agent, and lets another look for what is left: nothing.
    pub fn end(&mut self) {
        let mut agent = self.agent.take().expect("an agent that runs");
        // Until then the agent expects that the API brings again what is in the output after the checkpoint.
        let count = self.sim.audit_request_count();
        agent.until("the API was polled past the start", || self.sim.audit_request_count() >= count + 5);
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let last = self.host.start_with(&self.wrapper, &["--once"]);
        self.runs += 1;
        let mut last = last;
        assert_eq!(last.wait(HEALED).code(), Some(0), "{}", last.stderr());
    }

    /// The logs of all runs of the agent.
    pub fn log(&self) -> String {
        let printed = |run| fs::read(self.host.path(&format!("stderr.{run}"))).unwrap();
        (1..=self.runs).map(|run| String::from_utf8_lossy(&printed(run)).into_owned()).collect()
    }

    pub fn summary(&self) -> String {
        format!("{} steps, {} kills", self.script.len(), self.kills)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.agent = None;
            self.host.keep();
            eprintln!(
                "CHAOS_SEED={} failed; what is left is in {}; what was done:\n{}",
                self.seed,
                self.host.path("").display(),
                self.script.join("\n")
            );
        }
    }
}

fn tail(printed: &str) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// What runs the agent as another user and with mounts of its own, as far as this process may: root reads what it has
/// no permission for.
fn wrapper(host: &Host) -> (Vec<&'static str>, bool) {
    const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    fs::set_permissions(host.path(""), Permissions::from_mode(0o755)).unwrap();
    let works = |wrapper: &[&str], path: &str| {
        let words = [wrapper, &["test", "-x", path]].concat();
        Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
    };
    let reached =
        [env!("CARGO_BIN_EXE_confluence-audit-agent").to_owned(), host.audit().display().to_string()];
    if !rustix::process::geteuid().is_root() || !reached.iter().all(|path| works(&AS_NOBODY, path)) {
        skip("root", "without another user no permission is taken away");
        return (Vec::new(), false);
    }
    let with_mounts = [&["unshare", "--mount"][..], &AS_NOBODY].concat();
    if works(&with_mounts, "/") {
        (with_mounts, true)
    } else {
        skip("mount", "without mounts of its own no directory is hidden");
        (AS_NOBODY.to_vec(), false)
    }
}
