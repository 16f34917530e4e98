//! Metrics that are not counted but read at each scrape. Nothing here waits for another thread, because the thread that
//! answers a scrape also sends the watchdog's heartbeat.

use super::build_context::BuildContext;
use super::running::SinkThread;
use crate::evidence::last_reconcile;
use crate::ledger::SharedLedger;
use crate::metrics::SourceMetrics;
use crate::quarantine::Tally;
use crate::telemetry::heartbeat;
use std::sync::{Mutex, PoisonError};

/// The size of a source's ledger.
pub(super) fn sample_ledger(common: &BuildContext, metrics: &SourceMetrics, ledger: &SharedLedger) {
    let (metrics, ledger) = (metrics.clone(), ledger.clone());
    common.metrics.sample_with(move || {
        if let Some((entries, bytes)) = ledger.size_unless_busy() {
            metrics.ledger_entries.set(entries as i64);
            metrics.ledger_bytes.set(bytes as i64);
        }
    });
}

/// The time in which sinks are blocked, and what is in quarantine.
pub(super) fn sample_sinks(common: &BuildContext, sinks: &[SinkThread]) {
    let sinks: Vec<_> = sinks
        .iter()
        .map(|thread| ((thread.sink.clone(), thread.source.clone()), thread.metrics.clone()))
        .collect();
    let (tally, state_dir) = (Mutex::new(Tally::default()), common.config.state_dir.clone());
    common.metrics.sample_with(move || {
        let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
        // What cannot be read is in the log since the start.
        let events = tally.count(&state_dir).ok().map(|_| tally.by_sink());
        for (names, metrics) in &sinks {
            metrics.sample();
            if let Some(events) = &events {
                metrics.quarantined.set(events.get(names).copied().unwrap_or(0) as i64);
            }
        }
    });
}

/// The disk, the last `reconcile`, and whether a stage is stuck.
pub(super) fn sample_state(common: &BuildContext) {
    let (metrics, state_dir) = (common.metrics.state.clone(), common.config.state_dir.clone());
    let sinks: Vec<String> = common.config.sinks.iter().map(|sink| sink.name.clone()).collect();
    common.metrics.sample_with(move || {
        metrics.sample_disk(&state_dir);
        metrics.stuck.set(i64::from(heartbeat::stuck(heartbeat::STUCK_AFTER).is_some()));
        let results = last_reconcile::read(&state_dir);
        for (sink, result) in results.iter().filter(|(sink, _)| sinks.contains(sink)) {
            metrics.set_reconciled(sink, result.at_ms, result.missing, result.altered);
        }
    });
}
