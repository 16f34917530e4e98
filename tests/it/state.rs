//! What a start makes of the state that it finds: kept small, in use by another, old, or behind one of two sinks.

use crate::rig::agent::{copy_tree, stdout_of};
use crate::rig::oracle::events;
use crate::rig::{Event, Host, Writer, file_name, judge, outputs};
use confluence_audit_agent::checkpoint::Store;
use confluence_audit_agent::clock;
use confluence_audit_agent::config::{FileLocation, FilesConfig};
use confluence_audit_agent::source::files::{AuditFiles, ReadStatus};
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Positions of vanished files are given up again, of those that vanished while nobody looked too.
#[test]
fn f25_retention_after_restart() {
    let mut host = Host::new();
    host.source =
        "missing_files_max = 50\nrotate_grace = \"0s\"\nsweep_interval = \"500ms\"\nread_bytes = \"4KiB\"\n"
            .into();
    host.sink = "format = \"raw\"\n".into();
    let mut writer = Writer::new(&host.audit(), 25);
    let growing = writer.create(&file_name(31, 0));
    let mut number = 0;
    let entries = || Store::open(&host.state()).unwrap().store.load("wiki").unwrap().files.len();
    for round in 0..4 {
        let files: Vec<_> = (0..500)
            .map(|_| {
                number += 1;
                let file = writer.create(&file_name(5, number));
                writer.append(&file, 1);
                file
            })
            .collect();
        let delete = || files.iter().for_each(|file| fs::remove_file(&file.path).unwrap());
        let mut agent = host.start();
        agent.until("all of it is delivered", || host.delivered() >= writer.count());
        if round % 2 == 0 {
            delete();
            writer.append(&growing, 1);
            agent.until("the growing file goes on", || host.delivered() >= writer.count());
            assert_eq!(agent.stop(), 0);
        } else {
            assert_eq!(agent.stop(), 0);
            delete();
        }
        host.once_ok();
        assert!(entries() <= 51, "{} entries after round {round}", entries());
    }
    judge(&writer, &host.events()).is_exact();
}

/// A state of 0.1 does not say which events were delivered. It is refused before anything is delivered, and the message
/// names the way out.
#[test]
fn f27_a_state_without_a_ledger_is_refused() {
    let host = Host::new();
    let (writer, _) = host.audit_file(27, 10);
    let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/state/v1");
    copy_tree(&fixture, &host.state());
    fs::set_permissions(host.state(), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = host.once_code(78);
    refused.logged("state forget");
    assert!(host.events().is_empty() && !host.state().join("ledger").exists());
    let mut forget = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    stdout_of(forget.args(["state", "forget", "--yes", "--state"]).arg(host.state()));
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}

/// A second agent on the same state leaves at once, touches nothing, and says where; the first does not notice.
#[test]
fn f26_second_instance() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(26, 10);
    let mut first = host.start();
    first.until("the first delivers", || host.delivered() == 10);
    for arguments in [&["--once"][..], &[], &["--dry-run", "--once"]] {
        let output = fs::read(host.output()).unwrap();
        let second = host.once_with(arguments);
        assert_eq!(second.code, 75, "{}", second.stderr);
        let state = host.state().display().to_string();
        second.logged(&state);
        assert!(second.stderr.contains(&first.pid().to_string()), "{}", second.stderr);
        assert_eq!(second.stdout, "");
        assert_eq!(fs::read(host.output()).unwrap(), output);
    }
    writer.append(&file, 10);
    first.until("the first goes on", || host.delivered() == 20);
    assert_eq!(first.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// Yesterday's state is put back. The events since are replayed under the ids that they had, and the file sink passes
/// over those that stand in its output.
#[test]
fn f28_old_state_replay() {
    let mut host = Host::new();
    host.sink = "rotate_bytes = \"40KiB\"\nrotate_daily = false\nrotated_files_max = 1000\n".into();
    let (mut writer, file) = host.audit_file(28, 30);
    host.once_ok();
    copy_tree(&host.state(), &host.path("yesterday"));
    writer.append(&file, 50);
    let next = writer.create(&file_name(6, 0));
    writer.append(&next, 50);
    host.once_ok();
    let all = || events(&outputs(&host).concat());
    let before: HashSet<String> = all().into_iter().map(|event| event.id).collect();
    assert_eq!(before.len(), 130);

    fs::remove_dir_all(host.state()).unwrap();
    copy_tree(&host.path("yesterday"), &host.state());
    let replay = host.once_ok();
    let found = all();
    let after: HashSet<String> = found.iter().map(|event| event.id.clone()).collect();
    assert_eq!(after, before, "the same events have the same ids");
    judge(&writer, &found).is_exact();
    let mut reports = replay.stderr.lines().filter(|line| line.contains("not written again"));
    assert!(reports.next().unwrap().contains(" events=100"), "{}", replay.stderr);
    assert_eq!(reports.next(), None);
}

/// Two sinks, and one lags: the checkpoint waits for the slower one. After a crash everything since is replayed
/// to both. The file passes over what stands in it already, so it holds everything once; a pipe cannot be asked, and
/// gets once more what it had taken since the last commit: every event at least once, and nothing before the checkpoint
/// again.
#[test]
fn f22_gap_then_kill() {
    let mut host = Host::new();
    host.sink += "[[sink]]\nname = \"pipe\"\ntype = \"stdout\"\n";
    let (mut writer, file) = host.audit_file(22, 10);
    // These are checkpointed.
    let first = host.once_ok();
    let mut taken = first.stdout.into_bytes();
    assert_eq!(events(&taken).len(), 10);
    let mut command = host.command(&[], &[]);
    command.stdout(Stdio::piped());
    host.stdout = true;
    let mut agent = host.spawn(command);
    host.stdout = false;
    let mut stdout = agent.child().stdout.take().unwrap();
    writer.append(&file, 10);
    let mut block = [0; 4096];
    while events(&taken).len() < 20 {
        let count = stdout.read(&mut block).unwrap();
        assert!(count > 0, "{}", agent.stderr());
        taken.extend_from_slice(&block[..count]);
    }
    // Nobody reads the pipe from now on: the file goes ahead.
    for _ in 0..40 {
        writer.append(&file, 10);
    }
    agent.until("the pipe is full", || rustix::io::ioctl_fionread(&stdout).unwrap() > 60_000);
    let stuck = events(&taken).len();
    agent.until("the file is ahead of the pipe", || host.delivered() > stuck + 100);
    let ahead = host.delivered();
    agent.kill();
    stdout.read_to_end(&mut taken).unwrap();
    let in_pipe = events(&taken).len();
    assert!(in_pipe < ahead, "{in_pipe} in the pipe, {ahead} in the file");

    let next = host.once_ok();
    judge(&writer, &host.events()).is_exact();
    let mut piped = events(&taken);
    let again = events(next.stdout.as_bytes());
    let repeats_the_first = |event: &Event| event.seq().is_some_and(|seq| seq < 10);
    assert!(!again.iter().any(repeats_the_first), "sent before the checkpoint");
    piped.extend(again);
    judge(&writer, &piped).is_whole();
}

/// Two sources share one stdout: a line of one is never torn by the other, however long it is.
#[test]
fn two_sources_do_not_mix_on_stdout() {
    let mut host = Host::new();
    host.stdout = true;
    let other = host.path("other/log/audit");
    fs::create_dir_all(&other).unwrap();
    host.more +=
        &format!("[[source]]\nname = \"other\"\ntype = \"data_center\"\nhome = {:?}\n", host.path("other"));
    for dir in [host.audit(), other] {
        let mut file = File::create(dir.join(file_name(5, 0))).unwrap();
        for number in 0..20 {
            let long = "0123456789abcdef".repeat(40_000);
            writeln!(file, "{{\"auditType\":\"{number}\",\"long\":\"{long}\"}}").unwrap();
        }
    }
    let run = host.once_ok();
    assert_eq!(run.stdout.lines().count(), 40);
    assert_eq!(events(run.stdout.as_bytes()).len(), 40);
    assert_eq!(run.stderr.matches("delivered 20 events").count(), 2, "{}", run.stderr);
}

/// A file that was finished long ago is away for a moment, with the disk that it is on: it is not read again.
#[test]
fn f25_retention_counts_from_when_the_file_was_last_there() {
    const DAY_MS: i64 = 86_400_000;
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 25);
    for day in [5, 6] {
        let file = writer.create(&file_name(day, 0));
        writer.append(&file, 5);
    }
    let pattern = host.audit().join("*.audit.log").display().to_string();
    let mut config = FilesConfig::new(FileLocation::Files(vec![pattern]));
    config.rotate_grace = Duration::ZERO;
    let mut files = AuditFiles::new("wiki", config, Vec::new(), 0, true);
    let (now, start_ms) = (clock::monotonic(), clock::now_ms());
    let mut records = 0;
    let mut look = |files: &mut AuditFiles, days: i64| {
        files.sweep(now, start_ms + days * DAY_MS);
        while files.read(now, start_ms, false, &mut |_| records += 1) == ReadStatus::More {}
        (records, files.progress())
    };
    assert_eq!(look(&mut files, 0).0, 10);
    for days in 1..40 {
        assert_eq!(look(&mut files, days).0, 10);
    }
    let away = host.path("away");
    fs::create_dir(&away).unwrap();
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            fs::rename(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    move_all(&host.audit(), &away);
    let (_, progress) = look(&mut files, 40);
    assert!(progress.forgotten_files.is_empty(), "nothing is forgotten yet");
    move_all(&away, &host.audit());
    assert_eq!(look(&mut files, 40).0, 10, "nothing is read again");
    move_all(&host.audit(), &away);
    look(&mut files, 41);
    let (_, progress) = look(&mut files, 80);
    assert!(!progress.forgotten_files.is_empty(), "but not remembered for ever");
}

/// A new installation finds many files that were finished long ago: it does not wait for each to be quiet.
#[test]
fn old_files_are_not_waited_for() {
    let mut host = Host::new();
    host.source = "rotate_grace = \"1h\"\n".into();
    let mut writer = Writer::new(&host.audit(), 1);
    let yesterday = std::time::UNIX_EPOCH + Duration::from_millis(clock::now_ms() as u64 - 86_400_000);
    for number in 0..40 {
        let file = writer.create(&file_name(5, number));
        writer.append(&file, 2);
        let open = File::options().append(true).open(&file.path).unwrap();
        open.set_modified(yesterday).unwrap();
    }
    let mut agent = host.start();
    agent.until("all of it is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}
