//! Limits of the host: descriptors, inotify, disk held by deleted files.

use super::rotation::rotate_while_writing;
use crate::rig::{Host, Writer, descriptors, file_name, judge, oracle, skip};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

/// How many files below `dir` a process holds open, and of these how many are deleted.
fn open_descriptors(pid: u32, dir: &Path) -> (usize, usize) {
    let files: Vec<PathBuf> = descriptors(pid)
        .into_iter()
        .filter(|path| path.to_string_lossy().contains(".audit.log") && path.starts_with(dir))
        .collect();
    let deleted = files.iter().filter(|path| path.to_string_lossy().ends_with(" (deleted)")).count();
    (files.len(), deleted)
}

fn pending(writer: &mut Writer, files: u32) {
    for number in 0..files {
        let file = writer.create(&file_name(5, number));
        writer.append(&file, 20);
    }
}

/// A backlog of 100 files with 32 descriptors: few are open at once, and all are delivered.
#[test]
fn f14_emfile() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 1);
    pending(&mut writer, 100);
    let mut agent = host.start_as(&["prlimit", "--nofile=32:32"]);
    let (pid, mut most) = (agent.pid(), 0);
    agent.until("all is delivered", || {
        most = most.max(open_descriptors(pid, &host.audit()).0);
        host.delivered() >= writer.count()
    });
    assert_eq!(agent.stop(), 0);
    assert!((1..=8).contains(&most), "{most} audit files were open at once");
    assert_eq!(agent.log_count("no file descriptor"), 0, "{}", agent.stderr());
    judge(&writer, &host.events()).is_exact();
}

/// Allowed to open more files than there are descriptors: what cannot be opened waits and is not skipped.
#[test]
fn f14_emfile_waits() {
    let mut host = Host::new();
    host.set("open_files_max", "1000");
    let mut writer = Writer::new(&host.audit(), 2);
    pending(&mut writer, 100);
    let mut agent = host.start_as(&["prlimit", "--nofile=32:32"]);
    agent.until("all is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// Ten files are rotated and deleted while the sink takes nothing. Four are held, and of the others the ledger has
/// every byte.
#[test]
fn f15_deleted_pin_cap() {
    let mut host = Host::new();
    host.stdout = true;
    let mut writer = Writer::new(&host.audit(), 3);
    let first = writer.create(&file_name(5, 0));
    // More than may be on its way to a sink: the agent stops in the middle of the first file.
    writer.append(&first, 3_000);
    let mut files = vec![first];
    for number in 1..=10 {
        let file = writer.create(&file_name(5, number));
        writer.append(&file, 100);
        files.push(file);
    }
    let mut command = host.command(&[], &[]);
    command.stdout(Stdio::piped());
    let mut agent = host.spawn(command);
    let pid = agent.pid();
    agent.until("what comes next is held open", || open_descriptors(pid, &host.audit()).0 == 8);
    let contents: Vec<(PathBuf, Vec<u8>)> =
        files.iter().map(|file| (file.path.clone(), fs::read(&file.path).unwrap())).collect();
    files[..10].iter().for_each(|file| fs::remove_file(&file.path).unwrap());
    agent.until("four are held", || open_descriptors(pid, &host.audit()).1 == 4);

    let output = Arc::new(Mutex::new(Vec::new()));
    let mut pipe = agent.child().stdout.take().unwrap();
    let reader = std::thread::spawn({
        let output = output.clone();
        move || {
            let mut block = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = pipe.read(&mut block) {
                output.lock().unwrap().extend_from_slice(&block[..read]);
            }
        }
    });
    let expected = writer.count() - 6 * 100;
    agent.until("what was held is delivered", || {
        memchr::memchr_iter(b'\n', &output.lock().unwrap()).count() >= expected
    });
    assert_eq!(agent.stop(), 0);
    reader.join().unwrap();

    let judged = judge(&writer, &oracle::events(&output.lock().unwrap()));
    assert!(judged.damaged.is_empty() && judged.disorder.is_empty() && judged.repeated.is_empty());
    let export = host.export();
    let losses = export["sources"]["wiki"]["losses"].as_array().expect("a ledger");
    let (mut lost, mut lost_bytes) = (BTreeSet::new(), 0);
    for loss in losses {
        let (from, to) = (loss["from"].as_u64().unwrap(), loss["to"].as_u64().unwrap());
        let (_, content) = contents
            .iter()
            .find(|(path, _)| loss["path"] == path.to_str().unwrap())
            .expect("a file that was there");
        assert!(to <= content.len() as u64, "{loss}");
        lost_bytes += to - from;
        let lines = content[from as usize..to as usize].split(|&byte| byte == b'\n');
        lost.extend(lines.filter_map(crate::rig::check));
    }
    assert_eq!(judged.missing, Vec::from_iter(lost), "what is missing is in the ledger");
    let unread: usize = contents[4..10].iter().map(|(_, content)| content.len()).sum();
    assert_eq!(lost_bytes, unread as u64);
    assert_eq!(export["sources"]["wiki"]["lost_bytes_total"], lost_bytes);
}

/// No inotify instance is to be had: one warning, and the verdict of F01 all the same.
#[test]
fn f60_inotify_enospc() {
    let none = "echo 0 > /proc/sys/user/max_inotify_instances";
    let may = Command::new("unshare").args(["-Ur", "sh", "-c", none]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        return skip("user-namespace", "this host does not let a test take inotify away (unshare -Ur)");
    }
    let script = format!("{none}; exec \"$@\"");
    let mut host = Host::new();
    host.set("sweep_interval", "\"100ms\"");
    let agent = rotate_while_writing(&host, &["unshare", "-Ur", "sh", "-c", &script, "sh"]);
    assert_eq!(agent.log_count("inotify instances"), 1, "{}", agent.stderr());
    assert_eq!(agent.log_count("WARN"), 1, "{}", agent.stderr());
}
