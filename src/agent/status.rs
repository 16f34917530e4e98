//! What the admin endpoint answers of the running agent.

mod history;
mod parts;

use super::running::Running;
use crate::admin::{Reply, Respond};
use crate::clock;
use crate::config::Config;
use crate::evidence::last_reconcile::{self, LastReconciles};
use crate::metrics::{ApiMetrics, Metrics};
use crate::quarantine::Tally;
use crate::status::{
    Activity, Fallback, Health, LedgerStatus, SCHEMA_VERSION, SourceStatus, Status, page, words,
};
use crate::telemetry::escape::escape;
use crate::telemetry::heartbeat;
use history::{History, Recent};
use hyper::StatusCode;
use parts::{ObservedSink, ObservedSource, change, described, iso, time_of};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts of a running agent that say how it is.
pub(super) struct Observed {
    metrics: Arc<Metrics>,
    started_ms: i64,
    host: String,
    config: Option<PathBuf>,
    state_dir: PathBuf,
    quarantine: Mutex<Tally>,
    sources: Vec<ObservedSource>,
    /// Of each source, then of each sink of it.
    history: History,
}

impl Observed {
    pub(super) fn new(config: &Config, running: &Running) -> Observed {
        let sinks_of = |source: &str| {
            let threads = running.sinks.iter().filter(|thread| thread.source == source);
            let sinks = threads.zip(&config.sinks).map(|(thread, sink)| ObservedSink {
                name: thread.sink.clone(),
                kind: sink.kind.word(),
                metrics: thread.metrics.clone(),
                sent: thread.sent.clone(),
            });
            sinks.collect()
        };
        let sources = config.sources.iter().zip(&running.flows).map(|(source, flow)| ObservedSource {
            name: source.name.clone(),
            flow: flow.clone(),
            metrics: running.metrics.source(&source.name),
            has_files: source.files.is_some(),
            api: source.api.as_ref().map(|_| running.metrics.api(&source.name)),
            sinks: sinks_of(&source.name),
        });
        let sources: Vec<ObservedSource> = sources.collect();
        Observed {
            metrics: running.metrics.clone(),
            started_ms: clock::now_ms(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            config: config.file.clone(),
            state_dir: config.state_dir.clone(),
            quarantine: Mutex::default(),
            history: History::new(sources.iter().map(|source| 1 + source.sinks.len()).sum()),
            sources,
        }
    }

    /// The answers of the endpoint for this agent.
    pub(super) fn respond(self: Arc<Observed>) -> Respond {
        Arc::new(move |path| self.answer(path))
    }

    /// Remembers how many events there were until now.
    pub(super) fn sample(&self) {
        let counters = self.sources.iter().flat_map(|source| {
            let sinks = source.sinks.iter().map(|sink| sink.metrics.events.get());
            std::iter::once(source.events()).chain(sinks)
        });
        self.history.sample(counters);
    }

    fn answer(&self, path: &str) -> Option<Reply> {
        match path {
            "/" => Some(html(page::write(&self.status()))),
            "/livez" => Some(live()),
            "/readyz" => Some(self.ready()),
            "/status" => {
                let body = serde_json::to_string(&self.status()).unwrap_or_default() + "\n";
                Some(Reply { status: StatusCode::OK, content_type: "application/json", body })
            }
            "/metrics" => Some(Reply {
                status: StatusCode::OK,
                content_type: "application/openmetrics-text; version=1.0.0; charset=utf-8",
                body: self.metrics.encode(),
            }),
            _ => None,
        }
    }

    fn ready(&self) -> Reply {
        let reasons: Vec<String> = self
            .sources
            .iter()
            .filter_map(|source| {
                let health = source.flow.health.get();
                let reason = health.problems().or((!health.was_healthy).then(|| "starting".to_owned()))?;
                // It may have an excerpt of what a server answered.
                Some(format!("{}: {}\n", source.name, escape(&reason)))
            })
            .collect();
        match reasons.is_empty() {
            true => text(StatusCode::OK, "ready\n".to_owned()),
            false => text(StatusCode::SERVICE_UNAVAILABLE, reasons.concat()),
        }
    }

    fn status(&self) -> Status {
        self.sample();
        self.metrics.sample();
        let now_ms = clock::now_ms();
        let mut counter = 0;
        let reconciled = last_reconcile::read(&self.state_dir);
        let sources = self.sources.iter();
        let sources: Vec<SourceStatus> =
            sources.map(|source| self.source(source, &mut counter, &reconciled, now_ms)).collect();
        let quarantined =
            self.quarantine.lock().unwrap_or_else(PoisonError::into_inner).count(&self.state_dir).ok();
        let mut warnings = Vec::new();
        let of_sinks: u64 =
            sources.iter().flat_map(|source| &source.sinks).map(|sink| sink.quarantined).sum();
        if let Some(events) = quarantined.filter(|events| *events > of_sinks) {
            warnings.push(words::quarantined_of_others(events - of_sinks));
        }
        let parts = || {
            sources
                .iter()
                .map(|source| source.health)
                .chain(sources.iter().flat_map(|source| &source.sinks).map(|sink| sink.health))
        };
        let stuck = heartbeat::stuck(heartbeat::STUCK_AFTER);
        let of_agent = match (&stuck, warnings.is_empty()) {
            (Some(_), _) => Health::Failure,
            (None, false) => Health::Warning,
            (None, true) => Health::Ok,
        };
        Status {
            schema: SCHEMA_VERSION,
            version: crate::VERSION.to_owned(),
            host: self.host.clone(),
            pid: std::process::id(),
            config: self.config.as_ref().map(|path| path.to_string_lossy().into_owned()),
            started: iso(self.started_ms),
            now: iso(now_ms),
            health: parts().fold(of_agent, Health::max),
            ready: parts().all(|health| matches!(health, Health::Ok | Health::Warning)),
            stuck,
            warnings,
            last_commit: time_of(&self.metrics.state.last_commit),
            quarantined,
            sources,
        }
    }

    /// `counter`: the number of the next series in the history.
    fn source(
        &self,
        source: &ObservedSource,
        counter: &mut usize,
        reconciled: &LastReconciles,
        now_ms: i64,
    ) -> SourceStatus {
        let metrics = &source.metrics;
        let mut health = source.flow.health.get();
        let activity = self.activity(source.events(), counter);
        let sinks = source.sinks.iter().enumerate();
        let sinks = sinks
            .map(|(pipeline, sink)| {
                let of_sink = health.sinks.remove(&pipeline).unwrap_or_default();
                let activity = self.activity(sink.metrics.events.get(), counter);
                sink.status(of_sink, activity, reconciled.get(&sink.name))
            })
            .collect();
        let expires = source.api.as_ref().and_then(ApiMetrics::credential_expiry);
        let warnings = source.warnings(health.note.as_deref(), now_ms);
        SourceStatus {
            name: source.name.clone(),
            health: match (&health.problem, health.was_healthy, warnings.is_empty()) {
                (Some(_), ..) => Health::Failure,
                (None, false, _) => Health::Starting,
                (None, true, false) => Health::Warning,
                (None, true, true) => Health::Ok,
            },
            input: source.input().to_owned(),
            fallback: (source.has_files && source.api.is_some())
                .then(|| Fallback { active: metrics.fallback_active.get() > 0, reason: health.note.clone() }),
            lag_seconds: metrics.lag_ms(health.problem.is_some(), self.started_ms, now_ms) as f64 / 1000.0,
            problem: health.problem.as_ref().map(|problem| described(problem, words::SOURCE_ACTION)),
            warnings,
            backlog_bytes: metrics.backlog_bytes.get().max(0) as u64,
            backlog_files: metrics.backlog_files.get().max(0) as u64,
            lost_bytes: metrics.lost_bytes(),
            unreadable_records: metrics.unreadable_records.get(),
            activity,
            last_event: time_of(&metrics.last_event),
            last_success: time_of(&metrics.last_success),
            switches: metrics.switches.get(),
            changes: health.changes.iter().rev().map(change).collect(),
            coverage: source.api.as_ref().map(ApiMetrics::coverage).unwrap_or_default(),
            token_expires: expires.map(|seconds| iso((seconds * 1000.0) as i64)),
            ledger: LedgerStatus {
                entries: metrics.ledger_entries.get().max(0) as u64,
                last_checkpoint: time_of(&metrics.last_checkpoint),
            },
            sinks,
        }
    }

    fn activity(&self, events: u64, counter: &mut usize) -> Activity {
        let Recent { rate_minute, rate_hour, minutes } = self.history.recent(*counter);
        *counter += 1;
        Activity { events, rate_minute, rate_hour, minutes }
    }
}

/// Fails only where the watchdog would end the agent. An outage of a sink or source does not count: a restart would not
/// help.
fn live() -> Reply {
    match heartbeat::stuck(heartbeat::STUCK_AFTER) {
        None => text(StatusCode::OK, "live\n".to_owned()),
        Some(stage) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{stage} makes no progress\n")),
    }
}

fn text(status: StatusCode, body: String) -> Reply {
    Reply { status, content_type: "text/plain; charset=utf-8", body }
}

fn html(body: String) -> Reply {
    Reply { status: StatusCode::OK, content_type: "text/html; charset=utf-8", body }
}
