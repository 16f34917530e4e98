//! Full disks: of the state, while running and at the start, and of the output.

use crate::rig::oracle::events;
use crate::rig::{Agent, Host, LogFile, SOON, Writer, file_name, judge, outputs, skip, until};
use confluence_audit_agent::checkpoint::Store;
use confluence_audit_agent::clock;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// A file system of its own, away again when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// `None`, a skip, where this process may not mount.
    pub fn mount(dir: PathBuf, megabytes: u32) -> Option<Disk> {
        fs::create_dir_all(&dir).unwrap();
        let size = format!("size={megabytes}m,mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&dir).output();
        if !mount.is_ok_and(|mount| mount.status.success()) {
            skip("mount", "this process may not mount; `unshare -Urm cargo test` lets it");
            return None;
        }
        Some(Disk(dir))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.0.join("ballast")).unwrap();
        while ballast.write_all(&[b'x'; 4096]).is_ok() {}
        while ballast.write_all(b"x").is_ok() {}
    }

    /// As the kernel does it to a disk with errors.
    pub fn make_read_only(&self) {
        let mount = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(mount.unwrap().success());
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn delivered(agent: &mut Agent, host: &Host, records: usize) {
    agent.until(&format!("{records} records are delivered"), || host.delivered() >= records);
}

/// Files with paths so long that each commit takes many bytes: sled keeps room for hundreds of small ones.
struct Deep {
    writer: Writer,
    files: Vec<LogFile>,
}

impl Deep {
    fn new(host: &mut Host) -> Deep {
        let dir = host.path("deep").join(vec!["d".repeat(200); 15].join("/"));
        fs::create_dir_all(&dir).unwrap();
        host.source += &format!("files = [{:?}]\n", dir.join("*.audit.log"));
        let mut writer = Writer::new(&dir, 24);
        let files = (1..=8).map(|day| writer.create(&file_name(day, 0))).collect();
        Deep { writer, files }
    }

    fn append(&mut self, records: usize) {
        self.files.iter().for_each(|file| self.writer.append(file, records));
    }

    /// Writes until positions cannot be stored any more.
    fn append_until_reported(&mut self, agent: &mut Agent, host: &Host) {
        while agent.log_count("no space left to store positions") == 0 {
            self.append(1);
            let count = self.writer.count();
            delivered(agent, host, count);
            assert!(count < 100_000, "{}", agent.stderr());
        }
    }
}

/// An agent whose positions can no longer be stored, as the disk of its state is full. `None`, a skip, where there is
/// no mount.
fn start_with_full_state_disk(host: &mut Host) -> Option<(Disk, Deep, Agent)> {
    let disk = Disk::mount(host.state(), 8)?;
    let mut deep = Deep::new(host);
    let mut agent = host.start();
    deep.append(1);
    delivered(&mut agent, host, 8);
    disk.fill();
    deep.append_until_reported(&mut agent, host);
    Some((disk, deep, agent))
}

/// The state's disk fills up while events flow: said once, nothing is reset, delivery goes on for as much as was
/// allowed and then reading pauses. When there is room again the checkpoint catches up, without a restart.
#[test]
fn f24_enospc() {
    let mut host = Host::new();
    host.root += "uncommitted_bytes_max = \"2MiB\"\n";
    // Small blocks, so that the pause comes between two of them.
    host.source += "read_bytes = \"16KiB\"\n";
    let Some((disk, mut deep, mut agent)) = start_with_full_state_disk(&mut host) else {
        return;
    };
    let (reported, reported_bytes) = (host.delivered(), output_bytes(&host));
    deep.append(1);
    agent.until("delivery goes on for a while", || host.delivered() > reported);
    // As much as may be delivered without a position; a little of that was on its way before.
    while !(paused(&host, &deep.writer) && output_bytes(&host) > reported_bytes + 3 * MIB / 2) {
        deep.append(20);
        assert!(deep.writer.count() < 100_000, "reading did not pause");
    }
    let printed = "no space left to store positions";
    assert_eq!(agent.log_count(printed), 1, "{}", agent.stderr());
    disk.free();
    agent.until_logged("positions are stored again");
    delivered(&mut agent, &host, deep.writer.count());
    assert_eq!(agent.log_count("ERROR"), 1, "{}", agent.stderr());
    agent.kill();
    let again = host.once_ok();
    assert!(!again.stderr.contains("ERROR"), "{}", again.stderr);
    judge(&deep.writer, &host.events()).is_exact();
}

fn output_bytes(host: &Host) -> u64 {
    fs::metadata(host.output()).unwrap().len()
}

/// Whether what was written is not read although there was time to.
fn paused(host: &Host, writer: &Writer) -> bool {
    let before = host.delivered();
    let by = clock::monotonic() + Duration::from_millis(600);
    until(SOON, "it is read, or the time is over", || host.delivered() > before || clock::monotonic() > by);
    host.delivered() == before && before < writer.count()
}

/// Stopping while positions cannot be stored is no success: the next start does it again, and the output holds
/// nothing twice even so.
#[test]
fn f24_a_stop_without_room_is_reported() {
    let mut host = Host::new();
    let Some((disk, mut deep, mut agent)) = start_with_full_state_disk(&mut host) else {
        return;
    };
    deep.append(1);
    delivered(&mut agent, &host, deep.writer.count());
    assert_eq!(agent.stop(), 75, "{}", agent.stderr());
    assert_eq!(agent.log_count("is delivered and checkpointed"), 0, "{}", agent.stderr());
    disk.free();
    let again = host.once_ok();
    again.logged("contains events after the checkpoint");
    judge(&deep.writer, &host.events()).is_exact();
}

/// No room at the start: the agent leaves at once and has not changed a byte.
#[test]
fn f24_enospc_at_start() {
    let host = Host::new();
    let Some(disk) = Disk::mount(host.state(), 8) else {
        return;
    };
    let (mut writer, file) = host.audit_file(24, 10);
    host.once_ok();
    writer.append(&file, 10);
    disk.fill();
    let before = contents(&host.state());
    let output = fs::read(host.output()).unwrap();
    let refused = host.once_code(75);
    refused.logged("no space left");
    assert!(contents(&host.state()) == before, "the state was changed");
    assert_eq!(fs::read(host.output()).unwrap(), output);
    disk.free();
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
    let opened = Store::open(&host.state()).unwrap();
    assert_eq!(opened.recovered, []);
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    all
}

/// The output's disk fills up in the middle of an event: reading waits, and goes on with the very next byte.
#[test]
fn f24_output_disk_full() {
    for killed in [false, true] {
        let mut host = Host::new();
        host.sink = "rotate_bytes = \"200KiB\"\nrotate_daily = false\nrotated_files_max = 1000\n".into();
        fs::create_dir_all(host.path("out")).unwrap();
        let Some(disk) = Disk::mount(host.path("out"), 4) else {
            return;
        };
        let (mut writer, file) = host.audit_file(25, 10);
        let mut agent = host.start();
        delivered(&mut agent, &host, 10);
        disk.fill();
        writer.append(&file, 500);
        agent.until_logged("cannot write events");
        assert_eq!(agent.log_count("cannot write events"), 1);
        if killed {
            // Time enough for a checkpoint of what was read, which must not be made before it is written.
            let at = clock::monotonic() + Duration::from_millis(500);
            agent.until("a checkpoint would be due", || clock::monotonic() >= at);
            agent.kill();
            agent = host.start();
            agent.until_logged("cannot write events");
        }
        disk.free();
        let all = || events(&outputs(&host).concat());
        agent.until("all of it is delivered", || all().len() >= writer.count());
        agent.until_logged("writing events works again");
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        judge(&writer, &all()).is_exact();
    }
}

/// A single run does not wait for ever for room: it ends with a code of its own, and the next one does the rest.
#[test]
fn f24_output_disk_full_ends_a_single_run() {
    let host = Host::new();
    fs::create_dir_all(host.path("out")).unwrap();
    let Some(disk) = Disk::mount(host.path("out"), 4) else {
        return;
    };
    let (mut writer, file) = host.audit_file(25, 10);
    host.once_ok();
    disk.fill();
    writer.append(&file, 500);
    let full = host.once_code(75);
    full.logged("No space left on device");
    disk.free();
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}
