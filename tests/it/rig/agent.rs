//! The real binary, in a directory of its own.

use super::oracle::{self, Event};
use super::writer::{LogFile, Writer, file_name};
use super::{SOON, until};
use rustix::process::{Pid, Signal, kill_process};
use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Where an agent runs: a Confluence home, a state directory, an output, and a configuration that joins them.
pub struct Host {
    dir: tempfile::TempDir,
    /// Lines of TOML before the first table.
    pub root: String,
    /// Lines in `[[source]]`. `type` is Data Center unless it is given; `home` is added unless `files` or `mode`
    /// does.
    pub source: String,
    /// Lines in `[[sink]]` besides `type` and `path`; a `format` is here.
    pub sink: String,
    /// More tables; each source has an output of its own then, `out/<name>.ndjson`.
    pub more: String,
    /// All lines of `[[sink]]` but its name, in place of a file's. It gets no heartbeats unless `heartbeat` is there.
    pub remote: Option<String>,
    /// Write to stdout instead of a file.
    pub stdout: bool,
    /// Where state and output are, if not in the host's directory. The agent makes all directories in it.
    pub storage: Option<PathBuf>,
    runs: Cell<u32>,
}

/// How a run with `--once` ended.
pub struct Once {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Once {
    /// It must have logged this.
    #[track_caller]
    pub fn logged(&self, text: &str) {
        assert!(self.stderr.contains(text), "not logged: {text}\n{}", self.stderr);
    }
}

impl Host {
    /// On the disk that the repository is on, in fast mode: what defaults make wait for seconds takes fractions.
    pub fn new() -> Host {
        Host::in_dir(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// As [`Host::new`], below this directory.
    pub fn in_dir(dir: &Path) -> Host {
        let dir = tempfile::tempdir_in(dir).expect("a directory for the test");
        let host = Host {
            dir,
            root: "checkpoint_interval = \"100ms\"\n".into(),
            source: "rotate_grace = \"1s\"\nsweep_interval = \"500ms\"\n".into(),
            sink: "rotate_bytes = \"10GiB\"\nrotate_daily = false\n".into(),
            more: String::new(),
            remote: None,
            stdout: false,
            storage: None,
            runs: Cell::new(0),
        };
        fs::create_dir_all(host.audit()).unwrap();
        host
    }

    /// One whose only sink has these lines, with a writer of audit files and its first file.
    pub fn with_sink(lines: String) -> (Host, Writer, LogFile) {
        let mut host = Host::new();
        host.remote = Some(lines);
        let mut writer = Writer::new(&host.audit(), 1);
        let file = writer.create(&file_name(5, 0));
        (host, writer, file)
    }

    /// Sets a key of `[[source]]`; `value` is TOML.
    pub fn set(&mut self, key: &str, value: &str) {
        self.unset(&[&format!("{key} =")]);
        self.source += &format!("{key} = {value}\n");
    }

    /// Removes the lines of `[[source]]` that begin so.
    pub fn unset(&mut self, beginnings: &[&str]) {
        let kept = |line: &&str| !beginnings.iter().any(|beginning| line.starts_with(beginning));
        let lines = self.source.lines().filter(kept);
        self.source = lines.map(|line| format!("{line}\n")).collect();
    }

    /// Starts an agent that prints, and reads no further than into its first file, because nobody takes what it prints.
    /// The second file waits. Its path is returned; if it is deleted, it is not held open.
    pub fn start_with_unread_file(&mut self) -> (Agent, PathBuf) {
        let socket = self.admin();
        self.set("deleted_files_max", "0");
        self.stdout = true;
        let (mut writer, first) = self.audit_file(3, 1);
        let mut command = self.command(&[], &[]);
        command.stdout(Stdio::piped());
        let mut agent = self.spawn(command);
        agent.until_answer(&socket, "/readyz", "ready", |answer| answer.status == 200);
        // More than may be on its way to a sink.
        writer.append(&first, 3_000);
        let waiting = writer.create(&file_name(5, 1));
        writer.append(&waiting, 100);
        agent.until_answer(&socket, "/metrics", "both files wait", |answer| {
            answer.metric("caa_source_backlog_files{source=\"wiki\"}") == Some(2.0)
        });
        (agent, waiting.path.clone())
    }

    /// Neither inotify nor linemux: sweeps alone, each 100 ms.
    pub fn poll_only() -> Host {
        let mut host = Host::new();
        host.set("notify", "false");
        host.set("sweep_interval", "\"100ms\"");
        host
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    pub fn audit(&self) -> PathBuf {
        self.home().join("log/audit")
    }

    pub fn state(&self) -> PathBuf {
        self.storage().join("state")
    }

    pub fn output(&self) -> PathBuf {
        self.storage().join("out/events.ndjson")
    }

    fn storage(&self) -> &Path {
        self.storage.as_deref().unwrap_or(self.dir.path())
    }

    /// Writes the configuration and returns its path.
    pub fn config(&self) -> PathBuf {
        let path = self.path("config.toml");
        let mut source = self.source.clone();
        if !source.contains("type =") {
            source += "type = \"data_center\"\n";
        }
        if !source.contains("files =") && !source.contains("mode =") {
            source += &format!("home = {:?}\n", self.home());
        }
        let sink = if self.stdout {
            "type = \"stdout\"\n".to_owned()
        } else if let Some(remote) = &self.remote {
            let heartbeat = if remote.contains("heartbeat =") { "" } else { "heartbeat = false\n" };
            format!("{heartbeat}{remote}")
        } else {
            if self.storage.is_none() {
                fs::create_dir_all(self.path("out")).unwrap();
            }
            let path = if self.more.is_empty() { self.output() } else { self.path("out/{source}.ndjson") };
            format!("type = \"file\"\npath = {path:?}\n{}", self.sink)
        };
        let text = format!(
            "state_dir = {:?}\n{}\n[[source]]\nname = \"wiki\"\n{source}\n[[sink]]\nname = \"local\"\n{sink}\n{}",
            self.state(),
            self.root,
            self.more,
        );
        fs::write(&path, text).unwrap();
        path
    }

    /// `run` with this host's configuration and these arguments; `wrapper` is a command that executes its arguments.
    pub fn command(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .arg("run")
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .current_dir(self.dir.path())
            .env_remove("CONFLUENCE_HOME");
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command
    }

    pub fn start(&self) -> Agent {
        self.start_as(&[])
    }

    pub fn start_as(&self, wrapper: &[&str]) -> Agent {
        self.start_with(wrapper, &[])
    }

    pub fn start_with(&self, wrapper: &[&str], arguments: &[&str]) -> Agent {
        self.spawn(self.command(wrapper, arguments))
    }

    /// Leaves all that it has made to whoever has to find out what went wrong.
    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// Starts a command of [`Host::command`]; its stdout goes nowhere unless it was set.
    pub fn spawn(&self, mut command: Command) -> Agent {
        if !self.stdout {
            command.stdout(Stdio::null());
        }
        self.runs.set(self.runs.get() + 1);
        let stderr = self.path(&format!("stderr.{}", self.runs.get()));
        let child = command.stdin(Stdio::null()).stderr(File::create(&stderr).unwrap()).spawn().unwrap();
        Agent { child, stderr, status: None }
    }

    pub fn once(&self) -> Once {
        self.once_with(&["--once"])
    }

    pub fn once_with(&self, arguments: &[&str]) -> Once {
        let output = self.command(&[], arguments).output().unwrap();
        Once {
            code: output.status.code().expect("ended by itself"),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A run with `--once` that must succeed.
    #[track_caller]
    pub fn once_ok(&self) -> Once {
        self.once_code(0)
    }

    /// A run with `--once` that must end with this exit code.
    #[track_caller]
    pub fn once_code(&self, code: i32) -> Once {
        let once = self.once();
        assert_eq!(once.code, code, "{}", once.stderr);
        once
    }

    /// A writer of audit files, and its first file with so many records.
    pub fn audit_file(&self, seed: u64, records: usize) -> (Writer, LogFile) {
        let mut writer = Writer::new(&self.audit(), seed);
        let file = writer.create(&file_name(5, 0));
        writer.append(&file, records);
        (writer, file)
    }

    /// What `check` prints with this host's configuration.
    pub fn check(&self) -> Once {
        let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
            .args(["check", "--config"])
            .arg(self.config())
            .env_remove("CONFLUENCE_HOME")
            .output()
            .unwrap();
        Once {
            code: output.status.code().expect("ended by itself"),
            stdout: super::unwrap_lines(&String::from_utf8(output.stdout).unwrap()),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The lines of `check` about the sink.
    pub fn check_sink(&self) -> String {
        let printed = self.check().stdout;
        let lines = printed.lines().filter(|line| line.contains("sink local"));
        lines.map(|line| format!("{line}\n")).collect()
    }

    /// The entries in quarantine, oldest first.
    pub fn quarantined(&self) -> Vec<serde_json::Value> {
        let Ok(dir) = fs::read_dir(self.state().join("quarantine")) else {
            return Vec::new();
        };
        let mut paths: Vec<_> = dir.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "ndjson"));
        paths.sort();
        let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap_or_default());
        let lines: String = texts.collect();
        // What does not end is still being written.
        let whole = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// What has been delivered to the output file, whole lines only.
    pub fn events(&self) -> Vec<Event> {
        oracle::events(&fs::read(self.output()).unwrap_or_default())
    }

    /// What `state export` prints for this host's stopped agent.
    pub fn export(&self) -> serde_json::Value {
        serde_json::from_str(&self.state_command("export")).unwrap()
    }

    /// What `state show` prints for this host.
    pub fn state_show(&self) -> String {
        self.state_command("show")
    }

    fn state_command(&self, name: &str) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        stdout_of(command.args(["state", name, "--state"]).arg(self.state()))
    }

    /// How many lines the output file has.
    pub fn delivered(&self) -> usize {
        count_events(&fs::read(self.output()).unwrap_or_default())
    }
}

/// Counts the events of an output while it grows, without reading it again.
pub struct GrowingOutput {
    path: PathBuf,
    offset: u64,
    events: usize,
}

impl GrowingOutput {
    pub fn of(host: &Host) -> GrowingOutput {
        GrowingOutput { path: host.output(), offset: 0, events: 0 }
    }

    /// Events that are not about the agent.
    pub fn events(&mut self) -> usize {
        let Ok(mut file) = fs::File::open(&self.path) else { return 0 };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |end| end + 1);
        self.offset += whole as u64;
        self.events += count_events(&bytes[..whole]);
        self.events
    }
}

fn count_events(output: &[u8]) -> usize {
    let notices = memchr::memmem::find_iter(output, b"\"action\":\"agent.").count();
    memchr::memchr_iter(b'\n', output).count() - notices
}

/// A running agent, killed when dropped.
pub struct Agent {
    child: Child,
    stderr: PathBuf,
    status: Option<ExitStatus>,
}

impl Agent {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// All that this agent has logged.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap()).into_owned()
    }

    /// The file that contains it.
    pub fn stderr_path(&self) -> PathBuf {
        self.stderr.clone()
    }

    /// Number of log lines that contain the text.
    pub fn log_count(&self, text: &str) -> usize {
        self.stderr().lines().filter(|line| line.contains(text)).count()
    }

    /// Waits for the condition while the agent runs.
    #[track_caller]
    pub fn until(&mut self, what: &str, condition: impl FnMut() -> bool) {
        self.until_within(SOON, what, condition);
    }

    /// As [`Agent::until`], of what is much work or may take longer.
    #[track_caller]
    pub fn until_within(&mut self, deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
        let mut ended = None;
        let (child, stderr) = (&mut self.child, &self.stderr);
        let printed = || String::from_utf8_lossy(&fs::read(stderr).unwrap()).into_owned();
        let by = confluence_audit_agent::clock::monotonic() + deadline;
        until(2 * deadline, what, || {
            if condition() {
                return true;
            }
            ended = child.try_wait().unwrap();
            let late = confluence_audit_agent::clock::monotonic() > by;
            assert!(
                !late && ended.is_none(),
                "{}: {what}\nthe agent printed:\n{}",
                ended.map_or("too late".to_owned(), |status| format!("the agent ended, {status}")),
                printed()
            );
            false
        });
    }

    /// Waits until its log contains the text.
    #[track_caller]
    pub fn until_logged(&mut self, text: &str) {
        self.until_logged_within(SOON, text);
    }

    /// As [`Agent::until_within`].
    #[track_caller]
    pub fn until_logged_within(&mut self, deadline: Duration, text: &str) {
        let path = self.stderr.clone();
        self.until_within(deadline, &format!("the agent logs `{text}`"), || {
            String::from_utf8_lossy(&fs::read(&path).unwrap()).contains(text)
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self, deadline: Duration) -> ExitStatus {
        let by = confluence_audit_agent::clock::monotonic() + deadline;
        let (child, status, stderr) = (&mut self.child, &mut self.status, &self.stderr);
        until(2 * deadline, "the agent's end", || {
            *status = status.or_else(|| child.try_wait().unwrap());
            assert!(
                status.is_some() || confluence_audit_agent::clock::monotonic() < by,
                "the agent did not end in {deadline:?}; it printed:\n{}",
                fs::read_to_string(stderr).unwrap()
            );
            status.is_some()
        });
        self.status.unwrap()
    }

    /// Stops it in order; returns its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::TERM);
        self.wait(SOON).code().expect("ended by itself")
    }

    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.wait(SOON);
    }

    /// A value in kB from its `/proc/…/status`, as `VmHWM`.
    pub fn status_kb(&self, key: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line =
            text.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Waits until the agent looks through its audit directory once more: it reports names that it does not know. What it
/// does about the files that it finds or misses comes after that. Once a test: what it says again within ten seconds is
/// only counted.
#[track_caller]
pub fn wait_for_sweep(host: &Host, agent: &mut Agent) {
    File::create_new(host.audit().join("marker.txt")).unwrap();
    agent.until_logged("marker.txt");
}

/// Targets of a process's open file descriptors; a deleted file's ends in ` (deleted)`.
pub fn descriptors(pid: u32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// What a command that must succeed writes to standard output.
#[track_caller]
pub fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Copies a directory with all in it.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Appends bytes as Confluence does: open, append, write, close.
pub fn append(path: &Path, bytes: &[u8]) {
    use std::io::Write;
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// A symbolic link that another user has made, at once: it never belongs to this one. Whether this could be done.
pub fn foreign_link(to: &Path, link: &Path) -> bool {
    const NOBODY: u32 = 65534;
    let aside = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let made = aside.path().join("link");
    std::os::unix::fs::symlink(to, &made).unwrap();
    if let Err(error) = std::os::unix::fs::lchown(&made, Some(NOBODY), Some(NOBODY)) {
        super::skip("root", &format!("no link of another user can be made: {error}"));
        return false;
    }
    fs::rename(&made, link).unwrap();
    true
}
