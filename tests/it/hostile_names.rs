//! Names that would steer a terminal or forge a line of the log, in each place that takes one.

use crate::rig::{Host, rotation};
use confluence_audit_agent::quarantine::{self, Entry};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// Colours, an 8-bit control, a turned reading direction, a forged line; and a byte that is no UTF-8, which only a path
/// can hold.
const HOSTILE: &str = "x\u{1b}[31m\u{9b}2J\u{202e}\n2026-01-01T00:00:00Z ERROR forged";

fn hostile_path(dir: &Path) -> OsString {
    let mut path = dir.join(HOSTILE).into_os_string().into_vec();
    path.push(0xff);
    OsString::from_vec(path)
}

/// What a command prints for people is text in lines, and none of them is what the name says.
#[track_caller]
fn harmless(words: &[&OsStr], printed: &[u8]) {
    let text = String::from_utf8_lossy(printed);
    let is_bad = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    assert!(!text.contains(is_bad), "{words:?}: {text:?}");
    let forged = text.lines().find(|line| line.starts_with("2026-01-01"));
    assert_eq!(forged, None, "{words:?}: {text:?}");
}

/// Calls the agent; returns what it printed.
#[track_caller]
fn call(dir: &Path, words: &[&OsStr]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(words)
        .current_dir(dir)
        .env_remove("CONFLUENCE_HOME")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.code().is_some_and(|code| code != 70), "{words:?}");
    harmless(words, &output.stderr);
    // Events and exports are data for programs.
    let is_data = ["convert", "export", "--raw", "--json"];
    if !words.iter().any(|word| is_data.iter().any(|data| word == data))
        && !words.contains(&OsStr::new("stdout"))
    {
        harmless(words, &output.stdout);
    }
    String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned()
}

/// Each command line of the table, `H` being the hostile name and `P` one of a path.
#[test]
fn f114_names_that_are_typed() {
    let host = Host::new();
    let dir = host.path("");
    let config = host.config();
    let (hostile, path) = (OsString::from(HOSTILE), hostile_path(&dir));
    let table = "\
convert P
convert --format H -
convert --site H P
run --once --home P --state s1
run --once --home home --state P
run --once --config P
run --once --home home --state s2 --sink file:H
run --once --home home --state s3 --sink file:nowhere/H/x
run --once --home home --state s3 --sink H
run --once --home home --state s3 --sink file:H/
run --once --files P --state s4
run --once --files H --state s4
run --once --home home --format H
run --once --home home --log-level H
run --once --home home --log-format H
run --once --url H --token-file P --state s5
run --once --url http://127.0.0.1:9/H --token-file P --state s5
run --once --url http://127.0.0.1:9/ --token-file P --state s5
run H
run --H
H
check --home P --state P
check --fast --home P
check --config P
check --files H --state s6
check --home home --state P --sink file:H
check --home home --state s6 --sink file:P/x
state show --state P
state show --config P
state show --config C --source H
state forget --config C --source H
state forget --state P
state export --state P
quarantine list --state P
quarantine list --config C --sink H --source H --id H
quarantine show --config C H
quarantine replay --config C --id H --to H
quarantine replay --config P
quarantine replay --state P --config C
quarantine drop --yes --config C --id H
quarantine drop --yes --all --state P
setup elasticsearch --config P
setup elasticsearch --config C --sink H
setup elasticsearch --config C --retention H
setup elasticsearch --config C --user H --password-file P
completions H
man P
man P/below
state H
quarantine H
setup H";
    fs::write(host.path("file"), "").unwrap();
    for line in table.lines() {
        let words: Vec<OsString> = line
            .split(' ')
            .map(|word| {
                let mut bytes = Vec::new();
                for byte in word.bytes() {
                    match byte {
                        b'H' => bytes.extend(hostile.as_bytes()),
                        b'P' => bytes.extend(path.as_bytes()),
                        b'C' => bytes.extend(config.as_os_str().as_bytes()),
                        other => bytes.push(other),
                    }
                }
                OsString::from_vec(bytes)
            })
            .collect();
        let words: Vec<&OsStr> = words.iter().map(OsString::as_os_str).collect();
        call(&dir, &words);
    }
    // The name is there, and can be read.
    let printed = call(&dir, &[OsStr::new("convert"), &path]);
    assert!(printed.contains("x\\u{1b}[31m") && printed.contains("\\n2026-01-01"), "{printed}");
    let printed = call(&dir, &[OsStr::new(&hostile)]);
    assert!(printed.contains("x\\u{1b}[31m"), "{printed}");
}

/// Files and directories that the agent finds, its own state and quarantine among them.
#[test]
fn f114_names_that_are_found() {
    let mut host = Host::new();
    host.sink += "rotate_bytes = \"1KiB\"\nrotated_files_max = 1\n";
    host.sink = host.sink.replace("rotate_bytes = \"10GiB\"\n", "");
    host.audit_file(114, 30);
    for name in
        [HOSTILE.to_owned(), format!("{HOSTILE}.audit.log"), format!("20260105.00001.audit.log{HOSTILE}")]
    {
        fs::write(host.audit().join(&name), "{bad}\n").unwrap();
        fs::create_dir(host.audit().join(format!("{name}.d"))).unwrap();
    }
    let home = host.path(HOSTILE);
    fs::rename(host.home(), &home).unwrap();
    let config = host.config();
    let text = fs::read_to_string(&config).unwrap();
    let toml = |path: &Path| serde_json::to_string(path.to_str().unwrap()).unwrap();
    let (from_home, from_out) = (format!("{:?}", host.home()), format!("{:?}", host.output()));
    let out = host.path(&format!("out/{HOSTILE}"));
    let text = text.replace(&from_home, &toml(&home)).replace(&from_out, &toml(&out));
    fs::write(&config, text).unwrap();
    let config = config.as_os_str();
    let words = |words: &[&'static str]| -> Vec<&OsStr> {
        let words = words.iter().map(|word| OsStr::new(*word));
        words.chain([OsStr::new("--config"), config]).collect()
    };
    let dir = host.path("");
    let printed = call(&dir, &words(&["run", "--once"]));
    assert!(printed.contains("a rotated file was deleted"), "{printed}");
    assert!(printed.contains("read 30 records from "), "{printed}");
    let rotated = fs::read_dir(host.path("out")).unwrap();
    let names = rotated.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| rotation(name).is_some()).count(), 1);

    // A state that holds such names, and files next to it.
    let entry = |id: &str| Entry {
        id: id.to_owned(),
        sink: HOSTILE.into(),
        source: HOSTILE.into(),
        format: HOSTILE.into(),
        time_ms: 0,
        at_ms: 0,
        reason: HOSTILE.into(),
        event: format!("{{\"message\":\"{}\"}}", HOSTILE.replace('\n', " ")),
        ..Entry::default()
    };
    quarantine::put(&host.state(), 1, &[entry(&"0".repeat(32)), entry(HOSTILE)]).unwrap();
    let dir_of_quarantine = host.state().join("quarantine");
    fs::create_dir(dir_of_quarantine.join(format!("{HOSTILE}.ndjson"))).unwrap();
    fs::write(dir_of_quarantine.join(format!("y{HOSTILE}.ndjson")), "no entry\n").unwrap();
    fs::create_dir(host.state().join(format!("db.corrupt-{HOSTILE}"))).unwrap();
    for command in [
        &["state", "show"][..],
        &["state", "export"],
        &["check"],
        &["check", "--fast"],
        &["quarantine", "list"],
        &["quarantine", "list", "--json"],
        &["quarantine", "show", "00000000000000000000000000000000"],
        &["quarantine", "show", "--raw", "00000000000000000000000000000000"],
        &["quarantine", "replay"],
        &["quarantine", "replay", "--to", "local"],
        &["quarantine", "replay", "--to", "stdout"],
        &["quarantine", "drop", "--yes", "--all"],
        &["run", "--once"],
        &["state", "forget", "--yes"],
    ] {
        call(&dir, &words(command));
    }
}

/// What a configuration says wrong is repeated, never raw.
#[test]
fn f114_names_in_the_configuration() {
    let host = Host::new();
    let good = fs::read_to_string(host.config()).unwrap();
    let name = serde_json::to_string(HOSTILE).unwrap();
    let name = name.replace('\u{9b}', "\\u009b").replace('\u{202e}', "\\u202e");
    for (from, to) in [
        ("name = \"wiki\"", format!("name = {name}")),
        ("name = \"local\"", format!("name = {name}")),
        ("type = \"file\"", format!("type = {name}")),
        ("state_dir =", format!("{name} = 1\nstate_dir =")),
        ("rotate_daily = false", format!("rotate_daily = {name}")),
        ("rotate_bytes = \"10GiB\"", format!("rotate_bytes = {name}")),
        ("type = \"data_center\"", format!("type = {name}")),
        ("rotate_grace = \"1s\"", format!("rotate_grace = {name}")),
    ] {
        assert!(good.contains(from), "{from}");
        let path = host.path("hostile.toml");
        fs::write(&path, good.replace(from, &to)).unwrap();
        for command in [&["run", "--once"][..], &["check"], &["state", "show"]] {
            let words = command.iter().map(|word| OsStr::new(*word));
            let words: Vec<&OsStr> = words.chain([OsStr::new("--config"), path.as_os_str()]).collect();
            let printed = call(&host.path(""), &words);
            // Where the name is the complaint's, it is there.
            if to.contains("= 1") && command[0] != "state" {
                assert!(printed.contains("x\\u{1b}[31m"), "{printed}");
            }
        }
    }
}
