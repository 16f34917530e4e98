//! `ledger`, `find`, `prove` and `verify --proof`, while the agent runs and after it has stopped.

use super::{command, delivered};
use crate::rig::agent::Once;
use crate::rig::{Host, skip};
use confluence_audit_agent::ledger::Verifier;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const RECORDS: usize = 600;

fn of_state(host: &Host, arguments: &[&str]) -> Once {
    command(arguments, &[Path::new("--state"), &host.state()])
}

/// What a command prints that must succeed.
#[track_caller]
fn printed(once: Once) -> String {
    assert_eq!(once.code, 0, "{}{}", once.stderr, once.stdout);
    once.stdout
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn key(host: &Host) -> String {
    printed(of_state(host, &["ledger", "key"])).lines().last().unwrap().to_owned()
}

fn id_of(event: &str) -> String {
    json(event)["event"]["id"].as_str().unwrap().to_owned()
}

fn write(host: &Host, name: &str, text: &str) -> PathBuf {
    let path = host.path(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_ledger_is_shown_also_while_the_agent_runs() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(3, RECORDS);
    host.once_ok();
    let mut agent = host.start();
    writer.append(&file, 1);
    let show = || printed(of_state(&host, &["ledger", "show"]));
    agent.until("it is delivered and recorded", || show().contains("601 entries"));
    let shown = show();
    for line in [
        "ledger of source wiki\n",
        "  entries     601 entries, 48.1 kB\n",
        "  checkpoint  1 of 1, with 600 entries\n",
        "  not signed  the last entry\n",
    ] {
        assert!(shown.contains(line), "{line:?} in {shown}");
    }
    let key = Verifier::parse(&key(&host)).unwrap();
    assert!(shown.contains(&format!("  signed by   {}\n", key.short())), "{shown}");
    let shown = json(&printed(of_state(&host, &["ledger", "show", "--json"])));
    assert_eq!(
        (&shown["source"], &shown["size"], &shown["checkpoint"]["size"]),
        (&"wiki".into(), &601.into(), &600.into())
    );
    let known = json(&printed(of_state(&host, &["ledger", "key", "--json"])));
    assert_eq!(known["key"], key.to_string());

    let events = fs::read_to_string(host.output()).unwrap();
    let event = events.lines().nth(432).unwrap();
    let id = id_of(event);
    let found = printed(of_state(&host, &["find", &id]));
    let file = fs::read_dir(host.audit()).unwrap().next().unwrap().unwrap().path();
    for line in [
        format!("event {id}\n"),
        format!("  read from   audit file {}, bytes ", file.display()),
        "  outcome     delivered to every sink of its source\n".to_owned(),
        "  entry       432\n  checkpoint  1, with 600 entries\n".to_owned(),
    ] {
        assert!(found.contains(&line), "{line:?} in {found}");
    }
    let found = json(&printed(of_state(&host, &["find", &id[..20], "--json"])));
    let offset = found["offset"].as_u64().unwrap() as usize;
    let length = found["length"].as_u64().unwrap() as usize;
    let original = json(event)["event"]["original"].as_str().unwrap().to_owned();
    assert_eq!(&fs::read(&file).unwrap()[offset..offset + length], format!("{original}\n").as_bytes());
    assert_eq!((&found["id"], &found["path"]), (&id.as_str().into(), &file.to_str().unwrap().into()));
    for words in [&["find", "00000000"], &["prove", "00000000"]] {
        let once = of_state(&host, words);
        assert_eq!((once.code, once.stdout.as_str()), (1, ""), "{}", once.stderr);
        assert!(once.stderr.contains("no entry of an event `00000000`"), "{}", once.stderr);
    }
    let once = of_state(&host, &["find", &id, "--source", "docs"]);
    assert!(once.code == 75 && once.stderr.contains("there is `wiki`"), "{}", once.stderr);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_proof_needs_nothing_but_the_key() {
    let host = delivered(RECORDS, "");
    let events = fs::read_to_string(host.output()).unwrap();
    let event = events.lines().nth(77).unwrap();
    let original = json(event)["event"]["original"].as_str().unwrap().to_owned();
    let id = id_of(event);
    let text = printed(of_state(&host, &["prove", &id]));
    let proof = write(&host, "proof", &text);
    assert_eq!(json(&printed(of_state(&host, &["prove", &id, "--json"])))["proof"], text);
    let key = key(&host);
    let verified = |proof: &Path, event: &Path, key: &str| {
        let once = command(&["verify", "--key", key, "--proof"], &[proof, Path::new("--event"), event]);
        assert_eq!(once.stderr, "");
        (once.code, once.stdout)
    };
    let other = events.lines().nth(78).unwrap();
    let renamed = event.replacen("\"original\":\"", "\"original\":\" ", 1);
    let (valid, altered) =
        ("result: proven; the event is what was delivered", "result: the event is not what was delivered");
    for (event, code, result) in [
        (event, 0, valid),
        (&original, 0, valid),
        (&events, 0, valid),
        (&renamed, 1, altered),
        (other, 1, "result: not proven: the file holds no event of this entry"),
    ] {
        let event = write(&host, "event", &format!("{event}\n"));
        let (found, said) = verified(&proof, &event, &key);
        assert!(found == code && said.contains(result), "{found} {said}");
    }
    let event = write(&host, "event", event);
    let unchecked = printed(command(&["verify", "--key", &key, "--proof"], &[&proof]));
    assert!(unchecked.contains("not checked:\n  the event") && unchecked.contains(&id), "{unchecked}");
    let shown = json(&printed(command(
        &["verify", "--json", "--key", &key, "--proof"],
        &[&proof, Path::new("--event"), &event],
    )));
    assert_eq!(
        (&shown["proven"], &shown["event"], &shown["entry"]),
        (&true.into(), &"intact".into(), &77.into())
    );
    // Another entry, another checkpoint, another key.
    let foreign = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    for (proof, key, problem) in [
        (text.replace("index 77\n", "index 78\n"), key.as_str(), "the entry is not in the ledger"),
        (text.replace("\n600\n", "\n601\n"), &key, "was changed after"),
        (text.clone(), foreign, "is not signed by a given key"),
        ("{}".to_owned(), &key, "this is not a proof"),
    ] {
        let (code, said) = verified(&write(&host, "wrong", &proof), &event, key);
        assert!(
            code == 1 && said.contains("result: not proven: ") && said.contains(problem),
            "{code} {said}"
        );
    }
    let once = command(&["verify", "--proof"], &[&proof]);
    assert_eq!(once.code, 64);
}

/// A ledger that does not lead to what was signed proves nothing and is not exported.
#[test]
fn an_altered_ledger_proves_nothing() {
    let host = delivered(RECORDS, "");
    let events = fs::read_to_string(host.output()).unwrap();
    let id = id_of(events.lines().next().unwrap());
    let segment = host.state().join("ledger/wiki/entries/0000000000000000");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[60] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let once = of_state(&host, &["prove", &id]);
    assert!(
        once.code == 1 && once.stderr.contains("do not lead to the root of checkpoint 1"),
        "{}",
        once.stderr
    );
    let tiles = host.path("tiles");
    let once = of_state(&host, &["ledger", "export", tiles.to_str().unwrap()]);
    assert!(once.code == 1 && once.stderr.contains("`verify` says what was changed"), "{}", once.stderr);
}

#[test]
fn what_cannot_be_exported_says_why() {
    let host = Host::new();
    let once = of_state(&host, &["ledger", "key"]);
    assert!(
        once.code == 75 && once.stderr.contains("the agent makes it at its first start"),
        "{}",
        once.stderr
    );
    let once = of_state(&host, &["ledger", "show"]);
    assert!(once.code == 75 && once.stderr.contains("there is no ledger"), "{}", once.stderr);
    let host = delivered(3, "");
    let once = of_state(&host, &["ledger", "export", host.home().to_str().unwrap()]);
    assert!(once.code == 78 && once.stderr.contains("name another directory"), "{}", once.stderr);
}

/// What the agent signs and exports is verified by another implementation, tests/peers/tlog.
#[test]
fn another_implementation_verifies_checkpoints_tiles_and_proofs() {
    let tlog = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/tlog");
    if !tlog.exists() {
        return skip("tlog", "the verifier in Go is not built; tests/peers/tlog.sh does it");
    }
    let verify = |what: &str, key: &str, path: &Path| {
        let output = Command::new(&tlog).args([what, key]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said.into_owned())
    };
    let host = Host::new();
    let (mut writer, file) = host.audit_file(3, 200);
    let tiles = host.path("tiles");
    let mut size = 200;
    for more in [0, 57, 600] {
        if more > 0 {
            writer.append(&file, more);
            size += more;
        }
        host.once_ok();
        printed(of_state(&host, &["ledger", "export", tiles.to_str().unwrap()]));
        let (verified, said) = verify("tiles", &key(&host), &tiles);
        assert!(verified && said.contains(&format!("wiki: {size} entries")), "{said}");
    }
    let events = fs::read_to_string(host.output()).unwrap();
    for at in [0, 255, 256, size - 1] {
        let id = id_of(events.lines().nth(at).unwrap());
        let text = printed(of_state(&host, &["prove", &id]));
        let (verified, said) = verify("proof", &key(&host), &write(&host, "proof", &text));
        assert!(verified && said.contains(&format!("wiki: entry {at} of {size}")), "{said}");
        let (verified, _) =
            verify("proof", &key(&host), &write(&host, "proof", &text.replace("extra AQ", "extra AA")));
        assert!(!verified);
    }
    // The same export proves the same to ours.
    let id = id_of(events.lines().nth(300).unwrap());
    let of_tiles = printed(command(&["prove", &id, "--tiles"], &[&tiles]));
    assert_eq!(of_tiles, printed(of_state(&host, &["prove", &id])));
    let tile = tiles.join("tile/entries/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[100] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let (verified, said) = verify("tiles", &key(&host), &tiles);
    assert!(!verified && said.contains("entry 1 does not have the hash of its tile"), "{said}");
}
