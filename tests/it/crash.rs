//! The agent dies at any moment, and the next one goes on: nothing is lost, and the output file holds nothing twice.

use crate::rig::ledger::judge_ledger;
use crate::rig::oracle::events;
use crate::rig::{Host, Random, Writer, output_paths, outputs, rotation};
use crate::rig::{SOON, copy_tree, file_name, judge, seed, sleep_until, until_each};
use confluence_audit_agent::clock;
use confluence_audit_agent::format::FormatKind;
use confluence_audit_agent::ledger::LedgerReader;
use confluence_audit_agent::record::EventId;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

const FAILPOINT: &str = "CONFLUENCE_AUDIT_AGENT_FAILPOINT";

/// A host whose output rotates often and keeps everything.
fn rotating(format: &str) -> Host {
    let mut host = Host::new();
    host.sink = format!(
        "format = \"{format}\"\nrotate_bytes = \"48KiB\"\nrotate_daily = false\nrotated_files_max = 100000\n"
    );
    host
}

/// A host with an output of its own that reads the files of `host`.
fn sibling_host(host: &Host, format: &str) -> Host {
    let mut other = rotating(format);
    other.source = format!("{}files = [\"{}/*.audit.log\"]\n", host.source, host.audit().display());
    other
}

/// Bytes in all outputs of a host that may not have come to write any.
fn written(host: &Host) -> usize {
    if host.output().parent().unwrap().exists() { outputs(host).iter().map(Vec::len).sum() } else { 0 }
}

/// What differs between two runs although they deliver the same is made the same: who read it, and when.
fn blank(outputs: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let line = |line: &[u8]| {
        let mut line = line.to_vec();
        let unreadable = memchr::memmem::find(&line, b"\"kind\":\"pipeline_error\"").is_some();
        let read_at = if unreadable { "{\"@timestamp\":\"" } else { "\"created\":\"" };
        for key in [read_at, "\"agent\":{\"ephemeral_id\":\"", "xx\",\"id\":\""] {
            let at = memchr::memmem::find(&line, key.as_bytes()).expect("stands in every event") + key.len();
            let end = at + memchr::memchr(b'"', &line[at..]).unwrap();
            line[at..end].fill(b'x');
        }
        line
    };
    let file = |bytes: &Vec<u8>| bytes.split_inclusive(|&b| b == b'\n').flat_map(line).collect();
    outputs.iter().map(file).collect()
}

/// How two outputs differ: the files' lengths, and the first line that is another.
fn difference(found: &[Vec<u8>], expect: &[Vec<u8>]) -> String {
    let lengths = |outputs: &[Vec<u8>]| outputs.iter().map(Vec::len).collect::<Vec<_>>();
    let lines = |outputs: &[Vec<u8>]| -> Vec<String> {
        let all = outputs.concat();
        all.split(|&b| b == b'\n')
            .map(|line| String::from_utf8_lossy(&line[..line.len().min(300)]).into_owned())
            .collect()
    };
    let (left, right) = (lines(found), lines(expect));
    let first = left.iter().zip(&right).position(|(left, right)| left != right);
    format!(
        "the output differs from an undisturbed one: files of {:?} bytes, not {:?}; the first line to differ: {:?}",
        lengths(found),
        lengths(expect),
        first.map(|at| (at, &left[at], &right[at]))
    )
}

/// A backlog that has all kinds of lines: numbered ones, twins, unreadable ones, one that is handed on in parts.
fn backlog(host: &Host, records: usize) {
    let mut writer = Writer::new(&host.audit(), 5);
    for number in 0..5 {
        let file = writer.create(&file_name(5, number));
        let twin = writer.record(&file);
        for _ in 0..3 {
            writer.append(&file, records / 15);
            file.write(&twin);
            file.write(b"this is no record\n\r\n");
            file.write(&twin);
        }
        if number == 2 {
            let long = format!("{{\"auditType\":\"{}\"}}\n", "long \\\" ".repeat(60_000));
            file.write(long.as_bytes());
        }
    }
}

/// A crash at each step of the way, at several moments: the next run makes the output what an undisturbed one makes it.
#[test]
fn f21_kill_everywhere() {
    let host = rotating("raw");
    backlog(&host, 300);
    let reference = sibling_host(&host, "raw");
    assert_eq!(reference.once().code, 0);
    let expect = outputs(&reference);
    assert!(expect.len() > 5, "the output rotates");
    for (name, hits) in [
        ("read", &[1, 2, 7][..]),
        ("decode", &[1, 150, 311]),
        ("encode", &[1, 77, 300]),
        ("before_send", &[1, 2, 5]),
        ("after_send", &[1, 2, 5]),
        ("after_ack", &[1, 2, 3]),
        // How many commits follow depends on the time that the run takes.
        ("ledger_synced", &[1]),
        ("before_flush", &[1, 2, 3]),
        ("after_flush", &[1, 2, 3]),
    ] {
        for &hit in hits {
            let crashed = sibling_host(&host, "raw");
            let mut command = crashed.command(&[], &["--once"]);
            command.env(FAILPOINT, format!("{name}=abort@{hit}"));
            let status = command.stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.signal(), Some(6), "{name}@{hit} was reached: {status}");
            let after = crashed.once();
            assert_eq!(after.code, 0, "{name}@{hit}: {}", after.stderr);
            assert!(outputs(&crashed) == expect, "{name}@{hit}: the output differs\n{}", after.stderr);
            assert_eq!(ledger_of(&crashed), ledger_of(&reference), "{name}@{hit}");
        }
    }
}

/// Events that were written but not checkpointed cannot be replayed once their audit file is deleted. They stay in the
/// output, and the next run stores its length.
#[test]
fn f72_a_single_run_stores_the_length_of_an_output_whose_audit_file_is_gone() {
    let host = Host::new();
    let (mut writer, first) = host.audit_file(72, 20);
    host.once_ok();
    let second = writer.create(&file_name(6, 0));
    writer.append(&second, 20);
    let mut command = host.command(&[], &["--once"]);
    command.env(FAILPOINT, "after_send=abort@2");
    let status = command.stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.signal(), Some(6), "{status}");
    assert_eq!(host.delivered(), 40);
    fs::remove_file(host.audit().join(file_name(6, 0))).unwrap();
    writer.append(&first, 5);
    host.once_ok();
    judge(&writer, &host.events()).is_exact();
    let mut export = std::process::Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    let export = export.args(["state", "export", "--config"]).arg(host.config()).output().unwrap();
    let state: serde_json::Value = serde_json::from_slice(&export.stdout).unwrap();
    let length = fs::metadata(host.output()).unwrap().len();
    assert_eq!(state["sources"]["wiki"]["marks"][0]["length"], length, "{state:#}");
}

/// What the ledger has of each event, in order, without the keys of files.
fn ledger_of(host: &Host) -> Vec<(u128, u64, u32, [u8; 32])> {
    let reader = LedgerReader::open(&host.state().join("ledger/wiki")).unwrap().unwrap();
    let entries = reader.entries(0..reader.size());
    entries
        .map(|entry| entry.unwrap().1.expect("an entry"))
        .map(|entry| (entry.id, entry.offset, entry.length, entry.digest))
        .collect()
}

/// SIGKILL at random moments while a backlog is read, from the first milliseconds of a new installation on.
fn kill_through_a_backlog(test: &str, format: &str, compression: &str, lives: usize, kills: usize) {
    let mut random = Random::new(seed(test));
    let host = rotating(format);
    backlog(&host, 900);
    let reference = sibling_host(&host, format);
    assert_eq!(reference.once().code, 0);
    let expect = outputs(&reference);
    let whole = expect.concat().len();
    let (mut half_done, mut passed_over, mut compressed) = (0, 0, 0);
    for life in 0..lives {
        let mut killed = sibling_host(&host, format);
        compress(&mut killed, compression);
        for _ in 0..kills {
            let before = written(&killed);
            let mut agent = killed.start();
            if random.below(4) == 0 {
                sleep_until(clock::monotonic() + Duration::from_millis(random.below(30)));
            } else {
                // Wherever it is by then, however fast this machine is.
                let left = whole.saturating_sub(before) as u64;
                let enough = before + random.below(left + 1) as usize;
                until_each(Duration::from_millis(1), SOON, "so much is written", || {
                    written(&killed) >= enough
                });
            }
            agent.kill();
            let length = written(&killed);
            half_done += usize::from(length > 0 && length < whole);
            passed_over += agent.log_count("contains events after the checkpoint");
        }
        let last = killed.once();
        assert_eq!(last.code, 0, "{}", last.stderr);
        let found = outputs(&killed);
        let same = match format {
            "raw" => found == expect,
            _ => {
                let agents: HashSet<String> = found
                    .iter()
                    .flat_map(|file| events(file))
                    .map(|event| event.text("/agent/id").to_owned())
                    .collect();
                assert_eq!(agents.len(), 1, "the agent's id outlives a crash");
                blank(&found) == blank(&expect)
            }
        };
        assert!(same, "life {life}: {}", difference(&found, &expect));
        if compression != "none" {
            // A mark that was held back is not past all of them before the next event.
            assert_eq!(killed.once().code, 0);
            let endings = |ending: &str| {
                let paths = output_paths(&killed);
                paths.iter().filter(|path| path.to_string_lossy().ends_with(ending)).count()
            };
            assert_eq!(endings(".part"), 0, "life {life}");
            compressed += endings(".zst");
            assert!(outputs(&killed) == expect, "life {life}");
        }
    }
    assert!(compressed > 0 || compression == "none");
    // Or the kills came too early or too late to prove anything.
    eprintln!(
        "{test}: {half_done} of {} kills in the middle, {passed_over} found events standing",
        lives * kills
    );
    assert!(
        half_done >= lives / 2 && passed_over > 0,
        "{half_done} in the middle, {passed_over} found events standing"
    );
}

#[test]
fn f72_file_output_exactly_once_raw() {
    kill_through_a_backlog("f72_file_output_exactly_once_raw", "raw", "none", 16, 6);
}

#[test]
fn f72_file_output_exactly_once_ecs() {
    kill_through_a_backlog("f72_file_output_exactly_once_ecs", "ecs", "none", 6, 6);
}

#[test]
fn f72_file_output_exactly_once_compressed() {
    let test = "f72_file_output_exactly_once_compressed";
    kill_through_a_backlog(test, "raw", "zstd", 6, 8);
}

fn compress(host: &mut Host, how: &str) {
    host.sink += &format!("compression = \"{how}\"\n");
}

/// What was rotated before the last run is compressed, and nothing else is there.
#[track_caller]
fn is_compressed(host: &Host, ending: &str) {
    let mut endings: BTreeMap<String, usize> = BTreeMap::new();
    for path in output_paths(host).iter().filter(|path| **path != host.output()) {
        let ending = path.extension().unwrap().to_str().unwrap();
        let kind = if ending.bytes().all(|b| b.is_ascii_digit()) { "plain" } else { ending };
        *endings.entry(kind.to_owned()).or_default() += 1;
    }
    assert_eq!(endings, BTreeMap::from([(ending.to_owned(), outputs(host).len() - 1)]));
}

/// A crash at each step of compressing leaves each event where it was, once, and nothing else.
#[test]
fn f72_compression_of_rotated_outputs_is_whole_or_not_there() {
    let host = rotating("raw");
    backlog(&host, 300);
    let reference = sibling_host(&host, "raw");
    assert_eq!(reference.once().code, 0);
    let expect = outputs(&reference);
    for (how, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        for (name, hit) in [
            ("compress_written", 1),
            ("compress_written", 3),
            ("compress_renamed", 1),
            ("compress_renamed", 3),
            ("compressed", 1),
            ("compressed", 2),
        ] {
            let mut crashed = sibling_host(&host, "raw");
            assert_eq!(crashed.once().code, 0);
            compress(&mut crashed, how);
            let mut command = crashed.command(&[], &["--once"]);
            command.env(FAILPOINT, format!("{name}=abort@{hit}"));
            let status = command.stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.signal(), Some(6), "{how} {name}@{hit} was reached: {status}");
            assert!(outputs(&crashed) == expect, "{how} {name}@{hit}: after the crash");
            let after = crashed.once();
            assert_eq!(after.code, 0, "{}", after.stderr);
            assert!(outputs(&crashed) == expect, "{how} {name}@{hit}: after the next run");
            is_compressed(&crashed, ending);
        }
    }
}

/// A state from a backup: what it does not know stands in compressed files, and is not written again.
#[test]
fn f72_compressed_outputs_are_recognised_by_an_older_state() {
    for (how, ending) in [("gzip", "gz"), ("zstd", "zst")] {
        let mut host = rotating("raw");
        compress(&mut host, how);
        let (mut writer, file) = host.audit_file(5, 120);
        host.once_ok();
        copy_tree(&host.state(), &host.path("backup"));
        writer.append(&file, 400);
        for _ in 0..2 {
            host.once_ok();
        }
        is_compressed(&host, ending);
        let before = outputs(&host);
        fs::remove_dir_all(host.state()).unwrap();
        copy_tree(&host.path("backup"), &host.state());
        fs::set_permissions(host.state(), fs::Permissions::from_mode(0o700)).unwrap();
        let run = host.once_ok();
        run.logged("contains events after the checkpoint");
        let after = outputs(&host);
        assert!(after == before, "{how}: {}\n{}", difference(&after, &before), run.stderr);
        judge(&writer, &events(&before.concat())).is_exact();
    }
}

/// While the agent runs, and as many are kept as without.
#[test]
fn rotated_outputs_are_compressed_behind_the_checkpoint() {
    let mut host = rotating("raw");
    host.sink = host.sink.replace("rotated_files_max = 100000", "rotated_files_max = 3");
    compress(&mut host, "gzip");
    let mut writer = Writer::new(&host.audit(), 5);
    let file = writer.create(&file_name(5, 0));
    let mut agent = host.start();
    let newest = || {
        let paths = output_paths(&host);
        paths.iter().filter_map(|path| rotation(path.to_str().unwrap())).max()
    };
    for _ in 0..6 {
        let before = newest();
        writer.append(&file, 200);
        let ready = || {
            let all = output_paths(&host);
            let ending = |path: &PathBuf, ending: &str| path.to_string_lossy().ends_with(ending);
            let compressed = all.iter().filter(|path| ending(path, ".gz")).count();
            // The live one and the compressed ones: none is left plain, once all is stored.
            let rotated = newest() > before && host.output().exists();
            rotated && compressed > 0 && compressed <= 3 && all.len() == compressed + 1
        };
        agent.until("all rotated outputs are compressed", ready);
    }
    assert_eq!(agent.stop(), 0);
}

/// The formats in which events may bear the time at which they were read: their ids show what is there.
#[test]
fn f72_file_output_exactly_once_in_other_formats() {
    for (word, name) in
        [("sentinel", FormatKind::Sentinel), ("cef", FormatKind::Cef), ("ocsf", FormatKind::Ocsf)]
    {
        let ids = |host: &Host| -> Vec<EventId> {
            let all = outputs(host).concat();
            let lines = all.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n');
            lines.map(|line| name.id_of(line).expect("a whole event")).collect()
        };
        let host = rotating(word);
        backlog(&host, 300);
        let reference = sibling_host(&host, word);
        assert_eq!(reference.once().code, 0);
        let expect = ids(&reference);
        assert!(expect.len() > 300);
        let mut passed_over = false;
        for failpoint in
            ["after_send=abort@2", "after_ack=abort@2", "before_flush=abort@1", "after_flush=abort@2"]
        {
            let crashed = sibling_host(&host, word);
            let mut command = crashed.command(&[], &["--once"]);
            command.env(FAILPOINT, failpoint);
            let status = command.stderr(Stdio::null()).status().unwrap();
            assert_eq!(status.signal(), Some(6), "{failpoint} was reached: {status}");
            let after = crashed.once();
            assert_eq!(after.code, 0, "{failpoint}: {}", after.stderr);
            passed_over |= after.stderr.contains("contains events after the checkpoint");
            assert!(ids(&crashed) == expect, "{word}, {failpoint}: {}", after.stderr);
        }
        assert!(passed_over, "{word}: no events were found standing");
    }
}

/// SIGKILL at random moments while Confluence writes and rotates, and while the agent is down.
#[test]
fn f21_random_kills_while_live() {
    let mut random = Random::new(seed("f21_random_kills_while_live"));
    let mut host = rotating("raw");
    host.sink = host.sink.replace("48KiB", "24KiB");
    let mut writer = Writer::new(&host.audit(), random.next());
    let mut number = 0;
    let mut files = vec![writer.create(&file_name(5, 0))];
    for _ in 0..100 {
        // While it is down.
        writer.append(files.last().unwrap(), random.below(20) as usize);
        let half = random.below(2) == 0;
        let line = if half { writer.record(files.last().unwrap()) } else { Vec::new() };
        let (first, rest) = line.split_at(line.len() / 2);
        files.last().unwrap().write(first);
        let mut agent = host.start();
        let at = clock::monotonic() + Duration::from_millis(random.below(250));
        if random.below(3) == 0 {
            // Its second half comes after the kill.
            sleep_until(at);
            agent.kill();
            files.last().unwrap().write(rest);
            continue;
        }
        sleep_until(clock::monotonic() + Duration::from_millis(random.below(100)));
        files.last().unwrap().write(rest);
        while clock::monotonic() < at {
            let newest = files.len() - 1;
            match random.below(12) {
                0 => {
                    number += 1;
                    files.push(writer.create(&file_name(5, number)));
                }
                // Late into the file before, as Confluence does.
                1 if newest > 0 => writer.append(&files[newest - 1], 1),
                2 => {
                    let line = writer.record(&files[newest]);
                    let (first, rest) = line.split_at(random.below(line.len() as u64) as usize);
                    files[newest].write(first);
                    sleep_until(clock::monotonic() + Duration::from_millis(random.below(5)));
                    files[newest].write(rest);
                }
                _ => writer.append(&files[newest], 1 + random.below(5) as usize),
            }
            sleep_until(clock::monotonic() + Duration::from_millis(random.below(20)));
        }
        agent.kill();
    }
    // What the killed ones delivered and did not checkpoint is read again.
    host.once_ok();
    judge(&writer, &events(&outputs(&host).concat())).is_exact();
    let ids: Vec<String> = events(&outputs(&host).concat()).into_iter().map(|event| event.id).collect();
    judge_ledger(&host, ids.iter(), &output_paths(&host), &HashSet::new());
    let again = host.once();
    again.logged("nothing is new");
    // The same records as a run that was never disturbed, with the same ids.
    let reference = sibling_host(&host, "raw");
    assert_eq!(reference.once().code, 0);
    let lines = |host: &Host| {
        let all = outputs(host).concat();
        let mut lines: Vec<Vec<u8>> = all.split_inclusive(|&b| b == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort();
        lines
    };
    assert!(lines(&host) == lines(&reference));
}
