//! The metrics of a sink.

use super::api::{Durations, durations};
use super::{DelayHistogram, Registrar, Seconds, SecondsTotal};
use crate::clock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SinkLabels {
    source: String,
    sink: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SinkClassLabels {
    source: String,
    sink: String,
    class: &'static str,
}

pub(super) struct SinkFamilies {
    events: Family<SinkLabels, Counter>,
    sent_bytes: Family<SinkLabels, Counter>,
    requests: Family<SinkClassLabels, Counter>,
    request_duration: Durations<SinkLabels>,
    last_success: Family<SinkLabels, Seconds>,
    healthy: Family<SinkLabels, Gauge>,
    blocked: Family<SinkLabels, SecondsTotal>,
    quarantined: Family<SinkLabels, Gauge>,
    delivery_delay: Family<SinkLabels, DelayHistogram>,
}

/// Of one sink of one source.
#[derive(Clone, Debug)]
pub struct SinkMetrics {
    labels: SinkLabels,
    requests: Family<SinkClassLabels, Counter>,
    /// Events with a final outcome, quarantined ones included.
    pub events: Counter,
    pub sent_bytes: Counter,
    request_duration: Histogram,
    pub last_success: Seconds,
    healthy: Gauge,
    blocked: Arc<Blocked>,
    /// Events that are in quarantine now.
    pub quarantined: Gauge,
    /// Events that this run has put into quarantine. It is not exposed.
    pub quarantined_in_run: Counter,
    pub delivery_delay: DelayHistogram,
}

/// How long a sink did not accept events.
#[derive(Debug, Default)]
struct Blocked {
    total: SecondsTotal,
    /// Since when it has not accepted events, without what is counted already.
    since: Mutex<Option<Instant>>,
}

impl Blocked {
    fn update(&self, is_blocked: impl FnOnce(bool) -> bool) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        if let Some(since) = *since {
            self.total.inc_by(now.saturating_duration_since(since).as_secs_f64());
        }
        *since = is_blocked(since.is_some()).then_some(now);
    }
}

impl SinkMetrics {
    /// Counts a request by the class of its outcome.
    pub fn count_request(&self, class: &'static str) {
        let SinkLabels { source, sink } = self.labels.clone();
        self.requests.get_or_create(&SinkClassLabels { source, sink, class }).inc();
    }

    /// A request with so many bytes of events has ended.
    pub fn observe_request(&self, class: &'static str, bytes: u64, duration: Duration) {
        self.count_request(class);
        self.sent_bytes.inc_by(bytes);
        self.request_duration.observe(duration.as_secs_f64());
    }

    /// The sink does not accept events at the moment, or does again.
    pub fn set_blocked(&self, is_blocked: bool) {
        self.healthy.set(i64::from(!is_blocked));
        self.blocked.update(|_| is_blocked);
    }

    /// Since when the sink has not accepted events: at most the time since the last scrape is missing in the counter.
    pub fn sample(&self) {
        self.blocked.update(|was_blocked| was_blocked);
    }
}

impl SinkFamilies {
    pub(super) fn register(all: &mut Registrar<'_>) -> SinkFamilies {
        SinkFamilies {
            events: all.plain("sink_events", "Events with a final outcome, quarantined ones included"),
            sent_bytes: all.bytes("sink_sent", "Bytes of events that were sent, before compression"),
            requests: all.plain("sink_requests", "Requests to a server, by class of the outcome"),
            request_duration: all.add(
                "sink_request_duration",
                Some(Unit::Seconds),
                "Duration of a request to a server",
                Family::new_with_constructor(durations as fn() -> Histogram),
            ),
            last_success: all.seconds("sink_last_success_timestamp", "Unix time of the last final events"),
            healthy: all.plain("sink_healthy", "0 while the sink does not accept events"),
            blocked: all.seconds("sink_blocked", "Time in which the sink did not accept events"),
            quarantined: all.plain("sink_quarantined_events", "Events that are in quarantine now"),
            delivery_delay: all.seconds("delivery_delay", "From the time of an event to its acknowledgement"),
        }
    }

    pub(super) fn of(&self, source: &str, sink: &str) -> SinkMetrics {
        let labels = SinkLabels { source: source.to_owned(), sink: sink.to_owned() };
        let metrics = SinkMetrics {
            requests: self.requests.clone(),
            events: self.events.get_or_create(&labels).clone(),
            sent_bytes: self.sent_bytes.get_or_create(&labels).clone(),
            request_duration: self.request_duration.get_or_create(&labels).clone(),
            last_success: self.last_success.get_or_create(&labels).clone(),
            healthy: self.healthy.get_or_create(&labels).clone(),
            blocked: Arc::new(Blocked {
                total: self.blocked.get_or_create(&labels).clone(),
                since: Mutex::default(),
            }),
            quarantined: self.quarantined.get_or_create(&labels).clone(),
            quarantined_in_run: Counter::default(),
            delivery_delay: self.delivery_delay.get_or_create(&labels).clone(),
            labels,
        };
        metrics.set_blocked(false);
        metrics
    }
}
