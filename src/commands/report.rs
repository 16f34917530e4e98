//! The command `report`: what an auditor files of a period, as one HTML file.

mod html;

use super::findings::counted;
use super::output::print_error;
use super::verify::{VerifyFailure, add_published, check_ledger, keys, load, notes_of, place, read_export};
use crate::cli::ReportArgs;
use crate::clock;
use crate::evidence::compare::{Scope, Side};
use crate::evidence::export::Export;
use crate::evidence::finding::{Counts, Days};
use crate::evidence::ledgers::{LedgerError, LedgerPlace, SourceLedger};
use crate::evidence::live::compare_live;
use crate::exit;
use crate::ledger::{EntryInput, EntryKind, LedgerCheck, NO_TIME, Verifier};
use crate::telemetry::chain;
use crate::telemetry::escape::escape_path;
use std::collections::{BTreeMap, HashSet};
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

struct SourceReport {
    source: String,
    check: LedgerCheck,
    published: usize,
}

struct Report {
    times: Range<i64>,
    made_ms: i64,
    sources: Vec<SourceReport>,
    days: BTreeMap<i64, DayCounts>,
    without_time: u64,
    gaps: Vec<Gap>,
    /// Ids of the agent's own events.
    notices: HashSet<u128>,
    compared: Option<(Export, Days)>,
}

impl Report {
    fn findings(&self) -> u64 {
        let of_ledgers: usize = self.sources.iter().map(|source| source.check.findings.len()).sum();
        let of_export =
            self.compared.as_ref().map_or(0, |(export, days)| days.total().findings() + export.cut);
        of_ledgers as u64 + of_export
    }

    fn counts(&self) -> Counts {
        self.compared.as_ref().map(|(_, days)| days.total()).unwrap_or_default()
    }
}

/// Writes the report. Returns the exit code.
///
/// # Errors
/// Errors of `out` only.
pub fn report(args: &ReportArgs, out: &mut impl Write) -> io::Result<u8> {
    let keys = match keys(&args.key) {
        Ok(keys) => keys,
        Err(code) => return Ok(code),
    };
    let place = match place(&args.location) {
        Ok(place) => place,
        Err(errors) => {
            print_error(&errors.to_string());
            return Ok(errors.exit_code());
        }
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
        days: BTreeMap::new(),
        without_time: 0,
        gaps: Vec::new(),
        notices: HashSet::new(),
        compared: None,
    };
    for ledger in &ledgers {
        count(ledger, &mut report)?;
    }
    if !args.export.is_empty() {
        report.compared = Some(compare(&args.export, &ledgers, report.times.clone())?);
    }
    let notes = report.compared.as_ref().map_or_else(Vec::new, |(export, _)| export.notes());
    for ledger in &ledgers {
        let (given, _) = notes_of(ledger, ledgers.len() == 1, &notes)?;
        let check = check_ledger(ledger, &keys, &given)?;
        let source = ledger.source.clone();
        report.sources.push(SourceReport { source, check, published: given.len() });
    }
    Ok(report)
}

/// Counts the entries of a ledger by day.
fn count(ledger: &SourceLedger, report: &mut Report) -> Result<(), VerifyFailure> {
    for entry in ledger.reader.entries(0..u64::MAX) {
        let failed = |source| LedgerError::Read { path: ledger.dir.clone(), source };
        let (_, Some(entry)) = entry.map_err(failed)? else { continue };
        if entry.flags & NO_TIME != 0 {
            report.without_time += 1;
            continue;
        }
        if !report.times.contains(&entry.time_ms) {
            continue;
        }
        let day = report.days.entry(entry.time_ms.div_euclid(DAY_MS)).or_default();
        match (entry.kind, entry.input) {
            (EntryKind::Agent, _) => {
                day.agent += 1;
                report.notices.insert(entry.id);
            }
            (EntryKind::Loss, _) if entry.id == 0 => {
                if report.gaps.len() < GAPS_MAX {
                    let bytes = entry.offset..entry.offset + u64::from(entry.length);
                    let source = ledger.source.clone();
                    report.gaps.push(Gap { source, at_ms: entry.time_ms, file: entry.file, bytes });
                }
            }
            (EntryKind::Loss, _) => day.left_out += 1,
            (kind, input) => {
                day.quarantined += u64::from(kind == EntryKind::Quarantined);
                match input {
                    EntryInput::File => day.file += 1,
                    EntryInput::Api => day.api += 1,
                    EntryInput::Agent => day.agent += 1,
                }
            }
        }
    }
    Ok(())
}

fn compare(
    paths: &[PathBuf],
    ledgers: &[SourceLedger],
    times: Range<i64>,
) -> Result<(Export, Days), VerifyFailure> {
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
    let days = compare_live(ledgers, entries, rows, &scope, |_| Ok(()))?;
    Ok((export, days))
}
