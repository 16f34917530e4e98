//! What the agent sends to the service manager that started it.

use crate::rig::{Agent, Host, SOON, Writer, file_name, judge, skip, until};
use confluence_audit_agent::clock;
use confluence_audit_agent::quarantine::{self, Entry};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ends what listens.
const END: &[u8] = b"END";

/// The other end of `NOTIFY_SOCKET`. It listens at all times, for the system keeps a few messages only.
struct Manager {
    heard: Arc<Mutex<Vec<String>>>,
    /// Of the same socket.
    socket: UnixDatagram,
    path: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// Starts the agent as systemd would, with this watchdog period.
    fn start(host: &Host, watchdog_ms: u32, set_up: impl Fn(&mut Command)) -> (Manager, Agent) {
        let mut manager = Manager::busy(host);
        manager.listen();
        let agent = manager.start_agent(host, watchdog_ms, set_up);
        (manager, agent)
    }

    /// One that does not listen yet.
    fn busy(host: &Host) -> Manager {
        let path = host.path("notify");
        Manager { heard: Arc::default(), socket: UnixDatagram::bind(&path).unwrap(), path, thread: None }
    }

    fn listen(&mut self) {
        let (socket, heard) = (self.socket.try_clone().unwrap(), self.heard.clone());
        self.thread = Some(std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let length = socket.recv(&mut buffer).unwrap();
                if &buffer[..length] == END {
                    return;
                }
                let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
                heard.lock().unwrap().push(text);
            }
        }));
    }

    fn start_agent(&self, host: &Host, watchdog_ms: u32, set_up: impl Fn(&mut Command)) -> Agent {
        let mut command = host.command(&[], &[]);
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", (u64::from(watchdog_ms) * 1000).to_string());
        set_up(&mut command);
        host.spawn(command)
    }

    /// How many messages so far begin like that.
    fn heard(&self, what: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().filter(|text| text.starts_with(what)).count()
    }

    /// The newest message that begins like that.
    fn last(&self, what: &str) -> String {
        let heard = self.heard.lock().unwrap();
        let mut found = heard.iter().rev().filter(|text| text.starts_with(what));
        found.next().cloned().unwrap_or_default()
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = UnixDatagram::unbound().unwrap().send_to(END, &self.path);
            let _ = thread.join();
        }
    }
}

#[test]
fn ready_alive_and_stopping_are_sent() {
    let host = Host::new();
    host.audit_file(61, 10);
    // Not so many signs of life that there is no room for the other messages when the test is held up.
    let (manager, mut agent) = Manager::start(&host, 1_500, |_| {});
    agent.until("it is ready", || manager.heard("READY=1") == 1);
    agent.until("it gives signs of life", || manager.heard("WATCHDOG=1") >= 5);
    agent.until("it says how it is", || manager.heard("STATUS=following; 10 events delivered") >= 1);
    assert_eq!(manager.heard("STOPPING=1"), 0);
    assert_eq!(agent.stop(), 0);
    until(SOON, "the end is sent", || manager.heard("STOPPING=1") == 1);
    assert_eq!(manager.heard("READY=1"), 1);
}

/// Messages that nobody takes keep the agent neither from its work nor from its end; they are sent again later.
#[test]
fn a_manager_that_does_not_listen_holds_nothing_up() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 61);
    let file = writer.create(&file_name(5, 0));
    let mut manager = Manager::busy(&host);
    let other = UnixDatagram::unbound().unwrap();
    other.set_nonblocking(true).unwrap();
    while other.send_to(b"X=1", &manager.path).is_ok() {}
    writer.append(&file, 10);
    let mut agent = manager.start_agent(&host, 300, |_| {});
    agent.until("it delivers", || host.delivered() == 10);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    writer.append(&file, 10);
    let mut agent = manager.start_agent(&host, 300, |_| {});
    agent.until("it delivers", || host.delivered() == 20);
    let later = clock::monotonic() + Duration::from_secs(1);
    agent.until("it has had something to send", || clock::monotonic() > later);
    manager.listen();
    agent.until("it is ready", || manager.heard("READY=1") == 1);
    agent.until("it says how it is", || {
        manager.last("STATUS=") == "STATUS=following; 10 events delivered since the start"
    });
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// After a crash the output is read before it is ready, which may take longer than whoever starts it waits by itself.
#[test]
fn f72_a_start_that_recovers_asks_for_time() {
    let host = Host::new();
    let (writer, _) = host.audit_file(61, 10);
    let mut command = host.command(&[], &[]);
    // Written, and no position is stored: the first batch holds no event, so an end at its outcome would come too
    // early.
    command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", "after_ack=hang");
    let mut killed = host.spawn(command);
    killed.until("the events are written", || host.delivered() == 10);
    killed.kill();
    let (manager, mut agent) = Manager::start(&host, 300, |_| {});
    agent.until("it is ready", || manager.heard("READY=1") == 1);
    assert_eq!(manager.last("EXTEND_TIMEOUT_USEC="), "EXTEND_TIMEOUT_USEC=300000000");
    agent.until_logged("contains events after the checkpoint");
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// Whoever starts it learns why it is not ready, and does not have to wait for a home that is not there.
#[test]
fn trouble_is_reported_and_delays_readiness() {
    let host = Host::new();
    fs::remove_dir_all(host.audit()).unwrap();
    let (manager, mut agent) = Manager::start(&host, 60_000, |_| {});
    agent.until("it says what is missing", || manager.heard("STATUS=wiki: audit directory `") >= 1);
    assert_eq!(manager.heard("READY=1"), 0);
    agent.until("it is ready all the same", || manager.heard("READY=1") == 1);
    fs::create_dir_all(host.audit()).unwrap();
    host.audit_file(61, 3);
    agent.until("it says that all is well", || manager.heard("STATUS=following") >= 1);
    assert_eq!(agent.stop(), 0);
}

/// A stage that does not come to the end of its work ends the signs of life, whichever it is.
#[test]
fn a_stage_that_hangs_is_not_alive() {
    for (failpoint, stage) in [
        ("decode=hang@5", "source wiki"),
        ("before_send=hang", "sink local"),
        ("after_ack=hang", "checkpoint"),
    ] {
        let host = Host::new();
        host.audit_file(61, 10);
        let (manager, mut agent) = Manager::start(&host, 300, |command| {
            command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", failpoint);
        });
        agent.until("it says which stage hangs", || {
            manager.heard(&format!("STATUS={stage} makes no progress")) >= 1
        });
        agent.until_logged("a stage makes no progress");
        let before = manager.heard("WATCHDOG=1");
        let later = clock::monotonic() + Duration::from_secs(1);
        agent.until("three periods pass", || clock::monotonic() > later);
        assert_eq!(manager.heard("WATCHDOG=1"), before, "{failpoint}");
        agent.kill();
    }
}

/// A sink whose reader takes nothing waits: that is no fault of the agent.
#[test]
fn a_stage_that_waits_is_alive() {
    let mut host = Host::new();
    host.stdout = true;
    host.audit_file(61, 400);
    // The work that there is takes no such time, on a slow machine either.
    let (manager, mut agent) = Manager::start(&host, 3_000, |command| {
        command.stdout(Stdio::piped());
    });
    let stdout = agent.child().stdout.take().unwrap();
    agent.until("the pipe is full", || rustix::io::ioctl_fionread(&stdout).unwrap() > 60_000);
    let before = manager.heard("WATCHDOG=1");
    // Three in each.
    agent.until("signs of life go on for two periods", || manager.heard("WATCHDOG=1") >= before + 6);
    // A commit takes what its disk takes.
    let printed = agent.stderr();
    let mut reported = printed.lines().filter(|line| line.contains("makes no progress"));
    assert!(reported.all(|line| line.contains("stage=checkpoint")), "{printed}");
    agent.kill();
}

/// What a service sees of a directory that is deleted and made again is the deleted one: all of it is delivered, and
/// the next process sees the new one.
#[test]
fn a_dead_mount_ends_the_process_for_the_next_to_see_more() {
    let bind = ["unshare", "--mount", "sh", "-ec", "mount --bind real \"$0/log\"; exec \"$@\""];
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return skip("mount", "this process may not have mounts of its own");
    }
    let host = Host::new();
    let real = host.path("real/audit");
    fs::create_dir_all(&real).unwrap();
    let mut writer = Writer::new(&real, 61);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 10);
    let home = host.home();
    let wrapper = [&bind[..], &[home.to_str().unwrap()]].concat();
    let mut agent = host.start_as(&wrapper);
    agent.until("it reads through the mount", || host.delivered() == 10);
    writer.append(&file, 10);
    fs::remove_dir_all(host.path("real")).unwrap();
    assert_eq!(agent.wait(SOON).code(), Some(75), "{}", agent.stderr());
    assert_eq!(agent.log_count("outside this process's mount namespace"), 1, "{}", agent.stderr());
    fs::create_dir_all(&real).unwrap();
    let file = writer.create(&file_name(5, 1));
    writer.append(&file, 10);
    let mut agent = host.start_as(&wrapper);
    agent.until("it reads the new one", || host.delivered() == 30);
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// What waits for a person stands in the status, as long as it does.
#[test]
fn a_quarantine_is_reported_until_it_is_empty() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(61, 10);
    fs::create_dir_all(host.state()).unwrap();
    fs::set_permissions(host.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let entries = [Entry::default(), Entry::default()];
    quarantine::put(&host.state(), 1, &entries).unwrap();
    let (manager, mut agent) = Manager::start(&host, 300, |_| {});
    agent.until_logged("events are in quarantine, refused by their server");
    agent.until("the status has it", || {
        manager.heard("STATUS=following; 10 events delivered since the start; 2 events are in quarantine")
            >= 1
    });
    let (path, _) = quarantine::files(&host.state()).unwrap().remove(0);
    fs::remove_file(path).unwrap();
    writer.append(&file, 1);
    agent.until("the status has it no more", || {
        let last = manager.last("STATUS=");
        last == "STATUS=following; 11 events delivered since the start"
    });
    assert_eq!(agent.stop(), 0);
}

/// Whatever limit it was started with: neither a file nor what a handler is piped holds memory.
#[test]
fn f95_a_core_file_holds_no_secrets() {
    let host = Host::new();
    let mut agent = host.start_as(&["prlimit", "--core=unlimited:unlimited"]);
    let of_process = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", agent.pid())).unwrap();
    let limit = || {
        let limits = of_process("limits");
        let line = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<String> = line.unwrap().split_whitespace().map(str::to_owned).collect();
        words[4..6].to_vec()
    };
    until(SOON, "the limit is set", || limit() == ["0", "0"]);
    until(SOON, "the filter is empty", || of_process("coredump_filter").trim() == "00000000");
    // It handles signals before it makes its state.
    until(SOON, "the agent runs", || host.state().exists());
    assert_eq!(agent.stop(), 0);
}
