//! What a run has done, for the lines that it ends with.

use crate::source::api::ApiTotal;
use crate::source::files::FileTotal;

/// What a run has done, and how it ended.
pub struct Summary {
    pub sources: Vec<(String, SourceTotal)>,
    pub sinks: Vec<Delivered>,
    pub exit_code: u8,
}

/// What became of one source's events at one sink.
pub struct Delivered {
    pub sink: String,
    pub source: String,
    pub events: u64,
    /// Refused, and put into quarantine.
    pub quarantined: u64,
}

/// What a source has read, for the summary of a run.
#[derive(Debug, Default)]
pub struct SourceTotal {
    pub files: Vec<FileTotal>,
    pub api: Option<ApiTotal>,
    pub events: u64,
    pub unreadable: u64,
    pub trouble: Option<String>,
    /// Another process may see more of the files.
    pub restart_wanted: bool,
}
