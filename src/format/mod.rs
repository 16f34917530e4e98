//! Formats: how events are encoded. A format writes the bytes of an event directly from the record, without
//! building a tree.

mod action_words;
mod affected;
mod buffer;
mod cef;
pub(crate) mod ecs;
mod escape;
mod event_kind;
mod kind;
mod login;
mod message;
mod object;
mod ocsf;
pub(crate) mod prune;
mod raw;
mod rules;
mod sentinel;
mod tags;
mod taxonomy;
mod users;
mod wellformed;

#[cfg(test)]
mod tests;

use crate::enrich::cloud::Cloud;
use crate::enrich::geo::Geo;
use crate::enrich::host::Host;
use crate::notice::Notice;
use crate::record::{EventId, Parsed};
use std::sync::Arc;

pub use buffer::EventBuffer;
pub use cef::Cef;
pub use ecs::Ecs;
pub use escape::escape;
pub use kind::FormatKind;
pub use ocsf::Ocsf;
pub use raw::Raw;
pub use sentinel::Sentinel;
pub use taxonomy::Taxonomy;

/// An event to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    pub content: &'a Parsed<'a>,
    pub id: EventId,
    pub origin: Origin<'a>,
    /// The event was caused by the agent's own request to the audit API.
    pub self_poll: bool,
    pub read_at_ms: i64,
}

/// Where a record was read from.
#[derive(Clone, Copy, Debug)]
pub enum Origin<'a> {
    File {
        /// The path as a JSON string with its quotes.
        path_json: &'a str,
        /// Byte offset of the line in the file.
        offset: u64,
        /// The file ended without a line end.
        unterminated: bool,
    },
    /// An API, or input without a path.
    Api,
}

/// What all events of one source have in common.
#[derive(Clone, Debug)]
pub struct Context {
    /// `None`: the default tags, `confluence-audit` and for Cloud records also `forwarded`.
    pub tags: Option<Vec<String>>,
    /// `data_stream.namespace`.
    pub namespace: String,
    /// The configured name of the site.
    pub site: Option<String>,
    pub agent: Agent,
    pub host: Option<Host>,
    /// The cloud instance that the agent runs on.
    pub cloud: Option<Cloud>,
    /// The databases for the locations of addresses.
    pub geo: Option<Arc<Geo>>,
    /// Whether `event.original` is written.
    pub preserve_original_event: bool,
}

impl Context {
    /// The configured name of the site. `None` if it is empty.
    fn site(&self) -> Option<&str> {
        self.site.as_deref().filter(|site| !site.is_empty())
    }
}

/// The agent's fields in its events.
#[derive(Clone, Debug)]
pub struct Agent {
    /// Persistent: kept in the state directory.
    pub id: String,
    /// New for each process.
    pub ephemeral_id: String,
    pub name: String,
    pub version: String,
}

/// The encoder of one format.
#[derive(Clone, Debug)]
pub enum Format {
    Ecs(Box<Ecs>),
    Raw(Raw),
    Sentinel(Box<Sentinel>),
    Cef(Box<Cef>),
    Ocsf(Box<Ocsf>),
}

impl Format {
    pub fn new(kind: FormatKind, context: &Context) -> Self {
        match kind {
            FormatKind::Ecs => Format::Ecs(Box::new(Ecs::new(context))),
            FormatKind::Raw => Format::Raw(Raw),
            FormatKind::Sentinel => Format::Sentinel(Box::new(Sentinel::new(context))),
            FormatKind::Cef => Format::Cef(Box::new(Cef::new(context))),
            FormatKind::Ocsf => Format::Ocsf(Box::new(Ocsf::new(context))),
        }
    }

    /// Writes the event as one line without a line end: a JSON object, or CEF text.
    pub fn write(&self, event: &Event, out: &mut EventBuffer) {
        let start = out.bytes.len();
        match self {
            Format::Ecs(ecs) => ecs.write(event, out),
            Format::Raw(raw) => raw.write(event, out),
            Format::Sentinel(sentinel) => sentinel.write(event, out),
            Format::Cef(cef) => cef.write(event, out),
            Format::Ocsf(ocsf) => ocsf.write(event, out),
        }
        self.check(start, out);
    }

    /// Writes an event about the agent itself.
    pub fn write_notice(&self, notice: &Notice, out: &mut EventBuffer) {
        let start = out.bytes.len();
        match self {
            Format::Ecs(ecs) => ecs.write_notice(notice, out),
            Format::Raw(raw) => raw.write_notice(notice, out),
            Format::Sentinel(sentinel) => sentinel.write_notice(notice, out),
            Format::Cef(cef) => cef.write_notice(notice, out),
            Format::Ocsf(ocsf) => ocsf.write_notice(notice, out),
        }
        self.check(start, out);
    }

    /// Debug builds validate each event. A long event that was partly flushed is not validated.
    fn check(&self, start: usize, out: &EventBuffer) {
        if cfg!(debug_assertions) && !out.in_parts {
            let event = &out.bytes[start..];
            let defect = wellformed::defect(self, event);
            assert!(
                defect.is_none(),
                "an event {}: {}",
                defect.unwrap_or_default(),
                String::from_utf8_lossy(event)
            );
        }
    }
}
