//! The sources and sinks whose status is asked for.

use super::super::flow_control::FlowControl;
use super::super::health;
use crate::evidence::last_reconcile::LastReconcile;
use crate::metrics::{ApiMetrics, Seconds, SinkMetrics, SourceMetrics};
use crate::source::api::{audit_settings, token};
use crate::status::{Activity, Change, Health, LastError, Problem, Reconciled, SinkStatus, words};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(in crate::agent) struct ObservedSource {
    pub name: String,
    pub flow: Arc<FlowControl>,
    pub metrics: SourceMetrics,
    pub has_files: bool,
    pub api: Option<ApiMetrics>,
    pub sinks: Vec<ObservedSink>,
}

pub(in crate::agent) struct ObservedSink {
    pub name: String,
    pub kind: &'static str,
    pub metrics: SinkMetrics,
    /// Events that were sent to its thread.
    pub sent: Arc<AtomicU64>,
}

impl ObservedSource {
    pub(in crate::agent) fn events(&self) -> u64 {
        let SourceMetrics { file_events, api_events, agent_events, .. } = &self.metrics;
        file_events.get() + api_events.get() + agent_events.get()
    }

    /// The active input.
    pub(in crate::agent) fn input(&self) -> &'static str {
        if self.has_files && self.metrics.fallback_active.get() == 0 { "file" } else { "api" }
    }

    pub(in crate::agent) fn warnings(&self, note: Option<&str>, now_ms: i64) -> Vec<String> {
        let mut warnings: Vec<String> = note.map(str::to_owned).into_iter().collect();
        let expires = self.api.as_ref().and_then(ApiMetrics::credential_expiry);
        let expiring = expires.and_then(|seconds| token::due((seconds * 1000.0) as i64, now_ms, None));
        warnings.extend(expiring.map(|warning| warning.message()));
        let levels = self.api.as_ref().map(ApiMetrics::coverage).unwrap_or_default();
        warnings.extend(audit_settings::coverage_off(&levels));
        if self.metrics.losses() > 0 {
            warnings.push(words::lost(self.metrics.lost_bytes()));
        }
        warnings
    }
}

impl ObservedSink {
    pub(in crate::agent) fn status(
        &self,
        health: health::SinkHealth,
        activity: Activity,
        reconciled: Option<&LastReconcile>,
    ) -> SinkStatus {
        let prefix = format!("sink {}: ", self.name);
        let quarantined = self.metrics.quarantined.get().max(0) as u64;
        let stripped = |message: &str| message.strip_prefix(&prefix).unwrap_or(message).to_owned();
        let problem =
            health.problem.map(|problem| health::Problem { message: stripped(&problem.message), ..problem });
        let mut warnings = Vec::new();
        if quarantined > 0 {
            warnings.push(words::quarantined(quarantined));
        }
        warnings.extend(reconciled.and_then(|found| words::reconciled(found.missing, found.altered)));
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            health: match (&problem, warnings.is_empty()) {
                (Some(_), _) => Health::Failure,
                (None, false) => Health::Warning,
                (None, true) => Health::Ok,
            },
            warnings,
            problem: problem.as_ref().map(|problem| described(problem, words::SINK_ACTION)),
            last_error: health
                .last
                .map(|last| LastError { message: stripped(&last.message), time: iso(last.since_ms) }),
            waiting: self.sent.load(Ordering::Relaxed).saturating_sub(activity.events),
            delivered: activity.events.saturating_sub(self.metrics.quarantined_in_run.get()),
            activity,
            delay_seconds: self.metrics.delivery_delay.last_batch().map(|delay| delay.as_secs_f64()),
            quarantined,
            last_success: time_of(&self.metrics.last_success),
            last_reconcile: reconciled.map(|found| Reconciled {
                time: iso(found.at_ms),
                missing: found.missing,
                altered: found.altered,
            }),
        }
    }
}

pub(in crate::agent) fn described(problem: &health::Problem, action: &str) -> Problem {
    let (message, remedy) = words::split_remedy(&problem.message);
    Problem {
        message: message.to_owned(),
        since: iso(problem.since_ms),
        action: remedy.unwrap_or(action).to_owned(),
    }
}

pub(in crate::agent) fn change(change: &health::Change) -> Change {
    let health::Change { at_ms, action, message } = change;
    Change { time: iso(*at_ms), action: (*action).to_owned(), message: message.clone() }
}

pub(in crate::agent) fn iso(ms: i64) -> String {
    String::from_utf8_lossy(&crate::record::time::iso(ms)).into_owned()
}

/// The time of a metric; 0 is none.
pub(in crate::agent) fn time_of(seconds: &Seconds) -> Option<String> {
    let seconds = seconds.get();
    (seconds > 0.0).then(|| iso((seconds * 1000.0).round() as i64))
}
