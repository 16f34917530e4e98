//! What `verify` prints, for people and for programs.

use super::VerifyFailure;
use crate::commands::findings::{DescribedFinding, PrintedFindings, counted, number, print_days};
use crate::commands::{check::files::human_size, layout};
use crate::evidence::export::{CUT, Export, ExportFormat, ExportProblem, FOREIGN};
use crate::evidence::finding::Days;
use crate::evidence::ledgers::SourceLedger;
use crate::exit;
use crate::ledger::LedgerCheck;
use crate::telemetry::escape::{escape, escape_path};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;
use std::path::Path;

/// Problems of an export that are printed.
const PROBLEMS_PRINTED_MAX: usize = 5;

pub(super) struct Output<'o, W> {
    json: bool,
    out: &'o mut W,
    findings: PrintedFindings,
    ledgers: Vec<Value>,
    /// Number of findings in ledgers.
    ledger_findings: u64,
    /// What could not be checked, and why.
    unchecked: Vec<String>,
}

impl<'o, W: Write> Output<'o, W> {
    pub(super) fn new(json: bool, out: &'o mut W) -> Output<'o, W> {
        Output {
            json,
            out,
            findings: PrintedFindings::default(),
            ledgers: Vec::new(),
            ledger_findings: 0,
            unchecked: Vec::new(),
        }
    }

    /// There is no key to verify signatures with.
    pub(super) fn no_keys(&mut self, place: &Path) {
        self.unchecked.push(no_keys(place));
    }

    /// Prints a ledger and what is wrong with it. `published`: number of its checkpoints in the export.
    /// `of_other_logs`: of those of earlier logs of its source.
    pub(super) fn ledger(
        &mut self,
        ledger: &SourceLedger,
        check: &LedgerCheck,
        published: usize,
        of_other_logs: usize,
    ) -> io::Result<()> {
        let source = escape(&ledger.source);
        self.ledger_findings += check.findings.len() as u64;
        let Range { start, end } = check.entries;
        self.unchecked.extend(unchecked_of(ledger, check, of_other_logs));
        if self.json {
            for finding in &check.findings {
                let text = finding.to_string();
                let line = json!({"finding": "ledger", "source": ledger.source, "message": text});
                writeln!(self.out, "{line}")?;
            }
            let signed_by: BTreeSet<&String> =
                check.checkpoints.iter().flat_map(|checked| &checked.signed_by).collect();
            self.ledgers.push(json!({
                "source": ledger.source,
                "first": start,
                "size": end,
                "checkpoints": check.checkpoints.len(),
                "published": published,
                "signed_by": signed_by,
                "vouched": check.vouched,
                "findings": check.findings.len(),
            }));
            return Ok(());
        }
        let entries = counted(end - start, "entry", "entries");
        writeln!(self.out, "ledger of source {source}: {entries}")?;
        self.print_checkpoints(check, published)?;
        for finding in &check.findings {
            for line in layout::clauses(&format!("found: {finding}"), 4) {
                writeln!(self.out, "  {line}")?;
            }
        }
        Ok(())
    }

    fn print_checkpoints(&mut self, check: &LedgerCheck, published: usize) -> io::Result<()> {
        let Some(last) = check.checkpoints.last() else {
            return writeln!(self.out, "  no checkpoint");
        };
        let checkpoints = counted(check.checkpoints.len() as u64, "checkpoint", "checkpoints");
        let published = match published {
            0 => String::new(),
            published => format!(", {} of them from the export", number(published as u64)),
        };
        let by = match &last.signed_by[..] {
            [] => String::new(),
            keys => {
                format!("; key {}", keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
            }
        };
        let vouched = match check.vouched {
            0 => String::new(),
            vouched => format!("; they vouch for entries 0 to {}", number(vouched - 1)),
        };
        for line in layout::clauses(&format!("{checkpoints}{published}{by}{vouched}"), 2) {
            writeln!(self.out, "  {line}")?;
        }
        Ok(())
    }

    pub(super) fn finding(&mut self, finding: DescribedFinding) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(&mut *self.out, &finding)?;
            return writeln!(self.out);
        }
        self.findings.add(finding);
        Ok(())
    }

    /// Prints the result, and returns the exit code. `compared`: an export, and what of it was found.
    pub(super) fn end(mut self, compared: Option<&(Export, Days)>) -> Result<u8, VerifyFailure> {
        let mut problems = self.ledger_findings;
        if let Some((export, days)) = compared {
            problems += days.total().findings() + export.cut;
            self.unchecked.extend(unchecked(export, days));
        }
        if self.json {
            let export = compared.map(|(export, days)| export_json(export, days));
            let summary = json!({"summary": {
                "ledgers": self.ledgers,
                "export": export,
                "unchecked": self.unchecked,
                "findings": problems,
            }});
            writeln!(self.out, "{summary}")?;
            self.out.flush()?;
        } else {
            self.print(compared, problems)?;
        }
        Ok(if problems == 0 { exit::OK } else { exit::FINDINGS })
    }

    fn print(self, compared: Option<&(Export, Days)>, problems: u64) -> io::Result<()> {
        let out = self.out;
        if let Some((export, days)) = compared {
            print_export(export, out)?;
            if days.iter().next().is_some() {
                print_days(days, out)?;
            }
            if days.total().findings() + export.cut > 0 {
                writeln!(out, "found in the export:")?;
                self.findings.print(out)?;
                for problem in cuts(export) {
                    writeln!(out, "  {problem}")?;
                }
            }
        }
        print_unchecked(&self.unchecked, out)?;
        match problems {
            0 => writeln!(out, "result: intact")?,
            problems => writeln!(out, "result: {}", counted(problems, "finding", "findings"))?,
        }
        out.flush()
    }
}

/// Prints what could not be checked.
pub(in crate::commands) fn print_unchecked(unchecked: &[String], out: &mut impl Write) -> io::Result<()> {
    if !unchecked.is_empty() {
        writeln!(out, "not checked:")?;
    }
    for text in unchecked {
        for line in layout::clauses(text, 4) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

fn print_export(export: &Export, out: &mut impl Write) -> io::Result<()> {
    let files = counted(export.files.len() as u64, "file", "files");
    let events = counted(export.events, "event", "events");
    let formats: Vec<&str> = formats(export).map(|(format, _)| format.as_str()).collect();
    let formats = if formats.is_empty() { String::new() } else { format!(" ({})", formats.join(", ")) };
    writeln!(out, "export: {files}, {}, {events}{formats}", human_size(export.bytes))
}

/// The formats of an export, and the number of events of each.
fn formats(export: &Export) -> impl Iterator<Item = (ExportFormat, u64)> {
    ExportFormat::ALL.into_iter().zip(export.formats).filter(|(_, count)| *count > 0)
}

fn cuts(export: &Export) -> impl Iterator<Item = String> {
    let cuts = export.problems.iter().filter(|problem| problem.problem == CUT);
    cuts.take(PROBLEMS_PRINTED_MAX).map(|problem| problem_text(export, problem))
}

fn problem_text(export: &Export, problem: &ExportProblem) -> String {
    let path = export.files.get(problem.file).map(|path| escape_path(path).to_string());
    format!("`{}:{}`: {}", path.unwrap_or_default(), problem.line, problem.problem)
}

/// That signatures could not be checked.
pub(in crate::commands) fn no_keys(place: &Path) -> String {
    format!("signatures: no key is known in `{}`; give it with `--key`", escape_path(place))
}

/// What of a ledger could not be checked. `of_other_logs`: number of checkpoints of earlier logs of its source.
pub(in crate::commands) fn unchecked_of(
    ledger: &SourceLedger,
    check: &LedgerCheck,
    of_other_logs: usize,
) -> Vec<String> {
    let mut unchecked = Vec::new();
    let source = escape(&ledger.source);
    let Range { start, end } = check.entries;
    let not_vouched = end.saturating_sub(check.vouched.max(start));
    if check.vouched == 0 {
        unchecked.push(format!("the ledger of source {source}: no checkpoint vouches for it"));
    } else if not_vouched > 0 {
        let entries = counted(not_vouched, "entry", "entries");
        unchecked.push(format!("{entries} of source {source}, which are newer than its last checkpoint"));
    }
    if start > 0 {
        let last = number(start - 1);
        unchecked
            .push(format!("entries 0 to {last} of source {source}: the ledger's retention has dropped them"));
    }
    if of_other_logs > 0 {
        let checkpoints = counted(of_other_logs as u64, "checkpoint", "checkpoints");
        unchecked.push(format!(
            "{checkpoints} of earlier logs of source {source}; `verify --ledger` checks a log that was kept"
        ));
    }
    unchecked
}

/// What of an export could not be checked.
pub(in crate::commands) fn unchecked(export: &Export, days: &Days) -> Vec<String> {
    let events = |count: u64| counted(count, "event", "events");
    let mut unchecked = Vec::new();
    let mut with_original = 0;
    for (format, count) in formats(export) {
        match format.original_member() {
            Some(_) => with_original += count,
            None => unchecked.push(format!(
                "the content of {}: format `{}` carries no original; only their ids are compared",
                events(count),
                format.as_str()
            )),
        }
    }
    let without = with_original.saturating_sub(export.originals);
    if without > 0 {
        let text = "without an original; only their ids are compared";
        unchecked.push(format!("the content of {} {text}", events(without)));
    }
    if export.other_versions > 0 {
        let text = "which another version of the agent has written; only their originals are compared";
        unchecked.push(format!("the members of {}, {text}", events(export.other_versions)));
    }
    let total = days.total();
    if total.unconfirmed > 0 {
        let (are, them) = if total.unconfirmed == 1 { ("is", "it") } else { ("are", "them") };
        unchecked.push(format!(
            "{} of the agent itself {are} not in the ledger: it was killed after it had delivered {them}",
            events(total.unconfirmed)
        ));
    }
    if total.too_old > 0 {
        unchecked.push(format!("{} older than what the ledger keeps", events(total.too_old)));
    }
    if total.quarantined > 0 {
        unchecked.push(format!("{} in quarantine: a sink refused them", events(total.quarantined)));
    }
    if export.foreign > 0 {
        let first = export.problems.iter().find(|problem| problem.problem == FOREIGN);
        let first = first.map(|problem| problem_text(export, problem)).unwrap_or_default();
        let items = counted(export.foreign, "item", "items");
        unchecked.push(format!("{items} of the export; the first is {first}"));
    }
    unchecked
}

fn export_json(export: &Export, days: &Days) -> Value {
    let formats: serde_json::Map<String, Value> =
        formats(export).map(|(format, count)| (format.as_str().to_owned(), count.into())).collect();
    let files: Vec<String> = export.files.iter().map(|path| path.display().to_string()).collect();
    let by_day: Vec<Value> = days.iter().map(|(day, counts)| json!({"day": day, "counts": counts})).collect();
    let problems: Vec<String> = export.problems.iter().map(|problem| problem_text(export, problem)).collect();
    json!({
        "files": files,
        "bytes": export.bytes,
        "events": export.events,
        "formats": formats,
        "foreign": export.foreign,
        "cut": export.cut,
        "problems": problems,
        "days": by_day,
        "total": days.total(),
    })
}
