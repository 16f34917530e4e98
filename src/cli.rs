//! The command line. [`crate::config::load`] applies its options.
//!
//! Values that become part of the configuration (`--sink`, `--format`, `--log-level`, …) are plain text here.
//! They are checked like the same keys of the configuration file, with the same messages and exit code.
//! Unknown commands and options are detected here.

mod evidence;
mod ledger;
mod status;
mod support;

pub use evidence::{LedgerLocation, ReconcileArgs, ReportArgs, TimeRange, VerifyArgs};
pub use ledger::{FindArgs, LedgerCommand, LedgerExport, LedgerKey, LedgerShow, ProveArgs};
pub use status::StatusArgs;
pub use support::SupportBundleArgs;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::telemetry::escape::escape_path;
use clap::{Args, Parser, Subcommand};

/// The configuration file that `run` and `check` read by default.
pub const CONFIG_PATH: &str = "/etc/confluence-audit-agent/config.toml";

#[derive(Parser, Debug)]
#[command(
    name = crate::NAME,
    version = crate::VERSION,
    about = "Delivers every Confluence audit event to the security team's systems, once",
    after_help = "\
For packagers: `completions SHELL` writes a completion script, `man [DIR]` the man pages.

Exit codes:
   0  everything asked for was done
   1  `verify`, `reconcile`: something is missing or was changed; `find`, `prove`: there is no such event;
      `status`: a source or sink fails
  64  the command line is wrong: unknown command or option
  65  data was not accepted. `run --once`: a destination refused events, and they are in quarantine;
      `convert`: something was longer than 16 MiB, and became an event that says so
  70  a defect of the agent: a part of it ended that must not end
  75  nothing is wrong with the request, the same call may succeed later: a disk, a permission, a server, another
      agent, a run that was stopped, or standard output that was closed before all was written
  78  the configuration is wrong, in the file or in an option's value; nothing was touched"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print no colours, also on a terminal; the environment variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    /// Read audit events and deliver them, until stopped
    #[command(after_help = "\
Examples:
  confluence-audit-agent run
  confluence-audit-agent run --home /var/atlassian/application-data/confluence --state ./state --once
  confluence-audit-agent run --files '/srv/confluence/log/audit/*.audit.log' --sink file:/tmp/events.ndjson --state ./state
  confluence-audit-agent run --url https://confluence.example.com --token-file ./token --state ./state --once")]
    Run(RunArgs),
    /// Turn audit records into events on stdout, without state
    #[command(long_about = "\
Turn audit records into events on stdout, without state.

Reads audit file lines, Data Center entities and Cloud records, mixed, one JSON value a line; whole API
answers ({\"entities\":[…]}, {\"results\":[…]}); and all of these compressed with gzip.
Writes one event a line, in the order read.")]
    Convert(ConvertArgs),
    /// Check whether the agent can work on this host, and how to fix what prevents it
    #[command(long_about = "\
Check whether the agent can work on this host, and how to fix what prevents it.

Prints one line per check: ok, warning or failure. Changes nothing.
Run it as the agent's user: sudo -u confluence-audit-agent confluence-audit-agent check")]
    Check(CheckArgs),
    /// Show whether the running agent works: each source and sink, and what to do
    #[command(
        long_about = "\
Show whether the running agent works: each source and sink, and what to do.

Asks the agent over its admin socket, which the configuration names. Works as root, as the agent's user, and as a
member of its group.",
        after_help = "\
Examples:
  confluence-audit-agent status
  confluence-audit-agent status --watch
  confluence-audit-agent status --json | jq .health

Exit codes: 0 nothing fails, 1 a source or sink fails, 64 the command line is wrong, 75 no agent answers,
78 the configuration is wrong."
    )]
    Status(StatusArgs),
    /// Show or change the stored position of a stopped agent
    #[command(subcommand)]
    State(StateCommand),
    /// List events that a server refuses, send them again, or drop them
    #[command(
        subcommand,
        long_about = "\
List events that a server refuses, send them again, or drop them.

The agent may run meanwhile. Works as root or as the agent's user:
sudo -u confluence-audit-agent confluence-audit-agent quarantine list"
    )]
    Quarantine(QuarantineCommand),
    /// Check that an export of the events is what was delivered: complete and unchanged
    #[command(
        long_about = "\
Check that an export of the events is what was delivered: complete and unchanged.

Compares the ledger with its signed checkpoints, and each exported event with its entry. Needs no running agent
and no network: copy the ledger, or tiles of `ledger export`, to another machine, and check them there.
An export is the output of the file sink with its rotated files, also compressed; hits of Elasticsearch or
OpenSearch, as `_source` lines or whole answers; a JSON export of Splunk; or Confluence's own audit files.",
        after_help = "\
Examples:
  confluence-audit-agent verify --export /var/log/confluence-audit/events.ndjson
  confluence-audit-agent verify --tiles ./tiles --key KEY --export november.ndjson --from 2026-11-01 --to 2026-11-30

Exit codes: 0 intact, 1 something was found, 64 the command line is wrong, 75 something cannot be read,
78 the configuration is wrong."
    )]
    Verify(VerifyArgs),
    /// Print what the ledger knows of an event: from where it was read, when, and which checkpoint covers it
    #[command(after_help = "\
Exit codes: 0 found, 1 no such event in the ledger, 64 the command line is wrong, 75 something cannot be read,
78 the configuration is wrong.")]
    Find(FindArgs),
    /// Print a proof that an event was delivered, for somebody who has the verifier key and nothing else
    #[command(
        long_about = "\
Print a proof that an event was delivered, for somebody who has the verifier key and nothing else.

The proof is a file in the format C2SP tlog-proof: the entry of the ledger, its path to the root of the tree, and the
signed checkpoint with that root. The agent may run meanwhile.",
        after_help = "\
Examples:
  confluence-audit-agent prove 4a93ee72a9d244458e4f7c0d82194a06 > event.tlog-proof
  confluence-audit-agent verify --proof event.tlog-proof --event event.json --key KEY

Exit codes: 0 printed, 1 no such event in the ledger, or the ledger is not what was signed, 64 the command line is
wrong, 75 something cannot be read or the event is not signed yet, 78 the configuration is wrong."
    )]
    Prove(ProveArgs),
    /// Show and export the ledger of what was delivered, and the key that verifies it
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Write what an auditor files: counts by day, gaps, the agent's history, checkpoints, as one HTML file
    #[command(after_help = "\
Examples:
  confluence-audit-agent report --from 2026-11-01 --to 2026-11-30 --html november.html
  confluence-audit-agent report --export november.ndjson --html november.html

Exit codes: 0 written, 1 written and something was found, 64 the command line is wrong, 75 something cannot be read
or written, 78 the configuration is wrong.")]
    Report(ReportArgs),
    /// Set side by side what the audit files have, what was delivered and what each sink holds
    #[command(
        long_about = "\
Set side by side what the audit files have, what was delivered and what each sink holds.

Says by id what is missing, extra or altered, and where. Elasticsearch and OpenSearch are asked for the ids that
were delivered, outputs of the file sink are read, and for other sinks --export takes what they have exported.
Changes nothing, unless --repair is given. The agent may run meanwhile.",
        after_help = "\
Examples:
  confluence-audit-agent reconcile
  confluence-audit-agent reconcile --from 2026-11-01 --to 2026-11-30
  confluence-audit-agent reconcile --sink splunk --export november.json
  confluence-audit-agent reconcile --sink elastic --repair

Exit codes: 0 nothing was found, 1 something was found, 64 the command line is wrong, 75 something cannot be read
or does not answer, 78 the configuration is wrong."
    )]
    Reconcile(ReconcileArgs),
    /// Collect what somebody needs who is to find out what is wrong, in one archive without secrets
    #[command(
        long_about = "\
Collect what somebody needs who is to find out what is wrong, in one archive without secrets.

First prints what will be in it: versions, the configuration without secrets, status and metrics of the running
agent, its log of the last hour, the stored state, owners and permissions of paths, free space, and its unit.
The agent may run meanwhile. As root it finds most: the journal, the socket and all paths are readable then.",
        after_help = "\
Examples:
  sudo confluence-audit-agent support-bundle support.tar.gz
  tar -xOzf support.tar.gz | less

Exit codes: 0 written, also if a part of it is not available; 64 the command line is wrong; 75 it cannot be
written, or exists."
    )]
    SupportBundle(SupportBundleArgs),
    /// Install what a destination needs for the events
    #[command(subcommand)]
    Setup(SetupCommand),
    /// Write a completion script for a shell to stdout
    #[command(hide = true)]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// Directory that gets a page for each command; without it the main page goes to stdout
        dir: Option<PathBuf>,
    },
}

/// Options that build a `Config`, alone or on top of a file.
#[derive(Args, Debug, Default, Clone)]
pub struct Options {
    /// Configuration file [default: /etc/confluence-audit-agent/config.toml, unless --home, --files or --url is given]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Confluence's local home directory; its log/audit is read. With --config it overrides the file
    #[arg(long, value_name = "DIR", conflicts_with = "files")]
    pub home: Option<PathBuf>,
    /// Audit files to read instead of a home; patterns in quotes
    #[arg(long, value_name = "GLOB", num_args = 1..)]
    pub files: Vec<String>,
    /// Data Center whose audit API is polled, without a configuration file; requires --token-file
    #[arg(
        long,
        value_name = "URL",
        conflicts_with_all = ["config", "home", "files"],
        requires = "token_file"
    )]
    pub url: Option<String>,
    /// File that holds the Personal Access Token for --url
    #[arg(long, value_name = "FILE", requires = "url")]
    pub token_file: Option<PathBuf>,
    /// Where events go: stdout, or file:PATH, from the current directory [default: stdout]
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
    /// Format of the events: ecs, raw, sentinel, cef, or ocsf [default: ecs]
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Directory that keeps the position [default: /var/lib/confluence-audit-agent]
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Format of the agent's own log: text, or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = "Log")]
    pub log_format: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    pub log_level: Option<String>,
}

impl Options {
    /// Whether the options name an input, so that no file is needed.
    pub fn without_file(&self) -> bool {
        self.config.is_none() && (self.home.is_some() || !self.files.is_empty() || self.url.is_some())
    }
}

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    pub options: Options,
    /// Deliver what is there now, wait until all of it is acknowledged, and end
    #[arg(long)]
    pub once: bool,
    /// Print to stdout what would be delivered, and end; change neither state nor sink
    #[arg(long)]
    pub dry_run: bool,
    /// With --dry-run: go on printing until stopped
    #[arg(long, requires = "dry_run", conflicts_with = "once")]
    pub follow: bool,
}

#[derive(Args, Debug)]
pub struct ConvertArgs {
    /// Format of the events: ecs, raw, sentinel, cef, or ocsf
    #[arg(long, value_name = "FORMAT", default_value = "ecs")]
    pub format: String,
    /// Name of the site the records come from [default: the host in each record's own `system`]
    #[arg(long, value_name = "NAME")]
    pub site: Option<String>,
    /// Files to read, `-` for stdin [default: -]
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    pub options: Options,
    /// Only checks that take no time and read nothing but the configuration: for a service about to start
    #[arg(long)]
    pub fast: bool,
}

#[derive(Subcommand, Debug)]
pub enum StateCommand {
    /// Print what is stored, for people
    Show(StateShow),
    /// Delete the position: the next run starts from the beginning and delivers again what is still there
    Forget(StateForget),
    /// Print what is stored, as JSON
    Export(StateExport),
}

/// Selects the state directory: the one of the configuration, or a path.
#[derive(Args, Debug, Default, Clone)]
pub struct StateLocation {
    /// Configuration file that names the state directory [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub config: Option<PathBuf>,
    /// The state directory itself
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct StateShow {
    #[command(flatten)]
    pub location: StateLocation,
    /// Only this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

#[derive(Args, Debug)]
pub struct StateForget {
    #[command(flatten)]
    pub location: StateLocation,
    /// Only this source; without it all of them
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct StateExport {
    #[command(flatten)]
    pub location: StateLocation,
}

#[derive(Subcommand, Debug)]
pub enum QuarantineCommand {
    /// Print what is in quarantine and why, oldest first
    List(QuarantineList),
    /// Print complete events
    Show(QuarantineShow),
    /// Send events again with the current configuration of their sink; accepted events leave the quarantine
    #[command(long_about = "\
Send events again with the current configuration of their sink; accepted events leave the quarantine.

Exit code 0: all selected events were accepted; 75: some are still refused, or the server does not answer.
After a kill, run the same command again; at worst a few events are sent twice, with the same id.")]
    Replay(QuarantineReplay),
    /// Delete events for good; they are recorded in `dropped.log` in the quarantine directory
    Drop(QuarantineDrop),
}

/// Selects events in the quarantine. The default is all of them.
#[derive(Args, Debug, Default, Clone)]
pub struct EventSelection {
    /// Only of this sink
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only these events; the first characters of an id are enough
    #[arg(long, value_name = "ID", num_args = 1.., value_parser = id_prefix)]
    pub id: Vec<String>,
}

#[derive(Args, Debug)]
pub struct QuarantineList {
    #[command(flatten)]
    pub location: StateLocation,
    #[command(flatten)]
    pub selection: EventSelection,
    /// One JSON object per line, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Args, Debug)]
pub struct QuarantineShow {
    #[command(flatten)]
    pub location: StateLocation,
    /// Ids of events, as `list` prints them; the first characters are enough
    #[arg(value_name = "ID", required = true, value_parser = id_prefix)]
    pub id: Vec<String>,
    /// Only the event, as it was sent
    #[arg(long)]
    pub raw: bool,
}

#[derive(Args, Debug)]
pub struct QuarantineReplay {
    /// Configuration file with the sinks [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The state directory, if it is not the configuration's
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    #[command(flatten)]
    pub selection: EventSelection,
    /// Send to this sink instead of the event's own; `stdout` prints the events and removes none
    #[arg(long, value_name = "SINK")]
    pub to: Option<String>,
    /// Send events although the format of the sink has changed
    #[arg(long)]
    pub force: bool,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["id", "all"]))]
pub struct QuarantineDrop {
    #[command(flatten)]
    pub location: StateLocation,
    #[command(flatten)]
    pub selection: EventSelection,
    /// All events, of a sink or source if one is named
    #[arg(long)]
    pub all: bool,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Subcommand, Debug)]
pub enum SetupCommand {
    /// Install index template, ingest pipeline, lifecycle policy and data stream in Elasticsearch or OpenSearch
    #[command(
        visible_alias = "opensearch",
        after_help = "\
Existing objects that are correct are not changed. The retention of an existing policy changes with --retention only.
With --detections it also installs dashboards and detection rules. A rule that was edited in Kibana is not changed.

Examples:
  confluence-audit-agent setup elasticsearch --dry-run
  confluence-audit-agent setup elasticsearch --user elastic --password-file ./password
  confluence-audit-agent setup elasticsearch --detections --dashboards https://kibana.example.com
  confluence-audit-agent setup opensearch --detections --dashboards https://dashboards.example.com
  confluence-audit-agent setup elasticsearch --print"
    )]
    Elasticsearch(SetupElasticsearch),
}

/// Where the packages install dashboards and detection rules.
const DETECTIONS: &str = "/usr/share/confluence-audit-agent";

#[derive(Args, Debug)]
pub struct SetupElasticsearch {
    /// Configuration file that has the sink [default: /etc/confluence-audit-agent/config.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only this sink; without it each of type elasticsearch
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
    /// Print what would be changed, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Write templates, pipeline and policies to stdout, for Kibana's or Dashboards' console, without contacting a
    /// server
    #[arg(long)]
    pub print: bool,
    /// Install dashboards and detection rules too, from DIR [default: /usr/share/confluence-audit-agent]
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, default_missing_value = DETECTIONS)]
    pub detections: Option<PathBuf>,
    /// Address of Kibana or of OpenSearch Dashboards, with its path, such as /s/NAME for a space
    #[arg(long, value_name = "URL", requires = "detections")]
    pub dashboards: Option<String>,
    /// How long events are kept [default: 365d for a new policy]
    #[arg(long, value_name = "DURATION")]
    pub retention: Option<String>,
    /// User for the setup, instead of the sink's own credentials
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File that holds the password of --user
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// File that holds an API key, instead of --user
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub api_key_file: Option<PathBuf>,
}

/// Parses an event's id or its beginning. Fewer than four characters are probably a typing error.
fn id_prefix(text: &str) -> Result<String, String> {
    let is_id = (4..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !is_id {
        return Err("an id has 32 characters, 0-9 and a-f; give at least the first four".into());
    }
    Ok(text.to_ascii_lowercase())
}

/// Parses the arguments of the process. `Err` is the exit code after help, version or an error was printed.
pub fn parse() -> Result<Cli, u8> {
    let words: Vec<OsString> = std::env::args_os().collect();
    Cli::try_parse_from(&words).map_err(|error| {
        // The error repeats the arguments, so they are parsed again after escaping for a terminal.
        let safe = words.iter().map(|word| escape_path(Path::new(word)));
        let error = Cli::try_parse_from(safe).err().unwrap_or(error);
        // A closed pipe (`--help | head -1`) is not an error.
        let _ = error.print();
        if error.use_stderr() { crate::exit::USAGE } else { crate::exit::OK }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn home_and_files_exclude_each_other() {
        let error = Cli::try_parse_from(["x", "run", "--home", "/h", "--files", "/f"]).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn follow_requires_a_dry_run_without_once() {
        for words in [&["--follow"][..], &["--dry-run", "--follow", "--once"]] {
            assert!(Cli::try_parse_from(["x", "run"].iter().chain(words)).is_err(), "{words:?}");
        }
    }

    #[test]
    fn files_takes_several_patterns() {
        let cli = Cli::try_parse_from(["x", "run", "--files", "a", "b", "--once"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("not run") };
        assert_eq!(run.options.files, ["a", "b"]);
        assert!(run.once);
    }
}
