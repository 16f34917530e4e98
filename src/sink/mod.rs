//! Where events go. A sink takes batches in order and says of each when all of its events are final.

pub mod answer;
pub mod compress;
pub mod elasticsearch;
pub mod file;
pub mod http;
pub mod kafka;
pub mod remote;
pub mod sentinel;
pub mod splunk_hec;
pub mod stdout;
pub mod syslog;

use crate::config::PeerConfig;
use crate::position::{DeletedOutputs, SinkMark};
use crate::record::EventId;
use remote::{Quarantine, Settings};
use std::io;
use tokio::sync::mpsc::UnboundedReceiver;

/// With `--once`, faults that pass by themselves are waited for so often.
pub const ONCE_FAILURES_MAX: u32 = 3;

/// Consecutive events of one source as one sink's format wrote them, each ended by LF.
#[derive(Debug, Default)]
pub struct Batch {
    /// `None` for a part of what the next numbered batch ends.
    pub number: Option<u64>,
    pub bytes: Vec<u8>,
    /// The events whose ends are in `bytes`. Bytes after the last end belong to an event that goes on in the next batch.
    pub events: Vec<Written>,
    /// The source has not yet passed all events that stood in the output at start. Until then the checkpoint must not say
    /// that the output is longer than it said before.
    pub behind: bool,
}

/// An event in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    /// Where it ends, its LF included.
    pub end: u32,
    pub id: EventId,
    /// When it happened; of what cannot be read, when it was read.
    pub time_ms: i64,
}

/// What a sink's thread is told.
pub enum Message {
    Batch(Batch),
    /// The checkpoint says that the output has come to this generation.
    Committed {
        generation: u64,
    },
    /// Nothing more will come.
    End,
    /// The sink's own: what was written before is on the disk now, and so much that is not to be kept was deleted.
    Synced(io::Result<DeletedOutputs>),
}

/// Where a sink's thread listens: it waits for messages alone, or for answers of a server too.
#[derive(Clone)]
pub enum Inbox {
    Thread(std::sync::mpsc::Sender<Message>),
    Task(tokio::sync::mpsc::UnboundedSender<Message>),
}

impl Inbox {
    /// A sink that is gone has ended the process, or is about to.
    pub fn send(&self, message: Message) {
        match self {
            Inbox::Thread(sender) => drop(sender.send(message)),
            Inbox::Task(sender) => drop(sender.send(message)),
        }
    }
}

/// What a sink tells.
pub enum Report {
    /// The batch's bytes are written and its memory is free again; it may not be durable yet.
    Written(Vec<u8>),
    /// Every event of the batch is final.
    Final {
        number: u64,
        events: u64,
        mark: Option<SinkMark>,
    },
    /// Why events do not get through at the moment; `None`: they do again.
    Trouble(Option<String>),
    /// So many events were set aside: nobody takes them.
    Quarantined(u64),
}

/// Why a sink ends.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Whoever read standard output has had enough.
    #[error("standard output is closed")]
    Closed,
    /// With `on_poison = "stop"`.
    #[error("event {} is refused: {reason}; correct the cause and start again, or write `on_poison = \"quarantine\"`", String::from_utf8_lossy(&id.hex()))]
    Poison { id: EventId, reason: String },
    /// With `--once`, which does not wait for ever.
    #[error("events are not delivered: {reason}")]
    GaveUp { reason: String },
}

/// Delivers to a server until told to end and everything is delivered.
pub fn deliver(
    peer: PeerConfig,
    settings: Settings,
    messages: UnboundedReceiver<Message>,
    report: &dyn Fn(Report),
    quarantine: Quarantine<'_>,
) -> Result<(), SinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match peer {
        PeerConfig::Elasticsearch(config) => runtime.block_on(remote::run(
            elasticsearch::Elasticsearch::new(*config),
            settings,
            messages,
            report,
            quarantine,
        )),
        PeerConfig::Http(config) => runtime.block_on(remote::run(
            http::Http::new(*config),
            settings,
            messages,
            report,
            quarantine,
        )),
        PeerConfig::Kafka(config) => {
            let peer = kafka::Kafka::new(config, &settings.source);
            runtime.block_on(remote::run(peer, settings, messages, report, quarantine))
        }
        PeerConfig::Syslog(config) => {
            let peer = syslog::Syslog::new(config, &settings.source);
            runtime.block_on(remote::run(peer, settings, messages, report, quarantine))
        }
        PeerConfig::Sentinel(config) => {
            let peer = sentinel::Sentinel::new(*config);
            runtime.block_on(remote::run(peer, settings, messages, report, quarantine))
        }
        PeerConfig::SplunkHec(config) => {
            let peer = splunk_hec::SplunkHec::new(*config);
            runtime.block_on(remote::run(peer, settings, messages, report, quarantine))
        }
    }
}
