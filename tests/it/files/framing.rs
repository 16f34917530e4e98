//! What a record is: ends, halves, very long ones, bad bytes.

use crate::rig::{Agent, Event, Host, Random, SOON, Writer, append, file_name, judge, seed};
use rustix::process::Signal;
use std::fs;

/// Proves that the agent has looked at all its files several times: an older file grows and each growth is delivered.
fn wait_for_five_reads(host: &Host, agent: &mut Agent, writer: &mut Writer) {
    let older = writer.create(&file_name(1, 0));
    for _ in 0..5 {
        let before = host.delivered();
        writer.append(&older, 1);
        agent.until("a look of the agent", || host.delivered() > before);
    }
}

fn no_partial(mut host: Host) {
    // Whatever the length of a pause, it ends no record of a file that may still grow.
    host.set("rotate_grace", "\"0s\"");
    let (mut writer, file) = host.audit_file(1, 3);
    let mut agent = host.start();
    agent.until("the whole ones are delivered", || host.delivered() == 3);
    let record = writer.record(&file);
    let (half, rest) = record.split_at(record.len() * 6 / 10);
    file.write(half);
    wait_for_five_reads(&host, &mut agent, &mut writer);
    let (body, end) = rest.split_at(rest.len() - 1);
    file.write(body);
    wait_for_read_of_another_file(&host, &mut agent, &mut writer);
    assert_eq!(host.delivered(), writer.count() - 1, "nothing of the one without its end");
    file.write(end);
    agent.until("the record is delivered", || host.delivered() == writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

fn wait_for_read_of_another_file(host: &Host, agent: &mut Agent, writer: &mut Writer) {
    let before = host.delivered();
    let other = writer.create(&file_name(2, 0));
    writer.append(&other, 1);
    agent.until("a look of the agent", || host.delivered() > before);
}

#[test]
fn f06_no_partial() {
    no_partial(Host::new());
}

#[test]
fn f13_poll_only_f06_no_partial() {
    no_partial(Host::poll_only());
}

/// The same bytes in writes of any length are the same records.
#[test]
fn f06_split_anywhere() {
    let mut random = Random::new(seed("f06_split_anywhere"));
    let host = Host::new();
    let mut writer = Writer::new(&host.audit(), 2);
    let file = writer.create(&file_name(5, 0));
    let mut agent = host.start();
    let bytes: Vec<u8> = (0..200).flat_map(|_| writer.record(&file)).collect();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let most = [3, 100, 5_000][random.below(3) as usize];
        let (piece, after) = rest.split_at(rest.len().min(1 + random.below(most) as usize));
        file.write(piece);
        if random.below(20) == 0 {
            let whole = memchr::memchr_iter(b'\n', &bytes[..bytes.len() - after.len()]).count();
            agent.until("what is whole is delivered", || host.delivered() == whole);
        }
        rest = after;
    }
    agent.until("all is delivered", || host.delivered() == writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

fn partial_across_restart(host: &Host, stop: Signal) {
    let mut writer = Writer::new(&host.audit(), 3);
    let file = writer.create(&file_name(5, 0));
    let mut agent = host.start();
    let (whole, halved) = (writer.record(&file), writer.record(&file));
    let (half, rest) = halved.split_at(halved.len() / 2);
    // In one write, so that who has read the first has read the half as well.
    file.write(&[&whole, half].concat());
    agent.until("the whole one is delivered", || host.delivered() == 1);
    agent.signal(stop);
    agent.wait(SOON);
    file.write(rest);
    writer.append(&file, 5);
    let mut agent = host.start();
    agent.until("all is delivered", || host.delivered() == writer.count());
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f07_partial_across_restart() {
    partial_across_restart(&Host::new(), Signal::TERM);
    partial_across_restart(&Host::new(), Signal::KILL);
}

#[test]
fn f13_poll_only_f07_partial_across_restart() {
    partial_across_restart(&Host::poll_only(), Signal::TERM);
    partial_across_restart(&Host::poll_only(), Signal::KILL);
}

/// Two files that end without LF, one after a whole record and one in the middle of it, and a successor.
fn terminal_unterminated(host: &Host) {
    let (mut writer, whole) = host.audit_file(4, 2);
    let record = writer.record(&whole);
    whole.write(&record[..record.len() - 1]);
    let mut agent = host.start();
    agent.until("the ended ones are delivered", || host.delivered() == 2);
    wait_for_five_reads(host, &mut agent, &mut writer);
    assert_eq!(host.delivered(), 7, "the file may still grow");

    let broken = writer.create(&file_name(5, 1));
    writer.append(&broken, 2);
    append(&broken.path, b"{\"auditType\":{\"action\":\"Page cre");
    agent.until("the first file's rest is delivered", || host.delivered() == 10);
    let last = writer.create(&file_name(5, 2));
    writer.append(&last, 2);
    agent.until("the second file's rest is delivered", || host.delivered() == 13);
    assert_eq!(agent.stop(), 0);
    let mut agent = host.start();
    writer.append(&last, 1);
    agent.until("a restart repeats none", || host.delivered() >= 14);
    assert_eq!(agent.stop(), 0);

    let (broken, whole): (Vec<Event>, Vec<Event>) =
        host.events().into_iter().partition(Event::is_pipeline_error);
    judge(&writer, &whole).is_exact();
    let flagged: Vec<Option<u64>> =
        whole.iter().filter(|event| event.has_tag("unterminated")).map(Event::seq).collect();
    assert_eq!(flagged, [Some(2)]);
    assert_eq!(broken.len(), 1);
    assert!(broken[0].has_tag("unterminated"));
    assert_eq!(broken[0].original.as_deref(), Some("{\"auditType\":{\"action\":\"Page cre"));
}

#[test]
fn f08_terminal_unterminated() {
    terminal_unterminated(&Host::new());
}

#[test]
fn f13_poll_only_f08_terminal_unterminated() {
    terminal_unterminated(&Host::poll_only());
}

/// A byte that is no UTF-8 in a record's text: the record is kept and marked, the others are not touched.
#[test]
fn f10_one_bad_byte() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(6, 500);
    let mut bad = writer.record(&file);
    let at = String::from_utf8_lossy(&bad).find("\"system\":\"https://").unwrap();
    bad[at + "\"system\":\"https://".len()] = 0xff;
    file.write(&bad);
    writer.append(&file, 499);
    host.once_ok();
    let mut events = host.events();
    assert_eq!(events.len(), 1_000);
    let event = events.remove(500);
    assert!(event.original.as_ref().unwrap().contains("https://\u{fffd}iki"));
    assert!(!event.is_pipeline_error());
    assert!(event.text("/error/message").contains("UTF-8"), "{}", event.json);
    let judged = judge(&writer, &events);
    assert_eq!(judged.missing, [500]);
    assert!(judged.damaged.is_empty() && judged.disorder.is_empty());
}

/// Lines are not in the order of their timestamps in reality, and nothing here may care.
#[test]
fn f19_out_of_order_golden() {
    let host = Host::new();
    let (_, file) = host.audit_file(8, 300);
    let content = fs::read_to_string(&file.path).unwrap();
    let at = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let timestamp = &record["timestamp"];
        (timestamp["epochSecond"].as_i64().unwrap(), timestamp["nano"].as_i64().unwrap())
    };
    let times: Vec<(i64, i64)> = content.lines().map(at).collect();
    assert!(!times.is_sorted(), "the fixture has the disorder that this is about");
    host.once_ok();
    let originals: Vec<String> = host.events().into_iter().filter_map(|e| e.original).collect();
    assert_eq!(originals, content.lines().collect::<Vec<_>>());
}

/// A bad line as the first, in the middle, and as the last of 1 000; the checkpoint is at the end of the file.
#[test]
fn f30_poison_line() {
    for at in [0, 500, 999] {
        let host = Host::new();
        let mut writer = Writer::new(&host.audit(), 9);
        let file = writer.create(&file_name(5, 0));
        writer.append(&file, at);
        file.write(b"{\"auditType\":}\n");
        writer.append(&file, 999 - at);
        host.once_ok();
        let mut events = host.events();
        assert_eq!(events.len(), 1_000);
        let error = events.remove(at);
        assert!(error.is_pipeline_error());
        assert_eq!(error.original.as_deref(), Some("{\"auditType\":}"));
        judge(&writer, &events).is_exact();
        let again = host.once();
        again.logged("nothing is new");
        assert_eq!(host.delivered(), 1_000);
    }
}

/// A line is kept byte for byte, the blanks at its ends included; its line end is not part of it.
#[test]
fn originals_of_lines_are_what_was_read() {
    let host = Host::new();
    let record = r#"{ "auditType" :{"action":"x\u0020"},	"timestamp":{"epochSecond":1}}"#;
    let lines = [format!("  {record} \t"), record.to_owned(), " no record ".to_owned()];
    let [first, second, third] = &lines;
    fs::create_dir_all(host.audit()).unwrap();
    fs::write(host.audit().join(file_name(5, 0)), format!("{first}\n{second}\r\n \r\n{third}\n")).unwrap();
    host.once_ok();
    let originals: Vec<String> = host.events().into_iter().filter_map(|event| event.original).collect();
    assert_eq!(originals, lines);
}
