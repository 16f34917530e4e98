//! The checkpoint store: how far each file and API was delivered, and how long each output was then. A restart
//! continues from it.
//!
//! ```text
//! <state_dir>/                 0700, owned by the agent, not a symbolic link
//!   lock                       locked while a process uses the directory; contains its process id
//!   meta.json                  schema version and agent id, written once
//!   db/                        sled: one value per audit file, output and loss; one head per source
//!   ledger/                    one ledger of delivered events a source, see `ledger`
//!   checkpoint.json            backup: the same content as one JSON value, at most a minute older
//!   db.corrupt-<time>/         copies of damaged stores, the newest three
//! ```
//!
//! - A checkpoint may be behind delivery but never ahead of it.
//! - Values that cannot be trusted are dropped, or an older state of the *whole* source replaces them: output lengths
//!   and source positions are only valid together.
//! - A held lock and a full disk are not damage. Nothing is changed then.
//! - The state of a newer release is refused and not changed.

mod error;
#[cfg(any(test, fuzzing))]
#[path = "../../fuzz/targets/checkpoint.rs"]
pub(crate) mod fuzz;
mod keys;
mod read_source;
mod recovery;
mod sled_db;
mod source_state;
mod state_dir;
mod state_files;
mod store;
mod stored_value;
mod write_batch;

pub(crate) use crate::position::{ApiCursor, FileEntry, Loss, SinkMark};
#[cfg(test)]
pub(crate) use crate::position::{Fingerprint, Progress};
pub use error::{RecoveryStep, StoreError};
pub use source_state::{Commit, LOSSES_MAX, SourceState, StateImage};
pub use state_dir::damaged_copies;
pub use state_files::read_backup;
pub use store::{Forgotten, Opened, Store, read};

/// Version of the stored format. Each new member raises it, because an older release would drop the member when it
/// rewrites the value. When an older version is read, missing members get their defaults.
pub const VERSION: u32 = 2;
