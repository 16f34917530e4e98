//! Notifies systemd: readiness, status, and the watchdog.

use super::running::Running;
use crate::clock;
use crate::quarantine::Tally;
use crate::telemetry::heartbeat;
use crate::telemetry::systemd::Notify;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const NOW_AND_THEN: Duration = Duration::from_secs(10);
/// How often readiness is checked: whether each source has read once without an error.
const UNTIL_READY: Duration = Duration::from_millis(100);
/// A source with an error does not delay readiness for longer. The agent waits for a home that is mounted late; the
/// service manager does not have to. The default start timeout of systemd is 90 s.
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

    /// Notifies the service manager of changes. Returns the time until the next call.
    pub(super) fn tick(&mut self, running: &Running) -> Duration {
        if !self.notify.is_heard() {
            return NOW_AND_THEN;
        }
        let troubles = self.look(running);
        if !self.ready && (troubles.is_empty() || self.begun.elapsed() >= READY_WAIT_MAX) {
            self.ready = self.notify.ready();
        }
        self.watch();
        self.report_status(running, &troubles);
        let interval = if self.ready { NOW_AND_THEN } else { UNTIL_READY };
        // Twice in each period, so that a single late one does no harm.
        self.notify.watchdog.map_or(interval, |period| interval.min(period / 3))
    }

    pub(super) fn stopping(&self) {
        self.notify.stopping();
    }

    /// The error of each source that cannot work.
    fn look(&self, running: &Running) -> Vec<String> {
        let sources = running.gates.iter().zip(&running.readers);
        sources
            .filter_map(|(flow, (name, _))| {
                let health = flow.health();
                match health.trouble {
                    Some(trouble) => Some(format!("{name}: {trouble}")),
                    None if !health.turned => Some(format!("{name}: starting")),
                    None => None,
                }
            })
            .collect()
    }

    /// Pets the watchdog while this loop runs and no stage has been busy with one item for a whole period.
    fn watch(&mut self) {
        let stuck = self.notify.watchdog.and_then(heartbeat::stuck);
        if stuck.is_none() {
            self.notify.alive();
        } else if let Some(stage) = stuck.as_ref().filter(|_| self.stuck.is_none()) {
            tracing::error!(stage, "a stage does not go on; systemd ends the agent if that lasts");
        }
        self.stuck = stuck;
    }

    fn report_status(&mut self, running: &Running, troubles: &[String]) {
        let delivered: u64 = running.sinks.iter().map(|sink| sink.delivered.load(Ordering::Relaxed)).sum();
        let mut status = match &self.stuck {
            Some(stage) => format!("{stage} does not go on"),
            None if troubles.is_empty() => following(running),
            None => troubles.join("; "),
        };
        let verb = if running.mode.dry_run { "printed, which would be delivered," } else { "delivered" };
        status.push_str(&format!("; {delivered} events {verb} since the start"));
        match self.quarantine.count(&running.state_dir) {
            Ok(0) => {}
            Ok(1) => status.push_str("; 1 event is in quarantine"),
            Ok(events) => status.push_str(&format!("; {events} events are in quarantine")),
            Err(error) => status.push_str(&format!("; the quarantine cannot be looked into: {error}")),
        }
        if status != self.status && self.notify.status(&status) {
            self.status = status;
        }
    }
}

/// The status when all sources work, some of them failed over to their API.
fn following(running: &Running) -> String {
    let sources = running.gates.iter().zip(&running.readers);
    let notes = sources.filter_map(|(flow, (name, _))| Some(format!("; {name}: {}", flow.health().note?)));
    let mut status = "following".to_owned();
    status.extend(notes);
    status
}
