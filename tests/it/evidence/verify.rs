use super::{command, delivered, findings};
use crate::rig::{Host, Writer, copy_tree, file_name};
use std::fs;
use std::io::Write;
use std::path::Path;

const RECORDS: usize = 40;

/// Verifies an export against the host's ledger. Returns the exit code, each finding with its id and members, and the
/// summary.
fn verify(
    host: &Host,
    export: &Path,
    more: &[&str],
) -> (i32, Vec<(String, String, String)>, serde_json::Value) {
    let state = host.state();
    let mut arguments = vec!["verify", "--json"];
    arguments.extend(more);
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--export"), export]);
    assert_eq!(once.stderr, "");
    let (found, summary) = findings(&once);
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let found = found.iter().map(|finding| {
        let members: Vec<String> =
            finding["members"].as_array().iter().flat_map(|list| list.iter()).map(text).collect();
        (text(&finding["finding"]), text(&finding["id"]), members.join(" "))
    });
    let found = found.collect();
    (once.code, found, summary)
}

/// The id of an ECS event.
fn id_of(event: &str) -> String {
    let event: serde_json::Value = serde_json::from_str(event).unwrap();
    event["event"]["id"].as_str().unwrap().to_owned()
}

type Change = fn(&mut Vec<String>);
/// The kind of each finding, the number of its event, and the members that differ.
type Expected = &'static [(&'static str, usize, &'static str)];

#[test]
fn each_change_of_an_export_is_named_and_nothing_else_is() {
    let host = delivered(RECORDS, "");
    let output = fs::read_to_string(host.output()).unwrap();
    let events: Vec<String> = output.lines().map(str::to_owned).collect();
    let (code, found, summary) = verify(&host, &host.output(), &[]);
    assert_eq!((code, found), (0, vec![]), "{summary}");
    let total = &summary["export"]["total"];
    assert_eq!(total["expected"], events.len());
    assert_eq!(total["intact"], events.len());
    assert_eq!(summary["export"]["formats"]["ecs"], events.len());
    let export = host.path("export.ndjson");
    let cases: [(&str, Change, Expected); 9] = [
        ("order", |events| events.reverse(), &[]),
        ("removed", |events| drop(events.remove(7)), &[("missing", 7, "")]),
        ("cut off", |events| events.truncate(events.len() - 1), &[("missing", usize::MAX, "")]),
        (
            "added",
            |events| events.push(events[7].replace(&id_of(&events[7]), &"ab".repeat(16))),
            &[("extra", 0, "")],
        ),
        ("doubled", |events| events.push(events[7].clone()), &[("doubled", 7, "")]),
        (
            "user changed",
            |events| events[7] = events[7].replace("\"user\":{", "\"user\":{\"domain\":\"x\","),
            &[],
        ),
        (
            "message changed",
            |events| events[7] = events[7].replace("\"message\":\"", "\"message\":\"Not "),
            &[("altered", 7, "message")],
        ),
        (
            "original changed",
            |events| events[7] = events[7].replace("\\\"auditType\\\"", "\\\"auditTypo\\\""),
            &[("altered", 7, "event.original event.kind")],
        ),
        (
            "another event with this id",
            |events| events[7] = events[8].replace(&id_of(&events[8]), &id_of(&events[7])),
            &[("altered", 7, "event.original")],
        ),
    ];
    for (name, change, expected) in cases {
        let mut changed = events.clone();
        change(&mut changed);
        fs::write(&export, changed.join("\n") + "\n").unwrap();
        let (code, found, summary) = verify(&host, &export, &[]);
        let expected: Vec<_> = expected
            .iter()
            .map(|(kind, at, members)| {
                let id = match *kind {
                    "extra" => "ab".repeat(16),
                    _ => id_of(&events[(*at).min(events.len() - 1)]),
                };
                ((*kind).to_owned(), id, (*members).to_owned())
            })
            .collect();
        assert_eq!(found, expected, "{name}");
        assert_eq!(code, i32::from(!expected.is_empty()), "{name}");
        assert_eq!(summary["findings"], expected.len(), "{name}");
    }
    // Half of the last event.
    fs::write(&export, &output[..output.len() - 20]).unwrap();
    let (code, found, summary) = verify(&host, &export, &[]);
    assert_eq!((code, found.len()), (1, 1));
    assert_eq!(summary["export"]["cut"], 1);
    assert!(summary["export"]["problems"][0].as_str().unwrap().contains("ends in the middle of an event"));
}

#[test]
fn exports_of_servers_are_read() {
    let host = delivered(RECORDS, "");
    let output = fs::read_to_string(host.output()).unwrap();
    let events: Vec<&str> = output.lines().collect();
    let each = |wrap: &dyn Fn(&str) -> String| events.iter().map(|event| wrap(event)).collect::<Vec<_>>();
    let hits =
        each(&|event| format!("{{\"_index\":\"x\",\"_id\":\"{}\",\"_source\":{event}}}", id_of(event)));
    let quoted = |event: &str| serde_json::Value::from(event).to_string();
    let exports = [
        ("hits", hits.join("\n")),
        (
            "scroll",
            format!("{{\"_scroll_id\":\"x\",\"took\":3,\"hits\":{{\"hits\":[{}]}}}}\n", hits.join(",")),
        ),
        ("list", format!("[{}]", events.join(",\n"))),
        (
            "splunk",
            each(&|event| format!("{{\"preview\":false,\"result\":{{\"_raw\":{}}}}}", quoted(event)))
                .join("\n"),
        ),
        ("hec", each(&|event| format!("{{\"time\":1,\"event\":{event}}}")).join("\n")),
        (
            "originals",
            fs::read_dir(host.audit())
                .unwrap()
                .map(|file| fs::read_to_string(file.unwrap().path()).unwrap())
                .collect(),
        ),
    ];
    for (name, text) in exports {
        let path = host.path(name);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        for bytes in [text.into_bytes(), gz.finish().unwrap()] {
            fs::write(&path, bytes).unwrap();
            let (code, found, summary) = verify(&host, &path, &[]);
            // The agent's own events are in no audit file.
            let notices = if name == "originals" { events.len() - RECORDS } else { 0 };
            assert_eq!(found.len(), notices, "{name}: {found:?}");
            assert_eq!(code, i32::from(notices > 0), "{name}");
            assert_eq!(summary["export"]["total"]["intact"], events.len() - notices, "{name}");
        }
    }
}

#[test]
fn formats_and_rotated_outputs() {
    for (format, intact) in [("raw", true), ("ocsf", true), ("sentinel", false), ("cef", false)] {
        let rotated = "rotate_bytes = \"16KiB\"\ncompression = \"gzip\"\n";
        let mut host = Host::new();
        host.sink = format!("rotate_daily = false\nformat = \"{format}\"\n{rotated}");
        host.audit_file(3, 200);
        host.once_ok();
        let (code, found, summary) = verify(&host, &host.output(), &[]);
        assert_eq!((code, found), (0, vec![]), "{format}: {summary}");
        let export = &summary["export"];
        assert!(export["files"].as_array().unwrap().len() > 2, "{format}");
        let total = &export["total"];
        let counted = if intact { "intact" } else { "present" };
        assert!(total[counted].as_u64().unwrap() >= 200, "{format}: {total}");
        let unchecked = summary["unchecked"].to_string();
        assert_eq!(unchecked.contains("carries no original"), !intact, "{format}: {unchecked}");
    }
}

#[test]
fn what_is_printed_fits_a_terminal() {
    let host = delivered(RECORDS, "");
    let output = fs::read_to_string(host.output()).unwrap();
    let export = host.path("e");
    let events: Vec<&str> = output.lines().collect();
    let changed: Vec<String> =
        events[3..].iter().map(|event| event.replace("\"message\":\"", "\"message\":\"Not ")).collect();
    fs::write(&export, changed.join("\n")).unwrap();
    let state = host.state();
    let once = command(&["verify"], &[Path::new("--state"), &state, Path::new("--export"), &export]);
    assert_eq!(once.code, 1, "{}{}", once.stdout, once.stderr);
    for text in [
        "ledger of source wiki: ",
        "export: 1 file, ",
        "  missing  ",
        "  altered  ",
        "differs in `message`",
        "more; `--json` prints all",
        "result: ",
    ] {
        assert!(once.stdout.contains(text), "{text}\n{}", once.stdout);
    }
    for line in once.stdout.lines() {
        assert!(line.chars().count() <= 80 || line.contains('`'), "{line}");
    }
    // Only a part of the time.
    let (code, _, summary) = verify(&host, &export, &["--to", "2000-01-01"]);
    assert_eq!((code, &summary["export"]["total"]["expected"]), (0, &serde_json::json!(0)));
}

/// The messages about ledgers.
fn ledger_messages(host: &Host, more: &[&str]) -> (i32, Vec<String>) {
    let state = host.state();
    let mut arguments = vec!["verify", "--json"];
    arguments.extend(more);
    let once = command(&arguments, &[Path::new("--state"), &state, Path::new("--export"), &host.output()]);
    assert_eq!(once.stderr, "");
    let (found, _) = findings(&once);
    let of_ledger = found.iter().filter(|finding| finding["finding"] == "ledger");
    (once.code, of_ledger.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect())
}

type ByteChange<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Bytes of an entry.
const ENTRY: usize = 80;

#[test]
fn each_change_of_a_ledger_is_named() {
    let host = delivered(600, "");
    let entries = host.state().join("ledger/wiki/entries/0000000000000000");
    let whole = fs::read(&entries).unwrap();
    assert_eq!(ledger_messages(&host, &[]), (0, vec![]));
    let swap = |bytes: &mut Vec<u8>, one: usize, other: usize| {
        let (one, other) = (one * ENTRY, other * ENTRY);
        for at in 0..ENTRY {
            bytes.swap(one + at, other + at);
        }
    };
    let cases: [(&str, ByteChange, &str); 6] = [
        ("a byte", &|bytes| bytes[300 * ENTRY + 60] ^= 1, "entries 256 to 511: at least one was changed"),
        ("another kind", &|bytes| bytes[300 * ENTRY + 1] = 3, "entries 256 to 511: at least one was changed"),
        ("no entry", &|bytes| bytes[300 * ENTRY] = 9, "entry 300 cannot be read"),
        (
            "removed",
            &|bytes| drop(bytes.drain(300 * ENTRY..301 * ENTRY)),
            "entries 256 to 511: at least one was changed",
        ),
        ("swapped", &|bytes| swap(bytes, 300, 301), "entries 256 to 511: at least one was changed"),
        ("cut off", &|bytes| bytes.truncate(500 * ENTRY), "entries 500 to "),
    ];
    for (name, change, expected) in cases {
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&entries, bytes).unwrap();
        let (code, found) = ledger_messages(&host, &[]);
        assert!(code == 1 && found.iter().any(|message| message.contains(expected)), "{name}: {found:?}");
    }
    fs::write(&entries, &whole).unwrap();
    assert_eq!(ledger_messages(&host, &[]), (0, vec![]));
}

/// The checkpoints that a sink holds contradict a ledger that is older, or another one.
#[test]
fn a_ledger_from_a_backup_is_found() {
    let mut host = delivered(600, "");
    host.root += "ledger.seal_interval = \"1s\"\n";
    let backup = host.path("backup");
    copy_tree(&host.state(), &backup);
    let mut writer = Writer::new(&host.audit(), 9);
    let file = writer.create(&file_name(6, 0));
    writer.append(&file, 400);
    let mut agent = host.start();
    agent.until("a checkpoint of more entries is published", || {
        let events = fs::read_to_string(host.output()).unwrap();
        events.lines().any(|event| event.contains("/wiki\\n10"))
    });
    assert_eq!(agent.stop(), 0);
    assert_eq!(ledger_messages(&host, &[]), (0, vec![]));
    let key = fs::read_to_string(host.state().join("ledger/key.pub")).unwrap();
    fs::remove_dir_all(host.state()).unwrap();
    copy_tree(&backup, &host.state());
    let (code, found) = ledger_messages(&host, &[]);
    assert_eq!(code, 1);
    assert!(
        found.iter().any(|message| message.contains("missing, although a checkpoint covers them")),
        "{found:?}"
    );
    // All checkpoints were removed on the host: those of the sink vouch for the ledger.
    for name in ["checkpoint", "checkpoints"] {
        fs::remove_file(host.state().join("ledger/wiki").join(name)).unwrap();
    }
    assert_eq!(ledger_messages(&host, &[]).1, found);
    // Another key signs from now on.
    fs::remove_dir_all(host.state()).unwrap();
    copy_tree(&backup, &host.state());
    fs::remove_file(host.output()).unwrap();
    fs::remove_file(host.state().join("ledger/key")).unwrap();
    host.once_ok();
    let first = key.lines().next().unwrap();
    let (code, found) = ledger_messages(&host, &["--key", first]);
    assert_eq!(code, 1);
    assert!(found.iter().any(|message| message.contains("not signed by a given key, but by")), "{found:?}");
}

#[test]
fn wrong_requests_are_refused() {
    let host = delivered(3, "");
    let state = host.state();
    let state = state.to_str().unwrap();
    let empty = host.path("empty");
    fs::create_dir(&empty).unwrap();
    for (arguments, code, text) in [
        (vec!["--state", state, "--key", "x"], 64, "`x` is no verifier key"),
        (vec!["--state", state, "--ledger", "x"], 64, "cannot be used with"),
        (vec!["--state", state, "--from", "yesterday"], 64, "write a day as 2026-11-30"),
        (vec!["--state", state, "--source", "docs"], 75, "there is no ledger of a source `docs`"),
        (vec!["--state", empty.to_str().unwrap()], 75, "there is no ledger in `"),
        (vec!["--state", state, "--export", "/nowhere"], 75, "cannot read the export `/nowhere`"),
        (vec!["--config", "/nowhere"], 78, "/nowhere"),
    ] {
        let arguments: Vec<&str> = ["verify"].into_iter().chain(arguments).collect();
        let once = command(&arguments, &[]);
        assert_eq!(once.code, code, "{arguments:?}: {}", once.stderr);
        assert!(once.stderr.contains(text), "{arguments:?}: {}", once.stderr);
    }
}

/// A running agent delivers while the export is read.
#[test]
fn a_running_agent_is_no_finding() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(3, 20);
    let mut agent = host.start();
    for _ in 0..5 {
        let before = host.delivered();
        writer.append(&file, 300);
        agent.until("an event arrives", || host.delivered() > before);
        let (code, found, summary) = verify(&host, &host.output(), &[]);
        assert_eq!((code, found), (0, vec![]), "{summary}");
    }
    assert_eq!(agent.stop(), 0);
}
