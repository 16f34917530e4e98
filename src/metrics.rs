//! The agent's metrics. Each part of the agent has handles to its own ones; the admin endpoint encodes all of them as
//! OpenMetrics. docs/METRICS.md lists them, and a test compares the list.
//!
//! Labels are names from the configuration and fixed words. So the number of series depends on the configuration alone.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// A duration or a Unix time, in seconds.
pub type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

/// In front of each name.
const PREFIX: &str = "caa";
/// Of a request to a server, in seconds: a fast one in the same rack to one that runs into a timeout.
const REQUEST_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];
/// From the time of an event to its acknowledgement, in seconds: live to an outage of a week.
const DELAY_BUCKETS: [f64; 12] =
    [0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    source: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InputLabels {
    source: String,
    /// `file`, `api` or `agent`.
    input: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ClassLabels {
    source: String,
    class: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AreaLabels {
    source: String,
    area: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
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

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    pub last_commit: Seconds,
    source_events: Family<InputLabels, Counter>,
    source_read_bytes: Family<SourceLabels, Counter>,
    source_last_event: Family<SourceLabels, Seconds>,
    source_last_success: Family<SourceLabels, Seconds>,
    source_backlog_bytes: Family<SourceLabels, Gauge>,
    source_backlog_files: Family<SourceLabels, Gauge>,
    source_lost_bytes: Family<SourceLabels, Counter>,
    source_unreadable_records: Family<SourceLabels, Counter>,
    source_fallback_active: Family<SourceLabels, Gauge>,
    source_switches: Family<SourceLabels, Counter>,
    api_requests: Family<ClassLabels, Counter>,
    api_request_duration: Family<SourceLabels, Histogram, fn() -> Histogram>,
    api_throttled: Family<SourceLabels, SecondsTotal>,
    credential_expiry: Family<SourceLabels, Seconds>,
    audit_coverage_level: Family<AreaLabels, Gauge>,
    sink_events: Family<SinkLabels, Counter>,
    sink_sent_bytes: Family<SinkLabels, Counter>,
    sink_requests: Family<SinkClassLabels, Counter>,
    sink_request_duration: Family<SinkLabels, Histogram, fn() -> Histogram>,
    sink_last_success: Family<SinkLabels, Seconds>,
    sink_blocked: Family<SinkLabels, SecondsTotal>,
    sink_quarantined: Family<SinkLabels, Gauge>,
    delivery_delay: Family<SinkLabels, Histogram, fn() -> Histogram>,
    ledger_entries: Family<SourceLabels, Gauge>,
    ledger_last_checkpoint: Family<SourceLabels, Seconds>,
}

/// Of one source.
#[derive(Clone)]
pub struct SourceMetrics {
    pub file_events: Counter,
    pub api_events: Counter,
    pub agent_events: Counter,
    pub read_bytes: Counter,
    pub last_event: Seconds,
    pub last_success: Seconds,
    pub backlog_bytes: Gauge,
    pub backlog_files: Gauge,
    pub lost_bytes: Counter,
    pub unreadable_records: Counter,
    pub fallback_active: Gauge,
    pub switches: Counter,
    pub ledger_entries: Gauge,
    pub last_checkpoint: Seconds,
}

/// Of the API of one source.
#[derive(Clone)]
pub struct ApiMetrics {
    source: String,
    requests: Family<ClassLabels, Counter>,
    coverage: Family<AreaLabels, Gauge>,
    pub request_duration: Histogram,
    pub throttled: SecondsTotal,
    pub credential_expiry: Seconds,
}

impl ApiMetrics {
    /// Counts a request by the class of its response.
    pub fn count_request(&self, class: &'static str) {
        self.requests.get_or_create(&ClassLabels { source: self.source.clone(), class }).inc();
    }

    /// The coverage level of an area: 0 for `off`, then `base`, `advanced`, `full`.
    pub fn set_coverage(&self, area: &str, level: i64) {
        let labels = AreaLabels { source: self.source.clone(), area: area.to_owned() };
        self.coverage.get_or_create(&labels).set(level);
    }
}

/// Of one sink of one source.
#[derive(Clone)]
pub struct SinkMetrics {
    labels: SinkLabels,
    requests: Family<SinkClassLabels, Counter>,
    pub events: Counter,
    pub sent_bytes: Counter,
    pub request_duration: Histogram,
    pub last_success: Seconds,
    pub blocked: SecondsTotal,
    pub quarantined: Gauge,
    pub delivery_delay: Histogram,
}

impl SinkMetrics {
    /// Counts a request by the class of its response.
    pub fn count_request(&self, class: &'static str) {
        let SinkLabels { source, sink } = self.labels.clone();
        self.requests.get_or_create(&SinkClassLabels { source, sink, class }).inc();
    }
}

fn requests() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

fn delays() -> Histogram {
    Histogram::new(DELAY_BUCKETS)
}

/// Registers one metric and returns it.
fn register<M: prometheus_client::registry::Metric + Clone>(
    registry: &mut Registry,
    (name, unit, help): (&str, Option<Unit>, &str),
    metric: M,
) -> M {
    match unit {
        Some(unit) => registry.register_with_unit(name, help, unit, metric.clone()),
        None => registry.register(name, help, metric.clone()),
    }
    metric
}

impl Metrics {
    pub fn new() -> Metrics {
        let mut all = Registry::with_prefix(PREFIX);
        let registry = &mut all;
        let build: Family<BuildLabels, Gauge> = Family::default();
        build.get_or_create(&BuildLabels { version: crate::VERSION.to_owned() }).set(1);
        register(registry, ("build_info", None, "The version of the agent; always 1"), build);
        let (bytes, seconds) = (|| Some(Unit::Bytes), || Some(Unit::Seconds));
        Metrics {
            last_commit: register(
                registry,
                ("checkpoint_last_commit_timestamp", seconds(), "Unix time of the last commit of positions"),
                Seconds::default(),
            ),
            source_events: register(
                registry,
                ("source_events", None, "Events that were read, by input"),
                Family::default(),
            ),
            source_read_bytes: register(
                registry,
                ("source_read", bytes(), "Bytes of audit files that were read"),
                Family::default(),
            ),
            source_last_event: register(
                registry,
                ("source_last_event_timestamp", seconds(), "Unix time of the newest event that was read"),
                Family::default(),
            ),
            source_last_success: register(
                registry,
                ("source_last_success_timestamp", seconds(), "Unix time of the last pass without a problem"),
                Family::default(),
            ),
            source_backlog_bytes: register(
                registry,
                ("source_backlog", bytes(), "Bytes of audit files that are not read yet"),
                Family::default(),
            ),
            source_backlog_files: register(
                registry,
                ("source_backlog_files", None, "Audit files that are not read to their end"),
                Family::default(),
            ),
            source_lost_bytes: register(
                registry,
                ("source_lost", bytes(), "Bytes of audit files that will never be delivered"),
                Family::default(),
            ),
            source_unreadable_records: register(
                registry,
                (
                    "source_unreadable_records",
                    None,
                    "Records that cannot be parsed; they are delivered as errors",
                ),
                Family::default(),
            ),
            source_fallback_active: register(
                registry,
                ("source_fallback_active", None, "1 while the API is read because the files fail"),
                Family::default(),
            ),
            source_switches: register(
                registry,
                ("source_switches", None, "Switches between files and API"),
                Family::default(),
            ),
            api_requests: register(
                registry,
                ("api_requests", None, "Requests to the audit API, by class of the response"),
                Family::default(),
            ),
            api_request_duration: register(
                registry,
                ("api_request_duration", seconds(), "Duration of a request to the audit API"),
                Family::new_with_constructor(requests as fn() -> Histogram),
            ),
            api_throttled: register(
                registry,
                ("api_throttled", seconds(), "Time that a rate limit of the audit API made the agent wait"),
                Family::default(),
            ),
            credential_expiry: register(
                registry,
                (
                    "credential_expiry_timestamp",
                    seconds(),
                    "Unix time at which the token expires, where known",
                ),
                Family::default(),
            ),
            audit_coverage_level: register(
                registry,
                ("audit_coverage_level", None, "Coverage of an area: 0 off, 1 base, 2 advanced, 3 full"),
                Family::default(),
            ),
            sink_events: register(
                registry,
                ("sink_events", None, "Events with a final outcome, quarantined ones included"),
                Family::default(),
            ),
            sink_sent_bytes: register(
                registry,
                ("sink_sent", bytes(), "Bytes that were sent or written, before compression"),
                Family::default(),
            ),
            sink_requests: register(
                registry,
                ("sink_requests", None, "Requests to a server, by class of the response"),
                Family::default(),
            ),
            sink_request_duration: register(
                registry,
                ("sink_request_duration", seconds(), "Duration of a request to a server"),
                Family::new_with_constructor(requests as fn() -> Histogram),
            ),
            sink_last_success: register(
                registry,
                (
                    "sink_last_success_timestamp",
                    seconds(),
                    "Unix time of the last event with a final outcome",
                ),
                Family::default(),
            ),
            sink_blocked: register(
                registry,
                ("sink_blocked", seconds(), "Time in which the sink did not accept events"),
                Family::default(),
            ),
            sink_quarantined: register(
                registry,
                ("sink_quarantined_events", None, "Events of this run that are in quarantine"),
                Family::default(),
            ),
            delivery_delay: register(
                registry,
                ("delivery_delay", seconds(), "From the time of an event to its acknowledgement"),
                Family::new_with_constructor(delays as fn() -> Histogram),
            ),
            ledger_entries: register(
                registry,
                ("ledger_entries", None, "Entries of the ledger"),
                Family::default(),
            ),
            ledger_last_checkpoint: register(
                registry,
                ("ledger_last_checkpoint_timestamp", seconds(), "Unix time of the last published checkpoint"),
                Family::default(),
            ),
            registry: all,
        }
    }

    pub fn source(&self, source: &str) -> SourceMetrics {
        let labels = SourceLabels { source: source.to_owned() };
        let events = |input| {
            self.source_events.get_or_create(&InputLabels { source: source.to_owned(), input }).clone()
        };
        SourceMetrics {
            file_events: events("file"),
            api_events: events("api"),
            agent_events: events("agent"),
            read_bytes: self.source_read_bytes.get_or_create(&labels).clone(),
            last_event: self.source_last_event.get_or_create(&labels).clone(),
            last_success: self.source_last_success.get_or_create(&labels).clone(),
            backlog_bytes: self.source_backlog_bytes.get_or_create(&labels).clone(),
            backlog_files: self.source_backlog_files.get_or_create(&labels).clone(),
            lost_bytes: self.source_lost_bytes.get_or_create(&labels).clone(),
            unreadable_records: self.source_unreadable_records.get_or_create(&labels).clone(),
            fallback_active: self.source_fallback_active.get_or_create(&labels).clone(),
            switches: self.source_switches.get_or_create(&labels).clone(),
            ledger_entries: self.ledger_entries.get_or_create(&labels).clone(),
            last_checkpoint: self.ledger_last_checkpoint.get_or_create(&labels).clone(),
        }
    }

    pub fn api(&self, source: &str) -> ApiMetrics {
        let labels = SourceLabels { source: source.to_owned() };
        ApiMetrics {
            source: source.to_owned(),
            requests: self.api_requests.clone(),
            coverage: self.audit_coverage_level.clone(),
            request_duration: self.api_request_duration.get_or_create(&labels).clone(),
            throttled: self.api_throttled.get_or_create(&labels).clone(),
            credential_expiry: self.credential_expiry.get_or_create(&labels).clone(),
        }
    }

    pub fn sink(&self, source: &str, sink: &str) -> SinkMetrics {
        let labels = SinkLabels { source: source.to_owned(), sink: sink.to_owned() };
        SinkMetrics {
            requests: self.sink_requests.clone(),
            events: self.sink_events.get_or_create(&labels).clone(),
            sent_bytes: self.sink_sent_bytes.get_or_create(&labels).clone(),
            request_duration: self.sink_request_duration.get_or_create(&labels).clone(),
            last_success: self.sink_last_success.get_or_create(&labels).clone(),
            blocked: self.sink_blocked.get_or_create(&labels).clone(),
            quarantined: self.sink_quarantined.get_or_create(&labels).clone(),
            delivery_delay: self.delivery_delay.get_or_create(&labels).clone(),
            labels,
        }
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        let mut encoded = String::new();
        // Writing into a String does not fail.
        let _ = text::encode(&mut encoded, &self.registry);
        encoded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_openmetrics_with_a_help_text_for_each() {
        let metrics = Metrics::new();
        let (source, api, sink) =
            (metrics.source("wiki"), metrics.api("wiki"), metrics.sink("wiki", "local"));
        source.file_events.inc();
        api.count_request("ok");
        api.set_coverage("SECURITY", 1);
        sink.count_request("ok");
        sink.delivery_delay.observe(0.3);
        let text = metrics.encode();
        for line in [
            "caa_source_events_total{source=\"wiki\",input=\"file\"} 1",
            "caa_api_requests_total{source=\"wiki\",class=\"ok\"} 1",
            "caa_delivery_delay_seconds_count{source=\"wiki\",sink=\"local\"} 1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(types, text.lines().filter(|line| line.starts_with("# HELP ")).count());
    }
}
