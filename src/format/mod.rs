//! What an event looks like on its way out. A format writes bytes from a record; it builds no tree.

pub mod ecs;
mod escape;
mod out;
pub mod prune;
mod raw;

use crate::enrich::cloud::Cloud;
use crate::enrich::geo::Geo;
use crate::enrich::host::Host;
use crate::notice::Notice;
use crate::record::{EventId, Parsed};
use std::sync::Arc;

pub use ecs::Ecs;
pub use escape::escape;
pub use out::Out;
pub use raw::Raw;

/// One event to be written.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    pub content: &'a Parsed<'a>,
    pub id: EventId,
    pub origin: Origin<'a>,
    /// Made by the agent's own question to the audit API.
    pub self_poll: bool,
    pub read_at_ms: i64,
}

/// Where a record was read.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    File {
        /// JSON-escaped, with its quotes.
        path_json: &'a str,
        /// Where the line starts, in bytes.
        offset: u64,
        /// The file ended before the line did.
        unterminated: bool,
    },
    /// An API, or no place that has a name.
    Api,
}

/// What all events of one source have in common.
#[derive(Clone, Debug)]
pub struct Context {
    /// `None`: `confluence-audit`, for Cloud records `forwarded` before it.
    pub tags: Option<Vec<String>>,
    /// `data_stream.namespace`.
    pub namespace: String,
    /// The configured name of the site.
    pub site: Option<String>,
    pub agent: Agent,
    pub host: Option<Host>,
    /// The instance that the host is, in a cloud.
    pub cloud: Option<Cloud>,
    /// Where addresses are; looked up in memory.
    pub geo: Option<Arc<Geo>>,
    /// Whether `event.original` is written.
    pub preserve_original: bool,
}

/// The agent as its events name it.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Lasts for the state directory's life.
    pub id: String,
    /// Lasts for the process's life.
    pub ephemeral_id: String,
    pub name: String,
    pub version: String,
}

/// How events are written.
#[derive(Clone, Debug)]
pub enum Format {
    Ecs(Box<Ecs>),
    Raw(Raw),
}

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Ecs,
    Raw,
}

impl Name {
    /// As the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Ecs => "ecs",
            Name::Raw => "raw",
        }
    }

    /// The id of an event that was written in this format; `None` if these bytes are no whole event.
    pub fn id_of(self, event: &[u8]) -> Option<EventId> {
        #[derive(serde::Deserialize)]
        struct EcsEvent<'a> {
            #[serde(borrow)]
            event: Event<'a>,
        }
        #[derive(serde::Deserialize)]
        struct Event<'a> {
            id: &'a str,
        }
        #[derive(serde::Deserialize)]
        struct RawEvent<'a> {
            event_id: &'a str,
        }
        let ecs = || Some(serde_json::from_slice::<EcsEvent>(event).ok()?.event.id);
        let raw = || Some(serde_json::from_slice::<RawEvent>(event).ok()?.event_id);
        // The other one too: an output's format may have been changed.
        let id = match self {
            Name::Ecs => ecs().or_else(raw),
            Name::Raw => raw().or_else(ecs),
        }?;
        let whole = id.len() == 32;
        u128::from_str_radix(id, 16).ok().filter(|_| whole).map(EventId)
    }
}

impl Format {
    pub fn new(name: Name, context: &Context) -> Self {
        match name {
            Name::Ecs => Format::Ecs(Box::new(Ecs::new(context))),
            Name::Raw => Format::Raw(Raw),
        }
    }

    /// Writes the event as one line of JSON, without a line end.
    pub fn write(&self, item: &Item, out: &mut Out) {
        match self {
            Format::Ecs(ecs) => ecs.write(item, out),
            Format::Raw(raw) => raw.write(item, out),
        }
    }

    /// Writes an event of the agent's own likewise.
    pub fn write_notice(&self, notice: &Notice, out: &mut Out) {
        match self {
            Format::Ecs(ecs) => ecs.write_notice(notice, out),
            Format::Raw(raw) => raw.write_notice(notice, out),
        }
    }
}
