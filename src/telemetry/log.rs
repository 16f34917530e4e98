//! The agent's own log: to the journal where systemd connected it, else to stderr.
//!
//! A line is a plain sentence and its fields. Everything in it is escaped, because names in audit events are
//! whatever a user of Confluence typed. Warnings and errors that repeat are summed up.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

pub use super::escape::escape;
use super::flood::{Flood, Summary};
use super::line::{LogLine, Value};
use crate::clock;
use crate::config::{LogConfig, LogFormat};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// Starts logging for the whole process. Keep the guard to the end: it writes what is still held back.
pub fn init(config: &LogConfig) -> LogGuard {
    let output = match journal() {
        Some(socket) => Output::Journal(socket),
        None => Output::Lines(config.format, Box::new(std::io::stderr())),
    };
    let log = Log::new(config.level, output);
    let guard = LogGuard { shared: log.shared.clone() };
    // Fails only where a test has set one before; that one stays.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log));
    guard
}

/// Writes the summaries of repeated lines that are still due when dropped.
pub struct LogGuard {
    shared: Arc<Mutex<Shared>>,
}

impl LogGuard {
    /// Writes the summaries whose interval has passed. Worth calling where the agent is awake anyway: a
    /// flood's last summary otherwise waits for the next line of any kind.
    pub fn write_due(&self) {
        lock(&self.shared).write_summaries(Some(clock::monotonic()));
    }

    /// Writes all summaries, whether or not their interval has passed: what comes next is the last to be said.
    pub fn write_rest(&self) {
        lock(&self.shared).write_summaries(None);
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.write_rest();
    }
}

enum Output {
    Lines(LogFormat, Box<dyn Write + Send>),
    Journal(UnixDatagram),
}

struct Log {
    level: Level,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    /// By place, and by what is said there of whom.
    flood: Flood<(Identifier, Option<u64>)>,
    output: Output,
}

impl Log {
    fn new(level: Level, output: Output) -> Log {
        Log { level, shared: Arc::new(Mutex::new(Shared { flood: Flood::default(), output })) }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries speak only when something is wrong; that of Kafka says what its sink says better.
        if metadata.target().starts_with("rskafka") {
            return false;
        }
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        let level = if own { self.level } else { self.level.min(Level::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = LogLine::default();
        event.record(&mut line);
        let metadata = event.metadata();
        let now = clock::monotonic();
        let mut shared = lock(&self.shared);
        shared.write_summaries(Some(now));
        let (level, target) = (*metadata.level(), metadata.target());
        let repeats = level <= Level::WARN;
        let what = (!shared.flood.is_full()).then(|| line.subject());
        let place = (metadata.callsite(), what);
        if !repeats || shared.flood.admit(place, level, target, &line.message, now) {
            shared.output.write(level, target, &line);
        }
    }
}

impl Shared {
    fn write_summaries(&mut self, now: Option<std::time::Instant>) {
        for Summary { level, target, message, repeated } in self.flood.take_due(now) {
            let fields = vec![("repeated", Value::Plain(repeated.to_string()))];
            self.output.write(level, target, &LogLine { message: format!("again: {message}"), fields });
        }
    }
}

/// A thread that panicked while it logged must not silence the others.
fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    /// A log that cannot be written has nowhere to say so: errors are dropped.
    fn write(&mut self, level: Level, target: &str, line: &LogLine) {
        match self {
            Output::Lines(LogFormat::Text, out) => {
                let _ = out.write_all(line.text(clock::now_ms(), level).as_bytes());
            }
            Output::Lines(LogFormat::Json, out) => {
                let _ = out.write_all(line.json(clock::now_ms(), level, target).as_bytes());
            }
            Output::Journal(socket) => {
                let _ = socket.send(line.journal_entry(level, target).as_bytes());
            }
        }
    }
}

/// The journal's socket, if stderr is what systemd says it connected to the journal: `JOURNAL_STREAM` holds
/// its device and inode. A shell that was started by a service inherits the variable, but not stderr.
fn journal() -> Option<UnixDatagram> {
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    let stderr = rustix::fs::fstat(std::io::stderr()).ok()?;
    if stream != format!("{}:{}", stderr.st_dev, stderr.st_ino) {
        return None;
    }
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(JOURNAL_SOCKET).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests;
