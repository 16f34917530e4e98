//! A secret shows nowhere, whatever goes wrong and however much is logged.

use super::binary::{data_center, insert, quiet_data_center};
use crate::rig::Host;
use crate::simulator::client::basic;
use crate::simulator::sim::{Credential, Fault, Kind, Sim};
use std::fs;
use std::path::Path;
use std::process::Command;

/// In every secret field.
const CANARIES: [&str; 4] = ["cAnArYpAt7", "cAnArYpAsS7", "cAnArYhEaD7", "cAnArYpRoXy7"];

const FAULTS: [Option<Fault>; 7] = [
    None,
    Some(Fault::Unauthorized),
    Some(Fault::Forbidden),
    Some(Fault::Captcha),
    Some(Fault::LoginPage),
    Some(Fault::NotJson),
    Some(Fault::Hangup),
];

/// Credentials, header and proxy of a source, in files of their own or in the configuration itself.
fn with_secrets(sim: &Sim, bearer: bool, inline: bool) -> Host {
    let mut host = data_center(sim);
    let reference = |name: &str, secret: &str| {
        if inline {
            return format!("{secret:?}");
        }
        let path = host.path(name);
        fs::write(&path, secret).unwrap();
        format!("{{ file = {path:?} }}")
    };
    let [pat, password, header, proxy] = CANARIES;
    let lines = [
        format!("X-Key = {}", reference("key.secret", header)),
        format!("password = {}", reference("proxy.secret", proxy)),
        reference("pat.secret", pat),
        reference("password.secret", password),
    ];
    host.unset(&["personal_access_token"]);
    host.set("headers", &format!("{{ {} }}", lines[0]));
    host.set("proxy", &format!("{{ url = {:?}, user = \"agent\", {} }}", sim.url(), lines[1]));
    if bearer {
        host.set("personal_access_token", &lines[2]);
    } else {
        host.set("user", "\"auditor\"");
        host.set("token", &lines[3]);
    }
    host
}

/// All that stands below a directory, but for the configuration and the files of the secrets.
fn all_files(dir: &Path, out: &mut Vec<u8>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all_files(&path, out);
        } else if !path.ends_with("config.toml") && path.extension().is_none_or(|end| end != "secret") {
            out.extend(path.to_string_lossy().bytes());
            out.extend(fs::read(&path).unwrap());
        }
    }
}

#[track_caller]
fn assert_no_secret(what: &str, bytes: &[u8]) {
    let [_, password, _, proxy] = CANARIES;
    let encoded = [basic("auditor", password), basic("agent", proxy)].map(|text| text[6..].to_owned());
    for secret in CANARIES.into_iter().chain(encoded.iter().map(String::as_str)) {
        let at = memchr::memmem::find(bytes, secret.as_bytes());
        let near = at.map(|at| String::from_utf8_lossy(&bytes[at.saturating_sub(300)..at]));
        assert!(near.is_none(), "{what} shows `{secret}` after {near:?}");
    }
}

/// Runs, failures of each kind, a panic, `check` and the commands about the state, at the level trace.
#[test]
fn f57_canary() {
    std::thread::scope(|scope| {
        scope.spawn(|| no_secret_shows(true, true, "json"));
        scope.spawn(|| no_secret_shows(true, false, "text"));
        scope.spawn(|| no_secret_shows(false, true, "text"));
        scope.spawn(|| no_secret_shows(false, false, "json"));
    });
}

fn no_secret_shows(bearer: bool, inline: bool, format: &str) {
    let sim = quiet_data_center();
    let [pat, password, ..] = CANARIES;
    sim.add_credential(Credential::new(Kind::Token, "auditor", pat));
    sim.add_credential(Credential::new(Kind::Password, "auditor", password));
    let host = with_secrets(&sim, bearer, inline);
    let log = ["--log-level", "trace", "--log-format", format];
    let mut shown = Vec::new();
    let mut run = |command: &mut Command| {
        let output = command.output().unwrap();
        let kept = [output.stdout, output.stderr].concat();
        shown.extend_from_slice(&kept);
        (output.status.code(), String::from_utf8_lossy(&kept).into_owned())
    };
    for fault in FAULTS {
        sim.clear_faults();
        insert(&sim, false, 0..3);
        let fine = fault.is_none();
        if let Some(fault) = fault.clone() {
            sim.fault(fault);
        }
        let arguments = [&["--once"], &log[..]].concat();
        let (code, printed) = run(&mut host.command(&[], &arguments));
        assert_eq!(code, Some(if fine { 0 } else { 75 }), "{fault:?}: {printed}");
        let binary = || Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
        let (code, printed) = run(binary().args(["check", "--config"]).arg(host.config()));
        assert_eq!(code, Some(if fine { 0 } else { 75 }), "{fault:?}: {printed}");
        for what in ["show", "export"] {
            let (code, printed) = run(binary().args(["state", what, "--state"]).arg(host.state()));
            assert_eq!(code, Some(0), "{printed}");
        }
    }
    sim.clear_faults();
    insert(&sim, false, 10..13);
    let mut command = host.command(&[], &log);
    command.env("CONFLUENCE_AUDIT_AGENT_FAILPOINT", "decode=panic@1");
    let (code, printed) = run(&mut command);
    assert_eq!(code, Some(70), "{printed}");
    // They were in use: the proxy, the header, and one of the two ways to log in.
    let seen = sim.requests();
    assert!(
        seen.iter().all(|seen| seen.via_proxy && seen.proxy_authorization.is_basic("agent", CANARIES[3]))
    );
    assert!(seen.iter().all(|seen| seen.header("x-key") == Some(CANARIES[2])));
    let used = |seen: &crate::simulator::sim::Seen| match bearer {
        true => seen.authorization.is_bearer(pat),
        false => seen.authorization.is_basic("auditor", password),
    };
    assert!(seen.iter().all(used));
    assert_no_secret("a log", &shown);
    let mut files = Vec::new();
    all_files(&host.path(""), &mut files);
    assert!(host.delivered() > 0 && files.len() > 1000);
    assert_no_secret("a file", &files);
}
