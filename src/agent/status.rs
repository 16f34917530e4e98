//! What the admin endpoint answers of the running agent.

use super::flow_control::FlowControl;
use super::running::Running;
use crate::admin::{Reply, Respond};
use crate::clock;
use crate::metrics::{Metrics, SinkMetrics};
use crate::telemetry::heartbeat;
use hyper::StatusCode;
use serde::Serialize;
use std::sync::Arc;

/// Version of the JSON of `/status`. Members may be added without a new one.
const SCHEMA_VERSION: u32 = 1;

/// The parts of a running agent that say how it is.
struct Observed {
    metrics: Arc<Metrics>,
    started_ms: i64,
    sources: Vec<(String, Arc<FlowControl>)>,
    sinks: Vec<ObservedSink>,
}

struct ObservedSink {
    source: String,
    sink: String,
    metrics: SinkMetrics,
}

#[derive(Serialize)]
struct Status {
    schema: u32,
    version: &'static str,
    started: String,
    ready: bool,
    sources: Vec<SourceStatus>,
}

#[derive(Serialize)]
struct SourceStatus {
    name: String,
    /// `starting`, `ok` or `failing`.
    health: &'static str,
    /// Why it is failing, and what to do.
    problem: Option<String>,
    /// Such as an active fallback.
    note: Option<String>,
    sinks: Vec<SinkStatus>,
}

#[derive(Serialize)]
struct SinkStatus {
    name: String,
    /// Events with a final outcome since the start, quarantined ones included.
    events: u64,
    quarantined: u64,
}

/// The answers of the endpoint for this agent.
pub(super) fn respond(running: &Running, metrics: Arc<Metrics>) -> Respond {
    let names = running.readers.iter().map(|(name, _)| name.clone());
    let sinks = running.sinks.iter().map(|sink| ObservedSink {
        source: sink.source.clone(),
        sink: sink.sink.clone(),
        metrics: sink.metrics.clone(),
    });
    let observed = Observed {
        metrics,
        started_ms: clock::now_ms(),
        sources: names.zip(running.flows.iter().cloned()).collect(),
        sinks: sinks.collect(),
    };
    Arc::new(move |path| observed.answer(path))
}

impl Observed {
    fn answer(&self, path: &str) -> Option<Reply> {
        match path {
            "/livez" => Some(live()),
            "/readyz" => Some(self.ready()),
            "/status" => Some(self.status()),
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
            .filter_map(|(name, flow)| {
                let health = flow.health();
                let reason = health.problem.or((!health.was_healthy).then(|| "starting".to_owned()))?;
                Some(format!("{name}: {reason}\n"))
            })
            .collect();
        match reasons.is_empty() {
            true => text(StatusCode::OK, "ready\n".to_owned()),
            false => text(StatusCode::SERVICE_UNAVAILABLE, reasons.concat()),
        }
    }

    fn status(&self) -> Reply {
        let sources: Vec<SourceStatus> = self.sources.iter().map(|source| self.source(source)).collect();
        let status = Status {
            schema: SCHEMA_VERSION,
            version: crate::VERSION,
            started: String::from_utf8_lossy(&crate::record::time::iso(self.started_ms)).into_owned(),
            ready: sources.iter().all(|source| source.health == "ok"),
            sources,
        };
        let body = serde_json::to_string(&status).unwrap_or_default() + "\n";
        Reply { status: StatusCode::OK, content_type: "application/json", body }
    }

    fn source(&self, (name, flow): &(String, Arc<FlowControl>)) -> SourceStatus {
        let health = flow.health();
        let sinks = self.sinks.iter().filter(|sink| sink.source == *name);
        SourceStatus {
            name: name.clone(),
            health: match (&health.problem, health.was_healthy) {
                (Some(_), _) => "failing",
                (None, true) => "ok",
                (None, false) => "starting",
            },
            problem: health.problem,
            note: health.note,
            sinks: sinks
                .map(|sink| SinkStatus {
                    name: sink.sink.clone(),
                    events: sink.metrics.events.get(),
                    quarantined: sink.metrics.quarantined.get() as u64,
                })
                .collect(),
        }
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
