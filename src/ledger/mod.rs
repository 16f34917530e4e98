//! The ledger of a source: an append-only record of every event that was delivered. It is the memory of what was
//! delivered (deduplication) and a Merkle tree over it (RFC 6962).
//!
//! Reading order: `entry` (what is recorded of an event), `blocks` (which blocks may hold an event), `segments` (files),
//! `tree` (hashes), `store` (the ledger itself), `shared` (used by the reader and by the thread that commits).

mod blocks;
mod entry;
mod segments;
mod shared;
mod store;
#[cfg(test)]
mod store_tests;
mod tree;

pub(crate) use entry::record_digest;
pub use entry::{Entry, EntryInput, EntryKind, LEGACY_ROW, NO_TIME, SELF_POLL, UNREADABLE};
pub use shared::{Limits, Sealed, SharedLedger};
pub use store::Damage;
