//! Copies of audit files, what `copytruncate` leaves, and files that something compressed.

use crate::rig::{Agent, Event, Host, LogFile, SOON, Writer, append, file_name, judge};
use flate2::write::GzEncoder;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A host that follows one growing file, and the file.
fn following(pattern: &str, seed: u64) -> (Host, Writer, LogFile) {
    let mut host = Host::new();
    host.set("files", &format!("[\"{}/{pattern}\"]", host.audit().display()));
    let mut writer = Writer::new(&host.audit(), seed);
    let file = writer.create("audit.log");
    (host, writer, file)
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// As `gzip FILE` does.
fn gzip_file(path: &Path) -> PathBuf {
    let to = PathBuf::from(format!("{}.gz", path.display()));
    fs::write(&to, gzip(&fs::read(path).unwrap())).unwrap();
    fs::remove_file(path).unwrap();
    to
}

#[track_caller]
fn until_all_delivered(agent: &mut Agent, host: &Host, writer: &Writer) {
    agent.until("everything is delivered", || host.delivered() >= writer.count());
}

/// F87: sixteen rotations by copying and truncating without a pause after the last burst; the copies do not match the
/// pattern.
#[test]
fn f87_copytruncate_loses_nothing_that_the_copy_has() {
    for pattern in ["audit.log", "audit.log*"] {
        let (host, mut writer, mut file) = following(pattern, 87);
        file.keep_open();
        let mut agent = host.start();
        for rotation in 0..16 {
            writer.append(&file, 20);
            until_all_delivered(&mut agent, &host, &writer);
            writer.append(&file, 20);
            let copy = host.audit().join(format!("audit.log.{rotation}"));
            writer.copy_and_truncate(&mut file, &copy);
            writer.append(&file, 1);
            until_all_delivered(&mut agent, &host, &writer);
        }
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        judge(&writer, &host.events()).is_exact();
    }
}

/// F86, F87: the same while the agent is stopped, and the copy is compressed at once.
#[test]
fn f87_copytruncate_while_stopped() {
    for (pattern, compressed) in [("audit.log", false), ("audit.log*", false), ("audit.log*", true)] {
        let (host, mut writer, mut file) = following(pattern, 88);
        file.keep_open();
        for rotation in 0..3 {
            writer.append(&file, 50);
            host.once_ok();
            writer.append(&file, 50);
            let copy = host.audit().join(format!("audit.log.{rotation}"));
            writer.copy_and_truncate(&mut file, &copy);
            if compressed {
                gzip_file(&copy);
            }
            writer.append(&file, 10);
            host.once_ok();
        }
        judge(&writer, &host.events()).is_exact();
    }
}

/// F86: copies of a delivered file, made while the agent runs and while it does not, whole and of its beginning; what
/// is written to one of them is new.
#[test]
fn f86_copies_are_not_delivered_again() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(86, 300);
    let mut agent = host.start();
    until_all_delivered(&mut agent, &host, &writer);
    let content = fs::read(&file.path).unwrap();
    let copies = ["old-1.audit.log", &file_name(4, 0), &file_name(6, 0)].map(|name| host.audit().join(name));
    append(&copies[0], &content);
    agent.until_logged("starts with content that was delivered");
    assert_eq!(agent.stop(), 0);
    append(&copies[1], &content[..content.len() / 2]);
    append(&copies[2], &content);
    let mut agent = host.start();
    let next = writer.create(&file_name(7, 0));
    writer.append(&next, 10);
    until_all_delivered(&mut agent, &host, &writer);
    let copy = LogFile::of(&copies[2], file.number);
    writer.append(&copy, 10);
    until_all_delivered(&mut agent, &host, &writer);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}

/// F86: a copy that is shorter than what was read, and its original is gone: it is read, and each of its events is
/// recognised.
#[test]
fn f86_a_copy_of_what_is_gone_is_recognised() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(85, 100);
    host.once_ok();
    let content = fs::read(&file.path).unwrap();
    let half = content.split_inclusive(|&byte| byte == b'\n').take(50);
    fs::write(host.audit().join("old.audit.log"), half.collect::<Vec<_>>().concat()).unwrap();
    fs::remove_file(&file.path).unwrap();
    let next = writer.create(&file_name(5, 1));
    writer.append(&next, 20);
    host.once_ok();
    writer.append(&next, 20);
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
}

/// F35: a file is replaced while the agent is stopped, and a copy of the old one is there. The records in the place of
/// those that were read are no twins of themselves: they have the ids that any other agent gives them.
#[test]
fn f35_records_of_a_replaced_file_are_no_twins_of_themselves() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(35, 20);
    host.once_ok();
    let copy = host.audit().join("old.audit.log");
    fs::copy(&file.path, &copy).unwrap();
    let file = writer.delete_and_create(&file);
    writer.append(&file, 60);
    host.once_ok();
    let delivered = host.events();
    judge(&writer, &delivered).is_exact();
    fs::remove_file(copy).unwrap();
    fs::remove_file(host.output()).unwrap();
    fs::remove_dir_all(host.state()).unwrap();
    host.once_ok();
    let again = host.events();
    assert_eq!(again.len(), 60);
    for event in again {
        let is_same = |other: &&Event| other.original == event.original;
        assert_eq!(delivered.iter().find(is_same).unwrap().id, event.id);
    }
}

/// F88: a file is compressed before it was read, after a part of it was, and after all of it was; the agent is killed
/// within.
#[test]
fn f88_compressed_files_are_read() {
    let mut host = Host::new();
    host.set("read_bytes", "\"4KiB\"");
    let mut writer = Writer::new(&host.audit(), 88);
    let first = writer.create(&file_name(4, 0));
    writer.append(&first, 100);
    host.once_ok();
    writer.append(&first, 4_000);
    gzip_file(&first.path);
    let second = writer.create(&file_name(5, 0));
    writer.append(&second, 100);
    let packed = zstd::bulk::compress(&fs::read(&second.path).unwrap(), 1).unwrap();
    fs::write(format!("{}.zst", second.path.display()), packed).unwrap();
    fs::remove_file(&second.path).unwrap();
    let third = writer.create(&file_name(6, 0));
    writer.append(&third, 10);
    let mut agent = host.start();
    agent.until("some of it is delivered", || host.delivered() > 500);
    agent.signal(Signal::KILL);
    agent.wait(SOON);
    let mut agent = host.start();
    until_all_delivered(&mut agent, &host, &writer);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    gzip_file(&third.path);
    let once = host.once_ok();
    judge(&writer, &host.events()).is_exact();
    assert!(!once.stderr.contains("lost"), "{}", once.stderr);
}

/// F88: what cannot be read is a warning, an event and a loss in the state, once; `check` names it.
#[test]
fn f88_an_unread_file_that_cannot_be_decompressed_is_reported() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 89);
    fs::write(host.audit().join("20260104.00000.audit.log.bz2"), b"BZh91AY&SY").unwrap();
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 10);
    fs::write(host.audit().join("20260103.00000.audit.log.gz"), gzip(b"")).unwrap();
    let first = host.once_ok();
    first.logged("audit records may be lost");
    let second = host.once();
    assert!(!second.stderr.contains("lost"), "{}", second.stderr);
    let events = host.events();
    let gaps = events.iter().filter(|event| event.text("/event/action") == "agent.source.gap");
    let gaps: Vec<_> = gaps.map(|event| event.text("/message")).collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].contains(".audit.log.bz2") && gaps[0].contains("decompress"), "{gaps:?}");
    judge(&writer, &events).is_exact();
    let check = host.check();
    assert!(check.stdout.contains("compressed in an unsupported way"), "{}", check.stdout);
    assert!(check.stdout.contains("compressed, and read like the others"), "{}", check.stdout);
}

/// F88: a few hundred kilobytes that are one line of 256 MiB: one malformed record, in constant memory.
#[test]
fn f88_a_decompression_bomb_takes_no_memory() {
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 90);
    let bomb = host.audit().join("20260104.00000.audit.log.gz");
    let mut encoder = GzEncoder::new(File::create(&bomb).unwrap(), flate2::Compression::fast());
    io::copy(&mut io::Read::take(io::repeat(b'a'), 256 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 10);
    let mut agent = host.start();
    agent.until("all is delivered", || host.delivered() == 11);
    let peak_kb = agent.status_kb("VmHWM");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let events = host.events();
    assert_eq!(events.iter().filter(|event| event.is_pipeline_error()).count(), 1);
    assert!(peak_kb < 128 * 1024, "{peak_kb} kB");
}
