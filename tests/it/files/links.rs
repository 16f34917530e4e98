//! What stands in an audit directory and is no audit file, or is not for this agent to read.
//!
//! Links here are another user's; those that are followed have `followed.rs`.

use crate::rig::{Host, Writer, append, file_name, foreign_link, judge, skip, wait_for_sweep};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

/// Somebody else's directory of files that look like audit files; no byte of it may be delivered.
fn foreign(host: &Host) -> (PathBuf, Vec<u8>) {
    let dir = host.path("foreign");
    fs::create_dir(&dir).unwrap();
    let mut writer = Writer::new(&dir, 99);
    let file = writer.create(&file_name(6, 0));
    writer.append(&file, 50);
    append(&file.path, b"foreign secret\n");
    let content = fs::read(&file.path).unwrap();
    (file.path, content)
}

#[track_caller]
fn assert_not_read(host: &Host, (path, content): &(PathBuf, Vec<u8>)) {
    assert_eq!(fs::read(path).unwrap(), *content, "the target is as it was");
    let output = fs::read_to_string(host.output()).unwrap_or_default();
    assert!(!output.contains("foreign"), "{output}");
}

/// A link among the files, there from the start and made while the agent runs.
#[test]
fn f58_symlink_final() {
    let host = Host::new();
    let target = foreign(&host);
    if !foreign_link(&target.0, &host.audit().join(file_name(4, 0))) {
        return;
    }
    let (mut writer, file) = host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until("the real file is delivered", || host.delivered() == 10);
    foreign_link(&target.0, &host.audit().join(file_name(4, 1)));
    // In the place of a file that was read.
    let old = writer.create(&file_name(3, 0));
    writer.append(&old, 10);
    agent.until("another real file is delivered", || host.delivered() == 20);
    fs::remove_file(&old.path).unwrap();
    foreign_link(&target.0, &old.path);
    wait_for_sweep(&host, &mut agent);
    writer.append(&file, 10);
    agent.until("the real file goes on", || host.delivered() == 30);
    assert_eq!(agent.stop(), 0);
    assert_not_read(&host, &target);
    judge(&writer, &host.events()).is_exact();
    assert!(agent.log_count("a symbolic link that belongs to") > 0, "{}", agent.stderr());
}

/// The audit directory, or one above it, is a link.
#[test]
fn f58_symlink_parent() {
    for linked in ["log", "log/audit"] {
        let host = Host::new();
        let target = foreign(&host);
        let link = host.home().join(linked);
        fs::remove_dir_all(&link).unwrap();
        let mut to = target.0.parent().unwrap().to_owned();
        if linked == "log" {
            fs::rename(&to, host.path("audit")).unwrap();
            fs::create_dir(&to).unwrap();
            fs::rename(host.path("audit"), to.join("audit")).unwrap();
            to = host.path("foreign");
        }
        if !foreign_link(&to, &link) {
            return;
        }
        let mut agent = host.start();
        agent.until_logged("symbolic link");
        assert_eq!(agent.stop(), 0);
        assert_eq!(host.delivered(), 0);
        assert!(!agent.stderr().contains("foreign secret"));
    }
}

/// The audit directory is replaced by a link while the agent follows it, and comes back.
#[test]
fn f58_swap_after() {
    let host = Host::poll_only();
    let target = foreign(&host);
    let (audit, aside) = (host.audit(), host.home().join("log/aside"));
    let link = host.home().join("log/link");
    if !foreign_link(target.0.parent().unwrap(), &link) {
        return;
    }
    let mut writer = Writer::new(&audit, 2);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 10);
    let mut agent = host.start();
    agent.until("the real file is delivered", || host.delivered() == 10);
    let swap = || {
        fs::rename(&audit, &aside).unwrap();
        fs::rename(&link, &audit).unwrap();
    };
    let back = || {
        fs::rename(&audit, &link).unwrap();
        fs::rename(&aside, &audit).unwrap();
    };
    swap();
    agent.until_logged("symbolic link");
    back();
    agent.until_logged("can be read again");
    writer.append(&file, 10);
    agent.until("it goes on", || host.delivered() == 20);
    // Back and forth under its hands, to come between two of its calls.
    for _ in 0..5_000 {
        swap();
        back();
    }
    writer.append(&file, 10);
    agent.until("it goes on", || host.delivered() == 30);
    assert_eq!(agent.stop(), 0);
    assert_not_read(&host, &target);
    judge(&writer, &host.events()).is_exact();
}

/// A FIFO, a socket and a directory with names of audit files hold nothing up and are reported once each.
#[test]
fn f18_fifo_named_like_log() {
    let host = Host::poll_only();
    let name = |number| host.audit().join(file_name(4, number));
    let fifo = Command::new("mkfifo").arg(name(0)).status().unwrap();
    assert!(fifo.success());
    fs::create_dir(name(1)).unwrap();
    let _socket = UnixListener::bind(name(2)).unwrap();
    let mut writer = Writer::new(&host.audit(), 3);
    let file = writer.create(&file_name(5, 0));
    let mut agent = host.start();
    for _ in 0..5 {
        writer.append(&file, 10);
        agent.until("the file flows", || host.delivered() == writer.count());
    }
    wait_for_sweep(&host, &mut agent);
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    let printed = agent.stderr();
    let reported: Vec<&str> = printed.lines().filter(|line| line.contains("not a regular file")).collect();
    // The first in full, and the two others as one summary.
    assert_eq!(reported.len(), 2, "{printed}");
    assert!(reported[1].contains("repeated=2"), "{printed}");
}

fn for_all(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A file that may not be read yet is reported, with what to do, and read from its beginning when it may.
#[test]
fn f16_permission_returns() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can run the agent as another user");
    }
    let host = Host::new();
    for_all(&host.path(""), 0o755);
    for dir in ["state", "out"] {
        fs::create_dir(host.path(dir)).unwrap();
        chown(host.path(dir), Some(NOBODY), Some(NOBODY)).unwrap();
        for_all(&host.path(dir), 0o700);
    }
    let as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let reaches = |path: &Path| {
        let mut test = Command::new(as_nobody[0]);
        let status = test.args(&as_nobody[1..]).args(["test", "-x"]).arg(path).status();
        status.is_ok_and(|status| status.success())
    };
    if ![Path::new(env!("CARGO_BIN_EXE_confluence-audit-agent")), &host.audit()].into_iter().all(reaches) {
        return skip("root", "another user may not enter the directory of the tests");
    }
    let (mut writer, open) = host.audit_file(4, 10);
    let closed = writer.create(&file_name(5, 1));
    writer.append(&closed, 10);
    for_all(&open.path, 0o644);
    for_all(&closed.path, 0o000);
    for_all(&host.config(), 0o644);
    let mut agent = host.start_as(&as_nobody);
    agent.until("the file that may be read is delivered", || host.delivered() == 10);
    agent.until_logged("may not read");
    let printed = agent.stderr();
    for part in [closed.path.to_str().unwrap(), "`nobody` may not read", "0000 root:root"] {
        assert!(printed.contains(part), "no `{part}` in {printed}");
    }
    chown(&closed.path, None, Some(NOBODY)).unwrap();
    for_all(&closed.path, 0o640);
    agent.until("the file is delivered when it may be", || host.delivered() == 20);
    agent.until_logged("can be read again");
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}
