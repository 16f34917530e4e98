//! Where reading begins and which files are found.

use crate::rig::{Host, Writer, file_name, judge};
use std::fs;

/// `start_at = "end"`: what stood there is left alone, but for the line that was being written.
#[test]
fn start_at_end() {
    let mut host = Host::new();
    host.set("start_at", "\"end\"");
    let mut old = Writer::new(&host.audit(), 98);
    for number in 0..3 {
        let file = old.create(&file_name(4, number));
        old.append(&file, 20);
    }
    let growing = old.create(&file_name(5, 0));
    old.append(&growing, 20);
    let mut writer = Writer::new(&host.audit(), 1);
    let begun = writer.record(&growing);
    let (half, rest) = begun.split_at(begun.len() / 2);
    growing.write(half);
    let first = host.once();
    first.logged("delivered 0 events");

    growing.write(rest);
    writer.append(&growing, 5);
    let mut agent = host.start();
    agent.until("what is new is delivered", || host.delivered() == writer.count());
    let next = writer.create(&file_name(5, 1));
    writer.append(&next, 5);
    // Older by its name, but it was not there at the start.
    let late = writer.create(&file_name(4, 9));
    writer.append(&late, 5);
    agent.until("new files are delivered from their beginning", || host.delivered() == writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

/// Many files in many directories, found by patterns that overlap, and a directory that comes later.
#[test]
fn globs_find_many_files_in_many_directories() {
    let mut host = Host::new();
    let node = |number: u32| host.path(&format!("nodes/node{number}/audit"));
    let patterns = ["node*/audit/*.audit.log", "node1*/audit/2026*.audit.log"]
        .map(|pattern| format!("{:?}", host.path("nodes").join(pattern)));
    (0..10).for_each(|number| fs::create_dir_all(node(number)).unwrap());
    let (mut numbered, mut files) = (Writer::new(&host.path("nodes"), 2), Vec::new());
    for number in 0..10 {
        for day in 1..=20 {
            let file = numbered.create(&format!("node{number}/audit/{}", file_name(day, 0)));
            numbered.append(&file, 5);
            files.push(file);
        }
    }
    fs::write(node(0).join("other.log"), "{}\n").unwrap();
    let late = node(10);
    host.set("files", &format!("[{}]", patterns.join(", ")));
    let mut agent = host.start();
    agent.until("all is delivered", || host.delivered() == numbered.count());
    fs::create_dir_all(&late).unwrap();
    files.push(numbered.create(&format!("node10/audit/{}", file_name(1, 0))));
    for file in files.iter().rev().step_by(20) {
        numbered.append(file, 5);
    }
    agent.until("the growing ones and the late one go on", || host.delivered() == numbered.count());
    assert_eq!(agent.stop(), 0);
    judge(&numbered, &host.events()).is_exact();
}
