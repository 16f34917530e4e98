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

struct Scene {
    host: Host,
    writer: Writer,
    file: LogFile,
}

impl Scene {
    fn new(address: impl std::fmt::Display, sink: &str) -> Scene {
        let (host, writer, file) =
            Host::with_sink(format!("type = \"syslog\"\naddress = \"{address}\"\n{BATCHES}{sink}"));
        Scene { host, writer, file }
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
    fn have_been_read(&self, messages: impl Fn() -> Vec<String>) {
        let count = self.writer.count();
        until(SOON, "all events are there", || distinct(&messages()) == count);
    }

    #[track_caller]
    fn all_are_there(&self, agent: &mut Agent, messages: impl Fn() -> Vec<String>) {
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
        let mut scene = Scene::new(receiver.address, &sink);
        scene.write(500);
        scene.host.once_ok();
        scene.have_been_read(|| receiver.messages());
        judge(&scene.writer, &events(&receiver.messages())).is_exact();
        assert_eq!(receiver.connections(), 1);
        let again = scene.host.once();
        assert_eq!((again.code, receiver.messages().len()), (0, 500), "{}", again.stderr);
        assert!(scene.host.check_sink().contains("accepts connections"), "{}", scene.host.check_sink());
    }
}

/// A receiver that goes away in the middle of a request: what its system had not acknowledged comes again, with the same ids.
#[test]
fn f50_connections_that_break_off() {
    let ca = Ca::new("own");
    for tls in [false, true] {
        let mut random = Random::new(seed("f50_connections_that_break_off"));
        let receiver = Receiver::tcp(tls.then(|| ca.server(None)), false);
        let mut scene = Scene::new(receiver.address, "");
        replace(&scene.host.path("ca.pem"), &ca.pem());
        let sink = match tls {
            true => format!("transport = \"tls\"\nca_file = {:?}\n", scene.host.path("ca.pem")),
            false => "transport = \"tcp\"\n".into(),
        };
        scene.host.remote.as_mut().unwrap().push_str(&sink);
        let remote = scene.host.remote.take().unwrap();
        scene.host.remote = Some(remote.replace("batch_wait = \"50ms\"", "batch_wait = \"10m\""));
        // Each request has 200 events, however long they take to be read, and so 300 kB, of which the receiver's system holds 4.
        let breaks: Vec<usize> = (0..4).map(|_| random.below(100) as usize).collect();
        receiver.break_off_after(&breaks);
        scene.write(1000);
        let mut agent = scene.host.start();
        scene.all_are_there(&mut agent, || receiver.messages());
        assert_eq!(agent.stop(), 0, "{}", agent.stderr());
        let repeated = scene.judge(&receiver.messages()).repeated.len();
        assert_eq!(repeated, breaks.iter().sum::<usize>(), "{breaks:?}");
        assert_eq!(receiver.connections(), 5, "{}", agent.stderr());
    }
}

#[test]
fn a_connection_that_was_closed_while_idle_is_seen_before_it_is_used() {
    let mut receiver = Receiver::tcp(None, false);
    let mut scene = Scene::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = scene.host.start();
    // Once at least it is idle: where it is closed too soon, events come again.
    let mut smooth = 0;
    for round in 0..6 {
        let before = (receiver.messages().len(), agent.said("are not accepted"));
        scene.write(10);
        scene.all_are_there(&mut agent, || receiver.messages());
        let after = (receiver.messages().len(), agent.said("are not accepted"));
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
    let mut scene = Scene::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = scene.host.start();
    scene.write(30);
    scene.all_are_there(&mut agent, || receiver.messages());
    receiver.stop();
    scene.write(3000);
    agent.until_said("nothing listens at that port");
    assert!(scene.host.check_sink().contains("failure"), "{}", scene.host.check_sink());
    receiver.start();
    scene.all_are_there(&mut agent, || receiver.messages());
    agent.until_said("events are delivered again");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    assert_eq!(scene.host.quarantined().len(), 0);
}

#[test]
fn f52_sigterm_while_a_receiver_is_away() {
    let mut receiver = Receiver::tcp(None, false);
    receiver.stop();
    let mut scene = Scene::new(receiver.address, "transport = \"tcp\"\n");
    scene.host.root += "shutdown_timeout = \"1s\"\n";
    scene.write(50);
    let mut agent = scene.host.start();
    agent.until_said("nothing listens at that port");
    assert_eq!(agent.stop(), 75, "{}", agent.stderr());
    receiver.start();
    scene.host.once_ok();
    scene.have_been_read(|| receiver.messages());
    judge(&scene.writer, &events(&receiver.messages())).is_exact();
}

/// A client certificate that is not accepted: no event counts as delivered, none is set aside, and a corrected one is used at once.
#[test]
fn f55_a_client_certificate_that_is_not_accepted() {
    let (own, clients) = (Ca::new("own"), Ca::new("clients"));
    let receiver = Receiver::tcp(Some(own.server(Some(&clients))), false);
    let mut scene = Scene::new(receiver.address, "transport = \"tls\"\n");
    let dir = scene.host.path("");
    replace(&dir.join("ca.pem"), &own.pem());
    let (chain, key) = own.write_pair(&dir, "client");
    let files =
        format!("ca_file = {:?}\nclient_certificate = {chain:?}\nclient_key = {key:?}\n", dir.join("ca.pem"));
    scene.host.remote.as_mut().unwrap().push_str(&files);
    let mut agent = scene.host.start();
    scene.write(50);
    agent.until_said("until the operator acts");
    assert!(agent.said("`client_certificate`") > 0, "{}", agent.stderr());
    assert!(scene.host.check_sink().contains("`client_certificate`"), "{}", scene.host.check_sink());
    assert_eq!((receiver.messages().len(), scene.host.quarantined().len()), (0, 0));
    agent.until("the receiver knows that too", || receiver.refused() > 0);
    clients.write_pair(&dir, "client");
    scene.all_are_there(&mut agent, || receiver.messages());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    judge(&scene.writer, &events(&receiver.messages())).is_exact();
}

/// The receiver's certificate comes from another CA from now on, and the file with CAs is replaced.
#[test]
fn f56_rotate_ca() {
    let (first, second) = (Ca::new("first"), Ca::new("second"));
    let mut receiver = Receiver::tcp(Some(first.server(None)), false);
    let mut scene = Scene::new(receiver.address, "transport = \"tls\"\n");
    let ca = scene.host.path("ca.pem");
    replace(&ca, &first.pem());
    let line = format!("ca_file = {ca:?}\n");
    scene.host.remote.as_mut().unwrap().push_str(&line);
    let mut agent = scene.host.start();
    scene.write(10);
    scene.all_are_there(&mut agent, || receiver.messages());
    // Half written: the old one goes on.
    fs::write(&ca, &second.pem()[..100]).unwrap();
    scene.write(10);
    agent.until_said("changed TLS files cannot be used");
    scene.all_are_there(&mut agent, || receiver.messages());
    receiver.stop();
    receiver.use_tls(second.server(None));
    receiver.start();
    scene.write(10);
    agent.until_said("`ca_file`");
    replace(&ca, &second.pem());
    scene.all_are_there(&mut agent, || receiver.messages());
    assert!(
        scene.host.check_sink().contains("its TLS certificate is trusted"),
        "{}",
        scene.host.check_sink()
    );
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// A kill at any moment: every event arrives, repeated only with its own id.
#[test]
fn f22_kills_while_messages_are_sent() {
    let receiver = Receiver::tcp(None, false);
    let mut scene = Scene::new(receiver.address, "transport = \"tcp\"\n");
    let mut random = Random::new(seed("f22_kills_while_messages_are_sent"));
    for round in 1..=5 {
        let mut agent = scene.host.start();
        scene.write(400);
        let some = (distinct(&receiver.messages()) + 1 + random.below(390) as usize).min(400 * round);
        agent.until("some have arrived", || distinct(&receiver.messages()) >= some);
        agent.kill();
    }
    scene.host.once_ok();
    scene.have_been_read(|| receiver.messages());
    scene.judge(&receiver.messages());
}

#[test]
fn datagrams_and_an_event_that_fits_into_none() {
    let datagrams = Datagrams::start();
    let mut scene = Scene::new(datagrams.address, "transport = \"udp\"\n");
    assert!(scene.host.check_sink().contains("UDP loses events silently"), "{}", scene.host.check_sink());
    let mut agent = scene.host.start();
    scene.write(20);
    scene.all_are_there(&mut agent, || datagrams.received());
    let long = format!("{{\"auditType\":\"{}\"}}\n", "x".repeat(70_000));
    append(&scene.host.audit().join(file_name(5, 0)), long.as_bytes());
    agent.until("it is in quarantine", || scene.host.quarantined().len() == 1);
    assert!(scene.host.quarantined()[0].to_string().contains("do not fit into a datagram"));
    scene.write(20);
    scene.all_are_there(&mut agent, || datagrams.received());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
}

/// Where the host says that nothing listens, they are kept and come later.
#[test]
fn datagrams_that_nobody_receives() {
    // No other test gets the port, and only what comes from port 1 is for it.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap();
    closed.connect("127.0.0.1:1").unwrap();
    let mut scene = Scene::new(closed.local_addr().unwrap(), "transport = \"udp\"\n");
    scene.write(5);
    let run = scene.host.once_code(75);
    run.logged("nothing listens");
}

/// The header is read off the text of an event. It says what the event says, whatever the event is: of every kind that the
/// mapping knows, of what cannot be read, and of the agent's own.
#[test]
fn headers_say_what_the_events_say() {
    let receiver = Receiver::tcp(None, false);
    let mut scene = Scene::new(receiver.address, "transport = \"tcp\"\n");
    let mut agent = scene.host.start();
    scene.write(50);
    scene.all_are_there(&mut agent, || receiver.messages());
    scene.writer.truncate(&mut scene.file);
    scene.write(5);
    let records = [
        &include_bytes!("../../../fixtures/mapping/file.jsonl")[..],
        include_bytes!("../../../fixtures/mapping/broken.jsonl"),
        b"\nthe last one\n",
    ];
    append(&scene.file.path, &records.concat());
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
