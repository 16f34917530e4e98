//! The sink of type `syslog`, by the real binary against a receiver that breaks off, and against rsyslog and syslog-ng.

mod peers;
mod receiver;

use crate::rig::certificates::{Ca, replace};
use crate::rig::oracle::{self, Judged};
use crate::rig::{Agent, Event, Host, LogFile, Random, SOON, Writer};
use crate::rig::{append, file_name, judge, seed, until};
use receiver::{Datagrams, Receiver, event};
use std::collections::HashSet;
use std::fs;
use std::net::UdpSocket;

/// Small requests, tried again soon.
const BATCHES: &str = "batch_wait = \"50ms\"\nbatch_events = 200\n";

struct Environment {
    host: Host,
    writer: Writer,
    file: LogFile,
}

impl Environment {
    fn new(address: impl std::fmt::Display, sink: &str) -> Environment {
        let (host, writer, file) =
            Host::with_sink(format!("type = \"syslog\"\naddress = \"{address}\"\n{BATCHES}{sink}"));
        Environment { host, writer, file }
    }

    fn write(&mut self, records: usize) {
        self.writer.append(&self.file, records);
    }

    #[track_caller]
    fn judge(&self, messages: &[String]) -> Judged {
        let judged = judge(&self.writer, &events(messages));
        judged.is_whole();
        judged
    }

    /// After a run: what the receiver's system has acknowledged the receiver itself may still have to read.
    #[track_caller]
    fn until_all_read(&self, messages: impl Fn() -> Vec<String>) {
        let count = self.writer.count();
        until(SOON, "all events are there", || distinct(&messages()) == count);
    }

    #[track_caller]
    fn until_all_arrived(&self, agent: &mut Agent, messages: impl Fn() -> Vec<String>) {
        let count = self.writer.count();
        agent.until("all events are there", || distinct(&messages()) == count);
        self.judge(&messages());
    }
}

#[track_caller]
fn events(messages: &[String]) -> Vec<Event> {
    let lines: String = messages.iter().map(|message| event(message) + "\n").collect();
    oracle::events(lines.as_bytes())
}

/// How many different events there are.
fn distinct(messages: &[String]) -> usize {
    let ids = messages.iter().filter_map(|message| {
        let (_, rest) = message.split_once("[audit@32473 id=\"")?;
        rest.get(..32)
    });
    ids.collect::<HashSet<_>>().len()
}

#[test]
fn messages_arrive_once_and_in_order_in_both_framings() {
    for newline in [false, true] {
        let receiver = Receiver::tcp(None, newline);
        let framing = if newline { "newline" } else { "octet_counting" };
        let sink = format!("transport = \"tcp\"\nframing = \"{framing}\"\n");
        let mut env = Environment::new(receiver.address, &sink);
        env.write(500);
        env.host.once_ok();
        env.until_all_read(|| receiver.messages());
        judge(&env.writer, &events(&receiver.messages())).is_exact();
        assert_eq!(receiver.connections(), 1);
        let again = env.host.once();
        assert_eq!((again.code, receiver.messages().len()), (0, 500), "{}", again.stderr);
        assert!(env.host.check_sink().contains("accepts connections"), "{}", env.host.check_sink());
    }
}

/// A receiver that goes away in the middle of a request: what its system had not acknowledged comes again, with the
/// same ids.
#[test]
fn f50_connections_that_break_off() {
    let ca = Ca::new("own");
    for tls in [false, true] {
        let mut random = Random::new(seed("f50_connections_that_break_off"));
        let receiver = Receiver::tcp(tls.then(|| ca.server(None)), false);
        let mut env = Environment::new(receiver.address, "");
        replace(&env.host.path("ca.pem"), &ca.pem());
        let sink = match tls {
            true => format!("transport = \"tls\"\nca_file = {:?}\n", env.host.path("ca.pem")),
            false => "transport = \"tcp\"\n".into(),
        };
        env.host.remote.as_mut().unwrap().push_str(&sink);
        let remote = env.host.remote.take().unwrap();
        env.host.remote = Some(remote.replace("batch_wait = \"50ms\"", "batch_wait = \"10m\""));
        // Each request has 200 events, however long they take to be read, and so 300 kB, of which the receiver's system
        // holds 4.
        let breaks: Vec<usize> = (0..4).map(|_| random.below(100) as usize).collect();
        receiver.break_off_after(&breaks);
        env.write(1000);
        let mut agent = env.host.start();
        env.until_all_arrived(&mut agent, || receiver.messages());
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let repeated = env.judge(&receiver.messages()).repeated.len();
        assert_eq!(repeated, breaks.iter().sum::<usize>(), "{breaks:?}");
        assert_eq!(receiver.connections(), 5, "{}", agent.stderr());
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_is_seen_before_it_is_used() {
    let mut receiver = Receiver::tcp(None, false);
    let mut env = Environment::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = env.host.start();
    // Once at least it is idle: where it is closed too soon, events come again.
    let mut smooth = 0;
    for round in 0..6 {
        let before = (receiver.messages().len(), agent.log_count("are not accepted"));
        env.write(10);
        env.until_all_arrived(&mut agent, || receiver.messages());
        let after = (receiver.messages().len(), agent.log_count("are not accepted"));
        smooth += usize::from(round > 0 && after == (before.0 + 10, before.1));
        receiver.stop();
        receiver.start();
    }
    assert!(smooth > 0, "{}", agent.stderr());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    assert!(receiver.connections() >= 6);
}

#[test]
fn f51_a_receiver_that_is_away() {
    let mut receiver = Receiver::tcp(None, false);
    let mut env = Environment::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = env.host.start();
    env.write(30);
    env.until_all_arrived(&mut agent, || receiver.messages());
    receiver.stop();
    env.write(3000);
    agent.until_logged("nothing listens at that port");
    assert!(env.host.check_sink().contains("failure"), "{}", env.host.check_sink());
    receiver.start();
    env.until_all_arrived(&mut agent, || receiver.messages());
    agent.until_logged("events are delivered again");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    assert_eq!(env.host.quarantined().len(), 0);
}

#[test]
fn f52_sigterm_while_a_receiver_is_away() {
    let mut receiver = Receiver::tcp(None, false);
    receiver.stop();
    let mut env = Environment::new(receiver.address, "transport = \"tcp\"\n");
    env.host.root += "shutdown_timeout = \"1s\"\n";
    env.write(50);
    let mut agent = env.host.start();
    agent.until_logged("nothing listens at that port");
    assert_eq!(agent.stop(), 75, "{}", agent.stderr());
    receiver.start();
    env.host.once_ok();
    env.until_all_read(|| receiver.messages());
    judge(&env.writer, &events(&receiver.messages())).is_exact();
}

/// A client certificate that is not accepted: no event counts as delivered, none is set aside, and a corrected one is
/// used at once.
#[test]
fn f55_a_client_certificate_that_is_not_accepted() {
    let (own, clients) = (Ca::new("own"), Ca::new("clients"));
    let receiver = Receiver::tcp(Some(own.server(Some(&clients))), false);
    let mut env = Environment::new(receiver.address, "transport = \"tls\"\n");
    let dir = env.host.path("");
    replace(&dir.join("ca.pem"), &own.pem());
    let (chain, key) = own.write_pair(&dir, "client");
    let files =
        format!("ca_file = {:?}\nclient_certificate = {chain:?}\nclient_key = {key:?}\n", dir.join("ca.pem"));
    env.host.remote.as_mut().unwrap().push_str(&files);
    let mut agent = env.host.start();
    env.write(50);
    agent.until_logged("until the operator acts");
    assert!(agent.log_count("`client_certificate`") > 0, "{}", agent.stderr());
    assert!(env.host.check_sink().contains("`client_certificate`"), "{}", env.host.check_sink());
    assert_eq!((receiver.messages().len(), env.host.quarantined().len()), (0, 0));
    agent.until("the receiver knows that too", || receiver.refused() > 0);
    clients.write_pair(&dir, "client");
    env.until_all_arrived(&mut agent, || receiver.messages());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&env.writer, &events(&receiver.messages())).is_exact();
}

/// The receiver's certificate comes from another CA from now on, and the file with CAs is replaced.
#[test]
fn f56_rotate_ca() {
    let (first, second) = (Ca::new("first"), Ca::new("second"));
    let mut receiver = Receiver::tcp(Some(first.server(None)), false);
    let mut env = Environment::new(receiver.address, "transport = \"tls\"\n");
    let ca = env.host.path("ca.pem");
    replace(&ca, &first.pem());
    let line = format!("ca_file = {ca:?}\n");
    env.host.remote.as_mut().unwrap().push_str(&line);
    let mut agent = env.host.start();
    env.write(10);
    env.until_all_arrived(&mut agent, || receiver.messages());
    // Half written: the old one goes on.
    fs::write(&ca, &second.pem()[..100]).unwrap();
    env.write(10);
    agent.until_logged("changed TLS files cannot be used");
    env.until_all_arrived(&mut agent, || receiver.messages());
    receiver.stop();
    receiver.use_tls(second.server(None));
    receiver.start();
    env.write(10);
    agent.until_logged("`ca_file`");
    replace(&ca, &second.pem());
    env.until_all_arrived(&mut agent, || receiver.messages());
    assert!(env.host.check_sink().contains("its TLS certificate is trusted"), "{}", env.host.check_sink());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// A kill at any moment: every event arrives, repeated only with its own id.
#[test]
fn f22_kills_while_messages_are_sent() {
    let receiver = Receiver::tcp(None, false);
    let mut env = Environment::new(receiver.address, "transport = \"tcp\"\n");
    let mut random = Random::new(seed("f22_kills_while_messages_are_sent"));
    for round in 1..=5 {
        let mut agent = env.host.start();
        env.write(400);
        let some = (distinct(&receiver.messages()) + 1 + random.below(390) as usize).min(400 * round);
        agent.until("some have arrived", || distinct(&receiver.messages()) >= some);
        agent.kill();
    }
    env.host.once_ok();
    env.until_all_read(|| receiver.messages());
    env.judge(&receiver.messages());
}

#[test]
fn datagrams_and_an_event_that_fits_into_none() {
    let datagrams = Datagrams::start();
    let mut env = Environment::new(datagrams.address, "transport = \"udp\"\n");
    assert!(env.host.check_sink().contains("UDP loses events silently"), "{}", env.host.check_sink());
    let mut agent = env.host.start();
    env.write(20);
    env.until_all_arrived(&mut agent, || datagrams.received());
    let long = format!("{{\"auditType\":\"{}\"}}\n", "x".repeat(70_000));
    append(&env.host.audit().join(file_name(5, 0)), long.as_bytes());
    agent.until("it is in quarantine", || env.host.quarantined().len() == 1);
    assert!(env.host.quarantined()[0].to_string().contains("do not fit into a datagram"));
    env.write(20);
    env.until_all_arrived(&mut agent, || datagrams.received());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// Where the host says that nothing listens, they are kept and come later.
#[test]
fn datagrams_that_nobody_receives() {
    // No other test gets the port, and only what comes from port 1 is for it.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    closed.connect("127.0.0.1:1").unwrap();
    let mut env = Environment::new(closed.local_addr().unwrap(), "transport = \"udp\"\n");
    env.write(5);
    let run = env.host.once_code(75);
    run.logged("nothing listens");
}

/// The header is read off the text of an event. It says what the event says, whatever the event is: of every kind that
/// the mapping knows, of what cannot be read, and of the agent's own.
#[test]
fn headers_say_what_the_events_say() {
    let receiver = Receiver::tcp(None, false);
    let mut env = Environment::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = env.host.start();
    env.write(50);
    env.until_all_arrived(&mut agent, || receiver.messages());
    env.writer.truncate(&mut env.file);
    env.write(5);
    let records = [
        &include_bytes!("../../../fixtures/mapping/file.jsonl")[..],
        include_bytes!("../../../fixtures/mapping/broken.jsonl"),
        b"\nthe last one\n",
    ];
    append(&env.file.path, &records.concat());
    let notice = "\"action\":\"agent.file.tampered\"";
    let has = |text: &str| receiver.messages().iter().any(|message| message.contains(text));
    agent.until("the agent's own event is there", || has(notice));
    agent.until("the last event is there", || has("the last one"));
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    let mut seen = HashSet::new();
    for message in receiver.messages() {
        let json: serde_json::Value = serde_json::from_str(&event(&message)).unwrap();
        let of = |key: &str| json["event"][key].as_str().unwrap_or_default();
        let severity = match (of("kind"), of("outcome")) {
            ("pipeline_error", _) => 4,
            (_, "failure") => 5,
            _ => 6,
        };
        let plain = |c: char| if c.is_ascii_graphic() { c } else { '_' };
        let id: String = of("action").chars().take(32).map(plain).collect();
        let id = if id.is_empty() { "-" } else { &id };
        let words: Vec<&str> = message.splitn(7, ' ').collect();
        let priority = format!("<{}>1", 13 * 8 + severity);
        assert_eq!((words[0], words[5]), (&*priority, id), "{message}");
        seen.insert((severity, id.to_owned()));
    }
    for (severity, id) in [(6, "agent.file.tampered"), (5, "audit.logging.summary.login.fail"), (4, "-")] {
        assert!(seen.contains(&(severity, id.to_owned())), "{seen:?}");
    }
}
