//! What the admin endpoint answers of the running agent.

mod history;

use super::flow_control::FlowControl;
use super::health;
use super::running::Running;
use crate::admin::{Reply, Respond};
use crate::clock;
use crate::config::Config;
use crate::metrics::{ApiMetrics, Metrics, Seconds, SinkMetrics, SourceMetrics};
use crate::quarantine::Tally;
use crate::source::api::{audit_settings, token};
use crate::status::{
    Activity, Change, Fallback, Health, LastError, LedgerStatus, Problem, SCHEMA_VERSION, SinkStatus,
    SourceStatus, Status, page, words,
};
use crate::telemetry::escape::escape;
use crate::telemetry::heartbeat;
use history::{History, Recent};
use hyper::StatusCode;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
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

struct ObservedSource {
    name: String,
    flow: Arc<FlowControl>,
    metrics: SourceMetrics,
    has_files: bool,
    api: Option<ApiMetrics>,
    sinks: Vec<ObservedSink>,
}

struct ObservedSink {
    name: String,
    kind: &'static str,
    metrics: SinkMetrics,
    /// Events that were sent to its thread.
    sent: Arc<AtomicU64>,
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
        let sources: Vec<SourceStatus> =
            self.sources.iter().map(|source| self.source(source, &mut counter, now_ms)).collect();
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
    fn source(&self, source: &ObservedSource, counter: &mut usize, now_ms: i64) -> SourceStatus {
        let metrics = &source.metrics;
        let mut health = source.flow.health.get();
        let activity = self.activity(source.events(), counter);
        let sinks = source.sinks.iter().enumerate();
        let sinks = sinks
            .map(|(pipeline, sink)| {
                let of_sink = health.sinks.remove(&pipeline).unwrap_or_default();
                sink.status(of_sink, self.activity(sink.metrics.events.get(), counter))
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
            lag_seconds: self.lag_ms(source, health.problem.is_some(), now_ms) as f64 / 1000.0,
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

    /// How far reading is behind. Without a backlog it is not.
    fn lag_ms(&self, source: &ObservedSource, failing: bool, now_ms: i64) -> i64 {
        let ms = |seconds: &Seconds| Some((seconds.get() * 1000.0) as i64).filter(|ms| *ms > 0);
        let since = match (failing, source.metrics.backlog_bytes.get() > 0) {
            (true, _) => ms(&source.metrics.last_success),
            (false, true) => ms(&source.metrics.last_event),
            (false, false) => return 0,
        };
        now_ms.saturating_sub(since.unwrap_or(self.started_ms)).max(0)
    }

    fn activity(&self, events: u64, counter: &mut usize) -> Activity {
        let Recent { rate_minute, rate_hour, minutes } = self.history.recent(*counter);
        *counter += 1;
        Activity { events, rate_minute, rate_hour, minutes }
    }
}

impl ObservedSource {
    fn events(&self) -> u64 {
        let SourceMetrics { file_events, api_events, agent_events, .. } = &self.metrics;
        file_events.get() + api_events.get() + agent_events.get()
    }

    /// The active input.
    fn input(&self) -> &'static str {
        if self.has_files && self.metrics.fallback_active.get() == 0 { "file" } else { "api" }
    }

    fn warnings(&self, note: Option<&str>, now_ms: i64) -> Vec<String> {
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
    fn status(&self, health: health::SinkHealth, activity: Activity) -> SinkStatus {
        let prefix = format!("sink {}: ", self.name);
        let quarantined = self.metrics.quarantined.get().max(0) as u64;
        let stripped = |message: &str| message.strip_prefix(&prefix).unwrap_or(message).to_owned();
        let problem =
            health.problem.map(|problem| health::Problem { message: stripped(&problem.message), ..problem });
        SinkStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            health: match (&problem, quarantined) {
                (Some(_), _) => Health::Failure,
                (None, 1..) => Health::Warning,
                (None, 0) => Health::Ok,
            },
            warnings: (quarantined > 0).then(|| words::quarantined(quarantined)).into_iter().collect(),
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
        }
    }
}

fn described(problem: &health::Problem, action: &str) -> Problem {
    let (message, remedy) = words::split_remedy(&problem.message);
    Problem {
        message: message.to_owned(),
        since: iso(problem.since_ms),
        action: remedy.unwrap_or(action).to_owned(),
    }
}

fn change(change: &health::Change) -> Change {
    let health::Change { at_ms, action, message } = change;
    Change { time: iso(*at_ms), action: (*action).to_owned(), message: message.clone() }
}

fn iso(ms: i64) -> String {
    String::from_utf8_lossy(&crate::record::time::iso(ms)).into_owned()
}

/// The time of a metric; 0 is none.
fn time_of(seconds: &Seconds) -> Option<String> {
    let seconds = seconds.get();
    (seconds > 0.0).then(|| iso((seconds * 1000.0).round() as i64))
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
