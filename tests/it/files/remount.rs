//! The audit directory on another device, as after a remount of a network file system.

use crate::full::Disk;
use crate::rig::{Agent, Host, Writer, file_name, judge};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

const RECOGNISED: &str = "audit file has another path, device or inode than before";

/// The agent's audit directory is one of two file systems, in a mount namespace of its own.
struct Mounts {
    host: Host,
    disks: [Disk; 2],
}

impl Mounts {
    fn new(host: Host) -> Option<Mounts> {
        let disks = ["first", "second"].map(|name| Disk::mount(host.path(name), 8));
        let [Some(first), Some(second)] = disks else {
            return None;
        };
        Some(Mounts { host, disks: [first, second] })
    }

    fn path(&self, disk: usize) -> PathBuf {
        self.disks[disk].path().to_owned()
    }

    fn start(&self, disk: usize) -> Agent {
        let (disk, audit) = (self.path(disk), self.host.audit());
        let script = "mount --bind \"$0\" \"$1\"; shift; exec \"$@\"";
        let (disk, audit) = (disk.to_str().unwrap(), audit.to_str().unwrap());
        self.host.start_as(&["unshare", "--mount", "sh", "-ec", script, disk, audit])
    }

    /// The other file system takes the place of the first while the agent runs.
    fn remount(&self, agent: &Agent) {
        for (command, path) in
            [(["umount", "-l"].as_slice(), None), (&["mount", "--bind"], Some(self.path(1)))]
        {
            let status = Command::new("nsenter")
                .arg(format!("--mount=/proc/{}/ns/mnt", agent.pid()))
                .args(command)
                .args(path)
                .arg(self.host.audit())
                .status();
            assert!(status.unwrap().success(), "{command:?}");
        }
    }
}

fn another_device(host: Host, running: bool) {
    let Some(mounts) = Mounts::new(host) else {
        return;
    };
    let host = &mounts.host;
    let mut writer = Writer::new(&mounts.path(0), 13);
    let files = [0, 1].map(|number| writer.create(&file_name(5, number)));
    for file in &files {
        writer.append(file, 20);
    }
    let mut agent = mounts.start(0);
    agent.until("the first file system is read", || host.delivered() == 40);
    if !running {
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    }
    for file in &files {
        let copy = mounts.path(1).join(file.path.file_name().unwrap());
        // Copied in order of writing, under other inodes.
        fs::copy(&file.path, &copy).unwrap();
        let [before, after] = [&file.path, &copy].map(|path| fs::metadata(path).unwrap());
        assert_ne!(before.dev(), after.dev());
    }
    if running {
        mounts.remount(&agent);
    } else {
        agent = mounts.start(1);
    }
    let log = agent.stderr_path();
    agent.until("both files are recognised", || {
        fs::read_to_string(&log).unwrap().matches(RECOGNISED).count() == 2
    });
    // What is written from here on is on the new device only.
    let mut moved = files;
    for file in &mut moved {
        file.path = mounts.path(1).join(file.path.file_name().unwrap());
        writer.append(file, 10);
    }
    agent.until("the second file system is read", || host.delivered() == 60);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f13_another_device_after_a_restart() {
    another_device(Host::new(), false);
    another_device(Host::poll_only(), false);
}

#[test]
fn f13_another_device_while_running() {
    another_device(Host::new(), true);
    another_device(Host::poll_only(), true);
}
