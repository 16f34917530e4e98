//! Lines that are too long, too bad, too many: bounded memory and a bounded log.

use crate::rig::{Host, SOON, file_name, judge};
use std::fs::{self, File, OpenOptions};
use std::io::Write;

/// 200 MiB without LF between two records, by default `record_bytes_max` = 16 MiB.
#[test]
fn f09_long_line_bounded() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(5, 1);
    let offset = fs::metadata(&file.path).unwrap().len();
    let mut long = OpenOptions::new().append(true).open(&file.path).unwrap();
    for _ in 0..200 {
        long.write_all(&vec![b'x'; 1 << 20]).unwrap();
    }
    file.write(b"\n");
    writer.append(&file, 1);
    let mut agent = host.start();
    agent.until("both neighbours are delivered", || host.delivered() == 3);
    // The cap's worth of line while it might still be a record, and as much again for what the allocator and a debug
    // build of the agent take; the line itself is more than four times that.
    let peak_kb = agent.status_kb("VmHWM");
    assert!(peak_kb < 48 * 1024, "{peak_kb} kB");
    assert_eq!(agent.stop(), 0);
    let mut events = host.events();
    let error = events.remove(1);
    judge(&writer, &events).is_exact();
    assert!(error.is_pipeline_error());
    assert_eq!(error.json["log"]["offset"], offset);
    assert_eq!(error.original, Some("x".repeat(1024)));
    let message = error.text("/error/message");
    assert!(message.contains(&format!("{} bytes", 200 << 20)), "{message}");
}

/// What a host crash leaves behind: a part of the file that was never written.
#[test]
fn f11_nul_hole() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(7, 5);
    let open = OpenOptions::new().write(true).open(&file.path).unwrap();
    let offset = open.metadata().unwrap().len();
    open.set_len(offset + (1 << 20)).unwrap();
    writer.append(&file, 5);
    let mut agent = host.start();
    agent.until("all is delivered", || host.delivered() == 11);
    writer.append(&file, 5);
    agent.until("it goes on", || host.delivered() == 16);
    assert_eq!(agent.stop(), 0);
    let mut events = host.events();
    let error = events.remove(5);
    judge(&writer, &events).is_exact();
    assert!(error.is_pipeline_error());
    assert_eq!(error.json["log"]["offset"], offset);
    assert!(error.text("/error/message").contains("1048576 bytes"), "{}", error.json);
}

/// A flood of bad lines is summed up in the log, and no line of it is uncounted.
#[test]
fn f66_flood() {
    let host = Host::new();
    let path = host.audit().join(file_name(5, 0));
    File::create(&path).unwrap().write_all(&b"{bad}\n".repeat(100_000)).unwrap();
    let mut agent = host.start();
    agent.until_within(10 * SOON, "all are delivered", || host.delivered() == 100_000);
    assert_eq!(agent.stop(), 0);
    let printed = agent.stderr();
    let reported: u64 = printed
        .lines()
        .filter(|line| line.contains("a record cannot be read"))
        .map(|line| match line.split_once("repeated=") {
            Some((_, number)) => number.split_whitespace().next().unwrap().parse().unwrap(),
            None => 1,
        })
        .sum();
    assert_eq!(reported, 100_000, "{printed}");
    // One summary each ten seconds.
    assert!(printed.lines().count() < 100, "{printed}");
}
