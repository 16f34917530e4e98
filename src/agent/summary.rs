//! Totals of a run.

use crate::source::api::ApiTotal;
use crate::source::files::FileTotal;

/// Totals of a run, and its exit code.
pub struct Summary {
    pub sources: Vec<(String, SourceTotal)>,
    pub sinks: Vec<Delivered>,
    pub exit_code: u8,
}

/// Totals of one source at one sink.
pub struct Delivered {
    pub sink: String,
    pub source: String,
    pub events: u64,
    /// Refused by the server and written to the quarantine.
    pub quarantined: u64,
}

/// Totals of one source.
#[derive(Debug, Default)]
pub struct SourceTotal {
    pub files: Vec<FileTotal>,
    pub api: Option<ApiTotal>,
    pub events: u64,
    pub unreadable: u64,
    pub trouble: Option<String>,
    /// A new process may see files that this one cannot see.
    pub restart_wanted: bool,
}
