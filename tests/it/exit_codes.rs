//! Conditions and the exit codes that they give. 64 and 78 keep systemd from starting the service again, so they are
//! for what
//! only another command line or another configuration can heal.

use crate::full::Disk;
use crate::rig::{Host, skip};
use rustix::process::Signal;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

const AS_NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const ID: &str = "00000000000000000000000000000001";

/// A host whose agent has run once.
fn used() -> Host {
    let host = Host::new();
    host.audit_file(112, 3);
    host.once_ok();
    host
}

/// Each command that takes a configuration. Those that change something come last.
fn commands(config: &Path) -> Vec<Vec<&str>> {
    let config = config.to_str().unwrap();
    [
        &["check"][..],
        &["state", "show"],
        &["state", "export"],
        &["quarantine", "list"],
        &["quarantine", "show", ID],
        &["quarantine", "replay"],
        &["ledger", "key"],
        &["ledger", "show"],
        &["find", ID],
        &["prove", ID],
        &["quarantine", "drop", "--yes", "--all"],
        &["state", "forget", "--yes"],
        &["run", "--once"],
    ]
    .map(|words| [words, &["--config", config]].concat())
    .into()
}

fn call(wrapper: &[&str], words: &[&str]) -> (i32, String) {
    let all = [wrapper, &[env!("CARGO_BIN_EXE_confluence-audit-agent")], words].concat();
    let output = Command::new(all[0]).args(&all[1..]).env_remove("CONFLUENCE_HOME").output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    (output.status.code().expect("ended by itself"), printed.into_owned())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Whatever is wrong with the state directory can be fixed without a change to the configuration.
#[test]
fn f112_a_state_directory_that_cannot_be_used_is_75() {
    type Condition = (&'static str, fn(&Path));
    let conditions: [Condition; 4] = [
        ("is a file", |state| {
            fs::remove_dir_all(state).unwrap();
            fs::write(state, "").unwrap();
        }),
        ("is a link", |state| {
            let real = state.with_extension("real");
            fs::rename(state, &real).unwrap();
            symlink(real, state).unwrap();
        }),
        ("below a file", |state| {
            fs::remove_dir_all(state).unwrap();
            let parent = state.parent().unwrap();
            fs::remove_dir_all(parent).unwrap();
            fs::write(parent, "").unwrap();
        }),
        ("a link in place of the store", |state| {
            fs::rename(state.join("db"), state.with_extension("db")).unwrap();
            symlink(state.with_extension("db"), state.join("db")).unwrap();
        }),
    ];
    for (condition, set_up) in conditions {
        let host = used();
        let deep = host.path("deep");
        fs::create_dir(&deep).unwrap();
        fs::rename(host.state(), deep.join("state")).unwrap();
        set_up(&deep.join("state"));
        let config = fs::read_to_string(host.config()).unwrap();
        let other = host.path("other.toml");
        let from = format!("{:?}", host.state());
        fs::write(&other, config.replace(&from, &format!("{:?}", deep.join("state")))).unwrap();
        for words in commands(&other) {
            let (code, printed) = call(&[], &words);
            // Neither the quarantine nor the ledger nor a look at the directory needs the store.
            let of_ledger = ["ledger", "find", "prove"].contains(&words[0]);
            let without_store = of_ledger || ["quarantine", "check"].contains(&words[0]);
            // What only reads a ledger may read a copy of it anywhere.
            let spared =
                without_store && condition.contains("store") || of_ledger && condition == "is a link";
            if !spared {
                assert_eq!(code, 75, "{condition}: {words:?}: {printed}");
            }
        }
    }
}

/// There is none before the first start, or while its disk is away.
#[test]
fn f112_a_missing_state_directory_is_75() {
    let host = used();
    fs::remove_dir_all(host.state()).unwrap();
    for words in commands(&host.config()) {
        let (code, printed) = call(&[], &words);
        let expect = match words[0] {
            "state" | "quarantine" | "ledger" | "find" | "prove" => 75,
            _ => 0,
        };
        assert_eq!(code, expect, "{words:?}: {printed}");
    }
}

#[test]
fn f112_what_is_denied_is_75() {
    if !rustix::process::geteuid().is_root() {
        return skip("root", "only root can become another user");
    }
    for condition in ["the state directory", "a directory above it", "the configuration"] {
        let host = used();
        let config = host.config();
        // Everything but what the condition takes away.
        for path in [host.path(""), host.path("out"), host.home(), config.clone()] {
            mode(&path, 0o755);
        }
        match condition {
            "the state directory" => {}
            "a directory above it" => mode(&host.path(""), 0o711),
            _ => mode(&config, 0o600),
        }
        for words in commands(&config) {
            let (code, printed) = call(&AS_NOBODY, &words);
            assert_eq!(code, 75, "{condition}: {words:?}: {printed}");
        }
    }
}

/// As a disk with errors ends, mounted `errors=remount-ro`.
#[test]
fn f112_a_disk_that_became_read_only_is_75() {
    let host = Host::new();
    let (mut writer, file) = host.audit_file(113, 3);
    let Some(disk) = Disk::mount(host.state(), 8) else {
        return;
    };
    host.once_ok();
    disk.make_read_only();
    writer.append(&file, 3);
    for words in
        [&["run", "--once"][..], &["state", "forget", "--yes"], &["quarantine", "drop", "--yes", "--all"]]
    {
        let config = host.config();
        let words = [words, &["--config", config.to_str().unwrap()]].concat();
        let (code, printed) = call(&[], &words);
        let expect = if words[0] == "quarantine" { 0 } else { 75 };
        assert_eq!(code, expect, "{words:?}: {printed}");
    }
}

/// What only another command line or configuration heals.
#[test]
fn f112_only_what_is_configured_is_78_and_only_what_is_typed_is_64() {
    let host = used();
    let config = fs::read_to_string(host.config()).unwrap();
    let wrong = config.replace("rotate_daily = false", "rotate_daily = 3");
    for (condition, text) in [
        ("not TOML", b"state_dir = ".to_vec()),
        ("an unknown key", format!("no_key = 1\n{config}").into_bytes()),
        ("a wrong value", wrong.into_bytes()),
        ("no UTF-8", [config.as_bytes(), b"# \xff\n"].concat()),
    ] {
        let path = host.path("changed.toml");
        fs::write(&path, text).unwrap();
        for words in commands(&path) {
            let (found, printed) = call(&[], &words);
            assert_eq!(found, 78, "{condition}: {words:?}: {printed}");
        }
    }
    for path in [host.path("missing.toml"), host.path("out")] {
        for words in commands(&path) {
            let (found, printed) = call(&[], &words);
            assert_eq!(found, 78, "{}: {words:?}: {printed}", path.display());
        }
    }
    for words in commands(&host.config()) {
        let wrong = [&words[..], &["--no-option"]].concat();
        assert_eq!(call(&[], &wrong).0, 64, "{words:?}");
    }
}

/// An output that cannot be opened: its directory may be mounted, or made, later.
#[test]
fn f112_an_output_that_cannot_be_opened_is_75() {
    let host = used();
    fs::remove_file(host.output()).unwrap();
    fs::create_dir(host.output()).unwrap();
    host.once_code(75);
    fs::remove_dir(host.output()).unwrap();
    symlink("/dev/null", host.output()).unwrap();
    host.once_code(75);
}

/// Not all that is there was read, perhaps: a run that was to end by itself has not done what was asked.
#[test]
fn f112_once_that_a_signal_has_stopped_is_75() {
    let mut host = Host::new();
    host.stdout = true;
    host.audit_file(115, 400);
    let mut command = host.command(&[], &["--once"]);
    command.stdout(std::process::Stdio::piped());
    let mut agent = host.spawn(command);
    let mut stdout = agent.child().stdout.take().unwrap();
    agent.until("the pipe is full", || rustix::io::ioctl_fionread(&stdout).unwrap() > 60_000);
    agent.signal(Signal::TERM);
    agent.until_logged("stopping");
    std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
    assert_eq!(agent.wait(crate::rig::SOON).code(), Some(75), "{}", agent.stderr());
    host.once_ok();
}
