//! One entry of a directory that cannot be looked at.

use crate::rig::{Host, file_name, judge, skip};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A mount whose server has died: each look at it fails with ENOTCONN, as a stale handle of NFS does with ESTALE.
pub struct DeadMount(PathBuf);

impl DeadMount {
    /// On an existing file or directory. `None`: this machine does not let a test mount anything.
    pub fn on(path: &Path) -> Option<DeadMount> {
        let kind = if path.is_dir() { "40000" } else { "100000" };
        let script =
            "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=$1,user_id=0,group_id=0 dead \"$2\"";
        let mut mount = Command::new("bash");
        let output = mount.args(["-c", script, "bash", kind]).arg(path).output().unwrap();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            skip("fuse", &format!("a FUSE mount without a server failed: {error}"));
            return None;
        }
        let mount = DeadMount(path.to_owned());
        assert!(path.symlink_metadata().is_err(), "the mount of a dead server can be looked at");
        Some(mount)
    }
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The entry is reported by its name, all else is read, also after a restart, and it is read when it has healed.
fn one_broken_entry(name: &str, is_dir: bool) {
    let host = Host::poll_only();
    let (mut writer, _) = host.audit_file(1, 10);
    let mut agent = host.start();
    agent.until("the first file is delivered", || host.delivered() == 10);
    let broken = host.audit().join(name);
    let hidden = if is_dir {
        fs::create_dir(&broken).unwrap();
        None
    } else {
        let hidden = writer.create(name);
        writer.append(&hidden, 10);
        agent.until("the other file is delivered", || host.delivered() == 20);
        Some(hidden)
    };
    let before = writer.count();
    let Some(mount) = DeadMount::on(&broken) else {
        return;
    };
    agent.until_logged(broken.to_str().unwrap());
    agent.until_logged("not connected");
    let next = writer.create(&file_name(6, 0));
    writer.append(&next, 10);
    agent.until("a new file next to it is delivered", || host.delivered() == before + 10);
    assert_eq!(agent.stop(), 0);
    let mut agent = host.start();
    writer.append(&next, 10);
    agent.until("it goes on after a restart", || host.delivered() == before + 20);
    agent.until_logged(broken.to_str().unwrap());
    let printed = host.check();
    let reported = printed.stdout.contains(broken.to_str().unwrap());
    assert_eq!(reported, !is_dir, "only an audit file is missed: {}", printed.stdout);
    assert!(printed.stdout.contains("all readable"), "{}", printed.stdout);
    drop(mount);
    if let Some(hidden) = hidden {
        writer.append(&hidden, 10);
        agent.until("it is read when it has healed", || host.delivered() == writer.count());
        agent.until_logged("can be read again");
    }
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    let state = host.export().to_string();
    assert!(state.contains("\"losses\":[]"), "nothing was lost: {state}");
}

#[test]
fn f89_a_broken_audit_file_hides_no_other() {
    one_broken_entry(&file_name(5, 1), false);
}

#[test]
fn f89_a_broken_foreign_entry_hides_nothing() {
    one_broken_entry("archive", true);
}

/// The same in the quarantine: what can be looked at is listed and counted.
#[test]
fn f89_a_broken_entry_of_the_quarantine_hides_no_other() {
    let host = Host::new();
    let state = host.state();
    fs::create_dir(&state).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(&state, private).unwrap();
    let entry = |id: &str| confluence_audit_agent::quarantine::Entry {
        id: id.into(),
        sink: "local".into(),
        source: "wiki".into(),
        event: "{}".into(),
        ..Default::default()
    };
    let (first, second) = (format!("{:032x}", 1u128 << 124), format!("{:032x}", 2u128 << 124));
    for (at, id) in [(1, &first), (2, &second)] {
        confluence_audit_agent::quarantine::put(&state, at, &[entry(id)]).unwrap();
    }
    let files = confluence_audit_agent::quarantine::files(&state).unwrap();
    let broken = &files[0].0;
    let Some(_mount) = DeadMount::on(broken) else {
        return;
    };
    let mut list = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    let output = list.args(["quarantine", "list", "--state"]).arg(&state).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (listed, reported) = (text(&output.stdout), text(&output.stderr));
    assert!(listed.contains(&second[..12]) && !listed.contains(&first[..12]), "{listed}{reported}");
    assert!(reported.contains(broken.to_str().unwrap()), "{reported}");
    let printed = host.check().stdout;
    assert!(printed.contains("1 event is kept") && printed.contains(broken.to_str().unwrap()), "{printed}");
    let mut agent = host.start();
    agent.until_logged(broken.to_str().unwrap());
    agent.until_logged("events=1");
    assert_eq!(agent.stop(), 0);
}
