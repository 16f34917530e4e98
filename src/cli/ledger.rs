//! The arguments of `ledger`, `find` and `prove`.

use super::{LedgerLocation, StateLocation, id_prefix};
use clap::{Args, Subcommand};
use std::path::PathBuf;

#[derive(Subcommand, Debug)]
pub enum LedgerCommand {
    /// Print the key that verifies signed checkpoints; keep it away from this host
    #[command(long_about = "\
Print the key that verifies signed checkpoints; keep it away from this host.

The last line is the key that is in use, in the form of Go's sumdb/note: name+id+key. It is public.
`verify --key KEY` needs it on another machine.")]
    Key(LedgerKey),
    /// Print which ledgers there are, how large they are, and what of them is signed
    Show(LedgerShow),
    /// Write a ledger as tiles of a transparency log, to verify it on another machine
    #[command(
        long_about = "\
Write a ledger as tiles of a transparency log, to verify it on another machine.

Writes the format C2SP tlog-tiles as of the last checkpoint: `checkpoint`, `tile/<level>/<number>` with hashes,
`tile/entries/<number>` with entries; and in `checkpoints` all checkpoints, oldest first. The agent may run meanwhile.
A later export into the same directory adds what is new. With several sources each one gets its own directory in DIR.",
        after_help = "\
Examples:
  confluence-audit-agent ledger export ./tiles
  confluence-audit-agent verify --tiles ./tiles --key KEY --export events.ndjson"
    )]
    Export(LedgerExport),
}

#[derive(Args, Debug)]
pub struct LedgerKey {
    #[command(flatten)]
    pub location: StateLocation,
    /// One JSON object, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct LedgerShow {
    #[command(flatten)]
    pub location: LedgerLocation,
    /// One JSON object per ledger, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct LedgerExport {
    /// Directory to write to: new, empty, or with an earlier export of the same ledger
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    #[command(flatten)]
    pub location: LedgerLocation,
    /// One JSON object per ledger, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct FindArgs {
    /// Id of an event; the first characters are enough
    #[arg(value_name = "ID", value_parser = id_prefix)]
    pub id: String,
    #[command(flatten)]
    pub location: LedgerLocation,
    /// One JSON object per entry, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct ProveArgs {
    /// Id of an event; the first characters are enough
    #[arg(value_name = "ID", value_parser = id_prefix)]
    pub id: String,
    #[command(flatten)]
    pub location: LedgerLocation,
    /// One JSON object with the proof in it, for programs
    #[arg(long)]
    pub json: bool,
}
