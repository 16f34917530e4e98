//! The events by which a server sees that the agent runs: `agent.started`, `agent.heartbeat`, `agent.stopped`. They go
//! to the sinks with `heartbeat = true`. They are delivered as any event, but nothing waits for them, and none is
//! replayed.

use super::ingest::Ingest;
use super::run_marker::{RunEnd, RunMarker};
use super::sink_pipeline::SinkPipeline;
use crate::clock;
use crate::config::Config;
use crate::format::Agent;
use crate::metrics::SourceMetrics;
use crate::notice::{Fields, HEARTBEAT, Notice, STARTED, STOPPED};
use crate::position::Progress;
use crate::record::time;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The reason of a stop that makes room for a new process.
pub(super) const RESTART: &str = "a restart, to see a directory that was created after the start";
/// Batches without events that a sink may have unfinished, while another sink gets heartbeats. It bounds their memory
/// to about 3 MiB: two weeks with the default interval.
const UNFINISHED_MAX: usize = 4096;
/// Length of the configuration's hash in hexadecimal digits.
const HASH_DIGITS: usize = 16;

/// What these events say of the process.
pub(super) struct Process {
    pub agent: Agent,
    /// Of the configuration in effect. It depends on no secret.
    pub configuration: String,
    pub interval: Duration,
    pub started: Instant,
    /// How the run before this one ended.
    pub last_run: RunEnd,
}

/// What these events need, if a sink is to get them.
pub(super) fn begin(config: &Config, is_first_run: bool, agent: &Agent) -> Option<(RunMarker, Arc<Process>)> {
    let interval = config.heartbeat.interval?;
    if !config.sinks.iter().any(|sink| sink.heartbeat) {
        return None;
    }
    let marker = RunMarker::new(&config.state_dir);
    let last_run = marker.last_run(is_first_run);
    let process = Process {
        agent: agent.clone(),
        configuration: hash(config),
        interval,
        started: clock::monotonic(),
        last_run,
    };
    Some((marker, Arc::new(process)))
}

/// Of one source.
pub(super) struct Lifecycle {
    process: Arc<Process>,
    source: String,
    metrics: SourceMetrics,
    has_files: bool,
    next: Instant,
    /// As of the last heartbeat.
    counted: Counts,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    events: u64,
    unreadable: u64,
}

impl Lifecycle {
    pub(super) fn new(
        process: Arc<Process>,
        source: &str,
        metrics: SourceMetrics,
        has_files: bool,
    ) -> Lifecycle {
        let next = process.started + process.interval;
        let source = source.to_owned();
        Lifecycle { process, source, metrics, has_files, next, counted: Counts::default() }
    }

    /// When [`Lifecycle::send_heartbeat_if_due`] has something to do.
    pub(super) fn due(&self) -> Instant {
        self.next
    }

    pub(super) fn send_started(&self, ingest: &mut Ingest) {
        let RunEnd { how, reason } = &self.process.last_run;
        let mut fields = Fields::default();
        fields.text("configuration", &self.process.configuration);
        fields.text("previous_stop", *how);
        if let Some(reason) = reason {
            fields.text("previous_reason", reason);
        }
        fields.number("interval_seconds", self.process.interval.as_secs());
        let before = match how {
            &"none" => "it is the first run".to_owned(),
            _ => format!("previous stop: {how}{}", colon(reason.as_deref())),
        };
        let message = format!(
            "the agent has started and reads source `{}`; version {}, {before}",
            self.source, self.process.agent.version
        );
        self.send(STARTED, message, fields, ingest);
    }

    /// A sink that has not accepted the last heartbeat yet does not get another one.
    pub(super) fn send_heartbeat_if_due(
        &mut self,
        now: Instant,
        problem: impl FnOnce() -> Option<String>,
        ingest: &mut Ingest,
    ) {
        if now < self.next {
            return;
        }
        self.next = now + self.process.interval;
        let unfinished = |pipeline: &SinkPipeline| pipeline.unfinished.others();
        let pipelines = ingest.pipelines();
        let is_accepted = pipelines.iter().any(|pipeline| pipeline.heartbeat && unfinished(pipeline) == 0);
        if !is_accepted || pipelines.iter().any(|pipeline| unfinished(pipeline) >= UNFINISHED_MAX) {
            return;
        }
        let (message, fields) = self.heartbeat(problem(), ingest);
        self.send(HEARTBEAT, message, fields, ingest);
        self.counted = self.counts(ingest);
    }

    pub(super) fn send_stopped(&self, reason: &str, ingest: &mut Ingest) {
        let mut fields = Fields::default();
        fields.number("events", self.counts(ingest).events);
        fields.number("uptime_seconds", self.process.started.elapsed().as_secs());
        fields.text("reason", reason);
        let message = format!("the agent stops and reads source `{}` no more: {reason}", self.source);
        self.send(STOPPED, message, fields, ingest);
    }

    fn heartbeat(&self, problem: Option<String>, ingest: &Ingest) -> (String, Fields) {
        let (counts, mut fields) = (self.counts(ingest), Fields::default());
        let last_event = Some(self.metrics.last_event.get()).filter(|seconds| *seconds > 0.0);
        let (bytes, files) = (self.metrics.backlog_bytes.get(), self.metrics.backlog_files.get());
        let lag = match last_event.filter(|_| bytes > 0) {
            Some(seconds) => (clock::now_ms() as f64 / 1000.0 - seconds).max(0.0) as u64,
            None => 0,
        };
        let input = if self.has_files && self.metrics.fallback_active.get() == 0 { "file" } else { "api" };
        let events = counts.events - self.counted.events;
        // The first ones have keys of their own in CEF.
        fields.number("events", events);
        fields.number("lag_seconds", lag);
        fields.number("lag_bytes", bytes);
        fields.number("lag_files", files);
        fields.number("unreadable", counts.unreadable - self.counted.unreadable);
        fields.number("interval_seconds", self.process.interval.as_secs());
        fields.number("uptime_seconds", self.process.started.elapsed().as_secs());
        fields.text("input", input);
        fields.text("configuration", &self.process.configuration);
        if let Some(seconds) = last_event {
            fields.text("last_event", String::from_utf8_lossy(&time::iso((seconds * 1000.0) as i64)));
        }
        if let Some(problem) = &problem {
            fields.text("problem", problem);
        }
        let message = format!(
            "the agent reads source `{}` by {input}: {events} events since the last heartbeat, {lag} s behind{}",
            self.source,
            problem.map_or_else(String::new, |problem| format!("; {problem}"))
        );
        (message, fields)
    }

    fn counts(&self, ingest: &Ingest) -> Counts {
        let events = self.metrics.file_events.get() + self.metrics.api_events.get();
        Counts { events, unreadable: ingest.unreadable }
    }

    /// Sends an event to the sinks that get it and have accepted the last one.
    fn send(&self, action: &'static str, message: String, mut fields: Fields, ingest: &mut Ingest) {
        let (agent, at_ms) = (&self.process.agent, clock::now_ms());
        fields.text("source", &self.source);
        fields.text("host", &agent.name);
        fields.text("version", &agent.version);
        // Agents of several hosts have sources of one name.
        let occasion = format!("{} {at_ms}", agent.ephemeral_id);
        let notice = Notice::new(action, &self.source, &occasion, at_ms, message).with_fields(fields);
        let is_stop = action == STOPPED;
        ingest.encode_for(&notice, |pipeline| {
            let unfinished = &pipeline.unfinished;
            pipeline.heartbeat && if is_stop { !unfinished.is_failing() } else { unfinished.others() == 0 }
        });
        ingest.flush(Progress::default());
    }
}

fn colon(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(": {text}"))
}

/// A hash that differs if a setting differs. Secrets are in it as the places where they are found, or not at all.
fn hash(config: &Config) -> String {
    let settings = Config { warnings: Vec::new(), secret_files: Vec::new(), ..config.clone() };
    let hash = blake3::hash(format!("{settings:?}").as_bytes()).to_hex();
    hash[..HASH_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Auth, HttpConfig, Reference};
    use crate::secret::Secret;

    fn with_password(password: &str) -> Config {
        use crate::config::*;
        let auth = Auth::Basic { user: "u".to_owned(), password: Reference::Inline(Secret::new(password)) };
        let http = HttpConfig::new("https://wiki.example/".parse().unwrap(), auth);
        let api = ApiConfig::new(Product::DataCenter, http);
        let source = SourceConfig {
            name: "wiki".to_owned(),
            site: None,
            files: None,
            api: Some(api),
            fallback: FallbackConfig::default(),
        };
        Config { sources: vec![source], ..Config::default() }
    }

    #[test]
    fn the_hash_depends_on_settings_and_on_no_secret() {
        let one = hash(&with_password("one"));
        assert_eq!(one.len(), HASH_DIGITS);
        assert_eq!(one, hash(&with_password("two")));
        let mut other = with_password("one");
        other.ledger.retention += Duration::from_secs(1);
        assert_ne!(one, hash(&other));
        let other_user = Auth::Basic { user: "v".to_owned(), password: Reference::Env("P".to_owned()) };
        let mut other = with_password("one");
        if let Some(api) = &mut other.sources[0].api {
            api.http = HttpConfig::new(api.http.base.clone(), other_user);
        }
        assert_ne!(one, hash(&other));
    }
}
