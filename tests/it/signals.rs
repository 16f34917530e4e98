//! What signals do to a running agent: some stop it in order, the others change nothing, and none is a silent death.

use crate::rig::{Agent, Host, LogFile, SOON, Writer, judge};
use rustix::process::Signal;
use std::process::Command;

/// A test run that is itself started by `nohup` or in the background passes its ignored signals on; the agent must not
/// inherit them here.
pub const DEFAULT_SIGNALS: [&str; 2] = ["env", "--default-signal=HUP,INT,QUIT"];

fn running(set_up: impl Fn(&mut Command)) -> (Host, Writer, LogFile, Agent) {
    started(&DEFAULT_SIGNALS, set_up)
}

fn started(wrapper: &[&str], set_up: impl Fn(&mut Command)) -> (Host, Writer, LogFile, Agent) {
    let host = Host::new();
    let (writer, file) = host.audit_file(110, 10);
    let mut command = host.command(wrapper, &[]);
    set_up(&mut command);
    let mut agent = host.spawn(command);
    agent.until("the first events are there", || host.delivered() == 10);
    (host, writer, file, agent)
}

/// One event more comes through.
fn deliver_one_more(host: &Host, writer: &mut Writer, file: &LogFile, agent: &mut Agent) {
    let before = host.delivered();
    writer.append(file, 1);
    agent.until("it goes on", || host.delivered() > before);
}

fn send(agent: &Agent, number: i32) {
    let sent = Command::new("kill").args([format!("-{number}"), agent.pid().to_string()]).status();
    assert!(sent.unwrap().success(), "{number}");
}

/// In the foreground, where a terminal that is closed sends SIGHUP.
#[test]
fn f110_what_ends_a_terminal_session_stops_it_in_order() {
    for (signal, name) in [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::TERM, "SIGTERM"),
    ] {
        let (host, writer, _file, mut agent) = running(|_| {});
        agent.signal(signal);
        assert_eq!(agent.wait(SOON).code(), Some(0), "{name}: {}", agent.stderr());
        let line = format!("stopping: delivering what has been read signal={name}");
        assert_eq!(agent.log_count(&line), 1, "{}", agent.stderr());
        judge(&writer, &host.events()).is_exact();
    }
}

/// As logrotate and old habits send them.
#[test]
fn f110_signals_without_a_meaning_change_nothing() {
    let (host, mut writer, file, mut agent) = running(|_| {});
    for (signal, name) in [
        (Signal::USR1, "SIGUSR1"),
        (Signal::USR2, "SIGUSR2"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::VTALARM, "SIGVTALRM"),
        (Signal::PROF, "SIGPROF"),
        (Signal::IO, "SIGIO"),
        (Signal::POWER, "SIGPWR"),
        (Signal::STKFLT, "SIGSTKFLT"),
    ] {
        agent.signal(signal);
        agent.until_logged(&format!("{name} changes nothing"));
    }
    for (number, name) in [(34, "SIGRTMIN+0"), (64, "SIGRTMIN+30")] {
        send(&agent, number);
        agent.until_logged(&format!("{name} changes nothing"));
    }
    // A write of its own says what these two mean.
    agent.signal(Signal::PIPE);
    agent.signal(Signal::XFSZ);
    // Nor those that mean something to a shell only.
    for signal in [Signal::CHILD, Signal::WINCH, Signal::URG, Signal::CONT] {
        agent.signal(signal);
    }
    deliver_one_more(&host, &mut writer, &file, &mut agent);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&writer, &host.events()).is_exact();
}

#[test]
fn f110_sighup_does_not_end_a_service_nor_what_nohup_started() {
    let (host, mut writer, file, mut agent) = running(|command| {
        command.env("NOTIFY_SOCKET", "/nonexistent/notify");
    });
    agent.signal(Signal::HUP);
    agent.until_logged("SIGHUP changes nothing: no file is reopened");
    deliver_one_more(&host, &mut writer, &file, &mut agent);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());

    let nohup = ["sh", "-c", "trap '' HUP; exec \"$0\" \"$@\""];
    let (host, mut writer, file, mut agent) = started(&nohup, |_| {});
    agent.signal(Signal::HUP);
    deliver_one_more(&host, &mut writer, &file, &mut agent);
    assert_eq!(agent.log_count("SIGHUP"), 0, "{}", agent.stderr());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}
