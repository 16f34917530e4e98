//! What an event looks like on its way out. A format writes bytes from a record; it builds no tree.

mod affected;
mod cef;
pub mod ecs;
mod escape;
mod login;
mod message;
mod name;
mod ocsf;
mod out;
pub mod prune;
mod raw;
mod rules;
mod sentinel;
mod tags;
mod taxonomy;
mod users;
mod wellformed;
mod wording;

#[cfg(test)]
mod tests;

use crate::enrich::cloud::Cloud;
use crate::enrich::geo::Geo;
use crate::enrich::host::Host;
use crate::notice::Notice;
use crate::record::{EventId, Parsed};
use std::sync::Arc;

pub use cef::Cef;
pub use ecs::Ecs;
pub use escape::escape;
pub use name::Name;
pub use ocsf::Ocsf;
pub use out::Out;
pub use raw::Raw;
pub use sentinel::Sentinel;

/// One event to be written.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
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
    pub preserve_original_event: bool,
}

impl Context {
    /// The configured name of the site, unless it is empty.
    fn site(&self) -> Option<&str> {
        self.site.as_deref().filter(|site| !site.is_empty())
    }
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
    Sentinel(Box<Sentinel>),
    Cef(Box<Cef>),
    Ocsf(Box<Ocsf>),
}

impl Format {
    pub fn new(name: Name, context: &Context) -> Self {
        match name {
            Name::Ecs => Format::Ecs(Box::new(Ecs::new(context))),
            Name::Raw => Format::Raw(Raw),
            Name::Sentinel => Format::Sentinel(Box::new(Sentinel::new(context))),
            Name::Cef => Format::Cef(Box::new(Cef::new(context))),
            Name::Ocsf => Format::Ocsf(Box::new(Ocsf::new(context))),
        }
    }

    /// Writes the event as one line, without a line end: a JSON object, or CEF's text.
    pub fn write(&self, item: &Event, out: &mut Out) {
        let start = out.bytes.len();
        match self {
            Format::Ecs(ecs) => ecs.write(item, out),
            Format::Raw(raw) => raw.write(item, out),
            Format::Sentinel(sentinel) => sentinel.write(item, out),
            Format::Cef(cef) => cef.write(item, out),
            Format::Ocsf(ocsf) => ocsf.write(item, out),
        }
        self.check(start, out);
    }

    /// Writes an event of the agent's own likewise.
    pub fn write_notice(&self, notice: &Notice, out: &mut Out) {
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

    /// In a debug build each event is read again; one that goes out in parts is not there any more.
    fn check(&self, start: usize, out: &Out) {
        if cfg!(debug_assertions) && !out.in_parts {
            let event = &out.bytes[start..];
            let fault = wellformed::fault(self, event);
            assert!(
                fault.is_none(),
                "an event {}: {}",
                fault.unwrap_or_default(),
                String::from_utf8_lossy(event)
            );
        }
    }
}
