//! How a run ends: in order, abandoned, or by a defect; and how it waits for what is not there yet.

use crate::rig::oracle::events;
use crate::rig::{Agent, Host, SOON, Writer, file_name, judge};
use confluence_audit_agent::clock;
use rustix::process::Signal;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{ChildStdout, Stdio};
use std::time::Duration;

const FAILPOINT: &str = "CONFLUENCE_AUDIT_AGENT_FAILPOINT";
const PIPE_BYTES: u64 = 60_000;

/// An agent whose stdout nobody reads: the pipe is full, and more waits.
fn stalled(grace: &str) -> (Host, Writer, Agent, ChildStdout) {
    let mut host = Host::new();
    host.stdout = true;
    host.root += &format!("grace = \"{grace}\"\n");
    let mut writer = Writer::new(&host.audit(), 52);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 400);
    let mut command = host.command(&[], &[]);
    command.stdout(Stdio::piped());
    let mut agent = host.spawn(command);
    let stdout = agent.child().stdout.take().unwrap();
    agent.until("the pipe is full", || {
        rustix::io::ioctl_fionread(&stdout).unwrap() > PIPE_BYTES
    });
    (host, writer, agent, stdout)
}

fn rest(mut stdout: ChildStdout) -> Vec<u8> {
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The sink takes nothing any more: the agent waits for the grace period and leaves; the next one delivers the rest.
#[test]
fn f52_sigterm_stalled_sink() {
    let (host, writer, mut agent, stdout) = stalled("1s");
    let asked = clock::monotonic();
    agent.signal(Signal::TERM);
    let status = agent.wait(SOON);
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(75), "{}", agent.stderr());
    assert!(took >= Duration::from_secs(1), "it waited only {took:?}");
    let said = "stopped before everything was delivered";
    assert_eq!(agent.said(said), 1, "{}", agent.stderr());
    let mut delivered = events(&rest(stdout));
    assert!(delivered.len() < writer.count(), "the sink was not stalled");
    let next = host.once();
    assert_eq!(next.code, 0, "{}", next.stderr);
    delivered.extend(events(next.stdout.as_bytes()));
    judge(&writer, &delivered).is_whole();
}

#[test]
fn f52_a_second_signal_ends_at_once() {
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ] {
        let (_host, _writer, mut agent, _stdout) = stalled("1h");
        agent.signal(first);
        agent.until_said("stopping");
        // Long before the grace period is over.
        agent.signal(second);
        assert_eq!(agent.wait(SOON).code(), Some(75), "{}", agent.stderr());
        assert_eq!(agent.said("stopped a second time"), 1, "{}", agent.stderr());
    }
}

/// One event and a signal: it is delivered, checkpointed, and the agent is gone, whichever signal it was.
#[test]
fn f53_shutdown_flushes() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut host = Host::new();
        // The next commit would be in an hour.
        host.root = "checkpoint_interval = \"1h\"\n".into();
        let mut writer = Writer::new(&host.audit(), 53);
        let file = writer.create(&file_name(5, 0));
        let mut agent = host.start();
        writer.append(&file, 1);
        agent.until("the first event is there", || host.delivered() == 1);
        // The first commit is made at once; this event's waits.
        writer.append(&file, 1);
        agent.until("the second event is there", || host.delivered() == 2);
        agent.signal(signal);
        let status = agent.wait(SOON);
        assert_eq!(status.code(), Some(0), "{}", agent.stderr());
        assert_eq!(
            agent.said("everything that was read is delivered"),
            1,
            "{}",
            agent.stderr()
        );
        let again = host.once();
        assert!(again.stderr.contains("nothing is new"), "{}", again.stderr);
        assert!(!again.stderr.contains("stand there already"), "{}", again.stderr);
        judge(&writer, &host.events()).is_exact();
    }
}

/// A stage that panics takes the process with it, and says which stage it was; the next run delivers everything once.
#[test]
fn f54_stage_panic() {
    for (failpoint, stage) in [
        ("read=panic@2", "stage=\"source wiki\""),
        ("decode=panic@10", "stage=\"source wiki\""),
        ("encode=panic@10", "stage=\"source wiki\""),
        ("before_send=panic@1", "stage=\"sink local\""),
        ("after_send=panic@1", "stage=\"sink local\""),
        ("sync=panic@1", "stage=\"sink local\""),
        ("after_ack=panic@1", "stage=checkpoint"),
        // The first two store who we are and where the output begins.
        ("before_flush=panic@3", "stage=checkpoint"),
        ("after_flush=panic@3", "stage=checkpoint"),
    ] {
        let mut host = Host::new();
        // A dead stage is not waited for.
        host.root += "grace = \"1h\"\n";
        let mut writer = Writer::new(&host.audit(), 54);
        let file = writer.create(&file_name(5, 0));
        writer.append(&file, 100);
        let mut command = host.command(&[], &[]);
        command.env(FAILPOINT, failpoint);
        let mut agent = host.spawn(command);
        let status = agent.wait(SOON);
        let expect = if failpoint.starts_with("sync") { 75 } else { 70 };
        assert_eq!(status.code(), Some(expect), "{failpoint}: {}", agent.stderr());
        let named = agent.said(stage);
        assert_eq!(named, 1, "{failpoint}: {}", agent.stderr());
        assert_eq!(host.once().code, 0);
        judge(&writer, &host.events()).is_exact();
    }
}

/// Without a directory to read the agent stays, says so once, and begins when it is there.
#[test]
fn a_missing_directory_is_waited_for() {
    for notify in ["true", "false"] {
        let mut host = Host::new();
        host.source += &format!("notify = {notify}\n");
        fs::remove_dir_all(host.audit()).unwrap();
        let mut agent = host.start();
        agent.until_said("does not exist");
        let sweeps = clock::monotonic() + Duration::from_millis(1600);
        agent.until("three sweeps pass", || clock::monotonic() > sweeps);
        assert_eq!(agent.said("does not exist"), 1, "{}", agent.stderr());
        fs::create_dir_all(host.audit()).unwrap();
        let mut writer = Writer::new(&host.audit(), 16);
        let file = writer.create(&file_name(5, 0));
        writer.append(&file, 10);
        agent.until("all of it is delivered", || host.delivered() >= 10);
        assert_eq!(agent.said("can be read again"), 1, "{}", agent.stderr());
        assert_eq!(agent.stop(), 0);
        judge(&writer, &host.events()).is_exact();
    }
}

/// State and output are the agent's alone, whatever the umask that it was started with.
#[test]
fn f59_modes() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 59);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 3);
    let config = fs::read_to_string(host.config()).unwrap();
    let output = host.path("new/sub/events.ndjson");
    let config = config.replace(&format!("{:?}", host.output()), &format!("{output:?}"));
    let path = host.path("modes.toml");
    fs::write(&path, config).unwrap();
    let ended = std::process::Command::new("sh")
        .args(["-c", "umask 0; exec \"$0\" run --config \"$1\" --once"])
        .arg(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .arg(&path)
        .output()
        .unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let mut files = 0;
    check_modes(&host.state(), &mut files);
    check_modes(&host.path("new"), &mut files);
    assert!(files >= 5, "{files}");
}

fn check_modes(path: &Path, files: &mut u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    let expect = if metadata.is_dir() { 0o700 } else { 0o600 };
    assert_eq!(mode, expect, "{} has mode {mode:o}", path.display());
    *files += u32::from(metadata.is_file());
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            check_modes(&entry.unwrap().path(), files);
        }
    }
}

/// `run … | head -1`: the reader leaves.
#[test]
fn a_closed_stdout_is_an_error_and_no_panic() {
    let (host, writer, mut agent, stdout) = stalled("10s");
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    drop(reader);
    let status = agent.wait(SOON);
    assert_eq!(status.code(), Some(75), "{}", agent.stderr());
    assert!(agent.stderr().contains("Broken pipe"), "{}", agent.stderr());
    assert!(!agent.stderr().contains("panicked"), "{}", agent.stderr());
    let next = host.once();
    let mut delivered = events(line.as_bytes());
    delivered.extend(events(next.stdout.as_bytes()));
    judge(&writer, &delivered).is_whole();
}
