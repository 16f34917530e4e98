//! One entry of the ledger: 80 bytes, all integers big-endian.

use crate::record::EventId;
use ring::digest::{SHA256, digest};

/// Length of an entry, in bytes.
pub(super) const ENTRY_BYTES: usize = 80;
const VERSION: u8 = 1;

/// What an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    Delivered = 1,
    /// At least one sink refused the event; it is in quarantine.
    Quarantined = 2,
    /// A byte range of a file that will never be delivered. With an id: the agent's own search, which is left out.
    Loss = 3,
    /// An event of the agent itself.
    Agent = 4,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryInput {
    File = 1,
    Api = 2,
    Agent = 3,
}

/// The agent's own search of the audit log.
pub const SELF_POLL: u8 = 1;
/// The record could not be parsed.
pub const UNREADABLE: u8 = 2;
/// The record has no time; `time_ms` is 0.
pub const NO_TIME: u8 = 4;
/// The row came by the legacy API (Data Center before 7.5), which returns fewer fields. `file` and `offset` hold 96
/// bits of its cross-route id, by which the row of the newer API is recognised.
pub const LEGACY_ROW: u8 = 8;
/// The event was found in an output after a kill, in a format that carries no original. The digest is zero.
pub const NO_DIGEST: u8 = 16;
/// The event went to some sinks of its source only.
pub const SOME_SINKS: u8 = 32;
/// The event is a heartbeat of the agent.
pub const HEARTBEAT: u8 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryKind,
    pub input: EntryInput,
    /// [`SELF_POLL`], [`UNREADABLE`], [`NO_TIME`], [`LEGACY_ROW`], [`NO_DIGEST`], [`SOME_SINKS`], [`HEARTBEAT`].
    pub flags: u8,
    /// Key of the file in the checkpoint; 0 for the API.
    pub file: u32,
    /// Time of the event, in milliseconds since the epoch, UTC.
    pub time_ms: i64,
    /// 0: the entry is no event.
    pub id: u128,
    /// Offset of the record in its file, in bytes; 0 for the API.
    pub offset: u64,
    /// Length of the record with its line end, in bytes.
    pub length: u32,
    /// SHA-256 of the record's original bytes without the line end.
    pub digest: [u8; 32],
}

/// What an entry is looked up by, besides its key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lookup {
    /// Its time, in milliseconds since the epoch.
    Time(i64),
    /// Its offset: a record of a file without a time.
    Offset(u64),
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.kind as u8;
        bytes[2] = self.input as u8;
        bytes[3] = self.flags;
        bytes[4..8].copy_from_slice(&self.file.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.time_ms.to_be_bytes());
        bytes[16..32].copy_from_slice(&self.id.to_be_bytes());
        bytes[32..40].copy_from_slice(&self.offset.to_be_bytes());
        bytes[40..44].copy_from_slice(&self.length.to_be_bytes());
        bytes[48..80].copy_from_slice(&self.digest);
        bytes
    }

    /// `None`: the bytes are no entry of this version.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Entry> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        let kind = match bytes[1] {
            1 => EntryKind::Delivered,
            2 => EntryKind::Quarantined,
            3 => EntryKind::Loss,
            4 => EntryKind::Agent,
            _ => return None,
        };
        let input = match bytes[2] {
            1 => EntryInput::File,
            2 => EntryInput::Api,
            3 => EntryInput::Agent,
            _ => return None,
        };
        if bytes[0] != VERSION || bytes[44..48] != [0; 4] {
            return None;
        }
        Some(Entry {
            kind,
            input,
            flags: bytes[3],
            file: u32::from_be_bytes(part(bytes, 4)),
            time_ms: i64::from_be_bytes(part(bytes, 8)),
            id: u128::from_be_bytes(part(bytes, 16)),
            offset: u64::from_be_bytes(part(bytes, 32)),
            length: u32::from_be_bytes(part(bytes, 40)),
            digest: part(bytes, 48),
        })
    }

    /// What the entry is found by: the event's id; also its id and offset, if it is a record of a file without a time;
    /// also its cross-route id, if it is a row of the legacy API.
    pub(super) fn keys(&self) -> impl Iterator<Item = u128> {
        let id = (self.id != 0).then_some(self.id);
        let untimed = self.is_untimed_line().then(|| untimed_key(EventId(self.id), self.offset));
        let cross_route_id = u128::from(self.file) << 64 | u128::from(self.offset);
        let cross_route_id = (self.flags & LEGACY_ROW != 0).then_some(cross_route_id);
        [id, untimed, cross_route_id].into_iter().flatten()
    }

    fn is_untimed_line(&self) -> bool {
        self.id != 0 && self.input == EntryInput::File && self.flags & NO_TIME != 0
    }

    /// What it is looked up by. `None`: a row without a time, which is looked up among the newest of its kind.
    pub(super) fn lookup(&self) -> Option<Lookup> {
        if self.flags & NO_TIME == 0 {
            return Some(Lookup::Time(self.time_ms));
        }
        self.is_untimed_line().then_some(Lookup::Offset(self.offset))
    }

    /// Stores the cross-route id of a row of the legacy API.
    pub fn set_cross_route_id(&mut self, cross_route_id: EventId) {
        let key = cross_route_key(cross_route_id);
        self.flags |= LEGACY_ROW;
        (self.file, self.offset) = ((key >> 64) as u32, key as u64);
    }
}

/// The key of a record of a file that has no time. The same bytes may be written again as another event, so its offset
/// counts as well: it is the same in a copy of the file, and in a file that is read again.
pub(super) fn untimed_key(id: EventId, offset: u64) -> u128 {
    id.0 ^ u128::from(offset)
}

/// 96 bits of a cross-route id, which is what an entry has room for.
pub(super) fn cross_route_key(cross_route_id: EventId) -> u128 {
    cross_route_id.0 >> 32
}

/// The digest that an entry holds of a record.
pub(crate) fn record_digest(original: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, original).as_ref());
    bytes
}

fn part<const N: usize>(bytes: &[u8; ENTRY_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(input: EntryInput, flags: u8) -> Entry {
        let kind = EntryKind::Delivered;
        Entry { kind, input, flags, file: 1, time_ms: 5, id: 12, offset: 3, length: 1, digest: [0; 32] }
    }

    #[test]
    fn what_an_entry_is_found_by() {
        let keys = |entry: Entry| entry.keys().collect::<Vec<_>>();
        assert_eq!(keys(entry(EntryInput::File, 0)), [12]);
        assert_eq!(keys(Entry { id: 0, ..entry(EntryInput::File, NO_TIME) }), [0; 0]);
        // The same bytes elsewhere in the file are another event.
        assert_eq!(keys(entry(EntryInput::File, NO_TIME)), [12, 12 ^ 3]);
        assert_eq!(keys(entry(EntryInput::Api, NO_TIME)), [12]);
        assert_eq!(untimed_key(EventId(6), 3), 5);
        let mut legacy = entry(EntryInput::Api, SELF_POLL);
        legacy.set_cross_route_id(EventId(0x1234_5678_9abc_def0_1122_3344_5566_7788));
        assert_eq!(legacy.flags, SELF_POLL | LEGACY_ROW);
        assert_eq!(keys(legacy), [12, 0x1234_5678_9abc_def0_1122_3344]);
        legacy.set_cross_route_id(EventId(5));
        assert_eq!(legacy.flags, SELF_POLL | LEGACY_ROW);
    }

    #[test]
    fn what_an_entry_is_looked_up_by() {
        assert!(matches!(entry(EntryInput::File, 0).lookup(), Some(Lookup::Time(5))));
        assert!(matches!(entry(EntryInput::Api, SELF_POLL).lookup(), Some(Lookup::Time(5))));
        assert!(matches!(entry(EntryInput::File, NO_TIME).lookup(), Some(Lookup::Offset(3))));
        assert!(entry(EntryInput::Api, NO_TIME).lookup().is_none());
        assert!(Entry { id: 0, ..entry(EntryInput::File, NO_TIME) }.lookup().is_none());
    }

    /// The members are where the documentation says. SHA-256 of `abc` is that of FIPS 180-2.
    #[test]
    fn the_form_of_an_entry_does_not_change() {
        let digest = record_digest(b"abc");
        assert_eq!(digest[..4], [0xba, 0x78, 0x16, 0xbf]);
        for (kind, kind_byte) in [
            (EntryKind::Delivered, 1),
            (EntryKind::Quarantined, 2),
            (EntryKind::Loss, 3),
            (EntryKind::Agent, 4),
        ] {
            for (input, input_byte) in [(EntryInput::File, 1), (EntryInput::Api, 2), (EntryInput::Agent, 3)] {
                let entry = Entry { kind, digest, time_ms: -1, ..entry(input, HEARTBEAT) };
                let bytes = entry.to_bytes();
                assert_eq!(bytes[..8], [VERSION, kind_byte, input_byte, HEARTBEAT, 0, 0, 0, 1]);
                assert_eq!((&bytes[8..16], bytes[31], bytes[39], bytes[43]), (&[0xff; 8][..], 12, 3, 1));
                assert_eq!((&bytes[44..48], &bytes[48..]), (&[0; 4][..], &digest[..]));
                assert_eq!(Entry::from_bytes(&bytes), Some(entry));
                assert_eq!(Entry::from_bytes(&bytes[..79]), None);
            }
        }
    }
}
