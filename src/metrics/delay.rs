//! A histogram of delays. The one of `prometheus-client` takes a lock for each value; this one takes a whole batch,
//! with one atomic addition for each bucket.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in milliseconds: from live to an outage of a week.
const BOUNDS_MS: [u64; 12] = [
    100,
    500,
    1_000,
    5_000,
    15_000,
    60_000,
    300_000,
    900_000,
    3_600_000,
    21_600_000,
    86_400_000,
    604_800_000,
];
const BUCKETS: usize = BOUNDS_MS.len() + 1;

/// From the time of an event to its acknowledgement.
#[derive(Clone, Debug, Default)]
pub struct DelayHistogram(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// The last one has no upper bound.
    buckets: [AtomicU64; BUCKETS],
    sum_ms: AtomicU64,
    /// Mean of the last batch, and one more; 0: there was none.
    last_ms: AtomicU64,
}

impl DelayHistogram {
    /// Events of these times were acknowledged at `now_ms`. A time in the future has no delay.
    pub fn observe(&self, times_ms: &[i64], now_ms: i64) {
        let (mut counts, mut sum_ms) = ([0_u64; BUCKETS], 0_u64);
        for time_ms in times_ms {
            let delay_ms = now_ms.saturating_sub(*time_ms).max(0) as u64;
            counts[BOUNDS_MS.partition_point(|bound| *bound < delay_ms)] += 1;
            sum_ms = sum_ms.saturating_add(delay_ms);
        }
        for (bucket, count) in self.0.buckets.iter().zip(counts).filter(|(_, count)| *count > 0) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.0.sum_ms.fetch_add(sum_ms, Ordering::Relaxed);
        if let Some(mean_ms) = sum_ms.checked_div(times_ms.len() as u64) {
            self.0.last_ms.store(mean_ms.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// The mean delay of the last batch.
    pub fn last_batch(&self) -> Option<Duration> {
        self.0.last_ms.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_millis)
    }
}

impl TypedMetric for DelayHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for DelayHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counts = self.0.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        let bounds = BOUNDS_MS.iter().map(|ms| *ms as f64 / 1000.0).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let sum = self.0.sum_ms.load(Ordering::Relaxed) as f64 / 1000.0;
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_in_the_bucket_of_its_bound() {
        let histogram = DelayHistogram::default();
        assert_eq!(histogram.last_batch(), None);
        histogram.observe(&[1_000, 400], 1_000);
        assert_eq!(histogram.last_batch(), Some(Duration::from_millis(300)));
        let histogram = DelayHistogram::default();
        histogram.observe(&[1_000, 900, 899, 2_000, i64::MIN], 1_000);
        let counts = histogram.0.buckets.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_last_bucket_has_the_bound_that_quantiles_need() {
        let (mut registry, mut text) = (prometheus_client::registry::Registry::default(), String::new());
        registry.register("delay", "", DelayHistogram::default());
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains("delay_bucket{le=\"+Inf\"} 0\n"), "{text}");
    }
}
