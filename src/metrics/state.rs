//! The metrics of the state directory and of the agent as a whole.

use super::{Registrar, Seconds, seconds};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use std::path::Path;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReconcileLabels {
    sink: String,
}

#[derive(Clone, Debug, Default)]
pub struct StateMetrics {
    pub last_commit: Seconds,
    pub failed_commits: Counter,
    disk_free: Gauge,
    disk_size: Gauge,
    pub stuck: Gauge,
    reconcile_time: Family<ReconcileLabels, Seconds>,
    reconcile_missing: Family<ReconcileLabels, Gauge>,
    reconcile_altered: Family<ReconcileLabels, Gauge>,
}

impl StateMetrics {
    pub(super) fn register(all: &mut Registrar<'_>) -> StateMetrics {
        StateMetrics {
            last_commit: all
                .seconds("checkpoint_last_commit_timestamp", "Unix time of the last commit of positions"),
            failed_commits: all
                .plain("checkpoint_failed_commits", "Commits that failed because there was no space"),
            disk_free: all.bytes("state_disk_free", "Free space on the disk of the state directory"),
            disk_size: all.bytes("state_disk_size", "Size of the disk of the state directory"),
            stuck: all
                .plain("stage_stuck", "1 while a stage makes no progress; the watchdog ends the agent then"),
            reconcile_time: all
                .seconds("reconcile_last_timestamp", "Unix time of the last `reconcile` of this sink"),
            reconcile_missing: all
                .plain("reconcile_missing_events", "Events that the last `reconcile` found missing"),
            reconcile_altered: all
                .plain("reconcile_altered_events", "Events that the last `reconcile` found altered"),
        }
    }

    /// What the last `reconcile` of a sink has found. Without one there is no series.
    pub fn set_reconciled(&self, sink: &str, at_ms: i64, missing: u64, altered: u64) {
        let labels = ReconcileLabels { sink: sink.to_owned() };
        self.reconcile_time.get_or_create(&labels).set(seconds(at_ms));
        self.reconcile_missing.get_or_create(&labels).set(missing as i64);
        self.reconcile_altered.get_or_create(&labels).set(altered as i64);
    }

    /// Reads the free space of the disk.
    pub fn sample_disk(&self, state_dir: &Path) {
        if let Ok(disk) = rustix::fs::statvfs(state_dir) {
            let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
            self.disk_free.set(bytes(disk.f_bavail));
            self.disk_size.set(bytes(disk.f_blocks));
        }
    }
}
