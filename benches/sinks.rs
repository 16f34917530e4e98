//! Drains a backlog of audit files to servers that accept everything at once, compared with a local file.
//!
//! The server is another process of this program, so its CPU time is not counted. A real server needs
//! resources of its own, and over a network the agent waits for it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::agent::{self, Agent, Events, Taken};
use crate::rig::{self, MIB, Result, Target, row, setting};

const ROUNDS: usize = 3;
/// If this environment variable is set, the program is the server.
pub const RECEIVER: &str = "BENCH_RECEIVER";

pub struct Kind {
    pub name: &'static str,
    /// The `[[sink]]` table. `URL` and `ADDRESS` are replaced by the server's.
    sink: &'static str,
    /// Text that is in a request body once per event.
    pub mark: &'static str,
}

impl Kind {
    /// The `[[sink]]` table for a server at this port.
    pub fn table(&self, port: u16) -> String {
        self.sink
            .replace("type =", "heartbeat = false\ntype =")
            .replace("URL", &format!("http://127.0.0.1:{port}"))
            .replace("ADDRESS", &format!("127.0.0.1:{port}"))
    }
}

/// In the format of the file and without compression, so that only the sink differs.
pub const KINDS: [Kind; 5] = [
    Kind { name: "http", sink: "type = \"http\"\nurl = \"URL\"\n", mark: "\n" },
    Kind {
        name: "elasticsearch",
        sink: "type = \"elasticsearch\"\nhosts = [\"URL\"]\n",
        mark: "{\"create\"",
    },
    Kind {
        name: "splunk_hec",
        sink: "type = \"splunk_hec\"\nurl = \"URL\"\ntoken = \"bench\"\n",
        mark: "\"fields\":{\"event_id\"",
    },
    Kind {
        name: "sentinel",
        sink: "type = \"sentinel\"\nformat = \"ecs\"\ncompression = \"none\"\nendpoint = \"URL\"\nlogin_host = \"URL\"\n\
               dcr_immutable_id = \"dcr-0123456789abcdef0123456789abcdef\"\ntenant_id = \"11111111-2222-3333-4444-555555555555\"\n\
               client_id = \"99999999-2222-3333-4444-555555555555\"\nclient_secret = \"bench\"\n",
        mark: "{\"@timestamp\"",
    },
    Kind {
        name: "syslog",
        sink: "type = \"syslog\"\ntransport = \"tcp\"\nframing = \"newline\"\naddress = \"ADDRESS\"\n",
        mark: "\n",
    },
];

pub fn measure() -> Result<()> {
    let bytes = setting("BENCH_BYTES", 1024 * MIB) / 4;
    let dir = rig::directory()?;
    rig::write_files(dir.path(), bytes.div_ceil(100_000_000) as u32, bytes)?;
    let (mut cpu, mut speed) = ([const { Vec::new() }; KINDS.len()], [const { Vec::new() }; KINDS.len()]);
    for round in 1..=ROUNDS {
        let (events, file) = to_file(dir.path())?;
        let us = |taken: &Taken| taken.cpu_s / events as f64 * 1e6;
        print!("round {round}: {events} events; file {:.2} µs CPU an event", us(&file));
        for (at, kind) in KINDS.iter().enumerate() {
            let taken = to_server(dir.path(), kind, events)?;
            let rate = events as f64 / taken.wall_s;
            let peak_mib = taken.peak_rss_kib / 1024.0;
            print!("; {} {:.2} µs, {rate:.0} events/s, {peak_mib:.1} MiB", kind.name, us(&taken));
            cpu[at].push(taken.cpu_s / file.cpu_s);
            speed[at].push(file.wall_s / taken.wall_s);
        }
        println!();
    }
    for (at, kind) in KINDS.iter().enumerate() {
        for (what, ratios, target) in [
            ("CPU of", &mut cpu[at], Target::AtMost(1.5)),
            ("speed of", &mut speed[at], Target::AtLeast(0.5)),
        ] {
            ratios.sort_by(f64::total_cmp);
            let what = format!("{what} the sink `{}` over the file's, median of 3", kind.name);
            row(&what, rig::quantile(ratios, 0.5), "", target);
        }
    }
    Ok(())
}

fn run(dir: &Path, sink: &str) -> Result<Taken> {
    let mut command = command(dir, sink)?;
    command.arg("--once");
    let taken = Agent::spawn(command, dir)?.wait()?;
    fs::remove_dir_all(dir.join("state"))?;
    Ok(taken)
}

/// `run` with one source, `dir`/log, and this `[[sink]]` table.
pub fn command(dir: &Path, sink: &str) -> Result<Command> {
    let config = dir.join("config.toml");
    let text = format!(
        "state_dir = {:?}\n\n[[source]]\nname = \"wiki\"\ntype = \"data_center\"\nfiles = [{:?}]\n\n[[sink]]\nname = \"out\"\n{sink}",
        dir.join("state"),
        dir.join("log/*.audit.log"),
    );
    fs::write(&config, text)?;
    let mut command = agent::command();
    command.args(["run", "--config"]).arg(&config);
    Ok(command)
}

fn to_file(dir: &Path) -> Result<(usize, Taken)> {
    let out = dir.join("out");
    fs::create_dir_all(&out)?;
    let taken = run(dir, &format!("type = \"file\"\npath = {:?}\n", agent::output(dir)))?;
    let mut events = 0;
    // The output may have been rotated.
    for file in fs::read_dir(&out)? {
        events += Events::at(file?.path()).count()?;
    }
    fs::remove_dir_all(&out)?;
    Ok((events, taken))
}

fn to_server(dir: &Path, kind: &Kind, events: usize) -> Result<Taken> {
    let server = Server::start(kind)?;
    let taken = run(dir, &kind.table(server.port))?;
    let came = server.events()?;
    if came != events {
        return Err(format!("{came} events came of {events}").into());
    }
    Ok(taken)
}

/// This program as the server. Killed when dropped.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(kind: &Kind) -> Result<Server> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(RECEIVER, kind.mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
        let port = line.trim().parse()?;
        Ok(Server { child, port })
    }

    fn events(&self) -> Result<usize> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.write_all(b"GET /count HTTP/1.1\r\n\r\n")?;
        // With its line end in the body.
        for line in BufReader::new(stream).lines() {
            if let Ok(events) = line?.parse() {
                return Ok(events);
            }
        }
        Err("the server does not say how many events came".into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts events, each with this mark, and reports their number, until it is killed.
pub fn receive(mark: &str) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    serve(&listener, mark, &AtomicUsize::new(0));
    Ok(())
}

/// Counts the events that come over the listener's connections. Never returns.
pub fn serve(listener: &TcpListener, mark: &str, count: &AtomicUsize) {
    std::thread::scope(|scope| {
        for stream in listener.incoming().flatten() {
            // Errors of a closed connection are ignored.
            scope.spawn(move || drop(converse(stream, mark, count)));
        }
    });
}

fn converse(mut stream: TcpStream, mark: &str, count: &AtomicUsize) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(256 * 1024, stream.try_clone()?);
    let mut body = Vec::new();
    if reader.fill_buf()?.first() == Some(&b'<') {
        return lines(&mut reader, count);
    }
    loop {
        let (mut head, mut length) = (String::new(), 0);
        while !head.ends_with("\r\n\r\n") {
            let from = head.len();
            if reader.read_line(&mut head)? == 0 {
                return Ok(());
            }
            if let Some(value) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
        body.clear();
        (&mut reader).take(length).read_to_end(&mut body)?;
        let answer = if head.starts_with("GET /count") {
            format!("\r\n{}\r\n", count.load(Ordering::Relaxed))
        } else if head.starts_with("GET / ") {
            r#"{"version":{"distribution":"opensearch","number":"2.19.3"}}"#.to_owned()
        } else if head.contains("/oauth2/") {
            r#"{"access_token":"bench","token_type":"Bearer","expires_in":3599}"#.to_owned()
        } else if length == 0 {
            "{}".to_owned()
        } else {
            let events = memchr::memmem::find_iter(&body, mark).count();
            count.fetch_add(events, Ordering::Relaxed);
            if head.contains("/streams/") {
                stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
                continue;
            }
            let items =
                vec![r#"{"create":{"status":201}}"#; if head.contains("/_bulk") { events } else { 0 }];
            format!("{{\"code\":0,\"errors\":false,\"items\":[{}]}}", items.join(","))
        };
        let length = answer.len();
        stream
            .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}").as_bytes())?;
    }
}

fn lines(reader: &mut impl BufRead, count: &AtomicUsize) -> Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        count.fetch_add(memchr::memchr_iter(b'\n', bytes).count(), Ordering::Relaxed);
        let length = bytes.len();
        reader.consume(length);
    }
}
