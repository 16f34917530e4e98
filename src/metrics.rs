//! The agent's metrics. Each part of the agent has handles to its own ones; the admin endpoint encodes all of them as
//! OpenMetrics. docs/METRICS.md lists them, and a test compares the list.
//!
//! Labels are names from the configuration and fixed words. So the number of series depends on the configuration alone.
//! Counters are atomic, and are increased once for each block or batch. What costs more is read at each scrape.

mod api;
mod delay;
mod process;
mod sink;
mod source;
mod state;

pub use api::ApiMetrics;
pub use delay::DelayHistogram;
pub use sink::SinkMetrics;
pub use source::{LossClass, SourceMetrics};
pub use state::StateMetrics;

use api::ApiFamilies;
use process::ProcessMetrics;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use sink::SinkFamilies;
use source::SourceFamilies;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};

/// A duration or a Unix time, in seconds. A time is 0 until there is one.
pub type Seconds = Gauge<f64, AtomicU64>;
type SecondsTotal = Counter<f64, AtomicU64>;

/// In front of each name but `process_…`, which Prometheus itself defines.
const PREFIX: &str = "caa";

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct BuildLabels {
    version: String,
}

/// Updates metrics that are read at a scrape.
type Sampler = Box<dyn Fn() + Send + Sync>;

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    /// Those without the prefix.
    process: Registry,
    pub state: StateMetrics,
    sources: SourceFamilies,
    apis: ApiFamilies,
    sinks: SinkFamilies,
    samplers: Mutex<Vec<Sampler>>,
}

/// Registers metrics.
struct Registrar<'a>(&'a mut Registry);

impl Registrar<'_> {
    fn plain<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, None, help, M::default())
    }

    fn bytes<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, Some(Unit::Bytes), help, M::default())
    }

    fn seconds<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, Some(Unit::Seconds), help, M::default())
    }

    fn add<M: Metric + Clone>(&mut self, name: &str, unit: Option<Unit>, help: &str, metric: M) -> M {
        match unit {
            Some(unit) => self.0.register_with_unit(name, help, unit, metric.clone()),
            None => self.0.register(name, help, metric.clone()),
        }
        metric
    }
}

impl Metrics {
    pub fn new() -> Metrics {
        let (mut registry, mut process) = (Registry::with_prefix(PREFIX), Registry::default());
        process.register_collector(Box::new(ProcessMetrics));
        let mut registrar = Registrar(&mut registry);
        let build: Family<BuildLabels, Gauge> =
            registrar.plain("build_info", "The version of the agent; always 1");
        build.get_or_create(&BuildLabels { version: crate::VERSION.to_owned() }).set(1);
        Metrics {
            state: StateMetrics::register(&mut registrar),
            sources: SourceFamilies::register(&mut registrar),
            apis: ApiFamilies::register(&mut registrar),
            sinks: SinkFamilies::register(&mut registrar),
            samplers: Mutex::default(),
            registry,
            process,
        }
    }

    /// The metrics of one source.
    pub fn source(&self, source: &str) -> SourceMetrics {
        self.sources.of(source)
    }

    /// The metrics of the API of one source.
    pub fn api(&self, source: &str) -> ApiMetrics {
        self.apis.of(source)
    }

    /// The metrics of one sink of one source.
    pub fn sink(&self, source: &str, sink: &str) -> SinkMetrics {
        self.sinks.of(source, sink)
    }

    /// Calls this before each scrape, to update what is not counted. It must not wait for anything.
    pub fn sample_with(&self, sampler: impl Fn() + Send + Sync + 'static) {
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(sampler));
    }

    /// Updates all metrics that are not counted.
    pub fn sample(&self) {
        self.samplers.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|sampler| sampler());
    }

    /// All metrics as OpenMetrics text.
    pub fn encode(&self) -> String {
        self.sample();
        let mut encoded = String::new();
        // Writing into a String does not fail.
        let _ = text::encode_registry(&mut encoded, &self.process);
        let _ = text::encode(&mut encoded, &self.registry);
        encoded
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

/// The metric of a time in milliseconds since 1970.
pub(crate) fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
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
        api.set_coverage("SECURITY", "base");
        sink.count_request("ok");
        sink.delivery_delay.observe(&[1_000, 1_900], 2_000);
        let text = metrics.encode();
        for line in [
            "caa_source_events_total{source=\"wiki\",input=\"file\"} 1",
            "caa_source_lost_bytes_total{source=\"wiki\",class=\"deleted\"} 0",
            "caa_api_requests_total{source=\"wiki\",class=\"ok\"} 1",
            "caa_audit_coverage_level{source=\"wiki\",area=\"SECURITY\"} 1",
            "caa_delivery_delay_seconds_count{source=\"wiki\",sink=\"local\"} 2",
            "caa_delivery_delay_seconds_bucket{le=\"0.1\",source=\"wiki\",sink=\"local\"} 1",
            "caa_delivery_delay_seconds_sum{source=\"wiki\",sink=\"local\"} 1.1",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        let types = text.lines().filter(|line| line.starts_with("# TYPE ")).count();
        assert_eq!(types, text.lines().filter(|line| line.starts_with("# HELP ")).count());
    }

    /// A server chooses the names of areas.
    #[test]
    fn a_server_cannot_add_series_without_end() {
        let metrics = Metrics::new();
        let api = metrics.api("wiki");
        for area in 0..1000 {
            metrics.api("wiki").set_coverage(&format!("area {area}"), "full");
            api.set_coverage(&"x".repeat(area), "full");
        }
        let text = metrics.encode();
        let series = text.lines().filter(|line| line.starts_with("caa_audit_coverage_level{")).count();
        assert_eq!(series, 256);
        // Nor does it take the series of another source.
        metrics.api("site").set_coverage("SECURITY", "full");
        assert_eq!(metrics.api("site").coverage().len(), 1);
    }
}
