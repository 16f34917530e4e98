//! What a restart resumes from: how far each file was delivered, and how long each output was then.
//!
//! ```text
//! <state_dir>/                 0700, owned by the agent, no link
//!   lock                       held as long as a process uses the directory; holds its process id
//!   meta.json                  schema version and agent id, written once
//!   db/                        sled: one value an audit file, one an output, one a loss, one head a source
//!   checkpoint.json            the same as one JSON value: what is left when sled is not
//!   db.corrupt-<time>/         evidence of damage, the newest three
//! ```
//!
//! Three rules hold everywhere. A checkpoint may lie behind delivery, never ahead: what cannot be trusted is
//! dropped or taken from an older state of the *whole* source, because the length of an output and the position
//! of its source hold only together. A lock that is held and a
//! disk that is full are not damage, and nothing is touched then. A state of a newer release is refused untouched.

mod entry;
mod error;
mod keys;
mod open;
mod recovery;
mod seal;
mod sled_db;
mod state_dir;
mod state_files;
mod store;
mod write_batch;

pub use entry::{
    ApiCursor, Commit, FileEntry, Fingerprint, IdChunk, LOSSES_MAX, Loss, Progress, SinkMark, SourceState,
    StateImage,
};
pub use error::{RecoveryStep, StoreError};
pub use open::{Opened, damaged_copies, read};
pub use store::{Forgotten, Store};

/// Version of what is written. Any new member raises it, because an older release would drop the member when
/// it writes the value again; reading an older version fills in defaults.
pub const VERSION: u32 = 1;
