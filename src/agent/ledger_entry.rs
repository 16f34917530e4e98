//! What the ledger records of an event.

use crate::evidence::row::{FROM_API, HAS_DIGEST, NOTICE, Row};
use crate::format::Event;
use crate::ledger::{self, Entry, EntryInput, EntryKind, NO_DIGEST, NO_TIME, SELF_POLL, UNREADABLE};
use crate::notice::{self, Notice};
use crate::record::{EventId, Parsed};

/// Where the record of an event was read.
#[derive(Clone, Copy, Debug)]
pub enum RecordPlace {
    /// `length` includes the line end.
    File { key: u32, offset: u64, length: u32 },
    /// `legacy_cross_route_id`: only of a row of the legacy API; the row of the newer API is recognised by it.
    Api { length: u32, legacy_cross_route_id: Option<EventId> },
}

/// The time by which an event is found in the ledger; `None`: it has none.
pub(super) fn time_ms(content: &Parsed<'_>) -> Option<i64> {
    match content {
        Parsed::Record(record) => record.time_ms,
        Parsed::Unreadable { .. } => None,
    }
}

/// `delivered`: not left out.
pub(super) fn of_event(event: &Event<'_>, place: RecordPlace, delivered: bool) -> Entry {
    let (mut flags, digest) = match event.content {
        Parsed::Record(record) => (0, ledger::record_digest(record.original.as_bytes())),
        // As the event carries it: it is text.
        Parsed::Unreadable { bytes, .. } => {
            (UNREADABLE, ledger::record_digest(String::from_utf8_lossy(bytes).as_bytes()))
        }
    };
    let time_ms = time_ms(event.content);
    if event.self_poll {
        flags |= SELF_POLL;
    }
    if time_ms.is_none() {
        flags |= NO_TIME;
    }
    let mut entry = Entry {
        kind: if delivered { EntryKind::Delivered } else { EntryKind::Loss },
        input: EntryInput::Api,
        flags,
        file: 0,
        time_ms: time_ms.unwrap_or(0),
        id: event.id.0,
        offset: 0,
        length: 0,
        digest,
    };
    match place {
        RecordPlace::File { key, offset, length } => {
            (entry.input, entry.file) = (EntryInput::File, key);
            (entry.offset, entry.length) = (offset, length);
        }
        RecordPlace::Api { length, legacy_cross_route_id } => {
            entry.length = length;
            if let Some(cross_route_id) = legacy_cross_route_id {
                entry.set_cross_route_id(cross_route_id);
            }
        }
    }
    entry
}

/// Of an event that was found in an output, and whose record is not there any more. Whether other sinks got an event of
/// the agent itself is not known.
pub(super) fn of_output(row: &Row, event: &[u8]) -> Entry {
    let flag = |flag: u8, is_set: bool| if is_set { flag } else { 0 };
    let is_notice = row.has(NOTICE);
    let is_heartbeat = is_notice && memchr::memmem::find(event, notice::HEARTBEAT.as_bytes()).is_some();
    Entry {
        kind: if is_notice { EntryKind::Agent } else { EntryKind::Delivered },
        input: match (is_notice, row.has(FROM_API)) {
            (true, _) => EntryInput::Agent,
            (false, true) => EntryInput::Api,
            (false, false) => EntryInput::File,
        },
        flags: flag(NO_TIME, row.time().is_none())
            | flag(NO_DIGEST, !row.has(HAS_DIGEST))
            | flag(ledger::SOME_SINKS, is_notice)
            | flag(ledger::HEARTBEAT, is_heartbeat),
        file: 0,
        time_ms: row.time_ms,
        id: row.id,
        offset: 0,
        length: 0,
        digest: row.digest,
    }
}

/// The entry of an event of the agent itself, with whether every sink of the source gets it.
pub(super) fn for_sinks(mut entry: Entry, to_all: bool) -> Entry {
    entry.flags &= !ledger::SOME_SINKS;
    entry.flags |= if to_all { 0 } else { ledger::SOME_SINKS };
    entry
}

/// `to_all`: every sink of the source gets it.
pub(super) fn of_notice(notice: &Notice, to_all: bool) -> Entry {
    let heartbeat = if notice.action == notice::HEARTBEAT { ledger::HEARTBEAT } else { 0 };
    Entry {
        kind: EntryKind::Agent,
        input: EntryInput::Agent,
        flags: heartbeat | if to_all { 0 } else { ledger::SOME_SINKS },
        file: 0,
        time_ms: notice.at_ms,
        id: notice.id.0,
        offset: 0,
        length: notice.evidence().len() as u32,
        digest: ledger::record_digest(notice.evidence().as_bytes()),
    }
}

/// Bytes `from..to` of the file with this key that will never be delivered: one entry for each 4 GiB.
pub(super) fn of_loss(at_ms: i64, key: u32, from: u64, to: u64) -> impl Iterator<Item = Entry> {
    let parts = (from..to.max(from + 1)).step_by(u32::MAX as usize);
    parts.map(move |offset| Entry {
        kind: EntryKind::Loss,
        input: EntryInput::File,
        flags: 0,
        file: key,
        time_ms: at_ms,
        id: 0,
        offset,
        length: u32::try_from(to.saturating_sub(offset)).unwrap_or(u32::MAX),
        digest: [0; 32],
    })
}
