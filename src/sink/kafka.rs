//! Kafka: `acks=all`, and the event's id as key.
//!
//! A request whose answer is lost is sent again, and the client has no idempotent producer: an event may stand in the topic
//! more than once, each time with the same key and in the same partition.

pub mod cluster;
mod fault;
mod partition;

use super::answer::{Answer, Outcome};
use super::remote::{BYTES_MIN, Peer, PendingEvent, REFUSED_IN_A_ROW_MAX, lower};
use crate::config::{Compression, KafkaConfig, RecordTime};
use cluster::{Access, Cluster, Ready};
use fault::KafkaFault;
use futures_util::future::join_all;
use rskafka::chrono::DateTime;
use rskafka::client::partition::{self as client, PartitionClient};
use rskafka::record::Record;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// What a record has beside its event: key, header, and numbers.
const OVERHEAD_BYTES: usize = 100;
/// Brokers that start, and a topic that is made anew, may deny for so long that there is one: Kafka's own clients wait for a
/// minute, and a person who wrote a wrong name wants to know.
const MISSING: Duration = Duration::from_secs(30);

/// A broker greets at once. What says nothing for so long is none, or wants TLS.
const OPEN_MAX: Duration = Duration::from_secs(10);

/// The sink of type `kafka`.
pub struct Kafka {
    config: KafkaConfig,
    source: String,
    access: RefCell<Access>,
    cluster: RefCell<Option<Rc<Cluster>>>,
    /// Larger batches were refused.
    bytes_max: Cell<usize>,
    /// Larger ones were not answered in time. Grows again with those that are.
    bytes_max_in_time: Cell<usize>,
    /// Since when the topic is not there; `None`: it was there the last time.
    missing: Cell<Option<Instant>>,
}

impl Kafka {
    pub fn new(config: KafkaConfig, source: &str) -> Kafka {
        Kafka {
            access: RefCell::new(Access::new(&config)),
            source: source.to_owned(),
            cluster: RefCell::default(),
            bytes_max: Cell::new(usize::MAX),
            bytes_max_in_time: Cell::new(usize::MAX),
            missing: Cell::default(),
            config,
        }
    }

    /// The connection there is, or a new one.
    async fn cluster(&self) -> Result<Rc<Cluster>, Outcome> {
        if self.access.borrow().changed() {
            self.cluster.take();
        }
        if let Some(cluster) = &*self.cluster.borrow() {
            return Ok(cluster.clone());
        }
        let ready = self.access.borrow_mut().read()?;
        let opened = open(ready, &self.config).await;
        let refused = matches!(opened, Err(Outcome::Misconfigured { .. }));
        self.access.borrow_mut().note(refused);
        let cluster = Rc::new(opened?);
        self.cluster.replace(Some(cluster.clone()));
        Ok(cluster)
    }

    /// Sends the events of one partition; their outcomes, in order.
    async fn produce(&self, cluster: &Cluster, number: usize, events: &[&PendingEvent]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        let limit = self.config.timeout;
        if timeout(limit, self.produce_all(cluster, number, events, &mut outcomes))
            .await
            .is_err()
        {
            self.cluster.take();
            self.send_less(&events[outcomes.len()..]);
            let reason = format!(
                "Kafka has not answered within {limit:?}; see how busy the brokers are and whether a quota holds this user back, or raise `timeout`"
            );
            outcomes.resize(events.len(), Outcome::retry(reason));
        }
        outcomes
    }

    /// What exceeds a quota by itself is held back and repeated by the client for ever: only less of it can pass.
    fn send_less(&self, events: &[&PendingEvent]) {
        let bytes = size(events).min(self.bytes_max_in_time.get());
        self.bytes_max_in_time.set((bytes / 2).max(BYTES_MIN));
    }

    fn send_more(&self) {
        let limit = self.bytes_max_in_time.get();
        self.bytes_max_in_time.set(limit.saturating_add(BYTES_MIN));
    }

    /// A topic that is not there may be there soon.
    fn wait_for_topic(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Misconfigured { reason } if reason == fault::no_topic(&self.config.topic).reason() => {
                let since = self.missing.get().unwrap_or_else(Instant::now);
                self.missing.set(Some(since));
                match since.elapsed() < MISSING {
                    true => Outcome::retry(reason),
                    false => Outcome::Misconfigured { reason },
                }
            }
            Outcome::Delivered => {
                self.missing.set(None);
                outcome
            }
            other => other,
        }
    }

    async fn produce_all(
        &self,
        cluster: &Cluster,
        number: usize,
        events: &[&PendingEvent],
        outcomes: &mut Vec<Outcome>,
    ) {
        // What is still to be sent; the next part is the last one.
        let (mut parts, mut refused) = (self.parts(events), 0);
        while let Some(part) = parts.pop() {
            let fault = match self.produce_part(cluster, number, part).await {
                Ok(()) => {
                    outcomes.resize(outcomes.len() + part.len(), Outcome::Delivered);
                    self.send_more();
                    refused = 0;
                    continue;
                }
                Err(fault) => fault,
            };
            refused += 1;
            match fault {
                // Everything is refused: that is no fault of the records, and the brokers are left alone.
                KafkaFault::TooLarge(reason) | KafkaFault::Refused(reason)
                    if refused >= REFUSED_IN_A_ROW_MAX =>
                {
                    return outcomes.resize(events.len(), Outcome::Misconfigured { reason });
                }
                KafkaFault::TooLarge(_) | KafkaFault::Refused(_) if part.len() > 1 => {
                    if let KafkaFault::TooLarge(reason) = &fault {
                        self.learn_limit(part, reason);
                    }
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                KafkaFault::TooLarge(reason) | KafkaFault::Refused(reason) => {
                    outcomes.push(Outcome::Poison { reason })
                }
                KafkaFault::All(outcome) => {
                    // Connections and leaders are looked up anew.
                    self.cluster.take();
                    return outcomes.resize(events.len(), outcome);
                }
            }
        }
    }

    /// Cut to what the topic is known to take, the first part last.
    fn parts<'a, 'e>(&self, events: &'a [&'e PendingEvent]) -> Vec<&'a [&'e PendingEvent]> {
        let bytes_max = self.bytes_max.get().min(self.bytes_max_in_time.get());
        let (mut parts, mut from, mut bytes) = (Vec::new(), 0, 0);
        for (at, event) in events.iter().enumerate() {
            let more = size(&[event]);
            bytes += more;
            if bytes > bytes_max && at > from {
                parts.push(&events[from..at]);
                (from, bytes) = (at, more);
            }
        }
        parts.push(&events[from..]);
        parts.reverse();
        parts
    }

    async fn produce_part(
        &self,
        cluster: &Cluster,
        number: usize,
        events: &[&PendingEvent],
    ) -> Result<(), KafkaFault> {
        let of = |error| fault::of(&error, &self.config.topic, &cluster.secrets);
        let leader: &PartitionClient = cluster.partition(number).await.map_err(of)?;
        let result = leader.produce(self.records(events), self.compression()).await;
        match result {
            // Brokers close connections that have been idle for long: the client knows the next time.
            Err(error) if fault::is_broken_connection(&error) => {
                let again = leader.produce(self.records(events), self.compression()).await;
                again.map(drop).map_err(of)
            }
            other => other.map(drop).map_err(of),
        }
    }

    fn records(&self, events: &[&PendingEvent]) -> Vec<Record> {
        let now_ms = crate::clock::now_ms();
        let time_ms = |event: &PendingEvent| match self.config.timestamp {
            RecordTime::Sent => now_ms,
            RecordTime::Event => event.time_ms(),
        };
        let record = |event: &&PendingEvent| Record {
            key: Some(event.id().hex().to_vec()),
            value: Some(event.bytes().to_vec()),
            headers: BTreeMap::from([("source".to_owned(), self.source.clone().into_bytes())]),
            timestamp: DateTime::from_timestamp_millis(time_ms(event)).unwrap_or_default(),
        };
        events.iter().map(record).collect()
    }

    fn compression(&self) -> client::Compression {
        match self.config.compression {
            Compression::None => client::Compression::NoCompression,
            Compression::Gzip => client::Compression::Gzip,
            Compression::Zstd => client::Compression::Zstd,
        }
    }

    fn learn_limit(&self, events: &[&PendingEvent], reason: &str) {
        let bytes = size(events);
        if lower(&self.bytes_max, bytes) {
            tracing::warn!(
                topic = self.config.topic,
                bytes,
                reason,
                "a batch is refused as too large; smaller ones are sent from now on"
            );
        }
    }
}

fn size(events: &[&PendingEvent]) -> usize {
    events
        .iter()
        .map(|event| event.bytes().len() + OVERHEAD_BYTES)
        .sum()
}

/// Connects, unless no broker says anything.
pub async fn open(ready: Ready, config: &KafkaConfig) -> Result<Cluster, Outcome> {
    let limit = config.timeout.min(OPEN_MAX);
    let opened = timeout(limit, Cluster::open(ready, config)).await;
    opened.unwrap_or_else(|_| {
        let brokers = config.brokers.join(", ");
        let tls = match config.tls {
            Some(_) => "speaks no TLS",
            None => "wants `tls`",
        };
        Err(Outcome::retry(format!(
            "`{brokers}` has not answered within {limit:?}; see network and firewall, and whether what listens there is Kafka, or {tls}"
        )))
    })
}

impl Peer for Kafka {
    async fn send(&self, events: &[PendingEvent]) -> Answer {
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            Err(outcome) => return Answer::All(self.wait_for_topic(outcome)),
        };
        let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            let number = partition::partition(&event.id().hex(), cluster.partitions());
            by_partition.entry(number).or_default().push(at);
        }
        let requests = by_partition.into_iter().map(async |(number, places)| {
            let events: Vec<&PendingEvent> = places.iter().map(|at| &events[*at]).collect();
            (places, self.produce(&cluster, number, &events).await)
        });
        let mut outcomes = vec![Outcome::retry("not sent"); events.len()];
        for (places, of_partition) in join_all(requests).await {
            for (at, outcome) in places.into_iter().zip(of_partition) {
                outcomes[at] = self.wait_for_topic(outcome);
            }
        }
        Answer::Each(outcomes)
    }

    fn changed(&self) -> bool {
        self.access.borrow().changed()
    }
}
