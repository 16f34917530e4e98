//! Files that are rotated, truncated, replaced, while the agent runs and while it does not.

use crate::rig::{Agent, Host, SOON, Writer, descriptors, file_name, judge, until};
use rustix::process::Signal;
use std::fs::{self, OpenOptions};
use std::path::Path;

const TRUNCATED: &str = "was truncated or rewritten";

/// A writer appends to a file for a while after the next one has appeared, and after that one was read.
pub fn rotate_while_writing(host: &Host, wrapper: &[&str]) -> Agent {
    let mut writer = Writer::new(&host.audit(), 1);
    let mut agent = host.start_as(wrapper);
    let mut file = writer.create(&file_name(5, 0));
    writer.append(&file, 500);
    for number in 1..20 {
        let next = writer.create(&file_name(5, number));
        for _ in 0..5 {
            writer.append(&next, 20);
            writer.append(&file, 75);
            agent.until("what was written is delivered", || host.delivered() >= writer.count());
        }
        writer.append(&file, 25);
        file = next;
    }
    assert_eq!(writer.count(), 10_000);
    agent.until("everything is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    agent
}

#[test]
fn f01_drains_predecessor() {
    rotate_while_writing(&Host::new(), &[]);
}

#[test]
fn f13_poll_only_f01_drains_predecessor() {
    rotate_while_writing(&Host::poll_only(), &[]);
}

#[derive(Clone, Copy, PartialEq)]
enum Style {
    NextName,
    Rename,
    RenameAndDeleteTheReadOne,
}

/// Three rotations and records before, between and after them while the agent is down.
fn rotated_while_down(mut host: Host, style: Style, stop: Signal) {
    host.set("files", &format!("[\"{}/*.audit.log*\"]", host.audit().display()));
    let mut writer = Writer::new(&host.audit(), 2);
    let name = if style == Style::NextName { file_name(5, 0) } else { "wiki.audit.log".to_owned() };
    let mut file = writer.create(&name);
    writer.append(&file, 50);
    let mut agent = host.start();
    agent.until("the first records are delivered", || host.delivered() >= 50);
    if style != Style::RenameAndDeleteTheReadOne {
        writer.append(&file, 500);
    }
    if style == Style::RenameAndDeleteTheReadOne {
        // It must be checkpointed as well: an output is cut to the checkpoint, and what is deleted cannot be read
        // again.
        assert_eq!(agent.stop(), 0);
        agent = host.start();
        let (pid, path) = (agent.pid(), file.path.clone());
        agent.until("the agent is at work again", || is_open(pid, &path));
    }
    agent.signal(stop);
    agent.wait(SOON);
    for rotation in 1..=3u32 {
        if style != Style::RenameAndDeleteTheReadOne || rotation > 1 {
            writer.append(&file, 20);
        }
        file = match style {
            Style::NextName => writer.create(&file_name(5, rotation)),
            _ => {
                let next = writer.rename_and_create(&mut file, &format!("wiki.audit.log.{rotation}"));
                if style == Style::RenameAndDeleteTheReadOne && rotation == 1 {
                    fs::remove_file(&file.path).unwrap();
                }
                next
            }
        };
        writer.append(&file, 20);
    }
    let mut agent = host.start();
    agent.until("everything is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

fn all_rotated_while_down(host: fn() -> Host) {
    for style in [Style::NextName, Style::Rename, Style::RenameAndDeleteTheReadOne] {
        for stop in [Signal::TERM, Signal::KILL] {
            rotated_while_down(host(), style, stop);
        }
    }
}

#[test]
fn f02_rotated_while_down() {
    all_rotated_while_down(Host::new);
}

#[test]
fn f13_poll_only_f02_rotated_while_down() {
    all_rotated_while_down(Host::poll_only);
}

/// Renamed and deleted under the agent's hands, by a writer that goes on writing to its old descriptor.
fn rotated_while_running(mut host: Host) {
    // Eleven files within the shutdown timeout: what a cap on open files does to a deleted one is not the question
    // here.
    host.set("open_files_max", "64");
    host.set("deleted_files_max", "64");
    // Nor is it how long the writer takes between deleting a file and writing to it once more.
    host.set("rotate_grace", "\"1h\"");
    host.set("files", &format!("[\"{}/*.audit.log*\"]", host.audit().display()));
    let mut writer = Writer::new(&host.audit(), 3);
    let mut agent = host.start();
    let mut file = writer.create("wiki.audit.log");
    file.keep_open();
    for rotation in 1..=5 {
        writer.append(&file, 50);
        let next = writer.rename_and_create(&mut file, &format!("wiki.audit.log.{rotation}"));
        writer.append(&next, 50);
        writer.append(&file, 50);
        agent.until("all of both is delivered", || host.delivered() >= writer.count());
        file = next;
        file.keep_open();
    }
    for _ in 0..5 {
        // A deleted file is read to its end when a descriptor was there in time; that is when it was being read.
        writer.append(&file, 50);
        agent.until("all is delivered", || host.delivered() >= writer.count());
        let next = writer.delete_and_create(&file);
        writer.append(&file, 50);
        writer.append(&next, 50);
        agent.until("the deleted one and the new one are delivered", || host.delivered() >= writer.count());
        file = next;
        file.keep_open();
    }
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f02_rotated_while_running() {
    rotated_while_running(Host::new());
}

#[test]
fn f13_poll_only_f02_rotated_while_running() {
    rotated_while_running(Host::poll_only());
}

pub fn is_open(pid: u32, path: &Path) -> bool {
    descriptors(pid).iter().any(|open| open == path)
}

/// The writer's file is copied away and truncated, and it goes on through its descriptor.
fn copytruncate(host: &Host, running: bool) {
    let mut writer = Writer::new(&host.audit(), 6);
    let mut file = writer.create(&file_name(5, 0));
    file.keep_open();
    writer.append(&file, 50);
    let mut agent = host.start();
    agent.until("the first records are delivered", || host.delivered() >= 50);
    if !running {
        assert_eq!(agent.stop(), 0);
    }
    writer.copy_and_truncate(&mut file, &host.path("copy"));
    writer.append(&file, 30);
    if !running {
        agent = host.start();
    }
    agent.until("what came after is delivered", || host.delivered() >= writer.count());
    writer.append(&file, 100);
    agent.until("it goes on", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    assert_eq!(agent.log_count(TRUNCATED), 1, "{}", agent.stderr());
}

#[test]
fn f04_copytruncate() {
    copytruncate(&Host::new(), true);
    copytruncate(&Host::new(), false);
}

/// What a file still holds after it was cut is read again and recognised: nothing is counted as its own twin.
#[test]
fn f04_what_a_cut_file_still_holds_is_recognised() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(44, 5);
    let kept = fs::metadata(&file.path).unwrap().len();
    writer.append(&file, 5);
    let mut agent = host.start();
    agent.until("the file is read", || host.delivered() == 10);
    let open = OpenOptions::new().write(true).open(&file.path).unwrap();
    open.set_len(kept).unwrap();
    writer.append(&file, 5);
    agent.until_logged(TRUNCATED);
    agent.until("what was written since is delivered", || host.delivered() == 15);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f13_poll_only_f04_copytruncate() {
    copytruncate(&Host::poll_only(), true);
    copytruncate(&Host::poll_only(), false);
}

/// Between two looks of the agent the file is truncated and is longer than before again.
fn truncate_and_overtake(host: &Host) {
    let (mut writer, mut file) = host.audit_file(7, 50);
    let mut agent = host.start();
    agent.until("the first records are delivered", || host.delivered() >= 50);
    agent.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", agent.pid());
    until(SOON, "the agent stands still", || fs::read_to_string(&stat).unwrap().contains(") T "));
    let size = fs::metadata(&file.path).unwrap().len();
    writer.truncate(&mut file);
    writer.append(&file, 80);
    assert!(fs::metadata(&file.path).unwrap().len() > size);
    agent.signal(Signal::CONT);
    agent.until("what came after is delivered", || host.delivered() >= writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    assert_eq!(agent.log_count(TRUNCATED), 1, "{}", agent.stderr());
    let events = host.events();
    let reported = events.iter().filter(|event| event.text("/event/action") == "agent.file.tampered");
    assert_eq!(reported.count(), 1);
}

#[test]
fn f05_truncate_and_overtake() {
    truncate_and_overtake(&Host::new());
}

#[test]
fn f13_poll_only_f05_truncate_and_overtake() {
    truncate_and_overtake(&Host::poll_only());
}
