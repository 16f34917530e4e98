//! `support-bundle`: what is in the archive, and what must not be.

use crate::rig::Host;
use crate::rig::admin::get;
use crate::rig::agent::Once;
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each secret of these tests begins so.
const MARK: &str = "s3cr3t";

/// Programs that stand for those of systemd: their output has secrets in it.
fn programs(host: &Host) -> PathBuf {
    let dir = host.path("programs");
    fs::create_dir_all(&dir).unwrap();
    let environment = host.path("unit.env");
    fs::write(&environment, format!("# {MARK}-comment\nE='{MARK}-of-a-file'\n")).unwrap();
    let systemctl = format!(
        "#!/bin/sh\ncase \"$*\" in\n*--version*) echo 'systemd 999 (test)' ;;\n*MainPID*) echo $PPID ;;\n*) cat <<'END'\n\
         Id=confluence-audit-agent.service\nActiveState=active\nSetCredential=x:{MARK}-credential\n\
         Environment=TOKEN={MARK}-variable TZ=UTC HTTPS_PROXY=http://agent:{MARK}-proxy@proxy.example:3128\n\
         EnvironmentFiles={} (ignore_errors=no)\nEND\n;;\nesac\n",
        environment.display()
    );
    let names = ["variable", "credential", "of-a-file", "header", "inline", "file", "of-systemd"];
    let log: String = names.iter().map(|name| format!("a line with {MARK}-{name} in it\n")).collect();
    // The journal has what the agent prints too: with a sink `stdout` that is its audit events.
    let printed =
        "case \"$*\" in\n*_TRANSPORT=journal*) ;;\n*) echo 'an audit event on standard output' ;;\nesac";
    let journalctl = format!("#!/bin/sh\n{printed}\ncat <<'END'\n{log}END\n");
    for (name, text) in [("systemctl", systemctl), ("journalctl", journalctl)] {
        fs::write(dir.join(name), text).unwrap();
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    dir
}

fn bundle(host: &Host, file: &Path, more: &[&str]) -> Once {
    let path = format!("{}:{}", programs(host).display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    command.arg("support-bundle").arg(file).args(more).arg("--config").arg(host.path("config.toml"));
    let output = command.env("PATH", path).output().unwrap();
    Once {
        code: output.status.code().expect("ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The files of an archive, without the directory that all are in.
fn unpacked(file: &Path) -> BTreeMap<String, String> {
    let mut archive = tar::Archive::new(GzDecoder::new(fs::File::open(file).unwrap()));
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let (root, name) = path.to_str().unwrap().split_once('/').unwrap();
        assert!(root.starts_with("confluence-audit-agent-support-20"), "{root}");
        let name = name.to_owned();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

/// A host whose configuration has secrets.
fn host() -> Host {
    let mut host = Host::new();
    let secret_file = host.path("token");
    fs::write(&secret_file, format!("{MARK}-file\n")).unwrap();
    fs::create_dir_all(host.path("credentials")).unwrap();
    fs::write(host.path("credentials/hec"), format!("{MARK}-of-systemd\n")).unwrap();
    host.more = format!(
        "# {MARK}-comment\n[[sink]]\nname = \"web\"\ntype = \"http\"\nurl = \"https://127.0.0.1:9/\" # {MARK}-comment\n\
         token = \"{MARK}-inline\"\nheaders = {{ X-Key = \"{MARK}-header\" }}\nbatch_events = 77\n\
         [[sink]]\nname = \"splunk\"\ntype = \"splunk_hec\"\nurl = \"https://127.0.0.1:9/\"\ntoken = {{ file = {secret_file:?} }}\n"
    );
    host
}

#[test]
fn a_bundle_of_a_running_agent_has_all_parts_and_no_secret() {
    let mut host = host();
    host.audit_file(1, 10);
    let socket = host.admin();
    let mut agent = host.start();
    agent.until("the endpoint answers", || get(&socket, "/status").is_ok_and(|answer| answer.status == 200));
    agent.until("positions are stored", || host.state().join("checkpoint.json").exists());
    let file = host.path("support.tar.gz");
    let run = bundle(&host, &file, &[]);
    assert_eq!(run.code, 0, "{}{}", run.stdout, run.stderr);
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let files = unpacked(&file);
    // The list comes first.
    for name in files.keys() {
        assert!(run.stdout.find(name.as_str()) < run.stdout.find("Wrote "), "{name}: {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 120), "{}", run.stdout);
    for (name, text) in &files {
        assert!(!text.contains(MARK), "{name} has a secret:\n{text}");
        assert!(!text.contains("not available"), "{name}: {text}");
    }
    let expected = [
        ("versions.txt", "systemd 999 (test)"),
        ("config.toml", "batch_events = 77"),
        ("config.toml", "[removed]"),
        ("check.txt", "source wiki"),
        ("status.json", "\"schema\""),
        ("metrics.txt", "caa_build_info"),
        ("log.txt", "a line with [removed] in it"),
        ("state.txt", "source wiki"),
        ("paths.txt", "checkpoint.json"),
        ("disks.txt", "inodes free"),
        ("unit.txt", "TOKEN=[removed] TZ=UTC HTTPS_PROXY=http://proxy.example:3128/"),
        ("process.txt", "Max open files"),
    ];
    for (name, text) in expected {
        assert!(files[name].contains(text), "{name}: {}", files[name]);
    }
    assert!(!files["log.txt"].contains("an audit event"), "{}", files["log.txt"]);
    assert!(!run.stdout.contains(MARK) && !run.stderr.contains(MARK));
}

#[test]
fn a_bundle_without_an_agent_says_what_is_missing() {
    let host = host();
    // Wrong, and with a secret in the wrong place.
    let config = fs::read_to_string(host.config()).unwrap() + &format!("pasword = \"{MARK}-misspelt\"\n");
    fs::write(host.path("config.toml"), &config).unwrap();
    let file = host.path("support.tar.gz");
    let run = bundle(&host, &file, &[]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("status.json is empty: "), "{}", run.stdout);
    let files = unpacked(&file);
    assert!(files["check.txt"].contains("pasword"), "{}", files["check.txt"]);
    assert!(files["config.toml"].contains("pasword = \"[removed]\""), "{}", files["config.toml"]);
    // Not TOML at all.
    fs::write(host.path("config.toml"), config + &format!("\"{MARK}-half")).unwrap();
    let run = bundle(&host, &file, &["--force"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let broken = unpacked(&file);
    assert!(broken["config.toml"].contains("not valid TOML"), "{}", broken["config.toml"]);
    for text in files.values().chain(broken.values()).chain([&run.stdout]) {
        assert!(
            !text.contains(&format!("{MARK}-misspelt")) && !text.contains(&format!("{MARK}-half")),
            "{text}"
        );
        // The files of secrets are known although the configuration is wrong.
        assert!(!text.contains(&format!("{MARK}-file")), "{text}");
    }
}

#[test]
fn a_bundle_replaces_nothing_and_follows_no_link() {
    let host = host();
    host.config();
    let (file, other) = (host.path("support.tar.gz"), host.path("other"));
    fs::write(&other, "mine").unwrap();
    symlink(&other, &file).unwrap();
    let run = bundle(&host, &file, &[]);
    assert_eq!((run.code, run.stdout.as_str()), (75, ""), "{}", run.stderr);
    assert!(run.stderr.contains("--force"), "{}", run.stderr);
    assert_eq!(bundle(&host, &file, &["--force"]).code, 0);
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine");
    assert!(fs::symlink_metadata(&file).unwrap().is_file());
    assert!(unpacked(&file).len() > 5);
    let nowhere = bundle(&host, &host.path("no/such/directory.tar.gz"), &[]);
    assert_eq!(nowhere.code, 75, "{}", nowhere.stderr);
    let left = fs::read_dir(host.path("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(".support-bundle")));
}
