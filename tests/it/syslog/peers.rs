//! rsyslog and syslog-ng themselves, where `tests/peers/syslog.sh` has brought them or the system has them.

use super::{BATCHES, Environment};
use crate::rig::certificates::{Ca, replace};
use crate::rig::{Port, SOON, free_port, judge, skip, until};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// What a receiver writes for each message: so everything that it understood is seen.
const TEMPLATE_RSYSLOG: &str = "<%pri%>1 %timereported:::date-rfc3339% %hostname% %app-name% %procid% %msgid% %structured-data% %msg%\\n";
const TEMPLATE_SYSLOG_NG: &str =
    "<${PRI}>1 ${ISODATE} ${HOST} ${PROGRAM} ${PID} ${MSGID} ${SDATA} ${MESSAGE}\\n";

struct Daemon {
    child: Child,
    program: PathBuf,
    root: PathBuf,
    arguments: Vec<String>,
    address: SocketAddr,
}

impl Daemon {
    /// Where the program is, unpacked with its libraries or installed. `None`, a skip, where it is neither.
    fn find(name: &str, program: &str) -> Option<(PathBuf, PathBuf)> {
        let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(name);
        let installed = PathBuf::from("/usr/sbin").join(program);
        match (unpacked.join("usr/sbin").join(program), installed) {
            (unpacked_program, _) if unpacked_program.exists() => Some((unpacked_program, unpacked)),
            (_, installed) if installed.exists() => Some((installed, "/".into())),
            _ => {
                skip(name, &format!("{program} is not installed; run tests/peers/install.sh"));
                None
            }
        }
    }

    fn start(program: PathBuf, root: PathBuf, arguments: Vec<String>, address: SocketAddr) -> Daemon {
        let child = spawn(&program, &root, &arguments);
        let mut daemon = Daemon { child, program, root, arguments, address };
        daemon.until_listening();
        daemon
    }

    fn until_listening(&mut self) {
        let (child, address) = (&mut self.child, &self.address);
        until(SOON, "the receiver listens", || {
            assert_eq!(child.try_wait().unwrap(), None, "the receiver ended");
            TcpStream::connect(address).is_ok()
        });
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = spawn(&self.program, &self.root, &self.arguments);
        self.until_listening();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(program: &Path, root: &Path, arguments: &[String]) -> Child {
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    let libraries = [lib.clone(), root.join("lib/x86_64-linux-gnu"), root.join("usr/lib/syslog-ng")]
        .map(|path| path.display().to_string());
    let mut command = Command::new(program);
    if root != Path::new("/") {
        command.env("LD_LIBRARY_PATH", libraries.join(":"));
    }
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Delivers, restarts the receiver between two requests, delivers more, and judges what it has written.
fn deliver(env: &mut Environment, mut daemon: Daemon, output: &Path) {
    let written = || -> Vec<String> {
        let text = fs::read_to_string(output).unwrap_or_default();
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        text[..whole].lines().map(str::to_owned).collect()
    };
    let mut agent = env.host.start();
    env.write(500);
    env.until_all_arrived(&mut agent, written);
    daemon.stop();
    env.write(100);
    agent.until_logged("nothing listens at that port");
    daemon.start_again();
    env.until_all_arrived(&mut agent, written);
    env.write(400);
    env.until_all_arrived(&mut agent, written);
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&env.writer, &super::events(&written())).is_exact();
}

/// An environment whose sink goes to a port that is free, and the lines of TLS with the files of a new CA.
fn new_environment(tls: bool) -> (Environment, Port) {
    let port = free_port();
    let mut env = Environment::new(port.address(), "");
    let mut sink = env.host.remote.take().unwrap();
    let dir = env.host.path("");
    if tls {
        let ca = Ca::new("own");
        replace(&dir.join("ca.pem"), &ca.pem());
        ca.write_pair(&dir, "server");
        ca.write_pair(&dir, "client");
        sink += &format!(
            "transport = \"tls\"\nca_file = {:?}\nclient_certificate = {:?}\nclient_key = {:?}\n",
            dir.join("ca.pem"),
            dir.join("client.pem"),
            dir.join("client.key")
        );
    } else {
        sink += "transport = \"tcp\"\n";
    }
    env.host.remote = Some(sink);
    assert!(env.host.remote.as_ref().unwrap().contains(BATCHES));
    (env, port)
}

/// The driver by which this rsyslog speaks TLS. Debian has each in a package of its own.
fn tls_driver(root: &Path) -> Option<&'static str> {
    let lib = root.join("usr/lib");
    let below = fs::read_dir(&lib).into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = below.map(|entry| entry.path().join("rsyslog")).collect();
    places.extend([lib.join("rsyslog"), root.join("usr/lib64/rsyslog")]);
    ["gtls", "ossl"].into_iter().find(|driver| {
        let module = format!("lmnsd_{driver}.so");
        places.iter().any(|place| place.join(&module).exists())
    })
}

#[test]
fn an_rsyslog_without_tls_is_known_by_its_modules() {
    let root = tempfile::tempdir().unwrap();
    for (place, driver) in [
        ("usr/lib/x86_64-linux-gnu/rsyslog", "gtls"),
        ("usr/lib64/rsyslog", "ossl"),
        ("usr/lib/rsyslog", "gtls"),
    ] {
        let dir = root.path().join(place);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("imtcp.so"), "").unwrap();
        assert_eq!(tls_driver(root.path()), None);
        let module = dir.join(format!("lmnsd_{driver}.so"));
        fs::write(&module, "").unwrap();
        assert_eq!(tls_driver(root.path()), Some(driver));
        fs::remove_file(module).unwrap();
    }
}

#[test]
fn rsyslog_takes_every_event() {
    let Some((program, root)) = Daemon::find("rsyslog", "rsyslogd") else {
        return;
    };
    let found = tls_driver(&root);
    if found.is_none() {
        skip(
            "rsyslog-tls",
            "this rsyslogd has no module for TLS, so TCP alone is tried; install rsyslog-gnutls, or run tests/peers/install.sh",
        );
    }
    for name in [None, found].into_iter().take(1 + usize::from(found.is_some())) {
        let tls = name.is_some();
        let (mut env, port) = new_environment(tls);
        let dir = env.host.path("");
        let path = |name: &str| dir.join(name).display().to_string();
        let driver = name.map_or(String::new(), |name| {
            format!(
                "StreamDriver.Name=\"{name}\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"x509/certvalid\""
            )
        });
        let files = match tls {
            false => String::new(),
            true => format!(
                "defaultNetstreamDriverCAFile=\"{}\" defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\"",
                path("ca.pem"),
                path("server.pem"),
                path("server.key")
            ),
        };
        let config = format!(
            "global(workDirectory=\"{}\" maxMessageSize=\"1m\" {files})\n\
             module(load=\"imtcp\" {driver})\n\
             template(name=\"all\" type=\"string\" string=\"{TEMPLATE_RSYSLOG}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{port}\")\n\
             action(type=\"omfile\" file=\"{}\" template=\"all\")\n",
            dir.display(),
            path("received")
        );
        fs::write(dir.join("rsyslog.conf"), config).unwrap();
        let mut arguments =
            vec!["-n".into(), "-f".into(), path("rsyslog.conf"), "-i".into(), path("rsyslog.pid")];
        if root != Path::new("/") {
            let modules = root.join("usr/lib/x86_64-linux-gnu/rsyslog");
            arguments.extend(["-M".into(), modules.display().to_string()]);
        }
        let daemon = Daemon::start(program.clone(), root.clone(), arguments, port.address());
        deliver(&mut env, daemon, &dir.join("received"));
    }
}

#[test]
fn syslog_ng_takes_every_event() {
    let Some((program, root)) = Daemon::find("syslog-ng", "syslog-ng") else {
        return;
    };
    for tls in [false, true] {
        let (mut env, port) = new_environment(tls);
        let dir = env.host.path("");
        let path = |name: &str| dir.join(name).display().to_string();
        let transport = match tls {
            false => "transport(\"tcp\")".to_string(),
            true => format!(
                "transport(\"tls\") tls(ca-file(\"{}\") cert-file(\"{}\") key-file(\"{}\") peer-verify(required-trusted))",
                path("ca.pem"),
                path("server.pem"),
                path("server.key")
            ),
        };
        let config = format!(
            "@version: 3.38\n\
             options {{ stats-freq(0); keep-hostname(yes); log-msg-size(1048576); flush-lines(1); frac-digits(3); ts-format(iso); keep-timestamp(yes); }};\n\
             source s {{ syslog(ip(127.0.0.1) port({port}) {transport}); }};\n\
             destination d {{ file(\"{}\" template(\"{TEMPLATE_SYSLOG_NG}\")); }};\n\
             log {{ source(s); destination(d); }};\n",
            path("received")
        );
        fs::write(dir.join("syslog-ng.conf"), config).unwrap();
        let mut arguments: Vec<String> = [
            ("-F", None),
            ("--no-caps", None),
            ("-f", Some(path("syslog-ng.conf"))),
            ("-R", Some(path("syslog-ng.persist"))),
            ("-p", Some(path("syslog-ng.pid"))),
            ("-c", Some(path("syslog-ng.ctl"))),
        ]
        .into_iter()
        .flat_map(|(option, value)| [Some(option.to_string()), value])
        .flatten()
        .collect();
        if root != Path::new("/") {
            // `usr/lib/syslog-ng/3.38`
            let versions = fs::read_dir(root.join("usr/lib/syslog-ng")).unwrap();
            let modules = versions.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
            arguments.push(format!("--module-path={}", modules.display()));
        }
        let daemon = Daemon::start(program.clone(), root.clone(), arguments, port.address());
        deliver(&mut env, daemon, &dir.join("received"));
    }
}
