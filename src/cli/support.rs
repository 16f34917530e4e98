//! The options of `support-bundle`.

use clap::Args;
use std::path::PathBuf;

#[derive(Args, Debug)]
pub struct SupportBundleArgs {
    /// The archive to write, as in `support.tar.gz`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Configuration file [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The systemd unit of the agent
    #[arg(long, value_name = "UNIT", default_value = "confluence-audit-agent.service")]
    pub unit: String,
    /// Replace FILE if it exists
    #[arg(long)]
    pub force: bool,
}
