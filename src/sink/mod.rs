//! Sinks: where events are delivered. A sink takes the batches of one source in order. It reports when all
//! events of a batch have a final outcome: delivered, duplicate or in quarantine.

pub(crate) mod compress;
pub(crate) mod elasticsearch;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod kafka;
pub(crate) mod outcome;
pub(crate) mod remote;
pub(crate) mod sentinel;
pub(crate) mod splunk_hec;
pub(crate) mod stdout;
pub mod syslog;

use crate::config::DestinationConfig;
use crate::position::{DeletedOutputs, SinkMark};
use crate::record::EventId;
use remote::{DeliverySettings, Quarantine};
use serde::{Deserialize, Serialize};
use std::io;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

/// With `--once`: how many transient failures in a row are retried before the run gives up.
pub const ONCE_FAILURES_MAX: u32 = 3;

/// As long as MSGID may be in RFC 5424.
const ACTION_BYTES_MAX: usize = 32;

/// Consecutive events of one source, encoded in the format of one sink. Each event ends with LF.
#[derive(Debug, Default)]
pub struct Batch {
    /// `None`: the number of the next numbered batch covers this one too. The reader sends such batches before a long
    /// event and for its parts, and waits for their buffers.
    pub number: Option<u64>,
    pub bytes: Vec<u8>,
    /// The events that end in `bytes`. Bytes after the last end are the beginning of an event that continues
    /// in the next batch.
    pub events: Vec<BatchEvent>,
    /// Do not report the output's position: the checkpoint keeps the one that it has. The source still replays events
    /// that were in the output at the start.
    pub keep_output_position: bool,
}

/// One encoded event of a batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchEvent {
    /// Offset in `Batch::bytes` after the event and its LF.
    pub end: u32,
    pub id: EventId,
    /// Time of the event in milliseconds since 1970. An unreadable record has the time at which it was read.
    pub time_ms: i64,
    pub header_fields: HeaderFields,
}

/// What a sink that needs it puts into the header of an event. Other sinks get the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields {
    pub severity: EventSeverity,
    /// Printable ASCII without blanks, filled with NULs.
    action: [u8; ACTION_BYTES_MAX],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventSeverity {
    #[default]
    Info,
    /// The event says that something failed.
    Notice,
    /// It cannot be read.
    Warning,
}

impl HeaderFields {
    /// Of the action, at most 32 characters are kept; each that is not printable ASCII becomes `_`.
    pub fn new(severity: EventSeverity, action: &str) -> HeaderFields {
        let mut header_fields = HeaderFields { severity, ..HeaderFields::default() };
        for (to, c) in header_fields.action.iter_mut().zip(action.chars()) {
            *to = if c.is_ascii_graphic() { c as u8 } else { b'_' };
        }
        header_fields
    }

    /// Empty where the event has none.
    pub fn action(&self) -> &str {
        let length = self.action.iter().position(|byte| *byte == 0);
        std::str::from_utf8(&self.action[..length.unwrap_or(ACTION_BYTES_MAX)]).unwrap_or_default()
    }
}

/// Input of a sink's thread.
pub enum Message {
    Batch(Batch),
    /// The reader waits for its buffers: send what has arrived without waiting for more events.
    Flush,
    /// The checkpoint contains output positions up to this rotation.
    Committed {
        rotation: u64,
    },
    /// No more messages follow.
    End,
    /// Sent by the file sink to itself: a sync has ended. Carries the rotated files that it deleted.
    Synced(io::Result<DeletedOutputs>),
}

/// The sending side of a sink's input channel. A thread waits for messages only; a task also waits for
/// responses of a server.
///
/// The channel has no limit of its own, because the commit thread must never wait for a sink. `FlowControl` bounds the
/// bytes of the batches in it. Batches without bytes are one for each block or page that contained nothing new. A
/// commit needs the reports of all sinks of the source, so `Committed` does not pile up before one that is stuck.
#[derive(Clone)]
pub enum Inbox {
    Thread(std::sync::mpsc::Sender<Message>),
    Task(tokio::sync::mpsc::UnboundedSender<Message>),
}

impl Inbox {
    /// Sends a message. A sink whose channel is closed has stopped the process or is about to, so the message
    /// is dropped.
    pub fn send(&self, message: Message) {
        match self {
            Inbox::Thread(sender) => drop(sender.send(message)),
            Inbox::Task(sender) => drop(sender.send(message)),
        }
    }
}

/// Output of a sink, for its source.
pub enum Report {
    /// The bytes of a batch are written and the buffer is returned to the reader. They may not be durable
    /// yet.
    Written(Vec<u8>),
    /// Every event of the batch has a final outcome.
    Final { number: u64, events: u64, mark: Option<SinkMark> },
    /// These events were delivered just now: their times in milliseconds since 1970.
    Acknowledged(Vec<i64>),
    /// A request to a server has ended, with this class of outcome. `bytes`: of its events.
    Request { class: &'static str, bytes: u64, duration: Duration },
    /// Why events are not delivered at the moment. `None`: delivery has recovered.
    Health(Option<String>),
    /// These events were put into quarantine. Comes before the batch is final.
    Quarantined(Vec<EventId>),
}

/// Why a sink stops.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The reader of standard output has closed the pipe.
    #[error("standard output is closed")]
    Closed,
    /// An event was refused, and `on_poison = "stop"`.
    #[error("event {} is refused: {reason}; correct the cause and start again, or write `on_poison = \"quarantine\"`", String::from_utf8_lossy(&id.hex()))]
    Poison { id: EventId, reason: String },
    /// With `--once`: too many failures in a row.
    #[error("events are not delivered: {reason}")]
    GaveUp { reason: String },
}

/// Delivers to a server until [`Message::End`] has arrived and everything before it is delivered.
pub fn deliver(
    destination: DestinationConfig,
    settings: DeliverySettings,
    messages: UnboundedReceiver<Message>,
    report: &dyn Fn(Report),
    quarantine: Quarantine<'_>,
) -> Result<(), SinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match destination {
        DestinationConfig::Elasticsearch(config) => runtime.block_on(remote::run(
            elasticsearch::ElasticsearchSink::new(*config),
            settings,
            messages,
            report,
            quarantine,
        )),
        DestinationConfig::Http(config) => runtime.block_on(remote::run(
            http::HttpSink::new(*config),
            settings,
            messages,
            report,
            quarantine,
        )),
        DestinationConfig::Kafka(config) => {
            let destination = kafka::KafkaSink::new(config, &settings.source);
            runtime.block_on(remote::run(destination, settings, messages, report, quarantine))
        }
        DestinationConfig::Syslog(config) => {
            let destination = syslog::SyslogSink::new(config, &settings.source);
            runtime.block_on(remote::run(destination, settings, messages, report, quarantine))
        }
        DestinationConfig::Sentinel(config) => {
            let destination = sentinel::SentinelSink::new(*config);
            runtime.block_on(remote::run(destination, settings, messages, report, quarantine))
        }
        DestinationConfig::SplunkHec(config) => {
            let destination = splunk_hec::SplunkHecSink::new(*config);
            runtime.block_on(remote::run(destination, settings, messages, report, quarantine))
        }
    }
}
