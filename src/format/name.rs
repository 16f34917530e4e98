//! The formats by name, and the ids that their events bear.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::cef;
use crate::record::EventId;

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    Ecs,
    Raw,
    Sentinel,
    Cef,
    Ocsf,
}

/// What stands before the id in the formats that begin with it. Members of a record cannot be taken for it.
pub(super) const RAW_START: &str = "{\"event_id\":\"";
pub(super) const SENTINEL_START: &str = "{\"EventId\":\"";
pub(super) const OCSF_START: &str = "{\"metadata\":{\"uid\":\"";

impl Name {
    pub const ALL: [Name; 5] = [Name::Ecs, Name::Raw, Name::Sentinel, Name::Cef, Name::Ocsf];

    /// As the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Name::Ecs => "ecs",
            Name::Raw => "raw",
            Name::Sentinel => "sentinel",
            Name::Cef => "cef",
            Name::Ocsf => "ocsf",
        }
    }

    /// The id of an event that was written in this format or, because an output's format may have been changed, in
    /// any other; `None` if these bytes are no whole event.
    pub fn id_of(self, event: &[u8]) -> Option<EventId> {
        #[derive(Deserialize)]
        struct EcsEvent<'a> {
            #[serde(borrow)]
            event: Event<'a>,
        }
        #[derive(Deserialize)]
        struct Event<'a> {
            id: &'a str,
        }
        if event.starts_with(cef::START.as_bytes()) {
            return cef::id_of(event).and_then(parse);
        }
        let start = [RAW_START, SENTINEL_START, OCSF_START]
            .into_iter()
            .find(|start| event.starts_with(start.as_bytes()));
        if let Some(start) = start {
            let (id, rest) = event[start.len()..].split_at_checked(ID_BYTES)?;
            let whole = rest.starts_with(b"\"") && serde_json::from_slice::<IgnoredAny>(event).is_ok();
            return Some(id).filter(|_| whole).and_then(parse);
        }
        let ecs = serde_json::from_slice::<EcsEvent>(event).ok()?;
        parse(ecs.event.id.as_bytes())
    }
}

/// Hexadecimal digits in an id.
pub(super) const ID_BYTES: usize = 32;

fn parse(id: &[u8]) -> Option<EventId> {
    let id = std::str::from_utf8(id).ok()?;
    let whole = id.len() == ID_BYTES && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    u128::from_str_radix(id, 16).ok().filter(|_| whole).map(EventId)
}
