use super::{command, delivered, findings};
use crate::rig::Host;
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

fn id_of(event: &str) -> String {
    let (_, rest) = event
        .split_once("\"id\":\"")
        .filter(|_| !event.starts_with("{\"event_id"))
        .unwrap_or_else(|| event.split_once("\"event_id\":\"").unwrap());
    // `event.id` is the first `id` of 32 digits.
    rest.split("\"id\":\"")
        .map(|rest| &rest[..32.min(rest.len())])
        .find(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .unwrap()
        .to_owned()
}

type Change = fn(&mut Vec<String>);

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
    let cases: [(&str, Change, &[(&str, usize, &str)]); 9] = [
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
        let rotated = "rotate_bytes = \"16KiB\"\ncompress = \"gzip\"\n";
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
