//! The agent's own log: to the journal where systemd connected it, else to stderr.
//!
//! A line is a plain sentence and its fields. Everything in it is escaped, because names in audit events are
//! whatever a user of Confluence typed. Warnings and errors that repeat are summed up.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

pub use super::escape::escape;
use super::escape::is_unsafe;
use super::flood::{Flood, Summary};
use crate::clock;
use crate::config::{LogConfig, LogFormat};

const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";
/// A datagram must fit the socket's buffer, and nobody reads a longer line.
const VALUE_BYTES_MAX: usize = 8 * 1024;

/// Starts logging for the whole process. Keep the guard to the end: it writes what is still held back.
pub fn init(config: &LogConfig) -> LogGuard {
    let output = match journal() {
        Some(socket) => Output::Journal(socket),
        None => Output::Lines(config.format, Box::new(std::io::stderr())),
    };
    let log = Log::new(config.level, output);
    let guard = LogGuard {
        shared: log.shared.clone(),
    };
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
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        lock(&self.shared).write_summaries(None);
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
    flood: Flood,
    output: Output,
}

/// One line to be: a message and fields, not yet escaped.
#[derive(Default)]
struct Line {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    /// Numbers and booleans: the same in text and JSON.
    Plain(String),
    Text(String),
}

impl Log {
    fn new(level: Level, output: Output) -> Log {
        Log {
            level,
            shared: Arc::new(Mutex::new(Shared {
                flood: Flood::default(),
                output,
            })),
        }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // Libraries speak only when something is wrong.
        let own = metadata.target().starts_with(env!("CARGO_CRATE_NAME"));
        let level = if own {
            self.level
        } else {
            self.level.min(Level::WARN)
        };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.level.into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let metadata = event.metadata();
        let now = clock::monotonic();
        let mut shared = lock(&self.shared);
        shared.write_summaries(Some(now));
        if shared.flood.admit(metadata, &line.message, now) {
            shared.output.write(*metadata.level(), metadata.target(), &line);
        }
    }
}

impl Shared {
    fn write_summaries(&mut self, now: Option<std::time::Instant>) {
        for Summary {
            level,
            target,
            message,
            repeated,
        } in self.flood.take_due(now)
        {
            let fields = vec![("repeated", Value::Plain(repeated.to_string()))];
            self.output.write(
                level,
                target,
                &Line {
                    message: format!("again: {message}"),
                    fields,
                },
            );
        }
    }
}

/// A thread that panicked while it logged must not silence the others.
fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Output {
    /// A log that cannot be written has nowhere to say so: errors are dropped.
    fn write(&mut self, level: Level, target: &str, line: &Line) {
        match self {
            Output::Lines(LogFormat::Text, out) => {
                let _ = out.write_all(text(clock::now_ms(), level, line).as_bytes());
            }
            Output::Lines(LogFormat::Json, out) => {
                let _ = out.write_all(json(clock::now_ms(), level, target, line).as_bytes());
            }
            Output::Journal(socket) => {
                let _ = socket.send(journal_entry(level, target, line).as_bytes());
            }
        }
    }
}

/// `2026-11-21T10:00:00Z  INFO message key=value`
fn text(now_ms: i64, level: Level, line: &Line) -> String {
    let time = jiff::Timestamp::from_second(now_ms.div_euclid(1000)).unwrap_or_default();
    format!("{time} {level:>5} {}\n", message_and_fields(line))
}

fn message_and_fields(line: &Line) -> String {
    let mut out = escape(&cut(&line.message)).into_owned();
    for (name, value) in &line.fields {
        let _ = match value {
            Value::Plain(value) => write!(out, " {name}={value}"),
            Value::Text(value) if value.is_empty() || value.contains([' ', '"', '=']) => {
                write!(out, " {name}=\"{}\"", escape(&cut(value).replace('"', "\\\"")))
            }
            Value::Text(value) => write!(out, " {name}={}", escape(&cut(value))),
        };
    }
    out
}

fn json(now_ms: i64, level: Level, target: &str, line: &Line) -> String {
    let time = jiff::Timestamp::from_millisecond(now_ms).unwrap_or_default();
    let mut out = format!("{{\"timestamp\":\"{time:.3}\",\"level\":\"{level}\",\"message\":");
    push_json(&mut out, &line.message);
    for (name, value) in &line.fields {
        let _ = write!(out, ",\"{name}\":");
        match value {
            Value::Plain(value) => out.push_str(value),
            Value::Text(value) => push_json(&mut out, value),
        }
    }
    out.push_str(",\"target\":");
    push_json(&mut out, target);
    out.push_str("}\n");
    out
}

/// A JSON string that is also safe to look at: what JSON would let pass is written as `\u` too.
fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in cut(text).chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unsafe(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The journal's native protocol, <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>: a datagram of `NAME=value`
/// lines. Nothing here needs its binary form, because an escaped value holds no newline.
fn journal_entry(level: Level, target: &str, line: &Line) -> String {
    let priority = match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    };
    let mut out = format!(
        "PRIORITY={priority}\nSYSLOG_IDENTIFIER={}\nTARGET={target}\nMESSAGE={}\n",
        crate::NAME,
        message_and_fields(line)
    );
    for (name, value) in &line.fields {
        let (Value::Plain(value) | Value::Text(value)) = value;
        // A prefix keeps a field from taking the place of one of the journal's own.
        let name = name.to_ascii_uppercase().replace('.', "_");
        let _ = writeln!(out, "CAA_{name}={}", escape(&cut(value)));
    }
    out
}

fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= VALUE_BYTES_MAX {
        return Cow::Borrowed(text);
    }
    let end = (0..=VALUE_BYTES_MAX)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
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

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            self.fields
                .push((field.name(), Value::Text(format!("{value:?}"))));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.fields.push((field.name(), Value::Text(value.to_string())));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(chain, ": {error}");
            cause = error.source();
        }
        self.fields.push((field.name(), Value::Text(chain)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.fields.push((field.name(), Value::Plain(value.to_string())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no words for what is not finite.
        let text = value.to_string();
        self.fields.push((
            field.name(),
            if value.is_finite() {
                Value::Plain(text)
            } else {
                Value::Text(text)
            },
        ));
    }
}
