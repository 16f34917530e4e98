//! `quarantine list`, `show`, `replay` and `drop` as typed, against a server that refuses what a test says.

use crate::rig::collector::{Collector, Do, Plain, Reply};
use crate::rig::{Host, Random, Writer, file_name, seed};
use confluence_audit_agent::quarantine::{self, Entry, QuarantineDirectory};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};

struct Environment {
    host: Host,
    collector: Collector,
}

impl Environment {
    fn new() -> Environment {
        let mut host = Host::new();
        let collector = Collector::start(Plain);
        host.remote = Some(format!("type = \"http\"\nurl = \"{}\"\nbatch_events = 20\n", collector.url()));
        fs::create_dir_all(host.state()).unwrap();
        fs::set_permissions(host.state(), fs::Permissions::from_mode(0o700)).unwrap();
        Environment { host, collector }
    }

    /// One file for each range of numbers.
    fn put(&self, ranges: &[(u128, u128)]) {
        for (at, (from, to)) in ranges.iter().enumerate() {
            let entries: Vec<Entry> = (*from..*to).map(entry).collect();
            quarantine::put(&self.host.state(), 1_700_000_000_000 + at as i64, &entries).unwrap();
        }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        command.arg("quarantine").args(words).arg("--config").arg(self.host.config()).stdin(Stdio::null());
        command
    }

    fn call(&self, words: &[&str]) -> (i32, String, String) {
        let Output { status, stdout, stderr } = self.command(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (status.code().unwrap(), text(stdout), text(stderr))
    }

    /// What is left, each once.
    fn left(&self) -> BTreeSet<u128> {
        let (code, out, err) = self.call(&["list", "--json"]);
        assert_eq!(code, 0, "{err}");
        let numbers: Vec<u128> = out.lines().map(number_of).collect();
        let set: BTreeSet<u128> = numbers.iter().copied().collect();
        assert_eq!(set.len(), numbers.len());
        set
    }

    fn stored(&self) -> Vec<u128> {
        let sent = self.collector.stored();
        sent.iter().map(|sent| u128::from_str_radix(&sent.id, 16).unwrap()).collect()
    }

    fn refuse(&self, poison: impl Fn(u128) -> bool + Send + Sync + 'static) {
        self.collector.refuse(move |sent| poison(u128::from_str_radix(&sent.id, 16).unwrap()));
    }
}

fn id(number: u128) -> String {
    format!("{number:032x}")
}

fn number_of(line: &str) -> u128 {
    let json: serde_json::Value = serde_json::from_str(line).unwrap();
    u128::from_str_radix(json["id"].as_str().unwrap(), 16).unwrap()
}

fn entry(number: u128) -> Entry {
    Entry {
        id: id(number),
        sink: "local".into(),
        source: "wiki".into(),
        format: "ecs".into(),
        time_ms: 1_600_000_000_000,
        at_ms: 1_700_000_000_000,
        reason: "status 400, response: \u{1b}[31mno such field".into(),
        event: format!("{{\"event\":{{\"id\":\"{}\"}},\"n\":1.50}}", id(number)),
        ..Entry::default()
    }
}

#[test]
fn what_is_in_quarantine_is_listed_and_shown() {
    let env = Environment::new();
    let (code, out, _) = env.call(&["list"]);
    assert_eq!((code, out.as_str()), (0, "the quarantine is empty\n"));
    env.put(&[(0, 3), (2, 5)]);
    let (code, out, err) = env.call(&["list"]);
    assert_eq!((code, err.as_str()), (0, ""));
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 1 + 5 * 2 + 2, "{out}");
    let expect = format!("{}  2020-09-13T12:26:40Z  2023-11-14T22:13:20Z  local       wiki", &id(0)[..12]);
    assert_eq!(lines[1..3], [&expect, "    status 400, response: \\u{1b}[31mno such field"]);
    assert_eq!(lines[12], "5 events: local 5");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{out}");
    let (_, out, _) = env.call(&["list", "--sink", "other"]);
    assert_eq!(out, "no such event is in quarantine\n");
    let (_, out, _) = env.call(&["list", "--json", "--id", &id(1), &id(4), "--source", "wiki"]);
    assert_eq!(out.lines().map(number_of).collect::<Vec<_>>(), [1, 4]);

    let (code, out, _) = env.call(&["show", &id(2)]);
    assert_eq!(code, 0);
    for part in [
        "source     wiki\n",
        "reason     status 400, response: \\u{1b}[31mno such field\n",
        "  \"n\": 1.50\n",
    ] {
        assert_eq!(out.matches(part).count(), 1, "{part} in {out}");
    }
    // The beginning of an id will do where it is the beginning of one alone.
    env.put(&[(0xabcd << 112, (0xabcd << 112) + 1)]);
    let (code, out, _) = env.call(&["show", "abcd"]);
    assert_eq!(code, 0);
    assert!(out.contains(&format!("id         {}\n", id(0xabcd << 112))), "{out}");
    let (code, _, err) = env.call(&["drop", "--yes", "--id", &id(2)[..7]]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("is the beginning of 5 events' ids"), "{err}");
    let (code, _, err) = env.call(&["show", "xyz"]);
    assert_eq!(code, 64);
    assert!(err.contains("an id has 32 characters"), "{err}");
    let (_, out, _) = env.call(&["show", "--raw", &id(3), &id(2)]);
    assert_eq!(out, format!("{}\n{}\n", entry(2).event, entry(3).event));
    let (code, out, err) = env.call(&["show", &id(77)]);
    assert_eq!((code, out.as_str()), (78, ""));
    assert!(err.contains(&format!("there is no event `{}`", id(77))), "{err}");
}

/// What is taken leaves the quarantine, what is still refused stays, and each event is sent once.
#[test]
fn f48_poison_event_is_sent_again() {
    let env = Environment::new();
    env.put(&[(0, 30), (20, 50), (50, 60)]);
    env.refuse(|number| number % 10 == 7 || number < 12);
    let (code, out, err) = env.call(&["replay"]);
    assert_eq!(code, 75, "{err}");
    let poison: BTreeSet<u128> = (0..60).filter(|n| n % 10 == 7 || *n < 12).collect();
    assert!(
        out.contains(&format!("delivered {} events, {} stay in quarantine", 60 - poison.len(), poison.len())),
        "{out}"
    );
    assert!(out.contains(&format!("{} is refused: status 400", id(27))), "{out}");
    assert_eq!(env.left(), poison);
    let mut stored = env.stored();
    stored.sort();
    assert_eq!(stored, (0..60).filter(|n| !poison.contains(n)).collect::<Vec<_>>());
    // Not one of these is taken: they stay, each of them tried.
    let (code, ..) = env.call(&["replay"]);
    assert_eq!((code, env.left()), (75, poison));
    // The server takes them now; only what is asked for is sent.
    env.refuse(|_| false);
    let (code, ..) = env.call(&["replay", "--id", &id(27), &id(7)]);
    assert_eq!(code, 0);
    assert!(!env.left().contains(&27) && !env.left().contains(&7));
    let (code, ..) = env.call(&["replay", "--id", &id(27)]);
    assert_eq!(code, 78);
    let (code, _, err) = env.call(&["replay", "--sink", "local"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(env.stored().len(), 60);
    let (_, out, _) = env.call(&["list"]);
    assert_eq!(out, "the quarantine is empty\n");
    assert_eq!(env.call(&["replay"]).0, 0);
    let left: Vec<_> = fs::read_dir(env.host.state().join("quarantine")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_server_that_refuses_the_agent_itself_leaves_everything_where_it_is() {
    let env = Environment::new();
    env.put(&[(0, 5)]);
    env.collector.require_authorization(Some("Bearer other"));
    let (code, out, _) = env.call(&["replay"]);
    assert_eq!(code, 75);
    assert!(out.contains("delivered 0 events, 5 stay in quarantine"), "{out}");
    assert!(out.contains("status 401"), "{out}");
    assert_eq!(env.left().len(), 5);
    env.collector.require_authorization(None);
    // What passes by itself is waited for.
    env.collector.script([Do::Refuse(Reply::new(503, "starting"))]);
    let (code, out, _) = env.call(&["replay"]);
    assert_eq!(code, 0, "{out}");
}

/// Who reads what a command says decides nothing; but what was to be printed, and was not, is not done.
#[test]
fn f111_a_closed_stdout_changes_no_work() {
    let env = Environment::new();
    env.put(&[(0, 10), (10, 20)]);
    let call = |words: &[&str]| {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = env.command(words).stdout(writer).output().unwrap();
        let printed = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), printed)
    };
    assert_eq!(call(&["list"]), (0, String::new()));
    assert_eq!(call(&["list", "--json"]), (0, String::new()));
    assert_eq!(call(&["show", &id(3)]), (0, String::new()));
    assert_eq!(call(&["replay", "--to", "stdout"]), (75, String::new()));
    assert_eq!(call(&["drop", "--yes", "--id", &id(3)]), (0, String::new()));
    assert_eq!(env.left().len(), 19);
    assert_eq!(call(&["replay"]).0, 0);
    assert_eq!((env.left().len(), env.stored().len()), (0, 19));
}

/// A kill at each step: no event is lost, and what is sent twice is sent under its id.
#[test]
fn f48_poison_event_kills_while_it_is_sent_again() {
    let mut random = Random::new(seed("f48_poison_event_kills_while_it_is_sent_again"));
    for (name, hits) in [
        ("before_send", 3),
        ("after_send", 3),
        ("quarantine_rewrite", 3),
        ("quarantine_rename", 2),
        ("quarantine_rewritten", 3),
    ] {
        for hit in 1..=hits {
            let env = Environment::new();
            env.put(&[(0, 25), (15, 40), (40, 50)]);
            let poison = random.below(15) as u128;
            // In each of the files one stays.
            env.refuse(move |number| number % 15 == poison);
            let mut command = env.command(&["replay"]);
            command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", format!("{name}=abort@{hit}"));
            let status = command.output().unwrap().status;
            assert_eq!(status.signal(), Some(6), "{name}@{hit}: {status}");
            let stored: BTreeSet<u128> = env.stored().into_iter().collect();
            let all: BTreeSet<u128> = env.left().union(&stored).copied().collect();
            assert_eq!(all, (0..50).collect(), "{name}@{hit}");
            let (code, _, err) = env.call(&["replay"]);
            assert_eq!(code, 75, "{name}@{hit}: {err}");
            let poison: BTreeSet<u128> = (0..50).filter(|n| n % 15 == poison).collect();
            assert_eq!(env.left(), poison, "{name}@{hit}");
            let stored: BTreeSet<u128> = env.stored().into_iter().collect();
            assert_eq!(stored, (0..50).filter(|n| !poison.contains(n)).collect(), "{name}@{hit}");
            let rest = fs::read_dir(env.host.state().join("quarantine")).unwrap();
            let odd =
                rest.filter(|e| !e.as_ref().unwrap().file_name().to_string_lossy().ends_with(".ndjson"));
            assert_eq!(odd.count(), 0, "{name}@{hit}");
        }
    }
}

/// The agent sets events aside while others are sent again.
#[test]
fn f48_poison_event_is_sent_again_while_the_agent_runs() {
    let env = Environment::new();
    let mut writer = Writer::new(&env.host.audit(), 48);
    let file = writer.create(&file_name(5, 0));
    env.put(&[(0, 40)]);
    env.collector.refuse(|sent| !sent.text.contains("1.50") && sent.id.ends_with('7'));
    let mut agent = env.host.start();
    agent.until_logged("events are in quarantine, refused by their server");
    writer.append(&file, 300);
    let count = || env.left().len();
    agent.until("some are refused", || count() > 40);
    let (code, ..) = env.call(&["replay", "--id", &id(3)]);
    assert_eq!(code, 0);
    let (code, out, err) = env.call(&["replay"]);
    assert_eq!(code, 75, "{out}{err}");
    agent.until("each event is in one place", || env.collector.distinct() + count() == 340);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let stored: BTreeSet<u128> = env.stored().into_iter().collect();
    assert!(stored.is_disjoint(&env.left()));
}

#[test]
fn names_and_formats_that_are_wrong_are_reported_before_anything_is_sent() {
    let env = Environment::new();
    env.put(&[(0, 2)]);
    let others = [Entry { sink: "former".into(), ..entry(5) }, Entry { format: "raw".into(), ..entry(6) }];
    quarantine::put(&env.host.state(), 5, &others[..1]).unwrap();
    quarantine::put(&env.host.state(), 6, &others[1..]).unwrap();
    let (code, _, err) = env.call(&["replay"]);
    assert_eq!(code, 78);
    assert!(err.contains("there is no sink `former`"), "{err}");
    assert!(err.contains("stored as `raw`") && err.contains("--force"), "{err}");
    assert_eq!((env.collector.post_count(), env.left().len()), (0, 4));
    let (code, out, err) = env.call(&["replay", "--to", "stdout"]);
    assert_eq!((code, out.lines().count()), (0, 4), "{err}");
    assert_eq!(env.left().len(), 4);
    let (code, ..) = env.call(&["replay", "--sink", "former", "--to", "local"]);
    assert_eq!(code, 0);
    let (code, _, err) = env.call(&["replay", "--force"]);
    assert_eq!((code, env.left().len()), (0, 0), "{err}");

    // A file is the running agent's alone.
    let mut env = env;
    env.host.remote = None;
    env.put(&[(0, 2)]);
    let (code, _, err) = env.call(&["replay"]);
    assert_eq!(code, 78);
    assert!(err.contains("has no server") && err.contains("--to stdout"), "{err}");
}

#[test]
fn what_is_dropped_is_named_first_and_written_down() {
    let env = Environment::new();
    env.put(&[(0, 5), (4, 8)]);
    let (code, out, err) = env.call(&["drop", "--all"]);
    assert_eq!(code, 64, "{out}");
    assert!(err.contains("--yes"), "{err}");
    assert_eq!(env.left().len(), 8);
    assert_eq!(env.call(&["drop", "--yes"]).0, 64);
    assert_eq!(env.call(&["drop", "--yes", "--id", &id(99)]).0, 78);
    let (code, out, _) = env.call(&["drop", "--yes", "--id", &id(4), &id(0)]);
    assert_eq!(code, 0);
    assert!(out.starts_with("2 events of source wiki that sink local has not delivered\n"), "{out}");
    assert_eq!(env.left(), BTreeSet::from([1, 2, 3, 5, 6, 7]));
    let (code, ..) = env.call(&["drop", "--yes", "--all", "--sink", "local"]);
    assert_eq!((code, env.left().len()), (0, 0));
    let log = env.host.state().join("quarantine/dropped.log");
    assert_eq!(log.metadata().unwrap().mode() & 0o777, 0o600);
    let log = fs::read_to_string(log).unwrap();
    let numbers: Vec<u128> = log.lines().map(number_of).collect();
    assert_eq!(numbers, [0, 4, 1, 2, 3, 5, 6, 7]);
    assert!(log.lines().all(|line| line.contains("no such field") && line.contains("\"by\"")));
    assert!(env.collector.posts().is_empty());
}

#[test]
fn damage_is_reported_and_kept() {
    let env = Environment::new();
    env.put(&[(0, 3)]);
    let dir = env.host.state().join("quarantine");
    let whole = fs::read(&quarantine::files(&env.host.state()).unwrap()[0].0).unwrap();
    let torn = dir.join("1700000000009-local-\u{1b}[2J\n.ndjson");
    let mut bytes = whole.clone();
    bytes.extend_from_slice(b"\0\0\0\0\nno json\n{\"id\":\"zz\"}\n");
    bytes.extend_from_slice(&whole[..40]);
    fs::write(&torn, &bytes).unwrap();
    fs::write(dir.join("1700000000010-empty.ndjson"), "").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("1-link.ndjson")).unwrap();
    let (code, out, err) = env.call(&["list"]);
    assert_eq!(code, 0);
    assert!(out.ends_with("3 events: local 3\n"), "{out}");
    assert!(err.contains("4 lines are not readable") && !err.contains('\u{1b}'), "{err}");
    assert!(err.contains("1-link.ndjson` is not a regular file"), "{err}");
    let (code, out, err) = env.call(&["replay"]);
    assert_eq!(code, 75, "{err}");
    assert!(out.contains("delivered 3 events\n"), "{out}");
    assert_eq!(fs::read(&torn).unwrap(), &bytes[whole.len()..]);
    let (code, out, _) = env.call(&["list"]);
    assert_eq!((code, out.as_str()), (0, "no event in quarantine can be read\n"));
    assert!(dir.join("1-link.ndjson").is_symlink());
}

#[test]
fn one_command_changes_it_at_a_time() {
    let env = Environment::new();
    env.put(&[(0, 3)]);
    let held = QuarantineDirectory::open(&env.host.state()).unwrap().unwrap();
    held.lock().unwrap();
    for words in [&["replay"][..], &["drop", "--all", "--yes"]] {
        let (code, _, err) = env.call(words);
        assert_eq!(code, 75);
        assert!(err.contains("another command is changing"), "{err}");
    }
    assert_eq!(env.left().len(), 3);
    drop(held);
    assert_eq!(env.call(&["replay"]).0, 0);
}

/// Root may do all of it, what it writes stays the agent's; anybody else learns whom to be.
#[test]
fn root_leaves_files_to_their_owner_and_others_are_sent_to_sudo() {
    const AGENT: u32 = 4711;
    let env = Environment::new();
    env.put(&[(0, 3)]);
    if !rustix::process::geteuid().is_root() {
        return crate::rig::skip("root", "only root can make files another user's");
    }
    let dir = env.host.state().join("quarantine");
    let file = quarantine::files(&env.host.state()).unwrap().remove(0).0;
    for path in [&env.host.state(), &dir, &file] {
        std::os::unix::fs::chown(path, Some(AGENT), Some(AGENT)).unwrap();
    }
    env.refuse(|number| number == 1);
    assert_eq!(env.call(&["replay", "--id", &id(0)]).0, 0);
    assert_eq!(env.call(&["drop", "--yes", "--id", &id(2)]).0, 0);
    for path in [file, dir.join("dropped.log")] {
        let found = path.metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o777), (AGENT, AGENT, 0o600));
    }
    // Somebody who comes as far as the directory's door.
    let output = Command::new("setpriv")
        .args(["--reuid=4712", "--regid=4712", "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_confluence-audit-agent"))
        .args(["quarantine", "list", "--state"])
        .arg(env.host.state())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() != Some(75) {
        let reason = format!("another user cannot execute the binary here: {err}");
        return crate::rig::skip("root", &reason);
    }
    assert!(err.contains("sudo -u 4711"), "{err}");
}

/// `check` and `state show` say that something waits there.
#[test]
fn a_quarantine_that_is_not_empty_is_reported() {
    let env = Environment::new();
    env.host.audit_file(48, 1);
    env.host.once_ok();
    env.put(&[(0, 3)]);
    let run = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"))
            .args(words)
            .arg("--config")
            .arg(env.host.config())
            .output()
            .unwrap();
        crate::rig::unwrap_lines(&String::from_utf8(output.stdout).unwrap())
    };
    let out = run(&["check"]);
    assert!(out.contains("warning  quarantine: 3 events are kept that a server refuses"), "{out}");
    let out = run(&["state", "show"]);
    assert!(out.contains("quarantine       3 events that a server refuses"), "{out}");
}
