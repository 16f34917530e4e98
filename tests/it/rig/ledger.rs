//! Judges the ledger of a stopped agent against what is in its output.

use super::Host;
use confluence_audit_agent::ledger::{EntryKind, LedgerReader};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn lines_with(output: &Path, ids: &[&&String]) -> Vec<String> {
    let text = fs::read_to_string(output).unwrap_or_default();
    let lines = text.lines().filter(|line| ids.iter().any(|id| line.contains(id.as_str())));
    lines.map(|line| line.chars().take(400).collect()).collect()
}

/// The ledger of source `wiki` has the events with these ids and no other, each once, and `verify` finds nothing in the
/// `outputs`, except in events that `may_differ`.
#[track_caller]
pub fn judge_ledger<'i>(
    host: &Host,
    ids: impl Iterator<Item = &'i String>,
    outputs: &[PathBuf],
    may_differ: &HashSet<String>,
) {
    judge_ledger_of(host, "wiki", ids, outputs, may_differ);
}

/// As [`judge_ledger`], of any source. The `outputs` are those of all sources.
#[track_caller]
pub fn judge_ledger_of<'i>(
    host: &Host,
    source: &str,
    ids: impl Iterator<Item = &'i String>,
    outputs: &[PathBuf],
    may_differ: &HashSet<String>,
) {
    let reader = LedgerReader::open(&host.state().join("ledger").join(source)).unwrap().unwrap();
    let mut recorded = HashMap::<String, usize>::new();
    for entry in reader.entries(reader.first()..reader.size()) {
        let (number, entry) = entry.unwrap();
        let entry = entry.unwrap_or_else(|| panic!("entry {number} is damaged"));
        if entry.kind == EntryKind::Delivered {
            *recorded.entry(format!("{:032x}", entry.id)).or_default() += 1;
        }
    }
    let twice: Vec<_> = recorded.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "ids that are in the ledger more than once: {twice:?}");
    let delivered: HashSet<&String> = ids.collect();
    let extra: Vec<_> = recorded.keys().filter(|id| !delivered.contains(id)).collect();
    let missing: Vec<_> = delivered.iter().filter(|id| !recorded.contains_key(**id)).collect();
    let lines: Vec<String> = outputs.iter().flat_map(|output| lines_with(output, &missing)).collect();
    let is_equal = extra.is_empty() && missing.is_empty();
    assert!(is_equal, "not delivered: {extra:?}; not in the ledger: {missing:?}: {lines:?}");
    let mut verify = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    verify.args(["verify", "--json", "--state"]).arg(host.state());
    for output in outputs {
        verify.arg("--export").arg(output);
    }
    let verified = verify.output().unwrap();
    let text = String::from_utf8_lossy(&verified.stdout);
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let findings: Vec<_> = lines
        .filter(|line| line["finding"].is_string())
        .filter(|line| !may_differ.contains(line["id"].as_str().unwrap_or_default()))
        .collect();
    assert!(findings.is_empty(), "{findings:?}");
    assert!(
        matches!(verified.status.code(), Some(0 | 1)),
        "{text}{}",
        String::from_utf8_lossy(&verified.stderr)
    );
}
