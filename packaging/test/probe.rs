//! Runs in the agent's place, inside the unit's sandbox, and says what that lets it do: `NAME=allowed` or `NAME=refused`.
//! probe HOME: the Confluence home of the unit.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;

fn write_into(dir: &Path) -> io::Result<()> {
    let path = dir.join(".probe");
    OpenOptions::new().create_new(true).write(true).open(&path)?;
    fs::remove_file(path)
}

fn read(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path)?.next().map_or(Ok(()), |entry| entry.map(drop));
    }
    fs::File::open(path)?.read(&mut [0; 1]).map(drop)
}

fn first_file(dir: &Path) -> io::Result<PathBuf> {
    let entry = fs::read_dir(dir)?.next();
    Ok(entry.ok_or_else(|| io::Error::other("empty"))??.path())
}

fn main() {
    let home = PathBuf::from(std::env::args().nth(1).expect("the home"));
    let variable = |name| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let (state, logs) = (variable("STATE_DIRECTORY"), variable("LOGS_DIRECTORY"));
    let credentials = variable("CREDENTIALS_DIRECTORY");
    let audit = home.join("log/audit");
    let mut out = String::new();
    let mut say = |name: &str, result: io::Result<()>| {
        let verdict = if result.is_ok() { "allowed" } else { "refused" };
        out.push_str(&format!("{name}={verdict} {}\n", result.err().map(|e| e.to_string()).unwrap_or_default()));
    };

    say("write state", write_into(&state));
    say("write logs", write_into(&logs));
    for dir in [
        "/", "/etc", "/etc/confluence-audit-agent", "/usr", "/usr/bin", "/var", "/var/lib", "/var/log", "/run", "/root", "/home",
        "/opt", "/srv", "/boot", "/dev", "/dev/shm",
    ] {
        say(&format!("write {dir}"), write_into(Path::new(dir)));
    }
    say("write audit", write_into(&audit));

    say("read audit", read(&audit));
    say("read audit file", first_file(&audit).and_then(|path| read(&path)));
    say("read config", read(Path::new("/etc/confluence-audit-agent/config.toml")));
    say("read credential", read(&credentials.join("c_token")));
    for name in ["confluence.cfg.xml", "attachments", "shared-home"] {
        say(&format!("read home/{name}"), read(&home.join(name)));
    }
    for path in ["/etc/confluence-audit-agent/credentials/token", "/etc/shadow", "/home/tester", "/root/t", "/proc/1/environ", "/dev/kmsg"] {
        say(&format!("read {path}"), read(Path::new(path)));
    }

    say("listen tcp", TcpListener::bind("127.0.0.1:0").map(drop));
    say("listen tcp6", TcpListener::bind("[::1]:0").map(drop));
    say("listen unix", UnixListener::bind(state.join("socket")).map(drop));
    say("bind udp", UdpSocket::bind("127.0.0.1:5140").map(drop));
    say("socket unix", UnixDatagram::unbound().map(drop));

    for program in ["/bin/sh", "/usr/bin/env"] {
        say(&format!("execute {program}"), Command::new(program).arg("--version").output().map(drop));
    }
    let own = state.join("program");
    say("execute own", fs::copy("/proc/self/exe", &own).and_then(|_| {
        fs::set_permissions(&own, PermissionsExt::from_mode(0o700))?;
        Command::new(&own).output().map(drop)
    }));
    let _ = fs::remove_file(&own);
    say("set-user-id", fs::write(&own, "").and_then(|()| fs::set_permissions(&own, PermissionsExt::from_mode(0o4700))));
    say("change owner", chown(&own, Some(0), None));
    let _ = fs::remove_file(&own);

    fs::write(state.join("probe.txt"), out).expect("the state directory");
}
