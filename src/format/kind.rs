//! The formats by name, and the event ids in their output.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::record::EventId;

/// The formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormatKind {
    Ecs,
    Raw,
    Sentinel,
    Cef,
    Ocsf,
}

/// The text before the id, in formats that begin with it. Members of a record cannot be mistaken for it.
pub(super) const RAW_START: &str = "{\"event_id\":\"";
pub(super) const SENTINEL_START: &str = "{\"EventId\":\"";
pub(super) const OCSF_START: &str = "{\"metadata\":{\"uid\":\"";
pub(super) const CEF_START: &str = "CEF:0|Atlassian|Confluence|";

/// The last key of a CEF event, so an event with an id is complete. Values cannot contain it, because `=` is
/// escaped in them.
pub(super) const CEF_ID: &str = " externalId=";

impl FormatKind {
    pub const ALL: [FormatKind; 5] =
        [FormatKind::Ecs, FormatKind::Raw, FormatKind::Sentinel, FormatKind::Cef, FormatKind::Ocsf];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            FormatKind::Ecs => "ecs",
            FormatKind::Raw => "raw",
            FormatKind::Sentinel => "sentinel",
            FormatKind::Cef => "cef",
            FormatKind::Ocsf => "ocsf",
        }
    }

    /// The id of an encoded event. Events of all formats are recognised, because the format of an output may
    /// have been changed. `None` if the bytes are not a complete event.
    pub fn id_of(self, event: &[u8]) -> Option<EventId> {
        #[derive(Deserialize)]
        struct EcsEvent<'a> {
            #[serde(borrow)]
            event: EcsEventMember<'a>,
        }
        #[derive(Deserialize)]
        struct EcsEventMember<'a> {
            id: &'a str,
        }
        if event.starts_with(CEF_START.as_bytes()) {
            let (before, id) = event.split_at_checked(event.len().checked_sub(ID_BYTES)?)?;
            return Some(id).filter(|_| before.ends_with(CEF_ID.as_bytes())).and_then(parse);
        }
        let start = [RAW_START, SENTINEL_START, OCSF_START]
            .into_iter()
            .find(|start| event.starts_with(start.as_bytes()));
        if let Some(start) = start {
            let (id, rest) = event[start.len()..].split_at_checked(ID_BYTES)?;
            let is_complete = rest.starts_with(b"\"") && serde_json::from_slice::<IgnoredAny>(event).is_ok();
            return Some(id).filter(|_| is_complete).and_then(parse);
        }
        let ecs = serde_json::from_slice::<EcsEvent>(event).ok()?;
        parse(ecs.event.id.as_bytes())
    }
}

/// Length of an id in hexadecimal digits.
const ID_BYTES: usize = 32;

fn parse(id: &[u8]) -> Option<EventId> {
    let id = std::str::from_utf8(id).ok()?;
    let is_complete = id.len() == ID_BYTES && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    u128::from_str_radix(id, 16).ok().filter(|_| is_complete).map(EventId)
}
