//! The sink of type `kafka`. Uses `acks=all` and the event's id as key.
//!
//! A request whose response is lost is sent again, and the client has no idempotent producer. So an event may
//! be in the topic more than once, each time with the same key and in the same partition.

pub(crate) mod cluster;
mod fault;
mod partition;

use super::outcome::{Outcome, RequestOutcome};
use super::remote::{Destination, PendingEvent, REFUSED_IN_A_ROW_MAX, REQUEST_BYTES_MIN, lower_limit};
use crate::config::{Compression, KafkaConfig, RecordTime};
use cluster::{ConnectionSettings, KafkaCluster, PreparedClient};
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

/// Size of a record without its value: key, header and numbers.
const OVERHEAD_BYTES: usize = 100;
/// How long a missing topic is retried. Starting brokers, or the re-creation of a topic, may take that long.
/// Kafka's own clients wait for a minute, but a mistyped name should be reported soon.
const TOPIC_MISSING_MAX: Duration = Duration::from_secs(30);

/// Limit for connecting. A broker responds at once; without a response there is no broker, or it expects TLS.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// The sink of type `kafka`.
pub(crate) struct KafkaSink {
    config: KafkaConfig,
    source: String,
    settings: RefCell<ConnectionSettings>,
    cluster: RefCell<Option<Rc<KafkaCluster>>>,
    /// Batch size learned from batches that were refused as too large.
    bytes_max: Cell<usize>,
    /// Batch size learned from timeouts. Grows again with each batch that is acknowledged in time.
    bytes_max_by_timeouts: Cell<usize>,
    /// Since when the topic is missing. `None`: it existed when it was last used.
    missing_since: Cell<Option<Instant>>,
}

impl KafkaSink {
    pub(crate) fn new(config: KafkaConfig, source: &str) -> KafkaSink {
        KafkaSink {
            settings: RefCell::new(ConnectionSettings::new(&config)),
            source: source.to_owned(),
            cluster: RefCell::default(),
            bytes_max: Cell::new(usize::MAX),
            bytes_max_by_timeouts: Cell::new(usize::MAX),
            missing_since: Cell::default(),
            config,
        }
    }

    /// The existing connection, or a new one.
    async fn cluster(&self) -> Result<Rc<KafkaCluster>, Outcome> {
        if self.settings.borrow().changed() {
            self.cluster.take();
        }
        if let Some(cluster) = &*self.cluster.borrow() {
            return Ok(cluster.clone());
        }
        let prepared = self.settings.borrow_mut().read()?;
        let connected = open(prepared, &self.config).await;
        let refused = matches!(connected, Err(Outcome::Misconfigured { .. }));
        self.settings.borrow_mut().set_refused(refused);
        let cluster = Rc::new(connected?);
        self.cluster.replace(Some(cluster.clone()));
        Ok(cluster)
    }

    /// Sends the events of one partition. Returns their outcomes in order.
    async fn produce(&self, cluster: &KafkaCluster, number: usize, events: &[&PendingEvent]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(events.len());
        let limit = self.config.timeout;
        if timeout(limit, self.produce_all(cluster, number, events, &mut outcomes)).await.is_err() {
            self.cluster.take();
            self.lower_batch_limit(&events[outcomes.len()..]);
            let reason = format!(
                "Kafka has not acknowledged a batch within {limit:?}; see how busy the brokers are and whether a quota throttles this user, or raise `timeout`"
            );
            outcomes.resize(events.len(), Outcome::retry(reason));
        }
        outcomes
    }

    /// Lowers the batch size. The client repeats a throttled request that exceeds its quota forever; only a
    /// smaller one can succeed.
    fn lower_batch_limit(&self, events: &[&PendingEvent]) {
        let bytes = size(events).min(self.bytes_max_by_timeouts.get());
        self.bytes_max_by_timeouts.set((bytes / 2).max(REQUEST_BYTES_MIN));
    }

    fn raise_batch_limit(&self) {
        let limit = self.bytes_max_by_timeouts.get();
        self.bytes_max_by_timeouts.set(limit.saturating_add(REQUEST_BYTES_MIN));
    }

    /// Retries a missing topic for [`TOPIC_MISSING_MAX`].
    fn wait_for_topic(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Misconfigured { reason } if reason == fault::no_topic(&self.config.topic).reason() => {
                let since = self.missing_since.get().unwrap_or_else(Instant::now);
                self.missing_since.set(Some(since));
                match since.elapsed() < TOPIC_MISSING_MAX {
                    true => Outcome::retry(reason),
                    false => Outcome::Misconfigured { reason },
                }
            }
            Outcome::Delivered => {
                self.missing_since.set(None);
                outcome
            }
            other => other,
        }
    }

    async fn produce_all(
        &self,
        cluster: &KafkaCluster,
        number: usize,
        events: &[&PendingEvent],
        outcomes: &mut Vec<Outcome>,
    ) {
        // A stack of parts that are still to be sent: the next one is the last.
        let (mut parts, mut refused) = (self.parts(events), 0);
        while let Some(part) = parts.pop() {
            let fault = match self.produce_part(cluster, number, part).await {
                Ok(()) => {
                    outcomes.resize(outcomes.len() + part.len(), Outcome::Delivered);
                    self.raise_batch_limit();
                    refused = 0;
                    continue;
                }
                Err(fault) => fault,
            };
            refused += 1;
            match fault {
                // Everything is refused, so the records are not at fault. The brokers get a pause.
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
                    // Connections and partition leaders are looked up again.
                    self.cluster.take();
                    return outcomes.resize(events.len(), outcome);
                }
            }
        }
    }

    /// Cuts the events into parts of the learned batch size. The first part is last.
    fn parts<'a, 'e>(&self, events: &'a [&'e PendingEvent]) -> Vec<&'a [&'e PendingEvent]> {
        let bytes_max = self.bytes_max.get().min(self.bytes_max_by_timeouts.get());
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
        cluster: &KafkaCluster,
        number: usize,
        events: &[&PendingEvent],
    ) -> Result<(), KafkaFault> {
        let to_fault = |error| fault::of_produce(&error, &self.config.topic, &cluster.secrets);
        let leader: &PartitionClient = cluster.partition(number).await.map_err(to_fault)?;
        let result = leader.produce(self.records(events), self.compression()).await;
        match result {
            // Brokers close idle connections; the client notices at the next request.
            Err(error) if fault::is_broken_connection(&error) => {
                let again = leader.produce(self.records(events), self.compression()).await;
                again.map(drop).map_err(to_fault)
            }
            other => other.map(drop).map_err(to_fault),
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
        if lower_limit(&self.bytes_max, bytes) {
            tracing::warn!(
                topic = self.config.topic,
                bytes,
                reason,
                "a batch was refused as too large; smaller ones are sent from now on"
            );
        }
    }
}

fn size(events: &[&PendingEvent]) -> usize {
    events.iter().map(|event| event.bytes().len() + OVERHEAD_BYTES).sum()
}

/// Connects to the cluster, within a limit.
pub(crate) async fn open(prepared: PreparedClient, config: &KafkaConfig) -> Result<KafkaCluster, Outcome> {
    let limit = config.timeout.min(CONNECT_MAX);
    let connected = timeout(limit, KafkaCluster::open(prepared, config)).await;
    connected.unwrap_or_else(|_| {
        let brokers = config.brokers.join(", ");
        let tls = match config.tls {
            Some(_) => "does not use TLS",
            None => "requires `tls`",
        };
        Err(Outcome::retry(format!(
            "`{brokers}` has not responded within {limit:?}; see network and firewall, and whether Kafka listens there, or {tls}"
        )))
    })
}

impl Destination for KafkaSink {
    async fn send(&self, events: &[PendingEvent]) -> RequestOutcome {
        let cluster = match self.cluster().await {
            Ok(cluster) => cluster,
            Err(outcome) => return RequestOutcome::All(self.wait_for_topic(outcome)),
        };
        let mut by_partition: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (at, event) in events.iter().enumerate() {
            let number = partition::partition(&event.id().hex(), cluster.partitions());
            by_partition.entry(number).or_default().push(at);
        }
        let requests = by_partition.into_iter().map(async |(number, indices)| {
            let events: Vec<&PendingEvent> = indices.iter().map(|at| &events[*at]).collect();
            (indices, self.produce(&cluster, number, &events).await)
        });
        let mut outcomes = vec![Outcome::retry("not sent"); events.len()];
        for (indices, of_partition) in join_all(requests).await {
            for (at, outcome) in indices.into_iter().zip(of_partition) {
                outcomes[at] = self.wait_for_topic(outcome);
            }
        }
        RequestOutcome::Each(outcomes)
    }

    fn credentials_changed(&self) -> bool {
        self.settings.borrow().changed()
    }
}
