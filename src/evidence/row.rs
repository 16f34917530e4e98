//! What is compared of an event: a record of fixed length, so that millions of them can be sorted on disk. Pure.

use crate::ledger::{self, Entry, EntryInput};

/// Length of an encoded row.
pub(crate) const ROW_BYTES: usize = 68;

/// The digest is known.
pub(crate) const HAS_DIGEST: u8 = 1;
/// The time is known.
pub(crate) const HAS_TIME: u8 = 2;
/// The members of the event are not what its original says.
pub(crate) const MEMBERS_DIFFER: u8 = 4;
/// The event is of an index, which holds an id once.
pub(crate) const OF_INDEX: u8 = 8;
/// It is an event of the agent itself.
pub(crate) const NOTICE: u8 = 16;
/// The record has the form of the API; of an entry: it was read from there.
pub(crate) const FROM_API: u8 = 32;
/// The event's id is that of its original.
pub(crate) const ID_FITS: u8 = 64;
/// Of an entry: the event went to some sinks of its source only.
pub(crate) const SOME_SINKS: u8 = 128;

/// An entry of a ledger, or an event of an export. Rows are ordered by id, then by place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub id: u128,
    /// Of a ledger: the number of the entry. Of an export: see [`super::export::ExportPlace`].
    pub place: u64,
    /// Milliseconds since the epoch.
    pub time_ms: i64,
    /// Which ledger or which export it is of.
    pub origin: u16,
    pub flags: u8,
    /// Of a ledger: the kind of the entry. Of an export: the format.
    pub kind: u8,
    /// SHA-256 of the original record.
    pub digest: [u8; 32],
}

impl Row {
    /// Of an entry of a ledger. `None`: it is no event.
    pub(crate) fn of_entry(entry: &Entry, ledger: u16, number: u64) -> Option<Row> {
        let mut flags = 0;
        for (flag, is_set) in [
            (HAS_DIGEST, entry.flags & ledger::NO_DIGEST == 0),
            (HAS_TIME, entry.flags & ledger::NO_TIME == 0),
            (FROM_API, entry.input == EntryInput::Api),
            (NOTICE, entry.input == EntryInput::Agent),
            (SOME_SINKS, entry.flags & ledger::SOME_SINKS != 0),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        (entry.id != 0).then_some(Row {
            id: entry.id,
            place: number,
            time_ms: entry.time_ms,
            origin: ledger,
            flags,
            kind: entry.kind as u8,
            digest: entry.digest,
        })
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// `None`: it is not known.
    pub(crate) fn time(&self) -> Option<i64> {
        self.has(HAS_TIME).then_some(self.time_ms)
    }

    /// In big-endian, so that the order of the bytes is the order of the rows.
    pub(crate) fn to_bytes(self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[..16].copy_from_slice(&self.id.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.place.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.time_ms.to_be_bytes());
        bytes[32..34].copy_from_slice(&self.origin.to_be_bytes());
        bytes[34] = self.flags;
        bytes[35] = self.kind;
        bytes[36..].copy_from_slice(&self.digest);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8; ROW_BYTES]) -> Row {
        Row {
            id: u128::from_be_bytes(part(bytes, 0)),
            place: u64::from_be_bytes(part(bytes, 16)),
            time_ms: i64::from_be_bytes(part(bytes, 24)),
            origin: u16::from_be_bytes(part(bytes, 32)),
            flags: bytes[34],
            kind: bytes[35],
            digest: part(bytes, 36),
        }
    }
}

fn part<const N: usize>(bytes: &[u8; ROW_BYTES], at: usize) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&bytes[at..at + N]);
    part
}
