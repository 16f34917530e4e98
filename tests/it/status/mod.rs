//! The command `status`, the JSON of `/status` and the page of the running agent.

mod inputs;
mod page;
mod schema;

use crate::rig::admin::get;
use crate::rig::agent::Once;
use crate::rig::collector::{Collector, Plain};
use crate::rig::{Agent, Host, LogFile, SOON, Writer, free_port, skip, until, unwrap_lines};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const BINARY: &str = env!("CARGO_BIN_EXE_confluence-audit-agent");

fn socket(host: &Host) -> PathBuf {
    host.path("admin.sock")
}

/// A host with ten records, whose sink is a server that does not run.
fn with_dead_server() -> (Host, Collector, (Writer, LogFile)) {
    let mut server = Collector::start(Plain);
    server.stop();
    let (mut host, mut writer, file) =
        Host::with_sink(format!("type = \"http\"\nurl = \"{}/\"\n", server.url()));
    host.admin();
    writer.append(&file, 10);
    (host, server, (writer, file))
}

/// What a command prints, in a terminal of 80 columns or not.
fn status(host: &Host, arguments: &[&str]) -> Once {
    let config = host.path("config.toml");
    let mut command = Command::new(BINARY);
    command.arg("status").args(arguments);
    if !arguments.contains(&"--socket") {
        command.arg("--config").arg(config);
    }
    output(&mut command)
}

fn output(command: &mut Command) -> Once {
    let output = command.output().unwrap();
    Once {
        code: output.status.code().expect("ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn until_status(host: &Host, agent: &mut Agent, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    agent.until(what, || {
        if !socket(host).exists() {
            return false;
        }
        let shown = status(host, &["--json"]);
        last = serde_json::from_str(&shown.stdout).unwrap_or_default();
        holds(&last)
    });
    last
}

#[test]
fn a_healthy_agent_has_a_line_for_each_source_and_sink() {
    let mut host = Host::new();
    host.admin();
    host.audit_file(7, 10);
    let mut agent = host.start();
    until_status(&host, &mut agent, "all is delivered", |status| {
        status["health"] == "ok" && status["sources"][0]["sinks"][0]["activity"]["events"] == 10
    });
    let shown = status(&host, &[]);
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert!(
        lines[0].starts_with("confluence-audit-agent ") && lines[0].contains("running for "),
        "{lines:?}"
    );
    assert_eq!(&lines[1..3], ["all is well", ""]);
    assert!(lines[3].starts_with("ok       source wiki: reads files, lag 0 s, "), "{lines:?}");
    assert!(lines[4].starts_with("ok       sink local: 10 events delivered, "), "{lines:?}");
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
    let at_socket = status(&host, &["--socket", socket(&host).to_str().unwrap()]);
    assert_eq!((at_socket.code, at_socket.stdout.lines().count()), (0, 5));
    assert_eq!(agent.stop(), 0);
}

#[test]
fn a_failing_sink_is_named_with_what_to_do() {
    let (host, mut server, _) = with_dead_server();
    let mut agent = host.start();
    let found = until_status(&host, &mut agent, "the sink fails", |status| status["health"] == "failure");
    let (source, sink) = (&found["sources"][0], &found["sources"][0]["sinks"][0]);
    assert_eq!((source["health"].as_str(), found["ready"].as_bool()), (Some("ok"), Some(false)));
    assert_eq!((sink["type"].as_str(), sink["waiting"].as_u64()), (Some("http"), Some(10)), "{sink}");
    assert_eq!(sink["activity"]["events"], 0);
    let address = server.url().replace("http://", "");
    assert!(sink["problem"]["message"].as_str().unwrap().contains(&address), "{sink}");
    assert!(sink["problem"]["action"].as_str().unwrap().contains("start the server"), "{sink}");
    let shown = status(&host, &[]);
    assert_eq!(shown.code, 1, "{}", shown.stdout);
    for text in [
        "1 failure: sink local\n",
        "ok       source wiki: ",
        "failure  sink local, for ",
        &address,
        "10 waiting",
    ] {
        assert!(shown.stdout.contains(text), "{text}: {}", shown.stdout);
    }
    assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80), "{}", shown.stdout);
    // The server comes, and what was wrong is only the last error.
    server.start_again();
    let found = until_status(&host, &mut agent, "the sink recovers", |status| status["health"] == "ok");
    let sink = &found["sources"][0]["sinks"][0];
    assert!(sink["last_error"]["message"].as_str().unwrap().contains(&address), "{sink}");
    assert_eq!(status(&host, &[]).code, 0);
    assert_eq!(server.distinct(), 10);
    assert_eq!(agent.stop(), 0);
}

#[test]
fn without_an_agent_it_is_75_with_what_to_do() {
    let mut host = Host::new();
    host.admin();
    host.config();
    let never = status(&host, &[]);
    let mut agent = host.start();
    until_status(&host, &mut agent, "it answers", |status| status["schema"] == 1);
    agent.kill();
    // Its socket is still there.
    let killed = status(&host, &[]);
    for shown in [never, killed, status(&host, &["--json"])] {
        assert_eq!((shown.code, shown.stdout.as_str()), (75, ""), "{}", shown.stderr);
        let message = shown.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in [
            "no agent answers",
            "systemctl status confluence-audit-agent",
            "confluence-audit-agent state show",
        ] {
            assert!(message.contains(text), "{text}: {message}");
        }
        assert!(shown.stderr.lines().all(|line| line.chars().count() <= 80), "{}", shown.stderr);
    }
    assert_eq!(status(&host, &["--sockt", "/x"]).code, 64);
    fs::write(host.path("config.toml"), "sorce = 1\n").unwrap();
    assert_eq!(status(&host, &[]).code, 78);
}

#[test]
fn somebody_else_is_told_whose_socket_it_is() {
    let mut host = Host::new();
    host.admin();
    let mut agent = host.start();
    agent.until("the socket is there", || socket(&host).exists());
    // Where nobody can reach it.
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (binary, link) = (dir.path().join("agent"), dir.path().join("admin.sock"));
    fs::copy(BINARY, &binary).unwrap();
    fs::hard_link(socket(&host), &link).or_else(|_| fs::rename(socket(&host), &link)).ok();
    if !rustix::process::geteuid().is_root() || !link.exists() {
        return skip("root", "another user's call needs root and one file system");
    }
    let shown = output(
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&binary)
            .args(["status", "--socket"])
            .arg(&link),
    );
    assert_eq!((shown.code, shown.stdout.as_str()), (75, ""));
    let message = shown.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(message.contains("cannot connect to `") && message.contains("0660 root:root"), "{message}");
}

/// Without a socket it asks over TCP, with the token of the configuration.
#[test]
fn over_tcp_the_token_of_the_configuration_is_used() {
    let port = free_port();
    let mut host = Host::new();
    host.audit_file(4, 3);
    let token = host.path("admin-token");
    fs::write(&token, "open sesame\n").unwrap();
    host.root += &format!("admin = {{ listen = \"127.0.0.1:{port}\", token = {{ file = {token:?} }} }}\n");
    let mut agent = host.start();
    agent.until("it answers", || status(&host, &[]).code == 0);
    fs::remove_file(&token).unwrap();
    let shown = status(&host, &[]);
    assert_eq!(shown.code, 75);
    assert!(shown.stderr.contains("the token of `[admin]` cannot be read"), "{}", shown.stderr);
}

/// Without a terminal each status follows the last one; SIGINT, which is Ctrl-C, ends it in order.
#[test]
fn watch_goes_on_until_ctrl_c() {
    let mut host = Host::new();
    host.admin();
    host.audit_file(4, 3);
    let mut agent = host.start();
    until_status(&host, &mut agent, "it is well", |status| status["health"] == "ok");
    let mut watch = Command::new(BINARY)
        .args(["status", "--watch", "--socket"])
        .arg(socket(&host))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = |text: &str| lines.by_ref().any(|line| line.unwrap().contains(text));
    assert!(next("all is well") && next("all is well"));
    // It tells when the agent goes, and when it is back.
    assert_eq!(agent.stop(), 0);
    assert!(next("failure  agent: no agent answers"));
    let _agent = host.start();
    assert!(next("all is well"));
    kill_process(Pid::from_child(&watch), Signal::INT).unwrap();
    let mut ended = None;
    until(SOON, "the watch ends", || {
        ended = watch.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(0));
}

/// On a terminal there are colours, unless they are unwanted, and `--watch` writes over what it wrote.
#[test]
fn a_terminal_gets_colours_unless_they_are_unwanted() {
    let mut host = Host::new();
    host.admin();
    host.audit_file(4, 3);
    let mut agent = host.start();
    until_status(&host, &mut agent, "it is well", |status| status["health"] == "ok");
    let in_terminal = |options: &str, variables: &[(&str, &str)]| {
        let call = format!("{BINARY} status {options} --socket {}", socket(&host).display());
        let mut command = Command::new("script");
        command.args(["-qec", &call, "/dev/null"]).env_remove("NO_COLOR").stdin(Stdio::null());
        output(command.envs(variables.iter().copied())).stdout
    };
    if Command::new("script").arg("--version").output().is_err() {
        return skip("script", "util-linux's `script` makes a terminal");
    }
    assert!(in_terminal("", &[]).contains("\x1b[32mok      \x1b[0m source wiki"), "{}", in_terminal("", &[]));
    assert!(!in_terminal("--no-color", &[]).contains('\x1b'));
    assert!(!in_terminal("", &[("NO_COLOR", "1")]).contains('\x1b'));
    // Each output has the colours that it can show.
    let (nobody, errors) = (format!("{BINARY} status --socket /no/such/socket"), host.path("errors"));
    let in_terminal = |call: String| {
        let mut command = Command::new("script");
        command.args(["-qec", &call, "/dev/null"]).env_remove("NO_COLOR").stdin(Stdio::null());
        output(&mut command).stdout
    };
    in_terminal(format!("{nobody} 2> {}", errors.display()));
    let errors = fs::read_to_string(errors).unwrap();
    assert!(errors.starts_with("failure  agent: no agent answers"), "{errors:?}");
    assert!(in_terminal(format!("{nobody} > /dev/null")).contains("\x1b[31mfailure \x1b[0m agent: "));
    let call = format!("timeout -s INT 1 {BINARY} status --watch --socket {}", socket(&host).display());
    let shown = output(Command::new("script").args(["-qec", &call, "/dev/null"]).stdin(Stdio::null())).stdout;
    assert!(
        shown.contains("\x1b[H") && shown.contains("until Ctrl-C") && shown.contains("\x1b[J"),
        "{shown:?}"
    );
}

/// A file that goes before it is read is a gap: a loss, with its bytes, in each view.
#[test]
fn gaps_and_losses_are_shown() {
    let mut host = Host::poll_only();
    let (mut agent, waiting) = host.start_with_unread_file();
    let bytes = fs::metadata(&waiting).unwrap().len();
    let found = until_status(&host, &mut agent, "it is well", |status| status["health"] == "ok");
    assert_eq!(found["sources"][0]["lost_bytes"], 0);
    fs::remove_file(&waiting).unwrap();
    let found = until_status(&host, &mut agent, "the loss is shown", |status| {
        status["sources"][0]["lost_bytes"].as_u64() == Some(bytes)
    });
    let source = &found["sources"][0];
    assert_eq!(source["changes"][0]["action"], "agent.source.gap");
    assert_eq!((source["health"].as_str(), found["health"].as_str()), (Some("warning"), Some("warning")));
    assert!(source["warnings"].to_string().contains("deleted or changed before they were read"), "{source}");
    let shown = status(&host, &[]);
    let printed = unwrap_lines(&shown.stdout);
    assert_eq!(shown.code, 0, "{printed}");
    assert!(
        printed.contains("warning  source wiki: ") && printed.contains("deleted or changed before"),
        "{printed}"
    );
    let page = get(&socket(&host), "/").unwrap().body;
    assert!(page.contains("deleted or changed before they were read"), "{page}");
}

/// A notice of a source is among its changes, and stays there.
#[test]
fn an_edit_of_a_file_is_among_the_changes() {
    let mut host = Host::new();
    host.admin();
    let (mut writer, file) = host.audit_file(8, 200);
    let mut agent = host.start();
    until_status(&host, &mut agent, "it has read", |status| {
        status["sources"][0]["activity"]["events"] == 200
    });
    // Rewritten after it was read.
    let path = file.path.clone();
    fs::write(&path, b"").unwrap();
    writer.append(&file, 1);
    let found = until_status(&host, &mut agent, "the change is shown", |status| {
        status["sources"][0]["changes"][0]["action"] == "agent.file.tampered"
    });
    let change = &found["sources"][0]["changes"][0];
    assert!(change["message"].as_str().unwrap().contains(path.to_str().unwrap()), "{change}");
    assert!(change["time"].as_str().unwrap().ends_with('Z'), "{change}");
    assert!(get(&socket(&host), "/").unwrap().body.contains("agent.file.tampered"));
    agent.signal(Signal::TERM);
    agent.wait(Duration::from_secs(60));
}

/// Whoever looks after an outage finds its reason in each of the places where one looks first.
#[test]
fn the_reason_of_an_outage_is_in_each_place() {
    let (host, server, _) = with_dead_server();
    let manager = UnixDatagram::bind(host.path("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let mut command = host.command(&[], &[]);
    command.env("NOTIFY_SOCKET", host.path("notify"));
    let mut agent = host.spawn(command);
    let reason = server.url().replace("http://", "cannot reach `") + "`";
    let mut message = [0; 4096];
    agent.until("`systemctl status` has the reason", || {
        let Ok(length) = manager.recv(&mut message) else { return false };
        let text = String::from_utf8_lossy(&message[..length]);
        text.starts_with("STATUS=") && text.contains(&format!("sink local: {reason}"))
    });
    let shown = status(&host, &[]).stdout;
    assert!(shown.contains("failure  sink local, for ") && shown.contains(&reason), "{shown}");
    let page = get(&socket(&host), "/").unwrap().body;
    assert!(page.contains("1 failure: sink local"), "{page}");
    assert!(page.contains(&reason.replacen('`', "<code>", 1).replace('`', "</code>")), "{page}");
    let ready = get(&socket(&host), "/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains(&reason), "{}", ready.body);
    let metrics = get(&socket(&host), "/metrics").unwrap();
    assert_eq!(metrics.metric("caa_sink_healthy{source=\"wiki\",sink=\"local\"}"), Some(0.0));
    agent.until_logged(&reason);
}
