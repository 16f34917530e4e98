//! A real Kafka broker, which is its own controller, and the console consumer that comes with it.

use crate::rig::certificates::Ca;
use crate::rig::{Port, SOON, free_port, skip, until};
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub struct Broker {
    dir: PathBuf,
    child: Child,
    /// Without TLS and login.
    pub plain: Port,
    /// TLS with a client's certificate.
    pub mutual: Port,
    /// TLS with a login.
    pub login: Port,
    _controller: Port,
}

/// A record as the consumer shows it.
#[derive(Debug)]
pub struct Shown {
    pub timestamp_ms: i64,
    pub partition: u32,
    pub headers: String,
    pub key: String,
    pub value: String,
}

/// The jars, where `tests/peers/kafka.sh` has brought them.
fn jars() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/kafka")
}

fn java(class: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
        .arg(format!("{}/*", jars().display()))
        .arg(class)
        .stdin(Stdio::null());
    command
}

impl Broker {
    /// In a directory of its own, with the user `agent`, whose password is `secret`. `None`, a skip, where Kafka or
    /// Java is not installed.
    pub fn start(dir: PathBuf, ca: &Ca) -> Option<Broker> {
        let java_runs = Command::new("java").arg("-version").output();
        if !jars().join("complete").exists() || java_runs.is_err() {
            skip("kafka", "Kafka or Java is not installed; run tests/peers/install.sh");
            return None;
        }
        fs::create_dir_all(&dir).unwrap();
        let [plain, mutual, login, controller] = [(); 4].map(|()| free_port());
        let (certificate, key) = ca.issue();
        fs::write(dir.join("server.pem"), key + &certificate).unwrap();
        fs::write(dir.join("ca.pem"), ca.pem()).unwrap();
        let path = |name: &str| dir.join(name).display().to_string();
        let properties = [
            "process.roles=broker,controller".to_string(),
            "node.id=1".into(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller}"),
            format!("listeners=PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{mutual},SASL_SSL://127.0.0.1:{login},CONTROLLER://127.0.0.1:{controller}"),
            "inter.broker.listener.name=PLAINTEXT".into(),
            "controller.listener.names=CONTROLLER".into(),
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL".into(),
            format!("log.dirs={}", path("data")),
            "offsets.topic.replication.factor=1".into(),
            // Quotas are of the last seconds, and not of the last eleven.
            "quota.window.num=3".into(),
            "auto.create.topics.enable=false".into(),
            "group.initial.rebalance.delay.ms=0".into(),
            "ssl.keystore.type=PEM".into(),
            format!("ssl.keystore.location={}", path("server.pem")),
            "ssl.truststore.type=PEM".into(),
            format!("ssl.truststore.location={}", path("ca.pem")),
            "listener.name.ssl.ssl.client.auth=required".into(),
            "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512".into(),
            "listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_agent=\"secret\";".into(),
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;".into(),
        ];
        fs::write(dir.join("server.properties"), properties.join("\n")).unwrap();
        let users = ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .map(|mechanism| format!("{mechanism}=[name=agent,password=secret]"));
        let output = java("kafka.tools.StorageTool")
            .args(["format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"])
            .arg(dir.join("server.properties"))
            .args(["--add-scram", &users[0], "--add-scram", &users[1]])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut broker = Broker { child: run(&dir), dir, plain, mutual, login, _controller: controller };
        broker.until_listening();
        Some(broker)
    }

    fn until_listening(&mut self) {
        let (child, dir) = (&mut self.child, &self.dir);
        until(2 * SOON, "the broker listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let printed = fs::read_to_string(dir.join("broker.log")).unwrap_or_default();
                panic!("the broker ended, {status}: {printed}");
            }
            TcpStream::connect(self.plain.address()).is_ok()
        });
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = run(&self.dir);
        self.until_listening();
    }

    pub fn create(&self, topic: &str, partitions: u32, bytes_max: usize) {
        let server = format!("127.0.0.1:{}", self.plain);
        let (partitions, limit) = (partitions.to_string(), format!("max.message.bytes={bytes_max}"));
        let output = java("org.apache.kafka.tools.TopicCommand")
            .args(["--bootstrap-server", &server, "--create", "--topic", topic])
            .args(["--partitions", &partitions, "--config", &limit])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    pub fn remove(&self, topic: &str) {
        let server = format!("127.0.0.1:{}", self.plain);
        stdout_of(java("org.apache.kafka.tools.TopicCommand").args([
            "--bootstrap-server",
            &server,
            "--delete",
            "--topic",
            topic,
        ]));
    }

    /// So many bytes a second are taken of each client.
    pub fn throttle(&self, bytes: usize) {
        let server = format!("127.0.0.1:{}", self.plain);
        let rate = format!("producer_byte_rate={bytes}");
        stdout_of(
            java("kafka.admin.ConfigCommand")
                .args(["--bootstrap-server", &server, "--alter", "--add-config", &rate])
                .args(["--entity-type", "clients", "--entity-default"]),
        );
    }

    /// All records of a topic, as many of each partition as the broker says there are.
    pub fn consume(&self, topic: &str) -> Vec<Shown> {
        let server = format!("127.0.0.1:{}", self.plain);
        let ends = stdout_of(
            java("org.apache.kafka.tools.GetOffsetShell")
                .args(["--bootstrap-server", &server])
                .args(["--topic", topic]),
        );
        // `topic:partition:offset`
        let ends = ends.lines().map(|line| {
            let mut columns = line.rsplitn(3, ':');
            (columns.next().unwrap().to_owned(), columns.next().unwrap().to_owned())
        });
        let mut records = Vec::new();
        for (end, partition) in ends.filter(|(end, _)| end != "0") {
            let mut command = java("org.apache.kafka.tools.consumer.ConsoleConsumer");
            command
                .args(["--bootstrap-server", &server, "--topic", topic])
                .args(["--partition", &partition, "--offset", "earliest"])
                .args(["--max-messages", &end, "--timeout-ms", "60000"]);
            for what in ["key", "timestamp", "headers", "partition"] {
                command.args(["--property", &format!("print.{what}=true")]);
            }
            let found: Vec<Shown> = stdout_of(&mut command).lines().map(parse_record).collect();
            assert_eq!(found.len().to_string(), end, "{topic} {partition}");
            records.extend(found);
        }
        // A checkpoint of the ledger at each stop.
        records.retain(|record| !record.value.contains("\"action\":\"agent.ledger.sealed\""));
        records
    }
}

fn stdout_of(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn run(dir: &Path) -> Child {
    let log = File::create(dir.join("broker.log")).unwrap();
    java("kafka.Kafka")
        .arg(dir.join("server.properties"))
        .current_dir(dir)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// `CreateTime:1767225600000 Partition:1 source:wiki key value`, with tabs between.
#[track_caller]
fn parse_record(line: &str) -> Shown {
    let columns: Vec<&str> = line.splitn(5, '\t').collect();
    let [time, partition, headers, key, value] = columns[..] else {
        panic!("{line}");
    };
    Shown {
        timestamp_ms: time.strip_prefix("CreateTime:").unwrap().parse().unwrap(),
        partition: partition.strip_prefix("Partition:").unwrap().parse().unwrap(),
        headers: headers.to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
