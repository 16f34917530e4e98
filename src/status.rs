//! The status of a running agent: the JSON of `/status`, which docs/STATUS.md describes, and its words for people. The
//! agent fills it; the command `status` and the page show it.

pub(crate) mod page;
mod sparkline;
pub(crate) mod words;

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of the JSON. Members may be added without a new one.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// How something is, from good to bad. `check` uses the same words for its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Health {
    Ok,
    /// The first pass has not ended.
    #[default]
    Starting,
    /// It works, and a person should look at something.
    Warning,
    /// Events are not delivered.
    Failure,
}

impl Health {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Starting => "starting",
            Health::Warning => "warning",
            Health::Failure => "failure",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    pub schema: u32,
    pub version: String,
    pub host: String,
    pub pid: u32,
    /// `None`: the agent was started with options only.
    pub config: Option<String>,
    pub started: String,
    /// When this status was made.
    pub now: String,
    /// The worst of all sources and sinks.
    pub health: Health,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// The stage that makes no progress, if there is one. The watchdog ends the agent then.
    pub stuck: Option<String>,
    /// What should be looked at and concerns no source or sink alone, each with what to do.
    pub warnings: Vec<String>,
    /// When positions were last stored.
    pub last_commit: Option<String>,
    /// Events in quarantine, of all runs; `None`: it cannot be read.
    pub quarantined: Option<u64>,
    pub sources: Vec<SourceStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SourceStatus {
    pub name: String,
    pub health: Health,
    /// Why no events are read.
    pub problem: Option<Problem>,
    /// What works and should be looked at, each with what to do.
    pub warnings: Vec<String>,
    /// What is read at the moment: `file` or `api`.
    pub input: String,
    /// `None`: the source has only one input.
    pub fallback: Option<Fallback>,
    /// How far reading is behind, in seconds. 0: everything that exists was read.
    pub lag_seconds: f64,
    pub backlog_bytes: u64,
    pub backlog_files: u64,
    /// Bytes that were lost, in this run.
    pub lost_bytes: u64,
    pub unreadable_records: u64,
    pub activity: Activity,
    /// Time of the newest event that was read in this run.
    pub last_event: Option<String>,
    /// When a pass without a problem last ended.
    pub last_success: Option<String>,
    pub switches: u64,
    /// The last events about the agent itself, newest first.
    pub changes: Vec<Change>,
    /// Level by area of Confluence's audit log settings, where they can be read.
    pub coverage: BTreeMap<String, String>,
    pub token_expires: Option<String>,
    pub ledger: LedgerStatus,
    pub sinks: Vec<SinkStatus>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SinkStatus {
    pub name: String,
    /// As in the configuration.
    #[serde(rename = "type")]
    pub kind: String,
    pub health: Health,
    /// Why no events are accepted.
    pub problem: Option<Problem>,
    /// What should be looked at, with what to do.
    pub warnings: Vec<String>,
    /// The last problem of this run, over or not.
    pub last_error: Option<LastError>,
    pub activity: Activity,
    /// Events that the sink has. The rest of those with a final outcome went into quarantine.
    pub delivered: u64,
    /// Events that were read and have no final outcome yet.
    pub waiting: u64,
    /// Of the last batch: from the times of its events to their acknowledgement, on average.
    pub delay_seconds: Option<f64>,
    /// Events that are in quarantine now.
    pub quarantined: u64,
    /// When an event last got a final outcome.
    pub last_success: Option<String>,
    /// What the last `reconcile` of this sink found, over all sources.
    pub last_reconcile: Option<Reconciled>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Reconciled {
    pub time: String,
    pub missing: u64,
    pub altered: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub message: String,
    pub since: String,
    /// What to do.
    pub action: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LastError {
    pub message: String,
    /// When it began.
    pub time: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Fallback {
    /// The API is read because the files fail.
    pub active: bool,
    /// Why.
    pub reason: Option<String>,
}

/// Events of this run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Activity {
    pub events: u64,
    /// Events a second, over the last minute and the last hour.
    pub rate_minute: f64,
    pub rate_hour: f64,
    /// Events in each of the last 60 minutes, oldest first. Fewer in the first hour.
    pub minutes: Vec<u64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Change {
    pub time: String,
    /// `event.action` of the event.
    pub action: String,
    pub message: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LedgerStatus {
    pub entries: u64,
    /// When a checkpoint was last published.
    pub last_checkpoint: Option<String>,
}
