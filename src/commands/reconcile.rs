//! The command `reconcile`: what the audit files have, what was delivered, and what each sink holds, side by side.

mod api;
mod elasticsearch;
mod print;
mod repair;
mod sources;

use super::findings::{DescribedFinding, PrintedFindings};
use super::output::print_error;
use super::verify::{VerifyFailure, describe, load, read_export};
use crate::cli::{Options, ReconcileArgs, TimeRange};
use crate::clock;
use crate::config::{self, Config, DestinationConfig, FileSinkConfig, SinkConfig, SinkKind};
use crate::evidence::compare::{Scope, Side};
use crate::evidence::export::Export;
use crate::evidence::finding::{Days, FindingKind};
use crate::evidence::last_reconcile::{self, LastReconcile, LastReconciles};
use crate::evidence::ledgers::{LedgerPlace, SourceLedger};
use crate::evidence::live::compare_live;
use crate::evidence::row::Row;
use crate::evidence::sort::Sorter;
use crate::exit;
use crate::quarantine::QuarantineDirectory;
use crate::sink::file;
use crate::telemetry::chain;
use print::Output;
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::PathBuf;

/// Events that are repaired at once: 32 MiB of ids.
const MISSING_MAX: usize = 1_000_000;

/// What was compared with the ledgers.
pub(super) struct Compared {
    /// Such as `sink local`.
    pub name: String,
    side: Side,
    pub export: Export,
    pub days: Days,
}

/// The outputs of all file sinks, compared with the ledgers.
#[derive(Default)]
pub(super) struct ComparedOutputs {
    /// Each with what was found in it.
    pub compared: Vec<(Compared, PrintedFindings)>,
    pub unchecked: Vec<String>,
}

/// What is to be compared with the ledgers.
struct Found {
    export: Export,
    rows: Sorter,
    side: Side,
    /// Older events were deleted.
    kept_from_ms: i64,
}

impl Found {
    fn at_sink((export, rows): (Export, Sorter)) -> Found {
        Found { export, rows, side: Side::Sink, kept_from_ms: i64::MIN }
    }
}

/// Compares all sides. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn reconcile(args: &ReconcileArgs, out: &mut impl Write) -> io::Result<u8> {
    let options = Options { config: args.config.clone(), state: args.state.clone(), ..Options::default() };
    let config = match config::load_file(&options) {
        Ok(config) => config,
        Err(errors) => {
            print_error(&errors.to_string());
            return Ok(errors.exit_code());
        }
    };
    let sinks = match sinks(args, &config) {
        Ok(sinks) => sinks,
        Err(refusal) => {
            print_error(&refusal);
            return Ok(exit::CONFIG);
        }
    };
    match reconcile_all(args, &config, &sinks, out) {
        Ok(code) => Ok(code),
        Err(VerifyFailure::Output(error)) => Err(error),
        Err(error) => {
            print_error(&chain(&error));
            Ok(exit::TRY_AGAIN)
        }
    }
}

/// Compares the outputs of all file sinks with the ledgers, as `reconcile` does. Other sinks are not asked.
pub(super) fn compare_outputs(
    config: &Config,
    ledgers: &[SourceLedger],
    times: TimeRange,
) -> Result<ComparedOutputs, VerifyFailure> {
    let args = ReconcileArgs { times, ..ReconcileArgs::default() };
    let mut nowhere = io::sink();
    let output = Output::kept(&mut nowhere);
    let mut reconciler =
        Reconciler { args: &args, config, ledgers, output, missing: HashSet::new(), result: None };
    for sink in &config.sinks {
        let name = format!("sink {}", sink.name);
        match &sink.kind {
            SinkKind::File(file) => reconciler.outputs(&name, file)?,
            SinkKind::Remote(_) => {
                reconciler
                    .output
                    .not_checked(format!("{name}: a server; `reconcile` and `--export` compare it"));
            }
            SinkKind::Stdout => reconciler.output.not_checked(format!("{name}: standard output")),
        }
    }
    Ok(reconciler.output.into_compared())
}

/// A sink, and what it has exported.
struct ComparedSink<'a> {
    config: &'a SinkConfig,
    exported: &'a [PathBuf],
}

/// The sinks that are compared, or why the request is wrong.
fn sinks<'a>(args: &'a ReconcileArgs, config: &'a Config) -> Result<Vec<ComparedSink<'a>>, String> {
    let known = || config.sinks.iter().map(|sink| format!("`{}`", sink.name)).collect::<Vec<_>>().join(", ");
    let chosen = config.sinks.iter().filter(|sink| args.sink.as_ref().is_none_or(|name| *name == sink.name));
    let exported = &args.export[..];
    let sinks: Vec<_> = chosen.map(|config| ComparedSink { config, exported }).collect();
    if let Some(name) = args.sink.as_ref().filter(|_| sinks.is_empty()) {
        return Err(format!("there is no sink `{name}` in the configuration; there is {}", known()));
    }
    if !exported.is_empty() && sinks.len() > 1 {
        return Err(format!("`--export` is of one sink; name it with `--sink`: {}", known()));
    }
    let is_source = |name: &String| config.sources.iter().any(|source| source.name == *name);
    match args.source.as_ref().filter(|name| !is_source(name)) {
        Some(name) => Err(format!("there is no source `{name}` in the configuration")),
        None => Ok(sinks),
    }
}

fn reconcile_all(
    args: &ReconcileArgs,
    config: &Config,
    sinks: &[ComparedSink],
    out: &mut impl Write,
) -> Result<u8, VerifyFailure> {
    let ledgers = LedgerPlace::State(config.state_dir.clone()).open(args.source.as_deref())?;
    let mut output = Output::new(args.json, out);
    output.ledgers(&ledgers)?;
    let mut reconciler =
        Reconciler { args, config, ledgers: &ledgers, output, missing: HashSet::new(), result: None };
    // Of less than everything the result would clear the alert of what is missing elsewhere.
    let is_all = args.source.is_none() && args.times.is_all();
    for sink in sinks {
        reconciler.sink(sink)?;
        if args.repair {
            reconciler.repair(sink.config)?;
        }
        reconciler.missing.clear();
        if let Some(result) = reconciler.result.take().filter(|_| is_all) {
            let results = LastReconciles::from([(sink.config.name.clone(), result)]);
            if let Err(error) = last_reconcile::store(&config.state_dir, results) {
                print_error(&format!("the result cannot be stored for the metrics of the agent: {error}"));
            }
        }
    }
    for source in
        config.sources.iter().filter(|source| args.source.as_ref().is_none_or(|name| *name == source.name))
    {
        reconciler.files(source)?;
        reconciler.api(source)?;
    }
    reconciler.output.end()
}

struct Reconciler<'a, W> {
    args: &'a ReconcileArgs,
    config: &'a Config,
    ledgers: &'a [SourceLedger],
    output: Output<'a, W>,
    /// Ids of events that the side that was compared last has not.
    missing: HashSet<u128>,
    /// What was found in all outputs of the current sink.
    result: Option<LastReconcile>,
}

impl<W: Write> Reconciler<'_, W> {
    fn sink(&mut self, sink: &ComparedSink) -> Result<(), VerifyFailure> {
        let name = format!("sink {}", sink.config.name);
        if !sink.exported.is_empty() {
            let entries = self.entries(self.ledgers)?;
            let found = Found::at_sink(read_export(sink.exported, None)?);
            return self.compare(name, self.ledgers, entries, found);
        }
        match &sink.config.kind {
            SinkKind::File(file) => self.outputs(&name, file),
            SinkKind::Remote(remote) => match &remote.destination {
                DestinationConfig::Elasticsearch(destination) => {
                    let asked = elasticsearch::ask(destination, self.ledgers, self.args.times.range());
                    match asked? {
                        Ok(found) => {
                            let entries = self.entries(self.ledgers)?;
                            self.compare(name, self.ledgers, entries, Found::at_sink(found))
                        }
                        Err(reason) => {
                            self.output.failed(format!("{name}: {reason}"));
                            Ok(())
                        }
                    }
                }
                _ => {
                    let text = "it cannot be asked what it holds; export its events, and name the files with `--export`";
                    self.output.not_checked(format!("{name}: {text}"));
                    Ok(())
                }
            },
            SinkKind::Stdout => {
                self.output.not_checked(format!("{name}: standard output"));
                Ok(())
            }
        }
    }

    /// Compares the outputs of a file sink: one for each source, or one for all.
    fn outputs(&mut self, name: &str, sink: &FileSinkConfig) -> Result<(), VerifyFailure> {
        for (at, ledger) in self.ledgers.iter().enumerate() {
            let path = sink.path_for(&ledger.source);
            let name = match self.ledgers.len() {
                1 => name.to_owned(),
                _ => format!("{name}, source {}", ledger.source),
            };
            let ledgers = &self.ledgers[at..at + 1];
            // The ledger first: what is delivered meanwhile is in the output and not in the ledger yet.
            let entries = self.entries(ledgers)?;
            if !path.exists() {
                self.output.not_checked(format!("{name}: its output `{}` does not exist", path.display()));
                continue;
            }
            let mut found = Found::at_sink(read_export(std::slice::from_ref(&path), None)?);
            if let Some(first_ms) = found.export.first_ms.filter(|_| file::is_pruned(&path).unwrap_or(false))
            {
                found.kept_from_ms = first_ms.saturating_add(1);
                let first = super::findings::time(first_ms);
                let text = "the older outputs were deleted (`rotated_files_max`)";
                self.output.not_checked(format!("{name}: events up to {first}; {text}"));
            }
            self.compare(name, ledgers, entries, found)?;
        }
        Ok(())
    }

    /// The entries of ledgers, and the time before which some may have been dropped.
    fn entries(&self, ledgers: &[SourceLedger]) -> Result<(Sorter, i64), VerifyFailure> {
        let (entries, loaded) = load(ledgers)?;
        Ok((entries, loaded.dropped_before_ms))
    }

    fn compare(
        &mut self,
        name: String,
        ledgers: &[SourceLedger],
        (entries, dropped_before_ms): (Sorter, i64),
        Found { export, rows, side, kept_from_ms }: Found,
    ) -> Result<(), VerifyFailure> {
        let quarantined = self.quarantined(&name)?;
        let mut times = self.args.times.range();
        times.start = times.start.max(kept_from_ms);
        let scope = Scope {
            side,
            times,
            dropped_before_ms,
            is_quarantined: &|entry: &Row| quarantined.contains(&entry.id),
        };
        let entries = entries.finish().map_err(VerifyFailure::Temporary)?;
        let rows = rows.finish().map_err(VerifyFailure::Temporary)?;
        let output = &mut self.output;
        let missing = &mut self.missing;
        missing.clear();
        let days = compare_live(ledgers, entries, rows, &scope, |finding| {
            if finding.kind == FindingKind::Missing && missing.len() < MISSING_MAX {
                missing.insert(finding.id());
            }
            let described = describe(finding, ledgers, &export);
            output.finding(DescribedFinding { at: Some(name.clone()), ..described }, side)
        })?;
        let (total, result) = (days.total(), self.result.get_or_insert_default());
        result.at_ms = clock::now_ms();
        result.missing += total.missing;
        result.altered += total.altered;
        output.compared(Compared { name, side, export, days })?;
        Ok(())
    }

    /// Ids of the events that a sink has refused.
    fn quarantined(&self, name: &str) -> Result<HashSet<u128>, VerifyFailure> {
        let mut ids = HashSet::new();
        let failed = |error: &dyn std::error::Error| VerifyFailure::Quarantine(chain(error));
        let Some(directory) =
            QuarantineDirectory::open(&self.config.state_dir).map_err(|error| failed(&error))?
        else {
            return Ok(ids);
        };
        for file in &directory.files().map_err(|error| failed(&error))?.names {
            let read = directory.read(file, &mut |line| {
                if let Ok(entry) = line.entry
                    && name.strip_prefix("sink ").is_some_and(|sink| sink == entry.sink)
                    && let Ok(id) = u128::from_str_radix(&entry.id, 16)
                {
                    ids.insert(id);
                }
                Ok::<(), crate::quarantine::QuarantineError>(())
            });
            read.map_err(|error| failed(&error))?;
        }
        Ok(ids)
    }
}
