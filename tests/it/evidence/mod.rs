//! What shows that events are complete and unchanged: `verify`, `reconcile`, `report`.

mod ledger;
mod reconcile;
mod report;
mod verify;

use crate::rig::Host;
use crate::rig::agent::Once;
use std::path::Path;
use std::process::Command;

/// Runs a command that is not `run`.
fn command(arguments: &[&str], more: &[&Path]) -> Once {
    let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    for name in ["http_proxy", "https_proxy", "all_proxy", "CONFLUENCE_HOME"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    let output = command.args(arguments).args(more).output().unwrap();
    Once {
        code: output.status.code().expect("ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The findings that a command printed with `--json`, and its summary.
fn findings(once: &Once) -> (Vec<serde_json::Value>, serde_json::Value) {
    let lines = once.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut lines: Vec<serde_json::Value> = lines.collect();
    let summary = lines.pop().unwrap_or_else(|| panic!("no output; {}", once.stderr));
    (lines, summary["summary"].clone())
}

/// A host whose agent has delivered so many records to its file.
fn delivered(records: usize, sink: &str) -> Host {
    let mut host = Host::new();
    host.sink += sink;
    host.audit_file(3, records);
    host.once_ok();
    host
}
