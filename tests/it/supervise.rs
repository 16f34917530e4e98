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
fn start_with_unread_stdout(grace: &str) -> (Host, Writer, Agent, ChildStdout) {
    start_with_unread_stdout_and(grace, &[])
}

fn start_with_unread_stdout_and(grace: &str, arguments: &[&str]) -> (Host, Writer, Agent, ChildStdout) {
    let mut host = Host::new();
    host.stdout = true;
    host.root += &format!("shutdown_timeout = \"{grace}\"\n");
    let (writer, _) = host.audit_file(52, 400);
    let mut command = host.command(&[], arguments);
    command.stdout(Stdio::piped());
    let mut agent = host.spawn(command);
    let stdout = agent.child().stdout.take().unwrap();
    agent.until("the pipe is full", || rustix::io::ioctl_fionread(&stdout).unwrap() > PIPE_BYTES);
    (host, writer, agent, stdout)
}

fn read_to_end(mut stdout: ChildStdout) -> Vec<u8> {
    let mut bytes = Vec::new();
    stdout.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The sink takes nothing any more: the agent waits for the shutdown timeout and leaves; the next one delivers the
/// rest.
#[test]
fn f52_sigterm_stalled_sink() {
    let (host, writer, mut agent, stdout) = start_with_unread_stdout("1s");
    let asked = clock::monotonic();
    agent.signal(Signal::TERM);
    let status = agent.wait(SOON);
    let took = asked.elapsed();
    assert_eq!(status.code(), Some(75), "{}", agent.stderr());
    assert!(took >= Duration::from_secs(1), "it waited only {took:?}");
    let printed = "stopped before everything was delivered";
    assert_eq!(agent.log_count(printed), 1, "{}", agent.stderr());
    let mut delivered = events(&read_to_end(stdout));
    assert!(delivered.len() < writer.count(), "the sink was not stalled");
    let next = host.once_ok();
    delivered.extend(events(next.stdout.as_bytes()));
    judge(&writer, &delivered).is_whole();
}

#[test]
fn f52_a_second_signal_ends_at_once() {
    for (first, second) in
        [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::INT), (Signal::TERM, Signal::INT)]
    {
        let (_host, _writer, mut agent, _stdout) = start_with_unread_stdout("1h");
        agent.signal(first);
        agent.until_logged("stopping");
        // Long before the shutdown timeout is over.
        agent.signal(second);
        assert_eq!(agent.wait(SOON).code(), Some(75), "{}", agent.stderr());
        assert_eq!(agent.log_count("stopped a second time"), 1, "{}", agent.stderr());
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
        assert_eq!(agent.log_count("everything that was read is delivered"), 1, "{}", agent.stderr());
        let again = host.once();
        again.logged("nothing is new");
        assert!(!again.stderr.contains("contains events after the checkpoint"), "{}", again.stderr);
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
        host.root += "shutdown_timeout = \"1h\"\n";
        let (writer, _) = host.audit_file(54, 100);
        let mut command = host.command(&[], &[]);
        command.env(FAILPOINT, failpoint);
        let mut agent = host.spawn(command);
        let status = agent.wait(SOON);
        let expect = if failpoint.starts_with("sync") { 75 } else { 70 };
        assert_eq!(status.code(), Some(expect), "{failpoint}: {}", agent.stderr());
        let named = agent.log_count(stage);
        assert_eq!(named, 1, "{failpoint}: {}", agent.stderr());
        host.once_ok();
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
        agent.until_logged("does not exist");
        let sweeps = clock::monotonic() + Duration::from_millis(1600);
        agent.until("three sweeps pass", || clock::monotonic() > sweeps);
        assert_eq!(agent.log_count("does not exist"), 1, "{}", agent.stderr());
        fs::create_dir_all(host.audit()).unwrap();
        let (writer, _) = host.audit_file(16, 10);
        agent.until("all of it is delivered", || host.delivered() >= 10);
        assert_eq!(agent.log_count("can be read again"), 1, "{}", agent.stderr());
        assert_eq!(agent.stop(), 0);
        judge(&writer, &host.events()).is_exact();
    }
}

/// State and output are the agent's alone, whatever the umask that it was started with.
#[test]
fn f59_modes() {
    let host = Host::new();
    host.audit_file(59, 3);
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

/// `run … | head -1`: the reader leaves while events wait for it.
#[test]
fn f111_a_reader_that_leaves_ends_it_quietly() {
    for arguments in [&[][..], &["--once"]] {
        let (host, writer, mut agent, stdout) = start_with_unread_stdout_and("10s", arguments);
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        drop(reader);
        let status = agent.wait(SOON);
        let printed = agent.stderr();
        assert_eq!(status.code(), Some(75), "{printed}");
        assert_eq!(agent.log_count("standard output was closed by its reader"), 1, "{printed}");
        let loud = ["ERROR", "WARN", "panicked", "Broken pipe", "everything that was read"];
        assert!(!loud.iter().any(|word| printed.contains(word)), "{printed}");
        let delivered = printed.lines().find_map(|line| line.strip_prefix("wiki: delivered "));
        if let Some(delivered) = delivered {
            let events: usize = delivered.split(' ').next().unwrap().parse().unwrap();
            assert!(events < writer.count(), "{printed}");
        }
        let next = host.once();
        let mut delivered = events(line.as_bytes());
        delivered.extend(events(next.stdout.as_bytes()));
        judge(&writer, &delivered).is_whole();
    }
}

/// The reader has what it wanted, and there is no next event by which the agent would notice.
#[test]
fn f111_a_reader_that_leaves_is_noticed_without_an_event() {
    let mut host = Host::new();
    host.stdout = true;
    let (writer, _) = host.audit_file(111, 3);
    let mut command = host.command(&[], &[]);
    command.stdout(Stdio::piped());
    let mut agent = host.spawn(command);
    let mut reader = BufReader::new(agent.child().stdout.take().unwrap());
    let mut delivered = String::new();
    while delivered.lines().count() < 3 {
        reader.read_line(&mut delivered).unwrap();
    }
    drop(reader);
    assert_eq!(agent.wait(SOON).code(), Some(75), "{}", agent.stderr());
    assert!(!agent.stderr().contains("ERROR"), "{}", agent.stderr());
    // What was written counts.
    let next = host.once();
    assert_eq!((next.code, next.stdout.as_str()), (0, ""), "{}", next.stderr);
    judge(&writer, &events(delivered.as_bytes())).is_exact();
}

/// Another file sink gets what has been read, and its own checkpoint stays right.
#[test]
fn f111_the_other_sinks_go_on_to_the_end_of_what_was_read() {
    let mut host = Host::new();
    host.more = "[[sink]]\nname = \"print\"\ntype = \"stdout\"\n".into();
    let output = host.path("out/wiki.ndjson");
    let mut writer = Writer::new(&host.audit(), 112);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 2_000);
    for arguments in [&[][..], &["--once"]] {
        let (reader, pipe) = std::io::pipe().unwrap();
        drop(reader);
        let output = host.command(&[], arguments).stdout(pipe).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{printed}");
        assert!(!printed.contains("ERROR"), "{printed}");
    }
    let last = host.once_ok();
    judge(&writer, &events(last.stdout.as_bytes())).is_exact();
    judge(&writer, &events(&fs::read(output).unwrap())).is_exact();
}

/// `run >&-`: there is no telling it from `>/dev/null`, so it is said.
#[test]
fn f111_a_stdout_that_leads_nowhere_is_reported() {
    let mut host = Host::new();
    host.stdout = true;
    Writer::new(&host.audit(), 114).create(&file_name(5, 0));
    for (shell, printed) in [("exec \"$0\" \"$@\" >&-", true), ("exec \"$0\" \"$@\"", false)] {
        let output = host.command(&["sh", "-c", shell], &["--once"]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.contains("standard output is `/dev/null`, or was closed"), printed, "{stderr}");
    }
}

/// Every command that prints, read by nobody.
#[test]
fn f111_commands_end_quietly_when_nobody_reads() {
    let mut host = Host::new();
    host.sink += "format = \"raw\"\n";
    let mut writer = Writer::new(&host.audit(), 113);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 2_000);
    host.once_ok();
    let (config, record) = (host.config(), host.output());
    let (config, record) = (config.to_str().unwrap(), record.to_str().unwrap());
    for (words, code) in [
        (vec!["convert", record], 0),
        (vec!["state", "show", "--config", config], 0),
        (vec!["state", "export", "--config", config], 0),
        (vec!["check", "--config", config], 0),
        (vec!["quarantine", "list", "--config", config], 0),
        (vec!["ledger", "show", "--config", config], 0),
        (vec!["ledger", "key", "--config", config], 0),
        (vec!["man"], 0),
        (vec!["completions", "bash"], 0),
        (vec!["--help"], 0),
        (vec!["--version"], 0),
        (vec!["setup", "elasticsearch", "--print"], 0),
        // What it says of itself is right although nobody hears it.
        (vec!["check", "--config", config, "--home", "/nonexistent"], 75),
        (vec!["check", "--config", config, "--format", "none"], 78),
        // Its work is done.
        (vec!["state", "forget", "--yes", "--config", config], 0),
    ] {
        let (reader, pipe) = std::io::pipe().unwrap();
        drop(reader);
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
            .args(&words)
            .stdout(pipe)
            .output()
            .unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), printed.as_ref()), (Some(code), ""), "{words:?}");
    }
    assert!(host.export()["sources"]["wiki"]["files"].as_array().unwrap().is_empty());
}
