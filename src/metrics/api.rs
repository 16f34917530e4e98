//! The metrics of an audit API.

use super::source::SourceLabels;
use super::{Registrar, Seconds, SecondsTotal, seconds};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Of a request to a server, in seconds: a fast one in the same rack to one that runs into a timeout.
const REQUEST_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// From the lowest to the highest level of coverage.
const LEVELS: [&str; 4] = ["off", "base", "advanced", "full"];
/// Confluence has 8 areas. Their names come from servers, so those of a source are limited.
const AREAS_MAX: usize = 256;
const AREA_BYTES_MAX: usize = 64;

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

/// Level by area of each source. Each area has a series.
type Levels = BTreeMap<String, BTreeMap<String, String>>;

pub(super) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

pub(super) struct ApiFamilies {
    requests: Family<ClassLabels, Counter>,
    request_duration: Durations<SourceLabels>,
    throttled: Family<SourceLabels, SecondsTotal>,
    credential_expiry: Family<SourceLabels, Seconds>,
    coverage: Family<AreaLabels, Gauge>,
    levels: Arc<Mutex<Levels>>,
}

/// Of the API of one source.
#[derive(Clone, Debug)]
pub struct ApiMetrics {
    labels: SourceLabels,
    requests: Family<ClassLabels, Counter>,
    credential_expiry: Family<SourceLabels, Seconds>,
    coverage: Family<AreaLabels, Gauge>,
    levels: Arc<Mutex<Levels>>,
    request_duration: Histogram,
    throttled: SecondsTotal,
}

impl ApiMetrics {
    /// Counts a request by the class of its response.
    pub fn count_request(&self, class: &'static str) {
        self.requests.get_or_create(&ClassLabels { source: self.labels.source.clone(), class }).inc();
    }

    /// A request has ended after this time.
    pub fn observe_request(&self, class: &'static str, duration: Duration) {
        self.count_request(class);
        self.request_duration.observe(duration.as_secs_f64());
    }

    /// A rate limit makes the agent wait this long.
    pub fn count_throttled(&self, pause: Duration) {
        self.throttled.inc_by(pause.as_secs_f64());
    }

    /// The time at which the token expires. Without one there is no series, because 0 would mean long ago.
    pub fn set_credential_expiry(&self, expires_ms: i64) {
        self.credential_expiry.get_or_create(&self.labels).set(seconds(expires_ms));
    }

    /// The token does not expire, or is no longer known.
    pub fn clear_credential_expiry(&self) {
        self.credential_expiry.remove(&self.labels);
    }

    /// The coverage level of each area.
    pub fn set_coverages<'a>(&self, levels: impl IntoIterator<Item = (&'a String, &'a String)>) {
        levels.into_iter().for_each(|(area, level)| self.set_coverage(area, level));
    }

    /// The coverage level of an area: 0 for `off`, then `base`, `advanced`, `full`; -1: unknown.
    pub fn set_coverage(&self, area: &str, level: &str) {
        let mut levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        let of_source = levels.entry(self.labels.source.clone()).or_default();
        if !of_source.contains_key(area) && (area.len() > AREA_BYTES_MAX || of_source.len() >= AREAS_MAX) {
            return;
        }
        of_source.insert(area.to_owned(), level.chars().take(AREA_BYTES_MAX).collect());
        let labels = AreaLabels { source: self.labels.source.clone(), area: area.to_owned() };
        let level = LEVELS.iter().position(|known| level.eq_ignore_ascii_case(known));
        self.coverage.get_or_create(&labels).set(level.map_or(-1, |level| level as i64));
    }

    /// The last known level by area.
    pub fn coverage(&self) -> BTreeMap<String, String> {
        let levels = self.levels.lock().unwrap_or_else(PoisonError::into_inner);
        levels.get(&self.labels.source).cloned().unwrap_or_default()
    }

    /// The Unix time at which the token expires, where it is known.
    pub fn credential_expiry(&self) -> Option<f64> {
        self.credential_expiry.get(&self.labels).map(|expiry| expiry.get())
    }
}

/// Metrics that nobody reads, of an API that no agent runs.
impl Default for ApiMetrics {
    fn default() -> ApiMetrics {
        super::Metrics::new().api("")
    }
}

pub(super) fn durations() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

impl ApiFamilies {
    pub(super) fn register(all: &mut Registrar<'_>) -> ApiFamilies {
        ApiFamilies {
            requests: all.plain("api_requests", "Requests to the audit API, by class of the response"),
            request_duration: all.add(
                "api_request_duration",
                Some(Unit::Seconds),
                "Duration of a request to the audit API",
                Family::new_with_constructor(durations as fn() -> Histogram),
            ),
            throttled: all.seconds("api_throttled", "Time that rate limits make the agent wait"),
            credential_expiry: all
                .seconds("credential_expiry_timestamp", "Unix time at which the token expires"),
            coverage: all
                .plain("audit_coverage_level", "Coverage of an area: 0 off, 1 base, 2 advanced, 3 full"),
            levels: Arc::default(),
        }
    }

    pub(super) fn of(&self, source: &str) -> ApiMetrics {
        let labels = SourceLabels { source: source.to_owned() };
        ApiMetrics {
            requests: self.requests.clone(),
            credential_expiry: self.credential_expiry.clone(),
            coverage: self.coverage.clone(),
            levels: self.levels.clone(),
            request_duration: self.request_duration.get_or_create(&labels).clone(),
            throttled: self.throttled.get_or_create(&labels).clone(),
            labels,
        }
    }
}
