//! The signed checkpoints of the ledger: when they are made and published, and what happens when the state, the ledger
//! and the key do not fit together.

use crate::rig::agent::copy_tree;
use crate::rig::oracle::all_events;
use crate::rig::{Event, Host, judge};
use confluence_audit_agent::clock;
use confluence_audit_agent::ledger::{Checkpoint, LedgerReader, Verifier};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

fn ledger(host: &Host) -> PathBuf {
    host.state().join("ledger/wiki")
}

fn keys(host: &Host) -> Vec<Verifier> {
    let text = fs::read_to_string(host.state().join("ledger/key.pub")).unwrap();
    text.lines().map(|line| Verifier::parse(line).unwrap()).collect()
}

/// The checkpoint in a note that this host's key has signed.
fn opened(host: &Host, note: &str) -> Checkpoint {
    let key = keys(host).pop().unwrap();
    key.open(note).unwrap_or_else(|| panic!("not signed by {key}: {note}"))
}

fn latest(host: &Host) -> Checkpoint {
    opened(host, &fs::read_to_string(ledger(host).join("checkpoint")).unwrap())
}

fn of_action(host: &Host, action: &str) -> Vec<Event> {
    let events = all_events(&fs::read(host.output()).unwrap_or_default()).into_iter();
    events.filter(|event| event.text("/event/action") == action).collect()
}

fn entries(host: &Host) -> u64 {
    LedgerReader::open(&ledger(host)).unwrap().unwrap().size()
}

/// Each interval, also when nothing was delivered; and at the stop, when something was.
#[test]
fn checkpoints_are_published_and_signed_at_the_stop() {
    let mut host = Host::new();
    host.root += "ledger.seal_interval = \"1s\"\n";
    let (mut writer, file) = host.audit_file(1, 10);
    let mut agent = host.start();
    let sealed = || of_action(&host, "agent.ledger.sealed");
    agent.until("two checkpoints are published", || sealed().len() >= 2);
    writer.append(&file, 5);
    agent.until("the rest is delivered", || host.delivered() == 15);
    let count = sealed().len();
    agent.until("another checkpoint is published", || sealed().len() > count);
    assert_eq!(agent.stop(), 0);
    judge(&writer, &host.events()).is_exact();
    let mut last = 0;
    for event in sealed() {
        let checkpoint = opened(&host, event.text("/event/original"));
        assert!(checkpoint.size > last, "{} after {last}", checkpoint.size);
        last = checkpoint.size;
    }
    // The last one is not published, because it was signed after the last event.
    assert_eq!(latest(&host).size, entries(&host));
    assert_eq!(entries(&host), 15 + sealed().len() as u64);
    let origin = latest(&host).origin;
    assert!(origin.starts_with("confluence-audit-agent/") && origin.ends_with("/wiki"), "{origin}");
}

/// A single run signs at its end. It publishes the last checkpoint of earlier runs only once the interval has passed,
/// so runs in quick succession add no events.
#[test]
fn single_runs_publish_once_an_interval() {
    let mut host = Host::new();
    let (writer, _) = host.audit_file(2, 10);
    for _ in 0..2 {
        host.once_ok();
        assert_eq!(latest(&host).size, 10);
        judge(&writer, &host.events()).is_exact();
        assert!(of_action(&host, "agent.ledger.sealed").is_empty());
    }
    host.root += "ledger.seal_interval = \"1s\"\n";
    let deadline = clock::monotonic() + Duration::from_secs(60);
    while of_action(&host, "agent.ledger.sealed").is_empty() {
        assert!(clock::monotonic() < deadline, "not published");
        host.once_ok();
    }
    let published = of_action(&host, "agent.ledger.sealed");
    assert_eq!(opened(&host, published[0].text("/event/original")).size, 10);
    judge(&writer, &host.events()).is_exact();
}

/// The checkpoint store knows less than was signed: a new log begins, the old one is kept, and an event says so.
#[test]
fn a_restored_state_begins_a_new_log() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(3, 10);
    host.once_ok();
    let backup = host.path("backup");
    copy_tree(&host.state(), &backup);
    writer.append(&file, 10);
    host.once_ok();
    let signed = latest(&host);
    assert_eq!(signed.size, 20);
    for name in ["db", "checkpoint.json"] {
        let (from, to) = (backup.join(name), host.state().join(name));
        match from.is_dir() {
            true => {
                fs::remove_dir_all(&to).unwrap();
                copy_tree(&from, &to);
            }
            false => drop(fs::copy(from, to).unwrap()),
        }
    }
    host.once_ok().logged("a new log of the ledger");
    judge(&writer, &host.events()).is_exact();
    assert_eq!(of_action(&host, "agent.ledger.restarted").len(), 1);
    assert_eq!(latest(&host).origin, format!("{}/2", signed.origin));
    let kept = fs::read_to_string(host.state().join("ledger/wiki.log-1/checkpoint")).unwrap();
    assert_eq!(opened(&host, &kept), signed);
    assert!(!host.once_ok().stderr.contains("a new log"));
}

/// A new key signs the last checkpoint beside the old one, once.
#[test]
fn a_new_key_signs_beside_the_old_one() {
    let mut host = Host::new();
    let (mut writer, file) = host.audit_file(4, 10);
    host.once_ok();
    fs::write(host.path("seed"), "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n").unwrap();
    host.root += &format!("ledger.signing_key = {{ file = {:?} }}\n", host.path("seed"));
    for _ in 0..2 {
        host.once_ok();
    }
    let [old, new] = &keys(&host)[..] else { panic!("{:?}", keys(&host)) };
    let note = fs::read_to_string(ledger(&host).join("checkpoint")).unwrap();
    assert!(old.open(&note).is_some() && old.open(&note) == new.open(&note));
    assert_eq!(fs::read_to_string(ledger(&host).join("checkpoints")).unwrap().matches("\n10\n").count(), 2);
    writer.append(&file, 1);
    host.once_ok();
    let note = fs::read_to_string(ledger(&host).join("checkpoint")).unwrap();
    assert!(old.open(&note).is_none());
    assert_eq!(new.open(&note).unwrap().size, 11);
}

/// Without a key nothing is signed, and everything is delivered. The log and an event say so.
#[test]
fn a_key_that_cannot_be_used_stops_no_delivery() {
    let mut host = Host::new();
    let (writer, _) = host.audit_file(5, 10);
    fs::write(host.path("seed"), "too short\n").unwrap();
    host.root += &format!("ledger.signing_key = {{ file = {:?} }}\n", host.path("seed"));
    host.once_ok().logged("is not a key");
    judge(&writer, &host.events()).is_exact();
    let told = of_action(&host, "agent.ledger.damaged");
    assert!(told[0].text("/message").contains("is not a key"), "{}", told[0].json);
    assert!(!told[0].json.to_string().contains("too short"));
    assert!(!ledger(&host).join("checkpoint").exists());
}
