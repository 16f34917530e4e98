//! The options of `status`.

use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Configuration file of the agent [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    pub config: Option<PathBuf>,
    /// The agent's admin socket itself
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Show it again every 2 seconds, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// As JSON, for programs; docs/STATUS.md describes it
    #[arg(long)]
    pub json: bool,
}
