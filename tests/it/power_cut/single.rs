//! One cut, at a moment when everything that counts has to be durable.

use super::storage::Storage;
use super::unsynced::Loss;
use crate::rig::agent::Once;
use crate::rig::oracle::events;
use crate::rig::{Host, LogFile, Writer, append, judge, output_paths, outputs};
use std::fs;

/// A host whose agent has delivered some records and has stopped in order.
fn stopped(sink: &str) -> Option<(Storage, Host, Writer, LogFile)> {
    let mut host = Host::new();
    host.sink = format!("format = \"ecs\"\nrotate_daily = false\n{sink}");
    let storage = Storage::of(&mut host, 0)?;
    let (writer, file) = host.audit_file(117, 50);
    host.once_ok();
    Some((storage, host, writer, file))
}

#[track_caller]
fn is_exact(host: &Host, writer: &Writer, run: &Once) {
    judge(writer, &events(&outputs(host).concat())).is_exact();
    assert!(!run.stderr.contains("ERROR"), "{}", run.stderr);
}

/// The names of new directories and files too, at every level.
#[test]
fn f117_what_a_first_run_has_made_is_durable() {
    let Some((storage, host, mut writer, file)) = stopped("") else { return };
    let before = outputs(&host);
    storage.cut(Loss::All);
    assert!(outputs(&host) == before, "the output is lost");
    writer.append(&file, 50);
    let run = host.once_ok();
    is_exact(&host, &writer, &run);
    assert!(!run.stderr.contains("contains events after the checkpoint"), "{}", run.stderr);
}

/// The next run does not create it, and must make its name durable nevertheless.
#[test]
fn f117_a_directory_that_a_killed_run_has_made_is_durable_after_the_next() {
    for changes in [2, 4, 8, 16] {
        let mut host = Host::new();
        let Some(storage) = Storage::of(&mut host, 0) else { return };
        let (writer, _) = host.audit_file(117, 5);
        storage.disk().cut_before(changes, Loss::Nothing);
        assert_ne!(host.once().code, 0, "{changes}");
        storage.disk().power_on();
        host.once_ok();
        let before = outputs(&host);
        storage.cut(Loss::All);
        assert!(outputs(&host) == before, "{changes}: the output is lost");
        let run = host.once_ok();
        is_exact(&host, &writer, &run);
    }
}

/// As after a boot. Then the output is the marked one nevertheless: only its end is read, and a torn event is cut off.
#[test]
fn f117_a_torn_event_is_cut_off_on_a_disk_with_another_device_number() {
    let Some((mut storage, host, mut writer, file)) = stopped("") else { return };
    append(&host.output(), b"{\"@timestamp\":\"2026-");
    storage.mount_as_other_device(&host);
    writer.append(&file, 50);
    let run = host.once_ok();
    is_exact(&host, &writer, &run);
    run.logged("an incomplete event at the end of the output was cut off");
    assert!(!run.stderr.contains("contains events after the checkpoint"), "{}", run.stderr);
}

#[test]
fn f117_a_clean_stop_is_one_after_a_power_cut() {
    let mut host = Host::new();
    host.sink = "format = \"ecs\"\nheartbeat = true\n".to_owned();
    let Some(storage) = Storage::of(&mut host, 0) else { return };
    host.audit_file(117, 5);
    let run = |previous: &str| {
        let mut agent = host.start();
        agent.until("it says how the last run ended", || {
            let output = fs::read(host.output()).unwrap_or_default();
            let text = format!("\"previous_stop\":\"{previous}\"");
            memchr::memmem::find(&output, text.as_bytes()).is_some()
        });
        agent
    };
    let mut agent = run("none");
    assert_eq!(agent.stop(), 0);
    storage.cut(Loss::All);
    let mut agent = run("clean");
    agent.kill();
    storage.cut(Loss::All);
    run("killed");
}

/// Their number is stored with the positions, and they would be counted again.
#[test]
fn f117_outputs_that_were_deleted_do_not_come_back() {
    let Some((storage, host, ..)) = stopped("rotate_bytes = \"8KiB\"\nrotated_files_max = 2\n") else {
        return;
    };
    let before = output_paths(&host);
    storage.cut(Loss::All);
    assert_eq!(output_paths(&host), before);
}
