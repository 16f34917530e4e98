//! Inodes that are used again.

use super::rotation::is_open;
use crate::rig::{Host, file_name, judge, skip};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const NO_REUSE: &str = "this file system does not use a deleted file's inode again";

/// Puts a file with a certain inode, which was just set free, at `path`. Made elsewhere: other tests want it too.
fn with_inode(host: &Host, path: &Path, inode: u64) -> bool {
    if fs::metadata(path).is_ok_and(|file| file.ino() == inode) {
        return true;
    }
    let mut others = Vec::new();
    for n in 0..2_000 {
        let other = host.path(&format!("other.{n}"));
        let found = File::create_new(&other).unwrap().metadata().unwrap().ino() == inode;
        if found {
            fs::rename(&other, path).unwrap();
        } else {
            others.push(other);
        }
        if found || n == 1_999 {
            others.iter().for_each(|other| fs::remove_file(other).unwrap());
            return found;
        }
    }
    false
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// A file is deleted and another one, longer than what was read of it, gets its inode; under the same name or another.
fn inode_reuse_starts_at_zero(host: &Host, name: &str) {
    let (mut writer, first) = host.audit_file(4, 50);
    let before = inode(&first.path);
    let mut agent = host.start();
    agent.until("the first file is delivered", || host.delivered() >= 50);
    assert_eq!(agent.stop(), 0);
    fs::remove_file(&first.path).unwrap();
    let second = writer.create(name);
    if !with_inode(host, &second.path, before) {
        return skip("inode-reuse", NO_REUSE);
    }
    writer.append(&second, 100);
    assert_eq!(inode(&second.path), before);
    let mut agent = host.start();
    agent.until("the second file is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f03_inode_reuse_starts_at_zero() {
    inode_reuse_starts_at_zero(&Host::new(), &file_name(5, 1));
    inode_reuse_starts_at_zero(&Host::new(), &file_name(5, 0));
}

#[test]
fn f13_poll_only_f03_inode_reuse_starts_at_zero() {
    inode_reuse_starts_at_zero(&Host::poll_only(), &file_name(5, 1));
    inode_reuse_starts_at_zero(&Host::poll_only(), &file_name(5, 0));
}

/// The inode of a file that the running agent has finished is used again.
#[test]
fn f03_inode_reuse_while_running() {
    let host = Host::new();
    let (mut writer, first) = host.audit_file(5, 50);
    let second = writer.create(&file_name(5, 1));
    writer.append(&second, 10);
    let before = inode(&first.path);
    let mut agent = host.start();
    agent.until("both are delivered", || host.delivered() >= 60);
    let pid = agent.pid();
    agent.until("the first is finished and closed", || !is_open(pid, &first.path));
    fs::remove_file(&first.path).unwrap();
    let third = writer.create(&file_name(5, 2));
    if !with_inode(&host, &third.path, before) {
        return skip("inode-reuse", NO_REUSE);
    }
    writer.append(&third, 100);
    agent.until("the third is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// What is no audit file by its name is none by its inode either.
#[test]
fn f03_inode_reuse_by_a_foreign_name() {
    let host = Host::new();
    let (mut writer, first) = host.audit_file(8, 10);
    let before = inode(&first.path);
    host.once_ok();
    assert_eq!(host.delivered(), 10);
    fs::remove_file(&first.path).unwrap();
    let foreign = host.audit().join("notes.txt");
    if !with_inode(&host, &foreign, before) {
        return skip("inode-reuse", NO_REUSE);
    }
    fs::write(&foreign, "not for this agent\n".repeat(2_000)).unwrap();
    assert_eq!(inode(&foreign), before);
    let second = writer.create(&file_name(5, 1));
    let mut agent = host.start();
    for _ in 0..5 {
        writer.append(&second, 10);
        agent.until("the audit file is delivered", || host.delivered() == writer.count());
    }
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}
