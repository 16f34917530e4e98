//! The totals of a run, for its last lines of output.

use crate::source::api::ApiTotal;
use crate::source::files::FileTotal;

/// The totals of a run, and its exit code.
pub struct Summary {
    pub sources: Vec<(String, SourceTotal)>,
    pub sinks: Vec<Delivered>,
    pub exit_code: u8,
}

/// How many events of one source one sink has delivered.
pub struct Delivered {
    pub sink: String,
    pub source: String,
    pub events: u64,
    /// Events that the server refused and that are in quarantine.
    pub quarantined: u64,
}

/// What one source has read.
#[derive(Debug, Default)]
pub struct SourceTotal {
    pub files: Vec<FileTotal>,
    pub api: Option<ApiTotal>,
    /// Encoded events, from both inputs and the agent's own.
    pub events: u64,
    /// Records and rows that could not be parsed.
    pub unreadable: u64,
    /// Why not everything could be read, if so.
    pub problem: Option<String>,
    /// The files may only be visible to a new process.
    pub restart_wanted: bool,
}
