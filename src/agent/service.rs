//! Notifies systemd of readiness, status and the watchdog heartbeat of the whole agent.

use super::run_marker::{Failure, RunMarker};
use super::running::Running;
use crate::clock;
use crate::quarantine::Tally;
use crate::telemetry::heartbeat;
use crate::telemetry::systemd::Notify;
use std::time::{Duration, Instant};

/// How often status and heartbeat are sent once the agent is ready.
const TICK_INTERVAL: Duration = Duration::from_secs(10);
/// How often readiness is checked.
const READY_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A source with a problem delays readiness for this long at most, so that units that wait for the agent can start.
/// systemd's start timeout is 90 s.
const READY_WAIT_MAX: Duration = Duration::from_secs(20);

pub(super) struct Service {
    notify: Notify,
    begun: Instant,
    ready: bool,
    status: String,
    stuck: Option<String>,
    quarantine: Tally,
}

impl Service {
    pub(super) fn from_env() -> Service {
        Service {
            notify: Notify::from_env(),
            begun: clock::monotonic(),
            ready: false,
            status: String::new(),
            stuck: None,
            quarantine: Tally::default(),
        }
    }

    /// Sends changes to systemd. Returns how long until the next call.
    pub(super) fn tick(&mut self, running: &Running) -> Duration {
        if !self.notify.is_heard() {
            return TICK_INTERVAL;
        }
        let problems = self.problems(running);
        if !self.ready && (problems.is_empty() || self.begun.elapsed() >= READY_WAIT_MAX) {
            self.ready = self.notify.ready();
        }
        self.send_heartbeat(running);
        self.report_status(running, &problems);
        let interval = if self.ready { TICK_INTERVAL } else { READY_CHECK_INTERVAL };
        // Several heartbeats per watchdog period, so that one late heartbeat does not end the agent.
        self.notify.watchdog.map_or(interval, |period| interval.min(period / 3))
    }

    pub(super) fn stopping(&self) {
        self.notify.stopping();
    }

    /// The problem of each source that has one or has not finished its first pass.
    fn problems(&self, running: &Running) -> Vec<String> {
        let sources = running.flows.iter().zip(&running.readers);
        sources
            .filter_map(|(flow, (name, _))| {
                let health = flow.health.get();
                match health.problems() {
                    Some(problem) => Some(format!("{name}: {problem}")),
                    None if !health.was_healthy => Some(format!("{name}: starting")),
                    None => None,
                }
            })
            .collect()
    }

    /// Sends the heartbeat, unless a stage has been busy with one piece of work for a whole watchdog period.
    fn send_heartbeat(&mut self, running: &Running) {
        let stuck = self.notify.watchdog.and_then(heartbeat::stuck);
        if stuck.is_none() {
            self.notify.alive();
        } else if let Some(stage) = stuck.as_ref().filter(|_| self.stuck.is_none()) {
            tracing::error!(stage, "a stage makes no progress; systemd ends the agent if that lasts");
        }
        if stuck.is_some() != self.stuck.is_some()
            && let Some(marker) = &running.run_marker
        {
            mark_stuck(marker.clone(), stuck.clone());
        }
        self.stuck = stuck;
    }

    fn report_status(&mut self, running: &Running, problems: &[String]) {
        let delivered: u64 = running.sinks.iter().map(|sink| sink.metrics.events.get()).sum();
        let mut status = match &self.stuck {
            Some(stage) => format!("{stage} makes no progress"),
            None if problems.is_empty() => healthy_status(running),
            None => problems.join("; "),
        };
        let verb = if running.mode.dry_run { "printed, which would be delivered," } else { "delivered" };
        status.push_str(&format!("; {delivered} events {verb} since the start"));
        match self.quarantine.count(&running.state_dir) {
            Ok(0) => {}
            Ok(1) => status.push_str("; 1 event is in quarantine"),
            Ok(events) => status.push_str(&format!("; {events} events are in quarantine")),
            Err(error) => status.push_str(&format!("; the quarantine cannot be read: {error}")),
        }
        if status != self.status && self.notify.status(&status) {
            self.status = status;
        }
    }
}

/// Leaves a note for the next run. On a thread of its own, because the disk may be what a stage waits for.
fn mark_stuck(marker: RunMarker, stuck: Option<String>) {
    let mark = move || match stuck {
        Some(stage) => marker.set_failure(Failure::Watchdog, &format!("{stage} made no progress")),
        None => marker.clear_failure(),
    };
    // Without the thread the next run does not know why this one ended.
    let _ = std::thread::Builder::new().name("run marker".to_owned()).spawn(mark);
}

/// The status if no source has a problem, with the notes about active fallbacks.
fn healthy_status(running: &Running) -> String {
    let sources = running.flows.iter().zip(&running.readers);
    let notes =
        sources.filter_map(|(flow, (name, _))| Some(format!("; {name}: {}", flow.health.get().note?)));
    let mut status = "following".to_owned();
    status.extend(notes);
    status
}
