//! Files whose names say a day that has not come, and files that grow although there is a newer one.

use crate::rig::{Host, Writer, file_name, judge, wait_for_sweep};
use confluence_audit_agent::clock;
use std::fs::{self, File};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `YYYYMMDD` so many days from now.
fn day(from_now: i64) -> String {
    let day = jiff::Timestamp::from_millisecond(clock::now_ms() + from_now * 86_400_000).unwrap();
    day.strftime("%Y%m%d").to_string()
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(clock::now_ms() as u64)
}

/// A half line in the file that grows waits for its end, whatever else is there.
fn a_half_line_waits_with(other: &str) {
    let host = Host::poll_only();
    let mut writer = Writer::new(&host.audit(), 1);
    let stray = writer.create(other);
    writer.append(&stray, 5);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 5);
    let mut agent = host.start();
    agent.until("both are delivered", || host.delivered() == 10);
    for round in 0..2 {
        let line = writer.record(&file);
        file.write(&line[..60]);
        // Longer than `rotate_grace`, by two looks at the directory with more than that between them.
        agent.until_within(Duration::from_secs(60), "it was quiet for longer than `rotate_grace`", || {
            let written = fs::metadata(&file.path).unwrap().modified().unwrap();
            now().duration_since(written).unwrap_or_default() > Duration::from_secs(3)
        });
        if round == 0 {
            wait_for_sweep(&host, &mut agent);
        }
        assert_eq!(host.delivered(), 10 + round, "{other}: {}", agent.stderr());
        file.write(&line[60..]);
        agent.until("the whole line is delivered", || host.delivered() == 11 + round);
    }
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    assert_eq!(agent.log_count("cannot be read"), 0, "{}", agent.stderr());
}

/// A clock that was far ahead has left a file. It may even be written to: it is of a day that has not come.
#[test]
fn f90_a_half_line_with_a_file_dated_far_ahead() {
    a_half_line_waits_with("20991231.00000.audit.log");
    a_half_line_waits_with(&format!("{}-00000.audit.log", day(4)));
}

/// The stray file is dated tomorrow, which a time zone may explain; but the other one grows.
#[test]
fn f90_a_half_line_in_the_file_that_grows() {
    a_half_line_waits_with(&format!("{}.00000.audit.log", day(1)));
    a_half_line_waits_with("20260105.00001.audit.log");
}

/// A file dated far ahead is not waited for either: the rest of a file that has a true successor is a record.
#[test]
fn f90_a_true_successor_finishes_a_file() {
    let host = Host::poll_only();
    let mut writer = Writer::new(&host.audit(), 1);
    let stray = writer.create("20991231.00000.audit.log");
    writer.append(&stray, 5);
    let file = writer.create(&file_name(5, 0));
    writer.append(&file, 5);
    let line = writer.record(&file);
    file.write(&line[..line.len() - 1]);
    let mut agent = host.start();
    agent.until("whole lines are delivered", || host.delivered() == 10);
    let next = writer.create(&file_name(5, 1));
    writer.append(&next, 5);
    agent.until("the rest is delivered when there is a successor", || host.delivered() == 16);
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    let printed = host.check().stdout;
    assert!(printed.contains("dated more than two days ahead"), "{printed}");
}

/// Of files put back in a wrong order the rest is not waited for for ever.
#[test]
fn f90_files_put_back_in_a_wrong_order_are_finished() {
    let host = Host::poll_only();
    let mut writer = Writer::new(&host.audit(), 1);
    let file = writer.create(&file_name(5, 0));
    let line = writer.record(&file);
    file.write(&line[..line.len() - 1]);
    let next = writer.create(&file_name(5, 1));
    writer.append(&next, 5);
    let hours_ago = |hours: u64| now() - Duration::from_secs(hours * 3_600);
    for (path, hours) in [(&file.path, 2), (&next.path, 3)] {
        let open = File::options().write(true).open(path).unwrap();
        open.set_modified(hours_ago(hours)).unwrap();
    }
    let mut agent = host.start();
    agent.until("the rest is delivered", || host.delivered() == 6);
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
}
