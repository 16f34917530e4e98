//! The command `report`: what an auditor files of a period, as one HTML file.

mod chart;
mod html;
mod markup;
mod switches;

use super::findings::{DescribedFinding, PrintedFindings, counted};
use super::output::print_error;
use super::reconcile::compare_outputs;
use super::verify::{
    VerifyFailure, add_published, check_ledger, describe, keys_and_place, load, no_keys, notes_of,
    read_export, unchecked, unchecked_of,
};
use crate::cli::{LedgerLocation, Options, ReportArgs};
use crate::clock;
use crate::config;
use crate::evidence::compare::{Scope, Side};
use crate::evidence::export::{Export, ExportedNotice};
use crate::evidence::finding::Days;
use crate::evidence::ledgers::{LedgerError, LedgerPlace, SourceLedger};
use crate::evidence::live::compare_live;
use crate::exit;
use crate::ledger::{CheckpointName, EntryInput, EntryKind, HEARTBEAT, LedgerCheck, NO_TIME, Verifier};
use crate::telemetry::chain;
use crate::telemetry::escape::escape_path;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::ops::Range;
use std::path::PathBuf;

/// Gaps that are listed.
const GAPS_MAX: usize = 1_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Events of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DayCounts {
    file: u64,
    api: u64,
    agent: u64,
    quarantined: u64,
    left_out: u64,
}

/// Bytes of a file that will never be delivered.
struct Gap {
    source: String,
    at_ms: i64,
    file: u32,
    bytes: Range<u64>,
}

/// A signed text, and which checkpoint it is.
struct SignedCheckpoint {
    name: CheckpointName,
    size: u64,
    note: String,
}

struct SourceReport {
    source: String,
    check: LedgerCheck,
    published: usize,
    /// The newest checkpoint that the entries match.
    newest: Option<SignedCheckpoint>,
    /// Events of the period by input.
    file: u64,
    api: u64,
}

/// An event of the agent itself, as the ledger has it.
struct NoticeEntry {
    /// Index of its source.
    source: usize,
    is_in_period: bool,
}

/// What was compared with the ledgers.
struct Comparison {
    /// Such as `sink local`.
    name: String,
    export: Export,
    days: Days,
    /// Some of each kind, and the number of the others.
    findings: (Vec<DescribedFinding>, u64),
}

struct Report {
    times: Range<i64>,
    made_ms: i64,
    sources: Vec<SourceReport>,
    /// Those that signed.
    keys: Vec<Verifier>,
    days: BTreeMap<i64, DayCounts>,
    without_time: u64,
    gaps: Vec<Gap>,
    gaps_left_out: u64,
    /// The agent's own events, by id.
    notices: HashMap<u128, NoticeEntry>,
    compared: Vec<Comparison>,
    unchecked: Vec<String>,
}

impl Report {
    fn findings(&self) -> u64 {
        let of_ledgers: usize = self.sources.iter().map(|source| source.check.findings.len()).sum();
        let of_compared = self.compared.iter().map(|one| one.days.total().findings() + one.export.cut);
        of_ledgers as u64 + of_compared.sum::<u64>()
    }

    /// The agent's own events whose words are known, each once, by time.
    fn known_notices(&self) -> Vec<(&NoticeEntry, &ExportedNotice)> {
        let exported = self.compared.iter().flat_map(|one| &one.export.notices);
        let by_id: HashMap<u128, _> = exported
            .filter_map(|notice| Some((notice.id, (self.notices.get(&notice.id)?, notice))))
            .collect();
        let mut known: Vec<_> = by_id.into_values().collect();
        known.sort_by_key(|(_, notice)| (notice.time_ms, notice.id));
        known
    }
}

/// Writes the report. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn report(args: &ReportArgs, out: &mut impl Write) -> io::Result<u8> {
    let (keys, place) = match keys_and_place(&args.key, &args.location) {
        Ok(found) => found,
        Err(code) => return Ok(code),
    };
    let report = match gather(args, &place, keys) {
        Ok(report) => report,
        Err(error) => {
            print_error(&chain(&error));
            return Ok(exit::TRY_AGAIN);
        }
    };
    if let Err(error) = std::fs::write(&args.html, html::write(&report)) {
        print_error(&format!("failed to write `{}`: {error}", args.html.display()));
        return Ok(exit::TRY_AGAIN);
    }
    let findings = report.findings();
    let found = counted(findings, "finding", "findings");
    writeln!(out, "wrote {}: {found}", escape_path(&args.html))?;
    Ok(if findings == 0 { exit::OK } else { exit::FINDINGS })
}

fn gather(args: &ReportArgs, place: &LedgerPlace, mut keys: Vec<Verifier>) -> Result<Report, VerifyFailure> {
    let ledgers = place.open(args.location.source.as_deref())?;
    add_published(place, &mut keys)?;
    let mut report = Report {
        times: args.times.range(),
        made_ms: clock::now_ms(),
        sources: Vec::new(),
        keys: Vec::new(),
        days: BTreeMap::new(),
        without_time: 0,
        gaps: Vec::new(),
        gaps_left_out: 0,
        notices: HashMap::new(),
        compared: Vec::new(),
        unchecked: Vec::new(),
    };
    if keys.is_empty() {
        report.unchecked.push(no_keys(place.path()));
    }
    compare_sinks(args, &ledgers, &mut report)?;
    if !args.export.is_empty() {
        report.compared.push(compare(&args.export, &ledgers, report.times.clone())?);
        let of_export = report.compared.last().map(|one| unchecked(&one.export, &one.days));
        report.unchecked.extend(of_export.unwrap_or_default());
    }
    let mut notes: Vec<String> = Vec::new();
    for note in report.compared.iter().flat_map(|one| one.export.notes()) {
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    for ledger in &ledgers {
        let (given, of_other_logs) = notes_of(ledger, ledgers.len() == 1, &notes)?;
        let check = check_ledger(ledger, &keys, &given)?;
        report.unchecked.extend(unchecked_of(ledger, &check, of_other_logs));
        let newest = newest(ledger, &check, &given)?;
        let source = ledger.source.clone();
        let published = given.len();
        report.sources.push(SourceReport { source, check, published, newest, file: 0, api: 0 });
        count(ledger, &mut report)?;
    }
    let checkpoints = || report.sources.iter().flat_map(|source| &source.check.checkpoints);
    keys.retain(|key| checkpoints().any(|checked| checked.signed_by.contains(&key.short())));
    report.keys = keys;
    Ok(report)
}

/// Compares the outputs of the file sinks, if the configuration names them.
fn compare_sinks(
    args: &ReportArgs,
    ledgers: &[SourceLedger],
    report: &mut Report,
) -> Result<(), VerifyFailure> {
    let LedgerLocation { state, ledger, tiles, .. } = &args.location;
    if state.state.is_some() || ledger.is_some() || tiles.is_some() {
        let text = "the sinks of the agent: they are in its configuration; give it with `--config`";
        report.unchecked.push(text.to_owned());
        return Ok(());
    }
    let options = Options { config: state.config.clone(), ..Options::default() };
    let config = match config::load_file(&options) {
        Ok(config) => config,
        Err(errors) => {
            report.unchecked.push(format!("the sinks of the agent: {errors}"));
            return Ok(());
        }
    };
    let outputs = compare_outputs(&config, ledgers, args.times.clone())?;
    report.unchecked.extend(outputs.unchecked);
    report.compared.extend(outputs.compared.into_iter().map(|(compared, findings)| Comparison {
        name: compared.name,
        export: compared.export,
        days: compared.days,
        findings: findings.into_parts(),
    }));
    Ok(())
}

fn newest(
    ledger: &SourceLedger,
    check: &LedgerCheck,
    given: &[String],
) -> Result<Option<SignedCheckpoint>, VerifyFailure> {
    let mut matching = check.checkpoints.iter().rev().filter(|checked| checked.matches == Some(true));
    let Some(checked) = matching.next() else { return Ok(None) };
    let note = match checked.name {
        CheckpointName::Ledger(number) => ledger.checkpoints()?.get(number - 1).cloned(),
        CheckpointName::Given(number) => given.get(number - 1).cloned(),
    };
    let (name, size) = (checked.name, checked.checkpoint.size);
    Ok(note.map(|note| SignedCheckpoint { name, size, note }))
}

/// Counts the entries of a ledger by day. Its source is the last one of the report.
fn count(ledger: &SourceLedger, report: &mut Report) -> Result<(), VerifyFailure> {
    let source = report.sources.len().saturating_sub(1);
    let (mut file, mut api) = (0, 0);
    for entry in ledger.reader.entries(0..u64::MAX) {
        let failed = |source| LedgerError::Read { path: ledger.dir.clone(), source };
        let (_, Some(entry)) = entry.map_err(failed)? else { continue };
        if entry.flags & NO_TIME != 0 {
            report.without_time += 1;
            continue;
        }
        let is_in_period = report.times.contains(&entry.time_ms);
        // Of heartbeats nothing but their number is told.
        if entry.kind == EntryKind::Agent && entry.flags & HEARTBEAT == 0 {
            report.notices.insert(entry.id, NoticeEntry { source, is_in_period });
        }
        if !is_in_period {
            continue;
        }
        let day = report.days.entry(entry.time_ms.div_euclid(DAY_MS)).or_default();
        match (entry.kind, entry.input) {
            (EntryKind::Agent, _) => day.agent += 1,
            (EntryKind::Loss, _) if entry.id == 0 => {
                if report.gaps.len() < GAPS_MAX {
                    let bytes = entry.offset..entry.offset + u64::from(entry.length);
                    let source = ledger.source.clone();
                    report.gaps.push(Gap { source, at_ms: entry.time_ms, file: entry.file, bytes });
                } else {
                    report.gaps_left_out += 1;
                }
            }
            (EntryKind::Loss, _) => day.left_out += 1,
            (kind, input) => {
                day.quarantined += u64::from(kind == EntryKind::Quarantined);
                match input {
                    EntryInput::File => (day.file, file) = (day.file + 1, file + 1),
                    EntryInput::Api => (day.api, api) = (day.api + 1, api + 1),
                    EntryInput::Agent => day.agent += 1,
                }
            }
        }
    }
    if let Some(counted) = report.sources.last_mut() {
        (counted.file, counted.api) = (file, api);
    }
    Ok(())
}

/// Compares exported events.
fn compare(
    paths: &[PathBuf],
    ledgers: &[SourceLedger],
    times: Range<i64>,
) -> Result<Comparison, VerifyFailure> {
    let (entries, loaded) = load(ledgers)?;
    let (export, rows) = read_export(paths, None)?;
    let scope = Scope {
        side: Side::Sink,
        times,
        dropped_before_ms: loaded.dropped_before_ms,
        is_quarantined: &|entry| entry.kind == EntryKind::Quarantined as u8,
    };
    let entries = entries.finish().map_err(VerifyFailure::Temporary)?;
    let rows = rows.finish().map_err(VerifyFailure::Temporary)?;
    let mut findings = PrintedFindings::default();
    let days = compare_live(ledgers, entries, rows, &scope, |finding| {
        findings.add(describe(finding, ledgers, &export));
        Ok(())
    })?;
    Ok(Comparison { name: "export".to_owned(), export, days, findings: findings.into_parts() })
}
