//! The sink of type `kafka`, by the real binary against a real broker.

mod broker;

use crate::rig::certificates::Ca;
use crate::rig::oracle::{self, Judged};
use crate::rig::{Host, LogFile, Port, SOON, Writer, append, file_name, judge};
use broker::{Broker, Shown};
use std::collections::HashMap;
use std::fs;

const BATCHES: &str = "batch_wait = \"50ms\"\nbatch_events = 100\n";

/// A home of its own, from which one topic is filled.
struct Environment {
    host: Host,
    writer: Writer,
    file: LogFile,
}

impl Environment {
    fn new(port: &Port, topic: &str, sink: &str) -> Environment {
        let (host, writer, file) = Host::with_sink(format!(
            "type = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\ntopic = \"{topic}\"\n{BATCHES}{sink}"
        ));
        Environment { host, writer, file }
    }

    fn write(&mut self, records: usize) {
        self.writer.append(&self.file, records);
    }

    /// Whether every event is in the topic, whole, under its key, at its time and in one partition.
    #[track_caller]
    fn judge(&self, records: &[Shown]) -> Judged {
        let mut partitions = HashMap::new();
        for record in records {
            let json: serde_json::Value = serde_json::from_str(&record.value).unwrap();
            assert_eq!(json.pointer("/event/id").unwrap().as_str(), Some(&*record.key));
            let at = json["@timestamp"].as_str().unwrap();
            let time_ms = confluence_audit_agent::record::time::from_iso(at).unwrap();
            match self.host.remote.as_ref().unwrap().contains("timestamp = \"event\"") {
                true => assert_eq!(record.timestamp_ms, time_ms),
                // The writer's records are old, and a topic keeps a week.
                false => assert!(record.timestamp_ms > time_ms + 86_400_000),
            }
            assert_eq!(record.headers, "source:wiki");
            let there = *partitions.entry(&record.key).or_insert(record.partition);
            assert_eq!(there, record.partition, "{} is in two partitions", record.key);
        }
        let lines: String = records.iter().map(|record| format!("{}\n", record.value)).collect();
        let judged = judge(&self.writer, &oracle::events(lines.as_bytes()));
        let fine = judged.missing.is_empty() && judged.damaged.is_empty() && judged.id_conflicts.is_empty();
        assert!(fine, "{judged:?}");
        judged
    }
}

#[test]
fn f50_a_broker_that_is_killed_while_events_are_sent() {
    let home = Host::new();
    let Some(mut broker) = Broker::start(home.path("broker"), &Ca::new("own")) else {
        return;
    };
    broker.create("audit", 3, 1_048_588);
    let mut env = Environment::new(&broker.plain, "audit", "timeout = \"15s\"\ncompression = \"zstd\"\n");
    assert!(
        env.host.check_sink().contains("has the topic `audit` with 3 partitions"),
        "{}",
        env.host.check_sink()
    );
    let mut agent = env.host.start();
    for _ in 0..30 {
        env.write(100);
    }
    // Whatever it has taken by then.
    broker.kill();
    env.write(100);
    agent.until_logged("events are not accepted");
    broker.start_again();
    env.write(200);
    // A broker that takes minutes to start is next asked after as long.
    agent.until_logged_within(10 * SOON, "events are delivered again");
    // In order, or with something left for the next start.
    assert!([0, 75].contains(&agent.stop()), "{}", agent.stderr());
    env.host.once_ok();
    let records = broker.consume("audit");
    let judged = env.judge(&records);
    assert!(judged.repeated.len() <= 400, "{}", judged.repeated.len());
    let used: std::collections::HashSet<u32> = records.iter().map(|record| record.partition).collect();
    assert_eq!(used.len(), 3);
    broker.kill();
    assert!(env.host.check_sink().contains("start the brokers"), "{}", env.host.check_sink());
}

#[test]
fn f55_logins_certificates_and_limits_of_a_broker() {
    let (home, ca, other) = (Host::new(), Ca::new("own"), Ca::new("other"));
    let Some(broker) = Broker::start(home.path("broker"), &ca) else {
        return;
    };
    let dir = home.path("");
    fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
    fs::write(dir.join("other.pem"), other.pem()).unwrap();
    let (chain, key) = ca.write_pair(&dir, "client");
    let (bad_chain, bad_key) = other.write_pair(&dir, "bad");
    let tls = |name: &str| format!("tls = true\nca_file = {:?}\n", dir.join(name));
    let pair = |chain: &std::path::Path, key: &std::path::Path| {
        format!("client_certificate = {chain:?}\nclient_key = {key:?}\n")
    };
    let password = dir.join("password");
    fs::write(&password, "secret").unwrap();
    let login = |mechanism: &str| {
        format!("sasl = \"{mechanism}\"\nuser = \"agent\"\npassword = {{ file = {password:?} }}\n")
    };
    broker.create("small", 1, 20_000);

    // Each way in, with what is not let in and why.
    let ways = [
        (&broker.mutual, tls("ca.pem") + &pair(&chain, &key), "gzip"),
        (&broker.login, tls("ca.pem") + &login("plain"), "none"),
        (&broker.login, tls("ca.pem") + &login("scram-sha-256"), "none"),
        (&broker.login, tls("ca.pem") + &login("scram-sha-512"), "zstd"),
    ];
    for (number, (port, sink, compression)) in ways.into_iter().enumerate() {
        let topic = format!("way-{number}");
        broker.create(&topic, 1, 1_048_588);
        let sink = format!("{sink}compression = \"{compression}\"\n");
        let mut env = Environment::new(port, &topic, &sink);
        env.write(120);
        env.host.once_ok();
        assert_eq!(env.judge(&broker.consume(&topic)).repeated, [0; 0], "{topic}");
    }
    let refused = [
        (&broker.login, "way-0", tls("other.pem") + &login("plain"), "`ca_file`"),
        (&broker.mutual, "way-0", tls("ca.pem") + &pair(&bad_chain, &bad_key), "`client_certificate`"),
        (&broker.mutual, "way-0", tls("ca.pem"), "`client_certificate`"),
        (&broker.plain, "missing", String::new(), "there is no topic `missing`"),
        (&broker.plain, "way-0", tls("ca.pem"), "whether this port requires `tls`"),
    ];
    for (port, topic, sink, why) in refused {
        let env = Environment::new(port, topic, &sink);
        let printed = env.host.check_sink();
        assert!(printed.contains("failure") && printed.contains(why), "{why}: {printed}");
    }

    // A wrong password: nothing is set aside, and the right one is used at once.
    fs::write(&password, "wrong").unwrap();
    let mut env = Environment::new(&broker.login, "way-1", &(tls("ca.pem") + &login("scram-sha-512")));
    let mut agent = env.host.start();
    env.write(10);
    agent.until_logged("until the operator acts");
    assert!(agent.log_count("user and password are not accepted") > 0, "{}", agent.stderr());
    assert_eq!(agent.log_count("wrong"), 0);
    assert!(!env.host.state().join("quarantine").exists());
    crate::rig::certificates::replace(&password, "secret");
    agent.until_logged("events are delivered again");
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());

    // A topic that takes 20,000 bytes at once, and an event that has more.
    let mut env = Environment::new(&broker.plain, "small", "");
    env.write(100);
    let long = format!("{{\"auditType\":\"{}\"}}\n", "x".repeat(50_000));
    append(&env.host.audit().join(file_name(5, 0)), long.as_bytes());
    // What is taken behind it proves that it is its own fault.
    env.write(100);
    let run = env.host.once_code(65);
    run.logged("max.message.bytes");
    assert_eq!(env.judge(&broker.consume("small")).repeated, [0; 0]);
    let quarantine = fs::read_dir(env.host.state().join("quarantine")).unwrap();
    let set_aside: String =
        quarantine.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default()).collect();
    assert_eq!(set_aside.lines().count(), 1);
}

/// Kafka's own clients go on, too, while a topic is made again.
#[test]
fn a_topic_that_is_gone_for_a_moment_is_waited_for() {
    let home = Host::new();
    let Some(broker) = Broker::start(home.path("broker"), &Ca::new("own")) else {
        return;
    };
    broker.create("audit", 1, 1_048_588);
    let mut env = Environment::new(&broker.plain, "audit", "");
    let mut agent = env.host.start();
    env.write(50);
    agent.until("they are there", || broker.consume("audit").len() == 50);
    broker.remove("audit");
    env.write(50);
    agent.until_logged("there is no topic `audit`");
    broker.create("audit", 1, 1_048_588);
    agent.until_logged_within(10 * SOON, "events are delivered again");
    assert_eq!(agent.log_count("until the operator acts"), 0, "{}", agent.stderr());
    assert_eq!(agent.stop(), 0, "{}", agent.stderr());
    assert_eq!(broker.consume("audit").len(), 50);
}

/// A batch that a quota never lets through: smaller ones pass, some more than once.
#[test]
fn a_batch_that_is_larger_than_a_quota_is_sent_in_parts() {
    let home = Host::new();
    let Some(broker) = Broker::start(home.path("broker"), &Ca::new("own")) else {
        return;
    };
    broker.create("audit", 1, 1_048_588);
    broker.throttle(40_000);
    let mut env = Environment::new(&broker.plain, "audit", "timeout = \"5s\"\n");
    let remote = env.host.remote.as_mut().unwrap();
    *remote = remote.replace("batch_events = 100", "batch_events = 1000");
    env.write(80);
    // What smaller batches heal at once is logged at debug only.
    let mut agent = env.host.start_with(&[], &["--log-level", "debug"]);
    agent.until_logged("whether a quota throttles this user");
    agent.until_logged_within(10 * SOON, "events are delivered again");
    // In order, or with something left for the next start.
    assert!([0, 75].contains(&agent.stop()), "{}", agent.stderr());
    broker.throttle(10_000_000);
    env.host.once_ok();
    let judged = env.judge(&broker.consume("audit"));
    assert!(!judged.repeated.is_empty(), "no batch was throttled");
}
