//! Files with holes: much to read, and nothing in it.

use crate::rig::{Event, Host, Writer, append, file_name, judge, skip};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const TIB: u64 = 1 << 40;

/// Extends the file to this length without writing to it. Whether the file system has holes and reports them.
fn extend(path: &Path, bytes: u64) -> bool {
    let file = File::options().write(true).open(path).unwrap();
    let reports = file.set_len(bytes).is_ok() && {
        let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(bytes / 2));
        data == Err(rustix::io::Errno::NXIO)
    };
    if !reports {
        skip("sparse-files", "this file system does not report where a file has holes");
    }
    reports
}

/// Without the events that report holes.
fn records(host: &Host) -> Vec<Event> {
    let mut events = host.events();
    events.retain(|event| event.json["event"]["kind"] != "pipeline_error");
    events
}

/// Cut off in a record, then a hole of 1 TiB, then records: in the first of two files. To read the hole would take
/// minutes.
#[test]
fn f93_a_hole_is_not_read() {
    let host = Host::new();
    let (mut writer, first) = host.audit_file(1, 10);
    append(&first.path, b"{\"cut\":");
    if !extend(&first.path, TIB) {
        return;
    }
    // The cut record and the hole are one event besides the records.
    writer.append(&first, 10);
    let second = writer.create(&file_name(5, 1));
    writer.append(&second, 10);
    let mut agent = host.start();
    agent.until("both files are delivered", || host.delivered() == 31);
    assert!(fs::metadata(&first.path).unwrap().blocks() * 512 < 1 << 20, "there is a hole");
    // Another hole, at the end of the file that grows.
    let length = fs::metadata(&second.path).unwrap().len();
    assert!(extend(&second.path, length + TIB));
    let third = writer.create(&file_name(5, 2));
    writer.append(&third, 10);
    agent.until("what comes behind it is delivered", || host.delivered() == 42);
    assert_eq!(agent.stop(), 0);
    let output = fs::read_to_string(host.output()).unwrap();
    let reported = output.lines().filter(|line| line.contains("a run of NUL bytes")).count();
    assert_eq!(reported, 2);
    // Again from the beginning, and not a second time.
    let once = host.once();
    assert_eq!((once.code, host.delivered()), (0, 42), "{}", once.stderr);
    judge(&writer, &records(&host)).is_exact();
}

/// Nothing but a hole, and nothing behind it yet: a start, a stop and another start take no time, nor does its end.
#[test]
fn f93_a_hole_without_an_end() {
    for start_at in ["beginning", "end"] {
        let mut host = Host::new();
        host.set("start_at", &format!("{start_at:?}"));
        let mut writer = Writer::new(&host.audit(), 1);
        let file = writer.create(&file_name(5, 0));
        if !extend(&file.path, TIB) {
            return;
        }
        for _ in 0..2 {
            host.once_ok();
        }
        append(&file.path, b"\n");
        writer.append(&file, 10);
        let mut agent = host.start();
        let hole = usize::from(start_at == "beginning");
        agent.until("what is written behind it is delivered", || host.delivered() == 10 + hole);
        assert_eq!(agent.stop(), 0);
        judge(&writer, &records(&host)).is_exact();
    }
}
