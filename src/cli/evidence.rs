//! Options of the commands that show what was delivered, and that it is complete.

use std::path::PathBuf;

use super::StateLocation;
use crate::commands::moment;
use clap::Args;

/// Selects ledgers: of the configuration's state directory, or by a path.
#[derive(Args, Debug, Default, Clone)]
pub struct LedgerLocation {
    #[command(flatten)]
    pub state: StateLocation,
    /// A ledger, or a directory with some: a copy of `ledger` in the state directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "state"])]
    pub ledger: Option<PathBuf>,
    /// Tiles that `ledger export` has written
    #[arg(long, value_name = "DIR", conflicts_with_all = ["config", "state", "ledger"])]
    pub tiles: Option<PathBuf>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

/// A range of the times of events.
#[derive(Args, Debug, Default, Clone)]
pub struct TimeRange {
    /// Only events from this day or moment on, in UTC [default: all]
    #[arg(long, value_name = "TIME", value_parser = moment::from)]
    pub from: Option<i64>,
    /// Only events to the end of this day, or before this moment, in UTC [default: all]
    #[arg(long, value_name = "TIME", value_parser = moment::to)]
    pub to: Option<i64>,
}

impl TimeRange {
    pub fn is_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// In milliseconds since the epoch.
    pub fn range(&self) -> std::ops::Range<i64> {
        self.from.unwrap_or(i64::MIN)..self.to.unwrap_or(i64::MAX)
    }
}

#[derive(Args, Debug)]
pub struct VerifyArgs {
    #[command(flatten)]
    pub location: LedgerLocation,
    /// Key that must have signed the checkpoints, as `ledger key` prints it [default: those in the state directory]
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub key: Vec<String>,
    /// Exported events; a directory stands for the files in it
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub export: Vec<PathBuf>,
    /// Proof that `prove` has printed; it is verified with --key alone, without a ledger
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["config", "state", "ledger", "tiles", "export"])]
    pub proof: Option<PathBuf>,
    /// The event that --proof is for, as exported, or its original alone
    #[arg(long, value_name = "FILE", requires = "proof")]
    pub event: Option<PathBuf>,
    /// Report that `report` has written; it is verified with --key and the signature beside it, without a ledger
    #[arg(long, value_name = "FILE", requires = "key", conflicts_with_all = ["config", "state", "ledger", "tiles", "export", "proof"])]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub times: TimeRange,
    /// Name of the site, if the source has one in the configuration: for exports of Confluence's own records
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// One JSON object per finding, then one with a summary, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    pub location: LedgerLocation,
    /// Key that must have signed the checkpoints, as `ledger key` prints it [default: those in the state directory]
    #[arg(long, value_name = "KEY", num_args = 1..)]
    pub key: Vec<String>,
    /// Events that a sink has exported; the outputs of file sinks are compared anyway if there is a configuration
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub export: Vec<PathBuf>,
    #[command(flatten)]
    pub times: TimeRange,
    /// File to write
    #[arg(long, value_name = "FILE")]
    pub html: PathBuf,
}

#[derive(Args, Debug, Default)]
pub struct ReconcileArgs {
    /// Configuration file with sources and sinks [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory, if it is not the configuration's
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only this sink
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Events that the sink has exported; needs --sink if there are several
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub export: Vec<PathBuf>,
    #[command(flatten)]
    pub times: TimeRange,
    /// Deliver what is missing in a sink, as far as the audit files still have it
    #[arg(long)]
    pub repair: bool,
    /// One JSON object per finding, then one with a summary, for programs
    #[arg(long)]
    pub json: bool,
}
