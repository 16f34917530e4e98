//! One case: Confluence, an agent and a sink, and the script that happens to them.

use super::action::{Action, ApiFault, Input, Setup, Sink};
use super::confluence::Confluence;
use super::deliveries::Deliveries;
use crate::rig::collector::{Collector, Do, Item, Plain, Post, Protocol, Reply, Sent};
use crate::rig::{Agent, Host, SOON, listen_again};
use crate::simulator::sim::{ADMIN_TOKEN, Fault, RateHeaders};
use confluence_audit_agent::ledger::{EntryKind, LedgerReader};
use std::collections::HashSet;
use std::path::Path;

/// What a run has done, for the figures.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub runs: usize,
    pub crashes: usize,
    pub events: usize,
    pub repeated: usize,
    pub inodes_reused: u64,
}

/// As [`Plain`]; it knows an event that comes again.
struct Idempotent;

impl Protocol for Idempotent {
    fn events(&self, post: &Post) -> Result<Vec<Sent>, Reply> {
        Plain.events(post)
    }

    fn reply(&self, items: &[Item]) -> Reply {
        Plain.reply(items)
    }

    fn detects_duplicates(&self) -> bool {
        true
    }
}

pub struct World {
    setup: Setup,
    pub(super) host: Host,
    pub(super) confluence: Confluence,
    pub(super) collector: Option<Collector>,
    pub(super) sink_is_down: bool,
    pub(super) api_is_down: bool,
    pub(super) agent: Option<Agent>,
    pub(super) deliveries: Deliveries,
    pub(super) has_backup: bool,
    pub(super) was_restored: bool,
    upgrades: usize,
    pub(super) figures: Figures,
    /// Below it are the audit files: on a disk, because only there inodes are used again.
    _disk: tempfile::TempDir,
}

impl World {
    pub fn new(setup: Setup) -> World {
        let memory = Path::new("/dev/shm");
        let mut host = if memory.is_dir() { Host::in_dir(memory) } else { Host::new() };
        let disk = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let confluence = Confluence::new(setup.input, disk.path());
        let collector = match setup.sink {
            Sink::File | Sink::RotatedFile => None,
            Sink::Idempotent => Some(Collector::start(Idempotent)),
            Sink::Plain => Some(Collector::start(Plain)),
        };
        host.root += "shutdown_timeout = \"500ms\"\nenrich.geoip = false\n";
        host.sink = "format = \"raw\"\n".into();
        if setup.sink == Sink::RotatedFile {
            host.sink += "rotate_bytes = \"4KiB\"\nrotated_files_max = 100000\ncompression = \"zstd\"\n";
        }
        host.remote = collector.as_ref().map(|collector| {
            format!(
                "type = \"http\"\nurl = {:?}\nbatch_wait = \"10ms\"\nbatch_events = 5\ntimeout = \"1s\"\n",
                collector.url()
            )
        });
        host.source = source(setup, &confluence, disk.path());
        let mut world = World {
            setup,
            host,
            confluence,
            collector,
            sink_is_down: false,
            api_is_down: false,
            agent: None,
            deliveries: Deliveries::new(setup.sink),
            has_backup: false,
            was_restored: false,
            upgrades: 0,
            figures: Figures::default(),
            _disk: disk,
        };
        world.configure();
        world
    }

    fn configure(&mut self) {
        if self.setup.input == Input::Api {
            return;
        }
        let is_other = self.upgrades % 2 == 1;
        self.host.set("read_bytes", if is_other { "\"4KiB\"" } else { "\"128KiB\"" });
        self.host.set("notify", if self.setup.notify != is_other { "true" } else { "false" });
    }

    pub fn act(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::Append { events } => self.confluence.append(events),
            Action::Long { kib } => self.confluence.long(kib),
            Action::Half { percent } => self.confluence.half(percent),
            Action::Late { events } => self.confluence.late(events),
            Action::Twin => self.confluence.twin(),
            Action::Rotate => self.confluence.rotate(),
            Action::NextDay => self.confluence.next_day(),
            Action::NewNode => self.confluence.new_node(),
            Action::ClockAhead { minutes } => self.confluence.clock_ahead(minutes),
            Action::Rename { file } => self.confluence.rename(file),
            Action::Truncate { file, percent } => self.confluence.truncate(file, percent),
            Action::Copy { file } => self.confluence.copy(file, false),
            Action::CopyAndTruncate { file } => self.confluence.copy(file, true),
            Action::Overwrite { file, events } => self.confluence.overwrite(file, events),
            Action::Delete { file } => self.confluence.delete(file),
            Action::Replace { file, events, same_name } => self.confluence.replace(file, events, same_name),
            Action::Gzip { file } => self.confluence.gzip(file, self.agent.is_some()),
            Action::MoveOut { file } => self.confluence.move_out(file),
            Action::MoveBack => self.confluence.move_back(),
            Action::DirectoryGone => self.confluence.directory_gone(),
            Action::DirectoryBack => self.confluence.directory_back(),
            Action::Row { events } => self.confluence.database_only(events),
            Action::FileOnly { events } => self.confluence.file_only(events),
            Action::LateRow { seconds } => self.confluence.late_row(seconds),
            other => return self.act_on_processes(other),
        }
        Ok(())
    }

    fn act_on_processes(&mut self, action: Action) -> Result<(), String> {
        match action {
            Action::PageCap { rows } => self.api_fault(u64::MAX, Fault::PageCap(rows.into())),
            Action::ApiFault { fault, requests } => self.api_fault(requests.into(), api_fault(fault)),
            Action::ApiDown => self.api_down(),
            Action::ApiUp => self.api_up(),
            Action::Refuse { requests } => self.script(requests, Do::Refuse(Reply::new(503, ""))),
            Action::HangUp { requests } => self.script(requests, Do::HangUp),
            Action::TakeAndHangUp { requests } => {
                self.deliveries.unclear(requests.into());
                self.script(requests, Do::TakeAndHangUp);
            }
            Action::Stall { requests } => self.script(requests, Do::Stall),
            Action::SinkDown => self.sink_down(),
            Action::SinkUp => self.sink_up(),
            Action::Once => return self.once(None),
            Action::OnceCrash { failpoint, hit } => return self.once(Some((failpoint, hit))),
            Action::Start => return self.start(None),
            Action::StartCrash { failpoint, hit } => return self.start(Some((failpoint, hit))),
            Action::Settle => return self.settle(),
            Action::Stop => return self.stop(),
            Action::Kill { after_ms } => return self.kill(after_ms),
            Action::Backup => return self.backup(),
            Action::Restore => return self.restore(),
            Action::Upgrade => {
                self.stop()?;
                self.upgrades += 1;
                self.configure();
            }
            other => panic!("{other:?} is no action on a process"),
        }
        Ok(())
    }

    fn api_fault(&self, requests: u64, fault: Fault) {
        let Some(sim) = &self.confluence.sim else { return };
        if requests == u64::MAX { sim.fault(fault) } else { sim.fault_next(requests, fault) }
    }

    fn api_down(&mut self) {
        if let Some(sim) = &self.confluence.sim {
            sim.disconnect();
            self.api_is_down = true;
        }
    }

    fn api_up(&mut self) {
        if let Some(sim) = self.confluence.sim.as_ref().filter(|_| self.api_is_down) {
            listen_again(|| sim.reconnect());
            self.api_is_down = false;
        }
    }

    fn script(&self, requests: u8, what: Do) {
        if let Some(collector) = &self.collector {
            collector.script(std::iter::repeat_n(what, requests.into()));
        }
    }

    fn sink_down(&mut self) {
        if let Some(collector) = self.collector.as_mut().filter(|_| !self.sink_is_down) {
            collector.stop();
            self.sink_is_down = true;
            // A request may have been stored, and its answer lost.
            self.deliveries.unclear(usize::from(self.agent.is_some()));
        }
    }

    fn sink_up(&mut self) {
        if let Some(collector) = self.collector.as_mut().filter(|_| self.sink_is_down) {
            collector.start_again();
            self.sink_is_down = false;
        }
    }

    /// Everything is as it should be: what is there is delivered, nothing twice, and the ledger agrees.
    pub fn end(mut self) -> Result<Figures, String> {
        self.stop()?;
        self.confluence.directory_back();
        // Without any file a run has nothing to read, which is an error.
        self.confluence.append(1);
        self.sink_up();
        self.api_up();
        if let Some(sim) = &self.confluence.sim {
            sim.clear_faults();
        }
        if let Some(collector) = &self.collector {
            collector.clear_script();
        }
        if self.setup.input == Input::Auto {
            // A single run does not wait until the API shows what the files do not have.
            self.start(None)?;
            self.settle()?;
            self.stop()?;
        }
        for _ in 0..3 {
            let mut agent = self.spawn(None, &["--once"]);
            let code = agent.wait(SOON).code();
            if code != Some(0) {
                return Err(format!("the last run ended with {code:?}:\n{}", agent.stderr()));
            }
            self.ended(code, &agent, true)?;
        }
        self.judge_ledger()?;
        self.figures.events = self.deliveries.len();
        self.figures.repeated = self.deliveries.repeated;
        self.figures.inodes_reused = self.confluence.inodes_reused;
        Ok(self.figures)
    }

    /// The ledger has each settled event once, and nothing that was not delivered.
    fn judge_ledger(&self) -> Result<(), String> {
        let path = self.host.state().join("ledger/wiki");
        let Some(reader) = LedgerReader::open(&path).map_err(|error| error.to_string())? else {
            return if self.deliveries.len() == 0 { Ok(()) } else { Err("there is no ledger".to_owned()) };
        };
        let mut ids = HashSet::new();
        for entry in reader.entries(reader.first()..reader.size()) {
            let (number, entry) = entry.map_err(|error| error.to_string())?;
            let entry = entry.ok_or_else(|| format!("entry {number} of the ledger is damaged"))?;
            let id = format!("{:032x}", entry.id);
            if entry.kind != EntryKind::Delivered {
                continue;
            }
            if !self.deliveries.contains(&id) {
                return Err(format!("entry {number} of the ledger was not delivered: {id}"));
            }
            if !ids.insert(id) {
                return Err(format!("entry {number} of the ledger is there twice"));
            }
        }
        // An older state has an older ledger, and what it knew may be gone from the files.
        match self.deliveries.settled().find(|id| !self.was_restored && !ids.contains(*id)) {
            Some(id) => Err(format!("the ledger does not have the event {id}")),
            None => Ok(()),
        }
    }
}

/// The lines of `[[source]]`.
fn source(setup: Setup, confluence: &Confluence, home: &Path) -> String {
    let mut lines = String::new();
    if setup.input != Input::Api {
        lines += "rotate_grace = \"0s\"\nsweep_interval = \"100ms\"\n";
        lines += &match setup.home {
            true => format!("home = {home:?}\n"),
            false => format!("files = [\"{}/log/audit/*.audit.log*\"]\n", home.display()),
        };
    }
    if let Some(sim) = &confluence.sim {
        lines += &format!(
            "url = {:?}\npersonal_access_token = {ADMIN_TOKEN:?}\npoll_interval = \"100ms\"\noverlap = \"1m\"\n\
             late_rows_interval = \"2m\"\n",
            sim.url()
        );
    }
    lines += match setup.input {
        Input::Files => "mode = \"files\"\n",
        Input::Api => "mode = \"api\"\n",
        Input::Auto => {
            "mode = \"auto\"\nprobe_interval = \"1s\"\nfile_lag_timeout = \"1s\"\nfile_error_timeout = \"100ms\"\n\
             file_recovery_timeout = \"200ms\"\n"
        }
    };
    lines
}

fn api_fault(fault: ApiFault) -> Fault {
    match fault {
        ApiFault::Unavailable => Fault::Status(503, Vec::new()),
        ApiFault::TooManyRequests => Fault::TooManyRequests(RateHeaders::Seconds(1)),
        ApiFault::NotJson => Fault::NotJson,
        ApiFault::CutBody => Fault::CutBody(100),
        ApiFault::Hangup => Fault::Hangup,
        ApiFault::InsertBetweenPages => Fault::InsertBetweenPages { rows: 3, age_ms: 5_000 },
    }
}

impl Figures {
    pub fn add(&mut self, other: Figures) {
        self.runs += other.runs;
        self.crashes += other.crashes;
        self.events += other.events;
        self.repeated += other.repeated;
        self.inodes_reused += other.inodes_reused;
    }
}
