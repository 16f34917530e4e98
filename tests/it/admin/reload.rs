//! A reload is a checked restart: there is no half of it.

use crate::rig::{Agent, Host};
use crate::signals::DEFAULT_SIGNALS;
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The commands of `systemctl reload`, in order.
fn reload_commands() -> Vec<String> {
    let unit = fs::read_to_string("packaging/systemd/confluence-audit-agent.service").unwrap();
    unit.lines().filter_map(|line| line.strip_prefix("ExecReload=")).map(str::to_owned).collect()
}

/// Runs the first command with this configuration, and returns its exit code.
fn check(command: &str, config: &Path) -> i32 {
    let words = command.replace("/etc/confluence-audit-agent/config.toml", config.to_str().unwrap());
    let words = words.strip_prefix("/usr/bin/confluence-audit-agent ").expect("the agent itself checks");
    let mut check = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    check.args(words.split(' ')).env_remove("CONFLUENCE_HOME").output().unwrap().status.code().unwrap()
}

fn start(host: &Host) -> Agent {
    let mut command = host.command(&DEFAULT_SIGNALS, &[]);
    // Under systemd SIGHUP is no sign of a closed terminal.
    command.env("NOTIFY_SOCKET", host.path("nobody-listens"));
    host.spawn(command)
}

#[test]
fn f64_a_reload_checks_first_and_then_restarts() {
    let commands = reload_commands();
    let [first, second] = &commands[..] else { panic!("{commands:?}") };
    assert_eq!(
        second,
        "+/usr/bin/systemd-run --quiet --collect --on-active=1s /usr/bin/systemctl restart %n"
    );
    let host = Host::new();
    let (mut writer, file) = host.audit_file(1, 10);
    let config = host.path("config.toml");
    let mut agent = start(&host);
    agent.until("the first events", || host.delivered() == 10);
    let good = fs::read_to_string(&config).unwrap();
    assert_eq!(check(first, &config), 0, "while the agent runs");

    // A wrong file: the reload fails, systemd runs no further command, and the agent goes on as before.
    fs::write(&config, format!("{good}\n[event]\ntags = [\"changed\"]\n[nonsense]\n")).unwrap();
    assert_eq!(check(first, &config), 78);
    agent.signal(Signal::HUP);
    agent.until_logged("SIGHUP changes nothing");
    writer.append(&file, 10);
    agent.until("events after a wrong file", || host.delivered() == 20);

    // A good one takes effect as a whole, by a restart.
    assert_eq!(agent.stop(), 0);
    let text = format!("{good}\n[event]\ntags = [\"changed\"]\n");
    fs::write(&config, text).unwrap();
    assert_eq!(check(first, &config), 0);
    let mut command = Command::new(env!("CARGO_BIN_EXE_confluence-audit-agent"));
    command.args(["run", "--config"]).arg(&config).env_remove("CONFLUENCE_HOME");
    let mut agent = host.spawn(command);
    writer.append(&file, 10);
    agent.until("events after the reload", || host.delivered() == 30);
    let events = fs::read_to_string(host.output()).unwrap();
    assert_eq!(events.lines().filter(|line| line.contains("\"changed\"")).count(), 10);
    assert_eq!(agent.stop(), 0);
}
