//! The ledger of a source: an append-only record of every event that was delivered. It is the memory of what was
//! delivered (deduplication) and a Merkle tree over it (RFC 6962).
//!
//! Reading order: `entry` (what is recorded of an event), `blocks` (which blocks may hold an event), `segments`
//! (files), `tree` (hashes), `store` (the ledger itself), `shared` (used by the reader and by the thread that commits).
//! What is signed: `note` (the text of a checkpoint), `key`, `checkpoints` (those of a ledger), `signed_file` (a
//! report). What other processes use: `reader` (from the files alone), `subtrees` (hashes), `check` (whether the ledger
//! is what was signed), `proof` (for one entry), `export` and `tiles` (for other readers of transparency logs).

mod blocks;
mod check;
#[cfg(test)]
mod check_tests;
mod checkpoints;
mod entry;
mod export;
mod finding;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/ledger.rs"]
pub(crate) mod fuzz;
pub mod key;
mod note;
mod proof;
mod reader;
mod segments;
mod shared;
mod signed_file;
mod store;
#[cfg(test)]
mod store_tests;
mod subtrees;
mod tiles;
mod tree;

pub use check::{CheckedCheckpoint, LedgerCheck, check};
pub use checkpoints::{Checkpoints, SignError, begin_new_log, key_name, origin, signed_size};
pub(crate) use entry::record_digest;
pub use entry::{
    Entry, EntryInput, EntryKind, HEARTBEAT, LEGACY_ROW, NO_DIGEST, NO_TIME, SELF_POLL, SOME_SINKS,
    UNREADABLE,
};
pub use export::{ExportError, Exported, export};
pub use finding::{CheckpointName, LedgerFinding};
pub use note::{Checkpoint, Signer, Verifier};
pub use proof::{Proof, ProofError, ProvenEntry};
pub use reader::{Entries, LedgerReader, ledger_dir, ledgers};
pub use shared::{Limits, SharedLedger, SignedCheckpoint};
pub use signed_file::{SignedFileError, sign_file, verify_file};
pub use store::Damage;
