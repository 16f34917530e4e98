//! What `check` says of a host, and its exit code.

use crate::rig::skip;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOBODY: u32 = 65534;

/// A host in a directory of its own: a Confluence home with one fresh audit file, and a place for state.
struct Host {
    dir: tempfile::TempDir,
    /// Root may read everything; what others may not is looked at as one of them.
    as_nobody: bool,
}

impl Host {
    fn new() -> Host {
        let host = Host { dir: tempfile::tempdir().unwrap(), as_nobody: false };
        fs::create_dir_all(host.audit()).unwrap();
        let second = confluence_audit_agent::clock::now_ms() / 1000 - 300;
        let line = format!("{{\"timestamp\":{{\"epochSecond\":{second},\"nano\":0}}}}\n");
        fs::write(host.audit().join("20260105.00001.audit.log"), line).unwrap();
        host
    }

    /// As another user, who may go through the host's directory. Needs root.
    fn run_as_nobody(mut self) -> Option<Host> {
        if !rustix::process::geteuid().is_root() {
            skip("root", "only root can run `check` as another user");
            return None;
        }
        fs::set_permissions(self.dir.path(), Permissions::from_mode(0o755)).unwrap();
        let binary = env!("CARGO_BIN_EXE_confluence-audit-agent");
        // A copy is busy while another test's child still has it open for writing; a link never is.
        fs::hard_link(binary, self.path("agent"))
            .or_else(|_| fs::copy(binary, self.path("agent")).map(drop))
            .unwrap();
        self.as_nobody = true;
        Some(self)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn audit(&self) -> PathBuf {
        self.path("home/log/audit")
    }

    /// Exit code and output of `check` with these arguments, by default on the home.
    fn check(&self, arguments: &[&str]) -> (i32, String) {
        let binary = if self.as_nobody {
            self.path("agent")
        } else {
            env!("CARGO_BIN_EXE_confluence-audit-agent").into()
        };
        let mut command = Command::new(binary);
        command.arg("check").args(arguments).current_dir(self.dir.path()).env_remove("CONFLUENCE_HOME");
        if !arguments.iter().any(|argument| ["--home", "--files", "--config"].contains(argument)) {
            command.args(["--home", "home"]);
        }
        if !arguments.iter().any(|argument| ["--state", "--config"].contains(argument)) {
            command.arg("--state").arg(self.path("state"));
        }
        if self.as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        let output = command.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap(), crate::rig::unwrap_lines(&String::from_utf8(output.stdout).unwrap()))
    }
}

/// The one line that begins with this verdict and holds this text.
#[track_caller]
fn has(printed: &str, verdict: &str, text: &str) {
    let found = printed.lines().filter(|line| line.starts_with(verdict) && line.contains(text)).count();
    assert_eq!(found, 1, "{verdict} … {text} in\n{printed}");
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn tree(dir: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in dir.read_dir().unwrap() {
        let path = entry.unwrap().path();
        names.push(path.display().to_string());
        if path.is_dir() {
            names.extend(tree(&path));
        }
    }
    names.sort();
    names
}

#[test]
fn all_is_well_and_nothing_is_changed() {
    let host = Host::new();
    fs::create_dir(host.path("out")).unwrap();
    let before = tree(host.dir.path());
    let (code, printed) = host.check(&["--sink", "file:out/events.ndjson"]);
    assert_eq!(code, 0, "{printed}");
    let (findings, counts) = printed.trim_end().rsplit_once("\n\n").unwrap();
    assert!(findings.lines().all(|line| line.starts_with("ok ")), "{printed}");
    assert_eq!(counts, format!("{} ok, 0 warnings, 0 failures", findings.lines().count()));
    has(&printed, "ok", "given by `--home`");
    has(&printed, "ok", "1 file, ");
    has(&printed, "ok", "newest event 5 minutes ago");
    has(&printed, "ok", "state` will be created");
    has(&printed, "ok", "out/events.ndjson`, ECS events, will be created");
    assert_eq!(tree(host.dir.path()), before);
}

/// What a service looks at before it starts: a home that is not there yet is no reason not to.
#[test]
fn fast_looks_at_the_configuration_alone() {
    let host = Host::new();
    fs::remove_dir_all(host.path("home")).unwrap();
    let (code, printed) = host.check(&["--fast"]);
    assert_eq!(code, 0, "{printed}");
    has(&printed, "ok", "configuration");
    // Where it would read, without a look whether anything is there: the packages ask for it.
    has(&printed, "ok", "source confluence: home `");
    let (code, printed) = host.check(&["--fast", "--sink", "fil:x"]);
    assert_eq!(code, 78, "{printed}");
    has(&printed, "failure", "--sink");
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 75, "{printed}");
}

#[test]
fn f59_secrets_that_others_may_read_are_warned_of() {
    let host = Host::new();
    let (token, key) = (host.path("token"), host.path("key.pem"));
    for file in [&token, &key] {
        fs::write(file, "canary").unwrap();
    }
    let config = format!(
        "[[source]]\nname = \"wiki\"\ntype = \"data_center\"\nurl = \"https://wiki.example.com\"\npersonal_access_token = {{ file = {token:?} }}\n\
         client_certificate = \"/c.pem\"\nclient_key = {key:?}\n\n[[sink]]\nname = \"out\"\ntype = \"stdout\"\n"
    );
    fs::write(host.path("agent.toml"), config).unwrap();
    for (bits, warned) in [(0o600, false), (0o644, true)] {
        mode(&token, bits);
        mode(&key, bits);
        let (code, printed) = host.check(&["--fast", "--config", "agent.toml"]);
        assert_eq!(code, 0, "{printed}");
        for file in [&token, &key] {
            let warning = format!("chmod o-rwx {}", file.display());
            assert_eq!(printed.contains(&warning), warned, "{printed}");
        }
        assert!(!printed.contains("canary"));
    }
}

#[test]
fn a_wrong_configuration_is_78_with_every_error() {
    let host = Host::new();
    fs::write(host.path("wrong.toml"), "shutdown_timeout = 10\nstat_dir = \"/x\"\n").unwrap();
    let (code, printed) = host.check(&["--config", "wrong.toml"]);
    assert_eq!(code, 78);
    has(&printed, "failure", "wrong.toml:1: `shutdown_timeout`");
    has(&printed, "failure", "wrong.toml:2: `stat_dir`");
    has(&printed, "failure", "`source`: is missing");
}

#[test]
fn a_configuration_file_is_looked_at_in_whole() {
    let host = Host::new();
    let root = host.dir.path().canonicalize().unwrap();
    let config = format!(
        "state_dir = \"{0}/state\"\n\
         [[source]]\nname = \"one\"\ntype = \"data_center\"\nhome = \"{0}/home\"\n\
         [[source]]\nname = \"two\"\ntype = \"data_center\"\nfiles = [\"{0}/two/*.audit.log\"]\n\
         [[sink]]\nname = \"local\"\ntype = \"file\"\npath = \"{0}/{{source}}.ndjson\"\nformat = \"raw\"\n",
        root.display()
    );
    fs::write(host.path("config.toml"), config).unwrap();
    let (code, printed) = host.check(&["--config", "config.toml"]);
    assert_eq!(code, 75, "{printed}");
    has(&printed, "ok", "configuration: `config.toml`; sources: one, two; sinks: local");
    has(&printed, "ok", "set by `home` in the configuration");
    has(&printed, "failure", "two` does not exist");
    has(&printed, "ok", "one.ndjson`, raw records");
    has(&printed, "ok", "two.ndjson`, raw records");
}

#[test]
fn what_is_missing_is_named_with_its_remedy() {
    let host = Host::new();
    let (code, printed) = host.check(&["--home", "nowhere"]);
    assert_eq!(code, 75);
    has(&printed, "failure", "nowhere` does not exist; name the right directory");

    fs::create_dir(host.path("bare")).unwrap();
    let (code, printed) = host.check(&["--home", "bare"]);
    assert_eq!(code, 75);
    has(&printed, "failure", "no Data Center licence");

    // What `run` makes is not missing.
    let (code, printed) = host.check(&["--sink", "file:missing/inner/events.ndjson"]);
    assert_eq!(code, 0, "{printed}");
    has(&printed, "ok", "will be created with its directory");

    let (code, printed) = host.check(&["--files", "none/*.log", "home/*.nothing", "home/log/audit/*"]);
    assert_eq!(code, 75);
    has(&printed, "failure", "none` does not exist");
    has(&printed, "warning", "home/*.nothing` matches no file yet");
    has(&printed, "ok", "1 file, ");
}

#[test]
fn an_empty_or_silent_directory_is_a_warning() {
    let host = Host::new();
    let file = host.audit().join("20260105.00001.audit.log");
    fs::write(&file, "{\"timestamp\":{\"epochSecond\":1700000000,\"nano\":0}}\n").unwrap();
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 0);
    has(&printed, "warning", "if Confluence is in use");

    // A line that is no record says nothing about time; the file does.
    fs::write(&file, "not a record\n").unwrap();
    has(&host.check(&[]).1, "ok", "newest file was written ");

    fs::remove_file(file).unwrap();
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 0);
    has(&printed, "warning", "no audit file in");
}

#[test]
fn f34_foreign_names_are_shown_escaped() {
    let host = Host::new();
    fs::write(host.audit().join("\x1b[2Jowned\u{202e}"), "").unwrap();
    fs::write(host.audit().join("backup.tar.gz"), "").unwrap();
    fs::create_dir(host.audit().join("20260106.00000.audit.log")).unwrap();
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 0);
    has(&printed, "warning", "\\u{1b}[2Jowned\\u{202e}, backup.tar.gz; ");
    has(&printed, "warning", "ignored, because they are not regular files: ");
    assert!(!printed.contains(['\x1b', '\u{202e}']), "{printed:?}");
    has(&printed, "ok", "1 file, ");
}

#[test]
fn the_state_directory_is_the_agents_own() {
    let host = Host::new();
    let state = host.path("state");
    fs::create_dir(&state).unwrap();
    for (bits, verdict, code) in [(0o700, "ok", 0), (0o750, "warning", 0), (0o770, "failure", 75)] {
        mode(&state, bits);
        let (exit, printed) = host.check(&[]);
        assert_eq!(exit, code, "{printed}");
        has(&printed, verdict, if bits == 0o700 { "free" } else { "run: chmod 0700" });
    }
    mode(&state, 0o700);
    let lock = fs::File::create(state.join("lock")).unwrap();
    assert!(!host.check(&[]).1.contains("running agent"));
    lock.try_lock().unwrap();
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 0);
    has(&printed, "ok", "in use by a running agent");

    fs::write(host.path("file"), "").unwrap();
    let (code, printed) = host.check(&["--state", "file"]);
    assert_eq!(code, 75);
    has(&printed, "failure", "is not a directory");
}

#[test]
fn an_output_that_is_no_plain_file_is_refused() {
    let host = Host::new();
    fs::create_dir(host.path("directory")).unwrap();
    std::os::unix::fs::symlink("elsewhere", host.path("link")).unwrap();
    for (output, message) in [("directory", "is not a regular file"), ("link", "is a symbolic link")] {
        let (code, printed) = host.check(&["--sink", &format!("file:{output}")]);
        assert_eq!(code, 75, "{printed}");
        has(&printed, "failure", message);
    }
}

/// The first directory on the way that keeps this user out is named, and the group that would let it in.
#[test]
fn the_missing_group_is_named() {
    let Some(host) = Host::new().run_as_nobody() else {
        return;
    };
    // Group 1 is `daemon` on each Linux; nobody is not in it.
    let log = host.path("home/log");
    chown(&log, Some(0), Some(1)).unwrap();
    mode(&log, 0o750);
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 75, "{printed}");
    has(
        &printed,
        "failure",
        "home/log` (0750 root:daemon); group `daemon` is missing: usermod -aG daemon nobody",
    );

    mode(&log, 0o755);
    let file = host.audit().join("20260105.00001.audit.log");
    mode(&file, 0o600);
    let (code, printed) = host.check(&[]);
    assert_eq!(code, 75, "{printed}");
    has(&printed, "failure", "1 of 1 files cannot be read; the first: `nobody` may not read");
    has(&printed, "failure", "setfacl -m u:nobody:r ");

    mode(&file, 0o644);
    // Searchable but not listable: names cannot be found.
    mode(&host.audit(), 0o711);
    has(&host.check(&[]).1, "failure", "may not list");
    mode(&host.audit(), 0o755);

    fs::create_dir(host.path("roots")).unwrap();
    let (code, printed) = host.check(&["--state", "roots", "--sink", "file:roots/events"]);
    assert_eq!(code, 75, "{printed}");
    has(
        &printed,
        "failure",
        "root:root) belongs to `root`, and this runs as `nobody`; run: sudo -u root confluence-audit-agent check --state roots",
    );
    has(&printed, "failure", "`nobody` may not write into");
    let (code, printed) = host.check(&["--state", "roots/state"]);
    assert_eq!(code, 75, "{printed}");
    has(&printed, "failure", "cannot be created");
}

/// Whichever command meets a path that is not for its user, the message is the same: the path, its owner and mode, who
/// runs this, and the call that helps.
#[test]
fn a_refused_path_is_reported_alike_by_all_commands() {
    let Some(host) = Host::new().run_as_nobody() else {
        return;
    };
    let (state, home, out) = (host.path("my state"), host.path("home"), host.path("out"));
    fs::create_dir(&state).unwrap();
    mode(&state, 0o700);
    let config = host.path("config.toml");
    let text = format!(
        "state_dir = {state:?}\n[[source]]\nname = \"wiki\"\ntype = \"data_center\"\nhome = {home:?}\n\
         [[sink]]\nname = \"out\"\ntype = \"file\"\npath = {:?}\n",
        out.join("events.ndjson")
    );
    fs::write(&config, text).unwrap();
    let printed = |words: &[&str]| {
        let output = Command::new(host.path("agent"))
            .args(words)
            .arg("--config")
            .arg(&config)
            .current_dir(host.dir.path())
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), crate::rig::unwrap_lines(&String::from_utf8(printed).unwrap()))
    };
    let commands: [&[&str]; 9] = [
        &["check"],
        &["run", "--once"],
        &["state", "show"],
        &["state", "forget", "--yes"],
        &["state", "export"],
        &["quarantine", "list"],
        &["quarantine", "show", "0123456789ab"],
        &["quarantine", "drop", "--all", "--yes"],
        &["quarantine", "replay"],
    ];
    for words in commands {
        let (code, text) = printed(words);
        assert_eq!(code, 75, "{words:?}: {text}");
        let expected = format!(
            "`{}` (0700 root:root) belongs to `root`, and this runs as `nobody`; run: sudo -u root confluence-audit-agent {} --config ",
            state.display(),
            words.join(" ")
        );
        assert!(text.contains(&expected), "{words:?}: {text}");
    }
    mode(&config, 0o600);
    for words in commands {
        let (code, text) = printed(words);
        assert_eq!(code, 75, "{words:?}: {text}");
        let expected = format!(
            "cannot read `{0}`: `nobody` may not read `{0}` (0600 root:root); run: sudo -u root confluence-audit-agent {1} --config",
            config.display(),
            words.join(" ")
        );
        assert!(text.contains(&expected), "{words:?}: {text}");
    }
    // An output that cannot be written.
    mode(&config, 0o644);
    chown(&state, Some(NOBODY), Some(NOBODY)).unwrap();
    fs::create_dir(&out).unwrap();
    for words in [&["check"] as &[&str], &["run", "--once"]] {
        let (code, text) = printed(words);
        assert_eq!(code, 75, "{words:?}: {text}");
        let expected = format!("`nobody` may not write into `{}` (0755 root:root); run: ", out.display());
        assert!(text.contains(&expected), "{words:?}: {text}");
    }
}
