//! What `--version` says of where a release build comes from: the commit and its date. Taken from the commit and not from
//! the clock, so that the same commit gives the same bytes.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=packaging/version.rs");
    println!("cargo::rerun-if-env-changed=CONFLUENCE_AUDIT_AGENT_COMMIT");
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    // A debug build would have to be built again after each commit.
    let commit = match std::env::var("PROFILE").as_deref() {
        Ok("release") => given().or_else(from_git),
        _ => Some("debug build".to_owned()),
    };
    let version = commit.map_or(version.clone(), |commit| format!("{version} ({commit})"));
    println!("cargo::rustc-env=CONFLUENCE_AUDIT_AGENT_VERSION={version}");
}

/// What a build without git gets: `3f9c2d1b7a40 2026-11-21`.
fn given() -> Option<String> {
    std::env::var("CONFLUENCE_AUDIT_AGENT_COMMIT").ok().filter(|commit| !commit.is_empty())
}

fn from_git() -> Option<String> {
    // Of a tree that only is in some other project's repository nothing is known.
    let top = std::path::Path::new(&std::env::var_os("CARGO_MANIFEST_DIR")?).join(".git");
    let head = top.exists().then(|| git(&["rev-parse", "--git-path", "logs/HEAD"]))??;
    println!("cargo::rerun-if-changed={head}");
    git(&["log", "-1", "--abbrev=12", "--format=%h %cs"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
}
